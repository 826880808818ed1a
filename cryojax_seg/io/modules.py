"""Modules from plain descriptions: only this package's own classes, never code from a file."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cryojax_seg import core
from cryojax_seg.core.parameters import room_for
from cryojax_seg.core.segmenter import Restorer, Segmenter
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.io.files import FileError
from cryojax_seg.text import shortened, shown

_DEEPEST = 16
LARGEST_REACH = 1024  # voxels; no method that can be computed sees farther
_LARGEST_COUNT = 4096  # of voxels, channels, layers and steps that a method is told
_SPARE = 2**16  # values that a constructor may make and throw away


class ModelError(FileError):
    """A saved model is refused; the message names the folder and what to do."""


def module_class(name: Any) -> type[Segmenter] | type[Restorer]:
    """The segmenter or restorer that this package exports under a name.

    >>> module_class("Stacked").__name__
    'Stacked'
    """
    from cryojax_seg import restore, segmenters

    if isinstance(name, str) and name.isidentifier() and not name.startswith("_"):
        for package in (segmenters, restore, core):
            found = vars(package).get(name)
            if (
                isinstance(found, type)
                and issubclass(found, (Segmenter, Restorer))
                and not inspect.isabstract(found)
            ):
                return found
    raise ModelError(f"{shown(name)} is not a segmenter or restorer of this version of cryojax_seg")


def rebuild(description: Any, count: int) -> Any:
    """The module (or value) that `core.hyperparameters` described, with abstract parameters.

    Parameters of modules that hold no other module are `jax.ShapeDtypeStruct`. Nothing is
    allocated on a file's word: as soon as more than `count` values are needed it is refused.

    Args:
        description: as `core.hyperparameters` gives it.
        count: values in all arrays of the module.

    Raises:
        ModelError: for an unknown class or arguments its constructor refuses, or that are out of
            all proportion.

    >>> m = rebuild({"class": "GlobalThreshold", "arguments": {"threshold": 2.0}}, 2)
    >>> m.classes
    ('foreground',)
    """
    with room_for(2 * count + _SPARE):  # what cannot be abstract is made a second time
        return _rebuild(description)


def _rebuild(description: Any, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        raise ModelError(f"modules are nested more than {_DEEPEST} deep")
    if isinstance(description, list):
        return [_rebuild(item, depth + 1) for item in description]
    if not isinstance(description, dict):
        return description
    if set(description) != {"class", "arguments"} or not isinstance(description["arguments"], dict):
        raise ModelError(f"a module needs a class and arguments, not {shown(description)}")
    name = description["class"]
    arguments = {k: _rebuild(v, depth + 1) for k, v in description["arguments"].items()}
    try:
        if name == "MissingWedge":
            return _wedge(arguments)
        _check_counts(name, arguments)
        module = _construct(module_class(name), arguments)
        _check_reach(name, module)
        return module
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


def _check_reach(name: str, module: Any) -> None:
    try:
        halo, stride = module.halo, module.stride
    except ValueError:  # a network whose statistics are not fitted yet has none
        return
    if not (0 <= halo <= LARGEST_REACH and 1 <= stride <= LARGEST_REACH):
        raise ModelError(
            f"{name} sees {halo} voxels around each, in steps of {stride}; {LARGEST_REACH} is the "
            "most"
        )


def flat_state(module: nnx.Module) -> dict[str, Any]:
    """Every array of a module by its path: parameters and whatever other state there is.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> list(flat_state(GlobalThreshold(2.0)))
    ['log_softness', 'threshold']
    """
    leaves = nnx.to_flat_state(nnx.state(module))
    return {_key(path): _value(leaf) for path, leaf in leaves}


def with_state(module: nnx.Module, values: dict[str, np.ndarray]) -> Any:
    """The same module with its arrays replaced by these, keyed as in `flat_state`."""
    graph, state = nnx.split(module)
    leaves = []
    for path, leaf in nnx.to_flat_state(state):
        value = jnp.asarray(values[_key(path)])
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
