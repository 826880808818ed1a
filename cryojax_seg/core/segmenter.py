"""The contract: a segmenter is a local function from intensities to class scores.

``p_r = f_theta({I_{r+delta} : |delta|_inf <= halo})``. A scalar threshold has halo 0, a 3D U-Net
has a halo of some tens of voxels; both are the same kind of object, so both are tiled, trained,
saved and scored by the same code.
"""

import abc
import inspect
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cryojax_seg.core.parameters import claim
from cryojax_seg.core.types import Labels, Logits, Volume
from cryojax_seg.core.wedge import MissingWedge


class Segmenter(nnx.Module):
    """Abstract voxel classifier. Concrete methods are final: compose, do not subclass them.

    Attributes:
        halo: the largest ``|delta|_inf`` in voxels that can reach an output; 0 for a threshold.
        stride: shifting the input by `stride` voxels shifts the output; ``2**depth`` for a U-Net,
            else 1. Every axis of an input must be a multiple of it.
        classes: class names. One name means one sigmoid score; several mean a softmax, and the
            first is the background (label 0).

    Every constructor argument except `rngs` is readable as an attribute of the same name, which
    is what `hyperparameters` and the saved models rely on.
    """

    @property
    @abc.abstractmethod
    def halo(self) -> int: ...

    @property
    @abc.abstractmethod
    def stride(self) -> int: ...

    @property
    @abc.abstractmethod
    def classes(self) -> tuple[str, ...]: ...

    @abc.abstractmethod
    def __call__(self, volume: Volume) -> Logits:
        """Logits of a volume whose structure is bright. Pure: no state, no randomness."""


class Wrapper(Segmenter):
    """Abstract segmenter around another one, `segmenter`, whose reach and classes it keeps."""

    segmenter: Segmenter

    @property
    def halo(self) -> int:
        return self.segmenter.halo

    @property
    def stride(self) -> int:
        return self.segmenter.stride

    @property
    def classes(self) -> tuple[str, ...]:
        return self.segmenter.classes


class WedgeAware(Segmenter):
    """Abstract segmenter that also wants to know the missing wedge of what it is shown.

    Called as any other it uses the wedge it holds; objectives give it that of each patch.
    """

    @abc.abstractmethod
    def under(self, volume: Volume, wedge: MissingWedge) -> Logits:
        """Logits of a volume with this wedge."""

    @abc.abstractmethod
    def with_wedge(self, wedge: MissingWedge) -> "WedgeAware":
        """The same segmenter for data with another wedge."""


class Restorer(nnx.Module):
    """Abstract local function from a volume to a volume, with the same locality contract."""

    @property
    @abc.abstractmethod
    def halo(self) -> int: ...

    @property
    @abc.abstractmethod
    def stride(self) -> int: ...

    @abc.abstractmethod
    def __call__(self, volume: Volume) -> Volume:
        """The restored volume, of the same shape."""


class Restoring(Segmenter):
    """A restorer in the place of a segmenter, whose one logit is the restored density.

    What tiles, trains and saves segmenters does the same for restorers through this.

    >>> from cryojax_seg.restore import LocalContrast
    >>> Restoring(LocalContrast(scale=4.0)).classes
    ('density',)
    """

    def __init__(self, restorer: Restorer):
        self.restorer = restorer

    @property
    def halo(self) -> int:
        return self.restorer.halo

    @property
    def stride(self) -> int:
        return self.restorer.stride

    @property
    def classes(self) -> tuple[str, ...]:
        return ("density",)

    def __call__(self, volume: Volume) -> Logits:
        return self.restorer(volume)[..., None]


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


def check_divisible(shape: Sequence[int], stride: int) -> None:
    """Raises a ValueError unless every axis is a multiple of `stride` (at least once)."""
    if any(n % stride or n == 0 for n in shape[:3]):
        raise ValueError(
            f"a volume of shape {tuple(shape[:3])} needs every axis to be a multiple of the "
            f"stride {stride}; segment(...) pads and crops for you"
        )


