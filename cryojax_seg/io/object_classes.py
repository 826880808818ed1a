"""Read the classes of a label volume, as `measure` takes them, from files on one grid."""

import dataclasses
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.errors import Mendable, ParameterError
from cryojax_seg.io.annotation import not_annotated_hint, stored_ignore
from cryojax_seg.io.files import FileError, HeaderWarning, PathLike
from cryojax_seg.io.label_card import read_label_card, stated_names
from cryojax_seg.io.volume import read_tomogram

if TYPE_CHECKING:
    from cryojax_seg.measure import Kind, ObjectClass

_MANY = 20  # labels without a name that may rather be objects
_MOST = 127  # labels
_HINT = "if each number is one object, give this file as instances"
_log = logging.getLogger("cryojax_seg.io")


def read_object_classes(
    labels: PathLike | None = None,
    *,
    instances: Mapping[str, PathLike] | None = None,
    probabilities: Sequence[PathLike] = (),
    tomogram: PathLike | None = None,
    classes: Sequence[str] = (),
    kind: Mapping[str, "Kind"] | None = None,
    voxel_size: float | None = None,
    ignore: int = 255,
) -> tuple[Tomogram, list["ObjectClass"]]:
    """Read label volumes, maps of objects and probability maps for `measure.measure_classes`.

    Args:
        labels: the label volume, in which each number is a class and 0 is background; None if
            there are only instances.
        instances: volumes in which each number is one object of a class, by the name of the class.
        probabilities: maps of the classes in `labels`, in the order of their labels.
        tomogram: the tomogram that is labelled; its shape and voxel size must be those of the
            labels, and its origin counts where the labels have none.
        classes: names of the labels 1, 2, ... in order; by default those that the label volume
            states, see `read_label_card`.
        kind: kind of a class by its name or by the number of its label, where neither the label
            volume nor the name tells it.
        voxel_size: angstrom, instead of what the headers say.
        ignore: value of voxels that nobody annotated; they count as background.

    Returns:
        the labels with voxel size and origin, and the classes in the order of their labels. The
        labels are all 0 if there are only instances.

    Raises:
        ParameterError: if there is nothing to measure, or a kind is of no class.
        FileError: naming a file that does not hold labels, or does not lie on the same grid.

    >>> import tempfile
    >>> from cryojax_seg.io import write_mrc
    >>> file = Path(tempfile.mkdtemp()) / "labels.mrc"
    >>> write_mrc(file, np.array([[[0, 1, 2]]], np.int8), voxel_size=10.0)
    >>> volume, found = read_object_classes(file, classes=("ER membrane", "actin"))
    >>> [(one.name, one.label, one.kind) for one in found]
    [('ER membrane', 1, 'membrane'), ('actin', 2, 'filament')]
    """
    from cryojax_seg import measure

    instances = dict(instances or {})
    if labels is None and not instances:
        raise ParameterError("there is nothing to measure; give labels or instances", "instances")
    path = next(iter(instances.values())) if labels is None else labels
    volume = _read_on_grid(path, tomogram, voxel_size)
    present: set[int] = set()
    card = None if labels is None else read_label_card(labels)
    classes = classes if labels is None else stated_names(labels, classes)
    if labels is None or Path(labels) in map(Path, instances.values()):
        empty = np.zeros(volume.density.shape, np.int8)
        volume = dataclasses.replace(volume, density=empty)
    else:
        volume, present = _checked(volume, Path(labels), ignore, len(classes))
    wanted = present | set(range(1, len(classes) + 1))
    wanted |= {int(key) for key in kind or {} if key.isdecimal()} - {0}
    names = {n: classes[n - 1] if n <= len(classes) else f"label {n}" for n in sorted(wanted)}
    numbered = _instances(instances, volume, names, tomogram or path, voxel_size)
    maps = _probabilities(probabilities, sorted(names), volume, path, voxel_size)
    known = dict(zip(card.classes, card.kinds, strict=False)) if card else {}
    kinds = _kinds(names, known, kind or {})
    found = [
        measure.ObjectClass(
            name,
            label,
            kinds[label],
            numbers=numbered[label][0] if label in numbered else None,
            identifiers=numbered[label][1] if label in numbered else (),
            probability=maps.get(label),
        )
        for label, name in names.items()
    ]
    return volume, found


def _read_on_grid(path: PathLike, tomogram: PathLike | None, size: float | None) -> Tomogram:
    """Read labels as they are stored, with the voxel size and origin of their tomogram."""
    with warnings.catch_warnings():
        # An unknown voxel size is refused below if nothing else tells it.
        warnings.filterwarnings("ignore", message=".*voxel size unknown", category=HeaderWarning)
        if tomogram is not None or size is not None:
            warnings.filterwarnings("ignore", message=".*voxel size", category=HeaderWarning)
        volume = read_tomogram(path, size)
    if tomogram is not None:
        volume = _like(volume, read_tomogram(tomogram, size), path, tomogram)
    volume.require_voxel_size()
    return volume


