"""What the commands print: results to standard output, everything else to standard error."""

import contextlib
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence

from cryojax_seg.text import shortened

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
    """Python's warnings, which are for the user here, without the place in the code."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: warn(str(message))
        yield


def say(message: str) -> None:
    """A line of what is going on, at once even where the output is a file."""
    print(message, file=sys.stderr, flush=True)


def number(value: float | None, digits: int = 3) -> str:
    """A score; a dash where it is not defined.

    >>> number(0.12345), number(None)
    ('0.123', '-')
    """
    return "-" if value is None else f"{value:.{digits}f}"


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


def progress(total: int, label: str):
    """A context manager that yields a function to call after each of `total` steps.

    Draws a bar in a terminal and nothing elsewhere.
    """
    if not sys.stderr.isatty() or total <= 1:
        return contextlib.nullcontext(lambda: None)
    return _bar(total, label)


def _bar(total: int, label: str):
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    @contextlib.contextmanager
    def bar():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
            task = shown.add_task(label, total=total)
            yield lambda: shown.advance(task)

    return bar()
