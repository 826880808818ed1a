"""Write the table of measured objects, and their meshes."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryojax_seg.io.mesh import write_mesh

_FIRST = ["class", "label", "kind", "instance"]  # columns of a table without objects

_EXACT = 2**24  # the largest number up to which float32 holds every integer


def write_objects(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV table with one row for each object.

    Args:
        path: the file.
        rows: plain values by column, as `measure.Measurements.rows` gives them. A value with an
            interval becomes three columns, NAME, NAME_low and NAME_high.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "objects.csv"
    >>> write_objects(path, [{"instance": 1, "length_nm": 2.5}])
    >>> path.read_text().splitlines()
    ['instance,length_nm', '1,2.5']
    """
    flat = []
    for row in rows:
        line: dict[str, Any] = {}
        for key, value in row.items():
            if hasattr(value, "_asdict"):
                line |= {key: value.value, f"{key}_low": value.low, f"{key}_high": value.high}
            else:
                line[key] = value
        flat.append(line)
    columns = list(dict.fromkeys(key for line in flat for key in line)) or _FIRST
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        for line in flat:
            writer.writerow({k: _cell(v) for k, v in line.items()})


def write_object_meshes(
    folder: Path,
    suffix: str,
    meshes: Mapping[str, Iterable[tuple[int, Any]]],
    origin_angstrom: Sequence[float],
) -> None:
    """Write a mesh file for each object, CLASS-NUMBER.SUFFIX, in angstrom.

    Args:
        folder: a new folder for the files.
        suffix: "ply", "obj", "stl", "glb" or "surf".
        meshes: number and mesh (`measure.Mesh`, in nanometres) of the objects of each class.
        origin_angstrom: coordinates of the first voxel, zyx.

    >>> import tempfile
    >>> from cryojax_seg.measure import boundary_mesh
    >>> ball = np.linalg.norm(np.indices((12, 12, 12)) - 5.5, axis=0) < 4
    >>> folder = Path(tempfile.mkdtemp()) / "meshes"
    >>> meshes = {"vesicle": [(7, boundary_mesh(ball))]}
    >>> write_object_meshes(folder, "ply", meshes, (0.0, 0.0, 0.0))
    >>> [path.name for path in folder.iterdir()]
    ['vesicle-7.ply']
    """
    folder.mkdir()
    origin = np.asarray(origin_angstrom)
    for name, objects in meshes.items():
        for number, mesh in objects:
            values = {"mean_curvature": mesh.mean, "gaussian_curvature": mesh.gaussian}
            path = folder / f"{plain_name(name)}-{number}.{suffix}"
            write_mesh(path, 10.0 * mesh.vertices + origin, mesh.faces, values)


def plain_name(name: str) -> str:
    """Return the name of a class as a part of the name of a file.

    >>> plain_name("outer membrane / ER")
    'outer_membrane_ER'
    """
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name)


def number_type(count: int, suffix: str) -> np.dtype:
    """Return the type of a volume with the numbers of so many objects.

    MRC has no integers above 65,535; float32 holds them exactly up to 16,777,216.

    Raises:
        ValueError: if an MRC file cannot hold the numbers.

    >>> number_type(3, ".mrc").name, number_type(70_000, ".mrc").name
    ('uint16', 'float32')
    """
    if count <= np.iinfo(np.uint16).max:
        return np.dtype(np.uint16)
    if suffix != ".mrc":
        return np.dtype(np.int32)
    if count > _EXACT:
        raise ValueError(
            f"an MRC file numbers up to {_EXACT:,} objects, and there are {count:,}; remove small "
            "ones, or write another format"
        )
    return np.dtype(np.float32)


def _cell(value: Any) -> Any:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value
