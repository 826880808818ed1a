"""Modules from plain descriptions: only this package's own classes, never code from a file."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cryojax_seg import core
from cryojax_seg.core.segmenter import Restorer, Segmenter
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.io.files import FileError

_DEEPEST = 16


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
    raise ModelError(f"{name!r} is not a segmenter or restorer of this version of cryojax_seg")


def rebuild(description: Any, depth: int = 0) -> Any:
    """The module (or value) that `core.hyperparameters` described, with abstract parameters.

    Parameters of modules that hold no other module are `jax.ShapeDtypeStruct`: nothing is
    allocated for them on a file's word.

    Raises:
        ModelError: for an unknown class or arguments its constructor refuses.

    >>> m = rebuild({"class": "GlobalThreshold", "arguments": {"threshold": 2.0}})
    >>> m.classes
    ('foreground',)
    """
    if depth > _DEEPEST:
        raise ModelError(f"modules are nested more than {_DEEPEST} deep")
    if isinstance(description, list):
        return [rebuild(item, depth + 1) for item in description]
    if not isinstance(description, dict):
        return description
    if set(description) != {"class", "arguments"} or not isinstance(description["arguments"], dict):
        raise ModelError(f"a module needs a class and arguments, not {sorted(description)[:8]}")
    name = description["class"]
    arguments = {k: rebuild(v, depth + 1) for k, v in description["arguments"].items()}
    try:
        if name == "MissingWedge":
            return _wedge(arguments)
        return _construct(module_class(name), arguments)
    except ModelError:
        raise
    except Exception as error:  # a constructor may refuse foreign arguments in any way
        reason = str(error)[:200]
        raise ModelError(f"{name} cannot be built from its arguments: {reason}") from error


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
