"""Splits objects that touch, at necks of their shape or valleys of their probability."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import ndimage
from skimage.segmentation import watershed

from cryojax_seg.core.masks import depth_basins, depth_in_mask
from cryojax_seg.measure.basins import merged
from cryojax_seg.measure.objects import InstanceArray, components, instances, places, renamed
from cryojax_seg.measure.thickness import MaskArray, Spacing
from cryojax_seg.measure.tiled import Box, ranked
from cryojax_seg.measure.windows import SECOND

_SIDE = 3  # voxels from a valley to the ridges on its sides
_LEAST = 27  # voxels of a membrane beside a valley; fewer are a piece of its slope


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
