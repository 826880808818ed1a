"""Combines objectives, and checks that a batch holds what they need."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg.core.loss import Loss, Objective, VoxelLogits, finite, labels_of
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.core.types import BATCH_AXIS, Annotation, Array, Scalar

_SOURCE = {
    "labels": "labels: training.Example(..., labels=...)",
    "wedge": "the missing wedge of the tomogram: training.Example(..., wedge=MissingWedge(...))",
    "normals": "the normals of the true surfaces: training.Example(..., normals=...)",
    "halves": "the half tomograms: training.Example(..., halves=...)",
    "truth": "the density without noise: training.Example(..., truth=...), of simulations",
    "key": "random keys: training.train gives them, else Batch(..., key=jax.random.split(...))",
}


def require(loss: str, batch: Any, *names: str) -> None:
    """Refuse a batch that lacks one of the named parts, for an error of this loss.

    Raises:
        ValueError: if a part is None.
    """
    for name in names:
        if getattr(batch, name, None) is None:
            raise ValueError(f"losses.{loss} needs {_SOURCE[name]}")


def foreground(logits: VoxelLogits) -> VoxelLogits:
    """Return the probabilities of all classes except the background, with or without a batch."""
    if logits.shape[-1] == 1:
        return jax.nn.sigmoid(logits)
    return jax.nn.softmax(logits, axis=-1)[..., 1:]


def add(*objectives: Objective, factors: Sequence[float] | None = None) -> Objective:
    """Return the weighted sum of several objectives; factors default to 1.

    >>> from cryojax_seg.losses import cross_entropy, dice, supervised
    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> from cryojax_seg.training import Batch
    >>> volume = jnp.zeros((1, 1, 1, 2))
    >>> batch = Batch(volume, volume.astype(int), jnp.ones_like(volume))
    >>> both = add(supervised(cross_entropy), supervised(dice), factors=(1.0, 0.5))
    >>> round(float(both(GlobalThreshold(0.0), batch)), 3)  # log 2 + 1/2 * (1 - 1/2)
    0.943
    """
    factors = (1.0,) * len(objectives) if factors is None else tuple(factors)
    if not objectives or len(factors) != len(objectives):
        raise ValueError(f"{len(objectives)} objectives need as many factors, got {len(factors)}")

    def total(segmenter: Segmenter, batch: Annotation) -> Scalar:
        parts = [f * one(segmenter, batch) for f, one in zip(factors, objectives, strict=True)]
        return sum(parts[1:], start=parts[0])

    return total


def select(objective: Objective, patches: Sequence[int]) -> Objective:
    """Return the objective of some patches of a batch, by their indices.

    >>> from cryojax_seg.losses import cross_entropy, supervised
    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> from cryojax_seg.training import Batch
    >>> volume = jnp.array([[[[9.0]]], [[[-9.0]]]])  # the second patch is labelled wrongly
    >>> batch = Batch(volume, jnp.ones(volume.shape, int), jnp.ones_like(volume))
    >>> first = select(supervised(cross_entropy), [0])
    >>> round(float(first(GlobalThreshold(0.0), batch)), 3)
    0.0
    """
    chosen = np.array(patches, np.int32)

    def of_some(segmenter: Segmenter, batch: Annotation) -> Scalar:
        return objective(segmenter, jax.tree.map(lambda leaf: leaf[chosen], batch))

    return of_some


def _enlarge(logits: Array, shape: tuple[int, ...]) -> Array:
    """Repeat each voxel to fill a ``(batch, z, y, x)`` array of this shape."""
    for axis in (1, 2, 3):
        logits = jnp.repeat(logits, shape[axis] // logits.shape[axis], axis)
    return logits


def deep_supervision(loss: Loss, factors: Sequence[float] = (1.0, 0.5, 0.25)) -> Objective:
    """Return the objective that applies a loss at every scale of a segmenter.

    The scales are those of `core.Segmenter.logits_at_scales`. The logits of a coarse voxel are
    repeated for all voxels of its cube and compared with the labels at full resolution. For a mean
    over voxels this equals averaging labels and weights over the cube; unlike a majority vote or
    subsampling, it loses no thin class and no single annotated slice.

    Args:
        loss: the loss to apply at every scale.
        factors: weights of the scales, finest first, divided by their sum; scales without a factor
            are ignored.

    >>> from flax import nnx
    >>> from cryojax_seg.losses import cross_entropy
    >>> from cryojax_seg.segmenters import UNet
    >>> from cryojax_seg.training import Batch
    >>> net = UNet(2, 2, norm="none", deep_supervision=True, rngs=nnx.Rngs(0))
    >>> volume = jnp.zeros((1, 8, 8, 8))
    >>> batch = Batch(volume, jnp.zeros((1, 8, 8, 8), int), jnp.ones_like(volume))
    >>> round(float(jax.jit(deep_supervision(cross_entropy))(net, batch)), 4)  # log 2
    0.6931
    """

    def objective(segmenter: Segmenter, batch: Annotation) -> Scalar:
        logits = jax.vmap(segmenter.logits_at_scales, axis_name=BATCH_AXIS)(finite(batch))
        used = list(zip(factors, logits, strict=False))
        total = sum(factor for factor, _ in used)
        parts = [
            factor / total * loss(_enlarge(coarse, batch.volume.shape), *labels_of(batch))
            for factor, coarse in used
        ]
        return sum(parts[1:], start=parts[0])

    return objective
