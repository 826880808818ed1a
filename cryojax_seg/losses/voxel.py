"""Provides losses that are weighted means over voxels; see `core.loss` for the conventions."""

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
    """Return the focal loss, cross-entropy with less weight on easy voxels.

    It is the weighted mean of ``-(1 - p)^gamma log p``.

    Lin et al. 2017, "Focal loss for dense object detection", equation 4. ``gamma = 0`` gives
    `cross_entropy`. The power is computed from the logarithm, so its gradient is finite for any
    gamma and for saturated logits.

    >>> from cryojax_seg.core.loss import cross_entropy
    >>> one = jnp.zeros((1, 1)), jnp.zeros(1, int), jnp.ones(1)
    >>> round(float(focal(*one, gamma=1.0) / cross_entropy(*one)), 4)
    0.5
    """
    logits, target, weights = annotated(logits, labels, weights)
    log_p, log_q = log_probability(logits, target)
    return weighted_mean(-jnp.exp(gamma * log_q) * log_p, weights)


def log_mse(logits: VoxelLogits, labels: VoxelLabels, weights: VoxelWeights) -> Scalar:
    """Return ``log mean (target - min(y, 1))^2``, the loss of EMAN2's annotation network.

    Chen et al. 2017, "Convolutional neural networks for automated annotation of cellular
    cryo-electron tomograms". The network regresses 0 and 1, so its output is ``y = logit + 1/2``
    and the label changes at logit 0. The gradient does not depend on the scale of the error. The
    mean square is bounded below by 1e-12.

    >>> half = log_mse(jnp.zeros((4, 1)), jnp.zeros(4, int), jnp.ones(4))
    >>> round(float(jnp.exp(half)), 6)
    0.25
    """
    logits, target, weights = annotated(logits, labels, weights)
    error = jnp.square(target - jnp.minimum(logits + 0.5, 1.0)).mean(-1)
    mean = jnp.maximum(weighted_mean(error, weights), 1e-12)
    return jnp.where(weights.sum() > 0, jnp.log(mean), 0.0)
