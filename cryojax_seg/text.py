"""Show values and messages on one short line that is harmless to a terminal."""

import reprlib
from collections.abc import Iterable

LONGEST = 500  # characters of a message
_TAIL = 110  # of them at its end, where messages say what to do


def shortened(text: object, longest: int = LONGEST) -> str:
    """Return a text on one line of at most so many characters, shortened in the middle.

    Line breaks become spaces, and characters that cannot be printed are shown by their codes, so
    that a name from a file can neither break a line nor command a terminal.

    >>> shortened("two" + chr(10) + "  lines"), shortened(chr(27) + "[2J")
    ('two lines', '\\\\x1b[2J')
    >>> len(shortened("x" * 10**6)), shortened("abcdefghijklmnop", 9)
    (500, 'abcdef...')
    """
    # Codes of characters only make a text longer, so no more of it than this can be shown.
    whole = str(text)
    parts = (whole, "") if len(whole) <= 4 * longest else (whole[: 2 * longest], whole[-longest:])
    start, end = (_printable(part) for part in parts)
    if not end and len(start) <= longest:
        return start
    tail = min(_TAIL, longest // 5) if longest >= 100 else 0
    mark = " ... " if tail else "..."
    head = longest - tail - len(mark)
    return start[:head] + mark + ((end or start)[-tail:] if tail else "")


def shown(value: object, longest: int = 100) -> str:
    """Return a value as Python writes it, abbreviated if it is large or deep.

    >>> shown([1, "two"]), shown(list(range(10**6)))
    ("[1, 'two']", '[0, 1, 2, 3, 4, 5, ...]')
    """
    try:
        return shortened(_SHORT.repr(value), longest)
    except (ValueError, RecursionError):  # an integer of more digits than Python writes
        return f"a long {type(value).__name__}"


def joined(values: Iterable[float | int], unit: str) -> str:
    """Return numbers with their unit, separated by commas.

    >>> joined((10.0, 7.84), "A")
    '10, 7.84 A'
    """
    return ", ".join(f"{value:g}" for value in values) + f" {unit}"


def size_text(nbytes: int) -> str:
    """Return a number of bytes with a readable unit.

    >>> size_text(3 * 2**30)
    '3.0 GiB'
    >>> size_text(1024)
    '1024 bytes'
    """
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if nbytes >= size:
            return f"{nbytes / size:.1f} {unit}"
    return f"{nbytes} bytes"


def _printable(text: str) -> str:
    words = " ".join(part.strip() for part in text.splitlines()) if "\n" in text else text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 3, 80, 80, 40


def percent(share: float) -> str:
    """Return a fraction in percent, with two significant digits and no exponent.

    >>> percent(1.0), percent(0.253), percent(0.0312), percent(0.00031), percent(0.0)
    ('100 %', '25 %', '3.1 %', '0.031 %', '0 %')
    >>> percent(0.998), percent(1e-6)
    ('99.8 %', 'less than 0.001 %')
    """
    value = 100 * share
    if 0 < value < 0.001:
        return "less than 0.001 %"
    if 99 < value < 99.95:  # nearly all is not all
        return f"{value:.1f} %"
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.2g} %"
