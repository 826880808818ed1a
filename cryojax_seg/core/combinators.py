"""Combines operators into segmenters."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cryojax_seg.core.operator import LocalOperator
from cryojax_seg.core.parameters import reserve
from cryojax_seg.core.segmenter import LastLayer, Segmenter
from cryojax_seg.core.types import Array, Logits, Volume
from cryojax_seg.core.wedge import MissingWedge


class Chain(Segmenter):
    """Applies restorers and then a segmenter; each operator reads the output of the previous one.

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
        """Return the operators before the segmenter."""
        return list(self.operators)[:-1]

    @property
    def segmenter(self) -> Segmenter:
        """Return the last operator."""
        segmenter: Any = self.operators[-1]
        return segmenter

    def __call__(self, volume: Volume) -> Logits:
        return self.segmenter(self.restore(volume))

    def last_layers(self) -> tuple[LastLayer, ...]:
        return self.segmenter.last_layers()

    def restore(self, volume: Volume) -> Volume:
        """Return the restored volume ``(z, y, x)``, which is the input of the segmenter."""
        for operator in self.restorers:
            volume = operator(volume)[..., 0]
        return volume


class Symmetrized(Segmenter):
    """Averages logits over all flips that leave the missing wedge unchanged.

    The data distribution is invariant under these flips and no others, so this form of test-time
    augmentation introduces no bias. Flips are computed one after another, so memory and compile
    time are those of a single pass.

    Args:
        segmenter: the segmenter to average.
        wedge: missing wedge of the data.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> symmetrized = Symmetrized(GlobalThreshold(0.5), MissingWedge((-60.0, 60.0)))
    >>> len(symmetrized.flips), symmetrized(jnp.ones((2, 2, 2))).shape
    (8, (2, 2, 2, 1))
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
    """Combines the logits of several segmenters by a learned linear map.

    ``logit_c = bias_c + sum_m kernel_{m,c} logit_m``: the responses of single-class filters become
    the input channels of a multi-class classifier. For one class the initial kernel averages the
    members; for several classes member m votes for class ``1 + m mod (K - 1)`` and against the
    background.

    Args:
        segmenters: the members.
        classes: names of the classes, background first if there are several.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> stacked = Stacked([GlobalThreshold(0.0), GlobalThreshold(1.0)], ("membrane",))
    >>> float(stacked(jnp.full((1, 1, 1), 2.0))[0, 0, 0, 0])  # the mean of 2 and 1
    1.5
    """

    def __init__(self, segmenters: Sequence[Segmenter], classes: Sequence[str]):
        self.segmenters = nnx.List(segmenters)
        self.halo = max(segmenter.halo for segmenter in segmenters)
        self.stride = math.lcm(*(segmenter.stride for segmenter in segmenters))
        self.classes = tuple(classes)
        inputs = sum(len(segmenter.classes) for segmenter in segmenters)
        reserve((inputs, len(classes)))
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
