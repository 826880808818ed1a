"""Measures all classes of a label volume, and returns rows, totals and distances.

Every object is measured in its own box, so that time and memory grow with the objects and not with
the size of the tomogram.
"""

import dataclasses
import itertools
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cryojax_seg.core.blocks import Readable
from cryojax_seg.core.types import Array
from cryojax_seg.measure.apposition import Apposition, apposition
from cryojax_seg.measure.boxes import MARGIN, Nanometres
from cryojax_seg.measure.centreline import Filament
from cryojax_seg.measure.complexes import measure_complexes
from cryojax_seg.measure.filaments import measure_filaments
from cryojax_seg.measure.kinds import Kind
from cryojax_seg.measure.measured import Measured
from cryojax_seg.measure.membranes import (
    Rim,
    joined_sheet,
    measure_membranes,
    moved_sheet,
)
from cryojax_seg.measure.mesh import Mesh, boundary_mesh
from cryojax_seg.measure.midsurface import membrane_mesh
from cryojax_seg.measure.objects import instances
from cryojax_seg.measure.organelles import measure_organelles
from cryojax_seg.measure.outlines import Outline, outline, tube
from cryojax_seg.measure.region import check_voxel_size
from cryojax_seg.measure.relations import Progress, add_enclosures, add_gaps
from cryojax_seg.measure.scene import Box, ObjectClass, Scene
from cryojax_seg.measure.thickness import Sheet, membrane_sheet
from cryojax_seg.measure.tracing import TracingLimits

_log = logging.getLogger("cryojax_seg.measure")


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredClass:
    """Holds what was measured of one class.

    Returned by `measure_classes`, one for each class.

    Attributes:
        name: the name of the class.
        label: its value in the label volume.
        kind: how its objects are measured, one of `KINDS`.
        rows: for each object its measurements by name, `Measured` where there is an interval.
        totals: the measurements of all objects together, by name.
        boxes: by number, the box of each object in the volume and its mask; empty for filaments.
        axes: the axes of filaments; empty for other kinds.
        sheet: all membranes together, in nanometres; None for other kinds.
        voxel_nm: voxel size along z, y, x, in nanometres.
    """

    name: str
    label: int
    kind: Kind
    rows: list[dict[str, Any]]
    totals: dict[str, Any]
    boxes: list[tuple[int, tuple[int, ...], np.ndarray]]
    axes: list[Filament]
    sheet: Sheet | None
    voxel_nm: Nanometres

    def outlines(self) -> list[Outline]:
        """Return the outlines of the objects in the volume, in nanometres."""
        if self.kind == "filament":
            return [tube(axis, 10 * min(self.voxel_nm), 0.1) for axis in self.axes]
        return [outline(mask, self.voxel_nm, start) for _, start, mask in self.boxes]

    def numbers(self, shape: Sequence[int]) -> np.ndarray:
        """Return the number of the object of each voxel, as in the rows; 0 outside.

        Args:
            shape: of the label volume.
        """
        found = np.zeros(tuple(shape), np.int32)
        for number, start, mask in self.boxes:
            box = tuple(slice(a, a + n) for a, n in zip(start, mask.shape, strict=True))
            found[box][mask] = number
        return found

    def meshes(self, rim: Rim = "flat") -> Iterator[tuple[int, Mesh]]:
        """Yield each object's number and its mesh in the volume, in nanometres.

        Args:
            rim: how masks of membranes end at open edges, see `membrane_area`.

        Yields:
            the mid-surfaces of membranes, and the boundaries of organelles and complexes.
        """
        for number, start, mask in self.boxes:
            if self.kind == "membrane":
                mesh = membrane_mesh(membrane_sheet(mask, self.voxel_nm), self.voxel_nm, rim)
            else:
                mesh = boundary_mesh(mask, self.voxel_nm)
            shift = (np.asarray(start) * self.voxel_nm).astype(np.float32)
            yield number, mesh._replace(vertices=mesh.vertices + shift)


