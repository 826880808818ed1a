"""Shifts volumes by Fourier phases, and rotates them by cubic splines.

The middle of a box is its voxel ``size // 2``, where the zero frequency of a centred transform and
RELION's origin are. The error of a rotation followed by its inverse, as a share of the norm
(measured in the tests, mean of 20 random rotations), is 0.16 % with cubic splines and 0.010 % with
`oversampling` 2 for content up to 0.15 cycles per voxel, and 0.9 % and 0.04 % up to 0.25 cycles per
voxel. Shifts are exact below the Nyquist frequency.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cryojax_seg.core import fourier
from cryojax_seg.core.plain import Shape
from cryojax_seg.core.types import Array, Volume


def shift(volume: Volume, offset: Float[Array, "3"]) -> Volume:
    """Shift a volume by a number of voxels, periodically, exact below the Nyquist frequency.

    The shift is a phase ramp in Fourier space; at the Nyquist frequency of an even axis, which is
    its own conjugate, only its cosine remains. It is differentiable in both arguments.

    Args:
        volume: ``(z, y, x)``.
        offset: voxels along z, y, x; positive values shift towards higher indices.

    >>> import jax.numpy as jnp
    >>> row = shift(jnp.zeros((4, 4, 4)).at[0, 0, 0].set(1.0), jnp.array([0.0, 0.0, 1.0]))[0, 0]
    >>> abs(row).round(5).tolist()
    [0.0, 1.0, 0.0, 0.0]
    """
    volume = jnp.asarray(volume)
    spectrum = fourier.rfftn(volume)
    return fourier.irfftn(
        spectrum * phases(volume.shape, offset).astype(spectrum.dtype), volume.shape
    )


def phases(shape: Shape, offset: Float[Array, "3"]) -> Array:
    """Return the Fourier factors of a shift, by which a spectrum is multiplied; see `shift`.

    >>> import jax.numpy as jnp
    >>> phases((4, 4, 4), jnp.zeros(3)).shape
    (4, 4, 3)
    """
    offset = jnp.asarray(offset)
    factors = []
    for k, size, by in zip(fourier.frequencies(shape), shape, offset, strict=True):
        angle = 2 * jnp.pi * k.astype(offset.dtype) * by
        nyquist = jnp.abs(k) * 2 == 1 if size % 2 == 0 else jnp.zeros(k.shape, bool)
        factors.append(jax.lax.complex(jnp.cos(angle), jnp.where(nyquist, 0.0, -jnp.sin(angle))))
    return factors[0] * factors[1] * factors[2]


@functools.cache
def _prefilter(size: int) -> np.ndarray:
    """Return the matrix from samples to cubic B-spline coefficients, mirrored at its ends."""
    matrix = np.eye(size) * 4 / 6
    for i in range(size):
        for j in (i - 1, i + 1):
            matrix[i, j if 0 <= j < size else 2 * i - j] += 1 / 6
    return np.linalg.inv(matrix) if size > 1 else np.eye(1)


def spline_coefficients(volume: Volume, oversampling: int = 1) -> Float[Array, "_z _y _x"]:
    """Return coefficients of the cubic B-spline through the voxels (Unser 1999, IEEE SPM 16(6):22).

    The prefilter is the inverse of the spline's sampling matrix along each axis, continued by
    mirror images about the outermost voxels, as in `scipy.ndimage.spline_filter` with
    ``mode="mirror"``. It is differentiable.

    Args:
        volume: ``(z, y, x)``.
        oversampling: 1, or a factor by which the volume is first resampled on a finer grid by
            zeros in Fourier space (Fourier interpolation, periodic); takes its cube in memory.

    Raises:
        ValueError: if oversampling is below 1.

    >>> import jax.numpy as jnp
    >>> float(spline_coefficients(jnp.ones((4, 4, 4)))[1, 2, 3].round(4))
    1.0
    """
    if oversampling < 1:
        raise ValueError(f"oversampling must be 1 or more, got {oversampling}")
    volume = jnp.asarray(volume)
    if oversampling > 1:
        volume = _finer(volume, oversampling)
    for axis, size in enumerate(volume.shape):
        matrix = jnp.asarray(_prefilter(size), volume.dtype)
        volume = jnp.moveaxis(jnp.tensordot(matrix, volume, (1, axis)), 0, axis)
    return volume


def _finer(volume: Volume, factor: int) -> Float[Array, "_z _y _x"]:
    """Return the Fourier interpolation on a grid finer by a factor, with the same voxel 0."""
    spectrum = jnp.fft.fftn(volume)
    for axis, size in enumerate(volume.shape):
        half = size // 2
        low, high = jnp.split(spectrum, [half], axis)
        if size % 2 == 0:  # half of the Nyquist frequency to each side
            first, rest = jnp.split(high, [1], axis)
            low, high = (
                jnp.concatenate([low, first / 2], axis),
                jnp.concatenate([first / 2, rest], axis),
            )
        else:
            first, high = jnp.split(high, [1], axis)
            low = jnp.concatenate([low, first], axis)
        shape = list(low.shape)
        shape[axis] = size * factor - low.shape[axis] - high.shape[axis]
        spectrum = jnp.concatenate([low, jnp.zeros(shape, spectrum.dtype), high], axis)
    return jnp.fft.ifftn(spectrum).real * factor**3


def _weights(t: Array) -> tuple[Array, Array, Array, Array]:
    """Return the cubic B-spline at distances 1 + t, t, 1 - t, 2 - t for t from 0 to 1."""
    s = 1 - t
    return s * s * s / 6, 2 / 3 - t * t * (2 - t) / 2, 2 / 3 - s * s * (2 - s) / 2, t * t * t / 6


def resample(
    coefficients: Float[Array, "_z _y _x"],
    rotation: Float[Array, "3 3"],
    offset: Float[Array, "3"],
    shape: Shape | None = None,
    oversampling: int = 1,
) -> Float[Array, "_a _b _c"]:
    """Rotate and shift a volume by its `spline_coefficients`.

    The result is ``out(R r + offset) = volume(r)``, with positions from the middle voxels, and 0
    outside the volume. It is differentiable in all arguments, twice in the pose; rotations may be
    traced, so that one compiled program serves all.

    Args:
        coefficients: coefficients from `spline_coefficients`.
        rotation: rotation matrix in zyx order.
        offset: offset in voxels, zyx.
        shape: shape of the result; by default that of the volume.
        oversampling: the oversampling of the coefficients.

    >>> import jax.numpy as jnp
    >>> coefficients = spline_coefficients(jnp.zeros((5, 5, 5)).at[2, 2, 2].set(1.0))
    >>> moved = resample(coefficients, jnp.eye(3), jnp.array([0.0, 0.0, 1.0]))
    >>> float(moved[2, 2, 3].round(3)), float(moved[2, 2, 2].round(3))
    (1.0, 0.0)
    """
    coefficients = jnp.asarray(coefficients)
    dtype = coefficients.dtype
    source_shape = tuple(n // oversampling for n in coefficients.shape)
    shape = source_shape if shape is None else tuple(shape)
    rotation, offset = jnp.asarray(rotation, dtype), jnp.asarray(offset, dtype)
    axes = [jnp.arange(n, dtype=dtype) - n // 2 - offset[i] for i, n in enumerate(shape)]
    grids = [a.reshape([-1 if i == j else 1 for j in range(3)]) for i, a in enumerate(axes)]
    start, weights, inside = 0, [], jnp.ones(shape, bool)
    for axis, size in enumerate(source_shape):
        # R^T (r - offset), on the grid of the coefficients
        place = sum(rotation[j, axis] * grids[j] for j in range(3)) + size // 2
        inside &= (place >= -1e-4) & (place <= size - 1 + 1e-4)
        place, fine = place * oversampling, coefficients.shape[axis]
        whole = jnp.clip(jnp.floor(jax.lax.stop_gradient(place)), 0, max(fine - 2, 0))
        weights.append(_weights(jnp.clip(place - whole, -1.0, 2.0)))
        start = start * (fine + 3) + whole.astype(jnp.int32)
    # Coefficients mirrored about the outermost voxels, so that no tap needs a test.
    padded = coefficients
    for axis, size in enumerate(coefficients.shape):
        mirrored = np.abs(np.arange(-1, size + 2))
        period = max(2 * size - 2, 1)
        mirrored = mirrored % period
        mirrored = np.minimum(mirrored, period - mirrored) if size > 1 else 0 * mirrored
        padded = jnp.take(padded, mirrored, axis)
    flat, (_, ny, nx) = padded.ravel(), padded.shape
    wz, wy = jnp.stack(weights[0]), jnp.stack(weights[1])

    def row(total, tap):
        i, j = tap // 4, tap % 4
        along = start + (i * ny + j) * nx
        values = sum(weights[2][k] * flat[along + k] for k in range(4))
        return total + wz[i] * wy[j] * values, None

    # One row of taps after the other: unrolled, the gradient compiles and runs slower.
    taps = jnp.arange(16, dtype=jnp.int32)
    total, _ = jax.lax.scan(row, jnp.zeros(shape, dtype), taps)
    return jnp.where(inside, total, 0.0)


def rotate(
    volume: Volume,
    rotation: Float[Array, "3 3"],
    offset: Float[Array, "3"] | None = None,
    oversampling: int = 1,
) -> Float[Array, "_a _b _c"]:
    """Rotate a volume about its middle voxel and then shift it, with 0 from outside.

    Its wedge rotates with it by ``wedge.rotate(rotation)``.

    Args:
        volume: ``(z, y, x)``; corners that are not 0 may be cut off.
        rotation: rotation matrix in zyx order, ``result = R @ volume``.
        offset: offset in voxels, zyx; none by default.
        oversampling: 1 for cubic splines alone; with 2, Fourier interpolation to half the voxel
            comes first (8 times the time and memory of the prefilter).

    >>> import jax.numpy as jnp
    >>> dot = jnp.zeros((5, 5, 5)).at[2, 2, 4].set(1.0)
    >>> quarter = jnp.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # x to y
    >>> float(rotate(dot, quarter)[2, 4, 2].round(3))
    1.0
    """
    volume = jnp.asarray(volume)
    offset = jnp.zeros(3, volume.dtype) if offset is None else offset
    coefficients = spline_coefficients(volume, oversampling)
    return resample(coefficients, rotation, offset, oversampling=oversampling)
