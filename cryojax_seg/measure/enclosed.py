"""Finds the space that a membrane encloses."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from cryojax_seg.measure.runs import FACES, lines_at_faces, runs_of
from cryojax_seg.measure.thickness import MaskArray
from cryojax_seg.measure.windows import extent

_LARGE = 16  # voxels; discs of a larger radius take longer than distance transforms


class Lumen(NamedTuple):
    """Holds the space that a membrane encloses.

    Returned by `lumen`.

    Attributes:
        mask: the enclosed voxels, without the membrane.
        closed: whether the membrane encloses them on all sides. If not, they are the voxels
            enclosed within single z slices, as tomograms rarely show the tops and bottoms of
            organelles.
    """

    mask: Bool[np.ndarray, "_z _y _x"]
    closed: bool


def lumen(mask: MaskArray, gap: float | int = 0.0, minimum_share: float | int = 0.5) -> Lumen:
    """Return the space that a membrane encloses.

    A background voxel is enclosed if no path of face neighbours joins it to the faces of the array.
    An open membrane encloses little or nothing in this sense. If that is less than a share
    `minimum_share` of what the membrane encloses within single z slices, the latter is returned.
    Gaps within a slice, where the missing wedge hides the membrane, can be bridged: then a voxel is
    outside only if a disc of the diameter `gap` can reach it from the faces.

    Args:
        mask: the voxels of one membrane, in the array or in a box around it.
        gap: width of the gaps within a slice that are bridged, in voxels.
        minimum_share: the share of the space enclosed within slices.

    >>> shell = abs(np.linalg.norm(np.indices((24, 24, 24)) - 11.5, axis=0) - 8) < 1.5
    >>> inside = lumen(shell)
    >>> inside.closed, lumen(shell[6:]).closed, bool(inside.mask[12, 12, 12])
    (True, False, True)
    """
    mask = np.asarray(mask)
    result = np.zeros(mask.shape, bool)
    box = extent(mask, math.ceil(gap) + 1)  # what lies further out is not enclosed
    inner = mask[box]
    if not inner.size:
        return Lumen(result, False)
    flat = FACES.copy()
    flat[[0, 2]] = False
    whole = _enclosed(inner, FACES, ends=True)
    slices = _bridged(inner, flat, gap) if gap else _enclosed(inner, flat, ends=False)
    closed = bool(np.count_nonzero(whole) > minimum_share * np.count_nonzero(slices))
    result[box] = whole if closed else slices
    return Lumen(result, closed)


def bridged_lumen(mask: MaskArray, gap: float | int, closed: bool | None = None) -> np.ndarray:
    """Return the `lumen` of a membrane as a mask, with its gaps bridged only if it is open.

    Args:
        mask, gap: as in `lumen`.
        closed: whether `lumen` finds it closed without bridging, if that is known.

    >>> shell = abs(np.linalg.norm(np.indices((24, 24, 24)) - 11.5, axis=0) - 8) < 1.5
    >>> bool((bridged_lumen(shell, 3.0, closed=True) == lumen(shell).mask).all())
    True
    """
    if closed is None:
        found = lumen(mask)
        closed = found.closed
        if closed:
            return found.mask
    if not closed:
        return lumen(mask, gap).mask
    result = np.zeros(mask.shape, bool)
    box = extent(mask, 1)
    result[box] = _enclosed(mask[box], FACES, ends=True)
    return result


def _enclosed(mask: np.ndarray, structure: np.ndarray, ends: bool) -> np.ndarray:
    """Return the background that is not connected to the faces of the array.

    Args:
        mask: the voxels of a membrane.
        structure: the neighbours of a voxel.
        ends: whether the first and the last section are faces too.
    """
    runs = runs_of(~mask, structure)
    closed = np.ones(runs.count + 1, bool)
    for touching in lines_at_faces(runs, (ends, ends)):
        closed[runs.piece[touching]] = False
    return runs.painted(closed)


def _bridged(mask: np.ndarray, flat: np.ndarray, gap: float | int) -> np.ndarray:
    """Return the background within slices that no disc as wide as the gap reaches from outside."""
    squared = gap * gap / 4
    inner = _enclosed(_grown(mask, math.floor(squared)), flat, ends=False)
    return _grown(inner, math.ceil(squared) - 1) & ~mask


def _grown(mask: np.ndarray, squared: int) -> np.ndarray:
    """Return what is near a mask in the same slice, up to a squared distance in voxels.

    A disc is a stack of lines, which is faster than a distance transform of every slice, unless it
    is large.

    >>> _grown(np.eye(3, 5, 2, dtype=bool)[None], 1)[0].astype(int).tolist()
    [[0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 0, 1, 1]]
    """
    result, values = np.zeros(mask.shape, bool), mask.view(np.uint8)
    if squared > _LARGE**2:
        for z in np.flatnonzero(mask.any((1, 2))):
            away = np.asarray(ndimage.distance_transform_edt(~mask[z]))
            result[z] = away <= math.sqrt(squared)
        return result
    for away in range(math.isqrt(squared) + 1):
        wide, rest = 2 * math.isqrt(squared - away * away) + 1, mask.shape[1] - away
        line = np.asarray(ndimage.maximum_filter1d(values, wide, axis=2, mode="constant")) > 0
        result[:, away:] |= line[:, : max(rest, 0)]
        result[:, : max(rest, 0)] |= line[:, away:]
    return result
