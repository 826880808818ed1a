"""What ``cryojax-seg measure`` measures of the classes of a label volume, as plain values.

Lengths are nanometres. Every instance is measured in its own box, so that time and memory go with
what there is and not with the size of the tomogram.
"""

import dataclasses
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from cryojax_seg import measure
from cryojax_seg.measure import Kind, Measured, Sheet

_MARGIN = 16  # voxels around an instance, beyond which windows see nothing of it
_NEAR = 3  # voxels around an instance in which its probabilities count


@dataclasses.dataclass(frozen=True)
class Part:
    """One instance of a class, in a box.

    Attributes:
        number: of the instance in its class, from 1.
        start: of the box in the volume, voxels.
        mask: of the instance.
        probability: of the class in the neighbourhood of the instance, 0 elsewhere; None if there
            are no probabilities.
        voxel_nm: along z, y, x.
        rim: see `measure.membrane_area`.
    """

    number: int
    start: tuple[int, int, int]
    mask: np.ndarray
    probability: np.ndarray | None
    voxel_nm: tuple[float, float, float]
    rim: Literal["flat", "round"]


@dataclasses.dataclass(frozen=True)
class Found:
    """What was found of a class.

    Attributes:
        rows: one for each instance; `Measured` values become three columns.
        sheet: of all instances together, if they are membranes; in the frame of the volume.
    """

    rows: list[dict[str, Any]]
    sheet: Sheet | None = None


def measure_class(kind: Kind, parts: list[Part]) -> Found:
    """Measures all instances of a class: one function for each kind."""
    if kind == "membrane":
        pairs = [_membrane(part) for part in parts]
        return Found([row for row, _ in pairs], _joined([sheet for _, sheet in pairs]))
    if kind == "organelle":
        return Found([_organelle(part) for part in parts])
    return Found([_common(part) for part in parts])


def parts_of(labels, label: int, kind: Kind, probability, voxel_nm, smallest: int, split, rim):
    """The instances of a label, from the largest on.

    Args:
        labels: the label volume, any integer dtype.
        label: which.
        kind: organelles and complexes are split where they touch if `split`; membranes are where
            the probability has a valley.
        probability: of the class, or None.
        voxel_nm: along z, y, x.
        smallest: voxels of an instance, at least.
        split: whether to split.
        rim: of membranes.
    """
    (box,) = ndimage.find_objects((labels == label).view(np.int8)) or (None,)
    if box is None:
        return []
    box = tuple(
        slice(max(0, s.start - _MARGIN), min(n, s.stop + _MARGIN))
        for s, n in zip(box, labels.shape, strict=True)
    )
    mask = labels[box] == label
    own = None if probability is None else np.asarray(probability[box], np.float32)
    if split and kind in ("organelle", "complex"):
        numbers = measure.split_bodies(mask, voxel_nm, smallest=smallest)
    elif split and kind == "membrane" and own is not None:
        numbers = measure.split_membranes(np.where(mask, own, 0), level=0.0, smallest=smallest)
    else:
        numbers = measure.components(mask, smallest)
    parts = []
    for one in measure.instances(numbers, _MARGIN):
        near = None
        if own is not None:
            others = (numbers[one.box] > 0) & ~one.mask
            around = np.asarray(ndimage.binary_dilation(one.mask, iterations=_NEAR), bool)
            near = np.where(around & ~others, own[one.box], 0)
        z, y, x = (a.start + b.start for a, b in zip(box, one.box, strict=True))
        parts.append(Part(one.number, (z, y, x), one.mask, near, voxel_nm, rim))
    return parts


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


def totals(kind: Kind, rows: list[dict[str, Any]]) -> dict[str, Any]:
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
