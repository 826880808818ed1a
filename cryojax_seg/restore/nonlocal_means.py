"""Denoises volumes by non-local means."""

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg.core import LocalOperator
from cryojax_seg.core.neighbourhood import box
from cryojax_seg.core.parameters import exponential, learnable_log
from cryojax_seg.core.types import Features, Volume


class NonLocalMeans(LocalOperator):
    """Averages each voxel with nearby voxels that have similar patches.

    ``sum_d w_d(r) I(r + d) / sum_d w_d(r)`` over offsets d of at most `search` voxels along each
    axis, with ``w_d(r) = exp(-D / strength^2)`` and D the mean squared difference of the patches
    around r and r + d (Buades, Coll & Morel 2005; patches of equal weights as in Darbon et al.
    2008, for cryo-EM). The fast mode of scikit-image's ``denoise_nl_means`` differs: its
    patches lack their first layers, and it leaves out weights below exp(-5).

    In noise of standard deviation s, D is about ``2 s^2`` even for equal signals, so averaging
    starts at a strength of about s. The cost grows with ``(2 search + 1)^3``.

    Args:
        search: search radius along each axis, voxels, 1 or more.
        patch: radius of the patches, which are cubes of edge ``2 patch + 1`` voxels.
        strength: difference between patches that counts as similar, in units of intensity;
            positive, learnable.

    Raises:
        ValueError: for a search below 1, a negative patch, or a strength that is not positive.

    >>> flat = jnp.full((6, 6, 6), 2.0)
    >>> bool(jnp.allclose(NonLocalMeans(1, 1)(flat)[1:5, 1:5, 1:5], 2.0))
    True
    """

    strength = exponential("strength")

    def __init__(self, search: int = 3, patch: int = 1, strength: float | int = 1.0):
        if search < 1:
            raise ValueError(f"search must be 1 voxel or more, got {search}")
        if patch < 0:
            raise ValueError(f"patch must be 0 voxels or more, got {patch}")
        self.search, self.patch = search, patch
        self.log_strength = learnable_log("strength", strength)
        self.halo, self.stride = search + patch, 1

    def __call__(self, volume: Volume) -> Features:
        radius = self.search
        padded = jnp.pad(volume, radius)
        inside = jnp.pad(jnp.ones_like(volume), radius)
        scale = 1 / jnp.square(jnp.asarray(self.strength, volume.dtype))

        # Recompute for the gradient, which would otherwise store the weights of every offset.
        @jax.checkpoint
        def vote(corner):
            there = jax.lax.dynamic_slice(padded, corner, volume.shape)
            distance = box(jnp.square(there - volume), self.patch)
            exists = jax.lax.dynamic_slice(inside, corner, volume.shape)
            weight = exists * jnp.exp(-scale * distance)
            return weight * there, weight

        def add(sums, corner):
            return jax.tree.map(jnp.add, sums, vote(corner)), None

        offsets = np.stack(np.meshgrid(*[np.arange(2 * radius + 1)] * 3, indexing="ij"), -1)
        offsets = offsets.reshape(-1, 3)
        others = offsets[(offsets != radius).any(1)]
        start = volume, jnp.ones_like(volume)  # a voxel has weight 1 for itself
        total, weights = jax.lax.scan(add, start, jnp.asarray(others, jnp.int32))[0]
        return (total / weights)[..., None]
