"""Measures all classes of a label volume, and returns rows, totals and distances.

Every object is measured in its own box, so that time and memory grow with the objects and not with
the size of the tomogram.
"""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cryojax_seg.core.blocks import Readable
from cryojax_seg.core.types import Array
from cryojax_seg.errors import ParameterError
from cryojax_seg.measure.boxes import ObjectBoxes
from cryojax_seg.measure.complexes import measure_complexes
from cryojax_seg.measure.contacts import apposition
from cryojax_seg.measure.errors import SizeErrors
from cryojax_seg.measure.filament_numbers import number_filaments
from cryojax_seg.measure.filaments import measure_filaments
from cryojax_seg.measure.kinds import filament_of
from cryojax_seg.measure.known_errors import (
    MEMBRANE,
    MICROTUBULE,
    NO_ERRORS,
    NO_PROBABILITIES,
    TOO_DOUBTFUL,
    TOO_OPEN,
)
from cryojax_seg.measure.measured import Measured
from cryojax_seg.measure.membranes import (
    MembraneRow,
    Rim,
    joined_sheet,
    membrane_row,
    membrane_summary,
)
from cryojax_seg.measure.organelles import measure_organelles
from cryojax_seg.measure.region import check_voxel_size
from cryojax_seg.measure.relations import Progress, add_enclosures, add_gaps
from cryojax_seg.measure.results import MeasuredClass, Measurements
from cryojax_seg.measure.scene import Floats, ObjectClass, Scene
from cryojax_seg.measure.thickness import NO_SHEET, Sheet
from cryojax_seg.measure.tiled import sections
from cryojax_seg.measure.tracing_limits import TracingLimits

_LEAST_GIB = 1.0
_OTHERS_GIB = 0.4  # of the program and its libraries
_PER_VOXEL = 50  # bytes of a tile that is divided

_log = logging.getLogger("cryojax_seg.measure")


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
    memory_gib: float | int = 2.0,
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
        memory_gib: memory to use, about. Membranes and other components are numbered in tiles that
            fit, filaments are found in tiles, and numbers and masks of a larger volume are kept in
            files of the folder of temporary files. An object whose box does not fit takes more, and
            filaments take some 100 bytes for each of their voxels.
        progress: called with the name of the class (or "distances"), the steps done and all steps.

    Returns:
        rows, totals and distances. Lengths and spacings of microtubules have intervals by the
        errors of the built-in model, their totals and the sizes of other filaments have none;
        ``no_interval`` in rows and totals says why a size has none. Each row has the distances of
        the object to every other class, from surface to surface (``_min_nm``, ``_mean_nm``) and
        from its centre (``_centre_nm``), its area in contact with it, and the membrane or organelle
        that it lies in, see `measure.relations`.

    Raises:
        ValueError: for a voxel size that is not positive, or shapes that differ.
        ParameterError: for less than 1 GiB of memory.

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
    if not memory_gib >= _LEAST_GIB:
        raise ParameterError(
            f"must be {_LEAST_GIB:g} or more, for tiles with their surroundings; got {memory_gib}",
            "memory",
        )
    most = int((memory_gib - _OTHERS_GIB) * 2**30 / _PER_VOXEL)
    scene = Scene(np.asarray(labels), voxel_size, classes)
    report = progress or (lambda name, done, count: None)
    found: dict[str, MeasuredClass] = {}
    for one in classes:
        _log.info("measuring %s", one.name)
        found[one.name] = _measured(scene, one, smallest, split, rim, most, report)
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
    scene: Scene,
    one: ObjectClass,
    smallest: int | None,
    split: bool,
    rim: Rim,
    most: int,
    report: Progress,
) -> MeasuredClass:
    """Measure one class, in the frame of the volume."""
    if one.kind == "filament":
        return _filaments(scene, one, rim, most)
    numbers = scene.objects(one, smallest, split, most)

    def step(done: int, count: int) -> None:
        report(one.name, done, count)

    sheet = None
    if one.kind == "membrane":
        errors = None if one.probability is None else MEMBRANE
        found, sheet = _membranes(scene, numbers, errors, rim, step)
        summary = membrane_summary(found, errors)
        rows, totals = [_plain_row(row) for row in found], _fields(summary)
    elif one.kind == "organelle":
        found, summary = measure_organelles(numbers, scene.voxel_size, one.probability, step)
        rows, totals = [_plain_row(row) for row in found], _fields(summary)
    else:
        rows, totals = _complexes(scene, one, numbers, most)
    boxes = ObjectBoxes(numbers, names=_identified(one, rows))
    reason = NO_PROBABILITIES if one.probability is None else ""
    for row in rows:
        too_open = one.kind == "membrane" and row["area_nm2"].low is None
        row["no_interval"] = reason or (TOO_OPEN if too_open else "")
    return MeasuredClass(
        one.name, one.label, one.kind, rows, totals, boxes, [], sheet, scene.voxel_nm, reason
    )


