"""Writes the folder of results of a measured label volume: table, summary, report and meshes."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.imod_writing import ModelObject, outlines, write_imod
from cryojax_seg.io.measurements import (
    number_type,
    plain_name,
    write_object_meshes,
    write_objects,
)
from cryojax_seg.io.mesh import MESH_SUFFIXES
from cryojax_seg.io.output import FileOutput
from cryojax_seg.measure import MeasuredClass, Measurements
from cryojax_seg.measure.tiled import sections
from cryojax_seg.report.charts import COLOURS
from cryojax_seg.report.handing_on import README, Layer, Program, scene_path, write_scene
from cryojax_seg.report.measured import SHOWN, Drawn, measurement_page
from cryojax_seg.report.planes import MeasuredPlanes
from cryojax_seg.report.slices import Picture, slices_of, thumbnail
from cryojax_seg.report.surfaces import surfaces

TABLE, SUMMARY, REPORT = "instances.csv", "summary.json", "report.html"
SCENE = "scene"
_MESHES = tuple(f"meshes/*{suffix}" for suffix in MESH_SUFFIXES)
_SCENES = tuple(str(scene_path(Path(SCENE), one)) for one in ("chimerax", "napari", "imod"))
MEASUREMENT_FILES = (TABLE, SUMMARY, REPORT, README, *_SCENES, "instances/*.mrc", *_MESHES)
_README = """\
instances.csv has a row for each object and summary.json the totals; report.html shows both.
instances/CLASS.mrc holds for each voxel the number of its object; meshes/ has surfaces in angstrom.
scene.cxc opens in ChimeraX, and `python scene_napari.py` in napari (pip install napari mrcfile).
scene.mod, where it was asked for, opens in IMOD on the tomogram: 3dmod TOMOGRAM scene.mod
"""


def write_measurements(
    folder: Path,
    found: Measurements,
    volume: Tomogram,
    *,
    options: Mapping[str, Any] | None = None,
    meshes: Literal["ply", "obj", "stl", "glb", "surf"] | None = None,
    rim: Literal["flat", "round"] = "flat",
    tomogram: Tomogram | None = None,
    scenes: Sequence[Program] = ("chimerax", "napari"),
    home: Path | None = None,
) -> dict[str, Any]:
    """Write the measurements of a label volume into a new folder.

    Args:
        folder: the folder, which gets ``instances.csv`` (one row for each object),
            ``summary.json``, ``report.html``, and ``instances/CLASS.mrc`` with the number of the
            object of each voxel for every class.
        found: as `measure.measure_classes` returns it.
        volume: the labels, as `io.read_object_classes` returns them.
        options: plain values that say how it was measured, kept in the summary.
        meshes: format of the meshes of membranes and organelles in ``meshes``; None for none.
        rim: how membrane labels end at open edges, see `measure.measure_classes`.
        tomogram: what is labelled, to be shown in the report; None for a plain ground.
        scenes: programs for which ``scene.cxc``, ``scene_napari.py`` and ``scene.mod`` are written.
        home: where the folder will lie, from which scenes name the tomogram; None for where it is.

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
    drawn = _drawn(found, volume, tomogram)
    (folder / REPORT).write_text(measurement_page(summary, rows, drawn), "utf-8")
    _write_instances(folder / "instances", found, volume)
    if meshes is not None:
        surfaces = {
            name: one.meshes(rim)
            for name, one in found.classes.items()
            if one.kind in ("membrane", "organelle")
        }
        write_object_meshes(folder / "meshes", meshes, surfaces, volume.corner())
    _write_scenes(folder, found, volume, tomogram and tomogram.name, scenes, home)
    (folder / README).write_text(_README, "utf-8")
    return summary


