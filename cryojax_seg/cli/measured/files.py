"""The files of ``cryojax-seg measure``: the table of objects, and their meshes."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np

from cryojax_seg import io
from cryojax_seg.cli.measured import measuring

MESHES = ("meshes/*.ply", "meshes/*.obj", "meshes/*.stl")


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """One row an object; a value with an interval has three columns, NAME, NAME_low, NAME_high."""
    flat = []
    for row in rows:
        line: dict[str, Any] = {}
        for key, value in row.items():
            if hasattr(value, "_asdict"):
                line |= {key: value.value, f"{key}_low": value.low, f"{key}_high": value.high}
            else:
                line[key] = value
        flat.append(line)
    columns = list(dict.fromkeys(key for line in flat for key in line))
    columns = columns or ["class", "label", "kind", "instance"]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        for line in flat:
            writer.writerow({k: _cell(v) for k, v in line.items()})


def write_meshes(folder: Path, suffix: str, summary: dict[str, Any], objects) -> None:
    """A mesh of every object, in the frame of the file."""
    folder.mkdir()
    corner = np.asarray(summary["origin_angstrom"])
    for name, parts in objects.items():
        plain_name = re.sub(r"[^A-Za-z0-9_.]+", "_", name)
        for part in parts:
            mesh = measuring.mesh_of(summary["classes"][name]["kind"], part)
            values = {"mean_curvature": mesh.mean, "gaussian_curvature": mesh.gaussian}
            path = folder / f"{plain_name}-{part.number}.{suffix}"
            io.write_mesh(path, 10.0 * mesh.vertices + corner, mesh.faces, values)


def _cell(value: Any) -> Any:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value
