"""Applies operations of a small reach to masks tile by tile, and lists the voxels of masks.

What an operation returns is on disk if its mask is, so that memory holds a tile and the voxels of
objects, and nothing as large as the volume.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from scipy.spatial import KDTree

from cryojax_seg.core.blocks import release
from cryojax_seg.measure.tiled import Box, on_disk, sections, tiles

Mask = Bool[np.ndarray, "_z _y _x"]
Points = np.ndarray  # (n, 3), in the unit of the voxel size, zyx
TILE = 2**22  # voxels of a tile with its surroundings
_PIECE = 32  # points of a line, around which voxels are looked for at a time


def empty_like(mask: Mask) -> Mask:
    """Return a mask of this shape without any voxel, which is on disk if the other one is.

    >>> int(empty_like(np.ones((2, 3, 4), bool)).sum())
    0
    """
    shape = (len(mask), *mask.shape[1:])
    return on_disk(shape, dtype=bool) if isinstance(mask, np.memmap) else np.zeros(shape, bool)


def copied(mask: Mask) -> Mask:
    """Return a copy of a mask, which is on disk if the other one is.

    >>> copied(np.ones((1, 1, 2), bool)).tolist()
    [[[True, True]]]
    """
    result = empty_like(mask)
    for own, section in zip(sections(result), sections(mask), strict=True):
        own[:] = section
    return result


def tilewise(
    mask: Mask,
    operation: Callable[[np.ndarray, Box], np.ndarray],
    reach: int,
    most: int | None = None,
) -> Mask:
    """Return what an operation of a small reach makes of a mask, tile by tile.

    Args:
        mask: ``(z, y, x)``.
        operation: function from a part of the mask and its slices to a mask of the same shape,
            which is empty wherever no voxel of the mask is within the reach.
        reach: voxels from which the mask has an effect.
        most: voxels of a tile with its surroundings; None for 4 million.

    >>> from scipy import ndimage
    >>> mask = np.zeros((4, 4, 60), bool); mask[2, 2, 30] = True
    >>> grown = tilewise(mask, lambda part, _: ndimage.binary_dilation(part), 1, most=300)
    >>> int(grown.sum()), bool((grown == ndimage.binary_dilation(mask)).all())
    (7, True)
    """
    result = empty_like(mask)
    shape = (len(mask), *mask.shape[1:])
    for own, around in tiles(shape, most or TILE, reach):
        part = np.asarray(mask[around])
        if part.any():
            inner = tuple(
                slice(a.start - b.start, a.stop - b.start) for a, b in zip(own, around, strict=True)
            )
            result[own] = operation(part, around)[inner]
        release(mask)
        release(result)
    return result


def bounds(mask: Mask) -> Box:
    """Return the slices of the smallest box that holds the voxels of a mask; it must have some.

    >>> mask = np.zeros((4, 4, 4), bool); mask[1, 2, 1:3] = True
    >>> bounds(mask)
    (slice(1, 2, None), slice(2, 3, None), slice(1, 3, None))
    """
    seen = [np.zeros(n, bool) for n in mask.shape]
    for z, section in enumerate(sections(mask)):
        seen[0][z] = section.any()
        seen[1] |= section.any(1)
        seen[2] |= section.any(0)
    z, y, x = (
        slice(first, last + 1)
        for first, last in (np.flatnonzero(axis)[[0, -1]].tolist() for axis in seen)
    )
    return z, y, x


def voxels(parts: Iterable[np.ndarray]) -> Int[np.ndarray, "_n 3"]:
    """Return the indices of the voxels of a mask, int32, in the order of memory.

    Args:
        parts: its sections.

    >>> voxels(np.array([[[True, False]], [[False, True]]])).tolist()
    [[0, 0, 0], [1, 0, 1]]
    """
    found = [np.zeros((0, 3), np.int32)]
    for z, section in enumerate(parts):
        y, x = np.nonzero(section)
        if y.size:
            found.append(np.stack([np.full(y.size, z, np.int32), y, x], 1).astype(np.int32))
    return np.concatenate(found)


def values_of(values: Any, mask: Mask, start: Sequence[int] = (0, 0, 0)) -> np.ndarray:
    """Return the values of an array at the voxels of a mask, in the order of memory.

    Args:
        values: ``(z, y, x)``, which may stay on disk.
        mask: of a box of the array.
        start: the first voxel of the box.

    >>> values_of(np.arange(4.0).reshape(2, 1, 2), np.array([[[True]]]), (1, 0, 1)).tolist()
    [3.0]
    """
    z, y, x = start
    found = []
    for place, section in enumerate(sections(mask)):
        if section.any():
            part = slice(y, y + mask.shape[1]), slice(x, x + mask.shape[2])
            found.append(np.asarray(values[z + place : z + place + 1, *part])[0][section])
    release(values)
    return np.concatenate(found) if found else np.zeros(0)


def voxels_near(
    mask: Mask, line: Points, farthest: float, voxel_size: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the voxels of a mask that are near a line, in the order of memory.

    Args:
        mask: ``(z, y, x)``.
        line: ``(n, 3)`` points in order, in the unit of the voxel size.
        farthest: the distance from the nearest of them up to which voxels are near.
        voxel_size: voxel size along z, y, x.

    Returns:
        the indices of the voxels ``(m, 3)``, their positions ``(m, 3)``, and the number of the
        nearest point of each.

    >>> mask, line = np.ones((1, 1, 40), bool), np.array([[0.0, 0, 0], [0, 0, 10]])
    >>> index, points, nearest = voxels_near(mask, line, 15.0, (10.0, 10.0, 10.0))
    >>> index[:, 2].tolist(), points[:, 2].tolist(), nearest.tolist()
    ([0, 1, 2], [0.0, 10.0, 20.0], [0, 1, 1])
    """
    size, shape = np.asarray(voxel_size, float), np.asarray(mask.shape)
    found = [np.zeros(0, np.int64)]
    for begin in range(0, len(line), _PIECE):
        piece = line[begin : begin + _PIECE]
        low = np.clip(np.floor((piece.min(0) - farthest) / size).astype(int), 0, shape)
        high = np.clip(np.ceil((piece.max(0) + farthest) / size).astype(int) + 1, 0, shape)
        own = np.nonzero(mask[tuple(map(slice, low, high))])
        z, y, x = (i + a for i, a in zip(own, low, strict=True))
        found.append((z * shape[1] + y) * shape[2] + x)
    release(mask)
    flat = np.sort(np.concatenate(found), kind="stable")  # which merges what is sorted already
    flat = flat[np.diff(flat, prepend=-1) > 0]
    index = np.stack(np.unravel_index(flat, tuple(shape)), 1)
    points = index * size
    nearest = np.asarray(KDTree(line).query(points, distance_upper_bound=farthest)[1])
    near = nearest < len(line)
    return index[near], points[near], nearest[near]