def _membranes(
    scene: Scene,
    numbers: np.ndarray,
    errors: Mapping[str, SizeErrors] | None,
    rim: Rim,
    step: Callable[[int, int], None],
) -> tuple[list[MembraneRow], Sheet | None]:
    """Return the rows of membranes without their sheets, and the joined sheet if it is needed."""
    several = sum(one.kind == "membrane" for one in scene.classes) > 1
    boxes = ObjectBoxes(numbers)
    rows, sheets = [], []
    for done, box in enumerate(boxes, 1):
        row = membrane_row(box, scene.voxel_nm, rim, errors)
        if several:
            sheets.append(row.sheet)
        rows.append(dataclasses.replace(row, sheet=NO_SHEET))
        step(done, len(boxes))
    return rows, joined_sheet(sheets)


def _complexes(
    scene: Scene, one: ObjectClass, numbers: np.ndarray, most: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    rows, summary = measure_complexes(numbers, scene.region(most), one.probability)
    values = _fields(summary)
    expected = values.pop("count")
    pairs = values.pop("pair_correlation")
    if pairs is not None:
        values["pair_correlation"] = dataclasses.asdict(pairs)
    totals = {**_amount(numbers, len(rows), scene.voxel_size), "count_expected": expected}
    return [_plain_row(row) for row in rows], totals | values


def _filaments(scene: Scene, one: ObjectClass, rim: Rim, most: int) -> MeasuredClass:
    limits = TracingLimits.of_class(one.name, round_ends=rim == "round")
    own = None if one.probability is None else Floats(one.probability)
    mask = scene.mask(one, most) if one.numbers is None else one.numbers
    errors = MICROTUBULE if filament_of(one.name) == "microtubule" else None
    # Masks sampled from probabilities say little about what a segmenter misses, so none are.
    found, summary = measure_filaments(
        mask, scene.voxel_size, own, limits, samples=0, errors=errors
    )
    values = _fields(summary)
    count = round(values.pop("count").value)  # which has no interval
    totals = _amount(mask, count, scene.voxel_size) | values
    rows = [_plain_row(row) for row in found]
    axes = [row.axis for row in found]
    numbers = one.numbers
    if numbers is None:
        numbers = scene.zeros(most)
        number_filaments(numbers, mask, axes, scene.voxel_size)
    boxes = ObjectBoxes(numbers)
    if one.identifiers:
        boxes = boxes.named([one.identifiers[own - 1] for own in boxes.values()])
    _identified(one, rows)
    reason = NO_PROBABILITIES if own is None else NO_ERRORS if errors is None else ""
    for row in rows:
        row["no_interval"] = reason or (TOO_DOUBTFUL if row["length_nm"].low is None else "")
    return MeasuredClass(
        one.name, one.label, one.kind, rows, totals, boxes, axes, None, scene.voxel_nm, reason
    )


def _amount(mask: np.ndarray, count: int, voxel_size: tuple[float, float, float]):
    """Return the number of objects, and their volume."""
    voxels = sum(int(np.count_nonzero(section)) for section in sections(mask))
    volume = voxels * float(np.prod(voxel_size)) * 1e-3
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
