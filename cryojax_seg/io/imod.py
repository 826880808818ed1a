"""Read IMOD models (.mod): contours and points that were drawn on a tomogram.

Model coordinates count voxels, with the centre of the first at (0.5, 0.5, 0) in x, y, z. The parts
of the file are those of IMOD's description of its binary format.
"""

import dataclasses
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.io.plain import read_bytes
from cryojax_seg.text import shown

MAGIC = b"IMODV1.2"
# Parts of the format, big-endian, of which the fields that are of no use here are skipped.
_MODEL = struct.Struct(">128s3i68xfi16x")  # name, shape, size and unit of the pixels
_OBJECT = struct.Struct(">64s64x4xI8x12xi8x8x")  # name, flags, size of points
_CONTOUR = struct.Struct(">iI8x")  # number of points, flags
_MESH = struct.Struct(">2i8x")  # numbers of vertices and of indices
_WORD, _LENGTH = struct.Struct(">4s"), struct.Struct(">i")
OPEN, SCATTERED = 1 << 3, 1 << 9
FIRST = np.array([0.5, 0.5, 0.0])  # x, y, z of the centre of the first voxel
ANGSTROM = -10  # as the unit of pixels
_UNITS = {ANGSTROM: 1.0, -9: 10.0, -6: 1e4, -3: 1e7}  # in angstrom; others no tomogram has
_LARGEST = 2**28  # bytes


def is_imod(path: PathLike) -> bool:
    """Return whether a file is an IMOD model.

    >>> is_imod("missing.mod")
    False
    """
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


@dataclasses.dataclass
class ImodObject:
    """An object of a model, with the points (x, y, z) and flags of its contours."""

    name: str
    flags: int
    size: int  # of its points
    contours: list[tuple[np.ndarray, int]] = dataclasses.field(default_factory=list)
    sizes: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)  # by contour


@dataclasses.dataclass(frozen=True)
class ImodModel:
    """Holds what a model consists of.

    Attributes:
        shape: of the volume that it was drawn on, ``(z, y, x)``; zeros if it is not known.
        pixel_size: of that volume in angstrom; None if it is not known.
        objects: its objects in order.
    """

    shape: tuple[int, int, int]
    pixel_size: float | None
    objects: list[ImodObject]

    def labels(self, classes: Sequence[str] | None = None) -> list[int]:
        """Return the label of each object, see `imod_labels.read_imod`."""
        return labels_by_name([one.name for one in self.objects], classes)


def labels_by_name(names: Sequence[str], classes: Sequence[str] | None = None) -> list[int]:
    """Return the label of each thing that was drawn, by its name.

    Args:
        names: of the things; empty for one without a name.
        classes: names of the labels 0, 1, 2, ... Where they hold all names they decide, and a
            single one besides the background takes all.

    >>> labels_by_name(["er", "", "er"]), labels_by_name(["b", "a"], ("background", "a", "b"))
    ([1, 2, 1], [2, 1])
    """
    if classes is not None and len(classes) == 2:
        return [1] * len(names)
    if classes is not None and names and set(names) <= set(classes[1:]):
        return [list(classes).index(name) for name in names]
    found: list[int] = []
    for i, name in enumerate(names):
        known = name and name in names[:i]
        found.append(found[names.index(name)] if known else max(found, default=0) + 1)
    return found


def read_model(path: PathLike) -> ImodModel:
    """Read a model.

    Raises:
        FileError: if it is damaged.
    """
    path = Path(path)
    content = read_bytes(path, _LARGEST)
    if not content.startswith(MAGIC):
        raise FileError(f"{path}: is not an IMOD model, which begins with {MAGIC.decode()}")
    place, objects = len(MAGIC) + _MODEL.size, []

    def take(form: struct.Struct) -> tuple[Any, ...]:
        nonlocal place
        place += form.size
        return form.unpack_from(content, place - form.size)

    def numbers(count: int) -> np.ndarray:
        nonlocal place
        if count < 0 or place + 4 * count > len(content):
            raise ValueError(f"it claims {count} numbers at byte {place}")
        place += 4 * count
        with np.errstate(invalid="ignore"):  # damaged numbers are refused as points
            return np.frombuffer(content, ">f4", count, place - 4 * count).astype(float)

    try:
        _, x, y, z, pixel, unit = _MODEL.unpack_from(content, len(MAGIC))
        while (kind := take(_WORD)[0]) != b"IEOF":
            if kind == b"OBJT":
                name, flags, size = take(_OBJECT)
                objects.append(ImodObject(_text(name), flags, size))
            elif kind == b"CONT":
                count, flags = take(_CONTOUR)
                objects[-1].contours.append((numbers(3 * count).reshape(-1, 3), flags))
            elif kind == b"MESH":
                vertices, indices = take(_MESH)
                numbers(3 * vertices + indices)
            else:
                (length,) = take(_LENGTH)
                if not 0 <= length <= len(content) - place:
                    raise ValueError(f"chunk {shown(kind)} claims {length} bytes")
                if kind == b"SIZE":
                    last = len(objects[-1].contours) - 1
                    objects[-1].sizes[last] = numbers(length // 4)
                    length %= 4
                place += length
    except (struct.error, ValueError, IndexError) as error:
        raise FileError(f"{path}: damaged IMOD model ({error}); copy it again") from None
    return ImodModel((z, y, x), _pixel_size(pixel, unit), objects)


def describe_imod(path: PathLike) -> dict[str, str]:
    """Return what a model holds, by name, ready to print.

    Raises:
        FileError: if it is damaged.
    """
    model = read_model(path)
    shape = model.shape
    facts = {"drawn on (z, y, x)": " x ".join(map(str, shape)) if all(shape) else "unknown"}
    size = model.pixel_size
    facts["pixel size"] = "unknown" if size is None else f"{size:g} A"
    labels = model.labels()
    for number, (label, one) in enumerate(zip(labels, model.objects, strict=True), 1):
        opened = any((one.flags | flags) & OPEN for _, flags in one.contours)
        kind = "points" if one.flags & SCATTERED else "open contours" if opened else "contours"
        count = sum(len(p) for p, _ in one.contours) if kind == "points" else len(one.contours)
        named = f" ({one.name})" * bool(one.name)
        facts[f"object {number}{named}"] = f"{count} {kind}, label {label}"
    return facts


def read_columns(path: PathLike) -> dict[str, list[str]]:
    """Return the points of a model as a table of particles, whose classes are the objects.

    Columns are voxels z, y, x from the first, class where there are several objects, and the size
    of the pixels where the model has one.

    Raises:
        FileError: if it is damaged or holds no point.
    """
    model = read_model(path)
    rows = [
        (z, y, x, number)
        for number, one in enumerate(model.objects, 1)
        for points, _ in one.contours
        for x, y, z in (points - FIRST).tolist()
    ]
    if not rows:
        raise FileError(f"{path}: holds no point; draw some, or name another file")
    columns = dict(zip(("z", "y", "x", "class"), zip(*rows, strict=True), strict=True))
    if len(model.objects) < 2:
        del columns["class"]
    table = {name: [f"{value:.7g}" for value in values] for name, values in columns.items()}
    if model.pixel_size is not None:
        table["voxel_size_angstrom"] = [f"{model.pixel_size:.7g}"] * len(rows)
    return table


def _pixel_size(size: float, unit: int) -> float | None:
    """Return the size of pixels in angstrom; None where the model has none that may be right."""
    found = size * _UNITS.get(unit, 0.0)
    return found if 0.1 <= found <= 1000 else None


def _text(stored: bytes) -> str:
    return stored.split(b"\0", 1)[0].decode("latin-1").strip()
