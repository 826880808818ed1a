"""Finds in which membrane or organelle each object lies, and on which side of it."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from cryojax_seg.measure.boxes import CutMask
from cryojax_seg.measure.centreline import Filament
from cryojax_seg.measure.enclosed import bridged_lumen
from cryojax_seg.measure.kinds import Kind
from cryojax_seg.measure.thickness import MaskArray, Spacing
from cryojax_seg.measure.windows import extent

Side = Literal["inside", "across", "outside"]
_MOST, _LEAST = 0.9, 0.1  # shares of an object at which it is no longer across
_Box = tuple[tuple[int, ...], tuple[int, ...]]  # first voxel and shape
_WITHIN = 0.5  # share of an object from which it counts to what encloses it


class Body(NamedTuple):
    """Holds the voxels of an object in a box of the volume.

    Attributes:
        start: index of the first voxel of the box, zyx.
        mask: bool ``(z, y, x)``, the voxels; an array, or what reads parts of one.
        closed: whether it encloses its `lumen` on all sides; None if that is not known.
    """

    start: tuple[int, ...]
    mask: MaskArray | CutMask
    closed: bool | None = None


class Enclosure(NamedTuple):
    """Tells what encloses an object.

    Returned by `enclosures`.

    Attributes:
        host: index of the innermost enclosing object; None if there is none.
        share: the share of the voxels of the object that lie in it.
    """

    host: int | None
    share: float

    @property
    def side(self) -> Side:
        """Return "inside" from a share of 0.9, "outside" up to 0.1, and "across" between them."""
        return "inside" if self.share >= _MOST else "outside" if self.share <= _LEAST else "across"


def enclosures(
    objects: Sequence[Body],
    hosts: Iterable[tuple[Body, Kind, int | None]],
    gap: float | int = 0.0,
) -> list[Enclosure]:
    """Return for each object the innermost membrane or organelle that it lies in.

    A membrane encloses its `lumen` and the voxels that see it along all axes, both ways, as holes
    open a lumen; an organelle encloses its own voxels too. What is smaller than nine tenths of an
    object does not enclose it. Of those that enclose at least half of an object, the smallest is
    its host; if there are none, the one that encloses most of it.

    Args:
        objects: the objects. They are read one by one, several times.
        hosts: what may enclose them: the voxels, the kind ("membrane" or "organelle"), and the
            index of the same thing in `objects`, which does not enclose itself; None if it is not
            there.
        gap: width in voxels of the gaps in membranes that are bridged, see `lumen`.

    >>> away = np.linalg.norm(np.indices((30, 30, 30)) - 14.5, axis=0)
    >>> shell, ball = Body((0, 0, 0), abs(away - 10) < 1.5), Body((0, 0, 0), away < 4)
    >>> found = enclosures([shell, ball], [(shell, "membrane", 0)])
    >>> [(one.host, one.side) for one in found]
    [(None, 'outside'), (0, 'inside')]
    """
    sizes, boxes = [], []
    for one in objects:
        sizes.append(int(np.count_nonzero(np.asarray(one.mask))))
        boxes.append((one.start, one.mask.shape))
    low = np.array([start for start, _ in boxes]).reshape(-1, 3)
    high = low + np.array([shape for _, shape in boxes]).reshape(-1, 3)
    found = [Enclosure(None, 0.0)] * len(objects)
    volumes: list[int] = []
    for place, (body, kind, own) in enumerate(hosts):
        volumes.append(0)
        end = np.add(body.start, body.mask.shape)
        overlap = ((low < end) & (high > np.asarray(body.start))).all(1)
        near = [i for i in np.flatnonzero(overlap).tolist() if i != own and sizes[i]]
        if not near:
            continue
        mask = np.asarray(body.mask)
        space = _space(mask, gap, body.closed)
        if kind == "organelle":
            space |= mask
        volumes[place] = int(np.count_nonzero(space))
        for i in near:
            if volumes[place] < _MOST * sizes[i]:
                continue  # too small for the object to lie inside
            here, there = _overlap((body.start, body.mask.shape), boxes[i])
            inside = int(np.count_nonzero(space[here] & objects[i].mask[there]))
            one = Enclosure(place, inside / sizes[i])
            if _order(one, volumes) > _order(found[i], volumes):
                found[i] = one
    return [one if one.share > _LEAST else Enclosure(None, one.share) for one in found]


def axis_body(axis: Filament, voxel_size_angstrom: Spacing) -> Body:
    """Return the voxels through which the axis of a filament passes, in a box.

    Args:
        axis: the axis of the filament.
        voxel_size_angstrom: voxel size along z, y, x.

    >>> line = Filament.through(np.array([[0.0, 0, 0], [0, 0, 50], [0, 0, 100]]))
    >>> body = axis_body(line, (10.0, 10.0, 10.0))
    >>> body.start, body.mask.shape, bool(body.mask.all())
    ((0, 0, 0), (1, 1, 11), True)
    """
    size = np.asarray(voxel_size_angstrom, float)
    points = axis.at(axis.arc_lengths_angstrom(float(size.min())))
    index = np.rint(points / size).astype(int)
    start = index.min(0)
    mask = np.zeros(index.max(0) - start + 1, bool)
    mask[tuple((index - start).T)] = True
    return Body(tuple(start.tolist()), mask)


def _space(mask: np.ndarray, gap: float | int, closed: bool | None) -> np.ndarray:
    """Return the lumen and the background from which the mask is seen along all axes, both ways."""
    box, space = extent(mask), bridged_lumen(mask, gap, closed)
    inner = mask[box]
    seen = ~inner
    for axis in range(3):
        seen &= np.logical_or.accumulate(inner, axis)
        seen &= np.flip(np.logical_or.accumulate(np.flip(inner, axis), axis), axis)
    space[box] |= seen
    return space


def _order(one: Enclosure, volumes: Sequence[int]) -> tuple[bool, float]:
    """Return what is greater for a better host: the smaller volume, or else the greater share."""
    if one.host is None:
        return False, 0.0
    within = one.share >= _WITHIN
    return within, -float(volumes[one.host]) if within else one.share


def _overlap(one: _Box, two: _Box) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the part that two boxes share, as slices of each."""
    low = [max(a, b) for a, b in zip(one[0], two[0], strict=True)]
    high = [min(a + n, b + m) for a, n, b, m in zip(*one, *two, strict=True)]
    first, second = (
        tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
        for start, _ in (one, two)
    )
    return first, second
