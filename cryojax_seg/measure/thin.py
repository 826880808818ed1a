"""Finds mid-surfaces of sheets and centre lines of rods in masks that are read slab by slab.

The mask is averaged by a Gaussian window. A voxel lies on the mid-surface if the ridge of this mean
f goes through it (Steger 1998, IEEE PAMI 20, 113): along the direction of the most negative
curvature of log f, for a line along the two most negative ones, the maximum is at most half a voxel
away. Across a slab or a rod f is nearly a Gaussian, so that a Newton step from any voxel of it ends
close to the middle. Each voxel depends on its surroundings within four windows alone, so slabs that
are read with these surroundings give what the whole mask gives.
"""

import math
from collections.abc import Iterator

import numpy as np

from cryojax_seg.core.plain import Shape
from cryojax_seg.measure.kinds import Form
from cryojax_seg.measure.slabs import Part, Read, depth_of, slabs
from cryojax_seg.measure.windows import FIRST, SECOND, blocks, windowed

_CUTOFF = 4.0  # windows at which they are cut off
# Windows, in thicknesses: wider ones shift curved sheets inwards, narrower ones see no middle.
_PER_THICKNESS: dict[Form, float] = {"surface": 0.4, "line": 0.5}
_SMALLEST, _LARGEST = 1.2, 16.0  # voxels
_HALF = 0.5  # voxel
_FACES = 1.5  # voxel faces for each unit of area of a surface of any direction
_BLOCK = 48  # voxels
_SECTIONS = 32  # in a slab at least, of which the surroundings are a part
_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def window_of(mask: Read, shape: Shape, form: Form, depth: int | None = None) -> float:
    """Return the standard deviation of the window for the typical thickness of a mask, in voxels.

    A sheet of thickness t has the volume of t / 2 for each unit of its surface, a rod of diameter d
    that of d / 4. The window is 16 voxels at most, for sheets of 40 and rods of 32.

    Args:
        mask: function from a range of z sections to their mask, bool.
        shape: of the whole mask.
        form: whether it consists of sheets or of rods.
        depth: z sections that are read at a time.

    >>> whole = np.zeros((30, 40, 40), bool); whole[10:20] = True
    >>> round(window_of(lambda z: whole[z], whole.shape, "surface") / 0.4)  # 1.5 times 10
    15
    """
    volume, faces = 0, 0
    former = np.zeros((0, *shape[1:]), bool)
    for z in slabs(shape[0], depth or depth_of(shape)):
        inside = np.concatenate([former, mask(z)])
        volume += int(inside[len(former) :].sum())
        faces += sum(
            int((np.diff(inside[len(former) * (axis > 0) :], axis=axis)).sum()) for axis in range(3)
        )
        former = inside[-1:]
    per_area = 2 if form == "surface" else 4
    thickness = per_area * volume / max(faces / _FACES, 1.0)
    return min(max(_SMALLEST, _PER_THICKNESS[form] * thickness), _LARGEST)


def thinned(
    mask: Read, shape: Shape, form: Form, window: float, depth: int | None = None
) -> Iterator[Part]:
    """Yield the z sections of each slab and its mid-surface or centre lines, bool.

    Args:
        mask: function from a range of z sections to their mask, bool.
        shape: of the whole mask.
        form: "surface" for sheets, "line" for rods.
        window: standard deviation of the window in voxels, see `window_of`.
        depth: z sections of a slab, by default 32 or more; they are read with four windows on each
            side.

    >>> whole = np.zeros((12, 20, 20), bool); whole[4:7] = True
    >>> (found,) = thinned(lambda z: whole[z], whole.shape, "surface", 2.0)
    >>> found[1].any((1, 2)).tolist().index(True), int(found[1].sum())
    (5, 400)
    """
    radius = math.ceil(_CUTOFF * window)
    for z in slabs(shape[0], depth or max(depth_of(shape), _SECTIONS)):
        first = max(z.start - radius, 0)
        around = mask(slice(first, min(z.stop + radius, shape[0])))
        found = np.zeros(around.shape, bool)
        own = slice(z.start - first, z.stop - first)
        for block in blocks(around, (radius,) * 3, _BLOCK):
            size = [s.stop - s.start for s in block.core]
            if block.start[0] + size[0] > own.start and block.start[0] < own.stop:
                place = tuple(slice(a, a + n) for a, n in zip(block.start, size, strict=True))
                inside = block.values[block.core]
                fields = windowed(
                    block.values, (window,) * 3, (radius,) * 3, ((0, 0, 0), *FIRST, *SECOND)
                )[(slice(None), *(slice(0, n) for n in size))]
                found[place][inside] = _central(fields[:, inside].astype(np.float64), form)
        yield z, found[own]


def _central(fields: np.ndarray, form: Form) -> np.ndarray:
    """Return for each voxel whether the ridge goes through it.

    Args:
        fields: ``(10, voxel)`` the mean of the mask, its three slopes and six curvatures.
        form: "surface" or "line".
    """
    slope = fields[1:4].T / fields[0][:, None]
    curvature = np.empty((len(slope), 3, 3))
    for (i, j), values in zip(_PAIRS, fields[4:], strict=True):
        curvature[:, i, j] = curvature[:, j, i] = values / fields[0] - slope[:, i] * slope[:, j]
    values, axes = np.linalg.eigh(curvature)
    count = 1 if form == "surface" else 2
    values, axes = values[:, :count], axes[:, :, :count]
    bent = values[:, -1] < 0
    values = np.where(bent[:, None], values, -1.0)
    step = -np.einsum("nik,nk->ni", axes, np.einsum("ni,nik->nk", slope, axes) / values)
    return bent & (np.abs(step).max(1) <= _HALF)
