"""Cleans the labels of a segmentation, and numbers and thins its objects, slab by slab."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cryojax_seg.core.plain import Shape
from cryojax_seg.inference.cleaning import Cleaning
from cryojax_seg.measure import slabs, thin
from cryojax_seg.measure.holes import with_filled_holes
from cryojax_seg.measure.separation import number_membranes
from cryojax_seg.measure.slabs import Objects, Part, Read
from cryojax_seg.measure.tiled import ReadBox, on_disk

Write = Callable[[slice, np.ndarray], None]


def clean(cleaning: Cleaning, read: Read, write: Write, shape: Shape) -> None:
    """Remove the small objects of each class, then fill the holes of the others, in place.

    A volume that was cleaned in part may be cleaned again, with the same result.

    Args:
        cleaning: what is cleaned.
        read: returns the labels of a range of z sections.
        write: takes the new labels of a range of z sections.
        shape: of the volume.

    >>> labels = np.ones((3, 3, 5), np.int8); labels[1, 1, 1] = 0; labels[:, :, 3] = 0
    >>> how = Cleaning((10.0,), (1.0,))
    >>> clean(how, lambda z: labels[z], labels.__setitem__, labels.shape)
    >>> labels[1, 1].tolist()
    [1, 1, 1, 0, 0]
    """
    for value, least in enumerate(cleaning.min_size, 1):
        if least > 1:
            _replace(slabs.without_small(read, shape, value, least), write)
    if max(cleaning.fill_holes) >= 1:
        _replace(with_filled_holes(read, shape, cleaning.fill_holes), write)


def objects(
    cleaning: Cleaning,
    read: ReadBox,
    shape: Shape,
    folder: Path,
    maps: Mapping[int, Any] | None = None,
) -> Objects:
    """Number the objects of all classes, one class after the other.

    Membranes that touch are separate objects, see `measure.separate_membranes`; objects of
    other classes are connected components by 26 neighbours.

    Args:
        cleaning: what is cleaned.
        read: returns the labels of a box.
        shape: of the volume.
        folder: where the numbers are kept meanwhile, in a file without a name.
        maps: the probability of each label, as far as they are known.

    >>> labels = np.zeros((4, 4, 4), np.int8); labels[1:3, 1:3] = 1
    >>> how = Cleaning((0.0,), (0.0,))
    >>> objects(how, labels.__getitem__, labels.shape, Path(".")).counts
    {1: 1}
    """
    values = range(1, len(cleaning.min_size) + 1)
    membranes = dict.fromkeys(values, False) | dict(enumerate(cleaning.membranes, 1))
    rest = [value for value in values if not membranes[value]]
    found = {}
    if rest:
        every = (slice(shape[1]), slice(shape[2]))
        others = slabs.objects(lambda z: read((z, every[0], every[1])), shape, rest)
        found = dict(others.classes)
    for value in values:
        if membranes[value]:
            numbers = on_disk(shape, folder)
            count = number_membranes(
                numbers, lambda box, value=value: read(box) == value, (maps or {}).get(value)
            )
            found[value] = Numbered(numbers, count)
    return Objects({value: found[value] for value in values})


def skeletons(cleaning: Cleaning, read: Read, shape: Shape) -> Iterator[Part]:
    """Yield the z sections of each slab, and the labels of the skeletons in it, int8."""

    def mask(value: int) -> Read:
        return lambda z: read(z) == value

    found = []
    for value, form in enumerate(cleaning.forms, 1):
        if form is not None:
            window = thin.window_of(mask(value), shape, form)
            found.append((value, thin.thinned(mask(value), shape, form, window)))
    for parts in zip(*(part for _, part in found), strict=True):
        labels = np.zeros(parts[0][1].shape, np.int8)
        for (value, _), (_, inside) in zip(found, parts, strict=True):
            labels[inside] = value
        yield parts[0][0], labels


@dataclasses.dataclass(frozen=True, eq=False)
class Numbered:
    """Holds the numbers of the objects of one class, and yields them as `slabs.Components` does.

    Attributes:
        numbers: int32 ``(z, y, x)``, which may be on disk.
        count: number of the objects.
    """

    numbers: np.ndarray
    count: int

    def slabs(self) -> Iterator[Part]:
        """Yield the z sections of each slab and the number of every voxel."""
        shape: Any = self.numbers.shape
        for z in slabs.slabs(shape[0], slabs.depth_of(shape)):
            yield z, np.asarray(self.numbers[z])


@dataclasses.dataclass(frozen=True)
class Written:
    """Reads boxes of a volume that was written, by square brackets as from an array.

    >>> Written(np.arange(4).__getitem__)[slice(1, 3)].tolist()
    [1, 2]
    """

    read: Callable[[Any], np.ndarray]

    def __getitem__(self, box: Any) -> np.ndarray:
        """Return what is written in a box."""
        return self.read(box)


def _replace(parts: Iterator[Part], write: Write) -> None:
    for z, block in parts:
        write(z, block)
