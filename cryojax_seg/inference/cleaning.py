"""States how the labels of a segmentation are cleaned."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict, Unpack

import numpy as np

from cryojax_seg.core import Tomogram
from cryojax_seg.errors import ParameterError
from cryojax_seg.measure.kinds import Form, kind_of

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
            the labels. Membranes that touch are separate objects, see `cleaned.objects`.
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

    Returned by `cleaning`, and carried out by `cleaned.clean`, `cleaned.objects` and
    `cleaned.skeletons`.

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
    forms: tuple[Form | None, ...] = ()
    membranes: tuple[bool, ...] = ()

    @property
    def changes(self) -> bool:
        """Return whether any labels may change."""
        return max(self.min_size) > 1 or max(self.fill_holes) >= 1


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


def _forms(classes: Sequence[str], skeleton: Skeleton | None) -> tuple[Form | None, ...]:
    """Return what the skeleton of each class is."""
    if skeleton is None:
        return ()
    if skeleton != "auto":
        return (skeleton,) * len(classes)
    forms: dict[str | None, Form] = {"membrane": "surface", "filament": "line"}
    found: tuple[Form | None, ...] = tuple(forms.get(kind_of(name)) for name in classes)
    if not any(found):
        raise ParameterError(
            f"no class is a membrane or a filament by its name ({', '.join(classes)}); say whether "
            "skeletons are surface or line",
            "skeleton",
        )
    return found
