"""Smooths volumes by anisotropic diffusion, which preserves edges."""

import jax
import jax.numpy as jnp

from cryojax_seg.core import LocalOperator
from cryojax_seg.core.parameters import exponential, learnable_log
from cryojax_seg.core.types import Features, Scalar, Volume

FASTEST = 1 / 6


class AnisotropicDiffusion(LocalOperator):
    """Smooths by diffusion that stops at edges (Perona & Malik 1990, equations 7 to 10, in 3D).

    ``I <- I + rate sum_n g(I_n - I) (I_n - I)`` over the 6 neighbours n, with
    ``g(d) = exp(-(d / contrast)^2)``; there is no flow through the faces of the volume.

    Args:
        steps: number of iterations, which is also the halo in voxels.
        contrast: difference of neighbours above which an edge is preserved; positive, learnable.
        rate: step size, above 0 and at most 1/6, the limit of stability; learnable.

    Raises:
        ValueError: for no steps, a contrast that is not positive, or another rate.

    >>> flat = jnp.full((4, 4, 4), 2.0)
    >>> bool((AnisotropicDiffusion(3)(flat)[..., 0] == flat).all())
    True
    """

    contrast = exponential("contrast")

    def __init__(self, steps: int = 8, contrast: float | int = 2.0, rate: float = 0.125):
        if steps < 1:
            raise ValueError(f"steps must be 1 or more, got {steps}")
        if not 0 < rate <= FASTEST + 1e-6:
            raise ValueError(f"rate must be above 0 and at most 1/6, got {rate}")
        self.steps = steps
        self.log_contrast = learnable_log("contrast", contrast)
        self.log_rate = learnable_log("rate", rate)
        self.halo, self.stride = steps, 1

    @property
    def rate(self) -> Scalar:
        return jnp.minimum(jnp.exp(self.log_rate[...]), FASTEST)

    def __call__(self, volume: Volume) -> Features:
        contrast = jnp.asarray(self.contrast, volume.dtype)
        rate = jnp.asarray(self.rate, volume.dtype)

        def step(v, _):
            change = jnp.zeros_like(v)
            for axis in range(3):
                d = jnp.diff(v, axis=axis)
                flow = d * jnp.exp(-jnp.square(d / contrast))
                before = [(1, 0) if a == axis else (0, 0) for a in range(3)]
                after = [(0, 1) if a == axis else (0, 0) for a in range(3)]
                change = change + jnp.pad(flow, after) - jnp.pad(flow, before)
            return v + rate * change, None

        return jax.lax.scan(jax.checkpoint(step), volume, None, length=self.steps)[0][..., None]
