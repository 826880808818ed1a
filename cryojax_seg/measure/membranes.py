"""Measures membranes in physical units, one by one and in total."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from cryojax_seg.core.types import ProbabilityArray
from cryojax_seg.measure.area import membrane_area
from cryojax_seg.measure.boxes import Nanometres, ObjectBox, place_and_size
from cryojax_seg.measure.enclosed import lumen
from cryojax_seg.measure.errors import SizeErrors, membrane_doubt, openness
from cryojax_seg.measure.known_errors import MEMBRANE
from cryojax_seg.measure.measured import Measured
from cryojax_seg.measure.midsurface import oriented_normals, sheet_curvature
from cryojax_seg.measure.objects import InstanceArray
from cryojax_seg.measure.organelles import boxes_to_measure
from cryojax_seg.measure.thickness import MaskArray, Sheet, membrane_sheet

Rim = Literal["flat", "round"]
_POINTS = 1000  # of a membrane, over which its curvature is averaged


@dataclasses.dataclass(frozen=True)
class MembraneRow:
    """Describes one membrane.

    Returned by `measure_membranes`. Intervals are those of the true size of the membrane that it is
    a prediction of (`SizeErrors`), so that they need not contain a measured size that is biased.
    There are none without probabilities, and for an object that is too open to be measured.

    Attributes:
        instance: its number.
        centre_nm: its centre of mass, zyx, with voxel i at ``i * voxel_size``.
        voxels: the number of its voxels.
        volume_nm3: the volume of its voxels.
        area_nm2: the area of its mid-surface, see `membrane_area`.
        thickness_nm, thickness_p5_nm, thickness_p95_nm: median, 5th and 95th percentile of the
            thickness over its voxels.
        mean_curvature_per_nm: the mean curvature, averaged over its area; positive for a sphere.
        gaussian_curvature_per_nm2: the Gaussian curvature, averaged over its area.
        edge_length_nm: the length of its open edges.
        openness: how open it is, see `openness`. From about 1 on, what was found is a piece of a
            membrane or several at once, and its size has no interval.
        lumen_nm3: the volume that it encloses, without itself.
        lumen_within: "space" if it encloses that volume on all sides, "slices" if only within z
            slices, "" if it encloses nothing.
        closed: whether it encloses its lumen on all sides.
        sheet: normal, thickness and mid-surface at its voxels, in nanometres.
    """

    instance: int
    centre_nm: tuple[float, float, float]
    voxels: int
    volume_nm3: Measured
    area_nm2: Measured
    thickness_nm: float
    thickness_p5_nm: float
    thickness_p95_nm: float
    mean_curvature_per_nm: float
    gaussian_curvature_per_nm2: float
    edge_length_nm: float
    openness: float | None
    lumen_nm3: float
    lumen_within: Literal["space", "slices", ""]
    closed: bool
    sheet: Sheet = dataclasses.field(repr=False, compare=False)


@dataclasses.dataclass(frozen=True)
class MembraneSummary:
    """Describes the membranes of a volume together.

    Returned by `measure_membranes`. Intervals are those of the true values in the volume, with the
    membranes that were not found; there are none without probabilities.

    Attributes:
        count: the number of membranes.
        count_expected: that number with its interval; None without probabilities.
        volume_nm3, area_nm2: the volume and the area of all membranes.
    """

    count: int
    count_expected: Measured | None
    volume_nm3: Measured
    area_nm2: Measured


def measure_membranes(
    membranes: MaskArray | InstanceArray,
    voxel_size_angstrom: tuple[float, float, float],
    probability: ProbabilityArray | None = None,
    rim: Rim = "flat",
    progress: Callable[[int, int], None] | None = None,
    errors: Mapping[str, SizeErrors] = MEMBRANE,
) -> tuple[list[MembraneRow], MembraneSummary]:
    """Measure the membranes of a mask, or of a map that numbers them.

    Args:
        membranes: ``(z, y, x)`` the number of the membrane of each voxel, 0 for none; or a bool
            mask, whose voxels that touch by a face, an edge or a corner make one membrane.
        voxel_size_angstrom: voxel size along z, y, x.
        probability: calibrated probability of membrane, which marks the mask as a prediction and
            gives its sizes intervals.
        rim: how the mask ends at open edges, see `membrane_area`.
        progress: called with the number of membranes measured so far and of all membranes.
        errors: the errors of the segmenter in "area", "volume", "total area", "total volume" and
            "count"; by default those of the built-in model (`known_errors`).

        Returns:
            a row for each membrane, ordered by number (for a mask, the largest first), and the
            summary.

    Raises:
        ValueError: for shapes that differ, or a voxel size that is not positive.

    >>> away = np.linalg.norm(np.indices((40, 40, 40)) - 19.5, axis=0)
    >>> rows, summary = measure_membranes(abs(away - 14) < 1.5, (10.0, 10.0, 10.0))
    >>> round(rows[0].area_nm2.value / (4 * np.pi * 14**2), 2), rows[0].lumen_within
    (0.99, 'space')
    >>> summary.count, summary.area_nm2 == rows[0].area_nm2
    (1, True)
    """
    boxes, voxel_nm = boxes_to_measure(membranes, voxel_size_angstrom, probability)
    known = errors if probability is not None else None
    boxes = boxes.named(boxes.values())  # without probabilities, of which intervals need nothing
    rows = []
    for done, box in enumerate(boxes, 1):
        rows.append(membrane_row(box, voxel_nm, rim, known))
        if progress is not None:
            progress(done, len(boxes))
    return rows, membrane_summary(rows, known)


def membrane_summary(
    rows: list[MembraneRow], errors: Mapping[str, SizeErrors] | None = MEMBRANE
) -> MembraneSummary:
    """Return the summary of membranes, whose errors are None without probabilities."""
    area = float(sum(row.area_nm2.value for row in rows))
    volume = float(sum(row.volume_nm3.value for row in rows))
    if errors is None or not rows:
        return MembraneSummary(len(rows), None, Measured(volume), Measured(area))
    parts = [row.area_nm2.value * _doubt(row) for row in rows if row.area_nm2.value]
    doubt = sum(parts) / area if area else 0.0
    return MembraneSummary(
        len(rows),
        errors["count"].counted(len(rows), doubt),
        errors["total volume"].measured(volume, 0.0),
        errors["total area"].measured(area, 0.0),
    )


def membrane_row(
    box: ObjectBox,
    voxel_nm: Nanometres,
    rim: Rim = "flat",
    errors: Mapping[str, SizeErrors] | None = None,
) -> MembraneRow:
    """Measure one membrane as `measure_membranes` does, with intervals if its errors are known."""
    sheet = membrane_sheet(box.mask, voxel_nm)
    inside = lumen(box.mask)
    thin, thickness, thick = np.quantile(sheet.thickness, (0.05, 0.5, 0.95)).tolist()
    at = np.unique(np.linspace(0, len(sheet.index) - 1, _POINTS).astype(int))  # spread evenly
    mean, gaussian = sheet_curvature(sheet, oriented_normals(sheet), at)
    weights = sheet.area_of_voxel[at]
    found = place_and_size(box, voxel_nm)
    area = membrane_area(sheet, rim=rim)
    open_share = openness(sheet.edge_length, area)
    row = MembraneRow(
        **found,
        area_nm2=Measured(area),
        thickness_nm=thickness,
        thickness_p5_nm=thin,
        thickness_p95_nm=thick,
        mean_curvature_per_nm=float(np.average(mean, weights=weights)),
        gaussian_curvature_per_nm2=float(np.average(gaussian, weights=weights)),
        edge_length_nm=sheet.edge_length,
        openness=open_share if math.isfinite(open_share) else None,
        lumen_nm3=float(np.count_nonzero(inside.mask)) * float(np.prod(voxel_nm)),
        lumen_within="space" if inside.closed else "slices" if inside.mask.any() else "",
        closed=inside.closed,
        sheet=moved_sheet(sheet, box.start, voxel_nm),
    )
    if errors is None:
        return row
    return dataclasses.replace(
        row,
        area_nm2=errors["area"].measured(area, _doubt(row)),
        volume_nm3=errors["volume"].measured(row.volume_nm3.value, _doubt(row)),
    )


def _doubt(row: MembraneRow) -> float:
    return membrane_doubt(row.edge_length_nm, row.area_nm2.value, row.thickness_nm)


def moved_sheet(sheet: Sheet, start: tuple[int, ...], voxel_nm: Nanometres) -> Sheet:
    """Return the sheet of a box that starts at this voxel, in the frame of the array."""
    shift = (np.asarray(start) * voxel_nm).astype(np.float32)
    return sheet._replace(index=sheet.index + np.asarray(start), middle=sheet.middle + shift)


def joined_sheet(sheets: list[Sheet]) -> Sheet | None:
    """Return all sheets as one; None if there are none."""
    if not sheets:
        return None
    index, normal, thickness, edge, middle = (
        np.concatenate([getattr(s, name) for s in sheets])
        for name in ("index", "normal", "thickness", "edge", "middle")
    )
    return Sheet(index, normal, thickness, edge, middle, sheets[0].window, sheets[0].voxel_volume)
