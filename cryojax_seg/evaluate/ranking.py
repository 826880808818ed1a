"""Scores how well probabilities rank voxels, whatever threshold is chosen: average precision."""

import dataclasses

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


def rank(probability: np.ndarray, inside: np.ndarray, weights: np.ndarray | None = None) -> Ranking:
    """Return the ranking of voxels by their probability, in 512 bins of equal log odds.

    Args:
        probability: probability of the class at each voxel.
        inside: whether each voxel is of the class.
        weights: 0 where a voxel is not annotated; None for 1 everywhere.

    >>> rank(np.array([0.2, 0.7, 0.9]), np.array([True, False, True])).average_precision
    0.8333333333333333
    """
    p = np.clip(np.asarray(probability, np.float64), 1e-12, 1 - 1e-12)
    odds = np.clip(np.log(p) - np.log1p(-p), -_LARGEST, _LARGEST)
    bins = np.minimum((odds + _LARGEST) * (_BINS / (2 * _LARGEST)), _BINS - 1).astype(np.int64)
    weights = np.ones(p.shape) if weights is None else np.asarray(weights, np.float64)
    positive, negative = (
        np.bincount(bins.ravel(), (weights * where).ravel(), _BINS) for where in (inside, ~inside)
    )
    return Ranking(positive, negative)
