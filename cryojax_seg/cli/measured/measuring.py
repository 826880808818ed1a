"""What ``cryojax-seg measure`` measures of the classes of a label volume, as plain values.

Lengths are nanometres. Every instance is measured in its own box, so that time and memory go with
what there is and not with the size of the tomogram.
"""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from cryojax_seg import measure
from cryojax_seg.cli.measured import counting
from cryojax_seg.cli.measured.scene import Part, Scene, objects_of, parts_of
from cryojax_seg.measure import Kind, Measured, Sheet

Progress = Callable[[int], AbstractContextManager[Callable[[], Any]]]


@dataclasses.dataclass(frozen=True)
class Found:
    """What was found of a class.

    Attributes:
        rows: one for each instance; `Measured` values become three columns.
        totals: of all instances.
        outlines: of the instances, in nm in the volume.
        parts: the instances, if they are not filaments.
        sheet: of all instances together, if they are membranes; in the frame of the volume.
    """

    rows: list[dict[str, Any]]
    totals: dict[str, Any]
    outlines: list[measure.Outline]
    parts: list[Part] = dataclasses.field(default_factory=list)
    sheet: Sheet | None = None


def measure_class(scene: Scene, label: int, options: Any, progress: Progress) -> Found:
    """Measures all instances of a class.

    Args:
        scene: that holds it.
        label: of the class.
        options: of the command: smallest, split and rim.
        progress: of so many objects.
    """
    kind, probability = scene.kinds[label], scene.maps.get(label)
    angstrom = scene.volume.require_voxel_size()
    if kind == "filament":
        own = None if probability is None else np.asarray(probability[:], np.float32)
        mask = scene.given[label][0] if label in scene.given else scene.mask(label)
        rows, totals, axes = counting.filaments(
            mask, scene.names[label], own, angstrom, options.rim
        )
        _rename(rows, scene, label)
        return Found(rows, totals, [measure.tube(a, min(angstrom), 0.1) for a in axes])
    box, numbers = objects_of(scene, label, options.smallest, options.split)
    parts = parts_of(box, numbers, probability, scene.voxel_nm, options.rim)
    rows, outlines, sheets = [], [], []
    with progress(len(parts)) as step:
        for part in parts:
            if kind == "membrane":
                row, sheet = _membrane(part)
                sheets.append(sheet)
            else:
                row = _organelle(part) if kind == "organelle" else _common(part)
            rows.append(row)
            outlines.append(measure.outline(part.mask, part.voxel_nm, part.start))
            step()
    totals = _totals(kind, rows)
    if kind == "complex":
        whole = np.zeros(scene.volume.density.shape, np.int32)
        whole[box] = numbers
        own = None if probability is None else np.asarray(probability[:], np.float32)
        lines, totals = counting.complexes(
            whole, own, angstrom, scene.of_kind("membrane"), scene.of_kind("organelle")
        )
        rows = [line | row for line, row in zip(lines, rows, strict=True)]
    _rename(rows, scene, label)
    if label in scene.given:
        ids = scene.given[label][1]
        parts = [dataclasses.replace(part, number=ids[part.number - 1]) for part in parts]
    return Found(rows, totals, outlines, parts, _joined(sheets))


def _rename(rows: list[dict[str, Any]], scene: Scene, label: int) -> None:
    """Gives instances the numbers that they have in the file."""
    if label in scene.given:
        for row in rows:
            row["instance"] = scene.given[label][1][row["instance"] - 1]


def add_gaps(found: dict[str, Found], spacing_nm: float, step: Callable[[], Any]) -> None:
    """Adds to each row how far the object is from every other class that there is, in nm."""
    for name, one in found.items():
        for other, target in found.items():
            step()
            if other == name or not target.outlines:
                continue
            gaps = measure.gaps(one.outlines, target.outlines, spacing_nm)
            for row, gap in zip(one.rows, gaps, strict=True):
                for field, value in zip(("min", "mean", "centre"), gap or (None,) * 3, strict=True):
                    row[f"distance_to_{other}_{field}_nm"] = value


def place(found: dict[str, Found], corner: tuple[float, float, float]) -> None:
    """Moves coordinates of rows into the frame of the file.

    Args:
        found: the classes.
        corner: of the volume in that frame, angstrom zyx.
    """
    for one in found.values():
        for row in one.rows:
            for axis, shift in zip("zyx", corner, strict=True):
                for key in (f"{axis}_nm", f"start_{axis}_nm", f"stop_{axis}_nm"):
                    if key in row:
                        row[key] += 0.1 * shift