@dataclasses.dataclass(frozen=True, eq=False)
class Measurements:
    """Holds what was measured of a label volume.

    Returned by `measure_classes`.

    Attributes:
        classes: what was measured of each class, by name, in the order in which they were
            requested.
        distances: for each pair of names, the distances from the membranes of the first class to
            those of the second.
    """

    classes: dict[str, MeasuredClass]
    distances: dict[tuple[str, str], Apposition]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each object of all classes, plain values by name."""
        return [
            {"class": name, "label": one.label, "kind": one.kind, **row}
            for name, one in self.classes.items()
            for row in one.rows
        ]

    def totals(self) -> dict[str, dict[str, Any]]:
        """Return label, kind and totals of each class, plain values by name."""
        return {
            name: {"label": one.label, "kind": one.kind, **one.totals}
            for name, one in self.classes.items()
        }


def measure_classes(
    labels: Readable | Array,
    voxel_size_angstrom: tuple[float, float, float],
    classes: Sequence[ObjectClass],
    *,
    smallest: int | None = None,
    split: bool = False,
    rim: Rim = "flat",
    farthest_angstrom: float | int = 1000.0,
    contact_angstrom: float | int = 300.0,
    touching_angstrom: float | int | None = None,
    origin_angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0),
    progress: Progress | None = None,
) -> Measurements:
    """Measure the objects of every class of a label volume, and how far they are from each other.

    Args:
        labels: ``(z, y, x)`` integers; 0 is background.
        voxel_size_angstrom: voxel size along z, y, x.
        classes: the classes to measure. A class without voxels gets no rows and totals of 0.
        smallest: objects of fewer voxels are left out, except for a class with its own `numbers`;
            by default 50 voxels, and for membranes as in `separate_membranes`.
        split: whether to split organelles and complexes at their necks, and membranes where the
            probability has a valley between them. Membranes that touch are separate objects in any
            case, see `separate_membranes`.
        rim: how labels of membranes end at open edges, see `membrane_area`.
        farthest_angstrom: the largest distance between membranes that is measured.
        contact_angstrom: membranes whose mid-surfaces are this near are in contact.
        touching_angstrom: objects whose surfaces are this near touch; None for 30 or one voxel.
        origin_angstrom: coordinates of the first voxel in the frame of the results, zyx.
        progress: called with the name of the class (or "distances"), the steps done and all steps.

    Returns:
        rows, totals and distances. Each row has the distances of the object to every other class,
        from surface to surface (``_min_nm``, ``_mean_nm``) and from its centre (``_centre_nm``),
        its area in contact with it, and the membrane or organelle that it lies in, see
        `measure.relations`.

    Raises:
        ValueError: for a voxel size that is not positive, or shapes that differ.

    >>> away = np.linalg.norm(np.indices((40, 40, 40)) - 19.5, axis=0)
    >>> labels = np.where(abs(away - 14) < 1.5, 1, np.where(away < 5, 2, 0))
    >>> classes = [ObjectClass("membrane", 1, "membrane"), ObjectClass("granule", 2, "organelle")]
    >>> found = measure_classes(labels, (10.0, 10.0, 10.0), classes)
    >>> row = found.rows()[1]
    >>> row["class"], row["z_nm"], 7 < row["distance_to_membrane_mean_nm"] < 8
    ('granule', 19.5, True)
    >>> row["side"], row["inside_class"], row["inside_instance"], row["contact_with_membrane_nm2"]
    ('inside', 'membrane', 1, 0.0)
    """
    voxel_size = check_voxel_size(voxel_size_angstrom)
    scene = Scene(np.asarray(labels), voxel_size, classes)
    report = progress or (lambda name, done, count: None)
    found: dict[str, MeasuredClass] = {}
    for one in classes:
        _log.info("measuring %s", one.name)
        found[one.name] = _measured(scene, one, smallest, split, rim, report)
        _log.info("%s: %s, %d objects", one.name, one.kind, len(found[one.name].rows))
    _log.info("measuring distances")
    near = None if touching_angstrom is None else 0.1 * touching_angstrom
    add_gaps(found, 0.1 * max(voxel_size), report, near)
    add_enclosures(found)
    _shift(found, origin_angstrom)
    sheets = {name: one.sheet for name, one in found.items() if one.sheet}
    distances = {
        (first, second): apposition(
            sheets[first], sheets[second], farthest_angstrom / 10, contact_angstrom / 10
        )
        for first, second in itertools.permutations(sheets, 2)
    }
    return Measurements(found, distances)


def _measured(
    scene: Scene, one: ObjectClass, smallest: int | None, split: bool, rim: Rim, report: Progress
) -> MeasuredClass:
    """Measure one class, in the frame of the volume."""
    if one.kind == "filament":
        return _filaments(scene, one, rim)
    box, numbers = scene.objects(one, smallest, split)
    start = tuple(part.start for part in box)
    own = None if one.probability is None else np.asarray(one.probability[box], np.float32)

    def step(done: int, count: int) -> None:
        report(one.name, done, count)

    sheet = None
    if one.kind == "membrane":
        found, summary = measure_membranes(numbers, scene.voxel_size, own, rim, step)
        sheet = joined_sheet([moved_sheet(row.sheet, start, scene.voxel_nm) for row in found])
        rows, totals = [_plain_row(row) for row in found], _fields(summary)
    elif one.kind == "organelle":
        found, summary = measure_organelles(numbers, scene.voxel_size, own, step)
        rows, totals = [_plain_row(row) for row in found], _fields(summary)
    else:
        rows, totals = _complexes(scene, one, box, numbers)
    if one.kind != "complex":  # those are measured in the frame of the volume
        _move(rows, np.multiply(start, scene.voxel_nm))
    boxes = [
        (number, tuple(a + b.start for a, b in zip(start, part.box, strict=True)), part.mask)
        for number, part in zip(_identified(one, rows), instances(numbers, MARGIN), strict=True)
    ]
    return MeasuredClass(
        one.name, one.label, one.kind, rows, totals, boxes, [], sheet, scene.voxel_nm
    )


def _complexes(
    scene: Scene, one: ObjectClass, box: Box, numbers: np.ndarray
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    whole = np.zeros(scene.labels.shape, np.int32)
    whole[box] = numbers
    own = None if one.probability is None else np.asarray(one.probability[:], np.float32)
    rows, summary = measure_complexes(whole, scene.region(), own)
    values = _fields(summary)
    expected = values.pop("count")
    pairs = values.pop("pair_correlation")
    if pairs is not None:
        values["pair_correlation"] = dataclasses.asdict(pairs)
    totals = {**_amount(whole, len(rows), scene.voxel_size), "count_expected": expected}
    return [_plain_row(row) for row in rows], totals | values


def _filaments(scene: Scene, one: ObjectClass, rim: Rim) -> MeasuredClass:
    limits = TracingLimits.of_class(one.name, round_ends=rim == "round")
    own = None if one.probability is None else np.asarray(one.probability[:], np.float32)
    mask = scene.mask(one) if one.numbers is None else one.numbers
    found, summary = measure_filaments(mask, scene.voxel_size, own, limits)
    values = _fields(summary)
    count = values.pop("count")
    values["count_expected"] = None if own is None else count
    totals = _amount(mask, len(found), scene.voxel_size) | values
    rows = [_plain_row(row) for row in found]
    _identified(one, rows)
    axes = [row.axis for row in found]
    return MeasuredClass(
        one.name, one.label, one.kind, rows, totals, [], axes, None, scene.voxel_nm
    )


def _amount(mask: np.ndarray, count: int, voxel_size: tuple[float, float, float]):
    """Return the number of objects, and their volume."""
    volume = np.count_nonzero(mask) * float(np.prod(voxel_size)) * 1e-3
    return {"count": count, "volume_nm3": Measured(float(volume))}


def _identified(one: ObjectClass, rows: list[dict[str, Any]]) -> list[int]:
    """Return the identifiers of the objects of a class, which its rows get."""
    if one.identifiers:
        for row in rows:
            row["instance"] = one.identifiers[row["instance"] - 1]
    return [row["instance"] for row in rows]


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _plain_row(row: Any) -> dict[str, Any]:
    """Return the plain fields of a row, with three for a position and without curves."""
    values = {}
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if isinstance(value, tuple) and not hasattr(value, "_fields"):
            prefix = "" if field.name == "centre_nm" else field.name.removesuffix("nm")
            values |= {f"{prefix}{axis}_nm": v for axis, v in zip("zyx", value, strict=True)}
        elif field.compare:
            values[field.name] = value
    return values


def _shift(found: dict[str, MeasuredClass], origin_angstrom: tuple[float, float, float]) -> None:
    """Move the coordinates of all rows into the frame of the results."""
    for one in found.values():
        _move(one.rows, 0.1 * np.asarray(origin_angstrom, float))


def _move(rows: list[dict[str, Any]], shift_nm: np.ndarray) -> None:
    for row in rows:
        for axis, shift in zip("zyx", shift_nm.tolist(), strict=True):
            for key in (f"{axis}_nm", f"start_{axis}_nm", f"stop_{axis}_nm"):
                if key in row:
                    row[key] += shift
