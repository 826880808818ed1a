"""Scores particle positions: found, missed and false particles."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Array, Real
from scipy.spatial import KDTree

Points = Real[np.ndarray, "_n 3"] | Real[Array, "_n 3"]


@dataclasses.dataclass(frozen=True)
class Detection:
    """Counts found, false and missed particles of one kind; counts of tomograms add.

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
        """Return ``TP / (TP + FP)``."""
        found = self.true_positive + self.false_positive
        return self.true_positive / found if found else None

    @property
    def recall(self) -> float | None:
        """Return ``TP / (TP + FN)``."""
        there = self.true_positive + self.false_negative
        return self.true_positive / there if there else None

    def f_beta(self, beta: float | int = 4.0) -> float | None:
        """Return the F-beta score, in which recall counts b times as much as precision.

        It is ``(1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP)`` (van Rijsbergen 1979). The CZII
        challenge used a beta of 4. The result is None if there are no true and no found particles.
        """
        square = float(beta) ** 2
        hits = (1 + square) * self.true_positive
        everything = hits + square * self.false_negative + self.false_positive
        return hits / everything if everything else None


def detection(
    predicted: Points, truth: Points, radius: float | int, hit: float | int = 0.5
) -> Detection:
    """Count found, false and missed particles as in the CZII challenge.

    A true particle is found if a prediction lies within ``hit * radius``; every further prediction,
    including duplicates, is a false positive.

    Args:
        predicted, truth: centres ``(n, 3)`` in the unit of the radius.
        radius: radius of the particle.
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
    # A prediction near two particles counts for only one of them.
    found = min(found, len(predicted))
    return Detection(found, len(predicted) - found, len(truth) - found)


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Holds a threshold of pick scores and its counts on annotated data.

    Attributes:
        value: picks with this score or more are kept.
        counts: detection counts at this threshold, over all tomograms.

    >>> Threshold(0.5, Detection(8, 2, 2)).counts.precision
    0.8
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
    """Return the threshold with the highest F-beta on annotated tomograms, for one class.

    Every score is tried. The threshold lies midway between two scores; among equally good
    thresholds the highest is chosen.

    Args:
        picks: for each tomogram the centres ``(n, 3)`` and their scores, at a low threshold.
        truth: annotated centres of each tomogram.
        radius: of the particle, in the unit of the centres.
        beta: weight of recall relative to precision.
        hit: largest distance of a hit, in radii.

    Raises:
        ValueError: if nothing was picked, or the numbers of tomograms differ.

    >>> import numpy as np
    >>> picks = np.array([[0.0, 0, 0], [50, 0, 0], [90, 0, 0]]), np.array([0.9, 0.7, 0.3])
    >>> fit_threshold([picks], [np.array([[0.0, 0, 0], [51, 0, 0]])], radius=10.0)
    Threshold(value=0.5, counts=Detection(true_positive=2, false_positive=0, false_negative=0))
    """
    if len(picks) != len(truth):
        raise ValueError(
            f"picks of {len(picks)} tomograms do not match annotations of {len(truth)}"
        )
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
    """Return the voxel threshold with the highest F-beta on an annotated tomogram.

    Use `fit_threshold` if the picks do not depend on the threshold. A threshold on voxels changes
    the picks themselves, so each level is tried. Among equally good levels the middle one is
    chosen.

    Args:
        pick: function from a level to centres ``(n, 3)``.
        truth: annotated centres.
        radius: of the particle, in the unit of the centres.
        beta: how much more recall counts than precision.
        hit: largest distance of a hit, in radii.
        levels: levels to try.

    >>> import numpy as np
    >>> truth = np.array([[0.0, 0, 0], [50, 0, 0]])
    >>> fit_level(lambda level: truth[: 2 if level < 0.55 else 1], truth, 10.0).value
    0.3
    """
    tried = [Threshold(level, detection(pick(level), truth, radius, hit)) for level in levels]
    values = [one.counts.f_beta(beta) or 0.0 for one in tried]
    best = [one for one, value in zip(tried, values, strict=True) if value == max(values)]
    return best[(len(best) - 1) // 2]
