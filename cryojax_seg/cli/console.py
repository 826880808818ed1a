"""Print results to standard output, and everything else to standard error."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cryojax_seg.errors import Mendable
from cryojax_seg.text import shortened
from cryojax_seg.training.progress import display, spoken

PROGRAM = "cryojax-seg"
# Values of the options that messages name.
_METAVARS = {
    "voxel_size": " ANGSTROM",
    "coordinates_voxel_size": " ANGSTROM",
    "name": " NAME",
    "halves": " EVEN ODD",
    "ignore": " VALUE",
    "diameter": " ANGSTROM",
    "membrane": " LABELS",
    "instances": " CLASS=PATH",
    "kind": " LABEL=KIND",
}


_TRAINING = ("train", "restore", "compare")  # what they did is kept in their folder


def _line(text: str) -> str:
    return shortened(" ".join(text.split()))


def message(problem: Exception | str) -> str:
    """Return the text of an error or a warning, with the options that mend it.

    >>> from cryojax_seg.errors import ParameterError
    >>> message(ParameterError("a.mrc: has no voxel size; give voxel_size", "voxel_size"))
    'a.mrc: has no voxel size; give voxel_size (--voxel-size ANGSTROM)'
    """
    if not isinstance(problem, Mendable) or not problem.parameters:
        return str(problem)
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in problem.parameters)
    metavar = _METAVARS.get(problem.parameters[-1], "") if len(problem.parameters) == 1 else ""
    return f"{problem} ({flags}{metavar})"


def error(problem: Exception | str) -> None:
    """Print an error as one line on the error stream."""
    print(f"{PROGRAM}: error: {_line(message(problem))}", file=sys.stderr)


def warn(problem: Exception | str) -> None:
    """Print a warning as one line on the error stream."""
    print(f"{PROGRAM}: warning: {_line(message(problem))}", file=sys.stderr)


class _Lines(logging.Handler):
    """Show what the library logs as lines on the error stream."""

    def emit(self, record: logging.LogRecord) -> None:
        problem = record.msg if isinstance(record.msg, Mendable) else record.getMessage()
        (warn if record.levelno >= logging.WARNING else say)(message(problem))


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Show what the library logs, and Python's warnings without their place in the code.

    Warnings of JAX about its cache of compiled programs are left out; a program is then compiled
    again, which is only slower.
    """
    with warnings.catch_warnings():
        cache = "Error (reading|writing) persistent compilation cache"
        warnings.filterwarnings("ignore", cache)
        warnings.showwarning = lambda message, *_, **__: warn(message)
        logger, lines = logging.getLogger("cryojax_seg"), _Lines()
        former = logger.level, logger.propagate
        logger.addHandler(lines)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(lines)
            logger.level, logger.propagate = former


def silence_compiler() -> None:
    """Keep XLA's own messages, such as "Very slow compile?", from the error stream.

    They are for those who work on XLA; errors are still Python exceptions. Call it before JAX is
    imported. A value of the variable that is set already stays.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def say(message: str) -> None:
    """Print a line about the work on the error stream, at once even if that is a file."""
    print(message, file=sys.stderr, flush=True)
    spoken()


def number(value: float | None, digits: int = 3) -> str:
    """Return a score as text; a dash where it is not defined.

    >>> number(0.12345), number(None)
    ('0.123', '-')
    """
    return "-" if value is None else f"{value:.{digits}f}"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on standard output, boxed in a terminal and as plain columns elsewhere.

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


def each(
    items: Sequence[Any],
    work: Callable[..., str | None],
    *,
    name: Callable[[Any], str] = str,
    prepare: Callable[[], Any] | None = None,
    workers: int = 0,
    slurm: Path | None = None,
) -> None:
    """Work on every item as `inference.each` does; print what is returned, and list what failed.

    Raises:
        ValueError: if any failed; the error itself if there is one item and no workers. Also if
            the number of workers is below 0.

    >>> each([2.5], lambda number: f"half of it is {number / 2}")
    half of it is 1.25
    """
    if workers < 0:
        raise ValueError(f"--workers must be a number of processes, got {workers}")
    from cryojax_seg.inference.many import Finished, SomeFailedError, named
    from cryojax_seg.inference.many import each as work_on_each

    def shown(one: Finished) -> None:
        number = f"[{one.number}/{one.count}] " if workers else ""
        if one.error is not None:
            error(number + named(one.name, message(one.error)))
        elif one.value is not None:
            print(f"{number}{one.value}", flush=True)

    how: dict[str, Any] = {"name": name, "prepare": prepare, "workers": workers, "slurm": slurm}
    try:
        work_on_each(items, work, finished=shown, **how)
    except SomeFailedError as some:
        reasons = [named(one.name, message(one.error or "")) for one in some.failures]
        say("failed:\n  " + "\n  ".join(" ".join(reason.split()) for reason in reasons))
        count = f"{len(some.failures)} of {some.count}"
        raise ValueError(f"{count} tomograms failed; the rest is done") from None


@contextlib.contextmanager
def tracked(label: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of steps done and steps in all that shows the progress of some work.

    It draws a bar in a terminal; elsewhere a line says every half a minute how far the work is.
    """
    with contextlib.ExitStack() as stack:
        shown: list[Callable[[int, str], None]] = []
        counted = 0

        def update(done: int, total: int) -> None:
            nonlocal counted
            if not shown:
                shown.append(stack.enter_context(display(label, total, done)))
                counted = done
            for number in range(counted, done):
                shown[0](number + 1, "")
            counted = done

        yield update


def advice(command: str, options: Any) -> str:
    """Say what is kept of a command that was interrupted, and how to go on.

    Args:
        command: its name.
        options: of the command; None while they are not known.

    >>> advice("info", None)
    'nothing was written; run the same command again'
    """
    output: Path | None = getattr(options, "output", None) or getattr(options, "openvino", None)
    if output is None:
        return "nothing was written; run the same command again"
    begun = next(filter(_begun, (output.with_suffix(".run"), output)), None)
    replaces = getattr(options, "overwrite", False)
    if begun is not None and command in _TRAINING:
        instead = " instead of --overwrite" if replaces else ""
        return f"what {begun} holds is kept; the same command with --resume{instead} goes on"
    if begun is not None and hasattr(options, "resume") and not replaces:
        return f"what {begun} holds is kept; the same command with --resume goes on"
    if begun is not None:
        return f"{begun} may be incomplete; the same command with --overwrite makes it again"
    return f"{output} is not finished; the same command goes on with it, or begins it again"


def _begun(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()
