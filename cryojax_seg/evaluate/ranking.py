"""Scores how well probabilities rank voxels, whatever threshold is chosen: average precision."""

import dataclasses
from collections.abc import Sequence

import numpy as np

_BINS = 512
_LARGEST = 16.0  # log odds; float32 probabilities say no more


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Counts the voxels of a class, and the others, by their probability.

    Returned by `rank`. Rankings of several tiles or tomograms are added.

    Attributes:
        positive: weight of the voxels of the class in each bin, from low to high probability.
        negative: weight of all other voxels.

    >>> one = rank(np.array([0.1, 0.9]), np.array([False, True]))
    >>> (one + one).average_precision
    1.0
    """

    positive: np.ndarray
    negative: np.ndarray

    @classmethod
    def of(
        cls, odds: np.ndarray, inside: np.ndarray, weights: np.ndarray | None = None
    ) -> "Ranking":
        """Return the ranking of voxels by their log odds, from `log_odds`.

        >>> float(Ranking.of(np.array([0.0, 3.0]), np.array([False, True])).positive.sum())
        1.0
        """
        steps = (odds + _LARGEST) * (_BINS / (2 * _LARGEST))
        bins = np.minimum(steps, _BINS - 1).astype(np.int64)
        weights = np.ones(odds.shape) if weights is None else np.asarray(weights, np.float64)
        positive, negative = (
            np.bincount(bins.ravel(), (weights * where).ravel(), _BINS)
            for where in (inside, ~inside)
        )
        return cls(positive, negative)

    def __add__(self, other: "Ranking") -> "Ranking":
        return Ranking(self.positive + other.positive, self.negative + other.negative)

    @property
    def average_precision(self) -> float | None:
        """Return the mean precision over the voxels of the class; None if there are none.

        It is the sum of precision times the rise of recall as the threshold falls (Zhu 2004, as in
        scikit-learn); voxels of one bin are found together.
        """
        found, wrong = self.positive[::-1], self.negative[::-1]
        total = found.sum()
        if total == 0:
            return None
        claimed = np.cumsum(found + wrong)
        precision = np.cumsum(found) / np.where(claimed > 0, claimed, 1.0)
        return float((precision * found).sum() / total)

    @property
    def best_dice(self) -> float | None:
        """Return the Dice at the threshold that suits the truth best, which nobody knows.

        >>> round(rank(np.array([0.2, 0.7, 0.9]), np.array([True, False, True])).best_dice, 3)
        0.8
        """
        found = np.cumsum(self.positive[::-1])
        if not found[-1]:
            return None
        claimed = found + np.cumsum(self.negative[::-1])
        return float((2 * found / np.maximum(claimed + found[-1], 1e-9)).max())

    def precision_at(self, recalls: Sequence[float]) -> list[float] | None:
        """Return the precision at the highest threshold that reaches each recall.

        Args:
            recalls: shares of the class that are found, above 0 to 1.

        Returns:
            the curve; None if there is no voxel of the class.

        >>> rank(np.array([0.2, 0.7, 0.9]), np.array([True, False, True])).precision_at([0.5, 1.0])
        [1.0, 0.6666666666666666]
        """
        found = np.cumsum(self.positive[::-1])
        if not found[-1]:
            return None
        claimed = found + np.cumsum(self.negative[::-1])
        reached = np.searchsorted(found, np.asarray(recalls) * found[-1] * (1 - 1e-9))
        return [float(v) for v in (found / np.maximum(claimed, 1e-9))[reached]]


def rank(probability: np.ndarray, inside: np.ndarray, weights: np.ndarray | None = None) -> Ranking:
    """Return the ranking of voxels by their probability, in 512 bins of equal log odds.

    Args:
        probability: probability of the class at each voxel.
        inside: whether each voxel is of the class.
        weights: 0 where a voxel is not annotated; None for 1 everywhere.

    >>> rank(np.array([0.2, 0.7, 0.9]), np.array([True, False, True])).average_precision
    0.8333333333333333
    """
    return Ranking.of(log_odds(np.asarray(probability)), np.asarray(inside), weights)


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Return the log odds of probabilities, from -16 to 16.

    >>> log_odds(np.array([0.5, 1.0])).tolist()
    [0.0, 16.0]
    """
    p = np.clip(np.asarray(probability, np.float64), 1e-12, 1 - 1e-12)
    return np.clip(np.log(p) - np.log1p(-p), -_LARGEST, _LARGEST)


def bin_thresholds() -> np.ndarray:
    """Return the probability at which each bin of a `Ranking` begins.

    >>> float(bin_thresholds()[256])
    0.5
    """
    return 1 / (1 + np.exp(-np.linspace(-_LARGEST, _LARGEST, _BINS, endpoint=False)))
