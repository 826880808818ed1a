"""Computes Gaussian windows around the voxels of thin structures, in the blocks that contain some.

The array is continued beyond its faces as its mirror image, so that a structure cut by a face has
neither a surface nor an edge there.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg.core.blocks import read
from cryojax_seg.core.neighbourhood import gaussian_taps

FIRST = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
_SIZES = range(16, 97, 16)
_CALL = 3e6  # products that take as long as a call
SECOND = ((2, 0, 0), (1, 1, 0), (1, 0, 1), (0, 2, 0), (0, 1, 1), (0, 0, 2))


class Block(NamedTuple):
    """Holds a part of an array with its surroundings.

    Attributes:
        start: start of the block in the array, without its surroundings.
        core: slices of `values` that are the block itself.
        values: the values of the block and around it, of the same shape for all blocks.
    """

    start: np.ndarray
    core: tuple[slice, ...]
    values: np.ndarray


def blocks(
    mask: np.ndarray, halo: Sequence[int], size: int = 48, values: np.ndarray | None = None
) -> Iterator[Block]:
    """Yield the blocks in which a mask is not empty. The first begins where the mask does.

    Args:
        mask: bool ``(z, y, x)``.
        halo: voxels of surroundings along each axis.
        size: edge of a block, in voxels.
        values: the array that is cut; None for the mask itself.

    >>> mask = np.zeros((8, 8, 8), bool); mask[0, 0, 0] = True
    >>> [b.values.sum().item() for b in blocks(mask, (1, 1, 1), size=4)]  # the corner and mirrors
    [8]
    """
    box = extent(mask)
    for start in itertools.product(*(range(s.start, s.stop, size) for s in box)):
        stop = [min(a + size, s.stop) for a, s in zip(start, box, strict=True)]
        if not mask[tuple(map(slice, start, stop))].any():
            continue
        low = [a - h for a, h in zip(start, halo, strict=True)]
        high = [a + size + h for a, h in zip(start, halo, strict=True)]
        core = tuple(slice(h, h + b - a) for a, b, h in zip(start, stop, halo, strict=True))
        cut = read(mask if values is None else values, low, high, None)
        yield Block(np.asarray(start), core, cut)


def best_size(mask: np.ndarray, halo: Sequence[int]) -> int:
    """Return the edge of blocks that takes the least time to average a mask in windows.

    Args:
        mask: bool ``(z, y, x)``.
        halo: voxels of surroundings along each axis.

    Returns:
        a multiple of 16 up to 96, because programs are compiled for each size.

    >>> mask = np.zeros((100, 100, 100), bool); mask[2:30] = True
    >>> best_size(mask, (8, 8, 8)), best_size(mask[:, :10, :10], (8, 8, 8))
    (32, 16)
    """
    inside = mask[extent(mask)]
    costs = {}
    for size in _SIZES:
        starts = [np.arange(0, n, size) for n in inside.shape]
        count = inside
        for axis, where in enumerate(starts):
            count = np.logical_or.reduceat(count, where, axis)
        products = float(np.prod([size + 2 * h for h in halo])) * (size + 2 * max(halo))
        costs[size] = np.count_nonzero(count) * (products + _CALL)
    return min(costs, key=costs.__getitem__)


def extent(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...]:
    """Return the slices of the smallest box that holds a mask; they are empty for an empty one.

    Args:
        mask: bool ``(z, y, x)``.
        margin: voxels around the box, within the array.

    >>> mask = np.zeros((4, 4, 4), bool); mask[1, 2, 1:3] = True
    >>> extent(mask), extent(mask, 1)[0]
    ((slice(1, 2, None), slice(2, 3, None), slice(1, 3, None)), slice(0, 3, None))
    """
    inside, found = mask, []
    for _ in range(mask.ndim):  # each time of what is left, whose first axis goes last
        seen = np.flatnonzero(inside.any(tuple(range(1, mask.ndim))))
        if not seen.size:
            return (slice(0, 0),) * mask.ndim
        first, last = int(seen[0]), int(seen[-1])
        inside = np.moveaxis(inside[first : last + 1], 0, -1)
        found.append(slice(first, last + 1))
    return tuple(
        slice(max(0, s.start - margin), min(n, s.stop + margin))
        for s, n in zip(found, mask.shape, strict=True)
    )


def windowed(
    values: np.ndarray,
    scale: Sequence[float],
    radius: Sequence[int],
    orders: tuple[tuple[int, int, int], ...] = ((0, 0, 0),),
) -> np.ndarray:
    """Return Gaussian means of values, or their derivatives, wherever the entire window is known.

    Each axis takes one product with a banded matrix, which on blocks is faster than a convolution.

    Args:
        values: ``(z, y, x)``; the results are smaller by `radius` at each face.
        scale: standard deviations along z, y, x, voxels.
        radius: voxels at which the windows are cut off.
        orders: how often to differentiate along z, y, x, with respect to voxels.

    Returns:
        one array for each order.

    >>> values = np.tile(np.arange(11.0), (11, 11, 1))
    >>> mean, slope = windowed(values, (1.0, 1.0, 1.0), (4, 4, 4), ((0, 0, 0), (0, 0, 1)))
    >>> mean.shape, round(float(mean[0, 0, 0]), 3), round(float(slope[0, 0, 0]), 3)
    ((3, 3, 3), 4.0, 1.0)
    """
    matrices = tuple(
        tuple(_matrix(s, r, order, n) for order in range(1 + max(o[axis] for o in orders)))
        for axis, (s, r, n) in enumerate(zip(scale, radius, values.shape, strict=True))
    )
    return np.asarray(_products(jnp.asarray(values, jnp.float32), matrices, orders))


@functools.partial(jax.jit, static_argnums=2)
def _products(values, matrices, orders):
    along_z = [jnp.einsum("az,zyx->ayx", m, values) for m in matrices[0]]
    planes = {(z, y): None for z, y, _ in orders}
    along_zy = {(z, y): jnp.einsum("by,ayx->abx", matrices[1][y], along_z[z]) for z, y in planes}
    return jnp.stack(
        [jnp.einsum("cx,abx->abc", matrices[2][x], along_zy[z, y]) for z, y, x in orders]
    )


@functools.lru_cache(maxsize=64)
def _matrix(scale: float, radius: int, order: int, size: int) -> jax.Array:
    taps = _taps(float(scale), radius, order)
    matrix = np.zeros((size - 2 * radius, size), np.float32)
    for row in range(size - 2 * radius):
        matrix[row, row : row + taps.size] = taps
    return jnp.asarray(matrix)  # which stays on the device


_compiled = jax.jit(gaussian_taps, static_argnums=(1, 2))  # op by op takes five times as long


@functools.lru_cache(maxsize=64)
def _taps(scale: float, radius: int, order: int) -> np.ndarray:
    return np.asarray(_compiled(scale, radius, order), np.float32)
