"""Holds what was measured of the classes of a label volume."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cryojax_seg.measure.boxes import Nanometres, ObjectBoxes
from cryojax_seg.measure.centreline import Filament
from cryojax_seg.measure.contacts import Apposition
from cryojax_seg.measure.kinds import Kind
from cryojax_seg.measure.membranes import Rim
from cryojax_seg.measure.mesh import Mesh, boundary_mesh
from cryojax_seg.measure.midsurface import membrane_mesh
from cryojax_seg.measure.outlines import Outline, outline, tube
from cryojax_seg.measure.thickness import Sheet, membrane_sheet


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
        boxes: the objects with their numbers in the rows, cut out one by one.
        axes: the axes of filaments; empty for other kinds.
        sheet: all membranes together, in nanometres, to which those of another class have
            distances; None for other kinds, and for the only class of membranes.
        voxel_nm: voxel size along z, y, x, in nanometres.
        no_interval: why sizes and counts of the class have no intervals; empty if they have some.
    """

    name: str
    label: int
    kind: Kind
    rows: list[dict[str, Any]]
    totals: dict[str, Any]
    boxes: ObjectBoxes
    axes: list[Filament]
    sheet: Sheet | None
    voxel_nm: Nanometres
    no_interval: str = ""

    def outlines(self) -> list[Outline]:
        """Return the outlines of the objects in the volume, in nanometres."""
        if self.kind == "filament":
            return [tube(axis, 10 * min(self.voxel_nm), 0.1) for axis in self.axes]
        return [outline(one.mask, self.voxel_nm, one.start) for one in self.boxes]

    def numbers(self, shape: Sequence[int]) -> np.ndarray:
        """Return the number of the object of each voxel, as in the rows; 0 outside.

        Args:
            shape: of the label volume.
        """
        return np.zeros(tuple(shape), np.int32) if self.boxes is None else self.boxes.renamed()

    def meshes(self, rim: Rim = "flat") -> Iterator[tuple[int, Mesh]]:
        """Yield each object's number and its mesh in the volume, in nanometres.

        Args:
            rim: how masks of membranes end at open edges, see `membrane_area`.

        Yields:
            the mid-surfaces of membranes, and the boundaries of other objects.
        """
        for number, start, mask, _ in self.boxes:
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
            name: {
                "label": one.label,
                "kind": one.kind,
                "no_interval": one.no_interval,
                **one.totals,
            }
            for name, one in self.classes.items()
        }