def _write_scenes(
    folder: Path,
    found: Measurements,
    volume: Tomogram,
    tomogram: str | None,
    scenes: Sequence[Program],
    home: Path | None,
) -> None:
    """Write what other programs open, in the colours of the report."""
    colours = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(found.classes)}
    layers = []
    for name, colour in colours.items():
        word = plain_name(name)
        own, meshes = (
            folder / "instances" / f"{word}.mrc",
            (folder / "meshes").glob(f"{word}-[0-9]*"),
        )
        if own.exists():
            layers.append(Layer(name, own, {}, (colour,), sorted(meshes)))
    for program in scenes:
        if program == "imod":
            objects = [_drawn_object(one, colours[name]) for name, one in found.classes.items()]
            size = volume.require_voxel_size()
            path = scene_path(folder / SCENE, program)
            write_imod(path, objects, np.shape(volume.density), size)
        else:
            write_scene(folder / SCENE, program, layers, tomogram, home=home)


def _drawn_object(one: MeasuredClass, colour: str) -> ModelObject:
    """Return the centre lines, the middles or the outlines of the objects of a class."""
    size = 10 * np.array(one.voxel_nm)
    if one.kind == "filament":
        step = float(size.min())
        lines = [axis.at(axis.arc_lengths_angstrom(step)) / size for axis in one.axes]
        return ModelObject(one.name, "open", lines, range(1, len(lines) + 1), colour=colour)
    if one.kind == "complex":
        middles, sizes = [], []
        for box in one.boxes:
            middles.append(np.argwhere(box.mask).mean(0) + box.start)
            sizes.append(np.cbrt(3 * box.mask.sum() / (4 * np.pi)))
        radius = float(np.median(sizes)) if sizes else 1.0
        points = [np.array(middles).reshape(-1, 3)]
        return ModelObject(one.name, "points", points, radius=radius, colour=colour)
    rims = [(b.number, rim) for b in one.boxes for rim in outlines(b.mask, b.start)]
    return ModelObject(
        one.name, "closed", [rim for _, rim in rims], [n for n, _ in rims], colour=colour
    )


def _drawn(found: Measurements, volume: Tomogram, tomogram: Tomogram | None) -> Drawn:
    """Return slices, surfaces and thumbnails of the objects."""
    z, y, x = volume.density.shape
    planes = MeasuredPlanes(found, (z, y, x))
    picture = None if tomogram is None else Picture.of(tomogram.density)
    thumbnails, places = {}, {}
    for hue, (name, one) in enumerate(found.classes.items(), 1):
        for axis, row in zip(one.axes, one.rows, strict=False):
            middle = axis.at(np.array([axis.length_angstrom / 2]))[0] / (
                10 * np.array(one.voxel_nm)
            )
            z, y, x = np.rint(middle).astype(int).tolist()
            places[name, row["instance"]] = (z, y, x)
        for place, (number, start, mask, _) in enumerate(one.boxes):
            inside = np.argwhere(mask)
            z = int(mask.sum((1, 2)).argmax())
            y, x = np.rint(inside[:, 1:].mean(0)).astype(int).tolist()
            places.setdefault((name, number), (start[0] + z, start[1] + y, start[2] + x))
            if place < SHOWN:
                thumbnails[name, number] = thumbnail(planes.shape, start, mask, hue, picture)
    drawn = surfaces(lambda: _bodies(found), planes.shape)
    return Drawn(slices_of(picture, planes), drawn, thumbnails, places)


def _bodies(found: Measurements) -> Iterator[tuple[int, str, Sequence[int], np.ndarray]]:
    """Yield colour, name, first voxel and mask of each object."""
    for hue, (name, one) in enumerate(found.classes.items(), 1):
        for number, start, mask, _ in one.boxes:
            yield hue, f"{name} {number}", start, mask


def _write_instances(folder: Path, found: Measurements, volume: Tomogram) -> None:
    """Write a volume for each class that has objects with voxels of their own."""
    for name, one in found.classes.items():
        if one.boxes:
            folder.mkdir(exist_ok=True)
            numbers = one.boxes.renamed()
            largest = max(int(section.max()) for section in sections(numbers))
            kind = number_type(largest, ".mrc")
            output = FileOutput(folder / f"{plain_name(name)}.mrc", numbers.shape, kind, volume)
            for z, section in enumerate(sections(numbers)):
                output.write(np.s_[z : z + 1, :, :], section[None])
            output.finish()


def _plain(value: Any) -> Any:
    """Return a value for JSON, which has no infinity: what is not finite is None."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
