"""Computes windows over a neighbourhood of every voxel of a volume ``(z, y, x)``.

Gaussians and their derivatives, means over boxes, and the largest and smallest neighbour.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float

from cryojax_seg.core.types import Array, Number, Volume


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _along(volume: Volume, taps: Float[Array, " tap"], axis: int) -> Volume:
    # XLA fuses the shifted sums into one pass over memory, and NaN spreads only by the radius.
    radius, length = taps.shape[0] // 2, volume.shape[axis]
    pad = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
    padded = jnp.pad(volume, pad)
    shifted = (jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(taps.shape[0]))
    return sum((taps[i] * v for i, v in enumerate(shifted)), jnp.zeros_like(volume))


def banded(volume: Volume, taps: Float[Array, " tap"], axis: int) -> Volume:
    """Correlate with taps along one axis, as a product with a banded matrix; zero outside."""
    position = jnp.arange(volume.shape[axis])
    tap = position[None, :] - position[:, None] + taps.shape[0] // 2
    inside = (tap >= 0) & (tap < taps.shape[0])
    matrix = jnp.where(inside, taps[jnp.clip(tap, 0, taps.shape[0] - 1)], 0)
    return jnp.moveaxis(jnp.tensordot(matrix, volume, ((1,), (axis,))), 0, axis)


@_along.defjvp
def _along_jvp(axis, primals, tangents):
    # The transpose of the shifts would unroll into hundreds of additions that take seconds to
    # compile. A matrix product has cheap derivatives and is as fast on a patch.
    (volume, taps), (volume_dot, taps_dot) = primals, tangents
    tangent = banded(volume_dot, taps, axis) + banded(volume, taps_dot, axis)
    return _along(volume, taps, axis), tangent


def gaussian_taps(scale: Number, radius: int, order: int = 0, dtype=None) -> Float[Array, " tap"]:
    """Return the taps of a Gaussian or of its derivative of this order.

    Correlation with them is exact for polynomials up to degree `order`: taps of order 0 sum to 1,
    taps of order 1 differentiate a linear function exactly, taps of order 2 a parabola.

    Args:
        scale: standard deviation in voxels; differentiable.
        radius: taps extend from ``-radius`` to ``radius``.
        order: 0, 1 or 2.

    >>> [round(float(t), 3) for t in gaussian_taps(1.0, 1)]
    [0.274, 0.452, 0.274]
    """
    scale = jnp.asarray(scale, dtype)
    offset = jnp.arange(-radius, radius + 1).astype(scale.dtype)
    weight = jnp.exp(-0.5 * jnp.square(offset / scale))
    weight = weight / weight.sum()
    if order == 0:
        return weight
    second_moment = (weight * jnp.square(offset)).sum()
    if order == 1:
        return weight * offset / second_moment
    curve = weight * (jnp.square(offset) - second_moment)
    return 2.0 * curve / (curve * jnp.square(offset)).sum()


def gaussian(
    volume: Volume, scale: Number, radius: int, orders: tuple[int, int, int] = (0, 0, 0)
) -> Volume:
    """Smooth a volume with a Gaussian or its derivative; the volume is zero outside.

    Args:
        volume: ``(z, y, x)``.
        scale: standard deviation in voxels; differentiable.
        radius: radius in voxels at which the window is truncated, which makes it exactly local.
        orders: order of the derivative along z, y and x; 0, 1 or 2 each.

    >>> import jax.numpy as jnp
    >>> x = jnp.broadcast_to(jnp.arange(9.0), (9, 9, 9))
    >>> round(float(gaussian(x, 1.0, 4, (0, 0, 1))[4, 4, 4]), 4)
    1.0
    """
    for axis, order in enumerate(orders):
        volume = _along(volume, gaussian_taps(scale, radius, order, volume.dtype), axis)
    return volume


def box(volume: Volume, radius: int) -> Volume:
    """Average over the cube of edge ``2 radius + 1`` around every voxel; zero outside the volume.

    >>> import jax.numpy as jnp
    >>> float(box(jnp.ones((5, 5, 5)), 1)[2, 2, 2])
    1.0
    """
    taps = jnp.full(2 * radius + 1, 1 / (2 * radius + 1), volume.dtype)
    for axis in range(3):
        volume = _along(volume, taps, axis)
    return volume


def _largest(volume: Volume, axis: int) -> Volume:
    pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
    padded = jnp.pad(volume, pad, constant_values=-jnp.inf)
    n = volume.shape[axis]
    below = jax.lax.slice_in_dim(padded, 0, n, axis=axis)
    above = jax.lax.slice_in_dim(padded, 2, n + 2, axis=axis)
    return jnp.maximum(jnp.maximum(below, volume), above)


def dilate(volume: Volume, connectivity: int = 3) -> Volume:
    """Return the largest value among each voxel and its neighbours.

    Args:
        volume: ``(z, y, x)``, any real values.
        connectivity: 1 for the 6 face neighbours, 3 for all 26.

    >>> import jax.numpy as jnp
    >>> v = jnp.zeros((3, 3, 3)).at[1, 1, 1].set(1.0)
    >>> float(dilate(v).sum()), float(dilate(v, connectivity=1).sum())
    (27.0, 7.0)
    """
    if connectivity == 3:
        for axis in range(3):
            volume = _largest(volume, axis)
        return volume
    if connectivity == 1:
        z, y, x = (_largest(volume, axis) for axis in range(3))
        return jnp.maximum(jnp.maximum(z, y), x)
    raise ValueError(
        f"connectivity must be 1 (faces) or 3 (faces, edges and corners), not {connectivity}"
    )


def erode(volume: Volume, connectivity: int = 3) -> Volume:
    """Return the smallest value among each voxel and its neighbours; see `dilate`."""
    return -dilate(-volume, connectivity)
