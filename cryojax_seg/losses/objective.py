"""Objectives that are made of losses: sums, and one loss at several scales."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cryojax_seg.core.loss import Loss, Objective, finite, labels_of
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.core.types import BATCH_AXIS, Annotation, Array, Scalar


def add(*objectives: Objective, factors: Sequence[float] | None = None) -> Objective:
    """The weighted sum of several objectives; factors default to 1.

    >>> from cryojax_seg.losses import cross_entropy, dice, supervised
    >>> both = add(supervised(cross_entropy), supervised(dice), factors=(1.0, 0.5))
    """
    factors = (1.0,) * len(objectives) if factors is None else tuple(factors)
    if not objectives or len(factors) != len(objectives):
        raise ValueError(f"{len(objectives)} objectives need as many factors, got {len(factors)}")

    def total(segmenter: Segmenter, batch: Annotation) -> Scalar:
        parts = [f * one(segmenter, batch) for f, one in zip(factors, objectives, strict=True)]
        return sum(parts[1:], start=parts[0])

    return total


def _enlarge(logits: Array, shape: tuple[int, ...]) -> Array:
    """Each voxel repeated to fill ``(batch, z, y, x)`` of this shape."""
    for axis in (1, 2, 3):
        logits = jnp.repeat(logits, shape[axis] // logits.shape[axis], axis)
    return logits


def deep_supervision(loss: Loss, factors: Sequence[float] = (1.0, 0.5, 0.25)) -> Objective:
    """Applies a loss at every scale of a segmenter; see `core.Segmenter.logits_at_scales`.

    A coarse voxel answers for all voxels of its cube, so its logits are repeated and compared with
    the labels at full resolution. For a mean over voxels that equals averaging labels and weights
    over the cube, and no thin class or single annotated slice is lost to a majority vote or to a
    stride that steps over it.

    Args:
        loss: the loss at every scale.
        factors: its weight at each scale, finest first, divided by their sum; coarser scales than
            there are factors are left out.
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
