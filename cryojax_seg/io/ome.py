"""Read and check the metadata of OME-Zarr volumes (NGFF 0.5 and 0.4)."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cryojax_seg.io.files import FileError
from cryojax_seg.io.plain import read_json
from cryojax_seg.io.voxel_size import ANGSTROM_PER_UNIT
from cryojax_seg.text import shown

Zyx = tuple[float, float, float]

_DRIVERS = {"zarr.json": "zarr3", ".zattrs": "zarr"}  # TensorStore's name of Zarr 3 and 2
_VERSIONS = ("0.4", "0.5")
STEPS = "coordinateTransformations"
EXCLUDED_ARRAY = "excluded"  # beside the levels of painted labels; see `view.excluded`
# What an OME-Zarr volume consists of, in either version, with up to five axes.
FILES = (
    *("zarr.json", ".zattrs", ".zgroup", ".zmetadata"),
    *(f"[0-9]*/{name}" for name in ("zarr.json", ".zarray", ".zattrs", "[0-9]*")),
    *(f"[0-9]*/{'/'.join(['[0-9]*'] * n)}" for n in (3, 4, 5)),
    *(f"[0-9]*/c/{'/'.join(['[0-9]*'] * n)}" for n in (3, 4, 5)),
    *(f"{EXCLUDED_ARRAY}/{name}" for name in ("zarr.json", ".zarray", "[0-9]*", "c/[0-9]*/[0-9]*")),
)


@dataclasses.dataclass(frozen=True)
class Level:
    """One resolution of a volume.

    Attributes:
        folder: of its Zarr array.
        voxel_size: angstrom along z, y, x; None if the unit is unknown.
        origin: angstrom, position of the centre of voxel (0, 0, 0) along z, y, x.
        chunks: files that were written, which this package notes down; None if unknown.
    """

    folder: Path
    voxel_size: Zyx | None
    origin: Zyx
    chunks: int | None


@dataclasses.dataclass(frozen=True)
class Multiscale:
    """Content of the metadata of a volume.

    Attributes:
        driver: TensorStore's driver for the arrays, "zarr3" or "zarr".
        extra: axes before z, y, x, such as time and channel.
        levels: from the finest to the coarsest.
        warnings: what is suspicious, a sentence each.
    """

    driver: str
    extra: int
    levels: tuple[Level, ...]
    warnings: tuple[str, ...]


class _Refused(Exception):
    """Metadata are refused; the message says what is wrong and what to do."""

    def __init__(self, what: str, remedy: str = "correct it, or copy the folder again"):
        super().__init__(f"{what}; {remedy}")


def metadata_file(folder: Path) -> Path | None:
    """Return the file with the metadata of a Zarr group or array, if there is one."""
    return next((folder / name for name in _DRIVERS if (folder / name).is_file()), None)


def read_multiscale(folder: Path) -> Multiscale:
    """Read and check the metadata of an OME-Zarr volume; of several images, use the first.

    Raises:
        FileError: if the folder holds no volume with the axes z, y, x, or its metadata is damaged;
            it names the file and what to do.
    """
    if not folder.is_dir():
        raise FileError(f"{folder}: there is no such folder; check the spelling")
    file = metadata_file(folder)
    if file is None:
        raise FileError(
            f"{folder}: is a folder without the zarr.json or .zattrs of OME-Zarr; name a volume "
            "file or an OME-Zarr folder"
        )
    try:
        return _multiscale(folder, _DRIVERS[file.name], _image(file))
    except _Refused as refusal:
        raise FileError(f"{file}: {refusal}") from None


def _image(file: Path) -> dict[str, Any]:
    """Return the first entry of multiscales."""
    try:
        content = read_json(file)
    except OSError as error:
        raise _Refused(f"cannot be read ({error.strerror})", "check its permissions") from None
    if file.name == "zarr.json":
        if isinstance(content, dict) and content.get("node_type") == "array":
            raise _Refused("is a bare Zarr array", "name the OME-Zarr folder that it lies in")
        content = _entry(_entry(content, "attributes", dict), "ome", dict)
    images = _entry(content, "multiscales", list)
    if not images or not _is_object(images[0]):
        raise _Refused("multiscales holds no image")
    version = content.get("version", images[0].get("version"))
    if version is not None and not str(version).startswith(_VERSIONS):
        raise _Refused(f"is version {shown(version)}", "convert it to OME-Zarr 0.5 (or 0.4)")
    return images[0]


def _multiscale(folder: Path, driver: str, image: dict[str, Any]) -> Multiscale:
    axes = _entry(image, "axes", list)
    unit, notes = _axes(axes)
    stated = image.get(STEPS) is not None
    outer = _transformation(_entry(image, STEPS, list) if stated else [], axes)
    datasets = _entry(image, "datasets", list)
    if not datasets:
        raise _Refused("datasets is empty")
    levels = []
    for dataset, chunks in zip(datasets, _written(image, len(datasets)), strict=True):
        place = _inside(folder, _entry(dataset, "path", str))
        inner = _transformation(_entry(dataset, STEPS, list), axes, needed=True)
        # Voxel index to length by the data set's transformation, then by that of all levels.
        parts = zip(*inner, *outer, strict=True)
        lengths = [(scale * s, shift * s + t) for scale, shift, s, t in parts][-3:]
        if unit is None:
            levels.append(Level(place, None, (0.0, 0.0, 0.0), chunks))
        else:
            sizes, origins = zip(*lengths, strict=True)
            size, origin = _angstrom(sizes, unit), _angstrom(origins, unit)
            levels.append(Level(place, size, origin, chunks))
    return Multiscale(driver, len(axes) - 3, tuple(levels), notes)


def _written(image: dict[str, Any], count: int) -> list[int | None]:
    """Return the recorded number of chunk files of each level, or None."""
    noted = image.get("metadata")
    numbers = noted.get("chunks") if isinstance(noted, dict) else None
    if not isinstance(numbers, list) or [type(n) for n in numbers] != [int] * count:
        return [None] * count
    return [int(n) for n in numbers]


def _axes(axes: list[Any]) -> tuple[Zyx | None, tuple[str, ...]]:
    """Return angstrom per unit along z, y, x (None if unknown), and warnings."""
    names = [_entry(axis, "name", str) for axis in axes]
    kinds = [axis.get("type") for axis in axes]
    spatial = all(kind in ("space", None) for kind in kinds[-3:]) and "space" not in kinds[:-3]
    if names[-3:] != ["z", "y", "x"] or not spatial:
        raise _Refused(
            f"has the axes {', '.join(names)} of types {', '.join(map(str, kinds))}",
            "save one volume with the spatial axes z, y, x, in this order",
        )
    stated = [axis.get("unit") for axis in axes[-3:]]
    known = [ANGSTROM_PER_UNIT.get(str(unit).strip().lower()) for unit in stated]
    z, y, x = known
    if z is None or y is None or x is None:
        missing = "no unit" if stated == [None] * 3 else "units " + ", ".join(map(str, stated))
        return None, (f"the axes have {missing}: voxel size unknown; give voxel_size in angstrom",)
    return (z, y, x), ()


def _transformation(
    entries: list[Any], axes: list[Any], needed: bool = False
) -> tuple[list[float], list[float]]:
    """Return scale and translation, a number for each axis."""
    ones, zeros = [1.0] * len(axes), [0.0] * len(axes)
    if not (entries or needed):
        return ones, zeros
    kinds = [entry.get("type") if _is_object(entry) else None for entry in entries]
    if kinds not in (["scale"], ["scale", "translation"]):
        raise _Refused(
            f"{STEPS} holds {shown(kinds)}, a scale and perhaps a translation are needed"
        )
    scale = _numbers(entries[0], "scale", len(axes))
    if min(scale) < 1e-30:
        raise _Refused(f"scale is {scale}, positive numbers are needed")
    return scale, _numbers(entries[1], "translation", len(axes)) if len(entries) > 1 else zeros


def _numbers(entry: dict[str, Any], key: str, count: int) -> list[float]:
    values = _entry(entry, key, list)
    numbers = [v for v in values if isinstance(v, (int, float)) and abs(v) < 1e30]
    if len(numbers) != count or len(values) != count:
        raise _Refused(f"{key} is {shown(values)}, {count} numbers are needed")
    return [float(number) for number in numbers]


def _angstrom(lengths: Any, unit: Zyx) -> Zyx:
    # Twelve digits, so that 0.001348 micrometres are 13.48 angstrom.
    z, y, x = (float(f"{a * b:.12g}") for a, b in zip(lengths, unit, strict=True))
    return z, y, x


def _inside(folder: Path, path: str) -> Path:
    """Return the folder of a data set, which must lie in that of the volume, links resolved."""
    try:
        place, root = (folder / path).resolve(), folder.resolve()
        found = place.is_dir()
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, a circle of links
        raise _Refused(f"the data set path {shown(path)} is not a path") from None
    if place == root or not place.is_relative_to(root):
        raise _Refused(
            f"the data set path {shown(path)} leads out of the folder",
            "correct it, and beware of the rest of the folder",
        )
    if not found:
        raise _Refused(f"the data set {shown(path)} is missing", "copy the folder again")
    return folder / path


def _entry(holder: Any, key: str, kind: type) -> Any:
    """Return an entry of a JSON object; refuse it unless it has this type."""
    found = holder.get(key) if _is_object(holder) else None
    if not isinstance(found, kind):
        word = {dict: "an object", list: "a list", str: "a text"}[kind]
        lacks = "is missing" if found is None else f"is {shown(found)}, {word} is needed"
        raise _Refused(f"{key} {lacks}")
    return found


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def zarr_folders(paths: Iterable[Path]) -> dict[Path, Sequence[str]]:
    """Return those outputs that are OME-Zarr by name, each with the names of its files.

    >>> list(zarr_folders([Path("a.mrc"), Path("b.zarr")]))
    [PosixPath('b.zarr')]
    """
    return {path: FILES for path in paths if path.suffix == ".zarr"}
