"""The contract: a local operator computes each output voxel from a neighbourhood of the input.

``p_r = f_theta({I_{r+delta} : |delta|_inf <= halo})``. A Gaussian filter, a scalar threshold
(halo 0) and a 3D U-Net (a halo of some tens of voxels) are the same kind of object, so one code
tiles, trains, saves and scores them all.
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
    """Abstract local function of a volume. Concrete operators are final: compose them.

    A restorer is a local operator with one channel, the restored density; a `Segmenter` adds the
    names of its classes.

    Attributes:
        halo: the largest ``|delta|_inf`` in voxels that can reach an output; 0 for a threshold.
        stride: shifting the input by `stride` voxels shifts the output; ``2**depth`` for a U-Net,
            else 1. Every axis of an input must be a multiple of it.

    Every constructor argument except `rngs` is readable as an attribute of the same name, which
    is what `hyperparameters` and the saved models rely on. A class registers itself under its
    `operator_name` when it is defined, so that saved models find it.
    """

    halo: int
    stride: int

    def __init_subclass__(cls, **keywords: Any):
        super().__init_subclass__(**keywords)
        _OPERATORS[operator_name(cls)] = cls

    @abc.abstractmethod
    def __call__(self, volume: Volume) -> Features:
        """The channels ``(z, y, x, channel)`` of a volume ``(z, y, x)`` whose structure is bright.

        The call is pure: it has no state and no randomness.
        """


Operator = TypeVar("Operator", bound=LocalOperator)

_OPERATORS: dict[str, type[LocalOperator]] = {}


def operator_name(cls: type) -> str:
    """The name by which saved models refer to a class: ``MODULE:CLASS``.

    Classes of this package are named by their public subpackage, whatever file they are in.

    >>> from cryojax_seg.segmenters import UNet
    >>> operator_name(UNet)
    'cryojax_seg.segmenters:UNet'
    """
    parts = cls.__module__.split(".")
    module = ".".join(parts[:2]) if parts[0] == __name__.partition(".")[0] else cls.__module__
    return f"{module}:{cls.__qualname__}"


def registered_operator(name: str) -> type[LocalOperator] | None:
    """The concrete operator that was defined under this name; None if there is none.

    >>> registered_operator("cryojax_seg.core:Stacked").__name__
    'Stacked'
    """
    found = _OPERATORS.get(name)
    return None if found is None or inspect.isabstract(found) else found


class Layer(nnx.Module):
    """Abstract part of an operator that may depend on the whole input.

    Attributes:
        is_local: whether the output depends on a neighbourhood alone. False for a normalisation
            that computes its statistics from the input.
    """

    @property
    @abc.abstractmethod
    def is_local(self) -> bool: ...


def is_local(operator: nnx.Module) -> bool:
    """Whether the halo of an operator holds: no layer depends on the whole input.

    >>> from cryojax_seg.segmenters import UNet
    >>> is_local(UNet(2, 1, norm="instance", rngs=nnx.Rngs(0)))
    False
    """
    layers = (module for _, module in nnx.iter_modules(operator) if isinstance(module, Layer))
    return all(layer.is_local for layer in layers)


def require_local(operator: nnx.Module) -> None:
    """Raises a ValueError if an operator has a layer that depends on the whole input."""
    if not is_local(operator):
        raise ValueError(
            f"this {type(operator).__name__} normalises by statistics of its whole input, so its "
            "halo does not hold: call fit_normalization(operator, volume) first, which freezes them"
        )


def hyperparameters(operator: LocalOperator) -> dict[str, Any]:
    """The constructor arguments that rebuild this operator, as plain Python values.

    Learnable arguments are read at their present value, nested operators become
    ``{"class": name, "arguments": {...}}`` and so do missing wedges.

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
        if value.dtype == jnp.bfloat16:  # which NumPy cannot print
            value = value.astype(np.float32)
        # float32 values print shortest that way, and read back to the same float32.
        return value.astype(str).astype(float).tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(v) for v in value]
    return value
