"""Distances to the nearest neighbour where neighbours may hide beyond the border."""

import math

import numpy as np
from jaxtyping import Float

from cryojax_seg.measure.measured import Measured
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
