"""Cuts each object of a class out in a box of its own, and measures what all kinds share."""

from collections.abc import Sequence
from typing import Any, NamedTuple, overload

import numpy as np
from scipy import ndimage

from cryojax_seg.core.blocks import release
from cryojax_seg.measure.measured import Measured
from cryojax_seg.measure.objects import InstanceArray, places
from cryojax_seg.measure.tiled import on_disk, sections
from cryojax_seg.measure.uncertainty import interval_if_present

MARGIN = 16  # voxels around an object, beyond which windows see nothing of it
_NEAR = 3  # voxels around an object in which its probabilities count
Nanometres = tuple[float, float, float]


class ObjectBox(NamedTuple):
    """Holds one object in a box.

    Returned by `ObjectBoxes`, by index.

    Attributes:
        number: the number of the object in its instance map.
        start: index of the first voxel of the box, zyx.
        mask: bool ``(z, y, x)``, the voxels of the object.
        probability: float32 ``(z, y, x)``, the probability of its class near the object and 0
            elsewhere; None without probabilities.
    """

    number: int
    start: tuple[int, int, int]
    mask: np.ndarray
    probability: np.ndarray | None


class CutMask:
    """Cuts parts of the mask of an object out of an instance map whenever they are asked for.

    Args:
        numbers: the box around the object in the map, ``(z, y, x)``.
        number: of the object in the map.

    >>> mask = CutMask(np.array([[[0, 7, 7, 3]]]), 7)
    >>> mask.shape, mask[:, :, 2:].tolist(), int(np.asarray(mask).sum())
    ((1, 1, 4), [[[True, False]]], 2)
    """

    def __init__(self, numbers: InstanceArray, number: int):
        self._numbers, self._number, self.shape = numbers, number, numbers.shape

    def __getitem__(self, part: tuple[slice, ...]) -> np.ndarray:
        found = np.asarray(self._numbers[part]) == self._number
        release(self._numbers)
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:, :, :]


class ObjectBoxes(Sequence[ObjectBox]):
    """Cuts the objects of an instance map out one by one, in boxes with a margin of 16 voxels.

    A box is cut whenever it is asked for, so that the map may stay on disk.

    Args:
        numbers: ``(z, y, x)`` the number of the object of each voxel; 0 is background.
        probability: ``(z, y, x)`` the probability of the class, which may stay on disk. An object
            gets the values within three voxels of it that belong to no other object.
        names: the numbers that the objects get instead, in order; None for those of the map.

    >>> numbers = np.zeros((4, 4, 60), np.int32); numbers[1, 1, 30] = 7
    >>> (box,) = ObjectBoxes(numbers)
    >>> box.number, box.start, box.mask.shape
    (7, (0, 0, 14), (4, 4, 33))
    """

    def __init__(
        self, numbers: InstanceArray, probability: Any = None, names: Sequence[int] | None = None
    ):
        self.numbers, self._probability = numbers, probability
        self._places = places(numbers, MARGIN)
        self._names = self.values() if names is None else list(names)

    def named(self, names: Sequence[int]) -> "ObjectBoxes":
        """Return the same objects without probabilities, and with other numbers."""
        return ObjectBoxes(self.numbers, None, names)

    def values(self) -> list[int]:
        """Return the number of each object in the map."""
        return [number for number, _ in self._places]

    @property
    def names(self) -> dict[int, int]:
        """Return the number that each object has here, by its number in the map."""
        return dict(zip(self.values(), self._names, strict=True))

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> ObjectBox: ...
    @overload
    def __getitem__(self, index: slice) -> "list[ObjectBox]": ...
    def __getitem__(self, index: int | slice) -> "ObjectBox | list[ObjectBox]":
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number, box = self._places[index]
        here = np.asarray(self.numbers[box])
        mask, near = here == number, None
        if self._probability is not None:
            own = np.asarray(self._probability[box], np.float32)
            others = (here > 0) & ~mask
            around = np.asarray(ndimage.binary_dilation(mask, iterations=_NEAR), bool)
            near = np.where(around & ~others, own, np.float32(0))
        release(self.numbers)
        z, y, x = (part.start for part in box)
        return ObjectBox(self._names[index], (z, y, x), mask, near)

    def cut(self, index: int) -> tuple[tuple[int, ...], CutMask]:
        """Return the first voxel of the box of an object, and its mask to read parts of."""
        number, box = self._places[index]
        return tuple(part.start for part in box), CutMask(self.numbers[box], number)

    def renamed(self) -> InstanceArray:
        """Return the map with the numbers that the objects have here, on disk if it is there."""
        if self._names == self.values():
            return self.numbers
        kind = np.int32 if max(self._names) <= np.iinfo(np.int32).max else np.int64
        table = np.zeros(1 + max(self.values()), kind)
        table[self.values()] = self._names
        shape, large = self.numbers.shape, isinstance(self.numbers, np.memmap)
        found = on_disk(shape, dtype=kind) if large else np.zeros(shape, kind)
        for own, section in zip(sections(found), sections(self.numbers), strict=True):
            own[:] = table[section]
        return found


def voxels_and_volume(box: ObjectBox, voxel_nm: Nanometres) -> dict[str, Any]:
    """Return the number of voxels of an object, and its volume with an interval."""
    one = float(np.prod(voxel_nm))
    voxels = int(np.count_nonzero(box.mask))
    low = high = None
    if box.probability is not None:
        low, high = interval_if_present(
            lambda mask: float(np.count_nonzero(mask)) * one, box.probability, 2
        )
    return {"voxels": voxels, "volume_nm3": Measured(voxels * one, low, high)}


def place_and_size(box: ObjectBox, voxel_nm: Nanometres) -> dict[str, Any]:
    """Return the fields that the rows of membranes and organelles have in common."""
    where = np.array([float(np.mean(i)) for i in np.nonzero(box.mask)])
    z, y, x = ((where + box.start) * voxel_nm).tolist()
    return {
        "instance": box.number,
        "centre_nm": (z, y, x),
        **voxels_and_volume(box, voxel_nm),
    }
