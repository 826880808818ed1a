"""Draws slices and projections of a tomogram with the outlines and numbers of its objects."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from cryojax_seg.report.charts import COLOURS
from cryojax_seg.report.pictures import EDGE, as_grey, grey_range, jpeg, png, rgb
from cryojax_seg.report.planes import Mark, Planes, paint

COUNTS = {"z": 24, "y": 12, "x": 12}  # slices of each direction in a page
_MARKS = 25  # numbers in one picture, of the largest objects
_WIDE = 0.04  # of the picture: the width of an object that gets a number
_BORDER = 2.5  # percent of the picture, beside which no number stands
_THUMBNAIL = 96  # pixels
_MARGIN = 8  # voxels around an object in its thumbnail
NARROWED = 0.7  # range of densities of a mean of three slices, which has less noise
_EMPTY = 225  # grey of a page without a tomogram


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
            _picture(
                _section(volume, axis, i, planes=planes),
                *planes.plane(axis, i),
                planes,
                planes.axes(axis, i),
            )
            | {"at": i}
            for i in at
        ]
        shadows = planes.projection(axis)
        grey, lines = _projected(volume, axis, planes), planes.axes(axis, None)
        found[f"{name}p"] = [_picture(grey, *shadows, planes, lines) | {"at": 0}]
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


def _picture(
    grey: np.ndarray, hues: np.ndarray, owns: np.ndarray, planes: Planes, lines: Sequence[Mark]
) -> dict[str, Any]:
    """Return image, overlay and marks of one slice."""
    step = -(-max(grey.shape) // EDGE)
    few, own = hues[::step, ::step], owns[::step, ::step]
    edge = outlines(np.where(few > 0, own * 256 + few, 0).astype(np.int64))
    marks = []
    present = np.array([n for n in np.unique(own[own > 0]).tolist() if planes.number(n)], int)
    if present.size:
        areas = np.bincount(own.ravel())
        present = present[np.argsort(-areas[present])][:_MARKS]
        present = present[areas[present] >= (_WIDE * max(own.shape)) ** 2]
        for one, (y, x) in zip(
            present.tolist(), ndimage.center_of_mass(own > 0, own, present), strict=True
        ):
            hue = int(few[own == one][0])
            marks.append([planes.number(one), hue, *_place(y, x, own.shape)])
    for text, hue, y, x in lines[: _MARKS - len(marks)]:
        marks.append([text, hue, *_place(y, x, hues.shape)])
    overlay = png(np.where(edge, _hue(few), 0), ("#000000", *COLOURS))
    return {"image": jpeg(grey), "overlay": overlay, "marks": marks}


def _place(y: float, x: float, shape: tuple[int, ...]) -> list[float]:
    """Return where a number stands, in percent of width and height."""
    percents = (100 * (x + 0.5) / shape[1], 100 * (y + 0.5) / shape[0])
    return [round(min(max(p, _BORDER), 100 - _BORDER), 1) for p in percents]


def thumbnail(
    shape: Sequence[int], start: Sequence[int], mask: np.ndarray, hue: int, volume: Any
) -> str:
    """Return a picture of an object in the z slice in which it is largest, as a data URL."""
    at = int(mask.sum((1, 2)).argmax())
    inside = np.argwhere(mask[at])
    low = np.maximum(inside.min(0) - _MARGIN + start[1:], 0)
    high = np.minimum(inside.max(0) + 1 + _MARGIN + start[1:], shape[1:])
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    here = np.zeros(shape[1:], bool)
    paint(here, here, 0, (0, *start[1:]), mask[at], True, True)
    image = _section(volume, 0, start[0] + at, box)
    colour = np.repeat(image[..., None], 3, -1)
    colour[outlines(here[box].astype(np.int32))] = rgb(COLOURS[(hue - 1) % len(COLOURS)])
    picture = Image.fromarray(colour)
    factor = _THUMBNAIL / max(picture.size)
    width, height = (max(1, round(n * factor)) for n in picture.size)
    return jpeg(np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)))


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
