"""Scores recall and precision by visibility, the measured share of a structure."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Real
from scipy import ndimage

from cryojax_seg.core.types import LabelArray, MaskArray, WeightArray
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.evaluate.bootstrap import bin_edges, bin_of, bootstrap_ratio
from cryojax_seg.evaluate.normals import mask_normals
from cryojax_seg.evaluate.overlap import annotated, same_shape


@dataclasses.dataclass(frozen=True)
class VisibilityBin:
    """Holds the recall of true voxels of visibility in ``[low, high)``; the last bin includes 1.

    Attributes:
        low, high: bin edges.
        count: number of true voxels in the bin.
        found: number of them that were predicted.
        recall: ``found / count``; None in an empty bin.
        interval: 95 % interval of the recall; None in an empty bin.

    >>> import numpy as np
    >>> truth = np.ones((1, 1, 2), bool)
    >>> low, high = recall_by_visibility(truth, truth, np.array([[[0.8, 0.9]]]), bins=2)
    >>> low.recall, high.recall, high.count
    (None, 1.0, 2)
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
    """Return Wilson's score interval of a proportion (Wilson 1927); `z` = 1.96 for 95 %.

    >>> low, high = wilson_interval(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)
    """
    if not 0 <= found <= count or count <= 0:
        raise ValueError(f"found must be between 0 and a positive count, got {found} of {count}")
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
    instances: LabelArray | None = None,
) -> list[VisibilityBin]:
    """Return the recall of true voxels in bins of their visibility, with 95 % intervals.

    Args:
        predicted: mask of one class.
        truth: mask of the same shape.
        visibility: `MissingWedge.visibility` of the local normal, 0 to 1; read only where the
            truth is and is annotated.
        bins: a number of equal bins from 0 to 1, or their increasing edges.
        weights: not annotated where 0; voxels are counted, not weighted.
        voxels_per_sample: number of voxels that count as one independent observation in Wilson's
            interval, because errors of neighbours are correlated.
        instances: object number of each true voxel; if given, the interval is a bootstrap over
            whole objects, and None in a bin with fewer than two objects.

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
    edges = bin_edges(bins)
    kept = truth & (annotated(truth.shape, weights) > 0)
    seen, found = visibility[kept].astype(np.float64), predicted[kept]
    if not np.isfinite(seen).all():
        raise ValueError("visibility must be finite at all voxels of the truth")
    index = bin_of(seen, edges)
    objects = None
    if instances is not None:
        same_shape(np.asarray(instances), truth)
        objects = np.unique(np.asarray(instances)[kept], return_inverse=True)[1].ravel()
    result = []
    for i, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        count = int((index == i).sum())
        hits = int(found[index == i].sum())
        recall = interval = None
        if count:
            recall = hits / count
            if objects is None:
                interval = wilson_interval(hits / voxels_per_sample, count / voxels_per_sample)
            else:
                here = objects[index == i]
                interval = bootstrap_ratio(np.bincount(here, found[index == i]), np.bincount(here))
        result.append(VisibilityBin(low, high, count, hits, recall, interval))
    return result


@dataclasses.dataclass(frozen=True)
class PredictedBin:
    """Holds the precision of voxels of visibility in ``[low, high)``; the last bin includes 1.

    Attributes:
        low, high: bin edges.
        true: number of predicted voxels on the truth.
        false: number of predicted voxels off the truth.
        invented: number of false voxels farther from the truth than the tolerance.
        background: number of annotated voxels farther from the truth than the tolerance, over all
            bins.
        precision: ``true / (true + false)``; None if nothing was predicted.

    >>> PredictedBin(0.0, 1.0, true=3, false=1, invented=0, background=9, precision=0.75).precision
    0.75
    """

    low: float
    high: float
    true: int
    false: int
    invented: int
    background: int
    precision: float | None


def precision_by_visibility(
    predicted: MaskArray,
    truth: MaskArray,
    visibility: Real[np.ndarray, "_z _y _x"] | Real[Array, "_z _y _x"],
    wedge: MissingWedge,
    bins: int | Sequence[float] = 5,
    tolerance: float | int = 2.0,
    weights: WeightArray | None = None,
    extent_angstrom: float = 60.0,
    thickness_angstrom: float = 15.0,
) -> list[PredictedBin]:
    """Return precision and invented structure in bins of the visibility of predicted voxels.

    A predicted voxel within the tolerance of the truth has the visibility of the nearest true
    voxel. Any other voxel has the visibility of the predicted surface itself (`mask_normals`), as
    if it existed.

    Args:
        predicted, truth, visibility, bins, weights: as in `recall_by_visibility`.
        wedge: missing wedge of the tomogram.
        tolerance: distance in voxels.
        extent_angstrom, thickness_angstrom: see `MissingWedge.visibility`.

    Raises:
        ValueError: as for `recall_by_visibility`.

    >>> import numpy as np
    >>> truth = np.zeros((12, 12, 12), bool); truth[:, :, 2] = True     # normals along x: visible
    >>> found = truth.copy(); found[9] = True                           # normals along the beam
    >>> wedge = MissingWedge((-60.0, 60.0))
    >>> low, high = precision_by_visibility(found, truth, 0.97 * truth, wedge, 2)
    >>> low.precision, low.invented, high.invented         # biased where sheets cross
    (0.0, 60, 24)
    """
    predicted, truth, visibility = (np.asarray(a) for a in (predicted, truth, visibility))
    same_shape(predicted, truth)
    same_shape(visibility, truth)
    edges = bin_edges(bins)
    known = annotated(truth.shape, weights) > 0
    there = truth & known
    distance, nearest = np.full(truth.shape, np.inf), None
    if there.any():
        distance = np.asarray(ndimage.distance_transform_edt(~there))
        nearest = ndimage.distance_transform_edt(
            ~there, return_distances=False, return_indices=True
        )
    far = np.asarray(distance) > tolerance
    normals = mask_normals(predicted)
    seen = np.asarray(wedge.visibility(normals, extent_angstrom, thickness_angstrom))
    if nearest is not None:
        seen = np.where(far, seen, visibility[tuple(np.asarray(nearest))])
    background = int((far & known).sum())
    index = bin_of(seen.astype(np.float64), edges)
    rows = []
    for i, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        here = predicted & known & (index == i)
        true, count, invented = (int((here & m).sum()) for m in (truth, here, far))
        rows.append(
            PredictedBin(
                low,
                high,
                true,
                count - true,
                invented,
                background,
                true / count if count else None,
            )
        )
    return rows
