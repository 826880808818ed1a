"""Separates objects: components, touching objects, apposed membranes, and boxes around them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real
from scipy import ndimage
from skimage.segmentation import watershed

from cryojax_seg.core.blocks import release
from cryojax_seg.core.masks import depth_basins, depth_in_mask
from cryojax_seg.measure.basins import merged
from cryojax_seg.measure.thickness import MaskArray, Spacing
from cryojax_seg.measure.tiled import SLAB, Box, ranked
from cryojax_seg.measure.windows import SECOND, extent

InstanceArray = Int[np.ndarray, "_z _y _x"]
_EVERY = np.ones((3, 3, 3), bool)  # 26 neighbours
_SIDE = 3  # voxels from a valley to the ridges on its sides
_LEAST = 27  # voxels of a membrane beside a valley; fewer are a piece of its slope


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


def split_touching(
    mask: MaskArray,
    voxel_size: Spacing = (1.0, 1.0, 1.0),
    neck: float | int = 0.75,
    smallest: int = 1,
) -> InstanceArray:
    """Split touching compact objects, such as vesicles and complexes, at their necks.

    The method is a watershed of the depth below the surface (Beucher & Lantuejoul 1979). Two maxima
    of the depth belong to one object if the depth on the best path between them stays above a share
    `neck` of the lower one: unlike a minimum distance, this does not depend on the size of the
    objects.

    Args:
        mask: the voxels of one class. Fill hollow objects first, for example with `scipy.ndimage`.
        voxel_size: voxel size along z, y, x.
        neck: share of the lower depth; 0 splits nothing, 1 splits at every constriction.
        smallest: objects of fewer voxels are left out.

    Raises:
        ValueError: if `neck` is not within 0 to 1.

    >>> away = [np.linalg.norm(np.indices((20, 20, 34)).T - c, axis=-1).T
    ...         for c in ([9.5, 9.5, 9.5], [9.5, 9.5, 23.5])]
    >>> mask = np.minimum(*away) < 8
    >>> int(components(mask).max()), int(split_touching(mask).max())
    (1, 2)
    """
    numbers = components(mask, smallest)
    split_at_necks(numbers, voxel_size, neck, smallest)
    return numbers


def split_at_necks(
    numbers: InstanceArray,
    voxel_size: Spacing = (1.0, 1.0, 1.0),
    neck: float | int = 0.75,
    smallest: int = 1,
) -> int:
    """Split each object of an instance map in place as `split_touching` does.

    Args:
        numbers: int32 ``(z, y, x)``, the number of the object of each voxel; 0 outside. It may be a
            `numpy.memmap`.
        voxel_size, neck, smallest: as in `split_touching`.

    Returns:
        the number of objects.

    Raises:
        ValueError: if `neck` is not within 0 to 1.

    >>> away = [np.linalg.norm(np.indices((20, 20, 34)).T - c, axis=-1).T
    ...         for c in ([9.5, 9.5, 9.5], [9.5, 9.5, 23.5])]
    >>> split_at_necks((np.minimum(*away) < 8).astype(np.int32))
    2
    """
    if not 0 <= neck <= 1:
        raise ValueError(f"neck must be a share from 0 to 1, got {neck}")

    def divide(box: Box, mask: np.ndarray) -> np.ndarray:
        depth = depth_in_mask(mask, voxel_size, "inside").astype(np.float32)
        return merged(depth_basins(depth, mask), depth, neck)

    return _split_each(numbers, divide, 1, smallest)


def _split_each(
    numbers: InstanceArray,
    divide: Callable[[Box, np.ndarray], np.ndarray],
    margin: int,
    smallest: int,
) -> int:
    """Divide each object in its box, in place, and return the number of parts."""
    found = places(numbers, margin)
    count = max((number for number, _ in found), default=0)
    for number, box in found:
        here = numbers[box]
        mask = np.asarray(here) == number
        parts = divide(box, mask)
        here[mask] = np.where(parts > 0, parts + count, 0)[mask]
        count += int(parts.max(initial=0))
    return ranked(numbers, np.arange(count + 1), smallest)


def split_membranes(
    probability: Float[np.ndarray, "_z _y _x"],
    level: float = 0.5,
    valley: float | int = 0.8,
    smallest: int = 1,
) -> InstanceArray:
    """Split membranes where the probability has a valley between two ridges.

    A voxel lies in a valley if, along the direction of largest positive curvature of p, the
    probability is less than a share `valley` of its values on both sides within three voxels, and
    if p is less curved downwards in any other direction (by the eigenvalues of the Hessian of p,
    smoothed by one voxel). A weak stretch of a single membrane curves downwards across the
    membrane, and an uneven thickness makes no valley, so neither divides it. The voxels outside
    valleys are connected by 26 neighbours, and a watershed of -p assigns the valleys to them;
    pieces that also meet outside valleys are merged.

    Args:
        probability: ``(z, y, x)`` probability of membrane.
        level: membranes are where the probability is above this.
        valley: share of the lower ridge; 0 divides nothing, 1 divides at every valley. If the
            leaflets of a bilayer are resolved, they are two ridges: smooth the map first.
        smallest: membranes of fewer voxels are left out.

    Raises:
        ValueError: if `level` or `valley` is not within 0 to 1.

    >>> profile = np.array([0, 0.4, 0.9, 0.9, 0.55, 0.9, 0.9, 0.4, 0], np.float32)
    >>> p = np.array(np.broadcast_to(profile[:, None, None], (9, 12, 12)))
    >>> int(components(p > 0.5).max()), int(split_membranes(p).max())
    (1, 2)
    """
    for name, value in (("level", level), ("valley", valley)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be within 0 to 1, got {value}")
    mask = np.asarray(probability) > level
    result = np.zeros(mask.shape, np.int32)
    count = 0
    for one in instances(components(mask, smallest), margin=5):
        values = np.asarray(probability[one.box], np.float32)
        valleys = ndimage.binary_dilation(_valleys(values, one.mask, valley))
        kept = one.mask & ~np.asarray(valleys, bool)
        markers = components(kept, _LEAST)
        parts = one.mask.astype(np.int32)
        if markers.max() > 1:
            parts = watershed(-values, markers, mask=one.mask, connectivity=3)
            parts = merged(parts, values, valley)
        result[one.box][one.mask] = parts[one.mask] + count
        count += int(parts.max())
    return renamed(result, smallest)


def split_at_valleys(numbers: InstanceArray, probability: Any, smallest: int = 1) -> int:
    """Split each membrane of an instance map in place as `split_membranes` does.

    Args:
        numbers: int32 ``(z, y, x)``, the number of the membrane of each voxel; 0 outside. It may be
            a `numpy.memmap`.
        probability: ``(z, y, x)`` probability of membrane, which may stay on disk.
        smallest: membranes of fewer voxels are left out.

    Returns:
        the number of membranes.

    >>> profile = np.array([0, 0.4, 0.9, 0.9, 0.55, 0.9, 0.9, 0.4, 0], np.float32)
    >>> p = np.array(np.broadcast_to(profile[:, None, None], (9, 12, 12)))
    >>> split_at_valleys((p > 0.5).astype(np.int32), p)
    2
    """

    def divide(box: Box, mask: np.ndarray) -> np.ndarray:
        return split_membranes(np.where(mask, probability[box], 0).astype(np.float32), level=0.0)

    return _split_each(numbers, divide, 5, smallest)


def _valleys(values: np.ndarray, mask: np.ndarray, share: float | int) -> np.ndarray:
    low = mask & (values < share * ndimage.maximum_filter(values, 2 * _SIDE + 1))
    if not low.any():
        return low
    where = np.argwhere(low)
    hessian = np.empty((len(where), 3, 3), np.float32)
    for order in SECOND:
        i, j = np.repeat(np.arange(3), order)
        smoothed = values
        for axis, times in enumerate(order):
            smoothed = ndimage.gaussian_filter1d(smoothed, 1.0, axis, times, mode="nearest")
        hessian[:, i, j] = hessian[:, j, i] = smoothed[low]
    bends, directions = np.linalg.eigh(hessian)
    across = directions[:, :, 2]
    sides = []
    for sign in (-1, 1):
        steps = [where + sign * d * across for d in range(1, _SIDE + 1)]
        seen = [ndimage.map_coordinates(values, s.T, order=1, mode="nearest") for s in steps]
        sides.append(np.max(seen, axis=0))
    low[low] = (bends[:, 2] > -bends[:, 0]) & (values[low] < share * np.minimum(*sides))
    return low


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
