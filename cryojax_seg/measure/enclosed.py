"""The space that a membrane encloses."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from cryojax_seg.measure.thickness import MaskArray

_FACES = ndimage.generate_binary_structure(3, 1)


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
