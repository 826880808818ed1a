"""Inputs of ``cryojax-seg measure``: labels, maps of objects and probabilities on one grid."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from cryojax_seg import io, measure
from cryojax_seg.cli import console
from cryojax_seg.core.tomogram import Tomogram

_MANY = 20  # labels without a name that may rather be objects
_MOST = 127  # labels
_HINT = "if each number is one object, give --instances CLASS="
Numbered = tuple[np.ndarray, list[int]]  # a map of objects from 1 on, and their numbers in the file


def read_labels(options: Any) -> tuple[Tomogram, set[int]]:
    """The labels as they are stored, with voxel size and origin, and which occur.

    Without labels there are only objects: all is background then.
    """
    path = options.labels or instance_paths(options.instances)[0]
    with warnings.catch_warnings():
        # An unknown voxel size is refused below if nothing else tells it.
        warnings.filterwarnings("ignore", message=".*voxel size unknown", category=io.HeaderWarning)
        if options.tomogram is not None or options.voxel_size is not None:
            warnings.filterwarnings("ignore", message=".*voxel size", category=io.HeaderWarning)
        volume = io.read_tomogram(path, options.voxel_size)
    if options.tomogram is not None:
        tomogram = io.read_tomogram(options.tomogram, options.voxel_size)
        volume = _like(volume, tomogram, path, options.tomogram)
    volume.require_voxel_size()
    if options.labels is None or options.labels in instance_paths(options.instances):
        shape = volume.density.shape
        return dataclasses.replace(volume, density=np.zeros(shape, np.int8)), set()
    values, present = np.asarray(volume.density), set[int]()
    ignore = io.stored_ignore(options.ignore, values.dtype)
    for section in values:
        present |= set(_whole(np.unique(section), path)) - {0, ignore}
        if len(present) > _MOST:
            raise io.FileError(
                f"{path}: holds more than {_MOST} different labels, which are classes here; "
                f"{_HINT}{path}. Or is this a density?"
            )
    if not present and (values == ignore).any():
        raise io.FileError(
            f"{path}: no voxel has a label other than 0, so there is nothing to measure; "
            + io.not_annotated_hint(options.ignore)
        )
    if present == {255}:
        console.warn(f"{path}: holds 0 and 255 alone, so it is read as a mask: 255 is label 1")
        values, present = (values == 255).astype(np.int8), {1}
    if min(present, default=1) < 0:
        raise io.FileError(f"{path}: has negative labels; labels start at 0")
    if len(present) > max(_MANY, len(options.classes)):
        console.warn(
            f"{path}: each of its {len(present)} labels is taken for a class; {_HINT}{path}"
        )
    if values.dtype.kind == "f":
        values = values.astype(np.int32)
    return dataclasses.replace(volume, density=values), present


def _whole(values: np.ndarray, path: Path) -> list[int]:
    try:
        return measure.whole_numbers(values)
    except ValueError as error:
        raise io.FileError(f"{path}: {error}") from error


def read_instances(options: Any, volume: Tomogram) -> dict[str, Numbered]:
    """The maps of objects by the name of their class.

    Raises:
        ValueError: for an option that is no CLASS=PATH, or a class that is given twice.
        FileError: for a file that is no map of objects, or of another grid.
    """
    found: dict[str, Numbered] = {}
    for word, path in zip(options.instances, instance_paths(options.instances), strict=True):
        name = word.partition("=")[0]
        if name in found:
            raise ValueError(f"--instances {word}: the class {name} is given twice")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*voxel size", category=io.HeaderWarning)
            numbers = io.read_tomogram(path, options.voxel_size)
        _like(numbers, volume, path, options.labels or options.tomogram or path)
        try:
            found[name] = measure.renumber(np.asarray(numbers.density))
        except ValueError as error:
            raise io.FileError(f"{path}: {error}") from error
    return found


def instance_paths(instances: tuple[str, ...]) -> list[Path]:
    """The files of ``CLASS=PATH``, or a ValueError for a word that is none."""
    for word in instances:
        name, _, path = word.partition("=")
        if not (name and path):
            raise ValueError(f"--instances {word}: CLASS=PATH is needed, such as vesicle=map.mrc")
    return [Path(word.partition("=")[2]) for word in instances]


def read_probabilities(options: Any, volume: Tomogram, labels: list[int]) -> dict[int, Any]:
    """The probability maps by label."""
    if not options.probabilities:
        return {}
    if len(options.probabilities) != len(labels):
        raise ValueError(
            f"--probabilities: {len(options.probabilities)} maps for {len(labels)} classes "
            f"({', '.join(map(str, labels))}); give one for each, in the order of the labels"
        )
    maps = {}
    for label, path in zip(labels, options.probabilities, strict=True):
        values = io.read_tomogram(path, options.voxel_size).density
        _same_shape(path, values, options.labels or volume.name, volume.density)
        maps[label] = values
    return maps


def _like(volume: Tomogram, other: Tomogram, path: Path, against: Path) -> Tomogram:
    """The volume with the voxel size and origin of another one of the same grid."""
    _same_shape(path, volume.density, against, other.density)
    own, wanted = volume.voxel_size, other.voxel_size
    if not any(volume.origin) and not any(volume.start):
        volume = dataclasses.replace(volume, origin=other.origin, start=other.start)
    if own is None or own == (1.0, 1.0, 1.0):  # 1 A: never filled in
        return dataclasses.replace(volume, voxel_size=wanted)
    if wanted is not None and any(abs(a - b) > 0.01 * b for a, b in zip(own, wanted, strict=True)):
        sizes = [", ".join(f"{v:g}" for v in size) for size in (own, wanted)]
        raise io.FileError(
            f"{path}: has voxel size {sizes[0]} A (z, y, x), and {against} has "
            f"{sizes[1]} A; correct the wrong header, or give the right one with "
            "--voxel-size ANGSTROM"
        )
    return volume


def _same_shape(path: Path, values: Any, against: Path | str, others: Any) -> None:
    if values.shape != others.shape:
        raise io.FileError(
            f"{path}: has shape {values.shape} (z, y, x), and {against} has "
            f"{others.shape}; they must lie on the same grid"
        )
