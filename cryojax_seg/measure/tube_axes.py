"""Finds the axes of hollow filaments by the shape of their wall.

The axis of a tube lies where the wall is all around at one distance and the lumen is empty. This
needs no closed wall: a face of the volume or the missing wedge may hide a part of it, and walls
that touch have axes that are far apart.
"""

import numpy as np
from jaxtyping import Bool
from scipy import ndimage, signal

from cryojax_seg.core.plain import Shape
from cryojax_seg.measure.local import tilewise
from cryojax_seg.measure.tiled import Box
from cryojax_seg.measure.windows import extent

WALL = 20.0  # angstrom from the middle of a wall to its faces
_LUMEN = 0.6  # of the radius of a tube, where there is no wall
_COMPLETE = 0.6  # the evidence on the axis of a complete tube


def tube_axes(
    mask: Bool[np.ndarray, "_z _y _x"],
    radius_angstrom: float | int,
    voxel_size: tuple[float, float, float],
    level: float = 0.5,
) -> Bool[np.ndarray, "_z _y _x"]:
    """Return the voxels near the axes of tubes, a thin rod for each tube.

    The evidence at a voxel is the filled part of a spherical shell around it, of the radius of the
    wall, less the filled part of a ball as wide as the lumen. Only what is in the volume counts.
    The shell around a point of the axis touches the wall in a wide ring, which is more than half of
    it; between two walls that touch the ball is filled. A tube whose lumen is filled in the mask is
    found by the depth of its axis in the mask.

    Args:
        mask: ``(z, y, x)``, True in the walls of tubes.
        radius_angstrom: the radius of the middle of the wall.
        voxel_size: voxel size along z, y, x, in angstrom.
        level: the least evidence, 1 for a complete tube.

    >>> y, x = np.indices((30, 30)) - 15.0
    >>> wall = np.broadcast_to(abs(np.hypot(y, x) - 11) < 2, (20, 30, 30))
    >>> found = tube_axes(wall, 110.0, (10.0, 10.0, 10.0))
    >>> found[:, 15, 15].all().item(), found[:, 15, 20:27].any().item()
    (True, False)
    """
    steps = np.asarray(voxel_size, float)
    reach = np.ceil((radius_angstrom + WALL) / steps).astype(int)
    grid = np.moveaxis(np.indices((2 * reach + 1).tolist()), 0, -1) - reach
    away = np.linalg.norm(grid * steps, axis=-1)
    shell = np.abs(away - radius_angstrom) <= WALL
    ball = away <= _LUMEN * radius_angstrom
    shape = (len(mask), *mask.shape[1:])
    parts = [(kernel.astype(np.float32), _Whole(kernel, shape)) for kernel in (shell, ball)]

    def near_axes(part: np.ndarray, box: Box) -> np.ndarray:
        values = part.astype(np.float32)
        ring, lumen = (_counted(values, kernel) / whole.within(box) for kernel, whole in parts)
        return (ring - lumen > level * _COMPLETE) | _deeper(
            part, _LUMEN * radius_angstrom, voxel_size
        )

    return tilewise(mask, near_axes, int(reach.max()))


class _Whole:
    """Counts the voxels of a kernel that are in the volume, wherever it is."""

    def __init__(self, kernel: Bool[np.ndarray, "_z _y _x"], shape: Shape):
        self._shape, self._size = shape, kernel.shape
        small = np.ones([min(n, size) for n, size in zip(shape, kernel.shape, strict=True)])
        self._counts = np.maximum(_counted(small.astype(np.float32), kernel.astype(np.float32)), 1)

    def within(self, box: Box) -> np.ndarray:
        """Return the count around each voxel of a box."""
        places = []
        for part, n, size in zip(box, self._shape, self._size, strict=True):
            own, half = np.arange(part.start, part.stop), size // 2
            if n > size:  # all the same but near the faces
                own = np.minimum(own, half) + np.maximum(own - (n - 1 - half), 0)
            places.append(own)
        return self._counts[np.ix_(*places)]


def _counted(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return the filled voxels of a kernel around each voxel, which are whole numbers."""
    return np.rint(signal.oaconvolve(values, kernel, mode="same"))


def walls(
    mask: Bool[np.ndarray, "_z _y _x"], voxel_size: tuple[float, float, float]
) -> Bool[np.ndarray, "_z _y _x"]:
    """Return a mask of tubes with their lumens emptied, if they were filled.

    >>> int(walls(np.pad(np.ones((13, 13, 13), bool), 1), (10.0, 10.0, 10.0))[7, 7].sum())
    8
    """
    reach = int(np.ceil(2 * WALL / min(voxel_size))) + 1
    return tilewise(mask, lambda part, _: part & ~_deeper(part, 2 * WALL, voxel_size), reach)


def _deeper(mask: np.ndarray, depth: float, voxel_size: tuple[float, float, float]) -> np.ndarray:
    """Return which voxels of a mask are farther than this from the nearest one outside."""
    found = np.zeros(mask.shape, bool)
    half = int(depth / np.linalg.norm(voxel_size))  # of a cube that must be in the mask entirely
    inner = np.asarray(ndimage.minimum_filter(mask, 2 * half + 1, mode="nearest"), bool)
    if inner.any():
        box = extent(inner, int(np.ceil(depth / min(voxel_size))) + 1)
        part, found[box] = mask[box], True
        if not part.all():
            found[box] = np.asarray(ndimage.distance_transform_edt(part, voxel_size)) > depth
    return found & inner
