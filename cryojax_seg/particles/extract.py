"""Extracts boxes around particles at sub-voxel positions from volumes that stay on disk."""

import functools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from cryojax_seg.core.blocks import Readable, release
from cryojax_seg.core.particles import Particles
from cryojax_seg.core.plain import Shape
from cryojax_seg.core.types import Array
from cryojax_seg.core.wedge import MissingWedge

_HALF = 8  # voxels to each side that a value between voxels is made from
_BETA = 5.0  # of the Kaiser window
_THREADS = 2  # that cut boxes while others are written; more wait for the disk
_RELEASE = 16  # boxes between giving pages back: done for each, it takes a fifth of the time


class Box(NamedTuple):
    """Holds the box of one particle.

    Returned by `extract_boxes`.

    Attributes:
        number: the index of the particle in its table.
        volume: float32 cube, in the orientation of the tomogram; the particle is at voxel ``edge //
            2``.
        wedge: the missing wedge of the box after rotation by the particle's inverse rotation into
            the frame of the reference; None if that of the tomogram is not known.
    """

    number: int
    volume: np.ndarray
    wedge: MissingWedge | None


def extends_outside(coordinates: Any, edge: int, shape: Shape) -> Bool[np.ndarray, " n"]:
    """Return which boxes extend beyond the volume.

    Args:
        coordinates: ``(n, 3)`` centres in voxels, zyx.
        edge: edge of the boxes, in voxels.
        shape: shape of the volume.

    >>> extends_outside([[4.0, 4.0, 4.0], [3.9, 4, 4], [12.1, 12, 12]], 8, (16, 16, 16)).tolist()
    [False, True, True]
    """
    first = np.asarray(coordinates, float).reshape(-1, 3) - edge // 2
    return np.any((first < 0) | (first + edge - 1 > np.array(shape) - 1), 1)


def extract_boxes(
    volume: Readable | Array,
    particles: Particles,
    edge: int,
    wedge: MissingWedge | None = None,
    radius: float | int | None = None,
    invert: bool = False,
) -> Iterator[Box]:
    """Yield a box around each particle, one after the other.

    Values between voxels come from windowed sinc interpolation (16 voxels along each axis, Kaiser
    window), which is exact at voxels, and within 0.3 % of the amplitude up to 0.35 cycles per
    voxel. A box is normalized to mean 0 and standard deviation 1 over its voxels inside the volume,
    or over those beyond `radius`, which are background. Voxels outside the volume are 0, the mean
    of those inside; nothing is wrapped. A box without contrast, or completely outside, is 0.

    Args:
        volume: ``(z, y, x)``; may be a memory map or chunks on disk, of which only the boxes are
            read.
        particles: coordinates in voxels of the volume, and rotations for the wedges.
        edge: edge of the boxes, in voxels.
        wedge: missing wedge of the tomogram.
        radius: radius of the particle in voxels, beyond which is background; by default all voxels
            normalize a box.
        invert: whether to change the sign, for volumes whose structure is dark.

    Raises:
        ValueError: for an edge below 2, or a radius that leaves no background.

    >>> volume = np.zeros((9, 9, 9), np.float32); volume[4, 4, 5] = 1.0
    >>> (box,) = extract_boxes(volume, Particles([[4, 4, 5.0]]), 4)
    >>> np.unravel_index(box.volume.argmax(), box.volume.shape) == (2, 2, 2)
    True
    """
    if edge < 2:
        raise ValueError(f"edge must be 2 voxels or more, got {edge}")
    background = np.ones((edge,) * 3, bool)
    if radius is not None:
        grid = np.indices((edge,) * 3) - edge // 2
        background = np.square(grid).sum(0) > float(radius) ** 2
        if not background.any():
            raise ValueError(f"a radius of {radius} voxels leaves no background in boxes of {edge}")
    shape = np.array(volume.shape)

    def one(where: np.ndarray) -> np.ndarray:
        found = _cut(volume, where, edge)
        if found is None:
            return np.zeros((edge,) * 3, np.float32)
        inside = _inside(where, edge, shape)
        return _normalized(found, inside, background, -1.0 if invert else 1.0)

    for number, box in enumerate(_ahead(one, particles.coordinates)):
        if number % _RELEASE == _RELEASE - 1:
            release(volume)
        own = None if wedge is None else wedge.rotate(particles.rotations[number].T)
        yield Box(number, box, own)