def _checked(volume: Tomogram, path: Path, ignore: int, named: int) -> tuple[Tomogram, set[int]]:
    """Return labels as integers, and which of them occur."""
    values, present = np.asarray(volume.density), set[int]()
    stored = stored_ignore(ignore, values.dtype)
    for section in values:
        present |= set(_whole(np.unique(section), path)) - {0, stored}
        if len(present) > _MOST:
            raise FileError(
                f"{path}: holds more than {_MOST} different labels, which are classes here; "
                f"{_HINT}. Or is this a density?",
                "instances",
            )
    if not present and (values == stored).any():
        raise FileError(
            f"{path}: no voxel has a label other than 0, so there is nothing to measure; "
            + not_annotated_hint(ignore),
            "ignore",
        )
    if present == {255}:
        _log.warning(f"{path}: holds 0 and 255 alone, so it is read as a mask: 255 is label 1")
        values, present = (values == 255).astype(np.int8), {1}
    if min(present, default=1) < 0:
        raise FileError(f"{path}: has negative labels; labels start at 0")
    if len(present) > max(_MANY, named):
        problem = f"{path}: each of its {len(present)} labels is taken for a class; {_HINT}"
        _log.warning(Mendable(problem, "instances"))
    if values.dtype.kind == "f":
        values = values.astype(np.int32)
    return dataclasses.replace(volume, density=values), present


def _whole(values: np.ndarray, path: Path) -> list[int]:
    from cryojax_seg import measure

    try:
        return measure.whole_numbers(values)
    except ValueError as error:
        raise FileError(f"{path}: {error}") from error


def _instances(
    paths: Mapping[str, PathLike],
    volume: Tomogram,
    names: dict[int, str],
    against: PathLike,
    size: float | None,
) -> dict[int, tuple[np.ndarray, list[int]]]:
    """Read maps of objects by the label of their class; a class without a label gets a new one."""
    from cryojax_seg import measure

    found = {}
    labels = {name: label for label, name in names.items()}
    labels |= {str(label): label for label in names if str(label) not in labels}
    for name, path in paths.items():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*voxel size", category=HeaderWarning)
            numbers = read_tomogram(path, size)
        _like(numbers, volume, path, against)
        label = labels.get(name, max(names, default=0) + 1)
        names.setdefault(label, name)
        try:
            found[label] = measure.renumber(np.asarray(numbers.density))
        except ValueError as error:
            raise FileError(f"{path}: {error}") from error
    return found


def _probabilities(
    paths: Sequence[PathLike],
    labels: Sequence[int],
    volume: Tomogram,
    against: PathLike,
    size: float | None,
) -> dict[int, Any]:
    """Read probability maps by label."""
    if not paths:
        return {}
    if len(paths) != len(labels):
        raise ParameterError(
            f"{len(paths)} maps for {len(labels)} classes ({', '.join(map(str, labels))}); give "
            "one for each, in the order of the labels",
            "probabilities",
        )
    maps = {}
    for label, path in zip(labels, paths, strict=True):
        values = read_tomogram(path, size).density
        _same_shape(path, values, against, volume.density)
        maps[label] = values
    return maps


def _kinds(
    names: Mapping[int, str], stated: Mapping[str, "Kind | None"], given: Mapping[str, "Kind"]
) -> dict[int, "Kind"]:
    """Return the kind of each class: as given, as its file states, as its name tells, organelle."""
    from cryojax_seg import measure

    numbers = {str(label): label for label in names} | {name: n for n, name in names.items()}
    kinds: dict[int, Kind | None] = {
        n: stated.get(name) or measure.kind_of(name) for n, name in names.items()
    }
    for key, kind in given.items():
        if key not in numbers:
            known = ", ".join(names.values())
            raise ParameterError(f"kind: no class is called {key}; the classes are {known}", "kind")
        kinds[numbers[key]] = kind
    found: dict[int, Kind] = {}
    for label, kind in kinds.items():
        if kind is None:
            problem = f"{names[label]} has no kind and is measured as an organelle; give its kind"
            _log.warning(Mendable(problem, "kind"))
        found[label] = kind or "organelle"
    return found


def _like(volume: Tomogram, other: Tomogram, path: PathLike, against: PathLike) -> Tomogram:
    """Return the volume with the voxel size and origin of another one of the same grid."""
    _same_shape(path, volume.density, against, other.density)
    own, wanted = volume.voxel_size, other.voxel_size
    if not any(volume.origin) and not any(volume.start):
        volume = dataclasses.replace(volume, origin=other.origin, start=other.start)
    if own is None or own == (1.0, 1.0, 1.0):  # 1 A: never filled in
        return dataclasses.replace(volume, voxel_size=wanted)
    if wanted is not None and any(abs(a - b) > 0.01 * b for a, b in zip(own, wanted, strict=True)):
        sizes = [", ".join(f"{v:g}" for v in size) for size in (own, wanted)]
        raise FileError(
            f"{path}: has voxel size {sizes[0]} A (z, y, x), and {against} has {sizes[1]} A; "
            "correct the wrong header, or give the right voxel_size",
            "voxel_size",
        )
    return volume


def _same_shape(path: PathLike, values: Any, against: PathLike, others: Any) -> None:
    if values.shape != others.shape:
        raise FileError(
            f"{path}: has shape {values.shape} (z, y, x), and {against} has {others.shape}; they "
            "must lie on the same grid"
        )
