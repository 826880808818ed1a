"""Writes the folder of results of a measured label volume: table, summary, report and meshes."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.measurements import (
    number_type,
    plain_name,
    write_object_meshes,
    write_objects,
)
from cryojax_seg.io.mesh import MESH_SUFFIXES
from cryojax_seg.io.mrc import write_mrc
from cryojax_seg.measure import Measurements
from cryojax_seg.report.handing_on import HANDED_ON, write_scenes
from cryojax_seg.report.measured import SHOWN, Drawn, measurement_page
from cryojax_seg.report.slices import MeasuredPlanes, Picture, slices_of
from cryojax_seg.report.surfaces import surfaces

TABLE, SUMMARY, REPORT = "instances.csv", "summary.json", "report.html"
_MESHES = tuple(f"meshes/*{suffix}" for suffix in MESH_SUFFIXES)
MEASUREMENT_FILES = (TABLE, SUMMARY, REPORT, *HANDED_ON, "instances/*.mrc", *_MESHES)


def write_measurements(
    folder: Path,
    found: Measurements,
    volume: Tomogram,
    *,
    options: Mapping[str, Any] | None = None,
    meshes: Literal["ply", "obj", "stl", "glb", "surf"] | None = None,
    rim: Literal["flat", "round"] = "flat",
    tomogram: Tomogram | None = None,
) -> dict[str, Any]:
    """Write the measurements of a label volume into a new folder.

    Args:
        folder: the folder, which gets ``instances.csv`` (one row for each object),
            ``summary.json``, ``report.html``, and ``instances/CLASS.mrc`` with the number of the
            object of each voxel for every class but filaments.
        found: as `measure.measure_classes` returns it.
        volume: the labels, as `io.read_object_classes` returns them.
        options: plain values that say how it was measured, kept in the summary.
        meshes: format of the meshes of membranes and organelles in ``meshes``; None for none.
        rim: how membrane labels end at open edges, see `measure.measure_classes`.
        tomogram: what is labelled, to be shown in the report; None for a plain ground.

    Returns:
        the summary as it is written: plain values, where what is not finite is None.

    >>> import tempfile
    >>> import numpy as np
    >>> from cryojax_seg.measure import ObjectClass, measure_classes
    >>> labels = np.zeros((8, 8, 8), np.int8)
    >>> labels[2:6, 2:6, 2:6] = 1
    >>> volume = Tomogram(labels, (10.0, 10.0, 10.0), name="t.mrc")
    >>> found = measure_classes(labels, (10.0,) * 3, [ObjectClass("vesicle", 1, "organelle")])
    >>> folder = Path(tempfile.mkdtemp()) / "measured"
    >>> write_measurements(folder, found, volume)["classes"]["vesicle"]["count"]
    1
    >>> sorted(path.name for path in folder.iterdir())
    ['README.txt', 'instances', 'instances.csv', 'report.html', 'scene.cxc', 'scene_napari.py', ...
    """
    summary = {
        "labels": volume.name,
        "voxel_size_angstrom": list(volume.require_voxel_size()),
        "origin_angstrom": list(volume.corner()),
        "shape": list(volume.density.shape),
        "options": dict(options or {}),
        "classes": _plain(found.totals()),
        "distances": [
            {"from": first, "to": second, **_plain(dataclasses.asdict(values))}
            for (first, second), values in found.distances.items()
        ],
    }
    rows = found.rows()
    folder.mkdir()
    write_objects(folder / TABLE, rows)
    (folder / SUMMARY).write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    drawn = _drawn(found, np.asarray(volume.density), tomogram)
    (folder / REPORT).write_text(measurement_page(summary, rows, drawn), "utf-8")
    _write_instances(folder / "instances", found, volume)
    if meshes is not None:
        surfaces = {
            name: one.meshes(rim)
            for name, one in found.classes.items()
            if one.kind in ("membrane", "organelle")
        }
        write_object_meshes(folder / "meshes", meshes, surfaces, volume.corner())
    write_scenes(folder, list(found.classes), tomogram and tomogram.name)
    return summary


def _drawn(found: Measurements, labels: np.ndarray, tomogram: Tomogram | None) -> Drawn:
    """Return slices, surfaces and thumbnails of the objects."""
    planes = MeasuredPlanes(found, labels)
    picture = None if tomogram is None else Picture.of(tomogram.density)
    thumbnails, places, bodies = {}, {}, []
    for hue, (name, one) in enumerate(found.classes.items(), 1):
        for axis, row in zip(one.axes, one.rows, strict=False):
            middle = axis.at(np.array([axis.length_angstrom / 2]))[0] / (
                10 * np.array(one.voxel_nm)
            )
            z, y, x = np.rint(middle).astype(int).tolist()
            places[name, row["instance"]] = (z, y, x)
        if one.axes and not one.boxes:
            bodies.append((hue, name, (0, 0, 0), labels == one.label))
        for number, start, mask in one.boxes:
            inside = np.argwhere(mask)
            z = int(mask.sum((1, 2)).argmax())
            y, x = np.rint(inside[:, 1:].mean(0)).astype(int).tolist()
            places[name, number] = (start[0] + z, start[1] + y, start[2] + x)
            bodies.append((hue, f"{name} {number}", start, mask))
        for number, start, mask in one.boxes[:SHOWN]:
            thumbnails[name, number] = planes.thumbnail(start, mask, hue, picture)
    return Drawn(slices_of(picture, planes), surfaces(bodies, labels.shape), thumbnails, places)


def _write_instances(folder: Path, found: Measurements, volume: Tomogram) -> None:
    """Write a volume for each class that has objects with voxels of their own."""
    for name, one in found.classes.items():
        if one.boxes:
            folder.mkdir(exist_ok=True)
            numbers = one.numbers(volume.density.shape)
            kind = number_type(int(numbers.max()), ".mrc")
            write_mrc(folder / f"{plain_name(name)}.mrc", numbers.astype(kind), volume)


def _plain(value: Any) -> Any:
    """Return a value for JSON, which has no infinity: what is not finite is None."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
