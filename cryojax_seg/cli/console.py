"""What the commands print: results to standard output, everything else to standard error."""

import contextlib
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

from cryojax_seg.text import shortened
from cryojax_seg.training.progress import display, spoken

PROGRAM = "cryojax-seg"


def _line(text: str) -> str:
    return shortened(" ".join(text.split()))


def error(message: str) -> None:
    """One line on the error stream."""
    print(f"{PROGRAM}: error: {_line(message)}", file=sys.stderr)


def warn(message: str) -> None:
    """One line on the error stream."""
    print(f"{PROGRAM}: warning: {_line(message)}", file=sys.stderr)


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Python's warnings, which are for the user here, without the place in the code.

    Those of JAX that a compiled program could not be read or kept are left out: then it is compiled
    again, which is only slower.
    """
    with warnings.catch_warnings():
        cache = "Error (reading|writing) persistent compilation cache"
        warnings.filterwarnings("ignore", cache)
        warnings.showwarning = lambda message, *_, **__: warn(str(message))
        yield


def silence_compiler() -> None:
    """Keeps XLA's own messages, such as "Very slow compile?", from the error stream.

    They are for those who work on XLA. What goes wrong still is a Python exception. To be called
    before JAX is imported; who sets the variable decides.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def say(message: str) -> None:
    """A line of what is going on, at once even where the output is a file."""
    print(message, file=sys.stderr, flush=True)
    spoken()


def number(value: float | None, digits: int = 3) -> str:
    """A score; a dash where it is not defined.

    >>> number(0.12345), number(None)
    ('0.123', '-')
    """
    return "-" if value is None else f"{value:.{digits}f}"


def percent(share: float) -> str:
    """A share in percent, with two significant digits and never an exponent.

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


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table on standard output: boxed in a terminal, plain columns elsewhere.

    The first column is text, the others are numbers.
    """
    rows = [list(row) for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        boxed = Table(title=title, title_justify="left")
        for i, column in enumerate(columns):
            boxed.add_column(column, justify="right" if i else "left")
        for row in rows:
            boxed.add_row(*row)
        Console().print(boxed)
        return
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    print(title)
    for row in [columns, *rows]:
        first, *others = (c.rjust(w) for c, w in zip(row, widths, strict=True))
        print("  " + "  ".join([first.strip().ljust(widths[0]), *others]).rstrip())


@contextlib.contextmanager
def progress(total: int, label: str, done: int = 0) -> Iterator[Callable[[], None]]:
    """Yields a function to call after each of `total` steps of some work that may take long.

    Draws a bar in a terminal; elsewhere a line says every half a minute how far it is.

    Args:
        total: how many steps there are.
        label: of the work, such as a file name.
        done: how many steps an earlier run did.
    """
    with display(label, total, done) as show:
        count = itertools.count(done + 1)
        yield lambda: show(next(count), "")
