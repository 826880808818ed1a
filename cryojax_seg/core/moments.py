"""Mean and contrast around every voxel."""

import jax
import jax.numpy as jnp

from cryojax_seg.core.neighbourhood import gaussian
from cryojax_seg.core.types import Number, Volume


def local_moments(volume: Volume, scale: Number, radius: int) -> tuple[Volume, Volume]:
    """Mean and standard deviation in a Gaussian window around every voxel.

    Args:
        volume: ``(z, y, x)``.
        scale: standard deviation of the window in voxels.
        radius: the window is cut off beyond this many voxels.

    >>> mean, deviation = local_moments(jnp.full((9, 9, 9), 2.0), 1.0, 4)
    >>> round(float(mean[4, 4, 4]), 4), float(deviation[4, 4, 4])
    (2.0, 0.0)
    """
    powers = jnp.stack([volume, jnp.square(volume)])
    mean, square = jax.vmap(lambda v: gaussian(v, scale, radius))(powers)
    variance = square - jnp.square(mean)
    # What is left of two equal numbers after rounding is no variance, and has no square root to
    # differentiate.
    real = variance > 8 * jnp.finfo(volume.dtype).eps * square
    return mean, jnp.where(real, jnp.sqrt(jnp.where(real, variance, 1.0)), 0.0)
