"""Shows the progress of long work, by a bar on a terminal and by plain lines elsewhere."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryojax_seg.training.config import TrainingError
from cryojax_seg.training.remaining import Remaining, duration

Report = Callable[[dict[str, Any]], None]
# Of the number of steps that are done, a text, and the number of all steps if that has changed.
Show = Callable[..., None]
QUIET = 30.0  # seconds after which a line says that the work goes on

_open: list[str] = []  # labels of the displays that are shown now
_last = [0.0]  # when something else was said


@contextlib.contextmanager
def display(
    label: str, total: int | None, done: int = 0, tenths: bool = False, text: str = ""
) -> Iterator[Show]:
    """Show the progress of work and the time left on the error stream.

    Where that is no terminal, lines appear: after every tenth of the steps if that is wanted, and
    whenever nothing was said for half a minute, even in the middle of a step.

    Args:
        label: of the work, such as a file name.
        total: how many steps there are; None while that is not known.
        done: how many of them are done already.
        tenths: whether there is a line for every tenth.
        text: what is shown before the first step is done.

    Yields:
        a function to call after a step, see `Show`.
    """
    draw = _bar if sys.stderr.isatty() else _lines
    _open.append(label)
    try:
        with draw(label, total, done, tenths, text) as show:
            yield show
    finally:
        _open.remove(label)
        spoken()


def spoken() -> None:
    """Note that a message was just shown, so that `alive` need not show one."""
    _last[0] = time.monotonic()


@contextlib.contextmanager
def alive(label: str) -> Iterator[None]:
    """Report every half a minute that work continues, while nothing else is shown.

    Args:
        label: of the work, such as the name of a command.
    """
    began, ended = time.monotonic(), threading.Event()
    spoken()

    def keep_saying() -> None:
        while not ended.wait(min(QUIET, 1.0)):
            if not _open and time.monotonic() - _last[0] >= QUIET:
                so_far = duration(time.monotonic() - began)
                print(f"{label}: still working, {so_far} so far", file=sys.stderr, flush=True)
                spoken()

    threading.Thread(target=keep_saying, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


@contextlib.contextmanager
def _bar(label: str, total: int | None, done: int, tenths: bool, text: str) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    left = Remaining(total)
    with Progress(*columns, console=Console(stderr=True), transient=not tenths) as shown:
        task = shown.add_task(label, total=total, completed=done, text=text, left="")

        def show(done: int, text: str, total: int | None = None) -> None:
            left.total = total or left.total
            shown.update(task, total=total, completed=done, text=text, left=left(done))

        yield show


@contextlib.contextmanager
def _lines(label: str, total: int | None, done: int, tenths: bool, text: str) -> Iterator[Show]:
    left, began = Remaining(total), time.monotonic()
    lock, ended = threading.Lock(), threading.Event()
    state = {"done": done, "text": text, "left": "", "printed": done, "at": began}

    def line() -> None:
        of = "" if left.total is None else f"/{left.total}"
        parts = [f"{label} {state['done']}{of}", state["text"], state["left"]]
        if not state["left"] and state["done"] != left.total:
            parts[-1] = f"{duration(time.monotonic() - began)} so far"
        print("  ".join(filter(None, parts)), file=sys.stderr, flush=True)
        state.update(printed=state["done"], at=time.monotonic())

    def show(done: int, text: str, total: int | None = None) -> None:
        with lock:
            left.total = total or left.total
            state.update(done=done, text=text, left=left(done))
            if left.total is None or not tenths:
                return
            if done == left.total or done - state["printed"] >= max(left.total // 10, 1):
                line()

    def keep_saying() -> None:
        while not ended.wait(min(QUIET, 1.0)):
            with lock:
                if time.monotonic() - state["at"] >= QUIET:
                    line()

    if _watched():
        threading.Thread(target=keep_saying, daemon=True).start()
    try:
        yield show
    finally:
        ended.set()


def _watched() -> bool:
    """Return whether lines are read as they come: a worker of a cluster keeps them for later."""
    return sys.stderr is sys.__stderr__


class Reporter:
    """Shows the metrics of each step: loss, learning rate, the last validation Dice, time left.

    Args:
        show: function of a display; None shows nothing.
    """

    def __init__(self, show: Show | None = None):
        self._show = show
        self._total: int | None = None
        self._seen: dict[str, Any] = {}  # the last Dice is shown at the steps that have none

    def expect(self, steps: int) -> None:
        """Note how many steps there are in all, if that was not known or has changed."""
        self._total = steps

    def report(self, metrics: dict[str, Any]) -> None:
        """Show the metrics of a step."""
        self._seen.update(metrics)
        if self._show is not None:
            self._show(self._seen["step"], _text(self._seen), self._total)


@contextlib.contextmanager
def reporter(steps: int | None, start: int, show: bool) -> Iterator[Reporter]:
    """Return what shows the metrics of each step.

    Args:
        steps: how many steps there are in all; None while that is not known.
        start: how many of them are done.
        show: whether anything is shown.
    """
    if not show:
        yield Reporter()
        return
    with display("step", steps, start, tenths=True, text="compiling") as update:
        yield Reporter(update)


def _text(metrics: dict[str, Any]) -> str:
    parts = [f"loss {metrics['loss']:.4f}", f"rate {metrics['rate']:.1e}"]
    if metrics.get("dice") is not None:
        parts.append(f"Dice {metrics['dice']:.3f}")
    return "  ".join(parts)


@contextlib.contextmanager
def tensorboard(folder: Path | None, wanted: bool) -> Iterator[Report]:
    """Return a function that writes the metrics of each step for TensorBoard, if that is wanted.

    Raises:
        TrainingError: if it is wanted and not installed, or there is no run folder.
    """
    if not wanted:
        yield lambda metrics: None
        return
    if folder is None:
        raise TrainingError("TensorBoard files need a run folder: give one with run=...")
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise TrainingError(
            "TensorBoard output needs the extra: pip install 'cryojax-seg[tensorboard]'"
        ) from error
    with SummaryWriter(str(folder / "tensorboard")) as writer:

        def report(metrics: dict[str, Any]) -> None:
            for name, value in metrics.items():
                if name != "step" and value is not None:
                    writer.add_scalar(name, value, metrics["step"])

        yield report
