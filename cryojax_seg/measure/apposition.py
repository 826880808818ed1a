"""Distances from one membrane to another, and the area in which they are in contact."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from cryojax_seg.measure.thickness import Sheet

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BINS = 40  # of the histogram


class Distances(NamedTuple):
    """Distances from the pieces of one surface to the nearest point of another.

    Attributes:
        distance: ``(n,)`` one for each piece, in the unit of the voxel size.
        area: ``(n,)`` of the pieces.
    """

    distance: np.ndarray
    area: np.ndarray

    def quantile(self, share: float | int) -> float | None:
        """The distance within which this share of the area lies; None if there is none."""
        if not self.distance.size:
            return None
        order = np.argsort(self.distance)
        sums = np.cumsum(self.area[order], dtype=np.float64)
        at = np.searchsorted(sums, share * sums[-1])
        return float(self.distance[order[min(int(at), order.size - 1)]])

    def mean(self) -> float | None:
        """Weighted by area; None if there is none."""
        return float(np.average(self.distance, weights=self.area)) if self.distance.size else None

    def contact_area(self, within: float | int) -> float:
        """The area that lies no farther than this from the other surface."""
        return float(self.area[self.distance <= within].sum(dtype=np.float64))


def distances(
    sheet: Sheet, other: Sheet, farthest: float | int = math.inf, apart: float | int = 0.0
) -> Distances:
    """Nearest distances from one membrane to another, from mid-surface to mid-surface.

    Args:
        sheet: the membrane whose pieces are measured.
        other: the surface they are measured to; from the same array.
        farthest: pieces farther away than this are left out, such as the free side of a membrane.
        apart: an offset that is taken off, such as half of both thicknesses for the gap between.

    Returns:
        nothing if either is empty.

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
    away = np.maximum(distance[kept] - apart, 0).astype(np.float32)
    return Distances(away, sheet.area_of_voxel[kept])


@dataclasses.dataclass(frozen=True)
class Apposition:
    """How the membranes of one class lie to those of another, from mid-surface to mid-surface.

    Attributes:
        mean_nm: mean distance of the pieces of the first to the second, by area; None if there are
            none within the farthest distance.
        quantiles_nm: the distances within which these shares of that area lie, by share.
        area_within_nm2: area of the first that has the second within the farthest distance.
        area_share_within: that over the whole area of the first; None for an empty class.
        contact_area_nm2: area of the first that is in contact with the second.
        histogram: "edges_nm" of the bins of distance and "area_nm2" in each.
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
        first, second: sheets in nanometres, in one frame.
        farthest_nm: pieces of the first that are farther away than this are left out.
        contact_nm: pieces this near are in contact.

    >>> from cryojax_seg.measure.thickness import membrane_sheet
    >>> masks = np.zeros((2, 24, 20, 20), bool); masks[0, 6:9] = masks[1, 14:17] = True
    >>> found = apposition(*(membrane_sheet(m) for m in masks), contact_nm=9)
    >>> round(found.mean_nm, 1), round(found.contact_area_nm2), round(found.area_share_within, 2)
    (8.0, 391, 1.0)
    """
    found = distances(first, second, farthest_nm)
    counts, edges = np.histogram(
        found.distance, bins=_BINS, range=(0, farthest_nm), weights=found.area
    )
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
