"""Makes Gaussian random fields as sums of plane waves, which are smooth and need no grid."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cryojax_seg.core.types import Array, Key
from cryojax_seg.simulate.surfaces import floats
from cryojax_seg.simulate.types import Points, Values


def random_waves(
    key: Key, wavelength: float, count: int, spread: float = 0.1
) -> tuple[Float[Array, "count 3"], Float[Array, " count"]]:
    """Draw wave vectors of evenly spread directions and of lengths near ``2 pi / wavelength``.

    Args:
        key: random key of the lengths and phases; the directions follow the golden angle.
        wavelength: angstrom.
        count: number of waves.
        spread: relative standard deviation of the lengths.

    Returns:
        wave vectors in radians per angstrom (zyx) and phases.
    """
    up = (np.arange(count) + 0.5) / count  # a half sphere: k and -k are the same wave
    azimuth = np.arange(count) * math.pi * (3 - math.sqrt(5))
    out = np.sqrt(1 - up**2)
    directions = np.stack([up, out * np.sin(azimuth), out * np.cos(azimuth)], -1)
    lengths_key, phases_key = jax.random.split(key)
    lengths = 1 + spread * jax.random.truncated_normal(lengths_key, -2.0, 2.0, (count, 1))
    phases = jax.random.uniform(phases_key, (count,), maxval=2 * math.pi)
    return jnp.asarray(directions, lengths.dtype) * lengths * (2 * math.pi / wavelength), phases


def wave_field(
    points: Points, vectors: Float[Array, "count 3"], phases: Float[Array, " count"]
) -> tuple[Values, tuple[Values, Values, Values]]:
    """Return the field ``sqrt(2/count) sum cos(k . p + phase)`` and its gradient (zyx).

    Its variance is 1. Waves are added one at a time, in both directions of differentiation, so that
    memory does not grow with their number.
    """
    points, vectors, phases = floats(points, vectors, phases)
    z, y, x = points[..., 0], points[..., 1], points[..., 2]

    @jax.checkpoint
    def add(total, wave):
        (kz, ky, kx), phase = wave
        angle = kz * z + ky * y + kx * x + phase
        field, gz, gy, gx = total
        sine = jnp.sin(angle)
        return (field + jnp.cos(angle), gz - kz * sine, gy - ky * sine, gx - kx * sine), None

    zero = jnp.zeros_like(z)
    waves = ((vectors[:, 0], vectors[:, 1], vectors[:, 2]), phases)
    (field, *slope), _ = jax.lax.scan(add, (zero, zero, zero, zero), waves)
    scale = math.sqrt(2 / phases.size)
    return scale * field, (scale * slope[0], scale * slope[1], scale * slope[2])
