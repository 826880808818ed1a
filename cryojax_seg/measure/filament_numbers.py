"""Numbers the voxels of filaments by the axes that were traced through them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from scipy.spatial import KDTree

from cryojax_seg.core.blocks import release
from cryojax_seg.measure.centreline import Filament
from cryojax_seg.measure.thickness import MaskArray
from cryojax_seg.measure.tiled import SLAB

_REACH = 2.0  # radii from an axis within which a voxel belongs to it; the wedge widens tubes
_LEAST = 2.0  # voxels beyond the radius, at least


def number_filaments(
    numbers: Int[np.ndarray, "_z _y _x"],
    mask: MaskArray,
    axes: Sequence[Filament],
    voxel_size_angstrom: tuple[float, float, float],
) -> None:
    """Give each voxel of a mask the number of the filament whose axis is nearest.

    Voxels that are farther from all axes than twice the radius of the filament belong to none.

    Args:
        numbers: ``(z, y, x)`` zeros, which receive the numbers 1, 2, ... in the order of the axes;
            they may be on disk.
        mask: ``(z, y, x)``, True in filaments; it may be on disk.
        axes: the filaments that were traced in the mask.
        voxel_size_angstrom: voxel size along z, y, x.

    >>> mask = np.zeros((9, 20, 60), bool); mask[3:6, 3:6, 5:55] = mask[3:6, 12:15, 5:55] = True
    >>> mask[0, 0, 0] = True
    >>> lines = [np.array([[40.0, y, 50.0], [40.0, y, 540.0]]) for y in (40.0, 130.0)]
    >>> axes = [Filament.through(line, radius_angstrom=17.0) for line in lines]
    >>> numbers = np.zeros(mask.shape, np.int32)
    >>> number_filaments(numbers, mask, axes, (10.0, 10.0, 10.0))
    >>> numbers[4, [4, 13], 30].tolist(), np.bincount(numbers[mask]).tolist()
    ([1, 2], [1, 450, 450])
    """
    if not axes:
        return
    size = np.asarray(voxel_size_angstrom, float)
    step = float(size.min()) / 2
    lines = [axis.at(axis.arc_lengths_angstrom(step)) for axis in axes]
    owners = np.repeat(np.arange(1, len(axes) + 1), [len(line) for line in lines])
    tree = KDTree(np.concatenate(lines))
    radii = np.array([0.0] + [axis.radius_angstrom for axis in axes])
    reach = np.maximum(_REACH * radii, radii + _LEAST * size.max())
    for z in range(0, len(mask), SLAB):
        voxels = np.argwhere(mask[z : z + SLAB])
        voxels[:, 0] += z
        asked = tree.query(voxels * size, distance_upper_bound=float(reach.max()))
        away, nearest = map(np.asarray, asked)
        found = np.isfinite(away)
        own = owners[nearest[found]]
        near = away[found] <= reach[own]
        numbers[tuple(voxels[found][near].T)] = own[near]
        release(numbers)
        release(mask)
