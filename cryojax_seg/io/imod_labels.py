"""Paint IMOD models as labels on the tomogram on which they were drawn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.io.imod import FIRST, OPEN, SCATTERED, ImodObject, read_model
from cryojax_seg.text import shown

_STEP = 0.25  # voxels between the balls of which a tube consists
_AT_ONCE = 2**22  # voxels of balls that are painted at a time
_OUTSIDE = 1.0  # voxels by which a point may lie outside


def read_imod(
    path: PathLike,
    tomogram: Tomogram | None,
    classes: Sequence[str] | None = None,
    thickness: float | None = None,
) -> np.ndarray:
    """Paint an IMOD model as labels on the grid of the tomogram on which it was drawn.

    Closed contours are filled in their slice; one that lies inside another cuts a hole. Open
    contours become tubes, and scattered points balls. Objects become labels in their order, those
    of one name the same label. Where the names are among those of the classes they decide, and one
    class alone takes all objects.

    Args:
        path: the model.
        tomogram: what it was drawn on.
        classes: names of the labels 0, 1, 2, ... with the background first.
        thickness: diameter in angstrom of tubes and balls. Balls have the size that the model
            says if it is None; tubes need it.

    Returns:
        labels ``(z, y, x)``, int32.

    Raises:
        FileError: if it is damaged, empty, or was drawn on another volume; if a closed contour is
            not in a plane, or the thickness of open ones is unknown.

    >>> import struct, tempfile
    >>> parts = [b"IMODV1.2", bytes(128), struct.pack(">3i", 5, 5, 3), bytes(92)]
    >>> parts += [b"OBJT", bytes(132), struct.pack(">I", 8), bytes(40)]  # of open contours
    >>> parts += [b"CONT", struct.pack(">iI8x6f", 2, 0, 0.5, 2.5, 1, 4.5, 2.5, 1), b"IEOF"]
    >>> file = Path(tempfile.mkdtemp()) / "a.mod"
    >>> _ = file.write_bytes(b"".join(parts))
    >>> grid = Tomogram(np.zeros((3, 5, 5)), (10.0, 10.0, 10.0))
    >>> read_imod(file, grid, thickness=10.0)[1].sum(1).tolist()
    [0, 0, 5, 0, 0]
    """
    path = Path(path)
    if tomogram is None:
        raise FileError(
            f"{path}: is an IMOD model, which has no voxels; give the tomogram it was drawn on"
        )
    model, shape = read_model(path), tomogram.density.shape
    if all(model.shape) and model.shape != tuple(shape):
        raise FileError(
            f"{path}: was drawn on a volume of {model.shape} voxels (z, y, x), and {tomogram.name} "
            f"has {tuple(shape)}; give the tomogram of the same binning, or transform the model "
            "(IMOD: imodtrans)"
        )
    values = np.zeros(shape, np.int32)
    labels = model.labels(classes)
    for number, (label, one) in enumerate(zip(labels, model.objects, strict=True), 1):
        _paint(values, one, label, thickness, tomogram, f"{path}: object {number}")
    if not values.any():
        raise FileError(f"{path}: holds no contour or point; draw some, or name another file")
    return values


def _paint(
    values: np.ndarray,
    drawn: ImodObject,
    label: int,
    thickness: float | None,
    tomogram: Tomogram,
    where: str,
) -> None:
    radius = None
    if thickness is not None:
        radius = thickness / 2 / np.array(tomogram.require_voxel_size())
    planes: dict[tuple[int, int], np.ndarray] = {}
    for number, (stored, flags) in enumerate(drawn.contours):
        name = f"{where}, contour {number + 1}"
        points = _zyx(stored, values.shape, name)
        if not len(points):
            continue
        if drawn.flags & SCATTERED:
            sizes = _sizes(drawn, number, len(points), radius)
            for size in np.unique(sizes, axis=0):
                stamp(values, points[(sizes == size).all(1)], size, label)
        elif (drawn.flags | flags) & OPEN or len(points) < 3:
            if radius is None:
                raise FileError(
                    f"{name}: is open, and painted as a tube; give its thickness in angstrom",
                    "thickness",
                )
            stamp(values, along(points), radius, label)
        else:
            (axis, index), box, inside = _filled(points, values.shape, name)
            shape = np.delete(values.shape, axis)
            mask = planes.setdefault((axis, index), np.zeros(shape, bool))
            mask[box] ^= inside  # one that lies inside another of the same slice cuts a hole
    for (axis, index), mask in planes.items():
        np.moveaxis(values, axis, 0)[index][mask] = label


def _zyx(points: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Return points as voxel centres (z, y, x)."""
    found = (np.asarray(points, float).reshape(-1, 3) - FIRST)[:, ::-1]
    odd = ~np.isfinite(found).all(1)
    odd |= ((found < -0.5 - _OUTSIDE) | (found > np.array(shape) - 0.5 + _OUTSIDE)).any(1)
    if odd.any():
        first = int(np.argmax(odd))
        raise FileError(
            f"{name}: point {first + 1} at {shown(found[first].round(2).tolist())} (z, y, x) is "
            f"outside the tomogram {tuple(shape)}; was it drawn on another one?"
        )
    return found