class Sequential(Segmenter):
    """A segmenter behind restorers: cleaner input first, labels second.

    >>> from cryojax_seg.restore import LocalContrast
    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> s = Sequential([LocalContrast(scale=4.0)], GlobalThreshold(1.0))
    >>> s.halo == LocalContrast(scale=4.0).halo
    True
    """

    def __init__(self, restorers: Sequence[Restorer], segmenter: Segmenter):
        self.restorers = nnx.List(restorers)
        self.segmenter = segmenter

    @property
    def halo(self) -> int:
        return self.segmenter.halo + sum(r.halo for r in self.restorers)

    @property
    def stride(self) -> int:
        return math.lcm(self.segmenter.stride, *(r.stride for r in self.restorers))

    @property
    def classes(self) -> tuple[str, ...]:
        return self.segmenter.classes

    def __call__(self, volume: Volume) -> Logits:
        for restorer in self.restorers:
            volume = restorer(volume)
        return self.segmenter(volume)


class Symmetrized(Wrapper):
    """The mean logit over the flips that leave this wedge unchanged.

    Test-time averaging as part of the function, and exact: the data distribution is invariant
    under these flips and no others.
    """

    def __init__(self, segmenter: Segmenter, wedge: MissingWedge):
        self.segmenter = segmenter
        self.wedge = wedge.as_numbers()
        self.flips = wedge.symmetries()

    def __call__(self, volume: Volume) -> Logits:
        views = [jnp.flip(self.segmenter(jnp.flip(volume, axes)), axes) for axes in self.flips]
        return jnp.stack(views).mean(0)


class Stacked(Segmenter):
    """A learned linear vote over the logits of several segmenters.

    ``logit_c = bias_c + sum_m kernel_{m,c} logit_m``: filter responses become the input channels
    of one classifier, which is how single-class filters tell several classes apart. The initial
    kernel is the mean of the members for one class; for several classes member m votes for class
    ``1 + m mod (K - 1)`` and against the background.
    """

    def __init__(self, segmenters: Sequence[Segmenter], classes: Sequence[str]):
        self.segmenters = nnx.List(segmenters)
        self._classes = tuple(classes)
        inputs = sum(len(s.classes) for s in segmenters)
        claim((inputs, len(classes)))
        kernel = np.zeros((inputs, len(classes)), np.float32)
        if len(classes) == 1:
            kernel[:, 0] = 1.0 / inputs
        else:
            kernel[np.arange(inputs), 1 + np.arange(inputs) % (len(classes) - 1)] = 0.5
            kernel[:, 0] = -0.5 / inputs
        self.kernel = nnx.Param(jnp.asarray(kernel))
        self.bias = nnx.Param(jnp.zeros(len(classes), jnp.float32))

    @property
    def halo(self) -> int:
        return max(s.halo for s in self.segmenters)

    @property
    def stride(self) -> int:
        return math.lcm(*(s.stride for s in self.segmenters))

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    def __call__(self, volume: Volume) -> Logits:
        responses = jnp.concatenate([s(volume) for s in self.segmenters], axis=-1)
        return responses @ self.kernel[...] + self.bias[...][None, None, None, :]


def hyperparameters(module: Segmenter | Restorer) -> dict[str, Any]:
    """The constructor arguments that rebuild this module, as plain Python values.

    Learnable arguments are read at their present value, nested modules become
    ``{"class": name, "arguments": {...}}`` and so do missing wedges.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> hyperparameters(GlobalThreshold(2.0))["threshold"]
    2.0
    """
    names = [n for n in inspect.signature(type(module).__init__).parameters if n != "self"]
    return {name: _plain(getattr(module, name)) for name in names if name != "rngs"}


def _plain(value: Any) -> Any:
    if isinstance(value, (Segmenter, Restorer)):
        return {"class": type(value).__name__, "arguments": hyperparameters(value)}
    if isinstance(value, MissingWedge):
        fields = ("tilt_range", "tilt_axis", "softness", "rotation")
        arguments = {f: _plain(getattr(value, f)) for f in fields}
        return {"class": "MissingWedge", "arguments": arguments}
    if isinstance(value, nnx.Variable):
        value = value[...]
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        value = np.asarray(value)
        if value.dtype == jnp.bfloat16:  # which NumPy cannot print
            value = value.astype(np.float32)
        # float32 values print shortest that way, and read back to the same float32.
        return value.astype(str).astype(float).tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(v) for v in value]
    return value
