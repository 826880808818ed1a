"""Losses that compare whole regions: Dice and Tversky, with the weights inside the sums."""

import jax
import jax.numpy as jnp

from cryojax_seg.core.types import Scalar
from cryojax_seg.losses.voxel import Labels, Logits, Weights, annotated


def tversky(
    logits: Logits,
    labels: Labels,
    weights: Weights,
    alpha: float | Scalar = 0.3,
    beta: float | Scalar = 0.7,
    smooth: float | Scalar = 0.5,
) -> Scalar:
    """One minus the Tversky index, averaged over the classes.

    ``T = (TP + s) / (TP + alpha FP + beta FN + s)`` of each class, with ``TP = sum w p y``,
    ``FP = sum w p (1 - y)``, ``FN = sum w (1 - p) y`` over every voxel given, the batch included
    (Salehi et al. 2017). ``beta > alpha`` asks for recall. The smoothing stands in numerator and
    denominator: a class that is absent and not predicted is perfect, and nothing annotated gives
    loss 0 with gradient 0. It is in units of weighted voxels.

    >>> import jax.numpy as jnp
    >>> sure = jnp.array([[50.0], [-50.0]])
    >>> round(float(tversky(sure, jnp.array([1, 0]), jnp.ones(2))), 6)
    0.0
    """
    logits, target, weights = annotated(logits, labels, weights)
    p = jax.nn.sigmoid(logits) if logits.shape[-1] == 1 else jax.nn.softmax(logits, axis=-1)
    voxels = tuple(range(weights.ndim))
    weighted = weights[..., None]
    true = (weighted * p * target).sum(voxels)
    false_positive = (weighted * p * (1.0 - target)).sum(voxels)
    false_negative = (weighted * (1.0 - p) * target).sum(voxels)
    # 1 - T without the difference, which would round: exactly 0 where nothing is wrong.
    wrong = alpha * false_positive + beta * false_negative
    everything = true + wrong + smooth
    return (wrong / jnp.where(everything > 0, everything, 1.0)).mean()


def dice(logits: Logits, labels: Labels, weights: Weights, smooth: float | Scalar = 1.0) -> Scalar:
    """One minus the soft Dice coefficient ``(2 sum w p y + s) / (sum w p + sum w y + s)``.

    Averaged over the classes (Milletari et al. 2016, with plain instead of squared sums): the
    Tversky index with ``alpha = beta = 1/2`` and half the smoothing.

    >>> import jax.numpy as jnp
    >>> wrong = jnp.array([[-50.0], [50.0]])
    >>> round(float(dice(wrong, jnp.array([1, 0]), jnp.ones(2))), 3)     # 1 - s / (2 + s)
    0.667
    """
    return tversky(logits, labels, weights, alpha=0.5, beta=0.5, smooth=smooth / 2)
