"""Chooses the threshold at which methods are compared, so that none wins by claiming more.

A lower threshold finds more of everything, faint structure first. So the recall of two methods can
be compared only where both invent as much, or are as precise. Each gets the threshold that does so,
chosen on validation scenes (`threshold_of_invention`, `threshold_of_precision`), and is scored with
it on test scenes.
"""

import numpy as np
from jaxtyping import Array, Real
from scipy import ndimage

from cryojax_seg.core.types import MaskArray, WeightArray
from cryojax_seg.evaluate.overlap import annotated, same_shape
from cryojax_seg.evaluate.ranking import Ranking, bin_thresholds, log_odds

Probability = Real[np.ndarray, "_z _y _x"] | Real[Array, "_z _y _x"]


def rank_inventions(
    probability: Probability,
    truth: MaskArray,
    tolerance: float | int = 2.0,
    weights: WeightArray | None = None,
) -> Ranking:
    """Return the ranking of true voxels and of voxels far from any, by their probability.

    Voxels at the edge of a structure, which two annotators would label differently, count as
    neither. Rankings of several tomograms are added.

    Args:
        probability: of the class, ``(z, y, x)``.
        truth: mask of the class.
        tolerance: distance in voxels beyond which a false voxel is an invention.
        weights: 0 where a voxel is not annotated.

    Raises:
        ValueError: for unequal shapes.

    >>> truth = np.zeros((1, 1, 8), bool)
    >>> truth[..., 0] = True
    >>> float(rank_inventions(np.full((1, 1, 8), 0.5), truth).negative.sum())  # voxels 3 to 7
    5.0
    """
    probability, truth = np.asarray(probability), np.asarray(truth, bool)
    same_shape(probability, truth)
    known = annotated(truth.shape, weights) > 0
    there = truth & known
    far = known.copy()
    if there.any():
        far &= np.asarray(ndimage.distance_transform_edt(~there)) > tolerance
    counted = there | far
    return Ranking.of(log_odds(probability[counted]), truth[counted])


def threshold_of_invention(ranking: Ranking, invention: float | int) -> float:
    """Return the least threshold at which at most so much is invented.

    Args:
        ranking: from `rank_inventions`, added over the validation scenes.
        invention: allowed number of invented voxels for each voxel of true structure.

    Returns:
        the probability from which on a voxel is called structure; above 1 if even the surest
        voxels invent more.

    Raises:
        ValueError: without any true voxel.

    >>> p = np.array([[[0.9, 0.8, 0.3, 0.2]]])
    >>> ranking = rank_inventions(p, np.array([[[True, False, False, False]]]), tolerance=0.5)
    >>> 0.3 < threshold_of_invention(ranking, 1.0) < 0.8
    True
    """
    total = ranking.positive.sum()
    if not total:
        raise ValueError("the scenes hold no structure, so nothing says how much may be invented")
    invented = np.cumsum(ranking.negative[::-1])[::-1] / total  # from each bin upwards
    return _threshold(invented <= invention)


def threshold_of_precision(ranking: Ranking, precision: float | int) -> float:
    """Return the least threshold from which on the labels are at least so precise.

    Args:
        ranking: from `rank`, added over the validation scenes.
        precision: true voxels among those that are called structure, 0 to 1.

    Returns:
        the probability; above 1 if no threshold is precise enough.

    Raises:
        ValueError: for a precision outside 0 to 1.

    >>> from cryojax_seg.evaluate import rank
    >>> one = rank(np.array([0.9, 0.8, 0.3]), np.array([True, False, True]))
    >>> threshold_of_precision(one, 0.9) > 0.8, threshold_of_precision(one, 0.6) < 0.3
    (True, True)
    """
    if not 0 <= precision <= 1:
        raise ValueError(f"precision must be from 0 to 1, got {precision}")
    found = np.cumsum(ranking.positive[::-1])[::-1]
    claimed = found + np.cumsum(ranking.negative[::-1])[::-1]
    return _threshold(found >= precision * claimed * (1 - 1e-12), claimed > 0)


def _threshold(good: np.ndarray, some: np.ndarray | None = None) -> float:
    """Return the lower end of the lowest bin that is good with something above it."""
    kept = good if some is None else good & some
    if not kept.any():
        return 1.0 + 1e-6
    return float(bin_thresholds()[int(np.flatnonzero(kept)[0])])
