"""Finds and cleans the objects of label volumes that are read slab by slab, as if in one piece.

Every slab of z sections is labelled by itself. The objects that touch across its faces are joined
by the connected components of a graph, and a second pass labels each slab again and gives every
voxel the number of its object. Memory holds one slab, 16 bytes for each piece of an object in a
slab, and at most 64 MB of the runs that the first pass found, so that most slabs need not be
labelled again.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from cryojax_seg.core.plain import Shape
from cryojax_seg.measure.runs import EVERY, Runs, runs_of

Read = Callable[[slice], np.ndarray]  # the z sections of a volume ``(z, y, x)``, in memory
Part = tuple[slice, np.ndarray]  # z sections and their new values

VOXELS = 2**23  # in a slab
KEPT = 2**22  # runs that are remembered, about, in 20 bytes each


def depth_of(shape: Shape, voxels: int = VOXELS) -> int:
    """Return the number of z sections in a slab of at most this many voxels, at least one.

    >>> depth_of((200, 512, 512))
    32
    """
    return max(1, min(shape[0], voxels // max(shape[1] * shape[2], 1)))


def slabs(count: int, depth: int) -> Iterator[slice]:
    """Yield consecutive ranges of at most `depth` of `count` z sections.

    >>> list(slabs(3, 2))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    for start in range(0, count, depth):
        yield slice(start, min(start + depth, count))


@dataclasses.dataclass(frozen=True, eq=False)
class Components:
    """Describes the connected components of a mask that is read slab by slab.

    Returned by `components`. They are numbered in the order of their first voxels, as
    `scipy.ndimage.label` does with the whole mask.

    Attributes:
        sizes: voxels of each component by its number; 0 for the number 0.
    """

    sizes: np.ndarray
    _mask: Read
    _structure: np.ndarray
    _slabs: "tuple[_Slab, ...]"

    @property
    def count(self) -> int:
        """Return the number of components."""
        return len(self.sizes) - 1

    def slabs(self) -> Iterator[Part]:
        """Yield the z sections of each slab and the number of every voxel, int32, 0 outside."""
        return self.mapped(np.arange(self.count + 1, dtype=np.int32), everywhere=True)

    def runs(self) -> Runs:
        """Return the runs of the whole mask, with the numbers of their components."""
        parts, shape = [], (0, 0, 0)
        for slab in self._slabs:
            own = self._runs_of(slab)
            first = np.int64(slab.z.start) * own.shape[1] * own.shape[2]
            parts.append((own.start + first, own.stop + first, slab.table[own.piece]))
            shape = (slab.z.stop, *own.shape[1:])
        if not parts:
            none = np.zeros(0, np.int64)
            return Runs(none, none, none, 0, shape)
        start, stop, piece = (np.concatenate(values) for values in zip(*parts, strict=True))
        return Runs(start, stop, piece, self.count, shape)

    def mapped(self, values: np.ndarray, everywhere: bool = False) -> Iterator[Part]:
        """Yield the z sections of slabs and the value of every voxel's component.

        Args:
            values: of each component by its number; that of the number 0 must be 0.
            everywhere: whether slabs without any other value than 0 are yielded too.
        """
        for slab in self._slabs:
            table = values[slab.table]
            if not everywhere and not table.any():
                continue
            yield slab.z, self._runs_of(slab).painted(table)

    def _runs_of(self, slab: "_Slab") -> Runs:
        return slab.runs or runs_of(self._mask(slab.z), self._structure)


class _Slab(NamedTuple):
    """Holds the components of a slab.

    Attributes:
        z: its sections.
        table: number of the component of each piece in the slab.
        runs: its runs; None if they have to be found again.
    """

    z: slice
    table: np.ndarray
    runs: Runs | None


def components(
    mask: Read, shape: Shape, depth: int | None = None, structure: np.ndarray = EVERY
) -> Components:
    """Find the connected components of a mask that is read slab by slab.

    Args:
        mask: function from a range of z sections to their mask, bool.
        shape: of the whole mask, ``(z, y, x)``.
        depth: z sections of a slab; by default those of 8 million voxels.
        structure: 3 x 3 x 3, True at the neighbours of a voxel, such as `EVERY` or `FACES`.

    >>> whole = np.zeros((4, 1, 4), bool); whole[:, :, 0] = whole[2, :, 2:] = True
    >>> found = components(lambda z: whole[z], whole.shape, depth=1)
    >>> found.sizes.tolist(), [numbers[0, 0].tolist() for _, numbers in found.slabs()][2]
    ([0, 4, 2], [1, 0, 2, 2])
    """
    sizes: list[np.ndarray] = [np.zeros(1, np.int64)]
    seam = Seam(structure)
    ranges, left = list(slabs(shape[0], depth or depth_of(shape))), KEPT
    kept: list[Runs | None] = []
    for z in ranges:
        runs = runs_of(mask(z), structure)
        sizes.append(runs.sizes[1:])
        seam.add(runs)
        left -= runs.start.size
        kept.append(runs if left >= 0 else None)
    number = seam.united()
    voxels = np.bincount(number, np.concatenate(sizes)).astype(np.int64)
    found = tuple(map(_Slab, ranges, seam.tables(number), kept))
    return Components(voxels, mask, structure, found)


