"""Operations on binary masks that several packages share: distances, depths, basins and normals."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Real
from scipy import ndimage
from scipy.spatial import KDTree

MaskArray = Bool[np.ndarray, "_z _y _x"]
Points = Real[np.ndarray, "_n 3"]  # in the unit of the voxel size, zyx, voxel i at i * voxel_size
Spacing = tuple[float | int, float | int, float | int]
_UNIT = (1.0, 1.0, 1.0)


def points_in_mask(
    points: Points, mask: MaskArray, voxel_size: Spacing = _UNIT
) -> Bool[np.ndarray, "_n"]:
    """Return which points lie in a voxel of a mask; points outside the volume do not.

    Args:
        points: ``(n, 3)`` zyx, voxel i at ``i * voxel_size``.
        mask: ``(z, y, x)``.
        voxel_size: along z, y, x.

    >>> points_in_mask(np.array([[0.0, 0, 1], [0, 0, 5]]), np.array([[[False, True]]])).tolist()
    [True, False]
    """
    index = np.rint(points / np.asarray(voxel_size)).astype(int)
    inside = np.all((index >= 0) & (index < mask.shape), axis=1)
    return inside & mask[tuple(np.where(inside[:, None], index, 0).T)]


def distances_to_mask(
    points: Points, mask: MaskArray, voxel_size: Spacing = _UNIT
) -> Float[np.ndarray, "_n"]:
    """Return the distance of points to the centre of the nearest voxel of a mask.

    It is 0 for points in a voxel of the mask, and infinite where the mask is empty. At centres of
    voxels it is the Euclidean distance transform.

    Args:
        points: ``(n, 3)`` zyx, voxel i at ``i * voxel_size``.
        mask: ``(z, y, x)``.
        voxel_size: along z, y, x.

    Returns:
        in the unit of `voxel_size`.

    >>> mask = np.zeros((3, 3, 9), bool); mask[:, :, 1] = True
    >>> points = np.array([[10.0, 10, 55], [0, 0, 12]])
    >>> distances_to_mask(points, mask, (10.0, 10.0, 10.0)).tolist()
    [45.0, 0.0]
    """
    if not mask.any() or not len(points):
        return np.full(len(points), np.inf)
    surface = mask & ~np.asarray(ndimage.binary_erosion(mask), bool)
    tree = KDTree(np.argwhere(surface) * np.asarray(voxel_size))
    distance = np.asarray(tree.query(points)[0])
    return np.where(points_in_mask(points, mask, voxel_size), 0.0, distance)


def depth_in_mask(
    mask: MaskArray, voxel_size: Spacing = _UNIT, beyond: Literal["inside", "outside"] = "outside"
) -> Float[np.ndarray, "_z _y _x"]:
    """Return how deep voxels of a mask lie below its surface, 0 outside.

    Args:
        mask: ``(z, y, x)``.
        voxel_size: along z, y, x.
        beyond: "outside" if the mask ends at the faces of the array, "inside" if it goes on there.

    >>> depth_in_mask(np.ones((1, 1, 3), bool), beyond="outside")[0, 0].tolist()
    [1.0, 1.0, 1.0]
    """
    if beyond == "inside":
        padded = np.pad(mask, 1, mode="edge")
    else:
        padded = np.pad(mask, 1)
    return np.asarray(ndimage.distance_transform_edt(padded, voxel_size))[1:-1, 1:-1, 1:-1]


def depth_basins(
    depth: Float[np.ndarray, "_z _y _x"],
    mask: MaskArray,
    seeds: Int[np.ndarray, "_z _y _x"] | None = None,
    connectivity: int = 3,
) -> Int[np.ndarray, "_z _y _x"]:
    """Divide a mask into the basins of its depth by a watershed (Beucher and Lantuejoul 1979).

    Args:
        depth: of `depth_in_mask`, smoothed or not.
        mask: to divide.
        seeds: the number of the basin at its deepest point, 0 elsewhere; None for one basin for
            each local maximum of the depth.
        connectivity: 1 for neighbours by faces, 3 for those by corners too.

    Returns:
        the number of its basin at each voxel of the mask, 0 outside.

    >>> mask = np.array([[[1, 1, 1, 0, 0, 1, 1]]], bool)
    >>> depth_basins(depth_in_mask(mask), mask)[0, 0].tolist()
    [1, 1, 1, 0, 0, 2, 2]
    """
    from skimage.segmentation import watershed

    return watershed(-depth, seeds, mask=mask, connectivity=connectivity)


def structure_normals(
    field: Float[np.ndarray, "_z _y _x"],
    sigma: float | int,
    sample: Callable[[np.ndarray], np.ndarray],
    mode: Literal["reflect", "nearest"] = "reflect",
) -> Float[np.ndarray, "_n 3"]:
    """Return the directions across which a field changes most, without a sign.

    The dominant eigenvector of the structure tensor ``G * (grad f grad f^T)``, where G is a
    Gaussian (Weickert 1998, equation 2.2).

    Args:
        field: ``(z, y, x)``, such as a smoothed mask or the distance to it.
        sigma: standard deviation of the Gaussian, voxels.
        sample: picks ``(n,)`` values of a field where directions are wanted.
        mode: how fields go on beyond the faces of the array.

    Returns:
        ``(n, 3)`` unit vectors, zyx.

    >>> ramp = np.tile(np.arange(8.0), (8, 8, 1))
    >>> np.abs(structure_normals(ramp, 1.0, lambda f: f[4, 4, 4:5])).tolist()
    [[0.0, 0.0, 1.0]]
    """
    gradient = [np.asarray(np.gradient(field, axis=axis)) for axis in range(3)]
    products = {}
    for i in range(3):
        for j in range(i, 3):
            smooth = ndimage.gaussian_filter(gradient[i] * gradient[j], sigma, mode=mode)
            products[i, j] = np.asarray(sample(np.asarray(smooth)), np.float64)
    tensor = np.stack(
        [np.stack([products[min(i, j), max(i, j)] for j in range(3)], -1) for i in range(3)], -2
    )
    return np.linalg.eigh(tensor)[1][:, :, -1]
