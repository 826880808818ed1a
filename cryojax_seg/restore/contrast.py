"""Normalizes local contrast."""

from jax.typing import ArrayLike

from cryojax_seg.core import LocalOperator
from cryojax_seg.core.moments import local_moments
from cryojax_seg.core.parameters import exponential, learnable_log, window_radii
from cryojax_seg.core.types import Features, Volume


class LocalContrast(LocalOperator):
    """Normalizes local contrast as ``(I - m) / (s + floor)``.

    m and s are the mean and the standard deviation in a Gaussian window.

    Args:
        scale: standard deviation of the window in voxels.
        floor: positive number that limits the gain in regions without contrast.
        radius: radius in voxels at which the window is truncated; 4 initial scales by default.

    Raises:
        ValueError: for a scale or a floor that is not positive.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> flat = jnp.full((9, 9, 9), 3.0)
    >>> round(float(jax.jit(LocalContrast(scale=1.0))(flat)[4, 4, 4, 0]), 4)
    0.0
    """

    scale = exponential("scale")
    floor = exponential("floor")

    def __init__(self, scale: float | int = 8.0, floor: ArrayLike = 0.1, radius: int | None = None):
        self.log_scale = learnable_log("scale", scale)
        self.log_floor = learnable_log("floor", floor)
        radii = None if radius is None else (radius,)
        (self.radius,) = window_radii("scale", (scale,), radii)
        self.halo, self.stride = self.radius, 1

    def __call__(self, volume: Volume) -> Features:
        mean, deviation = local_moments(volume, self.scale, self.radius)
        return ((volume - mean) / (deviation + self.floor))[..., None]
