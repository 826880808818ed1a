"""Describe boxes of particles and their tables for people."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from cryojax_seg.io import header as headers
from cryojax_seg.io.boxes import box_files, boxes_voxel_size, read_boxes
from cryojax_seg.io.columns import numbers
from cryojax_seg.io.delimited import coordinate_labels
from cryojax_seg.io.files import FileError
from cryojax_seg.io.mrc import read_mrc
from cryojax_seg.io.ome import metadata_file
from cryojax_seg.io.particles import TABLES, ParticleTable, read_table
from cryojax_seg.io.relion import CENTRED, CORNER
from cryojax_seg.io.voxel_size import VoxelSize, voxel_size_zyx
from cryojax_seg.text import shortened

Summary = tuple[str, dict[str, str], tuple[str, ...]]  # kind, facts and warnings


def describe_particles(path: Path, voxel_size: VoxelSize | None = None) -> Summary | None:
    """Return kind, facts and warnings of boxes or a table; None if the file is neither.

    Args:
        path: any file or folder.
        voxel_size: of boxes, angstrom; wins over the header.

    Raises:
        FileError: if it is damaged; it names the file.
    """
    if path.suffix.lower() in TABLES and path.is_file():
        return _table(read_table(path))
    if path.is_dir():
        return _boxes(path, voxel_size) if _is_folder_of_boxes(path) else None
    nx, ny, nz, mz, group = _stack_fields(path)
    if 401 <= group <= 630 and nz != mz:
        return _boxes(path, voxel_size)
    if group == 0 and mz == 1 and nz > 1 and path.suffix.lower() == ".mrcs":
        facts = {"images": str(nz), "size (y, x)": f"{ny} x {nx} pixels"}
        note = (
            "holds images, not boxes: a tilt series or a 2D-stack particle of RELION 5; extract "
            "boxes from the tomogram to average them"
        )
        return "2D stack", facts, (note,)
    return None


def _stack_fields(path: Path) -> tuple[int, ...]:
    """Return nx, ny, nz, mz and the space group of an MRC file; -1 for other files."""
    if not path.is_file():
        return (-1,) * 5
    with open(path, "rb") as file:
        raw = file.read(headers.LENGTH)
    if len(raw) < headers.LENGTH or raw[208:211] != b"MAP":
        return (-1,) * 5
    order = ">" if raw[212:214] == b"\x11\x11" else "<"
    fields: Any = np.frombuffer(raw, HEADER_DTYPE.newbyteorder(order))[0]
    return tuple(int(fields[name]) for name in ("nx", "ny", "nz", "mz", "ispg"))


def _is_folder_of_boxes(folder: Path) -> bool:
    """Return whether a folder holds MRC files that are all cubes of one size."""
    if (folder / "model.json").exists() or metadata_file(folder):
        return False
    shapes = {_stack_fields(file)[:3] for file in folder.glob("*.mrc")}
    edges = shapes.pop() if len(shapes) == 1 else (-1,)
    return len(set(edges)) == 1 and edges[0] > 0


def _boxes(path: Path, voxel_size: VoxelSize | None) -> Summary:
    if path.is_dir():
        files = box_files(path)
        count, *shape = len(files), *read_mrc(files[0], mmap=True).density.shape
    else:
        count, *shape = read_boxes(path).shape
    size = boxes_voxel_size(path) if voxel_size is None else voxel_size_zyx(voxel_size)[0]
    facts = {
        "boxes": str(count),
        "size (z, y, x)": " x ".join(map(str, shape)) + " voxels",
        "voxel size": "unknown" if size is None else f"{size:g} A",
        "table": path.with_suffix(".star").name if path.with_suffix(".star").is_file() else "none",
    }
    odd = () if size else ("voxel size unknown; give voxel_size in angstrom to average",)
    return "boxes", facts, odd


def _table(table: ParticleTable) -> Summary:
    axes = _axes(table)
    facts = {"file": str(table.path)}
    if axes is None:
        tables = {**table.tables, "": table.columns}
        for name, columns in tables.items():
            rows = len(next(iter(columns.values()), ()))
            facts[f"table {shortened(name, 40)}".strip()] = f"{rows} rows: {_listed(columns)}"
        return "table", facts, ("holds no coordinates, so it is no table of particles",)
    programs = {"dynamo": "Dynamo", "csv": "CSV", "star": "RELION"}
    counted = "angstrom from the middle" if table.centred else "pixels from a corner"
    facts["form"] = f"{programs[table.dialect]}, {counted}"
    facts["particles"] = str(len(table))
    if not len(table):
        return "particles", facts | {"columns": _listed(table.columns)}, ("holds no particle",)
    names = table.names()
    if names is not None:
        counts = Counter(names[1]).most_common()
        some = ", ".join(f"{shortened(name, 40)} ({count})" for name, count in counts[:5])
        more = ", ..." if len(counts) > 5 else ""
        facts["tomograms"] = f"{len(counts)} in {names[0]}: {some}{more}"
    try:
        stated = None if table.centred else table.pixel_size()
        where = numbers(table.columns, axes, table.path)
    except FileError as error:
        return "particles", facts, (str(error).removeprefix(f"{table.path}: "),)
    if not table.centred:
        facts["pixels"] = "of unknown size" if stated is None else str(stated)
    if len(where):
        ranges = zip(where.min(0), where.max(0), strict=True)
        facts["coordinates (z, y, x)"] = ", ".join(f"{a:g} to {b:g}" for a, b in ranges)
    flat = table.flat_images()
    if table.images is not None:
        kind = f"2D stacks ({flat})" if flat else "boxes"
        facts["images"] = f"{kind}, such as {shortened(next(iter(table.images), ''), 60)}"
    facts["columns"] = _listed(table.columns)
    return "particles", facts, ()


def _axes(table: ParticleTable) -> tuple[str, ...] | None:
    """Return the columns with z, y and x, or None if there are none."""
    if table.dialect == "csv":
        return coordinate_labels(table.columns)
    if table.dialect == "dynamo":
        return ("z", "y", "x")
    labels = CENTRED if table.centred else CORNER
    return labels if set(labels) <= set(table.columns) else None


def _listed(columns: Any) -> str:
    return shortened(", ".join(columns), 200)
