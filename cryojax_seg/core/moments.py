"""Computes local means and standard deviations."""

import jax
import jax.numpy as jnp

from cryojax_seg.core.neighbourhood import gaussian
from cryojax_seg.core.types import Number, Volume


def local_moments(volume: Volume, scale: Number, radius: int) -> tuple[Volume, Volume]:
    """Return the mean and standard deviation in a Gaussian window around every voxel.

    Args:
        volume: ``(z, y, x)``.
        scale: standard deviation of the window in voxels.
        radius: radius in voxels at which the window is truncated.

    >>> mean, deviation = local_moments(jnp.full((9, 9, 9), 2.0), 1.0, 4)
    >>> round(float(mean[4, 4, 4]), 4), float(deviation[4, 4, 4])
    (2.0, 0.0)
    """
    powers = jnp.stack([volume, jnp.square(volume)])
    mean, square = jax.vmap(lambda v: gaussian(v, scale, radius))(powers)
    variance = square - jnp.square(mean)
    # A difference within rounding error is not a variance, and its square root has no useful
    # gradient.
    real = variance > 8 * jnp.finfo(volume.dtype).eps * square
    return mean, jnp.where(real, jnp.sqrt(jnp.where(real, variance, 1.0)), 0.0)
