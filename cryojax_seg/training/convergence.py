"""Tells from the validations of a run whether more training would help, and when it shall end."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from cryojax_seg.errors import ParameterError
from cryojax_seg.training.config import TrainConfig
from cryojax_seg.training.schedule import Phases, replanned

FIRST = 10  # steps after which the time of a step is known; the first one also compiles
FEWEST = 8  # validations before anything is said of a plateau
GAIN = 0.02  # Dice; less than this is not worth another third of the steps
_FITTED = 6  # validations, or all if they are fewer; the error of fewer is hardly known
FOUND = 0.05  # Dice below which a network has not begun to find anything
_OVERHEAD = 1.05  # validations and checkpoints, beside the steps themselves
_RECENT = 200  # steps that tell how long the next ones take


@dataclasses.dataclass(frozen=True)
class Trend:
    """Holds how fast the validation score rose while the learning rate was at its peak.

    Returned by `train` as `Result.trend`. A line is fitted to the last third of the
    validations, or to the last six.

    Attributes:
        slope: rise of the mean Dice per step.
        error: standard error of the slope.
        span: number of steps from the first validation of the fit to its last.
        score: mean Dice of these validations.
        count: number of all validations at the peak rate.

    >>> trend = Trend(slope=1e-4, error=2e-5, span=400, score=0.7, count=12)
    >>> str(trend), round(trend.most, 3), trend.flat
    ('0.100 ± 0.020 per 1,000 steps', 0.056, False)
    """

    slope: float
    error: float
    span: float | int
    score: float
    count: int

    def __str__(self) -> str:
        return f"{1000 * self.slope:.3f} ± {1000 * self.error:.3f} per 1,000 steps"

    @property
    def most(self) -> float:
        """Return what as many steps again would add at most, at two standard errors."""
        return (self.slope + 2 * self.error) * self.span

    @property
    def rises(self) -> bool:
        """Return whether the score is known to rise, by two standard errors."""
        return not self.flat and self.slope > 2 * self.error

    @property
    def flat(self) -> bool:
        """Return whether the score is known to rise no more, by more than `GAIN`.

        It never is before a network has begun to find anything, as the score often stays near 0
        for some hundred steps.
        """
        return self.count >= FEWEST and self.score > FOUND and self.most < GAIN


def trend(history: Sequence[dict[str, Any]], peak: float) -> Trend | None:
    """Return how the score rose while the learning rate was last at its peak.

    Args:
        history: one dict per step with step, rate, and dice where validated.
        peak: the peak learning rate.

    Returns:
        the trend; None where fewer than four validations tell it.

    >>> lines = [{"step": s, "rate": 0.1, "dice": 0.5 + 0.001 * s} for s in range(0, 120, 10)]
    >>> found = trend(lines, 0.1)
    >>> round(found.slope, 6), found.span, found.flat
    (0.001, 50, False)
    """
    points = _at_peak(history, peak)
    fitted = points[-max(_FITTED, math.ceil(len(points) / 3)) :]
    if len(fitted) < 4:
        return None
    steps, scores = np.array(fitted, float).T
    around = steps - steps.mean()
    spread = float((around**2).sum())
    slope = float((around * scores).sum()) / spread
    rest = scores - scores.mean() - slope * around
    error = math.sqrt(float((rest**2).sum()) / (len(fitted) - 2) / spread)
    span = int(steps[-1] - steps[0])
    return Trend(slope, error, span, float(scores.mean()), len(points))


def _at_peak(history: Sequence[dict[str, Any]], peak: float) -> list[tuple[int, float]]:
    """Return the validations of the last stretch of steps at the peak rate."""
    found, reached = [], False
    for line in reversed(history):
        if line["rate"] < 0.999 * peak:  # it is float32 here
            if reached:
                break
            continue
        reached = True
        if line.get("dice") is not None:
            found.append((line["step"], line["dice"]))
    return found[::-1]


def decided(
    phases: Phases, config: TrainConfig, history: Sequence[dict[str, Any]], done: int
) -> Phases:
    """Return the phases of a run that ends when its score rises no more, or its minutes are over.

    The rate begins to fall when the score is flat, and takes the part of the steps that
    `TrainConfig.decay` says. If the minutes end before, it falls early enough to end within them.

    Args:
        phases: as planned so far.
        config: settings with a limit in minutes.
        history: one dict per step that is done.
        done: number of steps that are done.

    Raises:
        ParameterError: if the minutes do not last for one validation.

    >>> lines = [{"step": s, "rate": 0.1, "seconds": 0.6} for s in range(1, 11)]
    >>> decided(Phases(5, 900, 1000), TrainConfig(minutes=5, decay=0.5), lines, 10)
    Phases(risen=5, falls=238, ends=476)
    """
    fits = _fitting(history, config, done)
    if done < config.validate_every and fits < config.validate_every:
        raise ParameterError(
            f"{config.minutes:g} minutes are enough for {fits} steps, fewer than the "
            f"{config.validate_every} before the first validation; give more minutes",
            "minutes",
        )
    if done >= phases.falls:
        return phases._replace(ends=min(phases.ends, max(fits, done + 1)))
    total = min(config.steps, fits)
    known = trend(history, config.learning_rate)
    if known is not None and known.flat and config.decay < 1:
        total = min(total, round(done / (1 - config.decay)))
    return replanned(phases, config, done, max(total, done + 1))


def _fitting(history: Sequence[dict[str, Any]], config: TrainConfig, done: int) -> int:
    """Return the number of steps that the minutes last for, with those that are done."""
    seconds = [line["seconds"] for line in history]
    usual = _OVERHEAD * statistics.median(seconds[-_RECENT:])
    left = 60 * (config.minutes or math.inf) - sum(seconds)
    return min(config.steps, done + int(max(left, 0) / max(usual, 1e-4)))