def _sizes(drawn: ImodObject, contour: int, count: int, radius: np.ndarray | None) -> np.ndarray:
    """Return the radii of points in voxels: as given, or as the model says."""
    if radius is not None:
        return np.broadcast_to(radius, (count, 3))
    own = np.full(count, max(float(drawn.size), 0.5))
    stated = drawn.sizes.get(contour)
    if stated is not None and len(stated) == count:
        own = np.where(stated >= 0.5, stated, own)  # -1 means that of the object
    return np.repeat(np.clip(own, 0.5, 1e4)[:, None], 3, axis=1)


def along(points: np.ndarray, step: float = _STEP) -> np.ndarray:
    """Return points ``(m, 3)`` along a line of straight pieces, at most this many voxels apart.

    >>> along(np.array([[0.0, 0, 0], [0, 0, 1]]), 0.5)[:, 2].tolist()
    [0.0, 0.5, 1.0]
    """
    pieces = [points[:1]]
    for first, last in zip(points, points[1:], strict=False):
        count = int(np.ceil(np.linalg.norm(last - first) / step))
        pieces.append(first + (last - first) * np.arange(1, count + 1)[:, None] / max(count, 1))
    return np.concatenate(pieces)


def stamp(values: np.ndarray, points: np.ndarray, radius: np.ndarray, label: int) -> None:
    """Set all voxels whose centres lie within a radius (z, y, x) of one of the points.

    >>> grid = np.zeros((5, 5, 5), int)
    >>> stamp(grid, np.array([[2.0, 2.0, 2.0]]), np.ones(3), 1)
    >>> int(grid.sum())
    7
    """
    reach = np.ceil(radius + 0.5).astype(int)
    axes = [np.arange(-r, r + 1) for r in reach]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    for start in range(0, len(points), step := max(_AT_ONCE // len(offsets), 1)):
        part = points[start : start + step]
        nearest = np.round(part).astype(int)
        away = (nearest - part)[:, None] + offsets
        inside = ((away / radius) ** 2).sum(-1) <= 1 + 1e-6
        voxels = (nearest[:, None] + offsets)[inside]
        voxels = voxels[((voxels >= 0) & (voxels < values.shape)).all(1)]
        values[tuple(voxels.T)] = label


def _filled(
    points: np.ndarray, shape: tuple[int, ...], name: str
) -> tuple[tuple[int, int], tuple[slice, ...], np.ndarray]:
    """Return axis and index of the slice of a closed contour, a box around it, and its inside."""
    from skimage.draw import polygon2mask

    spread = np.ptp(points, axis=0)
    axis = int(np.argmin(spread))
    if spread[axis] > 1.0:
        raise FileError(
            f"{name}: is closed and leaves its slice by {spread[axis]:.3g} voxels; draw it in one "
            "slice, or make the object open"
        )
    index = int(np.clip(np.round(points[:, axis].mean()), 0, shape[axis] - 1))
    rest = [a for a in range(3) if a != axis]
    low = np.maximum(np.floor(points[:, rest].min(0)), 0).astype(int)
    ends = np.minimum(np.ceil(points[:, rest].max(0)) + 1, [shape[a] for a in rest]).astype(int)
    box = tuple(slice(a, max(a, b)) for a, b in zip(low.tolist(), ends.tolist(), strict=True))
    inside = polygon2mask(tuple(s.stop - s.start for s in box), points[:, rest] - low)
    return (axis, index), box, inside
