"""Cleans the labels of a segmentation, and numbers and thins its objects, slab by slab."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import numpy as np

from cryojax_seg.core import Tomogram
from cryojax_seg.core.plain import Shape
from cryojax_seg.errors import ParameterError
from cryojax_seg.measure import slabs, thin
from cryojax_seg.measure.holes import with_filled_holes
from cryojax_seg.measure.kinds import kind_of
from cryojax_seg.measure.separation import number_membranes
from cryojax_seg.measure.slabs import Objects, Part, Read
from cryojax_seg.measure.tiled import ReadBox, on_disk

Write = Callable[[slice, np.ndarray], None]
Skeleton = Literal["auto", "surface", "line"]
Volumes = float | int | Mapping[str, float | int]


class CleanSettings(TypedDict, total=False):
    """Holds the settings of cleaning, which does nothing by default.

    Taken by `cleaning`.

    Attributes:
        min_size: volume in nm^3 of the smallest object that stays, of every class or by class.
        fill_holes: volume in nm^3 of the largest hole that is filled, of every class or by class.
            A hole is background, connected by faces, that touches one class and no face of the
            tomogram.
        instances: whether to write a volume with a number for each object, NAME.instances, beside
            the labels. Membranes that touch are separate objects, see `Cleaning.objects`.
        skeleton: whether to write the mid-surfaces of membranes and the centre lines of filaments
            as labels, NAME.skeleton, beside the labels: "auto" for the classes whose names say
            that they are one or the other; "surface" or "line" for that of every class.
    """

    min_size: Volumes
    fill_holes: Volumes
    instances: bool
    skeleton: Skeleton | None


@dataclasses.dataclass(frozen=True)
class Cleaning:
    """Holds what is cleaned, for the labels 1, 2, ... of a tomogram, in voxels.

    Returned by `cleaning`.

    Attributes:
        min_size: voxels of the smallest object of each class that stays; 0 or 1 for all.
        fill_holes: voxels of the largest hole in each class that is filled; 0 for none.
        instances: whether objects are numbered.
        forms: what the skeleton of each class is; None for none.
        membranes: which classes are membranes; by default none.

    >>> Cleaning((0.0,), (0.0,)).changes, Cleaning((8.0, 0.0), (0.0, 0.0)).changes
    (False, True)
    """

    min_size: tuple[float, ...]
    fill_holes: tuple[float, ...]
    instances: bool = False
    forms: tuple[thin.Form | None, ...] = ()
    membranes: tuple[bool, ...] = ()

    @property
    def changes(self) -> bool:
        """Return whether any labels may change."""
        return max(self.min_size) > 1 or max(self.fill_holes) >= 1

    def clean(self, read: Read, write: Write, shape: Shape) -> None:
        """Remove the small objects of each class, then fill the holes of the others, in place.

        A volume that was cleaned in part may be cleaned again, with the same result.

        Args:
            read: returns the labels of a range of z sections.
            write: takes the new labels of a range of z sections.
            shape: of the volume.

        >>> labels = np.ones((3, 3, 5), np.int8); labels[1, 1, 1] = 0; labels[:, :, 3] = 0
        >>> Cleaning((10.0,), (1.0,)).clean(lambda z: labels[z], labels.__setitem__, labels.shape)
        >>> labels[1, 1].tolist()
        [1, 1, 1, 0, 0]
        """
        for value, least in enumerate(self.min_size, 1):
            if least > 1:
                _replace(slabs.without_small(read, shape, value, least), write)
        if max(self.fill_holes) >= 1:
            _replace(with_filled_holes(read, shape, self.fill_holes), write)

    def objects(
        self, read: ReadBox, shape: Shape, folder: Path, maps: Mapping[int, Any] | None = None
    ) -> Objects:
        """Number the objects of all classes, one class after the other.

        Membranes that touch are separate objects, see `measure.separate_membranes`; objects of
        other classes are connected components by 26 neighbours.

        Args:
            read: returns the labels of a box.
            shape: of the volume.
            folder: where the numbers are kept meanwhile, in a file without a name.
            maps: the probability of each label, as far as they are known.

        >>> labels = np.zeros((4, 4, 4), np.int8); labels[1:3, 1:3] = 1
        >>> Cleaning((0.0,), (0.0,)).objects(labels.__getitem__, labels.shape, Path(".")).counts
        {1: 1}
        """
        values = range(1, len(self.min_size) + 1)
        membranes = dict.fromkeys(values, False) | dict(enumerate(self.membranes, 1))
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

    def skeletons(self, read: Read, shape: Shape) -> Iterator[Part]:
        """Yield the z sections of each slab, and the labels of the skeletons in it, int8."""

        def mask(value: int) -> Read:
            return lambda z: read(z) == value

        found = []
        for value, form in enumerate(self.forms, 1):
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


def check_cleaning(**settings: Unpack[CleanSettings]) -> None:
    """Raise a ParameterError that names the first setting without meaning."""
    for name in ("min_size", "fill_holes"):
        given = settings.get(name, 0.0)
        for value in given.values() if isinstance(given, Mapping) else (given,):
            if not 0 <= value < np.inf:
                raise ParameterError(f"{name} is a volume in nm^3, 0 or more, got {value}", name)


def cleaning(
    tomogram: Tomogram, classes: Sequence[str], **settings: Unpack[CleanSettings]
) -> Cleaning:
    """Return what is cleaned in the labels of a tomogram.

    Args:
        tomogram: whose voxel size turns volumes into voxels.
        classes: names of the labels 1, 2, ...
        settings: see `CleanSettings`.

    Raises:
        ParameterError: for a setting without meaning, or a class that there is not.
        ValueError: if the voxel size is needed and unknown.

    >>> tomogram = Tomogram(np.zeros((1, 1, 1)), (10.0, 10.0, 10.0))
    >>> found = cleaning(tomogram, ("membrane", "actin"), min_size={"actin": 50})
    >>> np.round(found.min_size, 3).tolist()
    [0.0, 50.0]
    """
    check_cleaning(**settings)
    found = {}
    for name in ("min_size", "fill_holes"):
        given = settings.get(name, 0.0)
        if not isinstance(given, Mapping):
            given = dict.fromkeys(classes, given)
        for word in given:
            if word not in classes:
                raise ParameterError(
                    f"{name} names {word}, and the classes are {', '.join(classes)}", name
                )
        volume = 1.0
        if any(given.values()):
            volume = float(np.prod(tomogram.require_voxel_size())) / 1e3  # nm^3
        # A grain less, so that an object of just this volume stays.
        found[name] = tuple(given.get(c, 0.0) / volume for c in classes)
    least = tuple(value * (1 - 1e-9) for value in found["min_size"])
    most = tuple(value * (1 + 1e-9) for value in found["fill_holes"])
    forms = _forms(classes, settings.get("skeleton"))
    membranes = tuple(kind_of(name) == "membrane" for name in classes)
    return Cleaning(least, most, settings.get("instances", False), forms, membranes)


def _forms(classes: Sequence[str], skeleton: Skeleton | None) -> tuple[thin.Form | None, ...]:
    """Return what the skeleton of each class is."""
    if skeleton is None:
        return ()
    if skeleton != "auto":
        return (skeleton,) * len(classes)
    forms: dict[str | None, thin.Form] = {"membrane": "surface", "filament": "line"}
    found: tuple[thin.Form | None, ...] = tuple(forms.get(kind_of(name)) for name in classes)
    if not any(found):
        raise ParameterError(
            f"no class is a membrane or a filament by its name ({', '.join(classes)}); say whether "
            "skeletons are surface or line",
            "skeleton",
        )
    return found
