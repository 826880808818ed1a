"""Losses that are a weighted mean over voxels.

Everywhere in this package ``logits`` has the classes last, ``labels`` and ``weights`` have the same
leading axes (any number: with or without a batch). One class means a sigmoid and labels 0 and 1,
several mean a softmax and labels from 0. A voxel of weight 0 is not annotated: its logit is
replaced before anything is computed, so that even a NaN there changes neither value nor gradient.
Labels are checked on the host when the data are prepared; here they are trusted.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cryojax_seg.core.types import Scalar

Logits = Float[Array, "*voxels class"]
Labels = Int[Array, "*voxels"]
Weights = Float[Array, "*voxels"]


def annotated(
    logits: Logits, labels: Labels, weights: Weights
) -> tuple[Logits, Float[Array, "*voxels class"], Weights]:
    """Logits, one-hot targets and weights with every unannotated voxel set to zero.

    For one class the target is the label itself. The replacement is made on the inputs because
    ``where`` on an output leaves NaN in the gradient.
    """
    known = weights > 0  # False for a NaN weight as well
    labels = jnp.where(known, labels, 0)
    logits = jnp.where(known[..., None], logits, 0.0)
    weights = jnp.where(known, weights, 0.0).astype(logits.dtype)
    if logits.shape[-1] == 1:
        return logits, (labels > 0).astype(logits.dtype)[..., None], weights
    return logits, jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), weights


def weighted_mean(values: Weights, weights: Weights) -> Scalar:
    """``sum(w v) / sum(w)``, and 0 with gradient 0 where no voxel is annotated."""
    total = weights.sum()
    return (weights * values).sum() / jnp.where(total > 0, total, 1.0)


def _log_probability(logits: Logits, target: Logits) -> tuple[Weights, Weights]:
    """``log p`` and ``log(1 - p)`` of the probability p of the label, exact when saturated."""
    if logits.shape[-1] == 1:
        score = jnp.where(target[..., 0] > 0, logits[..., 0], -logits[..., 0])
        return jax.nn.log_sigmoid(score), jax.nn.log_sigmoid(-score)
    label = target > 0
    everything = jax.nn.logsumexp(logits, axis=-1)
    others = jax.nn.logsumexp(logits, axis=-1, where=~label)
    return (logits * target).sum(-1) - everything, others - everything


def cross_entropy(logits: Logits, labels: Labels, weights: Weights) -> Scalar:
    """Weighted mean of ``-log p(label)`` (nats).

    >>> import jax.numpy as jnp
    >>> logits = jnp.zeros((2, 2, 2, 3))
    >>> labels, weights = jnp.zeros((2, 2, 2), int), jnp.ones((2, 2, 2))
    >>> round(float(cross_entropy(logits, labels, weights)), 4)      # log 3
    1.0986
    >>> float(cross_entropy(logits * jnp.nan, labels, 0 * weights))
    0.0
    """
    logits, target, weights = annotated(logits, labels, weights)
    return weighted_mean(-_log_probability(logits, target)[0], weights)


def focal(logits: Logits, labels: Labels, weights: Weights, gamma: float | Scalar = 2.0) -> Scalar:
    """Cross-entropy that fades for voxels already right: ``-(1 - p)^gamma log p``.

    Lin et al. 2017, "Focal loss for dense object detection", equation 4. ``gamma = 0`` is
    `cross_entropy`. The power is taken of the logarithm, so its gradient is finite for any gamma
    and any saturation.

    >>> import jax.numpy as jnp
    >>> one = jnp.zeros((1, 1)), jnp.zeros(1, int), jnp.ones(1)
    >>> round(float(focal(*one, gamma=1.0) / cross_entropy(*one)), 4)
    0.5
    """
    logits, target, weights = annotated(logits, labels, weights)
    log_p, log_q = _log_probability(logits, target)
    return weighted_mean(-jnp.exp(gamma * log_q) * log_p, weights)


def log_mse(logits: Logits, labels: Labels, weights: Weights) -> Scalar:
    """``log mean (target - min(y, 1))^2``, the loss of EMAN2's tomogram annotation network.

    Chen et al. 2017, "Convolutional neural networks for automated annotation of cellular
    cryo-electron tomograms". The output of a linear network that regresses 0 and 1 is
    ``y = logit + 1/2``, so that the label changes where the logit does. The gradient is that of the
    mean square over itself: free of scale. The mean square is kept above 1e-12.

    >>> import jax.numpy as jnp
    >>> half = log_mse(jnp.zeros((4, 1)), jnp.zeros(4, int), jnp.ones(4))
    >>> round(float(jnp.exp(half)), 6)
    0.25
    """
    logits, target, weights = annotated(logits, labels, weights)
    error = jnp.square(target - jnp.minimum(logits + 0.5, 1.0)).mean(-1)
    mean = jnp.maximum(weighted_mean(error, weights), 1e-12)
    return jnp.where(weights.sum() > 0, jnp.log(mean), 0.0)
