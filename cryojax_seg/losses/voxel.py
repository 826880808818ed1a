"""Losses that are a weighted mean over voxels; `core.loss` says what all losses share."""

import jax.numpy as jnp

from cryojax_seg.core.loss import (
    VoxelLabels,
    VoxelLogits,
    VoxelWeights,
    annotated,
    log_probability,
    weighted_mean,
)
from cryojax_seg.core.types import Scalar


def focal(
    logits: VoxelLogits, labels: VoxelLabels, weights: VoxelWeights, gamma: float | Scalar = 2.0
) -> Scalar:
    """Cross-entropy that fades for voxels already right: ``-(1 - p)^gamma log p``.

    Lin et al. 2017, "Focal loss for dense object detection", equation 4. ``gamma = 0`` is
    `cross_entropy`. The power is taken of the logarithm, so its gradient is finite for any gamma
    and any saturation.

    >>> from cryojax_seg.core.loss import cross_entropy
    >>> one = jnp.zeros((1, 1)), jnp.zeros(1, int), jnp.ones(1)
    >>> round(float(focal(*one, gamma=1.0) / cross_entropy(*one)), 4)
    0.5
    """
    logits, target, weights = annotated(logits, labels, weights)
    log_p, log_q = log_probability(logits, target)
    return weighted_mean(-jnp.exp(gamma * log_q) * log_p, weights)


def log_mse(logits: VoxelLogits, labels: VoxelLabels, weights: VoxelWeights) -> Scalar:
    """``log mean (target - min(y, 1))^2``, the loss of EMAN2's tomogram annotation network.

    Chen et al. 2017, "Convolutional neural networks for automated annotation of cellular
    cryo-electron tomograms". The output of a linear network that regresses 0 and 1 is
    ``y = logit + 1/2``, so that the label changes where the logit does. The gradient is that of the
    mean square over itself: free of scale. The mean square is kept above 1e-12.

    >>> half = log_mse(jnp.zeros((4, 1)), jnp.zeros(4, int), jnp.ones(4))
    >>> round(float(jnp.exp(half)), 6)
    0.25
    """
    logits, target, weights = annotated(logits, labels, weights)
    error = jnp.square(target - jnp.minimum(logits + 0.5, 1.0)).mean(-1)
    mean = jnp.maximum(weighted_mean(error, weights), 1e-12)
    return jnp.where(weights.sum() > 0, jnp.log(mean), 0.0)
