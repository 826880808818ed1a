"""Resamples volumes to another voxel size by a rational factor, with filters of finite support.

``p`` new voxels cover the same length as ``q`` old ones, and the first of both begin at the same
edge. The weights of the filters therefore repeat after q old and p new voxels, so a block that
starts at a multiple of q is resampled exactly as in the whole volume.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cryojax_seg.core.blocks import Readable, mirror, read, release
from cryojax_seg.core.types import Array, Features, Volume

TOLERANCE = 0.01  # of a factor
_HALF = 4  # half-width of the low-pass, voxels of the coarser grid
_BETA = 5.0  # of its Kaiser window
_LONGEST = 4096  # old voxels after which the weights repeat


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Says that `new` voxels of one grid cover as much of an axis as `old` voxels of another.

    >>> Ratio(2, 3).factor < 1, Ratio(2, 3).length(9), Ratio(2, 3).reach
    (True, 6, 6)
    """

    new: int
    old: int

    @property
    def factor(self) -> float:
        return self.new / self.old

    @property
    def reach(self) -> int:
        """Return the number of old voxels on each side that the low-pass filter reads."""
        return 0 if self.new == self.old else math.ceil(_HALF * max(1.0, self.old / self.new))

    def length(self, old: int) -> int:
        """Return the number of new voxels that fit into `old` voxels, at least 1."""
        return max(old * self.new // self.old, 1)

    def within(self, start: int, stop: int) -> tuple[int, int]:
        """Return the first new voxel inside a span of old voxels and the one after the last.

        >>> Ratio(2, 3).within(1, 6)
        (1, 4)
        """
        first = -(-start * self.new // self.old)
        return first, max(stop * self.new // self.old, first + 1)


def ratios(
    factor: Sequence[float], stride: int = 1, tolerance: float = TOLERANCE
) -> tuple[Ratio, ...]:
    """Return the ratios near these factors with the fewest old voxels, equally many on each axis.

    Args:
        factor: new voxels for each old voxel, along each axis.
        stride: the numbers of new voxels are multiples of it.
        tolerance: largest relative difference from a factor.

    Raises:
        ValueError: for a factor that is not positive, or so small or large that there is no ratio.

    >>> ratios((0.7, 0.7, 0.7), stride=8)[0]
    Ratio(new=16, old=23)
    """
    if not all(math.isfinite(f) and f > 0 for f in factor):
        raise ValueError(f"factor must be positive numbers, got {tuple(factor)}")
    for old in range(1, _LONGEST + 1):
        new = [stride * max(round(f * old / stride), 1) for f in factor]
        if all(abs(n / old / f - 1) <= tolerance for n, f in zip(new, factor, strict=True)):
            return tuple(Ratio(n, old) for n in new)
    raise ValueError(f"factor {tuple(factor)} is no ratio of at most {_LONGEST} voxels")


@functools.lru_cache(maxsize=64)
def _low_pass(ratio: Ratio) -> tuple[np.ndarray, np.ndarray]:
    """Return the first old voxel and the weights ``(new, tap)`` of each new voxel of a period.

    The filter is a sinc that passes what both grids can represent, times a Kaiser window; the
    weights of each new voxel add up to 1.
    """
    first, rest = _positions(ratio.new, ratio.old)
    if ratio.new == ratio.old:
        return first, np.ones((ratio.new, 1), np.float32)
    pass_band = min(1.0, ratio.factor)
    taps = np.arange(1 - ratio.reach, ratio.reach + 1)
    distance = taps - rest[:, None]
    inside = np.clip(1 - (distance * pass_band / _HALF) ** 2, 0, None)
    weights = np.sinc(distance * pass_band) * np.i0(_BETA * np.sqrt(inside)) * (inside > 0)
    weights /= weights.sum(1, keepdims=True)
    return first + taps[0], weights.astype(np.float32)


@functools.lru_cache(maxsize=64)
def _linear(ratio: Ratio) -> tuple[np.ndarray, np.ndarray]:
    """Return the first old voxel and the weights of each new voxel of linear interpolation."""
    first, rest = _positions(ratio.new, ratio.old)
    if ratio.new == ratio.old:
        return first, np.ones((ratio.new, 1), np.float32)
    return first, np.stack([1 - rest, rest], 1).astype(np.float32)


def _positions(new: int, old: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where the centres of new voxels lie, as old voxels and fractions of one."""
    numerator = (2 * np.arange(new) + 1) * old - new  # exact, so that all periods are the same
    return numerator // (2 * new), numerator % (2 * new) / (2 * new)


def _taps(table: Any, ratio: Ratio, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Return old voxels and weights ``(voxel, tap)`` of the new voxels ``start..stop - 1``."""
    first, weights = table(ratio)
    period, phase = np.divmod(np.arange(start, stop), ratio.new)
    index = first[phase] + period * ratio.old
    return index[:, None] + np.arange(weights.shape[1]), weights[phase]


def _weighted(array: Any, axis: int, index: np.ndarray, weights: np.ndarray, xp: Any) -> Any:
    """Return the weighted sums of the entries at these indices along an axis."""
    if weights.shape[1] == 1:
        return xp.take(array, index[:, 0], axis)
    shape = [-1 if a == axis else 1 for a in range(array.ndim)]
    total: Any = 0
    for tap in range(weights.shape[1]):
        weight = xp.asarray(weights[:, tap].reshape(shape), array.dtype)
        term = xp.take(array, index[:, tap], axis) * weight
        total = term if tap == 0 else total + term
    return total


def resampled(volume: Volume, by: Sequence[Ratio]) -> Float[Array, "new_z new_y new_x"]:
    """Return a volume on the new grid, without what that grid cannot represent.

    Beyond its faces the volume is mirrored. White noise that fills a part of the frequencies of the
    coarser grid differs from Fourier cropping by 0.004 of its deviation for a part of 0.7, by 0.02
    for 0.8, and by 0.05 for 0.9.

    Args:
        volume: ``(z, y, x)``; each axis is a multiple of its ``old``.
        by: one ratio per axis.

    >>> by = ratios((0.5, 0.5, 0.5))
    >>> resampled(jnp.ones((4, 4, 8)), by).shape
    (2, 2, 4)
    """
    for axis, ratio in enumerate(by):
        size = volume.shape[axis]
        index, weights = _taps(_low_pass, ratio, 0, ratio.length(size))
        volume = _weighted(volume, axis, _mirrored(index, size), weights, jnp)
    return volume


def interpolated(
    channels: Float[Array, "new_z new_y new_x channel"], by: Sequence[Ratio]
) -> Features:
    """Return channels ``(z, y, x, channel)`` of the new grid on the old one, linear in between.

    Args:
        channels: on the new grid; each axis is a multiple of its ``new``.
        by: one ratio per axis.

    >>> channels = np.arange(8, dtype=np.float32).reshape(2, 2, 2, 1)
    >>> interpolated(channels, ratios((1.0, 1.0, 0.5)))[0, 0, :, 0].tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    for axis, ratio in enumerate(by):
        back, size = Ratio(ratio.old, ratio.new), channels.shape[axis]
        index, weights = _taps(_linear, back, 0, back.length(size))
        channels = _weighted(channels, axis, np.clip(index, 0, size - 1), weights, jnp)
    return channels


def matrices(ratio: Ratio, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what `resampled` and `interpolated` do along an axis of this many old voxels.

    Returns:
        the matrices ``(new voxels, old voxels)`` and ``(old voxels, new voxels)``.

    >>> [m.tolist() for m in matrices(Ratio(1, 1), 2)]
    [[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]]
    """
    count = ratio.length(size)
    index, weights = _taps(_low_pass, ratio, 0, count)
    there = _matrix(_mirrored(index, size), weights, size)
    index, weights = _taps(_linear, Ratio(ratio.old, ratio.new), 0, size)
    return there, _matrix(np.clip(index, 0, count - 1), weights, count)


def _matrix(index: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    matrix = np.zeros((len(index), size), np.float32)
    np.add.at(matrix, (np.arange(len(index))[:, None], index), weights)
    return matrix


def _mirrored(index: np.ndarray, size: int) -> np.ndarray:
    return mirror(int(index.min()), int(index.max()) + 1, size)[index - index.min()]


@dataclasses.dataclass(frozen=True)
class Resampled:
    """Represents a volume that is resampled block by block as it is read.

    Attributes:
        volume: the volume ``(z, y, x)`` on the old grid.
        by: one ratio per axis.
        centre, gain: what is read is ``(resampled - centre) * gain``.

    >>> view = Resampled(np.ones((4, 4, 8), np.float32), ratios((0.5, 0.5, 0.5)), gain=3.0)
    >>> view.shape, round(float(view[:1, :1, :1][0, 0, 0]), 5)
    ((2, 2, 4), 3.0)
    """

    volume: Readable
    by: tuple[Ratio, ...]
    centre: float = 0.0
    gain: float = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(r.length(n) for r, n in zip(self.by, self.volume.shape, strict=True))

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32)

    @property
    def ndim(self) -> int:
        return 3

    def __getitem__(self, index: Any) -> np.ndarray:
        index = (*index,) if isinstance(index, tuple) else (index,)
        whole = (*index, *[slice(None)] * (3 - len(index)))
        spans = [s.indices(n)[:2] for s, n in zip(whole, self.shape, strict=True)]
        taps = [_taps(_low_pass, r, *span) for r, span in zip(self.by, spans, strict=True)]
        starts = [int(i.min()) for i, _ in taps]
        block = read(self.volume, starts, [int(i.max()) + 1 for i, _ in taps])
        release(self.volume)
        for axis, ((rows, weights), start) in enumerate(zip(taps, starts, strict=True)):
            block = _weighted(block, axis, rows - start, weights, np)
        return (block - np.float32(self.centre)) * np.float32(self.gain)
