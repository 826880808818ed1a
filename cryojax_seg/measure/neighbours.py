"""Distances of points to the nearest other one, and to the nearest voxel of a mask."""

import math

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.spatial import KDTree

from cryojax_seg.measure.measured import Measured
from cryojax_seg.measure.pairs import Points, Region
from cryojax_seg.measure.uncertainty import LEVEL

_DRAWS = 200


def kaplan_meier_median(
    distance: Float[np.ndarray, "_n"], border: Float[np.ndarray, "_n"]
) -> float | None:
    """The median of distances of which those above a limit of their own are not known.

    A point whose border is nearer than its nearest neighbour may have a nearer one beyond: it says
    only that its distance is above that to the border (Baddeley & Gill 1997, Ann. Stat. 25, 263).

    Args:
        distance: to the nearest neighbour.
        border: to the border.

    Returns:
        None where fewer than half of the points are known to have a neighbour within any distance.

    >>> kaplan_meier_median(np.array([1.0, 2.0, 3.0, 9.0]), np.array([5.0, 5.0, 5.0, 1.5]))
    2.0
    """
    seen = distance <= border
    time = np.minimum(distance, border)
    order = np.lexsort((~seen, time))
    at_risk = len(time) - np.arange(len(time))
    surviving = np.cumprod(1 - seen[order] / at_risk)
    below = np.flatnonzero(surviving <= 0.5 + 1e-12)
    return float(time[order][below[0]]) if len(below) else None


def nearest_median(
    nearest: Float[np.ndarray, "_n"], border: Float[np.ndarray, "_n"], rng: np.random.Generator
) -> Measured | None:
    """The median distance to the nearest other point, free of the border of the region.

    Args:
        nearest: angstrom; NaN for a point that is alone.
        border: from the points to the border of the region.
        rng: for the interval, over points drawn with replacement.

    Returns:
        nanometres, infinite limits where a draw does not reach half; None where they all do not.
    """
    if not np.isfinite(nearest).any():
        return None
    value = kaplan_meier_median(nearest, border)
    if value is None:
        return None
    draws = []
    for drawn in rng.integers(0, len(nearest), (_DRAWS, len(nearest))):
        one = kaplan_meier_median(nearest[drawn], border[drawn])
        draws.append(math.inf if one is None else one)
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest").tolist()
    return Measured(0.1 * value, 0.1 * low, 0.1 * high)


def membrane_distance(
    membrane: Bool[np.ndarray, "_z _y _x"],
    voxel_size: tuple[float, float, float],
    points: Points,
) -> Float[np.ndarray, "_n"]:
    """From points to the middle of the nearest voxel of a mask, 0 for points in a voxel of it.

    At the middle of voxels it is their Euclidean distance transform; infinite without a mask.

    >>> mask = np.zeros((3, 3, 9), bool); mask[:, :, 1] = True
    >>> membrane_distance(mask, (10.0, 10.0, 10.0), np.array([[10.0, 10, 55], [0, 0, 12]])).tolist()
    [45.0, 0.0]
    """
    if not membrane.any() or not len(points):
        return np.full(len(points), np.inf)
    surface = membrane & ~np.asarray(ndimage.binary_erosion(membrane), bool)
    tree = KDTree(np.argwhere(surface) * np.asarray(voxel_size))
    return np.where(holds(membrane, voxel_size, points), 0.0, tree.query(points)[0])


def holds(mask: np.ndarray, voxel_size: tuple, points: Points) -> Bool[np.ndarray, "_n"]:
    """Which points lie in a voxel of a mask."""
    if not mask.any():
        return np.zeros(len(points), bool)
    return Region(mask.shape, voxel_size, mask).holds(points)
