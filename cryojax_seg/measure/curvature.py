"""Computes normals and curvatures of the level sets of a volume from its derivatives."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cryojax_seg.core.neighbourhood import banded, gaussian_taps
from cryojax_seg.core.types import Array, Volume
from cryojax_seg.measure.thickness import Spacing
from cryojax_seg.measure.windows import FIRST, SECOND


class Curvature(NamedTuple):
    """Holds the curvature of the level set through every voxel; 0 where the volume is constant.

    Returned by `level_set_curvature`.

    Attributes:
        mean: half the sum of the principal curvatures, positive for a bright ball on a dark
            background; in one over the unit of the voxel size.
        gaussian: the product of the principal curvatures.
        normal: ``(z, y, x, 3)`` unit vectors (zyx) towards lower values: outwards.
    """

    mean: Volume
    gaussian: Volume
    normal: Float[Array, "z y x 3"]


@partial(jax.jit, static_argnames=("scale", "voxel_size"))
def level_set_curvature(
    volume: Volume, scale: float | int = 2.0, voxel_size: Spacing = (1.0, 1.0, 1.0)
) -> Curvature:
    """Return the curvatures and normals of the level sets of a smoothed volume.

    With F the volume smoothed by a Gaussian, g its gradient and H its Hessian,
    ``mean = (g H g - |g|^2 tr H) / 2 |g|^3`` and ``gaussian = g adj(H) g / |g|^4`` (Goldman 2005,
    Computer Aided Geometric Design 22:632, equations 4.1 and 4.2). It is differentiable. Smoothing
    moves a surface of radius R inwards by ``scale^2 / R``, which makes a mask look more curved.

    Args:
        volume: a probability, a mask, or a signed distance that is positive inside.
        scale: standard deviation of the Gaussian in units of the smallest voxel edge; static under
            `jit`.
        voxel_size: voxel size along z, y, x.

    >>> away = jnp.linalg.norm(jnp.indices((24, 24, 24), dtype=float) - 11.5, axis=0)
    >>> found = level_set_curvature(8.0 - away)
    >>> round(float(found.mean[11, 11, 19] * away[11, 11, 19]), 1)
    1.0
    """
    sizes = [float(v) / min(map(float, voxel_size)) for v in voxel_size]
    radii = [int(np.ceil(4 * scale / s)) for s in sizes]
    padded = jnp.pad(volume, [(r, r) for r in radii], mode="symmetric")
    inner = tuple(slice(r, r + n) for r, n in zip(radii, volume.shape, strict=True))

    def derivative(order: tuple[int, int, int]) -> Array:
        result = padded
        for axis, (r, s) in enumerate(zip(radii, sizes, strict=True)):
            taps = gaussian_taps(scale / s, r, order[axis], volume.dtype)
            result = banded(result, taps, axis) / s ** order[axis]
        return result[inner]

    gz, gy, gx = (derivative(order) for order in FIRST)
    zz, zy, zx, yy, yx, xx = (derivative(order) for order in SECOND)
    squared = gz * gz + gy * gy + gx * gx
    flat = squared <= 1e-10
    squared = jnp.where(flat, 1.0, squared)
    slope = jnp.sqrt(squared)
    bent = gz * (zz * gz + 2 * zy * gy + 2 * zx * gx) + gy * (yy * gy + 2 * yx * gx) + xx * gx * gx
    mean = (bent - squared * (zz + yy + xx)) / (2 * squared * slope)
    adjugate = (
        gz * gz * (yy * xx - yx * yx)
        + gy * gy * (zz * xx - zx * zx)
        + gx * gx * (zz * yy - zy * zy)
        + 2 * gz * gy * (zx * yx - zy * xx)
        + 2 * gz * gx * (zy * yx - zx * yy)
        + 2 * gy * gx * (zy * zx - zz * yx)
    )
    unit = float(min(map(float, voxel_size)))
    normal = -jnp.stack([gz, gy, gx], -1) / slope[..., None]
    return Curvature(
        jnp.where(flat, 0.0, mean) / unit,
        jnp.where(flat, 0.0, adjugate / (squared * squared)) / unit**2,
        jnp.where(flat[..., None], 0.0, normal),
    )
