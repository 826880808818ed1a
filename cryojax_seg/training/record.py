"""Records the metrics of every step, which the first process keeps, shows and writes."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from cryojax_seg.runtime import processes
from cryojax_seg.training import rundir
from cryojax_seg.training.config import TrainConfig
from cryojax_seg.training.progress import Report, Reporter, reporter, tensorboard
from cryojax_seg.training.step import Metrics


class NotFinite(Exception):
    """Reports a step whose loss, gradient or parameters are not finite.

    Attributes:
        values: the metrics of that step.
    """

    def __init__(self, values: dict[str, Any]):
        super().__init__()
        self.values = values


class Record:
    """Records the metrics of every step.

    Attributes:
        history: one dict per step, as in `Result`.
        expect: function to call when the number of steps in all is another one.
        failure: why the numbers of a step could not be written, where several processes train: they
            end together, so the error is raised when all know of it (see `Interrupts`).

    >>> record = Record([], [])
    >>> numbers = {"step": 1, "loss": 0.5, "norm": 1.0, "rate": 0.1, "finite": True}
    >>> record.add(jax.tree.map(jax.numpy.asarray, numbers))
    >>> record.history[0]["loss"], record.failure
    (0.5, None)
    """

    def __init__(
        self,
        reports: Sequence[Report],
        history: list[dict[str, Any]],
        expect: Callable[[int], None] = lambda steps: None,
    ):
        self.history = history
        self.failure: Exception | None = None
        self.expect = expect
        self._reports = reports
        self._clock = time.monotonic()

    def add(self, metrics: Metrics, scores: dict[str, float] | None = None) -> None:
        """Wait for the numbers of a step and report them.

        Raises:
            NotFinite: if they say that it was not finite.
            OSError: if they cannot be written and this is the only process.
        """
        values = {name: value.item() for name, value in jax.device_get(metrics).items()}
        if not values["finite"]:
            raise NotFinite(values)
        now = time.monotonic()
        line = {name: values[name] for name in ("step", "loss", "norm", "rate")}
        line["seconds"] = round(now - self._clock, 4)
        self._clock = now
        self.history.append(line | (scores or {}))
        try:
            for report in self._reports:
                report(self.history[-1])
        except Exception as error:
            if not processes.several():
                raise
            self.failure = error


@contextlib.contextmanager
def recording(
    config: TrainConfig,
    folder: Path | None,
    start: int,
    progress: bool,
    scores: dict[str, float] | None = None,
) -> Iterator[Record]:
    """Begin a record after step `start`, with what the folder says of the steps before.

    Args:
        config: of the run.
        folder: of the run, if it has one.
        start: steps that are done.
        progress: whether a person shall see the steps.
        scores: of the validation after step `start`, if that was made up for just now.

    Raises:
        OSError: if the folder cannot be written to.
        TrainingError: see `tensorboard`.
    """
    with contextlib.ExitStack() as stack:
        reports: list[Report] = []
        shown: list[Reporter] = []

        def begin() -> list[dict[str, Any]]:
            total = config.steps if config.minutes is None else None
            shown.append(stack.enter_context(reporter(total, start, progress)))
            reports.append(shown[0].report)
            reports.append(stack.enter_context(tensorboard(folder, config.tensorboard)))
            if folder is None:
                return []
            log = rundir.MetricsFile(folder / rundir.METRICS, start, scores)
            reports.append(stack.enter_context(contextlib.closing(log)).write)
            return rundir.read_metrics(folder)

        history = processes.on_primary(begin)
        yield Record(reports, history, *(one.expect for one in shown))
