"""Particles found and missed: scores of positions instead of voxels."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Array, Real
from scipy.spatial import KDTree

Points = Real[np.ndarray, "_n 3"] | Real[Array, "_n 3"]


@dataclasses.dataclass(frozen=True)
class Detection:
    """Counts of one kind of particle, and the ratios made of them; counts of tomograms add.

    A ratio is None where its denominator is zero.

    >>> total = Detection(8, 2, 1) + Detection(0, 0, 1)
    >>> total.precision, total.recall, round(total.f_beta(), 3)
    (0.8, 0.8, 0.8)
    """

    true_positive: int
    false_positive: int
    false_negative: int

    def __add__(self, other: "Detection") -> "Detection":
        return Detection(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
        )

    @property
    def precision(self) -> float | None:
        """``TP / (TP + FP)``."""
        found = self.true_positive + self.false_positive
        return self.true_positive / found if found else None

    @property
    def recall(self) -> float | None:
        """``TP / (TP + FN)``."""
        there = self.true_positive + self.false_negative
        return self.true_positive / there if there else None

    def f_beta(self, beta: float | int = 4.0) -> float | None:
        """``(1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP)``: recall counts b times as much.

        van Rijsbergen 1979; a beta of 4 is what the CZII challenge used. None if there is nothing
        and nothing was found.
        """
        square = float(beta) ** 2
        hits = (1 + square) * self.true_positive
        everything = hits + square * self.false_negative + self.false_positive
        return hits / everything if everything else None


def detection(
    predicted: Points, truth: Points, radius: float | int, hit: float | int = 0.5
) -> Detection:
    """Particles found, counted as the CZII challenge does.

    A true particle with a prediction within ``hit * radius`` of it is found, once; every further
    prediction is a false positive, a duplicate as much as one that is nowhere near.

    Args:
        predicted, truth: centres ``(n, 3)`` in the unit of the radius.
        radius: of the particle.
        hit: largest distance of a hit, in radii.

    Raises:
        ValueError: for a radius or hit that is not positive, or centres that are not finite.

    >>> import numpy as np
    >>> truth = np.array([[0.0, 0, 0], [50, 0, 0]])
    >>> found = np.array([[1.0, 0, 0], [2.0, 0, 0], [90, 0, 0]])
    >>> detection(found, truth, radius=10.0)
    Detection(true_positive=1, false_positive=2, false_negative=1)
    """
    predicted, truth = np.asarray(predicted, float), np.asarray(truth, float)
    if not (radius > 0 and hit > 0):
        raise ValueError(f"radius and hit must be positive, got {radius} and {hit}")
    for name, points in (("predicted", predicted), ("true", truth)):
        if not np.isfinite(points).all():
            raise ValueError(f"the {name} centres must be finite")
    found = 0
    if len(predicted) and len(truth):
        distance, _ = KDTree(predicted).query(truth)
        found = int((distance <= hit * radius).sum())
    # One prediction may lie within reach of two particles: it stands for one of them.
    found = min(found, len(predicted))
    return Detection(found, len(predicted) - found, len(truth) - found)


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A threshold for the scores of picks, and what it gives on the annotated data.

    Attributes:
        value: keep picks whose score is this or more.
        counts: with it, over all tomograms.
    """

    value: float
    counts: Detection


def fit_threshold(
    picks: Sequence[tuple[Points, np.ndarray]],
    truth: Sequence[Points],
    radius: float | int,
    beta: float | int = 4.0,
    hit: float | int = 0.5,
) -> Threshold:
    """The threshold with the highest F-beta on annotated tomograms, for one class.

    Every score is tried. Between two scores the threshold is their middle, and of thresholds that
    are equally good the highest is taken.

    Args:
        picks: for each tomogram the centres ``(n, 3)`` and their scores, at a low threshold.
        truth: the annotated centres of each.
        radius: of the particle, in the unit of the centres.
        beta: how much more recall counts than precision.
        hit: largest distance of a hit, in radii.

    Raises:
        ValueError: if nothing was picked, or the numbers of tomograms differ.

    >>> import numpy as np
    >>> picks = np.array([[0.0, 0, 0], [50, 0, 0], [90, 0, 0]]), np.array([0.9, 0.7, 0.3])
    >>> fit_threshold([picks], [np.array([[0.0, 0, 0], [51, 0, 0]])], radius=10.0)
    Threshold(value=0.5, counts=Detection(true_positive=2, false_positive=0, false_negative=0))
    """
    if len(picks) != len(truth):
        raise ValueError(f"picks of {len(picks)} tomograms and annotations of {len(truth)}")
    scores = np.unique(np.concatenate([np.asarray(s, float) for _, s in picks] or [np.zeros(0)]))
    if not scores.size:
        raise ValueError("nothing was picked, so no threshold can be chosen; pick at a lower one")
    best: tuple[float, Threshold] | None = None
    for number in range(len(scores) - 1, -1, -1):
        counts = Detection(0, 0, 0)
        for (centres, own), there in zip(picks, truth, strict=True):
            kept = np.asarray(centres, float)[np.asarray(own, float) >= scores[number]]
            counts = counts + detection(kept.reshape(-1, 3), np.asarray(there), radius, hit)
        value = counts.f_beta(beta) or 0.0
        if best is None or value > best[0]:
            below = scores[number - 1] if number else scores[number]
            best = value, Threshold(float((scores[number] + below) / 2), counts)
    assert best is not None
    return best[1]


def fit_level(
    pick: Callable[[float], Points],
    truth: Points,
    radius: float | int,
    beta: float | int = 4.0,
    hit: float | int = 0.5,
    levels: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
) -> Threshold:
    """The level with the highest F-beta on an annotated tomogram, where each gives other picks.

    `fit_threshold` is for scores of picks that are the same at any threshold. Where the threshold
    is that of a voxel, it changes the picks themselves, and each level is tried. Of equally good
    levels the one in the middle is taken.

    Args:
        pick: gives the centres ``(n, 3)`` at a level.
        truth: the annotated centres.
        radius: of the particle, in the unit of the centres.
        beta: how much more recall counts than precision.
        hit: largest distance of a hit, in radii.
        levels: what to try.

    >>> import numpy as np
    >>> truth = np.array([[0.0, 0, 0], [50, 0, 0]])
    >>> fit_level(lambda level: truth[: 2 if level < 0.55 else 1], truth, 10.0).value
    0.3
    """
    tried = [Threshold(level, detection(pick(level), truth, radius, hit)) for level in levels]
    values = [one.counts.f_beta(beta) or 0.0 for one in tried]
    best = [one for one, value in zip(tried, values, strict=True) if value == max(values)]
    return best[(len(best) - 1) // 2]
