"""Operations on binary masks that several packages share: distances, depths, basins and normals."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Real
from scipy import ndimage
from scipy.spatial import KDTree

MaskArray = Bool[np.ndarray, "_z _y _x"]
Points = Real[np.ndarray, "_n 3"]  # in the unit of the voxel size, zyx, voxel i at i * voxel_size
Spacing = tuple[float | int, float | int, float | int]
_UNIT = (1.0, 1.0, 1.0)
_SECTIONS = 32  # whose surface is found at a time


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
    surface = []
    for start in range(0, len(mask), _SECTIONS):  # with one more section on each side
        low, high = max(start - 1, 0), min(start + _SECTIONS + 1, len(mask))
        near = np.pad(mask[low:high], ((start == 0, high == len(mask)), (0, 0), (0, 0)))
        edge = near & ~np.asarray(ndimage.binary_erosion(near), bool)
        own = edge[1 : 1 + min(_SECTIONS, len(mask) - start)]
        surface.append(np.argwhere(own) + (start, 0, 0))
    tree = KDTree(np.concatenate(surface) * np.asarray(voxel_size))
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


def ascent_basins(
    height: Float[np.ndarray, "_z _y _x"], mask: MaskArray
) -> Int[np.ndarray, "_z _y _x"]:
    """Divide a mask into the basins of its summits, from each voxel by the steepest way up.

    Where no two neighbours are equally high, the basins are those of a watershed with neighbours by
    faces, in a fifth of its time.

    Args:
        height: float32.
        mask: to divide.

    Returns:
        the number of its summit at each voxel of the mask. It is 0 outside, and where the way up
        goes on outside. Of a flat summit, several voxels may each have a basin.

    >>> height = np.array([[[1, 2, 3, 1, 2, 5, 4]]], np.float32)
    >>> ascent_basins(height, height < 5)[0, 0].tolist()
    [1, 1, 1, 1, 0, 0, 0]
    >>> ascent_basins(height, height > 1)[0, 0].tolist()
    [0, 1, 1, 0, 2, 2, 2]
    """
    size = height.shape
    way = np.zeros(size, np.int8)  # of the six neighbours the highest, from 1; 0 at a summit
    steps = [0]
    best = np.where(mask, height, -np.inf).astype(np.float32)
    own = best.copy()
    exceeded = np.zeros(size, bool)
    for axis, stride in enumerate((size[1] * size[2], size[2], 1)):
        lower = tuple(slice(None, -1) if i == axis else slice(None) for i in range(3))
        upper = tuple(slice(1, None) if i == axis else slice(None) for i in range(3))
        for here, there, step in ((lower, upper, stride), (upper, lower, -stride)):
            higher = own[there] > best[here]
            np.copyto(best[here], own[there], where=higher)
            np.copyto(way[here], np.int8(len(steps)), where=higher)
            exceeded[here] |= height[there] > height[here]
            steps.append(step)
    del best, own
    index = np.int32 if way.size < 2**31 else np.int64
    inside = np.flatnonzero(mask).astype(index)
    place = inside + np.asarray(steps, index)[way.ravel()[inside]]
    summits = inside[(place == inside) & ~exceeded.ravel()[inside]]
    target = np.zeros(way.size, index)
    target[inside] = place
    while True:
        further = target[place]
        if np.array_equal(further, place):
            break
        target[inside] = place = further
    numbers = np.zeros(way.size, np.int32)
    numbers[summits] = np.arange(1, 1 + summits.size)
    numbers[inside] = numbers[place]
    return numbers.reshape(size)


def distances_in_mask(mask: MaskArray) -> Float[np.ndarray, "_z _y _x"]:
    """Return how far each voxel of a mask is from the nearest one outside, in voxels, float32.

    It is the Euclidean distance transform, section by section, which takes half of the memory and
    of the time of that of scipy.

    Args:
        mask: ``(z, y, x)``, not True everywhere.

    >>> distances_in_mask(np.array([[[0, 1, 1, 1, 0]]], bool))[0, 0].tolist()
    [0.0, 1.0, 2.0, 1.0, 0.0]
    """
    nearest = nearest_outside(mask)
    result = np.empty(mask.shape, np.float32)
    y, x = np.ogrid[: mask.shape[1], : mask.shape[2]]
    for z, section in enumerate(result):
        away = (nearest[0, z] - z) ** 2 + (nearest[1, z] - y) ** 2 + (nearest[2, z] - x) ** 2
        np.sqrt(away, out=section, casting="unsafe")
    return result


def nearest_outside(mask: MaskArray) -> Int[np.ndarray, "3 _z _y _x"]:
    """Return the place of the nearest voxel outside a mask, for each voxel.

    Args:
        mask: ``(z, y, x)``, not True everywhere.

    >>> nearest_outside(np.array([[[0, 1, 1, 1]]], bool))[2, 0, 0].tolist()
    [0, 0, 0, 0]
    """
    found: Any = ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True)
    return found


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
