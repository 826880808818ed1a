"""Marks the pixels of a slice that a stroke of a brush, a line or a fill covers.

Points are rows and columns of pixel centres, and lengths are in the unit of the spacing.
"""

from typing import Any

import numpy as np

Part = tuple[slice, slice]  # rows and columns of a slice
_MOST = 20_000  # points of a stroke


def stroke(
    shape: tuple[int, int],
    points: Any,
    radius: float | int,
    spacing: tuple[float | int, float | int] = (1.0, 1.0),
) -> tuple[Part, np.ndarray]:
    """Mark all pixels whose centres are within a radius of a polyline.

    The pixels that the polyline itself runs through are always marked, however small the radius.

    Args:
        shape: rows and columns of the slice.
        points: ``(n, 2)``, at least one; they may lie outside of the slice.
        radius: 0 or more.
        spacing: distance between rows, and between columns.

    Returns:
        the smallest part of the slice that has all marked pixels, and which of it are marked; the
        part is empty if the stroke passes the slice by.

    Raises:
        ValueError: for points or a radius that are no finite numbers, or too many points.

    >>> part, mask = stroke((5, 7), [[2, 1], [2, 4]], 1.0)
    >>> part
    (slice(1, 4, None), slice(0, 6, None))
    >>> mask.astype(int).tolist()
    [[0, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 0]]
    """
    line = _points(points)
    if not 0 <= radius < np.inf:
        raise ValueError(f"the radius of a brush is 0 or more, got {radius}")
    scale = np.asarray(spacing, np.float64)
    reach = np.ceil(radius / scale).astype(int) + 1
    low = np.clip(np.floor(line.min(0)) - reach, 0, shape).astype(int)
    high = np.clip(np.ceil(line.max(0)) + reach + 1, low, shape).astype(int)
    mask = np.zeros(high - low, bool)
    ends = np.concatenate([line[1:], line[-1:]]) if len(line) > 1 else line
    for start, end in zip(line, ends, strict=True):
        _segment(mask, start - low, end - low, float(radius), scale, reach)
    return _trimmed(mask, low)


def _segment(
    mask: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    radius: float,
    scale: np.ndarray,
    reach: np.ndarray,
) -> None:
    """Mark what is within the radius of a segment, and the pixels on it."""
    first = np.clip(np.floor(np.minimum(start, end)) - reach, 0, mask.shape).astype(int)
    last = np.clip(np.ceil(np.maximum(start, end)) + reach + 1, 0, mask.shape).astype(int)
    if (last <= first).any():
        return
    rows = (np.arange(first[0], last[0])[:, None] - start[0]) * scale[0]
    columns = (np.arange(first[1], last[1])[None, :] - start[1]) * scale[1]
    along = (end - start) * scale
    length = float(along @ along)
    t = 0.0 if length == 0 else np.clip((rows * along[0] + columns * along[1]) / length, 0, 1)
    away = (rows - t * along[0]) ** 2 + (columns - t * along[1]) ** 2
    mask[first[0] : last[0], first[1] : last[1]] |= away <= radius**2 * (1 + 1e-9)
    steps = int(np.ceil(2 * np.abs(end - start).max())) + 1
    on = np.rint(start + np.linspace(0, 1, steps)[:, None] * (end - start)).astype(int)
    on = on[((on >= 0) & (on < mask.shape)).all(1)]
    mask[on[:, 0], on[:, 1]] = True


