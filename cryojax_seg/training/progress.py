"""What a person sees during training: a bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryojax_seg.training.config import TrainingError

Report = Callable[[dict[str, Any]], None]


@contextlib.contextmanager
def reporter(steps: int, start: int, show: bool) -> Iterator[Report]:
    """A function that is told the metrics of each step.

    Shows loss, learning rate, the last validation Dice, and the time left.
    """
    if not show:
        yield lambda metrics: None
    elif sys.stderr.isatty():
        with _bar(steps, start) as report:
            yield _remembering(report)
    else:
        yield _remembering(_lines(steps, start))


def _remembering(report: Report) -> Report:
    """Shows the last Dice at the steps that have none of their own."""
    seen: dict[str, Any] = {}

    def remember(metrics: dict[str, Any]) -> None:
        seen.update(metrics)
        report(seen)

    return remember


def _text(metrics: dict[str, Any]) -> str:
    parts = [f"loss {metrics['loss']:.4f}", f"rate {metrics['rate']:.1e}"]
    if metrics.get("dice") is not None:
        parts.append(f"Dice {metrics['dice']:.3f}")
    return "  ".join(parts)


@contextlib.contextmanager
def _bar(steps: int, start: int) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=steps, completed=start, text="compiling")

        def report(metrics: dict[str, Any]) -> None:
            progress.update(task, completed=metrics["step"], text=_text(metrics))

        yield report


def _lines(steps: int, start: int) -> Report:
    """A line for every tenth of the run, and at least every minute."""
    began = time.monotonic()
    last = [began, start]

    def report(metrics: dict[str, Any]) -> None:
        now, step = time.monotonic(), metrics["step"]
        if step != steps and step - last[1] < max(steps // 10, 1) and now - last[0] < 60:
            return
        last[:] = [now, step]
        left = (now - began) / max(step - start, 1) * (steps - step)
        print(f"step {step}/{steps}  {_text(metrics)}  {left:.0f} s left", file=sys.stderr)

    return report


@contextlib.contextmanager
def tensorboard(folder: Path | None, wanted: bool) -> Iterator[Report]:
    """A function that writes the metrics of each step for TensorBoard, if that is wanted.

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