class Seam:
    """Joins the pieces of objects that touch across the faces of consecutive slabs.

    The pieces of all slabs are numbered one after the other, from 1.
    """

    def __init__(self, structure: np.ndarray):
        self.structure, self.former = structure, np.zeros((0, 0), np.int32)
        self.counts = [0]
        self.joined: list[np.ndarray] = [np.zeros((2, 0), np.int64)]

    def add(self, runs: Runs) -> None:
        """Add the pieces of the next slab."""
        if len(self.counts) > 1:
            pairs = _touching(self.former, runs.section(0), self.structure)
            self.joined.append(pairs + [[self.counts[-2]], [self.counts[-1]]])
        self.former = runs.section(runs.shape[0] - 1)
        self.counts.append(self.counts[-1] + runs.count)

    def united(self) -> np.ndarray:
        """Return the number of the object of each piece; 0 for the number 0."""
        total = self.counts[-1]
        a, b = np.concatenate(self.joined, axis=1)
        graph = sparse.coo_array((np.ones(a.size, bool), (a - 1, b - 1)), (total, total))
        found, of = csgraph.connected_components(graph, directed=False) if total else (0, a)
        rank = np.zeros(found, np.int32)
        rank[np.argsort(np.unique(of, return_index=True)[1])] = np.arange(1, found + 1)
        return np.concatenate([np.zeros(1, np.int32), rank[of]])

    def tables(self, values: np.ndarray) -> Iterator[np.ndarray]:
        """Yield for each slab the values of its pieces, from that of the number 0 on."""
        for first, last in zip(self.counts[:-1], self.counts[1:], strict=True):
            yield np.concatenate([values[:1], values[first + 1 : last + 1]])


def without_small(
    volume: Read, shape: Shape, value: int, least: float | int, depth: int | None = None
) -> Iterator[Part]:
    """Yield the slabs of a label volume in which objects of one class are too small.

    A slab may be replaced as soon as it is yielded.

    Args:
        volume: function from a range of z sections to their labels.
        shape: of the whole volume.
        value: label of the class.
        least: voxels of the smallest object that stays.
        depth: as in `components`.

    >>> labels = np.array([[[1, 0, 2, 0, 2, 2]]])
    >>> [block.tolist() for _, block in without_small(lambda z: labels[z], labels.shape, 2, 2)]
    [[[[1, 0, 0, 0, 2, 2]]]]
    """
    found = components(lambda z: volume(z) == value, shape, depth)
    small = found.sizes < least
    small[0] = False
    if not small.any():
        return
    for z, gone in found.mapped(small):
        yield z, np.where(gone, 0, volume(z))


@runtime_checkable
class Counted(Protocol):
    """Tells the objects of one class: how many there are, and their numbers slab by slab."""

    @property
    def count(self) -> int:
        """Return the number of objects."""
        ...

    def slabs(self) -> Iterator[Part]:
        """Yield the z sections of each slab and the number of every voxel."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Objects:
    """Numbers the objects of all classes of a label volume, one class after the other.

    Returned by `objects`.

    Attributes:
        classes: the objects of each class, by its label.
    """

    classes: Mapping[int, Counted]

    @property
    def counts(self) -> dict[int, int]:
        """Return the number of objects of each class."""
        return {value: found.count for value, found in self.classes.items()}

    def slabs(self) -> Iterator[Part]:
        """Yield the z sections of each slab and the number of the object of every voxel, int32."""
        for parts in zip(*(found.slabs() for found in self.classes.values()), strict=True):
            (z, numbers), *others = parts
            before, *counts = self.counts.values()
            numbers = numbers.copy() if others else numbers
            for (_, own), count in zip(others, counts, strict=True):
                np.add(own, before, out=numbers, where=own > 0)
                before += count
            yield z, numbers


def objects(volume: Read, shape: Shape, values: Sequence[int], depth: int | None = None) -> Objects:
    """Find the objects of these classes of a label volume that is read slab by slab.

    Args:
        volume: function from a range of z sections to their labels.
        shape: of the whole volume.
        values: labels of the classes.
        depth: as in `components`.

    >>> labels = np.array([[[1, 2, 2, 0, 1]]])
    >>> found = objects(lambda z: labels[z], labels.shape, [1, 2])
    >>> found.counts, [numbers.tolist() for _, numbers in found.slabs()]
    ({1: 2, 2: 1}, [[[[1, 3, 3, 0, 2]]]])
    """

    def mask(value: int) -> Read:
        return lambda z: volume(z) == value

    return Objects({value: components(mask(value), shape, depth) for value in values})


def labelled(mask: np.ndarray, structure: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the number of the piece of each voxel, int32, 0 outside, and the number of pieces."""
    numbers = np.zeros(mask.shape, np.int32)
    count: Any = ndimage.label(mask, structure, output=numbers)
    return numbers, int(count)


def _touching(below: np.ndarray, above: np.ndarray, structure: np.ndarray) -> np.ndarray:
    """Return the pairs ``(2, n)`` of numbers that are neighbours in consecutive sections."""
    found = []
    for y, x in (np.argwhere(structure[2]) - 1).tolist():
        one, two = below[_shifted(-y), _shifted(-x)], above[_shifted(y), _shifted(x)]
        both = (one > 0) & (two > 0)
        found.append(np.unique(one[both].astype(np.int64) << 32 | two[both]))
    pairs = np.unique(np.concatenate(found))
    return np.stack([pairs >> 32, pairs & (2**32 - 1)])


def _shifted(step: int) -> slice:
    return slice(max(step, 0), min(step, 0) or None)
