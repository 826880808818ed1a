"""Defines how the arrays of an example move with its volume, in one table.

`COMPANIONS` names every array of a `training.Example` and its kind. The kind says how the array is
checked, cropped and padded, kept on the device, cut into patches, and changed by augmentation. To
add a companion, add a line to the table, and a field of the same name to `Example` and `Batch`.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from cryojax_seg.core.plain import Shape
from cryojax_seg.core.rotation import rotate_on_grid

Grid = tuple[np.ndarray, ...]  # indices of an open mesh, as `numpy.ix_` returns them
Change = Callable[[Any], Any]  # of the intensities of a volume
Source = Sequence[Any]  # for each axis, where each voxel of a rotated patch comes from


class Companion(abc.ABC):
    """Defines how one kind of array is stored and moves with its volume.

    Attributes:
        every: whether a batch has the array only if every example has it; otherwise examples
            without it count as zeros.
        measured: whether changes of the intensities (gain, noise, blank parts) apply to it too.
    """

    every: bool
    measured: bool

    def shape(self, volume: Shape) -> Shape:
        """Return the shape of the array beside a volume ``(z, y, x)``."""
        return volume

    @abc.abstractmethod
    def kept(self, array: np.ndarray, where: Grid, inside: np.ndarray) -> np.ndarray:
        """Return the part that the device keeps, ``(z, y, x, ...)``.

        Args:
            array: the array of an example.
            where: indices of that part, mirrored where it extends beyond the volume.
            inside: bool ``(z, y, x)``, which voxels of it lie inside the volume.
        """

    def cut(self, block: jax.Array) -> jax.Array:
        """Return a patch as a batch holds it, from a patch of what is kept."""
        return block

    @abc.abstractmethod
    def moved(self, array: jax.Array, matrix: jax.Array) -> jax.Array:
        """Return a patch rotated or flipped by a signed permutation matrix."""

    @abc.abstractmethod
    def rotated(self, array: jax.Array, source: Source, matrix: jax.Array) -> jax.Array:
        """Return a patch rotated by any rotation matrix, by interpolation."""

    def changed(self, array: jax.Array, change: Change) -> jax.Array:
        """Return a patch after a change of the intensities, if it is measured."""
        return change(array) if self.measured else array


def _interpolated(volume: Any, source: Source) -> jax.Array:
    return map_coordinates(volume, source, order=1, mode="reflect")


def _rotated_vectors(vectors: jax.Array, matrix: jax.Array) -> jax.Array:
    return jnp.einsum("ij,zyxj->zyxi", matrix.astype(vectors.dtype), vectors)


@final
@dataclasses.dataclass(frozen=True)
class Scalar(Companion):
    """Moves a density ``(z, y, x)``, interpolated linearly and continued by mirror images."""

    measured: bool = False
    every: bool = True

    def kept(self, array: np.ndarray, where: Grid, inside: np.ndarray) -> np.ndarray:
        return np.asarray(array[where], np.float32)

    def moved(self, array: jax.Array, matrix: jax.Array) -> jax.Array:
        return rotate_on_grid(matrix, array)[0]

    def rotated(self, array: jax.Array, source: Source, matrix: jax.Array) -> jax.Array:
        return _interpolated(array, source)


@final
@dataclasses.dataclass(frozen=True)
class Label(Companion):
    """Moves a value for each voxel ``(z, y, x)``, never interpolated, and 0 outside the volume."""

    stored: str  # dtype on the device
    dtype: str  # dtype in a batch
    measured: bool = False
    every: bool = False

    def kept(self, array: np.ndarray, where: Grid, inside: np.ndarray) -> np.ndarray:
        return np.where(inside, array[where], 0).astype(self.stored)

    def cut(self, block: jax.Array) -> jax.Array:
        return block.astype(self.dtype)

    def moved(self, array: jax.Array, matrix: jax.Array) -> jax.Array:
        return rotate_on_grid(matrix, array)[0]

    def rotated(self, array: jax.Array, source: Source, matrix: jax.Array) -> jax.Array:
        nearest = map_coordinates(array.astype(jnp.float32), source, order=0, mode="nearest")
        for coordinate, size in zip(source, array.shape, strict=True):
            nearest = jnp.where((coordinate >= 0) & (coordinate <= size - 1), nearest, 0.0)
        return nearest.astype(array.dtype)


@final
@dataclasses.dataclass(frozen=True)
class Vector(Companion):
    """Moves a unit vector or zero for each voxel, ``(z, y, x, 3)``, rotated with the patch."""

    measured: bool = False
    every: bool = False

    def shape(self, volume: Shape) -> Shape:
        return (*volume, 3)

    def kept(self, array: np.ndarray, where: Grid, inside: np.ndarray) -> np.ndarray:
        return np.rint(127 * array[where] * inside[..., None]).astype(np.int8)

    def cut(self, block: jax.Array) -> jax.Array:
        return block.astype(jnp.float32) / 127

    def moved(self, array: jax.Array, matrix: jax.Array) -> jax.Array:
        return _rotated_vectors(rotate_on_grid(matrix, array)[0], matrix)

    def rotated(self, array: jax.Array, source: Source, matrix: jax.Array) -> jax.Array:
        nearest = [map_coordinates(array[..., i], source, order=0) for i in range(3)]
        return _rotated_vectors(jnp.stack(nearest, axis=-1), matrix)


@final
@dataclasses.dataclass(frozen=True)
class Pair(Companion):
    """Moves two densities ``(2, z, y, x)``, each as a scalar."""

    measured: bool = True
    every: bool = True

    def shape(self, volume: Shape) -> Shape:
        return (2, *volume)

    def kept(self, array: np.ndarray, where: Grid, inside: np.ndarray) -> np.ndarray:
        return np.stack([half[where] for half in array], -1).astype(np.float32)

    def cut(self, block: jax.Array) -> jax.Array:
        return jnp.moveaxis(block, -1, 0)

    def moved(self, array: jax.Array, matrix: jax.Array) -> jax.Array:
        return jnp.stack(rotate_on_grid(matrix, *array))

    def rotated(self, array: jax.Array, source: Source, matrix: jax.Array) -> jax.Array:
        return jax.vmap(lambda half: _interpolated(half, source))(array)

    def changed(self, array: jax.Array, change: Change) -> jax.Array:
        return jax.vmap(change)(array) if self.measured else array


COMPANIONS: Mapping[str, Companion] = {
    "volume": Scalar(measured=True),
    "labels": Label("int8", "int32"),
    "weights": Label("float32", "float32"),
    "normals": Vector(),
    "halves": Pair(),
    "truth": Scalar(),
}


def present(values: Sequence[Any]) -> dict[str, Companion]:
    """Return the companions that a batch of these examples has.

    >>> from types import SimpleNamespace
    >>> one = SimpleNamespace(**{name: None for name in COMPANIONS} | {"volume": 1, "halves": 1})
    >>> other = SimpleNamespace(**vars(one) | {"halves": None, "normals": 1})
    >>> list(present([one, other]))
    ['volume', 'normals']
    """
    found = {}
    for name, kind in COMPANIONS.items():
        has = [getattr(value, name) is not None for value in values]
        if all(has) if kind.every else any(has):
            found[name] = kind
    return found