def _common(part: Part) -> dict[str, Any]:
    """What every instance has: its place, its size in voxels and its volume."""
    one = float(np.prod(part.voxel_nm))
    voxels = int(np.count_nonzero(part.mask))
    where = np.array([float(np.mean(i)) for i in np.nonzero(part.mask)])
    centre = (where + part.start) * part.voxel_nm
    low = high = None
    if part.probability is not None:
        low, high = measure.interval_if_present(
            lambda mask: float(np.count_nonzero(mask)) * one, part.probability, 2
        )
    return {
        "instance": part.number,
        "z_nm": float(centre[0]),
        "y_nm": float(centre[1]),
        "x_nm": float(centre[2]),
        "voxels": voxels,
        "volume_nm3": Measured(voxels * one, low, high),
    }


def _membrane(part: Part) -> tuple[dict[str, Any], Sheet]:
    sheet = measure.membrane_sheet(part.mask, part.voxel_nm)

    def area(mask: np.ndarray) -> float:
        return measure.membrane_area(mask, part.voxel_nm, part.rim)

    low = high = None
    if part.probability is not None:
        low, high = measure.interval_if_present(area, part.probability)
    inside = measure.lumen(part.mask)
    spread = np.quantile(sheet.thickness, (0.05, 0.5, 0.95)).tolist()
    mean, gaussian = measure.sheet_curvature(sheet, measure.oriented_normals(sheet))
    row = _common(part) | {
        "area_nm2": Measured(measure.membrane_area(sheet, rim=part.rim), low, high),
        "thickness_nm": spread[1],
        "thickness_p5_nm": spread[0],
        "thickness_p95_nm": spread[2],
        "mean_curvature_per_nm": float(np.average(mean, weights=sheet.area_of_voxel)),
        "gaussian_curvature_per_nm2": float(np.average(gaussian, weights=sheet.area_of_voxel)),
        "edge_length_nm": sheet.edge_length,
        "lumen_nm3": float(np.count_nonzero(inside.mask)) * float(np.prod(part.voxel_nm)),
        "lumen_within": "space" if inside.closed else "slices" if inside.mask.any() else "",
        "closed": inside.closed,
    }
    start = np.asarray(part.start)
    moved = sheet.middle + (start * part.voxel_nm).astype(np.float32)
    return row, sheet._replace(index=sheet.index + start, middle=moved)


def _organelle(part: Part) -> dict[str, Any]:
    body = measure.measure_body(part.mask, part.voxel_nm)
    low = high = None
    if part.probability is not None:
        low, high = measure.interval_if_present(
            lambda mask: measure.boundary_area(mask, part.voxel_nm), part.probability
        )
    return _common(part) | {
        "surface_nm2": Measured(body.area, low, high),
        "surface_to_volume_per_nm": body.surface_to_volume,
        "sphericity": body.sphericity,
    }


def mesh_of(kind: Kind, part: Part) -> measure.Mesh:
    """The mid-surface of a membrane or the boundary of anything else, in nm in the volume."""
    if kind == "membrane":
        sheet = measure.membrane_sheet(part.mask, part.voxel_nm)
        mesh = measure.membrane_mesh(sheet, part.voxel_nm, part.rim)
    else:
        mesh = measure.boundary_mesh(part.mask, part.voxel_nm)
    start = np.asarray(part.start) * part.voxel_nm
    return mesh._replace(vertices=mesh.vertices + start.astype(np.float32))


def _joined(sheets: list[Sheet]) -> Sheet | None:
    if not sheets:
        return None
    arrays = [
        np.concatenate([getattr(s, name) for s in sheets])
        for name in ("index", "normal", "thickness", "edge", "middle")
    ]
    index, normal, thickness, edge, middle = arrays
    return Sheet(index, normal, thickness, edge, middle, sheets[0].window, sheets[0].voxel_volume)


def _totals(kind: Kind, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums over the instances of a class; their errors count as going the same way."""
    keys = ["volume_nm3"]
    keys += {"membrane": ["area_nm2"], "organelle": ["surface_nm2"]}.get(kind, [])
    result: dict[str, Any] = {"count": len(rows)}
    for key in keys:
        values = [row[key] for row in rows]
        sums = [
            None if any(v[i] is None for v in values) else float(sum(v[i] for v in values))
            for i in range(3)
        ]
        result[key] = Measured(sums[0] or 0.0, *(sums[1:] if values else (None, None)))
    return result


def between(first: Sheet, second: Sheet, farthest_nm: float, contact_nm: float) -> dict[str, Any]:
    """Nearest distances from one membrane class to another, and the area in contact."""
    found = measure.distances(first, second, farthest_nm)
    counts, edges = np.histogram(
        found.distance, bins=40, range=(0, farthest_nm), weights=found.area
    )
    total = float(first.area_of_voxel.sum(dtype=np.float64))
    contact = found.contact_area(contact_nm)
    return {
        "mean_nm": found.mean(),
        "quantiles_nm": {f"{q:g}": found.quantile(q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)},
        "area_within_nm2": float(found.area.sum(dtype=np.float64)),
        "area_share_within": float(found.area.sum(dtype=np.float64)) / total if total else None,
        "contact_area_nm2": contact,
        "histogram": {"edges_nm": edges.tolist(), "area_nm2": counts.tolist()},
    }
