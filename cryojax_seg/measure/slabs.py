"""Finds and cleans the objects of label volumes that are read slab by slab, as if in one piece.

Every slab of z sections is labelled by itself. The objects that touch across its faces are joined
by the connected components of a graph, and a second pass labels each slab again and gives every
voxel the number of its object. Memory holds one slab, and 16 bytes for each piece of an object in
a slab.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from cryojax_seg.core.plain import Shape

Read = Callable[[slice], np.ndarray]  # the z sections of a volume ``(z, y, x)``, in memory
Part = tuple[slice, np.ndarray]  # z sections and their new values

EVERY = np.ones((3, 3, 3), bool)  # 26 neighbours
FACES = np.asarray(ndimage.generate_binary_structure(3, 1), bool)  # 6 neighbours
VOXELS = 2**23  # in a slab


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
    _tables: tuple[tuple[slice, np.ndarray], ...]  # numbers of the components of each slab

    @property
    def count(self) -> int:
        """Return the number of components."""
        return len(self.sizes) - 1

    def slabs(self) -> Iterator[Part]:
        """Yield the z sections of each slab and the number of every voxel, int32, 0 outside."""
        for z, table in self._tables:
            yield z, self.numbers(z, table)

    def numbers(self, z: slice, table: np.ndarray) -> np.ndarray:
        mask = self._mask(z)
        if len(table) == 1:
            return np.zeros(mask.shape, np.int32)
        return table[_labelled(mask, self._structure)[0]]


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
    counts = [0]
    joined: list[np.ndarray] = [np.zeros((2, 0), np.int64)]
    sizes: list[np.ndarray] = [np.zeros(1, np.int64)]
    former: np.ndarray | None = None
    ranges = list(slabs(shape[0], depth or depth_of(shape)))
    for z in ranges:
        inside = mask(z)
        numbers, count = _labelled(inside, structure)
        sizes.append(np.bincount(numbers[inside], minlength=count + 1)[1:])
        if former is not None:
            joined.append(_touching(former, numbers[0], structure) + [[counts[-2]], [counts[-1]]])
        former = numbers[-1].copy()
        counts.append(counts[-1] + count)
    total = counts[-1]
    a, b = np.concatenate(joined, axis=1)
    graph = sparse.coo_array((np.ones(a.size, bool), (a - 1, b - 1)), (total, total))
    found, of = csgraph.connected_components(graph, directed=False) if total else (0, a)
    rank = np.zeros(found, np.int32)
    rank[np.argsort(np.unique(of, return_index=True)[1])] = np.arange(1, found + 1)
    number = np.concatenate([np.zeros(1, np.int32), rank[of]])
    voxels = np.bincount(number, np.concatenate(sizes), found + 1).astype(np.int64)
    tables = (
        np.concatenate([number[:1], number[first + 1 : last + 1]])
        for first, last in zip(counts[:-1], counts[1:], strict=True)
    )
    return Components(voxels, mask, structure, tuple(zip(ranges, tables, strict=True)))


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
    for z, numbers in found.slabs():
        gone = small[numbers]
        if gone.any():
            yield z, np.where(gone, 0, volume(z))


def with_filled_holes(
    volume: Read, shape: Shape, most: Sequence[float | int], depth: int | None = None
) -> Iterator[Part]:
    """Yield the slabs of a label volume in which objects have holes to fill.

    A hole is a set of background voxels, connected by their faces, that reaches no face of the
    volume and touches one class alone. A slab may be replaced as soon as it is yielded.

    Args:
        volume: function from a range of z sections to their labels.
        shape: of the whole volume.
        most: voxels of the largest hole that is filled, for the labels 1, 2, ...; 0 fills none.
        depth: as in `components`.

    >>> labels = np.ones((3, 3, 3), int); labels[1, 1, 1] = 0
    >>> filled = with_filled_holes(lambda z: labels[z], labels.shape, [1])
    >>> [int(block.min()) for _, block in filled]
    [1]
    """
    found = components(lambda z: volume(z) == 0, shape, depth, FACES)
    holes = np.flatnonzero(found.sizes <= max(most))[1:]  # of the number 0 the size is 0
    rank = np.zeros(found.count + 1, np.int64)
    rank[holes] = np.arange(1, len(holes) + 1)
    touched = np.zeros((len(holes) + 1, len(most) + 1), bool)
    for z, numbers in found.slabs():
        hole = rank[numbers]
        edges = [hole[:, 0], hole[:, -1], hole[:, :, 0], hole[:, :, -1]]
        edges += [hole[0]] * (z.start == 0) + [hole[-1]] * (z.stop == shape[0])
        for edge in edges:
            touched[edge.ravel(), :] = True  # of everything, so of no class alone
        near = volume(slice(max(z.start - 1, 0), min(z.stop + 1, shape[0])))
        for label, number in _neighbours(near, hole, z.start - max(z.start - 1, 0)):
            touched[number, label] = True
    alone = touched[:, 1:].sum(1) == 1
    fill = np.where(alone, touched[:, 1:].argmax(1) + 1, 0)
    fill[0] = 0
    sizes = np.concatenate([[0], found.sizes[holes]])
    fill[sizes > np.concatenate([[0.0], most])[fill]] = 0
    if not fill.any():
        return
    value = fill[rank]
    for z, numbers in found.slabs():
        filled = value[numbers]
        if filled.any():
            block = volume(z)
            yield z, np.where(filled > 0, filled.astype(block.dtype), block)


@dataclasses.dataclass(frozen=True, eq=False)
class Objects:
    """Numbers the objects of all classes of a label volume, one class after the other.

    Returned by `objects`.

    Attributes:
        classes: the components of each class, by its label.
        shape: of the volume.
    """

    classes: dict[int, Components]

    @property
    def counts(self) -> dict[int, int]:
        """Return the number of objects of each class."""
        return {value: found.count for value, found in self.classes.items()}

    def slabs(self) -> Iterator[Part]:
        """Yield the z sections of each slab and the number of the object of every voxel, int32."""
        for parts in zip(*(found.slabs() for found in self.classes.values()), strict=True):
            numbers = np.zeros(parts[0][1].shape, np.int32)
            before = 0
            for (_, own), count in zip(parts, self.counts.values(), strict=True):
                inside = own > 0
                numbers[inside] = own[inside] + before
                before += count
            yield parts[0][0], numbers


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


def _labelled(mask: np.ndarray, structure: np.ndarray) -> tuple[np.ndarray, int]:
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


def _neighbours(
    labels: np.ndarray, hole: np.ndarray, above: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the labels of the face neighbours of the voxels of holes, and the numbers of these.

    Args:
        labels: sections of the slab, with one more on each side unless the volume ends there.
        hole: numbers of the holes in the slab.
        above: sections of `labels` before the slab.
    """
    index = np.argwhere(hole)
    number = hole[tuple(index.T)]
    index[:, 0] += above
    for step in (*np.eye(3, dtype=int), *-np.eye(3, dtype=int)):
        place = index + step
        inside = ((place >= 0) & (place < labels.shape)).all(1)
        yield labels[tuple(place[inside].T)], number[inside]
