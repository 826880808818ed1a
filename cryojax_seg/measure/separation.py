"""Separates membranes that touch or that a few voxels join, as a person would count them.

Where membranes touch, neither their voxels nor their normals tell them apart, but what they enclose
does: two vesicles that share a wall have two lumens. So the space between membranes is divided at
its necks into rooms. A room is a lumen if membrane surrounds most of it and it is convex; a pocket
between vesicles has open sides, and bulges of the vesicles reach into it. Each lumen claims the
membrane within a thickness of it, the nearest lumen first. What no lumen claims are sheets, arcs
and outer membranes, which are connected components of the rest. Small pieces of the rest that touch
an object belong to it: they are bridges between membranes, and rough places of their surfaces.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.segmentation import watershed

from cryojax_seg.core.masks import ascent_basins, distances_in_mask, nearest_outside
from cryojax_seg.core.types import ProbabilityArray
from cryojax_seg.measure.basins import merged
from cryojax_seg.measure.objects import InstanceArray, components, instances
from cryojax_seg.measure.thickness import MaskArray
from cryojax_seg.measure.tiled import MOST, Box, ReadBox, numbered, tiles

_NECK = 0.75  # share of the depth of a room at which it is divided from the next one
_CLOSED = 0.78  # share of the surface of a lumen that is membrane
_CUT = 0.4  # share of the surface of a lumen that may lie in faces of the array
_CONVEX = 0.75  # share of its convex hull that a lumen fills
_REACH = 1.25  # thicknesses of membrane that a lumen claims
_OPEN = 16.0  # square thicknesses of area of the smallest piece that is an object by itself
_MARGIN = 40  # voxels around a tile that tell what is a lumen
_FAINT = 0.1  # probability above which a wall closes a lumen


def separate_membranes(
    mask: MaskArray,
    probability: ProbabilityArray | None = None,
    smallest: int | None = None,
    most: int = MOST,
) -> InstanceArray:
    """Number the membranes of a mask, also those that touch.

    Args:
        mask: ``(z, y, x)`` the voxels of membrane.
        probability: the probability of membrane. Where it is above 0.1, a wall closes a lumen even
            though it is not in the mask.
        smallest: membranes of fewer voxels are left out; by default those whose area is less than
            16 square thicknesses, which is a patch 20 nm wide of a membrane of 5 nm.
        most: voxels that are divided at a time, see `numbered`.

    Returns:
        the number of the membrane of each voxel, the largest first; 0 outside.

    >>> grid = np.indices((24, 24, 42))
    >>> away = [np.linalg.norm(grid.T - c, axis=-1).T for c in ((12, 12, 12), (12, 12, 29))]
    >>> mask = (abs(away[0] - 7.5) < 1.5) | (abs(away[1] - 7.5) < 1.5)
    >>> int(components(mask).max()), int(separate_membranes(mask).max())
    (1, 2)
    """
    mask = np.asarray(mask)
    result = np.zeros(mask.shape, np.int32)
    number_membranes(result, mask.__getitem__, probability, smallest, most)
    return result


def number_membranes(
    result: InstanceArray,
    mask: ReadBox,
    probability: Any = None,
    smallest: int | None = None,
    most: int = MOST,
) -> int:
    """Number membranes as `separate_membranes` does, in a volume that is read box by box.

    Args:
        result: int32 ``(z, y, x)``, which receives the numbers; it may be a `numpy.memmap`.
        mask: function from the slices of a box to the membrane in it, bool.
        probability: ``(z, y, x)`` the probability of membrane, which may stay on disk; None for
            none.
        smallest, most: as in `separate_membranes`.

    Returns:
        the number of membranes.

    >>> away = np.linalg.norm(np.indices((20, 20, 20)) - 9.5, axis=0)
    >>> numbers = np.zeros(away.shape, np.int32)
    >>> number_membranes(numbers, (abs(away - 7) < 1.5).__getitem__)
    1
    """
    volume = faces = 0
    for box, _ in tiles(result.shape, most, 0):
        z, y, x = (slice(s.start, s.stop + 1) for s in box)  # with the first voxels of the next
        inside = mask((z, y, x))
        own = [slice(s.stop - s.start) for s in box]
        volume += np.count_nonzero(inside[tuple(own)])
        for axis in range(3):
            beyond = [slice(None) if i == axis else s for i, s in enumerate(own)]
            faces += np.count_nonzero(np.diff(inside[tuple(beyond)], axis=axis))
    # A sheet has two sides; one voxel face of a surface of any direction is 2/3 of its area.
    thickness = 2 * volume / max(faces / 1.5, 1.0)
    least = int(_OPEN * thickness**3) if smallest is None else smallest

    def divide(box: Box) -> np.ndarray:
        inside = mask(box)
        walls = inside
        if probability is not None:
            walls = inside | (np.asarray(probability[box], np.float32) > _FAINT)
        return _separated(inside, walls, thickness)

    return numbered(result, divide, least, most, _MARGIN)


def _separated(mask: np.ndarray, walls: np.ndarray, thickness: float) -> np.ndarray:
    """Return the numbers of the membranes of a mask, all of its voxels included."""
    if not mask.any():
        return np.zeros(mask.shape, np.int32)
    rooms = lumens(walls)
    numbers = np.zeros(mask.shape, np.int32)
    if rooms.any():
        nearest, own = nearest_outside(rooms == 0)[:, mask], np.stack(np.nonzero(mask))
        near = ((nearest - own) ** 2).sum(0) <= (_REACH * thickness) ** 2
        numbers[tuple(own[:, near])] = rooms[tuple(nearest[:, near])]
    rest = components(mask & (numbers == 0))
    sizes = np.bincount(rest.ravel())
    apart = sizes >= _OPEN * thickness**3
    apart[0] = False
    own = apart[rest]
    numbers[own] = rest[own] + numbers.max()
    numbers = watershed(np.zeros(mask.shape, np.uint8), numbers, mask=mask, connectivity=3)
    alone = components(mask & (numbers == 0))
    return np.where(alone > 0, alone + numbers.max(), numbers).astype(np.int32)


def lumens(mask: MaskArray) -> Int[np.ndarray, "_z _y _x"]:
    """Return the numbers of the compact rooms that membranes enclose, even if not completely.

    Args:
        mask: the voxels of membrane.

    >>> away = np.linalg.norm(np.indices((24, 24, 24)) - 12, axis=0)
    >>> shell = abs(away - 8) < 1.5
    >>> shell[:6] = False  # which leaves a window of 12 voxels
    >>> found = lumens(shell)
    >>> bool(found[12, 12, 12] > 0), bool(found[0, 0, 0] > 0)
    (True, False)
    """
    mask = np.asarray(mask)
    if not mask.any():
        return np.zeros(mask.shape, np.int32)
    depth = distances_in_mask(~mask)
    smooth = np.asarray(ndimage.gaussian_filter(depth, 1.0))
    rooms = ascent_basins(smooth, ~mask)  # as most are merged, neighbours by faces will do
    del smooth
    rooms = merged(rooms, depth, _NECK)
    del depth
    walls, doors, cut = _sides(rooms)
    kept = (walls >= _CLOSED * (walls + doors)) & (cut <= _CUT * (walls + doors + cut))
    kept[0] = False
    found = np.where(kept[rooms], rooms, 0)
    for one in instances(found):
        if np.count_nonzero(one.mask) < _CONVEX * _hull(one.mask):
            found[one.box][one.mask] = 0
    return found


def _sides(rooms: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how many voxel faces of each room meet membrane, other rooms, and the array's end."""
    count = int(rooms.max()) + 1
    walls, doors, cut = np.zeros((3, count))
    for axis in range(3):
        along = np.moveaxis(rooms, axis, 0)
        differ = along[:-1] != along[1:]
        one, two = along[:-1][differ], along[1:][differ]
        for own, other in ((one, two), (two, one)):
            walls += np.bincount(own[other == 0], minlength=count)
            doors += np.bincount(own[other > 0], minlength=count)
        cut += np.bincount(along[[0, -1]].ravel(), minlength=count)
    return walls, doors, cut


def _hull(mask: Bool[np.ndarray, "_z _y _x"]) -> float:
    """Return the volume of the convex hull of the voxels of a mask."""
    rows = mask.any(2)  # whose ends alone can be corners of the hull
    first = mask.argmax(2)[rows]
    last = mask.shape[2] - mask[:, :, ::-1].argmax(2)[rows]
    z, y = np.nonzero(rows)
    points = [np.stack([z + i, y + j, x], 1) for x in (first, last) for i in (0, 1) for j in (0, 1)]
    return float(ConvexHull(np.concatenate(points)).volume)
