"""Defines segmenters, local operators whose channels are the logits of named classes."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cryojax_seg.core.loss import Objective, combine, cross_entropy, dice, supervised
from cryojax_seg.core.operator import LocalOperator
from cryojax_seg.core.types import Features, Labels, Logits, Volume


class LastLayer(NamedTuple):
    """Holds the linear map of features to logits that a network applies last.

    Attributes:
        kernel: ``(feature, output)``. The outputs repeat over the classes.
        bias: ``(output,)``.
    """

    kernel: nnx.Param
    bias: nnx.Param


class Segmenter(LocalOperator):
    """Abstract base of voxel classifiers. Concrete methods are final: compose them.

    Attributes:
        classes: class names. One name means a sigmoid; several mean a softmax, and the first is
            the background (label 0).

    >>> class Brightest(Segmenter):
    ...     def __init__(self, threshold):
    ...         self.threshold, self.classes = threshold, ("bright",)
    ...         self.halo, self.stride = 0, 1
    ...
    ...     def __call__(self, volume):
    ...         return (volume - self.threshold)[..., None]
    >>> labels(Brightest(1.0)(jnp.array([[[0.0, 2.0]]]))).tolist()
    [[[0, 1]]]
    """

    classes: tuple[str, ...]

    def default_loss(self) -> Objective:
        """Return the objective that training minimises by default.

        It is cross-entropy plus Dice unless a method overrides it.
        """
        return supervised(combine(cross_entropy, dice))

    def logits_at_scales(self, volume: Volume) -> tuple[Features, ...]:
        """Return the logits at each scale that the method computes, finest first.

        Only the finest scale is computed unless a method overrides this.
        """
        return (self(volume),)

    def last_layers(self) -> tuple[LastLayer, ...]:
        """Return the linear maps that are applied last, one for each scale with logits.

        Training begins with the logarithms of the class frequencies in their biases, and folds the
        calibration of the probabilities into them. There are none unless a method overrides this.
        """
        return ()


def probabilities(logits: Logits) -> Logits:
    """Return class probabilities: the sigmoid for one class, the softmax for several.

    >>> float(probabilities(jnp.zeros((1, 1, 1, 1)))[0, 0, 0, 0])
    0.5
    """
    return jax.nn.sigmoid(logits) if logits.shape[-1] == 1 else jax.nn.softmax(logits, axis=-1)


def labels(logits: Logits, thresholds: Sequence[float] = ()) -> Labels:
    """Return the label of each voxel, as NumPy has it for NumPy logits.

    Without thresholds it is the most probable label. A threshold t of class c adds
    ``log((1 - t) / t)`` to its logit before the largest is taken: of class c and the background
    alone, c is chosen where its share of their probability is above t. For one class this is where
    its probability is above t.

    Args:
        logits: ``(z, y, x, class)``.
        thresholds: a number between 0 and 1 for each class except the background; none for 0.5.

    >>> logits = jnp.array([-1.0, 2.0]).reshape(1, 1, 2, 1)
    >>> labels(logits).tolist(), labels(logits, [0.2]).tolist()
    ([[[0, 1]]], [[[1, 1]]])
    """
    one = logits.shape[-1] == 1
    if thresholds:
        t = np.asarray(thresholds, np.float64)
        added = np.log1p(-t) - np.log(t)
        added = added if one else np.concatenate([[0.0], added])
        logits = logits + added.astype(logits.dtype).reshape((1,) * (logits.ndim - 1) + (-1,))
    if one:
        return (logits[..., 0] > 0).astype(jnp.int32)
    return logits.argmax(axis=-1).astype(jnp.int32)


def check_divisible(shape: Sequence[int], stride: int) -> None:
    """Refuse a shape unless every axis is a positive multiple of `stride`.

    Raises:
        ValueError: if an axis is not such a multiple.
    """
    if any(n % stride or n == 0 for n in shape[:3]):
        raise ValueError(
            f"every axis of the volume must be a multiple of the stride {stride}, but its shape is "
            f"{tuple(shape[:3])}; core.apply(...) pads and crops automatically"
        )
