"""Measures distances from one membrane to another, and the area in which they are in contact."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from cryojax_seg.measure.thickness import Sheet

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BINS = 40  # of the histogram
_MOST = 0.9  # share of the area that the histogram shows and a little more


class Distances(NamedTuple):
    """Holds the distances from the pieces of one surface to the nearest points of another.

    Returned by `distances`.

    Attributes:
        distance: ``(n,)`` distance of each piece, in the unit of the voxel size.
        area: ``(n,)`` area of each piece, in the square of that unit.
    """

    distance: np.ndarray
    area: np.ndarray

    def quantile(self, share: float | int) -> float | None:
        """Return the distance within which this share of the area lies; None without any area."""
        if not self.distance.size:
            return None
        order = np.argsort(self.distance)
        sums = np.cumsum(self.area[order], dtype=np.float64)
        at = np.searchsorted(sums, share * sums[-1])
        return float(self.distance[order[min(int(at), order.size - 1)]])

    def mean(self) -> float | None:
        """Return the mean distance, weighted by area; None if there is no area."""
        return float(np.average(self.distance, weights=self.area)) if self.distance.size else None

    def contact_area(self, within: float | int) -> float:
        """Return the area that lies no farther than this from the other surface."""
        return float(self.area[self.distance <= within].sum(dtype=np.float64))


def distances(
    sheet: Sheet, other: Sheet, farthest: float | int = math.inf, offset: float | int = 0.0
) -> Distances:
    """Measure the nearest distances from one membrane to another, between their mid-surfaces.

    Args:
        sheet: the membrane from which distances are measured.
        other: the membrane to which they are measured; from the same array.
        farthest: the largest distance. Pieces farther away, such as the free side of a membrane,
            are left out.
        offset: a length to subtract from all distances. Half of both thicknesses turns them into
            the width of the gap between the membranes.

    Returns:
        the distances; none if either membrane is empty.

    >>> from cryojax_seg.measure.thickness import membrane_sheet
    >>> masks = np.zeros((2, 24, 20, 20), bool); masks[0, 6:9] = masks[1, 14:17] = True
    >>> found = distances(*(membrane_sheet(m, (10.0, 10.0, 10.0)) for m in masks))
    >>> round(found.mean(), 1), round(found.contact_area(within=90) / 100)
    (79.9, 391)
    """
    if not (len(sheet.middle) and len(other.middle)):
        return Distances(np.zeros(0, np.float32), np.zeros(0, np.float32))
    tree = KDTree(other.middle, balanced_tree=False, compact_nodes=False)
    distance, _ = tree.query(sheet.middle, distance_upper_bound=farthest)
    kept = np.isfinite(distance)
    away = np.maximum(distance[kept] - offset, 0).astype(np.float32)
    return Distances(away, sheet.area_of_voxel[kept])


@dataclasses.dataclass(frozen=True)
class Apposition:
    """Describes where the membranes of one class come near those of another, by their mid-surfaces.

    Returned by `apposition`.

    Attributes:
        mean_nm: the mean distance of the first class to the second, weighted by area; None if
            nothing lies within the farthest distance.
        quantiles_nm: for each share of that area, the distance within which it lies.
        area_within_nm2: the area of the first class that has the second within the farthest
            distance.
        area_share_within: that area over the whole area of the first class; None for an empty
            class.
        contact_area_nm2: the area of the first class that is in contact with the second.
        histogram: the edges of the bins of distance ("edges_nm") and the area in each ("area_nm2"),
            up to 1.2 times the distance within which 90 % of the area lie.
    """

    mean_nm: float | None
    quantiles_nm: dict[str, float | None]
    area_within_nm2: float
    area_share_within: float | None
    contact_area_nm2: float
    histogram: dict[str, list[float]]


def apposition(
    first: Sheet, second: Sheet, farthest_nm: float | int = 100.0, contact_nm: float | int = 30.0
) -> Apposition:
    """Measure the nearest distances from one membrane to another, and their area in contact.

    Args:
        first, second: the sheets of both classes in nanometres, in one coordinate frame.
        farthest_nm: the largest distance; pieces of the first that are farther away are left out.
        contact_nm: the distance up to which membranes count as in contact.

    >>> from cryojax_seg.measure.thickness import membrane_sheet
    >>> masks = np.zeros((2, 24, 20, 20), bool); masks[0, 6:9] = masks[1, 14:17] = True
    >>> found = apposition(*(membrane_sheet(m) for m in masks), contact_nm=9)
    >>> round(found.mean_nm, 1), round(found.contact_area_nm2), round(found.area_share_within, 2)
    (8.0, 391, 1.0)
    """
    found = distances(first, second, farthest_nm)
    near = found.quantile(_MOST)
    reach = farthest_nm if near is None else min(1.2 * near + 1e-6, farthest_nm)
    counts, edges = np.histogram(found.distance, bins=_BINS, range=(0, reach), weights=found.area)
    total = float(first.area_of_voxel.sum(dtype=np.float64))
    within = float(found.area.sum(dtype=np.float64))
    return Apposition(
        mean_nm=found.mean(),
        quantiles_nm={f"{q:g}": found.quantile(q) for q in _QUANTILES},
        area_within_nm2=within,
        area_share_within=within / total if total else None,
        contact_area_nm2=found.contact_area(contact_nm),
        histogram={"edges_nm": edges.tolist(), "area_nm2": counts.tolist()},
    )
