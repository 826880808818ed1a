"""Segments by hysteresis thresholding: weak structure counts where it is connected to strong."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from cryojax_seg.core.neighbourhood import dilate
from cryojax_seg.core.parameters import exponential, learnable, learnable_log, one_class
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.core.types import Logits, Volume


class Hysteresis(Segmenter):
    """Selects voxels above `low` that are connected to a voxel above `high`.

    The logits are a grey-scale geodesic reconstruction (Vincent 1993) of the scores
    ``H = (I - high) / softness`` under the mask ``L = (I - low) / softness``:
    ``m_0 = min(H, L)``, ``m_{t+1} = min(dilate(m_t), L)``. The sigmoid is monotonic, so this is
    the reconstruction of ``sigmoid(H)`` under ``sigmoid(L)`` without saturation. For any softness,
    the logit is positive exactly where the classical algorithm, limited to paths of `steps` voxels,
    selects a voxel; the gradient flows to the weakest voxel of the path.

    Args:
        low: threshold for structure.
        high: threshold for the seeds.
        softness: intensity over which the probability turns from 1/2 to 0.73; positive.
        steps: the longest path to a seed, in voxels.
        connectivity: 1 for the 6 face neighbours, 3 for all 26.
        classes: the name of the class.

    Raises:
        ValueError: for no steps, another connectivity, a softness that is not positive, or several
            classes.

    >>> volume = jnp.array([[[1.5, 1.5, 2.5, 0.0, 1.5]]])
    >>> (Hysteresis(low=1.0, high=2.0)(volume)[0, 0, :, 0] > 0).tolist()
    [True, True, True, False, False]
    """

    softness = exponential("softness")

    def __init__(
        self,
        low: ArrayLike = 1.0,
        high: ArrayLike = 2.0,
        softness: ArrayLike = 0.5,
        steps: int = 8,
        connectivity: int = 1,
        classes: Sequence[str] = ("foreground",),
    ):
        if steps < 1:
            raise ValueError(f"steps must be 1 or more, not {steps}")
        if connectivity not in (1, 3):
            raise ValueError(f"connectivity must be 1 (faces) or 3 (all 26), not {connectivity}")
        self.steps = steps
        self.connectivity = connectivity
        self.halo, self.stride = steps, 1
        self.classes = one_class("Hysteresis", classes)
        self.low = learnable(low)
        self.high = learnable(high)
        self.log_softness = learnable_log("softness", softness)

    def __call__(self, volume: Volume) -> Logits:
        mask = (volume - self.low[...]) / self.softness
        seeds = (volume - self.high[...]) / self.softness

        def step(marker, _):
            return jnp.minimum(dilate(marker, self.connectivity), mask), None

        marker, _ = jax.lax.scan(step, jnp.minimum(seeds, mask), length=self.steps)
        return marker[..., None]
