"""Convolves with large kernels through the FFT.

The work of a sum over neighbours grows with the volume of the kernel, that of the FFT hardly does.
CPU ms of the value and both gradients for two patches of 40^3, as a sum over neighbours (with
oneDNN) and through the FFT:

=============  =========  =========  =========  ==========
channels       3x3x3      5x5x5      7x7x7      13x13x13
=============  =========  =========  =========  ==========
1 to 1         14, 3      65, 4      155, 4     888, 4
1 to 16        20, 36     89, 34
1 to 36                              509, 85    2836, 87
4 to 4                    36, 26     90, 22     457, 28
16 to 16                  179, 367   406, 326   2448, 425
=============  =========  =========  =========  ==========

Results of normally distributed numbers differ from those in float64 by less than 2e-6 of the
largest, as those of the sum do. But each voxel has the rounding of the largest one. A voxel that is
not finite reaches its neighbourhood, as in a sum: it is replaced before the transform.

A whole training step of a `LinearVote`, with two patches of 40^3: 71, 9 at radius 3; 1262, 145 at
radius 6 with 36 classes.

Output channels are computed one after another, so that memory grows with the number of channels and
not with the size of the kernel's spectrum: beside arguments and results there are, for each volume,
the spectra of its input channels and of one output channel, and once those of one output channel's
taps. With gradients there are twice as many.
"""

import jax
import jax.numpy as jnp

from cryojax_seg.core.types import Array, at_least_float32

_AXES = (-3, -2, -1)
# Taps from which the FFT is faster, with few channels (at the input or the output) and with more.
_FEW = 4
_TAPS, _TAPS_OF_MANY = 125, 500


def is_large(kernel: Array) -> bool:
    """Tell whether the FFT is the faster way to convolve with a kernel ``(kz, ky, kx, in, out)``.

    >>> is_large(jnp.zeros((5, 5, 5, 1, 16))), is_large(jnp.zeros((5, 5, 5, 16, 16)))
    (True, False)
    """
    kz, ky, kx, *channels = kernel.shape
    return kz * ky * kx >= (_TAPS if min(channels) <= _FEW else _TAPS_OF_MANY)


def _grid(volume: Array, kernel: Array) -> tuple[int, ...]:
    """Return the edges of the transforms, at which nothing that is kept wraps around."""
    from scipy.fft import next_fast_len

    pairs = zip(volume.shape[:3], kernel.shape[:3], strict=True)
    return tuple(next_fast_len(max(n + k // 2, k), True) for n, k in pairs)  # pyright: ignore


def _before(kernel: Array) -> tuple[int, ...]:
    """Return how many taps are before the centre along each axis."""
    return tuple((k - 1) // 2 for k in kernel.shape[:3])


def _spectra(features: Array, grid: tuple[int, ...]) -> Array:
    """Transform ``(z, y, x, channel)`` to ``(channel, z, y, x // 2 + 1)`` of the grid."""
    return jnp.fft.rfftn(_channels_first(features), grid, _AXES)


def _channels_first(array: Array) -> Array:
    return jnp.moveaxis(array, -1, 0)


def _part(spectra: Array, grid: tuple[int, ...], start: tuple[int, ...], shape) -> Array:
    """Return the part of this shape of the periodic volume that starts at `start`."""
    volume = jnp.fft.irfftn(spectra, grid, _AXES)
    volume = jnp.roll(volume, [-s for s in start], _AXES)
    return volume[..., : shape[0], : shape[1], : shape[2]]


def _finite(volume: Array) -> Array:
    """Return the volume with 0 where it is not finite, since the FFT would spread that."""
    return jnp.where(jnp.isfinite(volume), volume, jnp.zeros((), volume.dtype))


def _reached(voxels: Array, kernel: Array) -> Array:
    """Return which outputs read one of these voxels ``(z, y, x)`` through the kernel."""
    reached = voxels.astype(jnp.float32)
    for axis, (size, before) in enumerate(zip(kernel.shape[:3], _before(kernel), strict=True)):
        window = tuple(size if a == axis else 1 for a in range(3))
        around = tuple((before, size - 1 - before) if a == axis else (0, 0) for a in range(3))
        reached = jax.lax.reduce_window(
            reached, jnp.float32(0), jax.lax.max, window, (1, 1, 1), around
        )
    return reached > 0


def convolve(volume: Array, kernel: Array) -> Array:
    """Return the cross-correlation ``(z, y, x, out)`` with as many zeros around as SAME padding.

    It is NaN where it reads a voxel that is not finite, and nowhere else.
    """
    wide, grid = at_least_float32(volume.dtype), _grid(volume, kernel)
    start = tuple(-n for n in _before(kernel))
    spectra = _spectra(_finite(volume).astype(wide), grid)

    def output(taps: Array) -> Array:
        product = (spectra * _spectra(taps, grid).conj()).sum(0)
        return _part(product, grid, start, volume.shape)

    outputs = jax.lax.map(output, _channels_first(kernel.astype(wide)))
    outputs = jnp.moveaxis(outputs, 0, -1).astype(volume.dtype)
    lost = _reached(~jnp.isfinite(volume).all(-1), kernel)
    return jnp.where(lost[..., None], jnp.full((), jnp.nan, volume.dtype), outputs)


def gradients(volume: Array, kernel: Array, cotangent: Array) -> tuple[Array, Array]:
    """Return the gradients of `convolve` with respect to the volume and the kernel.

    Voxels that are not finite count as 0.
    """
    wide, grid = at_least_float32(volume.dtype), _grid(volume, kernel)
    before = _before(kernel)
    start = tuple(-n for n in before)
    spectra = _spectra(_finite(volume).astype(wide), grid)

    def add(total: Array, output: tuple[Array, Array]) -> tuple[Array, Array]:
        taps, change = output
        changed = jnp.fft.rfftn(change, grid, _AXES)[None]
        to_taps = _part(spectra * changed.conj(), grid, start, kernel.shape[:3])
        return total + changed * _spectra(taps, grid), to_taps

    outputs = (_channels_first(kernel.astype(wide)), _channels_first(cotangent.astype(wide)))
    total, to_kernel = jax.lax.scan(add, jnp.zeros_like(spectra), outputs)
    to_volume = jnp.moveaxis(_part(total, grid, before, volume.shape), 0, -1)
    to_kernel = to_kernel.transpose(2, 3, 4, 1, 0)
    return to_volume.astype(volume.dtype), to_kernel.astype(kernel.dtype)
