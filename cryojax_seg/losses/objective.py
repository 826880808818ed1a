"""From losses of logits to objectives of a segmenter: ``objective(segmenter, batch) -> scalar``."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from cryojax_seg.core.segmenter import Segmenter, WedgeAware
from cryojax_seg.core.types import BATCH_AXIS, Annotation, Array, Scalar
from cryojax_seg.losses.overlap import dice
from cryojax_seg.losses.voxel import cross_entropy, log_mse

Loss = Callable[..., Scalar]
Objective = Callable[[Segmenter, Any], Scalar]


def combine(*losses: Loss, factors: Sequence[float] | None = None) -> Loss:
    """The weighted sum of several losses; factors default to 1.

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
    """The volumes of a batch without NaN."""
    # A NaN voxel reads as 0, the median of a normalized volume: multiplied by a zero cotangent it
    # would still make the gradient of every parameter NaN.
    return jnp.where(jnp.isfinite(batch.volume), batch.volume, 0.0)


def logits_of(segmenter: Segmenter, volumes: Array, wedges: Any = None) -> Any:
    """Logits of a batch of volumes; a `core.WedgeAware` segmenter is told the wedge of each."""
    if isinstance(segmenter, WedgeAware) and wedges is not None:
        return jax.vmap(segmenter.under, axis_name=BATCH_AXIS)(volumes, wedges)
    return jax.vmap(segmenter, axis_name=BATCH_AXIS)(volumes)


def supervised(loss: Loss) -> Objective:
    """The objective that applies a loss to the logits of every volume in the batch at once.

    A batch may have a `wedge`, which a segmenter that wants to know it is told.
    """

    def objective(segmenter: Segmenter, batch: Annotation) -> Scalar:
        wedges = getattr(batch, "wedge", None)
        logits = logits_of(segmenter, finite(batch), wedges)
        return loss(logits, batch.labels, batch.weights)

    return objective


def add(*objectives: Objective, factors: Sequence[float] | None = None) -> Objective:
    """The weighted sum of several objectives; factors default to 1.

    >>> both = add(supervised(cross_entropy), supervised(dice), factors=(1.0, 0.5))
    """
    factors = (1.0,) * len(objectives) if factors is None else tuple(factors)
    if not objectives or len(factors) != len(objectives):
        raise ValueError(f"{len(objectives)} objectives need as many factors, got {len(factors)}")

    def total(segmenter: Segmenter, batch: Annotation) -> Scalar:
        parts = [f * one(segmenter, batch) for f, one in zip(factors, objectives, strict=True)]
        return sum(parts[1:], start=parts[0])

    return total


def _enlarge(logits: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Each voxel repeated to fill ``(batch, z, y, x)`` of this shape."""
    for axis in (1, 2, 3):
        logits = jnp.repeat(logits, shape[axis] // logits.shape[axis], axis)
    return logits


def deep_supervision(loss: Loss, factors: Sequence[float] = (1.0, 0.5, 0.25)) -> Objective:
    """Applies a loss at several scales of a segmenter that has ``scales(volume)``.

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
        scales = getattr(segmenter, "scales", None)
        if scales is None:
            raise ValueError(
                f"deep supervision needs a segmenter with scales(volume), and "
                f"{type(segmenter).__name__} has none; use losses.supervised(loss)"
            )
        logits = jax.vmap(scales, axis_name=BATCH_AXIS)(finite(batch))
        used = list(zip(factors, logits, strict=False))
        total = sum(factor for factor, _ in used)
        parts = [
            factor / total * loss(_enlarge(coarse, batch.volume.shape), batch.labels, batch.weights)
            for factor, coarse in used
        ]
        return sum(parts[1:], start=parts[0])

    return objective


def default_objective(segmenter: Segmenter) -> Objective:
    """Cross-entropy plus Dice; the log mean square error for a network with a linear head.

    Networks with outputs at several scales get the same at each.
    """
    if getattr(segmenter, "head", None) == "linear_logmse":
        return supervised(log_mse)
    loss = combine(cross_entropy, dice)
    if getattr(segmenter, "deep_supervision", False):
        return deep_supervision(loss)
    return supervised(loss)
