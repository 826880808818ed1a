"""Scores the distance between surfaces, for structures a few voxels thick."""

import numpy as np
from scipy import ndimage

from cryojax_seg.core.types import MaskArray, WeightArray
from cryojax_seg.evaluate.overlap import annotated, same_shape


def _boundary(mask: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the known voxels of the mask with a known face neighbour outside it.

    Voxels beyond the volume and unannotated voxels are unknown, so a structure that leaves the
    annotation has no boundary there.
    """
    return mask & known & np.asarray(ndimage.binary_dilation(~mask & known), bool)


def surface_dice(
    prediction: MaskArray,
    truth: MaskArray,
    tolerance: float,
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0),
    weights: WeightArray | None = None,
) -> float | None:
    """Return the surface Dice, the share of both surfaces within a tolerance of the other.

    It is ``(|{b in P: d(b, T) <= tol}| + |{b in T: d(b, P) <= tol}|) / (|P| + |T|)`` over the
    boundary voxels P and T of the two masks (Nikolov et al. 2018, arXiv:1809.04430, with weighted
    boundary voxels instead of surface elements). Distances are exact and Euclidean.

    Args:
        prediction: mask of one class.
        truth: mask of the same shape.
        tolerance: angstrom (the unit of `voxel_size`).
        voxel_size: along z, y, x.
        weights: 0 where not annotated; such voxels create no boundary.

    Returns:
        a value between 0 and 1; 0 if one of the two has no surface, None if neither has.

    Raises:
        ValueError: for unequal shapes, bad weights or a negative tolerance.

    >>> import numpy as np
    >>> truth = np.zeros((8, 8, 8), bool); truth[2:6, 2:6, 2:6] = True
    >>> surface_dice(np.roll(truth, 1, 0), truth, tolerance=10.0, voxel_size=(10.0, 10.0, 10.0))
    1.0
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be 0 or more angstrom, got {tolerance}")
    found = _distances(prediction, truth, voxel_size, weights)
    if found is None:
        return None
    slack = 1e-9 * max(voxel_size)  # a distance equal to the tolerance is within it
    near = sum(float(w[d <= tolerance + slack].sum()) for d, w in found)
    total = sum(float(w.sum()) for _, w in found)
    return near / total


def hausdorff95(
    prediction: MaskArray,
    truth: MaskArray,
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0),
    weights: WeightArray | None = None,
    percentile: float | int = 95,
) -> float | None:
    """Return the 95th percentile Hausdorff distance between two surfaces.

    It is ``max(P95 d(b in P, T), P95 d(b in T, P))`` over boundary voxels, in the unit of
    `voxel_size`: the maximum of both percentiles, as in MONAI and the surface-distance package, not
    the percentile of the union. All voxels have equal weight.

    Args:
        prediction, truth, voxel_size, weights: as in `surface_dice`.
        percentile: 100 gives the Hausdorff distance.

    Returns:
        the distance, or None if one of the two has no surface.

    >>> import numpy as np
    >>> truth = np.zeros((8, 8, 8), bool); truth[2] = True
    >>> hausdorff95(np.roll(truth, 3, 0), truth, voxel_size=(10.0, 10.0, 10.0))
    30.0
    """
    found = _distances(prediction, truth, voxel_size, weights)
    if found is None or not all(np.isfinite(d).all() and d.size for d, _ in found):
        return None
    return max(float(np.percentile(d, percentile)) for d, _ in found)


def boundary_iou(
    prediction: MaskArray,
    truth: MaskArray,
    width: float | int = 2.0,
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0),
    weights: WeightArray | None = None,
) -> float | None:
    """Return the IoU of the parts of both masks within `width` of their own boundary.

    Source: Cheng et al. 2021 (arXiv:2103.16562, equation 1). Unlike the IoU it does not depend on
    the interior of a structure.

    Args:
        prediction, truth, voxel_size, weights: as in `surface_dice`.
        width: distance from the centre of the nearest voxel outside, in the unit of `voxel_size`.

    Returns:
        None if neither has a boundary.

    Raises:
        ValueError: for unequal shapes, bad weights or a width that is not positive.

    >>> import numpy as np
    >>> truth = np.zeros((9, 9, 9), bool); truth[1:8, 1:8, 1:8] = True
    >>> boundary_iou(truth, truth, width=1.0)
    1.0
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    same_shape(prediction, truth)
    if not width > 0:
        raise ValueError(f"width must be positive, got {width}")
    weights = annotated(truth.shape, weights)
    known = weights > 0
    bands = []
    for mask in (prediction, truth):
        outside = ~mask & known
        if not outside.any():
            bands.append(np.zeros(mask.shape, bool))
            continue
        depth = np.asarray(ndimage.distance_transform_edt(~outside, sampling=voxel_size))
        bands.append(mask & known & (depth <= width + 1e-9))
    either = float(weights[bands[0] | bands[1]].sum())
    return float(weights[bands[0] & bands[1]].sum()) / either if either else None


def _distances(
    prediction: MaskArray,
    truth: MaskArray,
    voxel_size: tuple[float, float, float],
    weights: WeightArray | None,
) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Return, for both surfaces, distances of boundary voxels to the other one, and weights.

    Distances are infinite without another surface; the result is None if there is no surface.
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    same_shape(prediction, truth)
    weights = annotated(truth.shape, weights)
    known = weights > 0
    surfaces = [_boundary(mask, known) for mask in (prediction, truth)]
    either = surfaces[0] | surfaces[1]
    if not either.any():
        return None
    box = ndimage.find_objects(either.astype(np.int8))[0]  # distances are between these voxels
    surfaces, weights = [s[box] for s in surfaces], weights[box]
    found = []
    for own, other in (surfaces, surfaces[::-1]):
        distance = np.full(own.shape, np.inf)
        if other.any():
            distance = np.asarray(ndimage.distance_transform_edt(~other, sampling=voxel_size))
        found.append((distance[own], weights[own]))
    return found
