"""Draws slices and projections of a tomogram with the outlines and numbers of its objects."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image
from scipy import ndimage

from cryojax_seg.core.blocks import Readable, release
from cryojax_seg.measure import MeasuredClass, Measurements
from cryojax_seg.report.charts import COLOURS
from cryojax_seg.report.pictures import EDGE, as_grey, grey_range, jpeg, png, rgb

COUNTS = {"z": 24, "y": 12, "x": 12}  # slices of each direction in a page
_MARKS = 25  # numbers in one picture, of the largest objects
_WIDE = 0.04  # of the picture: the width of an object that gets a number
_BORDER = 2.5  # percent of the picture, beside which no number stands
_THUMBNAIL = 96  # pixels
_MARGIN = 8  # voxels around an object in its thumbnail
_CROWD = 0.3  # share of a projection that complexes, or labels without numbers, may cover
NARROWED = 0.7  # range of densities of a mean of three slices, which has less noise
_EMPTY = 225  # grey of a page without a tomogram


@runtime_checkable
class Planes(Protocol):
    """Tells which object and class each voxel of a slice or a projection belongs to."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of the volume."""
        ...

    def plane(self, axis: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the class (1, 2, ... in the order of colours) and the object of each voxel."""
        ...

    def projection(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the same along an axis, of the object nearest to the viewer."""
        ...

    def number(self, own: int) -> str:
        """Return the number that an object of `plane` has in the tables; empty for none."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredPlanes:
    """Draws measured objects by their numbers, and filaments as they are labelled."""

    found: Measurements
    labels: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = self.labels.shape
        return z, y, x

    def number(self, own: int) -> str:
        return str(self._numbers[own])

    @functools.cached_property
    def _numbers(self) -> dict[int, int]:
        """Return the numbers in the tables of the objects of all classes."""
        return {
            own: row["instance"]
            for before, one in zip(self._before, self.found.classes.values(), strict=True)
            if one.boxes
            for own, row in zip((before + n for n in one.boxes.values()), one.rows, strict=True)
        }

    @functools.cached_property
    def _before(self) -> list[int]:
        """Return for each class the largest number of an object of the classes before it."""
        most = [max(one.boxes.values(), default=0) if one.boxes else 0 for one in self._classes]
        return [0, *itertools.accumulate(most)][:-1]

    @property
    def _classes(self) -> list[MeasuredClass]:
        return list(self.found.classes.values())

    def plane(self, axis: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        across = [n for a, n in enumerate(self.shape) if a != axis]
        hues, owns = np.zeros(across, np.uint8), np.zeros(across, np.int32)
        cut = tuple(index if a == axis else slice(None) for a in range(3))
        for hue, one in enumerate(self._classes, 1):
            if not one.boxes and one.axes:
                hues[np.asarray(self.labels[cut]) == one.label] = hue
        for hue, (before, one) in enumerate(zip(self._before, self._classes, strict=True), 1):
            if one.boxes:
                numbers = np.asarray(one.boxes.numbers[cut])
                hues[numbers > 0] = hue
                owns[numbers > 0] = before + numbers[numbers > 0]
                release(one.boxes.numbers)
        return hues, owns

    def projection(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        across = [n for a, n in enumerate(self.shape) if a != axis]
        hues, owns = np.zeros(across, np.uint8), np.zeros(across, np.int32)
        shadows = []
        for hue, (before, one) in enumerate(zip(self._before, self._classes, strict=True), 1):
            if not one.boxes and one.axes:
                hues[any_along(self.labels, axis, one.label)] = hue
            if not one.boxes or self._crowded(one, axis):
                continue
            for number, box in zip(one.boxes.values(), one.boxes, strict=True):
                shadow = np.asarray(box.mask.any(axis))
                shadows.append((box.mask.size, hue, before + number, box.start, shadow))
        for _, hue, own, start, shadow in sorted(shadows, key=lambda s: -s[0]):
            _paint(hues, owns, axis, start, shadow, hue, own)
        return hues, owns

    def _crowded(self, one: MeasuredClass, axis: int) -> bool:
        """Return whether complexes would hide all other classes in a projection."""
        if one.kind != "complex" or not one.boxes or len(self._classes) == 1:
            return False
        return bool(any_along(one.boxes.numbers, axis).mean() > _CROWD)

    def thumbnail(self, start: Sequence[int], mask: np.ndarray, hue: int, volume: Any) -> str:
        """Return a picture of an object in the z slice in which it is largest, as a data URL."""
        at = int(mask.sum((1, 2)).argmax())
        inside = np.argwhere(mask[at])
        low = np.maximum(inside.min(0) - _MARGIN + start[1:], 0)
        high = np.minimum(inside.max(0) + 1 + _MARGIN + start[1:], self.shape[1:])
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        here = np.zeros(self.shape[1:], bool)
        _paint(here, here, 0, (0, *start[1:]), mask[at], True, True)
        image = _section(volume, 0, start[0] + at, box)
        colour = np.repeat(image[..., None], 3, -1)
        colour[outlines(here[box].astype(np.int32))] = rgb(COLOURS[(hue - 1) % len(COLOURS)])
        picture = Image.fromarray(colour)
        factor = _THUMBNAIL / max(picture.size)
        width, height = (max(1, round(n * factor)) for n in picture.size)
        return jpeg(np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)))


@dataclasses.dataclass(frozen=True, eq=False)
class LabelPlanes:
    """Draws the classes of a label volume that may stay on disk, without numbers."""

    labels: Readable

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = self.labels.shape
        return z, y, x

    def number(self, own: int) -> str:
        return ""

    def plane(self, axis: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        cut = tuple(index if a == axis else slice(None) for a in range(3))
        values = np.maximum(np.asarray(self.labels[cut]), 0).astype(np.uint8)
        return values, np.zeros(values.shape, np.int32)

    def projection(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the classes along an axis, without those that would hide the others."""
        across = [n for a, n in enumerate(self.shape) if a != axis]
        found = np.zeros(across, np.uint8)
        shadows = {label: any_along(self.labels, axis, label) for label in self._present}
        for label in sorted(shadows, key=lambda one: -shadows[one].sum()):  # small ones on top
            if len(shadows) == 1 or shadows[label].mean() <= _CROWD:
                found[shadows[label]] = label
        return found, np.zeros(found.shape, np.int32)

    @functools.cached_property
    def _present(self) -> list[int]:
        """Return the labels that occur."""
        sections = (np.unique(np.asarray(self.labels[z])).tolist() for z in range(self.shape[0]))
        return sorted(label for label in set(itertools.chain(*sections)) if label > 0)


def any_along(volume: Any, axis: int, value: int | None = None) -> np.ndarray:
    """Return where a volume that may stay on disk holds a value along an axis; None for any but 0.

    >>> any_along(np.array([[[0, 2]], [[0, 1]]]), 0, 1).tolist()
    [[False, True]]
    """
    sections = (np.asarray(volume[z]) for z in range(volume.shape[0]))
    parts = ((section == value) if value else (section != 0) for section in sections)
    if axis == 0:
        return functools.reduce(np.logical_or, parts)
    return np.stack([np.asarray(part.any(axis - 1)) for part in parts])


def slices_of(volume: Any, planes: Planes) -> dict[str, list[dict[str, Any]]]:
    """Return pictures of slices along z, y and x, and of projections ("zp", "yp", "xp").

    Args:
        volume: a `Picture`, or None for objects on a plain ground.
        planes: the objects.

    Returns:
        for each direction its pictures: "at" (the index), "image", "overlay" (data URLs) and
        "marks", the numbers of objects with their places in percent of width and height.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for axis, (name, count) in enumerate(COUNTS.items()):
        size = planes.shape[axis]
        at = np.unique(np.linspace(0, size - 1, min(count, size)).round().astype(int)).tolist()
        found[name] = [
            _picture(_section(volume, axis, i, planes=planes), *planes.plane(axis, i), planes)
            | {"at": i}
            for i in at
        ]
        grey = _projected(volume, axis, planes)
        found[f"{name}p"] = [_picture(grey, *planes.projection(axis), planes) | {"at": 0}]
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """Holds a tomogram with the densities that become black and white.

    Attributes:
        density: ``(z, y, x)``, which may stay on disk.
        limits: the densities of black and white; structure is dark on disk, and stays so.
    """

    density: Any
    limits: tuple[float, float]

    @staticmethod
    def of(density: Any) -> "Picture":
        """Return the picture of a volume, with its own limits."""
        return Picture(density, grey_range(density))


def outlines(owns: np.ndarray) -> np.ndarray:
    """Return the pixels of objects that have another object or none beside them.

    >>> int(outlines(np.pad(np.ones((3, 3), int), 1)).sum())
    8
    """
    padded = np.pad(owns, 1, mode="edge")
    edge = np.zeros(owns.shape, bool)
    for shift in ((0, 1), (2, 1), (1, 0), (1, 2)):
        y, x = (slice(s, s + n) for s, n in zip(shift, owns.shape, strict=True))
        edge |= padded[y, x] != owns
    return edge & (owns > 0)


def _picture(grey: np.ndarray, hues: np.ndarray, owns: np.ndarray, planes: Planes):
    """Return image, overlay and marks of one slice."""
    step = -(-max(grey.shape) // EDGE)
    few, own = hues[::step, ::step], owns[::step, ::step]
    edge = outlines(np.where(few > 0, own * 256 + few, 0).astype(np.int64))
    marks = []
    present = np.unique(own[own > 0])
    if present.size:
        areas = np.bincount(own.ravel())
        present = present[np.argsort(-areas[present])][:_MARKS]
        present = present[areas[present] >= (_WIDE * max(own.shape)) ** 2]
        for one, (y, x) in zip(
            present.tolist(), ndimage.center_of_mass(own > 0, own, present), strict=True
        ):
            place = (100 * (x + 0.5) / own.shape[1], 100 * (y + 0.5) / own.shape[0])
            place = tuple(min(max(p, _BORDER), 100 - _BORDER) for p in place)
            hue = int(few[own == one][0])
            marks.append([planes.number(one), hue, round(place[0], 1), round(place[1], 1)])
    overlay = png(np.where(edge, _hue(few), 0), ("#000000", *COLOURS))
    return {"image": jpeg(grey), "overlay": overlay, "marks": marks}


def _hue(hues: np.ndarray) -> np.ndarray:
    return np.where(hues > 0, 1 + (hues.astype(int) - 1) % len(COLOURS), 0)


def _section(
    volume: Picture | None, axis: int, index: int, box: Any = None, planes: Planes | None = None
) -> np.ndarray:
    """Return the mean of three slices as bytes."""
    if volume is None:
        if box is not None:
            return np.full([s.stop - s.start for s in box], _EMPTY, np.uint8)
        assert planes is not None
        return np.full([n for a, n in enumerate(planes.shape) if a != axis], _EMPTY, np.uint8)
    size = volume.density.shape[axis]
    part = slice(max(0, index - 1), min(size, index + 2))
    cut = tuple(part if a == axis else slice(None) for a in range(3))
    if box is not None:
        cut = (part, *box)
    values = np.asarray(volume.density[cut], np.float32).mean(axis)
    low, high = volume.limits
    middle, half = (low + high) / 2, NARROWED * (high - low) / 2
    return as_grey(values, middle - half, middle + half)


def _projected(volume: Picture | None, axis: int, planes: Planes) -> np.ndarray:
    """Return the mean along an axis as bytes, of every few slices of a large volume."""
    if volume is None:
        return _section(None, axis, 0, planes=planes)
    step = max(1, volume.density.shape[0] // 64)
    depth = range(0, volume.density.shape[0], step if axis == 0 else 1)
    # Volumes in chunks take slices alone.
    parts = (np.asarray(volume.density[z : z + 1], np.float32)[0] for z in depth)
    sections = (np.nan_to_num(part) for part in parts)
    if axis == 0:
        image = np.mean(list(sections), axis=0)
    else:
        image = np.stack([section.mean(axis - 1) for section in sections])
    low, high = np.percentile(image, (0.5, 99.5)).tolist()
    return as_grey(image, low, max(high, low + 1e-6))


def _paint(hues, owns, axis: int, start: Sequence[int], part: np.ndarray, hue, own) -> None:
    """Write an object into a slice, where its part is not empty."""
    corner = [s for a, s in enumerate(start) if a != axis]
    box = tuple(slice(s, s + n) for s, n in zip(corner, part.shape, strict=True))
    hues[box][part] = hue
    owns[box][part] = own
