"""Smooths volumes with a Gaussian."""

from cryojax_seg.core import LocalOperator
from cryojax_seg.core.neighbourhood import gaussian
from cryojax_seg.core.parameters import exponential, learnable_log, window_radii
from cryojax_seg.core.types import Features, Volume


class Gaussian(LocalOperator):
    """Filters with a Gaussian window whose scale can be learned.

    Args:
        scale: standard deviation in voxels, positive.
        radius: radius in voxels at which the window is truncated; 4 initial scales by default.

    Raises:
        ValueError: for a scale that is not positive.

    >>> import jax.numpy as jnp
    >>> spike = jnp.zeros((9, 9, 9)).at[4, 4, 4].set(1.0)
    >>> round(float(Gaussian(1.0)(spike)[4, 4, 4, 0]), 4)        # (2 pi)^(-3/2)
    0.0635
    """

    scale = exponential("scale")

    def __init__(self, scale: float | int = 1.0, radius: int | None = None):
        self.log_scale = learnable_log("scale", scale)
        (self.radius,) = window_radii("scale", (scale,), None if radius is None else (radius,))
        self.halo, self.stride = self.radius, 1

    def __call__(self, volume: Volume) -> Features:
        return gaussian(volume, self.scale, self.radius)[..., None]
