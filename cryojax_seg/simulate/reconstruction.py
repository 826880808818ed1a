"""Reconstructs a volume from a tilt series, by weighted back-projection or SIRT.

Both are linear in the images, differentiable in images and angles, and can be compiled.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cryojax_seg.core.plain import Shape, TiltAxis
from cryojax_seg.core.types import Array, Volume
from cryojax_seg.simulate.projection import Angles, Images, back_project, orient, project

Filter = Literal["ramp", "hamming", "sirt"]


def angular_weights(angles: Angles) -> Float[Array, " tilt"]:
    """Return the angle in radians that each tilt represents, halfway to its neighbours.

    The two tilts at the ends of the range represent as much beyond the end as within. If no wedge
    is missing they are each other's neighbours, because tilts of 0 and 180 degrees are equivalent.

    >>> np.rad2deg(angular_weights(jnp.array([0.0, 3.0, -3.0, 9.0]))).round(3).tolist()
    [3.0, 4.5, 3.0, 6.0]
    """
    angles = jnp.asarray(angles)
    order = jnp.argsort(angles)
    ranked = angles[order]
    gaps = jnp.diff(ranked)
    around = 180 - (ranked[-1] - ranked[0])
    before = jnp.concatenate([jnp.minimum(around, gaps[0])[None], gaps])
    after = jnp.concatenate([gaps, jnp.minimum(around, gaps[-1])[None]])
    return jnp.deg2rad(jnp.zeros_like(angles).at[order].set((before + after) / 2))


def row_filter(width: int, kind: Filter, iterations: int = 20) -> Float[np.ndarray, " k"]:
    """Return the gain of each frequency across the tilt axis, for rows padded to twice `width`.

    "ramp" is ``|k|`` in cycles per voxel, as the transform of its band-limited kernel, which
    preserves the mean (Kak & Slaney 1988, equation 3.61). "hamming" multiplies it by
    ``0.54 + 0.46 cos 2 pi k``. "sirt" multiplies it by ``1 - (1 - c)^n`` with
    ``c = min(1, 1 / (width |k|))``. This is the share of each frequency that n Landweber iterations
    recover when back-projection weighs it by ``1 / |k|`` and the step is the largest stable one
    (Zeng 2012), so few iterations give smooth volumes.
    """
    size = 2 * width
    distance = np.minimum(np.arange(size), size - np.arange(size))
    kernel = np.where(distance % 2 == 1, -1 / (np.pi * np.maximum(distance, 1)) ** 2, 0.0)
    kernel[0] = 0.25
    ramp = np.fft.rfft(kernel).real
    k = np.fft.rfftfreq(size)
    match kind:
        case "ramp":
            return ramp
        case "hamming":
            return ramp * (0.54 + 0.46 * np.cos(2 * np.pi * k))
        case "sirt":
            share = np.minimum(1, 1 / (width * np.maximum(k, 1e-9)))
            return ramp * (1 - (1 - share) ** iterations)
    raise ValueError(f"filter {kind!r} must be 'ramp', 'hamming' or 'sirt'")


def weighted_back_projection(
    images: Images,
    angles: Angles,
    shape: Shape,
    filter: Filter = "ramp",
    tilt_axis: TiltAxis = "y",
    iterations: int = 20,
) -> Volume:
    """Return the filtered back-projection of images with `angular_weights`.

    A tilt range of 180 degrees recovers the density on its own scale.

    Args:
        images: ``(tilt, y, x)``, density times voxels, as `project` returns them.
        angles: degrees, in any order and spacing.
        shape: (z, y, x) of the volume.
        filter: "ramp", "hamming" or "sirt", see `row_filter`.
        tilt_axis: "y" or "x".
        iterations: of the "sirt" filter.

    >>> images = jnp.zeros((60, 9, 9)).at[:, 4, 4].set(1.0)
    >>> volume = weighted_back_projection(images, jnp.arange(-90.0, 90.0, 3.0), (9, 9, 9))
    >>> [int(i) for i in jnp.unravel_index(volume.argmax(), volume.shape)]
    [4, 4, 4]
    """
    rows = orient(images, tilt_axis)
    width = rows.shape[1]
    gain = jnp.asarray(row_filter(width, filter, iterations), rows.dtype)
    weights = angular_weights(jnp.asarray(angles, rows.dtype))
    spectrum = jnp.fft.rfft(rows, 2 * width, axis=1)
    spectrum *= (weights[:, None] * gain[None, :])[:, :, None].astype(spectrum.dtype)
    filtered = jnp.fft.irfft(spectrum, 2 * width, axis=1)[:, :width]
    return back_project(orient(filtered, tilt_axis), angles, shape, tilt_axis)


def sirt(
    images: Images,
    angles: Angles,
    shape: Shape,
    iterations: int = 20,
    tilt_axis: TiltAxis = "y",
) -> tuple[Volume, Float[Array, " iteration"]]:
    """Return the simultaneous iterative reconstruction, ``x += C A^T R (b - A x)`` from 0.

    R and C divide by the row and column sums of the projector A, which makes a step of 1 stable
    (Gregor & Benson 2008). Iterations are recomputed for gradients, so that memory holds one.

    Args:
        images: ``(tilt, y, x)``, density times voxels.
        angles: degrees.
        shape: (z, y, x) of the volume.
        iterations: number of iterations.
        tilt_axis: "y" or "x".

    Returns:
        the volume, and the residual ``sqrt(mean((b - A x)^2))`` before each iteration.
    """

    def inverse(sums):
        # Rays that graze a corner have tiny sums, whose inverse would amplify noise.
        return jnp.where(sums > 1e-3, 1 / jnp.where(sums > 1e-3, sums, 1.0), 0.0)

    images = jnp.asarray(images)
    row = inverse(project(jnp.ones(shape, images.dtype), angles, tilt_axis))
    column = inverse(back_project(jnp.ones_like(images), angles, shape, tilt_axis))

    @jax.checkpoint
    def step(volume, _):
        rest = images - project(volume, angles, tilt_axis)
        update = column * back_project(row * rest, angles, shape, tilt_axis)
        return volume + update, jnp.sqrt(jnp.mean(jnp.square(rest)))

    return jax.lax.scan(step, jnp.zeros(shape, images.dtype), length=iterations)
