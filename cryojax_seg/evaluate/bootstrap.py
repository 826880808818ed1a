"""Computes bootstrap confidence intervals over instances, and scores in bins of a quantity."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Array, Real

from cryojax_seg.core.types import WeightArray
from cryojax_seg.evaluate.overlap import annotated


def bootstrap_ratio(
    numerators: Sequence[float | int] | np.ndarray,
    denominators: Sequence[float | int] | np.ndarray,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the bootstrap interval of ``sum(numerators) / sum(denominators)`` over instances.

    Errors of the voxels of one membrane are correlated, so whole instances are resampled with
    replacement (Efron 1979); the interval is between percentiles.

    Args:
        numerators, denominators: one value per instance, for example found and true voxels.
        level: confidence level.
        resamples: number of bootstrap samples.
        seed: seed of the resampling.

    Returns:
        the lower and upper limit, or None for fewer than two instances.

    >>> low, high = bootstrap_ratio([8, 9, 4], [10, 10, 10])
    >>> low < 0.7 < high
    True
    """
    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    top, bottom = top[bottom > 0], bottom[bottom > 0]
    if len(top) < 2:
        return None
    chosen = np.random.default_rng(seed).integers(0, len(top), (resamples, len(top)))
    values = top[chosen].sum(1) / bottom[chosen].sum(1)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return low, high


def bin_edges(bins: int | Sequence[float | int] | np.ndarray) -> np.ndarray:
    """Return bin edges: equal bins from 0 to 1 for a number of bins, or the given edges.

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
    """Return the index of the bin ``[low, high)`` of each value; the last bin includes its edge.

    Values below the first edge give -1; larger values and NaN give the number of bins.

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
    """Evaluate a metric in bins of a quantity of each voxel, such as visibility or depth.

    Args:
        metric: a function of weights, for example ``lambda w: evaluate.brier_score(p, truth, w)``.
        values: ``(z, y, x)``; a voxel belongs to the bin ``[low, high)`` its value lies in, the
            last one includes its upper edge; NaN belongs to none.
        edges: increasing bin edges.
        weights: 0 where not annotated.

    Returns:
        the metric of each bin, or None for a bin without annotated voxels.

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
