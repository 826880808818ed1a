"""Confidence intervals by resampling whole instances, and scores within bins of a quantity."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Array, Real

from cryojax_seg.core.types import WeightArray
from cryojax_seg.evaluate.overlap import annotated


def bootstrap_ratio(
    numerators: Sequence[float | int] | np.ndarray,
    denominators: Sequence[float | int] | np.ndarray,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile interval of ``sum(numerators) / sum(denominators)`` over instances.

    Voxels of one membrane err together, so whole instances are drawn with replacement (Efron 1979).

    Args:
        numerators, denominators: one each per instance, for example voxels found and true ones.
        level: of confidence.
        draws: resamplings.
        seed: of the resampling.

    Returns:
        None for fewer than two instances, whose spread nobody knows.

    >>> low, high = bootstrap_ratio([8, 9, 4], [10, 10, 10])
    >>> low < 0.7 < high
    True
    """
    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    top, bottom = top[bottom > 0], bottom[bottom > 0]
    if len(top) < 2:
        return None
    drawn = np.random.default_rng(seed).integers(0, len(top), (draws, len(top)))
    values = top[drawn].sum(1) / bottom[drawn].sum(1)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return low, high


def bin_edges(bins: int | Sequence[float | int] | np.ndarray) -> np.ndarray:
    """Edges of bins: so many equal ones from 0 to 1, or those given.

    Raises:
        ValueError: for edges that do not increase.

    >>> bin_edges(2).tolist()
    [0.0, 0.5, 1.0]
    """
    edges = np.linspace(0, 1, bins + 1) if isinstance(bins, int) else np.asarray(bins, float)
    if edges.size < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"bin edges must increase, got {edges.tolist()}")
    return edges


def bin_of(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The bin ``[low, high)`` of each value, the last one with its upper edge.

    Values below are -1; values above and NaN are the number of bins.

    >>> bin_of(np.array([0.0, 0.5, 1.0, 2.0, -1.0]), bin_edges(2)).tolist()
    [0, 1, 1, 2, -1]
    """
    index = np.searchsorted(edges, values, side="right") - 1
    return np.where(values == edges[-1], edges.size - 2, index)


def by_bins(
    metric: Callable[[np.ndarray], float | None],
    values: Real[np.ndarray, "_z _y _x"] | Real[Array, "_z _y _x"],
    edges: Sequence[float | int],
    weights: WeightArray | None = None,
) -> list[float | None]:
    """Any metric of weights, in bins of a quantity of every voxel: visibility, depth, thickness.

    Args:
        metric: a function of weights, for example ``lambda w: evaluate.brier_score(p, truth, w)``.
        values: ``(z, y, x)``; a voxel belongs to the bin ``[low, high)`` its value lies in, the
            last one includes its upper edge; NaN belongs to none.
        edges: of the bins, increasing.
        weights: not annotated where 0.

    Returns:
        the metric of each bin, None where no annotated voxel lies in it.

    >>> import numpy as np
    >>> depth = np.arange(4.0).reshape(4, 1, 1)
    >>> by_bins(lambda w: float(w.sum()), depth, (0, 1, 3, 9))
    [1.0, 2.0, 1.0]
    """
    borders = bin_edges(edges)
    index = bin_of(np.asarray(values), borders)
    weights = annotated(index.shape, weights)
    scores = []
    for i in range(borders.size - 1):
        kept = np.where(index == i, weights, 0.0)
        scores.append(metric(kept) if kept.any() else None)
    return scores
