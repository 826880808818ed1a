"""Recall along the axis that explains it: how much of a structure the tilt series measured."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Real

from cryojax_seg.evaluate.overlap import WeightArray, annotated, same_shape
from cryojax_seg.evaluate.surface import MaskArray


@dataclasses.dataclass(frozen=True)
class VisibilityBin:
    """True voxels whose visibility lies in ``[low, high)`` (the last bin includes 1).

    `recall` and `interval` are None in a bin without voxels.
    """

    low: float
    high: float
    count: int
    found: int
    recall: float | None
    interval: tuple[float, float] | None


def wilson_interval(
    found: float | int, count: float | int, z: float | int = 1.96
) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927); `z` = 1.96 for 95 %.

    >>> low, high = wilson_interval(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)
    """
    if not 0 <= found <= count or count <= 0:
        raise ValueError(f"need 0 <= found <= count and a count above 0, got {found} of {count}")
    p, shrink = found / count, 1 + z * z / count
    centre = (p + z * z / (2 * count)) / shrink
    half = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count)) / shrink
    return max(0.0, centre - half), min(1.0, centre + half)


def recall_by_visibility(
    predicted: MaskArray,
    truth: MaskArray,
    visibility: Real[np.ndarray, "_z _y _x"] | Real[Array, "_z _y _x"],
    bins: int | Sequence[float] = 5,
    weights: WeightArray | None = None,
    voxels_per_sample: float = 1.0,
) -> list[VisibilityBin]:
    """Recall of the true voxels in bins of their visibility, with 95 % Wilson intervals.

    Args:
        predicted: mask of one class.
        truth: mask of the same shape.
        visibility: `MissingWedge.visibility` of the local normal, 0 to 1; read only where the
            truth is and is annotated.
        bins: a number of equal bins from 0 to 1, or their increasing edges.
        weights: not annotated where 0; voxels are counted, not weighted.
        voxels_per_sample: neighbouring voxels err together; that many are counted as one
            independent observation by the interval.

    Raises:
        ValueError: for unequal shapes, edges that do not increase, or a visibility that is not a
            number where it is needed.

    >>> import numpy as np
    >>> truth = np.ones((1, 1, 4), bool)
    >>> seen = np.array([[[False, True, True, True]]])
    >>> [b.recall for b in recall_by_visibility(seen, truth, np.array([[[0.1, 0.2, 0.8, 1.0]]]), 2)]
    [0.5, 1.0]
    """
    predicted, truth, visibility = (np.asarray(a) for a in (predicted, truth, visibility))
    same_shape(predicted, truth)
    same_shape(visibility, truth)
    edges = np.linspace(0, 1, bins + 1) if isinstance(bins, int) else np.asarray(bins, float)
    if edges.size < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"bin edges must increase, got {edges.tolist()}")
    kept = truth & (annotated(truth.shape, weights) > 0)
    seen, found = visibility[kept].astype(np.float64), predicted[kept]
    if not np.isfinite(seen).all():
        raise ValueError("the visibility is not finite at some voxels of the truth")
    index = np.searchsorted(edges, seen, side="right") - 1
    index = np.where(seen == edges[-1], edges.size - 2, index)
    result = []
    for i, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        count = int((index == i).sum())
        hits = int(found[index == i].sum())
        recall = interval = None
        if count:
            recall = hits / count
            interval = wilson_interval(hits / voxels_per_sample, count / voxels_per_sample)
        result.append(VisibilityBin(low, high, count, hits, recall, interval))
    return result
