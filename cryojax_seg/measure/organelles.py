"""Measures organelles and other compact objects in physical units, one by one and in total."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cryojax_seg.core.types import ProbabilityArray
from cryojax_seg.measure.area import boundary_area
from cryojax_seg.measure.boxes import Nanometres, ObjectBox, ObjectBoxes, place_and_size
from cryojax_seg.measure.measured import Measured, total
from cryojax_seg.measure.mesh import boundary_surface
from cryojax_seg.measure.objects import InstanceArray, components
from cryojax_seg.measure.region import check_voxel_size
from cryojax_seg.measure.thickness import MaskArray, Spacing
from cryojax_seg.measure.uncertainty import interval_if_present

_UNIT = (1.0, 1.0, 1.0)


class ObjectShape(NamedTuple):
    """Describes the size and shape of a compact object, in powers of the unit of the voxel size.

    Returned by `object_shape`.

    Attributes:
        volume: the volume of its voxels.
        area: the area of its boundary, see `boundary_area`.
        surface_to_volume: the area over the volume; None for an empty mask.
        sphericity: the area of a ball of the same volume over the area (Wadell 1935), 1 for a ball
            and less for all other shapes. None for an empty mask, and for an object that a face of
            the array cuts.
    """

    volume: float
    area: float
    surface_to_volume: float | None
    sphericity: float | None


def object_shape(mask: MaskArray, voxel_size: Spacing = _UNIT) -> ObjectShape:
    """Return volume, area, surface-to-volume ratio and sphericity of a compact object.

    Args:
        mask: the voxels of one object, in the entire array or in a box with a margin of 4 voxels.
        voxel_size: voxel size along z, y, x.

    >>> ball = np.linalg.norm(np.indices((32, 32, 32)) - 15.5, axis=0) < 12
    >>> shape = object_shape(ball, (10.0, 10.0, 10.0))
    >>> round(shape.volume / (4 / 3 * np.pi * 120**3), 2), round(shape.sphericity, 2)
    (1.0, 1.0)
    """
    mask = np.asarray(mask)
    volume = float(np.count_nonzero(mask)) * math.prod(map(float, voxel_size))
    surface = boundary_surface(mask)
    area = surface.area(voxel_size)
    if not (volume and area):
        return ObjectShape(volume, area, None, None)
    ball = math.pi ** (1 / 3) * (6 * surface.volume(voxel_size)) ** (2 / 3)
    return ObjectShape(volume, area, area / volume, None if surface.cut.any() else ball / area)


@dataclasses.dataclass(frozen=True)
class OrganelleRow:
    """Describes one organelle.

    Returned by `measure_organelles`. Intervals are over level sets, on condition that the object
    exists (`interval_if_present`); there are none without probabilities.

    Attributes:
        instance: its number.
        centre_nm: its centre of mass, zyx, with voxel i at ``i * voxel_size``.
        voxels: the number of its voxels.
        volume_nm3: the volume of its voxels.
        surface_nm2: the area of its boundary, see `boundary_area`.
        surface_to_volume_per_nm: the area over the volume; None for an empty mask.
        sphericity: its sphericity, see `ObjectShape`.
    """

    instance: int
    centre_nm: tuple[float, float, float]
    voxels: int
    volume_nm3: Measured
    surface_nm2: Measured
    surface_to_volume_per_nm: float | None
    sphericity: float | None


@dataclasses.dataclass(frozen=True)
class OrganelleSummary:
    """Describes the organelles of a volume together, with their errors taken as fully correlated.

    Returned by `measure_organelles`.

    Attributes:
        count: the number of organelles.
        volume_nm3, surface_nm2: the volume and the surface of all organelles.
    """

    count: int
    volume_nm3: Measured
    surface_nm2: Measured


def measure_organelles(
    organelles: MaskArray | InstanceArray,
    voxel_size_angstrom: tuple[float, float, float],
    probability: ProbabilityArray | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[OrganelleRow], OrganelleSummary]:
    """Measure the organelles of a mask, or of a map that numbers them.

    Args:
        organelles: ``(z, y, x)`` the number of the organelle of each voxel, 0 for none; or a bool
            mask, whose voxels that touch by a face, an edge or a corner make one organelle.
        voxel_size_angstrom: voxel size along z, y, x.
        probability: calibrated probability of organelles, for the intervals.
        progress: called with the number of organelles measured so far and of all organelles.

        Returns:
            a row for each organelle, ordered by number (for a mask, the largest first), and the
            summary.

    Raises:
        ValueError: for shapes that differ, or a voxel size that is not positive.

    >>> ball = np.linalg.norm(np.indices((32, 32, 32)) - 15.5, axis=0) < 12
    >>> rows, summary = measure_organelles(ball, (10.0, 10.0, 10.0))
    >>> round(rows[0].surface_nm2.value / (4 * np.pi * 12**2), 2), rows[0].centre_nm
    (1.0, (15.5, 15.5, 15.5))
    """
    boxes, voxel_nm = boxes_to_measure(organelles, voxel_size_angstrom, probability)
    rows = []
    for done, box in enumerate(boxes, 1):
        rows.append(_row(box, voxel_nm))
        if progress is not None:
            progress(done, len(boxes))
    return rows, OrganelleSummary(
        len(rows), total(row.volume_nm3 for row in rows), total(row.surface_nm2 for row in rows)
    )


def boxes_to_measure(
    objects: MaskArray | InstanceArray,
    voxel_size_angstrom: tuple[float, float, float],
    probability: ProbabilityArray | None,
) -> tuple[ObjectBoxes, Nanometres]:
    """Return the objects of a mask or an instance map, and the voxel size in nanometres.

    Raises:
        ValueError: for shapes that differ, or a voxel size that is not positive.
    """
    z, y, x = (0.1 * v for v in check_voxel_size(voxel_size_angstrom))
    objects = np.asarray(objects)
    if probability is not None and np.shape(probability) != objects.shape:
        raise ValueError(
            f"probability has shape {np.shape(probability)}, the objects {objects.shape}: they "
            "must be of the same volume"
        )
    numbers = components(objects) if objects.dtype == bool else objects
    return ObjectBoxes(numbers, probability), (z, y, x)


def _row(box: ObjectBox, voxel_nm: Nanometres) -> OrganelleRow:
    shape = object_shape(box.mask, voxel_nm)
    low = high = None
    if box.probability is not None:
        low, high = interval_if_present(lambda mask: boundary_area(mask, voxel_nm), box.probability)
    return OrganelleRow(
        **place_and_size(box, voxel_nm),
        surface_nm2=Measured(shape.area, low, high),
        surface_to_volume_per_nm=shape.surface_to_volume,
        sphericity=shape.sphericity,
    )
