"""Defines the default loss of segmenters, and turns losses into objectives.

A loss is a function ``loss(logits, labels, weights) -> scalar``. ``logits`` has the classes last;
``labels`` and ``weights`` have the same leading axes, with or without a batch axis. One class means
a sigmoid and labels 0 and 1; several classes mean a softmax and labels from 0. A voxel of weight 0
is not annotated: its logit is replaced before anything is computed, so that even a NaN there
affects neither the value nor the gradient. Labels are validated on the host when the data are
prepared, not here.

An objective is a function ``objective(segmenter, batch) -> scalar``; it may use more than labels.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from cryojax_seg.core.types import BATCH_AXIS, Annotation, Array, Scalar

VoxelLogits = Float[Array, "*voxels class"]
VoxelLabels = Int[Array, "*voxels"]
VoxelWeights = Float[Array, "*voxels"]
Loss = Callable[..., Scalar]
Objective = Callable[[Any, Any], Scalar]


def annotated(
    logits: VoxelLogits, labels: VoxelLabels, weights: VoxelWeights
) -> tuple[VoxelLogits, Float[Array, "*voxels class"], VoxelWeights]:
    """Return logits, one-hot targets and weights with every unannotated voxel set to zero.

    For one class the target is the label itself. The inputs are replaced, because ``where`` on an
    output would leave NaN in the gradient.
    """
    known = weights > 0  # False for a NaN weight as well
    labels = jnp.where(known, labels, 0)
    logits = jnp.where(known[..., None], logits, 0.0)
    weights = jnp.where(known, weights, 0.0).astype(logits.dtype)
    if logits.shape[-1] == 1:
        return logits, (labels > 0).astype(logits.dtype)[..., None], weights
    return logits, jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), weights


def weighted_mean(values: VoxelWeights, weights: VoxelWeights) -> Scalar:
    """Return ``sum(w v) / sum(w)``, or 0 with gradient 0 if no voxel is annotated."""
    total = weights.sum()
    return (weights * values).sum() / jnp.where(total > 0, total, 1.0)


def log_probability(logits: VoxelLogits, target: VoxelLogits) -> tuple[VoxelWeights, VoxelWeights]:
    """Return ``log p`` and ``log(1 - p)`` for the probability p of the label, without overflow."""
    if logits.shape[-1] == 1:
        score = jnp.where(target[..., 0] > 0, logits[..., 0], -logits[..., 0])
        return jax.nn.log_sigmoid(score), jax.nn.log_sigmoid(-score)
    # The steps of `jax.nn.softmax`, which are computed once where a loss needs both.
    logits = logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    everything = jnp.log(jnp.exp(logits).sum(-1))
    others = jax.nn.logsumexp(logits, axis=-1, where=target == 0)
    return (logits * target).sum(-1) - everything, others - everything


def cross_entropy(logits: VoxelLogits, labels: VoxelLabels, weights: VoxelWeights) -> Scalar:
    """Return the weighted mean of ``-log p(label)``, in nats.

    >>> import jax.numpy as jnp
    >>> logits = jnp.zeros((2, 2, 2, 3))
    >>> labels, weights = jnp.zeros((2, 2, 2), int), jnp.ones((2, 2, 2))
    >>> round(float(cross_entropy(logits, labels, weights)), 4)      # log 3
    1.0986
    >>> float(cross_entropy(logits * jnp.nan, labels, 0 * weights))
    0.0
    """
    logits, target, weights = annotated(logits, labels, weights)
    return weighted_mean(-log_probability(logits, target)[0], weights)


def tversky(
    logits: VoxelLogits,
    labels: VoxelLabels,
    weights: VoxelWeights,
    alpha: float | Scalar = 0.3,
    beta: float | Scalar = 0.7,
    smooth: float | Scalar = 0.5,
) -> Scalar:
    """Return one minus the Tversky index, averaged over the classes.

    For each class ``T = (TP + s) / (TP + alpha FP + beta FN + s)``, with ``TP = sum w p y``,
    ``FP = sum w p (1 - y)`` and ``FN = sum w (1 - p) y`` over all voxels, including the batch axis
    (Salehi et al. 2017). ``beta > alpha`` favours recall. The smoothing s, in weighted voxels,
    enters numerator and denominator: a class that is absent and not predicted scores 1, and data
    without annotation give loss 0 with gradient 0.

    >>> import jax.numpy as jnp
    >>> sure = jnp.array([[50.0], [-50.0]])
    >>> round(float(tversky(sure, jnp.array([1, 0]), jnp.ones(2))), 6)
    0.0
    """
    logits, target, weights = annotated(logits, labels, weights)
    p = jax.nn.sigmoid(logits) if logits.shape[-1] == 1 else jax.nn.softmax(logits, axis=-1)
    # Products, which are faster than sums over all but the last axis.
    total = partial(jnp.tensordot, weights, axes=weights.ndim, precision="highest")
    both = p * target
    true, false_positive, false_negative = total(both), total(p - both), total(target - both)
    # Compute 1 - T without a difference of nearly equal numbers, so that a perfect score gives 0.
    wrong = alpha * false_positive + beta * false_negative
    everything = true + wrong + smooth
    return (wrong / jnp.where(everything > 0, everything, 1.0)).mean()


def dice(
    logits: VoxelLogits, labels: VoxelLabels, weights: VoxelWeights, smooth: float | Scalar = 1.0
) -> Scalar:
    """Return one minus the soft Dice coefficient, averaged over the classes.

    The coefficient is ``(2 sum w p y + s) / (sum w p + sum w y + s)`` (Milletari et al. 2016, with
    plain instead of squared sums), which equals the Tversky index with ``alpha = beta = 1/2`` and
    half the smoothing.

    >>> import jax.numpy as jnp
    >>> wrong = jnp.array([[-50.0], [50.0]])
    >>> round(float(dice(wrong, jnp.array([1, 0]), jnp.ones(2))), 3)     # 1 - s / (2 + s)
    0.667
    """
    return tversky(logits, labels, weights, alpha=0.5, beta=0.5, smooth=smooth / 2)


def combine(*losses: Loss, factors: Sequence[float] | None = None) -> Loss:
    """Return the weighted sum of several losses; factors default to 1.

    >>> from cryojax_seg.losses import cross_entropy, dice
    >>> import jax.numpy as jnp
    >>> x = jnp.zeros((3, 1)), jnp.zeros(3, int), jnp.ones(3)
    >>> both = combine(cross_entropy, dice, factors=(1.0, 0.5))
    >>> bool(jnp.isclose(both(*x), cross_entropy(*x) + 0.5 * dice(*x)))
    True
    """
    factors = (1.0,) * len(losses) if factors is None else tuple(factors)
    if not losses or len(factors) != len(losses):
        raise ValueError(f"{len(losses)} losses need as many factors, got {len(factors)}")

    def combined(logits, labels, weights):
        parts = [f * loss(logits, labels, weights) for f, loss in zip(factors, losses, strict=True)]
        return sum(parts[1:], start=parts[0])

    return combined


def finite(batch: Annotation) -> jax.Array:
    """Return the volumes of a batch with non-finite voxels set to 0."""
    # 0 is the median of a normalized volume. A NaN voxel would make the gradient of every parameter
    # NaN, even where its cotangent is zero.
    return jnp.where(jnp.isfinite(batch.volume), batch.volume, 0.0)


def labels_of(batch: Annotation) -> tuple[Any, Any]:
    """Return the labels and weights of a batch.

    Raises:
        ValueError: if the batch has no labels.
    """
    if batch.labels is None:
        raise ValueError("a supervised loss needs labels: training.Example(..., labels=...)")
    return batch.labels, batch.weights


def logits_of(segmenter: Any, volumes: Array) -> Any:
    """Return the logits of a batch of volumes."""
    return jax.vmap(segmenter, axis_name=BATCH_AXIS)(volumes)


def supervised(loss: Loss) -> Objective:
    """Return the objective that applies a loss to the logits of all volumes of a batch.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> from cryojax_seg.training import Batch
    >>> volume = jnp.array([-9.0, 9.0]).reshape(1, 1, 1, 2)  # one volume of two voxels
    >>> batch = Batch(volume, (volume > 0).astype(int), jnp.ones_like(volume))
    >>> round(float(supervised(cross_entropy)(GlobalThreshold(0.0), batch)), 4)
    0.0001
    """

    def objective(segmenter: Any, batch: Annotation) -> Scalar:
        return loss(logits_of(segmenter, finite(batch)), *labels_of(batch))

    return objective
