"""Agreement of two surfaces within a distance: the score for structures a few voxels thick."""

import numpy as np
from jaxtyping import Array, Bool
from scipy import ndimage

from cryojax_seg.evaluate.overlap import WeightArray, annotated, same_shape

MaskArray = Bool[np.ndarray, "_z _y _x"] | Bool[Array, "_z _y _x"]


def _boundary(mask: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Known voxels of the mask with a known face neighbour outside it.

    What lies beyond the volume or in unannotated voxels is unknown, so a structure that leaves
    the annotation is not given a cap there.
    """
    return mask & known & np.asarray(ndimage.binary_dilation(~mask & known), bool)


def surface_dice(
    prediction: MaskArray,
    truth: MaskArray,
    tolerance: float,
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0),
    weights: WeightArray | None = None,
) -> float | None:
    """Surface Dice at a tolerance: the share of both surfaces that has the other one nearby.

    ``(|{b in P: d(b, T) <= tol}| + |{b in T: d(b, P) <= tol}|) / (|P| + |T|)`` over the boundary
    voxels P and T of the two masks (Nikolov et al. 2018, arXiv:1809.04430, with boundary voxels,
    each of its weight, in the place of surface elements). Distances are exact and Euclidean.

    Args:
        prediction: mask of one class.
        truth: mask of the same shape.
        tolerance: angstrom (the unit of `voxel_size`).
        voxel_size: along z, y, x.
        weights: not annotated where 0; there is no boundary in or towards such voxels.

    Returns:
        between 0 and 1; 0 if one of the two has no surface, None if neither has.

    Raises:
        ValueError: for unequal shapes, bad weights or a negative tolerance.

    >>> import numpy as np
    >>> truth = np.zeros((8, 8, 8), bool); truth[2:6, 2:6, 2:6] = True
    >>> surface_dice(np.roll(truth, 1, 0), truth, tolerance=10.0, voxel_size=(10.0, 10.0, 10.0))
    1.0
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    same_shape(prediction, truth)
    if not tolerance >= 0:
        raise ValueError(f"the tolerance must be 0 or more angstrom, got {tolerance}")
    weights = annotated(truth.shape, weights)
    known = weights > 0
    surfaces = [_boundary(mask, known) for mask in (prediction, truth)]
    either = surfaces[0] | surfaces[1]
    if not either.any():
        return None
    if not (surfaces[0].any() and surfaces[1].any()):
        return 0.0
    box = ndimage.find_objects(either.astype(np.int8))[0]  # distances are between these voxels
    surfaces, weights = [s[box] for s in surfaces], weights[box]
    near = total = 0.0
    for own, other in (surfaces, surfaces[::-1]):
        distance = np.asarray(ndimage.distance_transform_edt(~other, sampling=voxel_size))
        slack = 1e-9 * max(voxel_size)  # a distance equal to the tolerance is within it
        near += float(weights[own & (distance <= tolerance + slack)].sum())
        total += float(weights[own].sum())
    return near / total
