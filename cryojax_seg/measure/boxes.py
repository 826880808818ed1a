"""Cuts each object of a class out in a box of its own, and measures what all kinds share."""

from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from cryojax_seg.core.types import ProbabilityArray
from cryojax_seg.measure.measured import Measured
from cryojax_seg.measure.objects import InstanceArray, instances
from cryojax_seg.measure.uncertainty import interval_if_present

MARGIN = 16  # voxels around an object, beyond which windows see nothing of it
_NEAR = 3  # voxels around an object in which its probabilities count
Nanometres = tuple[float, float, float]


class ObjectBox(NamedTuple):
    """Holds one object in a box.

    Returned by `object_boxes`.

    Attributes:
        number: the number of the object in its instance map.
        start: index of the first voxel of the box, zyx.
        mask: bool ``(z, y, x)``, the voxels of the object.
        probability: float32 ``(z, y, x)``, the probability of its class near the object and 0
            elsewhere; None without probabilities.
    """

    number: int
    start: tuple[int, int, int]
    mask: np.ndarray
    probability: np.ndarray | None


def object_boxes(
    numbers: InstanceArray, probability: ProbabilityArray | None = None
) -> list[ObjectBox]:
    """Return the objects of an instance map, each in a box with a margin of 16 voxels.

    Args:
        numbers: ``(z, y, x)`` the number of the object of each voxel; 0 is background.
        probability: ``(z, y, x)`` the probability of the class. An object gets the values within
            three voxels of it that belong to no other object.

    >>> numbers = np.zeros((4, 4, 60), np.int32); numbers[1, 1, 30] = 7
    >>> (box,) = object_boxes(numbers)
    >>> box.number, box.start, box.mask.shape
    (7, (0, 0, 14), (4, 4, 33))
    """
    found = []
    for one in instances(numbers, MARGIN):
        near = None
        if probability is not None:
            own = np.asarray(probability[one.box], np.float32)
            others = (numbers[one.box] > 0) & ~one.mask
            around = np.asarray(ndimage.binary_dilation(one.mask, iterations=_NEAR), bool)
            near = np.where(around & ~others, own, np.float32(0))
        z, y, x = (part.start for part in one.box)
        found.append(ObjectBox(one.number, (z, y, x), one.mask, near))
    return found


def voxels_and_volume(box: ObjectBox, voxel_nm: Nanometres) -> dict[str, Any]:
    """Return the number of voxels of an object, and its volume with an interval."""
    one = float(np.prod(voxel_nm))
    voxels = int(np.count_nonzero(box.mask))
    low = high = None
    if box.probability is not None:
        low, high = interval_if_present(
            lambda mask: float(np.count_nonzero(mask)) * one, box.probability, 2
        )
    return {"voxels": voxels, "volume_nm3": Measured(voxels * one, low, high)}


def place_and_size(box: ObjectBox, voxel_nm: Nanometres) -> dict[str, Any]:
    """Return the fields that the rows of membranes and organelles have in common."""
    where = np.array([float(np.mean(i)) for i in np.nonzero(box.mask)])
    z, y, x = ((where + box.start) * voxel_nm).tolist()
    return {
        "instance": box.number,
        "centre_nm": (z, y, x),
        **voxels_and_volume(box, voxel_nm),
    }
