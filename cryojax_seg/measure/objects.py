"""Numbers objects, and cuts boxes around them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Real
from scipy import ndimage

from cryojax_seg.core.blocks import release
from cryojax_seg.measure.thickness import MaskArray
from cryojax_seg.measure.tiled import SLAB, Box
from cryojax_seg.measure.windows import extent

InstanceArray = Int[np.ndarray, "_z _y _x"]
_EVERY = np.ones((3, 3, 3), bool)  # 26 neighbours


class Instance(NamedTuple):
    """Holds one object of an instance map.

    Returned by `instances`.

    Attributes:
        number: its value in the map.
        box: slices of the map around it, with a margin within the map.
        mask: its voxels in the box.
    """

    number: int
    box: Box
    mask: np.ndarray


def components(mask: MaskArray, smallest: int = 1) -> InstanceArray:
    """Return the connected components by 26 neighbours, numbered from 1, the largest first.

    Args:
        mask: the voxels of one class.
        smallest: components of fewer voxels are left out.

    >>> mask = np.zeros((1, 3, 8), bool); mask[0, 0, 0] = mask[0, :2, 3:] = True
    >>> components(mask)[0, 0].tolist(), int(components(mask, smallest=2).max())
    ([2, 0, 0, 1, 1, 1, 1, 1], 1)
    """
    mask = np.asarray(mask)
    result = np.zeros(mask.shape, np.int32)
    if not mask.any():
        return result
    box = extent(mask)
    found = np.zeros(mask[box].shape, np.int32)
    ndimage.label(mask[box], _EVERY, output=found)
    result[box] = renamed(found, smallest)
    return result


def instances(numbers: InstanceArray, margin: int = 0) -> list[Instance]:
    """Return the objects of an instance map, each in its box.

    Args:
        numbers: ``(z, y, x)`` the number of the object of each voxel; 0 is background.
        margin: voxels around the box, within the map.

    >>> numbers = np.zeros((4, 4, 4), int); numbers[1, 1, 1:3] = 7
    >>> [(i.number, i.mask.shape, i.box[2]) for i in instances(numbers, margin=1)]
    [(7, (3, 3, 4), slice(0, 4, None))]
    """
    numbers = np.asarray(numbers)
    return [Instance(i, box, numbers[box] == i) for i, box in places(numbers, margin)]


def places(numbers: InstanceArray, margin: int = 0) -> list[tuple[int, Box]]:
    """Return the number of each object of an instance map, and the slices of the box around it.

    Args:
        numbers: ``(z, y, x)`` the number of the object of each voxel; 0 is background.
        margin: voxels around the box, within the map.

    >>> numbers = np.zeros((4, 4, 4), int); numbers[1, 1, 1:3] = 7
    >>> places(numbers, margin=1)
    [(7, (slice(0, 3, None), slice(0, 3, None), slice(0, 4, None)))]
    """
    ends: dict[int, np.ndarray] = {}  # where each box starts and stops
    for top in range(0, len(numbers) if numbers.size else 0, SLAB):
        for i, box in enumerate(ndimage.find_objects(numbers[top : top + SLAB]), 1):
            if box is not None:
                own = np.array([[s.start for s in box], [s.stop for s in box]])
                own[:, 0] += top
                known = ends.get(i, own)
                ends[i] = np.stack([np.minimum(known[0], own[0]), np.maximum(known[1], own[1])])
        release(numbers)
    found = []
    for i in sorted(ends):
        z, y, x = (
            slice(max(0, int(low) - margin), min(n, int(high) + margin))
            for low, high, n in zip(*ends[i], numbers.shape, strict=True)
        )
        found.append((i, (z, y, x)))
    return found


def renumber(labels: Real[np.ndarray, "_z _y _x"]) -> tuple[InstanceArray, list[int]]:
    """Renumber the objects of an instance map from 1 without gaps, and return the old numbers.

    Args:
        labels: 0 is background, every other number one object, whether objects touch or not.

    Raises:
        ValueError: for values that are negative, no integers, or too large to be exact.

    >>> numbers, ids = renumber(np.array([[[0, 65535, 7, 7]]], np.uint16))
    >>> numbers.tolist(), ids
    ([[[0, 2, 1, 1]]], [7, 65535])
    """
    labels = np.asarray(labels)
    ids: set[int] = set()
    for section in labels:
        ids |= set(whole_numbers(np.unique(section)))
    if min(ids, default=0) < 0:
        raise ValueError("has negative numbers; objects are numbered from 1, and 0 is background")
    known = np.array(sorted(ids - {0}), np.int64)
    numbers = np.zeros(labels.shape, np.int32)
    for section, values in zip(numbers, labels, strict=True):
        section[:] = np.searchsorted(known, values.astype(np.int64), side="right")
        section[values == 0] = 0
    return numbers, known.tolist()


def whole_numbers(values: Real[np.ndarray, "_n"]) -> list[int]:
    """Return labels as integers.

    Raises:
        ValueError: for fractions, and for values so large that their type cannot hold the next
            integer.

    >>> whole_numbers(np.array([0.0, 3.0], np.float32))
    [0, 3]
    """
    if values.dtype.kind == "f":
        exact = 2 ** (1 + np.finfo(values.dtype).nmant)
        wrong = values[~((np.abs(values) <= exact) & (values == np.round(values)))]
        if wrong.size:
            raise ValueError(
                f"holds values that are no integers, such as {wrong[0]:g}; a label volume holds "
                "class or object numbers. Is this a density or a probability map?"
            )
    elif values.size and int(values.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"holds {values.max()}, which is too large for a label")
    return [int(v) for v in values]


def renamed(numbers: np.ndarray, smallest: int) -> np.ndarray:
    """Renumber objects, the largest first, without those that are too small."""
    sizes = np.bincount(numbers.ravel())
    sizes[0] = 0
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] >= max(smallest, 1)]
    renamed = np.zeros(sizes.size, np.int32)
    renamed[order] = np.arange(1, order.size + 1)
    return renamed[numbers]
