"""Filaments and complexes, as ``cryojax-seg measure`` reports them: plain values by name."""

import dataclasses
import math
from typing import Any, Literal

import numpy as np

from cryojax_seg import measure
from cryojax_seg.measure import Measured

_HOLLOW_ANGSTROM = 90.0  # radius that is filled of microtubules
Rows = list[dict[str, Any]]


def filaments(
    mask: np.ndarray,
    name: str,
    probability: np.ndarray | None,
    voxel_angstrom: tuple[float, float, float],
    rim: Literal["flat", "round"],
) -> tuple[Rows, dict[str, Any], list[measure.Filament]]:
    """A row for each filament of a class, the summary of their network, and their axes.

    Args:
        mask: of the class, in the whole volume, or a number for each filament.
        name: of the class; microtubules are taken to be hollow.
        probability: of the class, or None.
        voxel_angstrom: along z, y, x.
        rim: "round" if the mask holds a half ball beyond each end, as labels drawn with one do.
    """
    limits = measure.TracingLimits(
        round_ends=rim == "round",
        lumen_radius_angstrom=_HOLLOW_ANGSTROM if measure.is_hollow(name) else 0.0,
    )
    rows, summary = measure.measure_filaments(mask, voxel_angstrom, probability, limits)
    lines = []
    for row in rows:
        values = _fields(row)
        del values["axis"]
        ends = {
            f"{end}_{axis}_nm": 0.1 * v
            for end in ("start", "stop")
            for axis, v in zip("zyx", values.pop(f"{end}_angstrom"), strict=True)
        }
        lines.append({"instance": values.pop("filament"), **values, **ends})
    return lines, _summary(mask, voxel_angstrom, len(rows), summary), [row.axis for row in rows]


def complexes(
    numbers: np.ndarray,
    probability: np.ndarray | None,
    voxel_angstrom: tuple[float, float, float],
    membrane: np.ndarray | None,
    organelle: np.ndarray | None,
) -> tuple[Rows, dict[str, Any]]:
    """A row for each complex of a class, and the summary of their arrangement.

    Args:
        numbers: of the instances, in the whole volume.
        probability: of the class, or None.
        voxel_angstrom: along z, y, x.
        membrane, organelle: masks of all classes of these kinds, None if there are none.
    """
    rows, summary = measure.measure_complexes(
        numbers, voxel_angstrom, membrane=membrane, organelle=organelle, probability=probability
    )
    lines = []
    for row in rows:
        values = _fields(row)
        centre = zip("zyx", values.pop("centre_angstrom"), strict=True)
        place = {f"{axis}_nm": 0.1 * v for axis, v in centre}
        lines.append({"instance": values.pop("complex"), **place, **values})
    return lines, _summary(numbers, voxel_angstrom, len(rows), summary)


def _summary(mask: np.ndarray, voxel_angstrom, count: int, summary: Any) -> dict[str, Any]:
    """Of a class: how many and how much, then what was found of them together."""
    volume = np.count_nonzero(mask) * math.prod(voxel_angstrom) * 1e-3
    values = _fields(summary)
    values.pop("number", None)
    found = values.pop("count", None)
    interval = {} if found is None else {"count_expected": found}
    pairs = values.pop("pair_correlation", None)
    if pairs is not None:
        values["pair_correlation"] = dataclasses.asdict(pairs)
    return {"count": count, "volume_nm3": Measured(float(volume)), **interval, **values}


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
