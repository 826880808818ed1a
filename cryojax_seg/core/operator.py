"""Defines local operators, which compute each output voxel from a neighbourhood of the input.

The contract is ``p_r = f_theta({I_{r+delta} : |delta|_inf <= halo})``. A scalar threshold (halo 0),
a Gaussian filter and a 3D U-Net (a halo of tens of voxels) all satisfy it, so the same code tiles,
trains, saves and scores them.
"""

import abc
import inspect
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cryojax_seg.core.types import Features, Volume
from cryojax_seg.core.wedge import MissingWedge


class LocalOperator(nnx.Module):
    """Abstract base of local functions of a volume. Concrete operators are final: compose them.

    A restorer is a local operator with one channel, the restored density. A `Segmenter` adds the
    names of its classes.

    Attributes:
        halo: largest distance ``|delta|_inf`` in voxels from which the input can affect an output
            voxel; 0 for a threshold.
        stride: a shift of the input by `stride` voxels shifts the output equally; ``2**depth`` for
            a U-Net, otherwise 1. Every axis of an input must be a multiple of it.

    Every constructor argument except `rngs` is readable as an attribute of the same name;
    `hyperparameters` and saved models rely on this. A class registers itself under its
    `operator_name` when it is defined, so that saved models can find it.

    >>> import jax
    >>> class Negative(LocalOperator):
    ...     def __init__(self):
    ...         self.halo, self.stride = 0, 1
    ...
    ...     def __call__(self, volume):
    ...         return -volume[..., None]
    >>> Negative()(jnp.ones((1, 1, 2)))[..., 0].tolist()
    [[[-1.0, -1.0]]]
    """

    halo: int
    stride: int

    def __init_subclass__(cls, **keywords: Any):
        super().__init_subclass__(**keywords)
        _OPERATORS[operator_name(cls)] = cls

    @abc.abstractmethod
    def __call__(self, volume: Volume) -> Features:
        """Return the channels ``(z, y, x, channel)`` of a volume ``(z, y, x)``.

        Structure is bright in the volume. The function is pure: it has no state and no randomness.
        """


Operator = TypeVar("Operator", bound=LocalOperator)

_OPERATORS: dict[str, type[LocalOperator]] = {}


def operator_name(cls: type) -> str:
    """Return the name ``MODULE:CLASS`` by which saved models refer to a class.

    Classes of this package are named by their public subpackage, not by their file.

    >>> from cryojax_seg.segmenters import UNet
    >>> operator_name(UNet)
    'cryojax_seg.segmenters:UNet'
    """
    parts = cls.__module__.split(".")
    module = ".".join(parts[:2]) if parts[0] == __name__.partition(".")[0] else cls.__module__
    return f"{module}:{cls.__qualname__}"


def registered_operator(name: str) -> type[LocalOperator] | None:
    """Return the concrete operator class registered under this name, or None.

    >>> registered_operator("cryojax_seg.core:Stacked").__name__
    'Stacked'
    """
    found = _OPERATORS.get(name)
    return None if found is None or inspect.isabstract(found) else found


class Layer(nnx.Module):
    """Abstract base of network layers that may depend on the whole input.

    Attributes:
        is_local: whether each output depends only on a neighbourhood. False for a normalisation
            that computes its statistics from the input.
    """

    @property
    @abc.abstractmethod
    def is_local(self) -> bool: ...


def is_local(operator: nnx.Module) -> bool:
    """Return whether an operator is local, so that no layer depends on the whole input.

    >>> from cryojax_seg.segmenters import UNet
    >>> is_local(UNet(2, 1, norm="instance", rngs=nnx.Rngs(0)))
    False
    """
    layers = (module for _, module in nnx.iter_modules(operator) if isinstance(module, Layer))
    return all(layer.is_local for layer in layers)


def require_local(operator: nnx.Module) -> None:
    """Refuse an operator with a layer that depends on the whole input.

    Raises:
        ValueError: if the operator is not local.
    """
    if not is_local(operator):
        raise ValueError(
            f"this {type(operator).__name__} normalises by statistics of its whole input, so its "
            "halo does not hold; freeze them first with fit_normalization(operator, volume)"
        )


def hyperparameters(operator: LocalOperator) -> dict[str, Any]:
    """Return the constructor arguments that rebuild this operator, as plain Python values.

    Learnable arguments have their current values. Nested operators and missing wedges become
    ``{"class": name, "arguments": {...}}``.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> hyperparameters(GlobalThreshold(2.0))["threshold"]
    2.0
    """
    names = [n for n in inspect.signature(type(operator).__init__).parameters if n != "self"]
    return {name: _plain(getattr(operator, name)) for name in names if name != "rngs"}


def _plain(value: Any) -> Any:
    if isinstance(value, LocalOperator):
        return {"class": operator_name(type(value)), "arguments": hyperparameters(value)}
    if isinstance(value, MissingWedge):
        fields = ("tilt_range", "tilt_axis", "softness", "rotation")
        arguments = {f: _plain(getattr(value, f)) for f in fields}
        return {"class": "MissingWedge", "arguments": arguments}
    if isinstance(value, nnx.Variable):
        value = value[...]
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        value = np.asarray(value)
        if value.dtype == jnp.bfloat16:  # NumPy cannot format bfloat16
            value = value.astype(np.float32)
        # The shortest decimal form of a float32 reads back as the same float32.
        return value.astype(str).astype(float).tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(v) for v in value]
    return value
