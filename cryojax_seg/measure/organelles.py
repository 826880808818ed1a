"""Organelles and the spaces between membranes: volumes, lumens, distances and contacts."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from scipy import ndimage
from scipy.spatial import KDTree

from cryojax_seg.measure.mesh import body_surface
from cryojax_seg.measure.thickness import MaskArray, Sheet, Spacing

_UNIT = (1.0, 1.0, 1.0)
_FACES = ndimage.generate_binary_structure(3, 1)


class Body(NamedTuple):
    """Size and shape of a compact object, in powers of the unit of the voxel size.

    Attributes:
        volume: of its voxels.
        area: of its boundary, see `boundary_area`.
        surface_to_volume: area over volume; None for nothing.
        sphericity: area of the ball of this volume over the area (Wadell 1935): 1 for a ball, less
            for everything else, as both are of one closed surface. None for nothing, and where
            faces of the array cut the object, whose whole is not known.
    """

    volume: float
    area: float
    surface_to_volume: float | None
    sphericity: float | None


def measure_body(mask: MaskArray, voxel_size: Spacing = _UNIT) -> Body:
    """Volume, area, surface-to-volume ratio and sphericity of a compact object.

    Args:
        mask: of one object, in the whole array or in a box with a margin of 4 voxels.
        voxel_size: along z, y, x.

    >>> ball = np.linalg.norm(np.indices((32, 32, 32)) - 15.5, axis=0) < 12
    >>> body = measure_body(ball, (10.0, 10.0, 10.0))
    >>> round(body.volume / (4 / 3 * np.pi * 120**3), 2), round(body.sphericity, 2)
    (1.0, 1.0)
    """
    mask = np.asarray(mask)
    volume = float(np.count_nonzero(mask)) * math.prod(map(float, voxel_size))
    surface = body_surface(mask)
    area = surface.area(voxel_size)
    if not (volume and area):
        return Body(volume, area, None, None)
    ball = math.pi ** (1 / 3) * (6 * surface.volume(voxel_size)) ** (2 / 3)
    return Body(volume, area, area / volume, None if surface.cut.any() else ball / area)


class Lumen(NamedTuple):
    """What a membrane encloses.

    Attributes:
        mask: the enclosed voxels, without the membrane.
        closed: whether the membrane encloses it on all sides. If not, `mask` is what it encloses
            within z slices: tomograms rarely show the tops and bottoms of organelles.
    """

    mask: Bool[np.ndarray, "_z _y _x"]
    closed: bool


def lumen(mask: MaskArray, gap: float | int = 0.0, least: float | int = 0.5) -> Lumen:
    """The space that a membrane encloses.

    Background that no path of face neighbours joins to the faces of the array. Where the membrane
    is open this is little or nothing: less than a share `least` of what it encloses within single
    z slices, which is then given instead. Gaps within a slice, where the missing wedge hides a
    membrane, can be bridged: what a disc of that diameter reaches from outside is not enclosed.

    Args:
        mask: of one membrane, in the array or in a box around it.
        gap: width within a slice that is bridged, voxels.
        least: share of the lumen by slices.

    >>> shell = abs(np.linalg.norm(np.indices((24, 24, 24)) - 11.5, axis=0) - 8) < 1.5
    >>> inside = lumen(shell)
    >>> inside.closed, lumen(shell[6:]).closed, bool(inside.mask[12, 12, 12])
    (True, False, True)
    """
    mask = np.asarray(mask)
    if not mask.any():
        return Lumen(np.zeros(mask.shape, bool), False)
    flat = _FACES.copy()
    flat[[0, 2]] = False
    whole = _enclosed(mask, _FACES, (0, 1, 2))
    slices = _bridged(mask, flat, gap) if gap else _enclosed(mask, flat, (1, 2))
    closed = bool(np.count_nonzero(whole) > least * np.count_nonzero(slices))
    return Lumen(whole if closed else slices, closed)


def _enclosed(mask: np.ndarray, structure: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Background that is not connected to the faces across these axes."""
    parts = np.zeros(mask.shape, np.int32)
    ndimage.label(~mask, structure, output=parts)
    open_ = np.zeros(int(parts.max()) + 1, bool)
    for axis in axes:
        for end in (0, -1):
            open_[parts.take(end, axis)] = True
    open_[0] = True
    return ~open_[parts]


def _bridged(mask: np.ndarray, flat: np.ndarray, gap: float | int) -> np.ndarray:
    """Background within slices that no disc as wide as the gap reaches from the faces."""
    depth = np.zeros(mask.shape, np.float32)
    for z in np.flatnonzero(mask.any((1, 2))):
        depth[z] = ndimage.distance_transform_edt(~mask[z])
    inner = _enclosed(depth <= gap / 2, flat, (1, 2))
    for z in np.flatnonzero(inner.any((1, 2))):
        grown = np.asarray(ndimage.distance_transform_edt(~inner[z])) < gap / 2
        inner[z] = grown & ~mask[z]
    return inner


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
