"""Describes a label volume with its classes, and finds the objects of each."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from cryojax_seg.core.blocks import release
from cryojax_seg.measure.boxes import MARGIN, Nanometres
from cryojax_seg.measure.kinds import Kind
from cryojax_seg.measure.objects import InstanceArray, components
from cryojax_seg.measure.region import Region
from cryojax_seg.measure.separation import number_membranes
from cryojax_seg.measure.splitting import split_at_necks, split_at_valleys
from cryojax_seg.measure.tiled import MOST, Box, numbered, on_disk, sections

SMALLEST = 50  # voxels of an object that is no membrane


@dataclasses.dataclass(frozen=True, eq=False)
class ObjectClass:
    """Describes a class of objects to measure.

    Attributes:
        name: the name of the class; those of microtubules are measured as hollow.
        label: its value in the label volume.
        kind: how its objects are measured, one of `KINDS`.
        numbers: ``(z, y, x)`` numbers of its objects, from 1, which replace its label in the label
            volume; None to number its components.
        identifiers: for each of those numbers, its name in the rows; empty to keep the numbers.
        probability: ``(z, y, x)`` calibrated probability of the class, which may stay on disk; None
            for no intervals.

    >>> from cryojax_seg.measure.kinds import kind_of
    >>> ObjectClass("outer membrane", 1, kind_of("outer membrane")).kind
    'membrane'
    """

    name: str
    label: int
    kind: Kind
    numbers: Int[np.ndarray, "_z _y _x"] | None = None
    identifiers: Sequence[int] = ()
    probability: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """Holds a label volume with its classes."""

    labels: np.ndarray
    voxel_size: tuple[float, float, float]
    classes: Sequence[ObjectClass]

    @property
    def voxel_nm(self) -> Nanometres:
        z, y, x = (v / 10 for v in self.voxel_size)
        return z, y, x

    def mask(self, one: ObjectClass, most: int = MOST) -> np.ndarray:
        """Return the voxels of a class without numbers of its own.

        Args:
            one: the class.
            most: voxels up to which the mask is kept in memory, and not on disk.
        """
        shape = (len(self.labels), *self.labels.shape[1:])
        mask = np.zeros(shape, bool) if np.prod(shape) <= most else on_disk(shape, dtype=bool)
        for own, section in zip(sections(mask), sections(self.labels), strict=True):
            own[:] = section == one.label
        return mask

    def zeros(self, most: int = MOST) -> InstanceArray:
        """Return a map of zeros for the numbers of objects, on disk if it has more voxels."""
        shape = (len(self.labels), *self.labels.shape[1:])
        return np.zeros(shape, np.int32) if np.prod(shape) <= most else on_disk(shape)

    def region(self, most: int = MOST) -> Region:
        """Return the entire volume as a region, with all membranes and organelles in it.

        Args:
            most: voxels up to which these are kept in memory, and not on disk.
        """
        shape = (len(self.labels), *self.labels.shape[1:])

        def of_kind(kind: Kind) -> np.ndarray | None:
            classes = [one for one in self.classes if one.kind == kind]
            if not classes:
                return None
            size = np.prod(shape)
            mask = np.zeros(shape, bool) if size <= most else on_disk(shape, dtype=bool)
            for one in classes:
                for z, section in enumerate(self.labels if one.numbers is None else one.numbers):
                    mask[z] |= section > 0 if one.numbers is not None else section == one.label
            return mask

        return Region(
            shape,
            self.voxel_size,
            membrane=of_kind("membrane"),
            organelle=of_kind("organelle"),
        )

    def objects(
        self, one: ObjectClass, smallest: int | None, split: bool, most: int = MOST
    ) -> InstanceArray:
        """Return the number of the object of each voxel of a class, the largest first.

        Args:
            one: the class.
            smallest, split: as in `measure.measure_classes`.
            most: voxels that are divided at a time. The numbers of a larger volume are on disk.
        """
        if one.numbers is not None:
            return one.numbers
        numbers = self.zeros(most)
        box = self._box(one)
        if box is None:
            return numbers
        labels, own = self.labels[box], numbers[box]

        def mask(part: Box) -> np.ndarray:
            return labels[part] == one.label

        if one.kind == "membrane":
            probability = None if one.probability is None else _Part(one.probability, box)
            number_membranes(own, mask, probability, smallest, most)
            if split and probability is not None:
                split_at_valleys(own, probability, smallest=smallest or SMALLEST)
            return numbers
        smallest = SMALLEST if smallest is None else smallest
        numbered(own, lambda part: components(mask(part)), smallest, most, margin=1)
        if split:
            split_at_necks(own, self.voxel_nm, smallest=smallest)
        return numbers

    def _box(self, one: ObjectClass) -> Box | None:
        """Return the slices of the box around a class, with a margin; None if it is empty."""
        seen = [np.zeros(n, bool) for n in self.labels.shape]
        for z, section in enumerate(self.labels):
            inside = section == one.label
            seen[0][z] = inside.any()
            seen[1] |= inside.any(1)
            seen[2] |= inside.any(0)
        if not seen[0].any():
            return None
        ends = [np.flatnonzero(axis)[[0, -1]].tolist() for axis in seen]
        z, y, x = (
            slice(max(0, low - MARGIN), min(len(axis), high + 1 + MARGIN))
            for (low, high), axis in zip(ends, seen, strict=True)
        )
        return z, y, x


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """Reads a box of a volume that may stay on disk, as float32."""

    volume: Any
    box: Box

    def __getitem__(self, part: Box) -> np.ndarray:
        z, y, x = (
            slice(own.start + inner.start, own.start + inner.stop)
            for own, inner in zip(self.box, part, strict=True)
        )
        return np.asarray(self.volume[z, y, x], np.float32)


class Floats:
    """Reads parts of a volume that may stay on disk, as float32.

    >>> Floats(np.arange(3).reshape(1, 1, 3))[:, 0, 1:].tolist()
    [[1.0, 2.0]]
    """

    def __init__(self, volume: Any):
        self._volume, self.shape, self.ndim = volume, tuple(volume.shape), len(volume.shape)
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, part: Any) -> np.ndarray:
        found = np.array(self._volume[part], np.float32)
        release(self._volume)
        return found
