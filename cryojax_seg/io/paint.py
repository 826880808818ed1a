"""Paint coordinates and centre-lines as labels.

Lengths are voxels and coordinates are voxel centres in (z, y, x) order.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import make_interp_spline
from scipy.spatial import KDTree

from cryojax_seg.io.annotation import IGNORE, Annotation, annotate
from cryojax_seg.io.delimited import (
    coordinate_labels,
    read_columns,
    read_rows,
    with_decimal_points,
)
from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.io.plain import parse_json, read_bytes
from cryojax_seg.io.text import decoded

Shape = tuple[int, int, int]
Band = tuple[float | int, float | int, int]
_LARGEST = 2**26  # bytes of a coordinate file
_LONGEST = 1e6  # voxels of a path
_STEP = 0.1  # voxels between the samples of a path; a distance d is right to 0.00125 / d
_TOLERANCE = 1e-3  # voxels, so that a voxel exactly at a radius counts as within it


def paint_points(
    shape: Shape,
    points,
    radius: float | int | Sequence[Band],
    label: int = 1,
    name: str = "points",
) -> Annotation:
    """Paint a ball at every point.

    Args:
        shape: of the volume.
        points: ``(n, 3)`` coordinates (z, y, x) in voxels.
        radius: of the balls in voxels, or bands ``(inner, outer, label)`` painted in this order,
            where label 255 means not annotated.
        label: of the balls, if `radius` is a number.
        name: for messages.

    Raises:
        FileError: if there is no point, one is outside the volume or not finite, or a band is
            empty.

    >>> int(paint_points((5, 5, 5), [[2, 2, 2]], 1.0).labels.sum())
    7
    """
    points = _points(points, name, least=1)
    outside = ((points < -0.5) | (points > np.array(shape) - 0.5)).any(1)
    if outside.any():
        raise FileError(
            f"{name}: point {np.flatnonzero(outside)[0]} at {points[outside][0].tolist()} (z, y, "
            f"x) is outside the volume {shape}; coordinates must be voxels in (z, y, x) order"
        )
    return _paint(shape, points, _bands(radius, label, name), name)


def paint_path(
    shape: Shape,
    points,
    radius: float | int | Sequence[Band],
    label: int = 1,
    extend: float | int = 0.0,
    name: str = "path",
) -> Annotation:
    """Paint all voxels within a distance of a smooth curve through the points.

    A tube wall between 8 and 13 with its inside and its near surroundings not annotated is
    ``radius=[(0, 16, 255), (8, 13, 1)]``. The ends of the curve are round.

    Args:
        shape: of the volume.
        points: ``(n, 3)`` coordinates (z, y, x) in voxels along the curve, at least two.
        radius: in voxels, or bands ``(inner, outer, label)`` painted in this order, where label
            255 means not annotated; a band holds distances ``inner <= d <= outer``.
        label: if `radius` is a number.
        extend: continue the curve straight by this many voxels at both ends.
        name: for messages.

    >>> tube = paint_path((9, 9, 9), [[0, 4, 4], [8, 4, 4]], [(0, 3, 255), (2, 2.5, 1)])
    >>> tube.labels[4, 4].tolist()
    [0, 0, 1, 0, 0, 0, 1, 0, 0]
    >>> tube.weights[4, 4].tolist()
    [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0]
    """
    samples = sample_path(points, extend, name)
    return _paint(shape, samples, _bands(radius, label, name), name)


def sample_path(points, extend: float | int = 0.0, name: str = "path") -> np.ndarray:
    """Return points ``(m, 3)``, 0.1 voxel apart, on a spline through the given points.

    The spline is cubic (of lower degree through two or three points) in the length of the
    polygon, so a straight line stays one.

    >>> found = sample_path([(0, 0, 0), (0, 0, 10)])
    >>> found.shape, found[-1].round(3).tolist()
    ((102, 3), [0.0, 0.0, 10.0])
    """
    points = _points(points, name, least=2)
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    if (lengths == 0).any():
        raise FileError(f"{name}: point {int(np.argmin(lengths))} is given twice in a row")
    position = np.concatenate([[0.0], np.cumsum(lengths)])
    if not position[-1] + 2 * extend < _LONGEST:
        raise FileError(
            f"{name}: the path is {position[-1]:.3g} voxels long; coordinates must be voxels"
        )
    spline = make_interp_spline(position, points, k=min(3, len(points) - 1))
    samples = spline(np.linspace(0, position[-1], 2 + int(position[-1] / _STEP)))
    steps = np.arange(_STEP, extend, _STEP)[:, None]
    if len(steps):
        first, last = (spline(end, 1) for end in (0.0, position[-1]))
        before = samples[0] - steps[::-1] * first / np.linalg.norm(first)
        after = samples[-1] + steps * last / np.linalg.norm(last)
        samples = np.concatenate([before, samples, after])
    return samples


def offset_from_path(
    shape: Shape, points, extend: float | int = 0.0, within: float | int = np.inf
) -> np.ndarray:
    """Return the vector from the nearest point of a curve to every voxel.

    Its length is the distance to the curve, its direction the normal of the tube around it.
    Voxels farther than `within` get infinite offsets.

    >>> offset_from_path((3, 3, 3), [[0, 1, 1], [2, 1, 1]])[1, 1, 2].round(1).tolist()
    [0.0, 0.0, 1.0]
    """
    samples = sample_path(points, extend)
    result = np.full((*shape, 3), np.inf, np.float32)
    region, voxels, _, nearest = _nearest(shape, samples, within)
    reached = nearest < len(samples)
    offsets = np.full((len(voxels), 3), np.inf, np.float32)
    offsets[reached] = voxels[reached] - samples[nearest[reached]]
    result[region] = offsets.reshape(result[region].shape)
    return result


def read_points(path: PathLike, key: str | None = None) -> np.ndarray:
    """Read coordinates from CSV or JSON as float64 ``(n, 3)`` in (z, y, x) order.

    CSV: columns named z, y, x in any order, napari's axis-0, axis-1, axis-2, or three columns
    without a heading, which are z, y, x; with commas, semicolons or tabs between them. JSON: a list
    of triples, or an object with such a list under `key`. Units are those of the file: divide by
    the voxel size where they are lengths.

    Raises:
        FileError: if the file holds something else; it names the line or the entry.

    >>> import tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "points.csv"
    >>> _ = file.write_text(chr(10).join(["z,y,x", "1,2,3", "4,5,6"]))
    >>> read_points(file).tolist()
    [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    """
    content = read_bytes(path, _LARGEST)
    try:
        text = decoded(content, path)
        json = text.lstrip()[:1] in ("[", "{")
        rows = _json_rows(parse_json(text), key) if json else _csv_rows(text, Path(path))
    except FileError:
        raise
    except (ValueError, LookupError) as error:
        raise FileError(f"{path}: no coordinates in CSV or JSON ({error})") from error
    return _points(rows, str(path), least=1)


def _json_rows(content: Any, key: str | None):
    if isinstance(content, dict):
        names = ", ".join(name for name, value in content.items() if isinstance(value, list))
        if key not in content:
            raise LookupError(f"it is an object; give the key of a list, one of: {names}")
        return content[key]
    return content


def _csv_rows(text: str, path: Path):
    text = "\n".join(line for line in text.split("\n") if not line.startswith("#"))
    rows = read_rows(text, path)
    if not rows:
        raise LookupError("it has no rows")
    axes = coordinate_labels(name.lower() for name in rows[0])
    if axes is not None:
        columns = read_columns(text, path)
    elif len({len(row) for row in rows}) == 1:
        columns = {str(i): list(column) for i, column in enumerate(zip(*rows, strict=True))}
    else:
        return rows  # refused with what is wrong with them
    columns = with_decimal_points(columns, axes or columns, path)
    return list(zip(*(columns[label] for label in axes or columns), strict=True))


def _points(points, name: str, least: int) -> np.ndarray:
    try:
        array = np.asarray(points, np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise FileError(f"{name}: coordinates must be numbers, three a point ({error})") from error
    if array.ndim != 2 or array.shape[1] != 3 or len(array) < least:
        raise FileError(
            f"{name}: at least {least} points of three coordinates (z, y, x) are needed, "
            f"these have shape {array.shape}"
        )
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array).all(1))[0])
        raise FileError(f"{name}: point {bad} is not finite: {array[bad].tolist()}")
    return array


def _bands(radius, label: int, name: str) -> list[Band]:
    bands = [(0.0, radius, label)] if isinstance(radius, (int, float)) else list(radius)
    for inner, outer, value in bands:
        if not 0 <= inner < outer < np.inf or value < 0:
            raise FileError(
                f"{name}: band ({inner}, {outer}, {value}): an inner radius below the outer one, "
                "in voxels, and a label of 0 or more are needed"
            )
    return bands


def _nearest(shape: Shape, samples: np.ndarray, within: float | int):
    """Return a box around the samples, with coordinates, distances and nearest samples."""
    reach = within if np.isfinite(within) else 1e9
    low = np.clip(np.floor(samples.min(0) - reach), 0, shape).astype(int)
    high = np.clip(np.ceil(samples.max(0) + reach) + 1, 0, shape).astype(int)
    region = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    axes = [np.arange(a, b) for a, b in zip(low, high, strict=True)]
    voxels = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    distance, nearest = KDTree(samples).query(voxels, distance_upper_bound=within)
    return region, voxels, np.asarray(distance), np.asarray(nearest)


def _paint(shape: Shape, samples: np.ndarray, bands: list[Band], name: str) -> Annotation:
    values = np.zeros(shape, np.int32)
    within = max(outer for _, outer, _ in bands) + _TOLERANCE
    region, _, distance, _ = _nearest(shape, samples, within)
    part = values[region]
    distance = distance.reshape(part.shape)
    for inner, outer, value in bands:
        part[(distance >= inner - _TOLERANCE) & (distance <= outer + _TOLERANCE)] = value
    return annotate(values, IGNORE, name=name)
