"""Segmenters made of other operators."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cryojax_seg.core.operator import LocalOperator
from cryojax_seg.core.parameters import claim
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.core.types import Array, Logits, Volume
from cryojax_seg.core.wedge import MissingWedge


class Chain(Segmenter):
    """A segmenter behind restorers: each operator reads the output of the one before.

    Args:
        operators: any number of restorers (one channel each), then one segmenter.

    Raises:
        ValueError: if the last operator is not a segmenter, or there is none.

    >>> from cryojax_seg.restore import LocalContrast
    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> chain = Chain([LocalContrast(scale=4.0), GlobalThreshold(1.0)])
    >>> chain.halo == LocalContrast(scale=4.0).halo, chain.classes
    (True, ('foreground',))
    """

    def __init__(self, operators: Sequence[LocalOperator]):
        if len(operators) == 0 or not isinstance(operators[-1], Segmenter):
            raise ValueError("the last operator of a Chain must be a Segmenter")
        self.operators = nnx.List(operators)
        self.halo = sum(operator.halo for operator in operators)
        self.stride = math.lcm(*(operator.stride for operator in operators))
        self.classes = operators[-1].classes

    @property
    def restorers(self) -> Sequence[LocalOperator]:
        """The operators before the segmenter."""
        return list(self.operators)[:-1]

    @property
    def segmenter(self) -> Segmenter:
        """The last operator."""
        segmenter: Any = self.operators[-1]
        return segmenter

    def __call__(self, volume: Volume) -> Logits:
        return self.segmenter(self.restored(volume))

    def restored(self, volume: Volume) -> Volume:
        """The volume ``(z, y, x)`` that the segmenter reads."""
        for operator in self.restorers:
            volume = operator(volume)[..., 0]
        return volume


class Symmetrized(Segmenter):
    """The mean logit over the flips that leave this wedge unchanged.

    Test-time averaging as part of the function, and exact: the data distribution is invariant
    under these flips and no others. One view is computed after another, so that all take the
    memory, and the compilation, of one.
    """

    def __init__(self, segmenter: Segmenter, wedge: MissingWedge):
        self.segmenter = segmenter
        self.wedge = wedge.as_numbers()
        self.flips = wedge.symmetries()
        self.halo, self.stride = segmenter.halo, segmenter.stride
        self.classes = segmenter.classes

    def __call__(self, volume: Volume) -> Logits:
        volume = jnp.asarray(volume)

        def flipped(array: Array, chosen: Array) -> Array:
            for axis in range(3):
                array = jnp.where(chosen[axis], jnp.flip(array, axis), array)
            return array

        def add(total: Logits, chosen: Array) -> tuple[Logits, None]:
            return total + flipped(self.segmenter(flipped(volume, chosen)), chosen), None

        chosen = np.array([[axis in axes for axis in range(3)] for axes in self.flips])
        like = jax.eval_shape(self.segmenter, volume)
        total, _ = jax.lax.scan(add, jnp.zeros(like.shape, like.dtype), chosen)
        return total / len(self.flips)


class Stacked(Segmenter):
    """A learned linear vote over the logits of several segmenters.

    ``logit_c = bias_c + sum_m kernel_{m,c} logit_m``: filter responses become the input channels
    of one classifier, which is how single-class filters tell several classes apart. The initial
    kernel is the mean of the members for one class; for several classes member m votes for class
    ``1 + m mod (K - 1)`` and against the background.
    """

    def __init__(self, segmenters: Sequence[Segmenter], classes: Sequence[str]):
        self.segmenters = nnx.List(segmenters)
        self.halo = max(segmenter.halo for segmenter in segmenters)
        self.stride = math.lcm(*(segmenter.stride for segmenter in segmenters))
        self.classes = tuple(classes)
        inputs = sum(len(segmenter.classes) for segmenter in segmenters)
        claim((inputs, len(classes)))
        kernel = np.zeros((inputs, len(classes)), np.float32)
        if len(classes) == 1:
            kernel[:, 0] = 1.0 / inputs
        else:
            kernel[np.arange(inputs), 1 + np.arange(inputs) % (len(classes) - 1)] = 0.5
            kernel[:, 0] = -0.5 / inputs
        self.kernel = nnx.Param(jnp.asarray(kernel))
        self.bias = nnx.Param(jnp.zeros(len(classes), jnp.float32))

    def __call__(self, volume: Volume) -> Logits:
        responses = jnp.concatenate([s(volume) for s in self.segmenters], axis=-1)
        return responses @ self.kernel[...] + self.bias[...][None, None, None, :]
