"""Segmenters: local operators whose channels are the logits of named classes."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cryojax_seg.core.loss import Objective, combine, cross_entropy, dice, supervised
from cryojax_seg.core.operator import LocalOperator
from cryojax_seg.core.types import Features, Labels, Logits, Volume
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.errors import ParameterError


class Segmenter(LocalOperator):
    """Abstract voxel classifier. Concrete methods are final: compose, do not subclass them.

    Attributes:
        classes: class names. One name means one sigmoid score; several mean a softmax, and the
            first is the background (label 0).
    """

    classes: tuple[str, ...]

    def default_loss(self) -> Objective:
        """The objective that training minimises unless it is told otherwise.

        Cross-entropy plus Dice, unless a method says otherwise.
        """
        return supervised(combine(cross_entropy, dice))

    def logits_at_scales(self, volume: Volume) -> tuple[Features, ...]:
        """Logits at each scale that the method computes, finest first.

        Only the finest, unless a method says otherwise.
        """
        return (self(volume),)

    def logits_given_wedge(self, volume: Volume, wedge: MissingWedge) -> Logits:
        """Logits of a volume with this missing wedge, whose numbers may be traced.

        Training calls it with the wedge of each patch. Most methods ignore the wedge.
        """
        return self(volume)


def probabilities(logits: Logits) -> Logits:
    """Class probabilities: the sigmoid of one class, the softmax over several.

    >>> float(probabilities(jnp.zeros((1, 1, 1, 1)))[0, 0, 0, 0])
    0.5
    """
    return jax.nn.sigmoid(logits) if logits.shape[-1] == 1 else jax.nn.softmax(logits, axis=-1)


def labels(logits: Logits) -> Labels:
    """The most probable label: for one class 1 where the logit is positive, else the argmax.

    >>> labels(jnp.array([-1.0, 2.0]).reshape(1, 1, 2, 1)).tolist()
    [[[0, 1]]]
    """
    if logits.shape[-1] == 1:
        return (logits[..., 0] > 0).astype(jnp.int32)
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def label_names(classes: tuple[str, ...]) -> tuple[str, ...]:
    """The name of each label value, background first.

    >>> label_names(("membrane",))
    ('background', 'membrane')
    """
    return ("background", *classes) if len(classes) == 1 else tuple(classes)


def class_names(names: Sequence[str], highest: int) -> tuple[str, ...]:
    """Return the classes as a segmenter has them, from the names of the labels 1, 2, ...

    Args:
        names: of the labels in order; none to make some up.
        highest: label that occurs, if there are no names.

    Raises:
        ParameterError: if two names are equal.

    >>> class_names(("membrane",), 1), class_names((), 2)
    (('membrane',), ('background', 'class1', 'class2'))
    >>> class_names(("membrane", "microtubule"), 2)
    ('background', 'membrane', 'microtubule')
    """
    if not names:
        names = ("foreground",) if highest <= 1 else [f"class{i + 1}" for i in range(highest)]
    if len(set(names)) < len(names):
        raise ParameterError(f"the names of classes must differ, got {' '.join(names)}", "classes")
    several = len(names) > 1 and names[0] != "background"
    return ("background", *names) if several else tuple(names)


def check_divisible(shape: Sequence[int], stride: int) -> None:
    """Raises a ValueError unless every axis is a multiple of `stride` (at least once)."""
    if any(n % stride or n == 0 for n in shape[:3]):
        raise ValueError(
            f"a volume of shape {tuple(shape[:3])} needs every axis to be a multiple of the "
            f"stride {stride}; core.apply(...) pads and crops for you"
        )