def wedge_masks(
    wedge: MissingWedge, rotations: Float[Array, "n 3 3"], edge: int
) -> Iterator[np.ndarray]:
    """Yield the missing wedge of each box in the frame of the reference.

    Args:
        wedge: missing wedge of the tomogram.
        rotations: rotations of the particles, ``lab = R @ reference``, zyx.
        edge: edge of the boxes, in voxels.

    Yields:
        float32 cubes of all frequencies, 1 where the box was measured and 0 elsewhere; the zero
        frequency is the voxel ``edge // 2``.

    >>> (mask,) = wedge_masks(MissingWedge((-60.0, 60.0)), np.eye(3)[None], 8)
    >>> float(mask[4, 4, 6].round(3)), float(mask[7, 4, 4].round(3))  # along x and the beam
    (1.0, 0.0)
    """
    shape = (edge,) * 3
    transfer = jax.jit(lambda rotation: wedge.rotate(rotation).transfer(shape))
    for rotation in rotations:
        half = np.asarray(transfer(np.asarray(rotation.T, np.float32)))
        # Symmetric, so its inverse transform is real and the whole transform of that is the whole.
        whole = np.fft.fftn(np.fft.irfftn(half, s=shape, axes=(0, 1, 2))).real
        yield np.fft.fftshift(whole).astype(np.float32)


def _ahead(function: Callable[[np.ndarray], np.ndarray], items: np.ndarray) -> Iterator[np.ndarray]:
    """Yield results in order, while the next few are computed."""
    pool = ThreadPoolExecutor(_THREADS)
    waiting: deque[Future[np.ndarray]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * _THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _taps(fraction: Array) -> Array:
    """Return weights of the voxels -7 to 8 around a position this far above voxel 0."""
    t = fraction - jnp.arange(1 - _HALF, _HALF + 1, dtype=fraction.dtype)
    window = jnp.i0(_BETA * jnp.sqrt(jnp.maximum(1 - jnp.square(t / _HALF), 0)))
    taps = jnp.sinc(t) * window
    return taps / taps.sum()


@functools.partial(jax.jit, static_argnames="edge")
def _interpolated(block: Array, fractions: Array, edge: int) -> jax.Array:
    """Return the weighted sums over 16 voxels along each axis, as shifted additions."""
    result = jnp.asarray(block)
    for axis in range(3):
        taps = _taps(fractions[axis])
        parts = [jax.lax.slice_in_dim(result, k, k + edge, axis=axis) for k in range(2 * _HALF)]
        sums = functools.reduce(jnp.add, [taps[k] * part for k, part in enumerate(parts)])
        # One axis after the other: merged into one loop, sums would be computed again.
        result = jax.lax.optimization_barrier(sums)
    return result


def _cut(volume: Readable | Array, where: np.ndarray, edge: int) -> np.ndarray | None:
    """Return the interpolated box; None if nothing of it is inside the volume."""
    whole = np.floor(where)
    first = whole.astype(np.int64) - edge // 2 - (_HALF - 1)
    last = first + edge + 2 * _HALF - 1
    low, high = np.maximum(first, 0), np.minimum(last, volume.shape)
    if np.any(low >= high):
        return None
    part = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    block = np.asarray(volume[part], np.float32)
    if not np.isfinite(block.sum()):
        finite = np.isfinite(block)
        block = np.where(finite, block, block[finite].mean() if finite.any() else np.float32(0))
    if np.any(low > first) or np.any(high < last):
        widths = [(int(a), int(b)) for a, b in zip(low - first, last - high, strict=True)]
        block = np.pad(block, widths, constant_values=float(block.mean(dtype=np.float64)))
    fractions = where - whole
    if not fractions.any():
        middle = slice(_HALF - 1, _HALF - 1 + edge)
        return block[middle, middle, middle]
    return np.asarray(_interpolated(block, fractions.astype(np.float32), edge))


def _inside(where: np.ndarray, edge: int, shape: np.ndarray) -> np.ndarray | None:
    """Return the voxels of the box that are inside the volume; None if all are."""
    first = where - edge // 2
    if np.all(first >= 0) and np.all(first + edge - 1 <= shape - 1):
        return None
    axes = [f + np.arange(edge) for f in first]
    z, y, x = ((a >= 0) & (a <= n - 1) for a, n in zip(axes, shape, strict=True))
    return z[:, None, None] & y[:, None] & x


def _normalized(
    box: np.ndarray, inside: np.ndarray | None, background: np.ndarray, sign: float
) -> np.ndarray:
    if inside is None and background.all():
        known = box
    else:
        chosen = background if inside is None else background & inside
        known = box[chosen]
        if not known.size:
            known = box if inside is None else box[inside]
    if not known.size:
        return np.zeros_like(box)
    mean = float(known.mean(dtype=np.float64))
    centred = known.ravel() - np.float32(mean)
    deviation = float(np.sqrt(np.vdot(centred, centred) / centred.size))
    # What is left of a constant after interpolation is rounding.
    if not deviation > 1e-6 * max(abs(mean), 1e-30):
        return np.zeros_like(box)
    result = (box - np.float32(mean)) * np.float32(sign / deviation)
    if inside is not None:
        result[~inside] = 0.0
    return np.ascontiguousarray(result)