def line(
    shape: tuple[int, int],
    points: Any,
    thickness: float | int,
    spacing: tuple[float | int, float | int] = (1.0, 1.0),
) -> tuple[Part, np.ndarray]:
    """Mark a band of this thickness along a smooth curve through the points.

    The curve is that of `io.sample_path`, a cubic spline in the length of the polygon.

    Args:
        shape, points, spacing: as in `stroke`, with two points or more.
        thickness: of the band.

    Raises:
        ValueError: as `stroke`, or for a single point.

    >>> part, mask = line((9, 9), [[4, 0], [4, 8]], 3.0)
    >>> part, bool(mask.all())
    ((slice(3, 6, None), slice(0, 9, None)), True)
    """
    from cryojax_seg.io import sample_path  # loads SciPy's splines

    given = _points(points)
    moved = np.concatenate([[True], (np.diff(given, axis=0) != 0).any(1)])
    given = given[moved]
    if len(given) < 2:
        raise ValueError("a line needs two points or more")
    curve = sample_path(np.pad(given, ((0, 0), (1, 0))), name="line")[:, 1:]
    step = max(1, len(curve) // _MOST + 1, 5)  # samples are a tenth of a pixel apart
    kept = np.concatenate([curve[:-1:step], curve[-1:]])
    return stroke(shape, kept, thickness / 2, spacing)


def fill(plane: np.ndarray, point: Any) -> tuple[Part, np.ndarray]:
    """Mark the connected region of equal values around a point, by the four neighbours of pixels.

    Args:
        plane: values ``(row, column)``.
        point: row and column inside of it.

    Raises:
        ValueError: for a point outside of the slice.

    >>> plane = np.array([[0, 0, 1], [1, 1, 1], [0, 0, 0]])
    >>> part, mask = fill(plane, (0, 1))
    >>> part, mask.tolist()
    ((slice(0, 1, None), slice(0, 2, None)), [[True, True]])
    """
    from skimage.segmentation import flood  # slow to load

    row, column = np.rint(_points([point])[0]).astype(int)
    if not (0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]):
        raise ValueError(f"the point {(int(row), int(column))} lies outside of the slice")
    return _trimmed(flood(plane, (row, column), connectivity=1), np.zeros(2, int))


def _points(points: Any) -> np.ndarray:
    try:
        found = np.asarray(points, np.float64)
    except (TypeError, ValueError):
        raise ValueError("the points of a stroke must be pairs of numbers") from None
    if found.ndim != 2 or found.shape[1] != 2 or not 1 <= len(found) <= _MOST:
        raise ValueError(f"a stroke has 1 to {_MOST} pairs of numbers, got shape {found.shape}")
    if not (np.abs(found) < 1e6).all():
        raise ValueError("the points of a stroke must be finite numbers of pixels")
    return found


def _trimmed(mask: np.ndarray, low: np.ndarray) -> tuple[Part, np.ndarray]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return (slice(0, 0), slice(0, 0)), mask[:0, :0]
    (r0, r1), (c0, c1) = ((int(i[0]), int(i[-1]) + 1) for i in (rows, columns))
    top, left = (int(n) for n in low)
    return (slice(top + r0, top + r1), slice(left + c0, left + c1)), mask[r0:r1, c0:c1]


def cleaned(labels: np.ndarray, most: int) -> np.ndarray:
    """Return the labels of a slice without specks and holes.

    A speck is an object of one class, and a hole is background within one class that touches no
    edge of the slice.

    Args:
        labels: ``(row, column)``, 0 is background.
        most: pixels of the largest speck or hole.

    >>> cleaned(np.array([[1, 1, 1, 0, 0], [1, 0, 1, 0, 2], [1, 1, 1, 0, 0]]), 1).tolist()
    [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0]]
    """
    from cryojax_seg.measure import components  # slow to load
    from cryojax_seg.measure.runs import FACES
    from cryojax_seg.measure.slabs import labelled

    result = labels.copy()
    for value in np.unique(labels[labels > 0]):
        mask = labels == value
        result[mask & (components(mask[None], most + 1)[0] == 0)] = 0
    holes = labelled(result[None] == 0, FACES)[0][0]
    sizes = np.bincount(holes.ravel())
    edges = np.unique(np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]]))
    for number in np.setdiff1d(np.flatnonzero((sizes > 0) & (sizes <= most)), [0, *edges]):
        rows, columns = np.nonzero(holes == number)
        around = np.unique(
            [result[rows + dr, columns + dc] for dr, dc in ((-1, 0), (1, 0), (0, -1), (0, 1))]
        )
        around = around[around > 0]
        if len(around) == 1:
            result[rows, columns] = around[0]
    return result
