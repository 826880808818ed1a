"""Describes a label volume with its classes, and finds the objects of each."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from scipy import ndimage

from cryojax_seg.measure.boxes import MARGIN, Nanometres
from cryojax_seg.measure.kinds import Kind
from cryojax_seg.measure.objects import components, split_at_valleys, split_touching
from cryojax_seg.measure.region import Region
from cryojax_seg.measure.separation import separate_membranes

Box = tuple[slice, ...]
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

    def mask(self, one: ObjectClass) -> np.ndarray:
        """Return the voxels of a class."""
        return self.labels == one.label if one.numbers is None else one.numbers > 0

    def region(self) -> Region:
        """Return the entire volume as a region, with all membranes and organelles in it."""

        def of_kind(kind: Kind) -> np.ndarray | None:
            masks = [self.mask(one) for one in self.classes if one.kind == kind]
            return np.logical_or.reduce(masks) if masks else None

        return Region(
            self.labels.shape,
            self.voxel_size,
            membrane=of_kind("membrane"),
            organelle=of_kind("organelle"),
        )

    def objects(
        self, one: ObjectClass, smallest: int | None, split: bool
    ) -> tuple[Box, np.ndarray]:
        """Return the box around a class, and the numbers of its objects there, largest first."""
        (found,) = ndimage.find_objects(self.mask(one).view(np.int8)) or (None,)
        if found is None:
            return (slice(0, 0),) * 3, np.zeros((0, 0, 0), np.int32)
        box = tuple(
            slice(max(0, s.start - MARGIN), min(n, s.stop + MARGIN))
            for s, n in zip(found, self.labels.shape, strict=True)
        )
        if one.numbers is not None:
            return box, one.numbers[box]
        mask = self.labels[box] == one.label
        if one.kind == "membrane":
            own = None if one.probability is None else np.asarray(one.probability[box], np.float32)
            found = separate_membranes(mask, own, smallest)
            if split and own is not None:
                found = split_at_valleys(found, own, smallest=smallest or SMALLEST)
            return box, found
        smallest = SMALLEST if smallest is None else smallest
        if split:
            return box, split_touching(mask, self.voxel_nm, smallest=smallest)
        return box, components(mask, smallest)
