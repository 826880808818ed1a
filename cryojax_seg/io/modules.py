"""Rebuild operators from descriptions, of classes already imported or allowed by name."""

import importlib
import inspect
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cryojax_seg.core.operator import LocalOperator, registered_operator
from cryojax_seg.core.parameters import parameter_limit
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.io.files import FileError
from cryojax_seg.text import shortened, shown

_DEEPEST = 16
LARGEST_REACH = 1024  # voxels; no method that can be computed sees farther
_LARGEST_COUNT = 4096  # of voxels, channels, layers and steps that a method is told
_SPARE = 2**16  # values that a constructor may make and throw away
_PACKAGES = tuple(f"cryojax_seg.{name}" for name in ("core", "losses", "restore", "segmenters"))


class ModelError(FileError):
    """Reports that a saved model is refused; the message names the folder and what to do.

    >>> raise ModelError("run/model: no such model folder")
    Traceback (most recent call last):
    cryojax_seg.io.modules.ModelError: run/model: no such model folder
    """


class ForeignModuleError(ModelError):
    """Reports that a model needs code of a module that nobody allowed it to import.

    Attributes:
        module: the name of that module.
        name: the class that the model asks for.

    >>> ForeignModuleError("mine.networks", "mine.networks:Net").module
    'mine.networks'
    """

    def __init__(self, module: str, name: str, path: str = "the model"):
        self.module, self.name = module, name
        super().__init__(
            f"{path}: its class {name} is code of the module {module!r}, which a model never "
            "imports by itself; allow that module by name if you trust it"
        )


def operator_class(name: Any, allow: Sequence[str] = ()) -> type[LocalOperator]:
    """Return the class that a saved model calls ``MODULE:CLASS``.

    Args:
        name: see `core.operator.operator_name`.
        allow: modules outside of this package that may be imported.

    Raises:
        ForeignModuleError: for a module outside of this package that is not allowed.
        ModelError: if there is no such operator.

    >>> operator_class("cryojax_seg.core:Stacked").__name__
    'Stacked'
    """
    module = str(name).partition(":")[0]
    if module not in (*_PACKAGES, *allow):
        parts = name.replace(":", ".").split(".") if isinstance(name, str) else [""]
        if len(parts) > 1 and all(part.isidentifier() for part in parts):
            raise ForeignModuleError(module, name)
        raise ModelError(f"{shown(name)} is not the name of an operator")
    try:
        package = importlib.import_module(module)
    except ImportError as error:
        raise ModelError(f"its module {module} cannot be imported: {error}") from error
    getattr(package, name.partition(":")[2], None)  # a package loads its modules when asked
    found = registered_operator(name)
    if found is None:
        raise ModelError(f"{shown(name)} is not an operator of this version of {module}")
    return found


def rebuild(description: Any, count: int, allow: Sequence[str] = ()) -> Any:
    """Rebuild the operator that `core.hyperparameters` described, with abstract parameters.

    Parameters of operators that hold no other operator are `jax.ShapeDtypeStruct`. Nothing is
    allocated on a file's word: as soon as more than `count` values are needed it is refused.

    Args:
        description: as `core.hyperparameters` gives it.
        count: values in all arrays of the operator.
        allow: modules outside of this package that may be imported, see `operator_class`.

    Raises:
        ModelError: for an unknown class or arguments its constructor refuses, or that are out of
            all proportion.

    >>> name = "cryojax_seg.segmenters:GlobalThreshold"
    >>> m = rebuild({"class": name, "arguments": {"threshold": 2.0}}, 2)
    >>> m.classes
    ('foreground',)
    """
    with parameter_limit(2 * count + _SPARE):  # what cannot be abstract is made a second time
        return _rebuild(description, allow)


def _rebuild(description: Any, allow: Sequence[str], depth: int = 0) -> Any:
    if depth > _DEEPEST:
        raise ModelError(f"modules are nested more than {_DEEPEST} deep")
    if isinstance(description, list):
        return [_rebuild(item, allow, depth + 1) for item in description]
    if not isinstance(description, dict):
        return description
    if set(description) != {"class", "arguments"} or not isinstance(description["arguments"], dict):
        raise ModelError(f"a module needs a class and arguments, not {shown(description)}")
    name = description["class"]
    arguments = {k: _rebuild(v, allow, depth + 1) for k, v in description["arguments"].items()}
    try:
        if name == "MissingWedge":
            return _wedge(arguments)
        cls = operator_class(name, allow)
        _check_counts(name, arguments)
        operator = _construct(cls, arguments)
        _check_reach(name, operator)
        return operator
    except ModelError:
        raise
    except Exception as error:  # a constructor may refuse foreign arguments in any way
        reason = shortened(error, 200)
        raise ModelError(f"{name} cannot be built from its arguments: {reason}") from error


def _check_counts(name: str, arguments: dict[str, Any]) -> None:
    for key, value in arguments.items():
        if any(isinstance(v, int) and abs(v) > _LARGEST_COUNT for v in _flat(value)):
            raise ModelError(
                f"{name} cannot be built with {key} {shown(value)}; at most {_LARGEST_COUNT}"
            )


def _check_reach(name: str, operator: LocalOperator) -> None:
    halo, stride = operator.halo, operator.stride
    if not (0 <= halo <= LARGEST_REACH and 1 <= stride <= LARGEST_REACH):
        raise ModelError(
            f"{name} has a halo of {halo} voxels and a stride of {stride}; {LARGEST_REACH} is the "
            "most"
        )


def flat_state(module: nnx.Module) -> dict[str, Any]:
    """Return every array of a module by its path: parameters and other state.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> list(flat_state(GlobalThreshold(2.0)))
    ['log_softness', 'threshold']
    """
    leaves = nnx.to_flat_state(nnx.state(module))
    return {_key(path): _value(leaf) for path, leaf in leaves}


def parameter_names(module: nnx.Module) -> frozenset[str]:
    """Return the paths in `flat_state` of the parameters, without those of statistics.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> sorted(parameter_names(GlobalThreshold(2.0)))
    ['log_softness', 'threshold']
    """
    leaves = nnx.to_flat_state(nnx.state(module))
    return frozenset(_key(path) for path, leaf in leaves if isinstance(leaf, nnx.Param))


def with_state(module: nnx.Module, values: dict[str, np.ndarray]) -> Any:
    """Return the module with its arrays replaced by these, keyed as in `flat_state`."""
    graph, state = nnx.split(module)
    leaves = []
    for path, leaf in nnx.to_flat_state(state):
        value = jax.device_put(values[_key(path)])  # jnp.asarray would compile for each shape
        leaves.append((path, leaf.replace(value) if isinstance(leaf, nnx.Variable) else value))
    return nnx.merge(graph, nnx.from_flat_state(leaves))


def _key(path: tuple) -> str:
    return "/".join(map(str, path))


def _value(leaf: Any) -> Any:
    return leaf.get_raw_value() if isinstance(leaf, nnx.Variable) else leaf


def _wedge(arguments: dict[str, Any]) -> MissingWedge:
    low, high = arguments.pop("tilt_range")
    rotation = arguments.pop("rotation", None)
    return MissingWedge(
        (float(low), float(high)),
        rotation=None if rotation is None else jnp.asarray(rotation, jnp.float32),
        **arguments,
    )


def _construct(cls: type, arguments: dict[str, Any]) -> Any:
    parameters = inspect.signature(cls.__init__).parameters
    unknown = sorted(set(arguments) - set(parameters))
    if unknown:
        raise ModelError(
            f"{cls.__name__} has no argument {', '.join(unknown)} in this version of cryojax_seg"
        )

    def build():
        if "rngs" in parameters:
            return cls(**arguments, rngs=nnx.Rngs(0))
        return cls(**arguments)

    # Combinators hold modules that are abstract already, and little else.
    if any(isinstance(leaf, nnx.Module) for a in arguments.values() for leaf in _flat(a)):
        return build()
    try:
        return nnx.eval_shape(build)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError):  # it computes with its arguments
        return build()


def _flat(value: Any) -> list:
    return [v for item in value for v in _flat(item)] if isinstance(value, list) else [value]
