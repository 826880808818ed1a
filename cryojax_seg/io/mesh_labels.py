"""Paint triangle meshes as labels on a tomogram: filled, or as shells of a thickness."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.io.imod import labels_by_name
from cryojax_seg.io.mesh_reading import read_meshes
from cryojax_seg.text import shown

_STEP = 0.5  # voxels between samples of a surface; a distance d is right to 0.04 / d voxels
_AT_ONCE = 2**22  # points that are held at a time
_ASIDE = np.array([3.1e-5, 7.3e-5])  # voxels by which rays miss the edges of triangles


def read_mesh_labels(
    path: PathLike,
    tomogram: Tomogram | None,
    classes: Sequence[str] | None = None,
    thickness: float | None = None,
) -> np.ndarray:
    """Paint a mesh as labels on the grid of a tomogram.

    Vertices are angstrom from the origin of the tomogram, as `write_mesh` and copick have them. The
    materials of an Amira surface become labels in their order, or by their names as the objects of
    an IMOD model do.

    Args:
        path: the mesh.
        tomogram: what it describes.
        classes: names of the labels 0, 1, 2, ... with the background first.
        thickness: of the shells that surfaces become, in angstrom; None fills surfaces that are
            closed.

    Returns:
        labels ``(z, y, x)``, int32.

    Raises:
        FileError: as `read_meshes`, if the mesh lies outside the tomogram, or is open and has no
            thickness.

    >>> import tempfile
    >>> from cryojax_seg.io import write_mesh
    >>> file = Path(tempfile.mkdtemp()) / "square.ply"
    >>> corners = np.array([[20.0, 0, 0], [20, 0, 40], [20, 40, 40], [20, 40, 0]])
    >>> write_mesh(file, corners, np.array([[0, 1, 2], [0, 2, 3]]))
    >>> grid = Tomogram(np.zeros((5, 5, 5)), (10.0, 10.0, 10.0))
    >>> read_mesh_labels(file, grid, thickness=25.0)[:, 2, 2].tolist()
    [0, 1, 1, 1, 0]
    """
    path = Path(path)
    if tomogram is None:
        raise FileError(
            f"{path}: is a mesh, which has no voxels; give the tomogram that it describes"
        )
    size = np.array(tomogram.require_voxel_size())
    surfaces = read_meshes(path)
    values = np.zeros(tomogram.density.shape, np.int32)
    labels = labels_by_name([one.name for one in surfaces], classes)
    for label, one in zip(labels, surfaces, strict=True):
        places = (one.vertices - np.array(tomogram.corner())) / size
        _check_inside(places, values.shape, path, tomogram)
        if thickness is not None:
            values[shell(places, one.faces, values.shape, size, thickness)] = label
        elif one.closed:
            values[filled(places, one.faces, values.shape)] = label
        else:
            raise FileError(
                f"{path}: is an open surface, and painted as a shell; give its thickness in "
                "angstrom",
                "thickness",
            )
    return values


def _check_inside(
    places: np.ndarray, shape: tuple[int, ...], path: Path, tomogram: Tomogram
) -> None:
    low, high = places.min(0), places.max(0)
    if (high < -0.5).any() or (low > np.array(shape) - 0.5).any():
        raise FileError(
            f"{path}: lies from {shown(low.round(1).tolist())} to {shown(high.round(1).tolist())} "
            f"(voxels, zyx), outside {tomogram.name} of {tuple(shape)}; meshes are in angstrom "
            "from its origin. Is it of this tomogram?"
        )


def filled(vertices: np.ndarray, faces: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the voxels inside closed surfaces.

    A ray along z that ends inside has crossed the surfaces an odd number of times.

    Args:
        vertices: ``(n, 3)`` voxels, zyx, from the centre of the first voxel.
        faces: ``(m, 3)`` indices of vertices.
        shape: of the volume.

    >>> corners = np.array([[z, y, x] for z in (0.5, 2.5) for y in (0.5, 2.5) for x in (0.5, 2.5)])
    >>> quads = [(0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)]
    >>> faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    >>> int(filled(corners, faces, (4, 4, 4)).sum())
    8
    """
    crossed = np.zeros(shape, bool)
    corners = vertices[faces]
    last = np.array(shape[1:]) - 1
    low = np.clip(np.ceil(corners[:, :, 1:].min(1) - _ASIDE), 0, last + 1).astype(int)
    high = np.clip(np.floor(corners[:, :, 1:].max(1) - _ASIDE), -1, last).astype(int)
    rows, columns = np.maximum(high - low + 1, 0).T
    for start, stop in _portions(rows * columns):
        count = (rows * columns)[start:stop]
        owner = np.repeat(np.arange(start, stop), count)
        place = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        y = low[owner, 0] + place // columns[owner]
        x = low[owner, 1] + place % columns[owner]
        a, b, c = (corners[owner, i] for i in range(3))
        ray = np.stack([y, x], -1) + _ASIDE
        first = _cross(b[:, 1:] - ray, c[:, 1:] - ray)
        second = _cross(c[:, 1:] - ray, a[:, 1:] - ray)
        third = _cross(a[:, 1:] - ray, b[:, 1:] - ray)
        hit = ((first > 0) & (second > 0) & (third > 0)) | (
            (first < 0) & (second < 0) & (third < 0)
        )
        whole = (first + second + third)[hit]
        height = (first[hit] * a[hit, 0] + second[hit] * b[hit, 0] + third[hit] * c[hit, 0]) / whole
        z = np.clip(np.ceil(height), 0, shape[0]).astype(int)
        below = z < shape[0]
        np.logical_xor.at(crossed, (z[below], y[hit][below], x[hit][below]), True)
    return np.logical_xor.accumulate(crossed, axis=0)


def shell(
    vertices: np.ndarray,
    faces: np.ndarray,
    shape: tuple[int, ...],
    voxel_size: np.ndarray,
    thickness: float,
) -> np.ndarray:
    """Return the voxels whose centres are at most half the thickness from a surface.

    Args:
        vertices: ``(n, 3)`` voxels, zyx, from the centre of the first voxel.
        faces: ``(m, 3)`` indices of vertices.
        shape: of the volume.
        voxel_size: angstrom, zyx.
        thickness: angstrom.
    """
    reach = np.ceil(thickness / 2 / voxel_size + _STEP).astype(int)
    near, points = np.zeros(shape, bool), []
    for part in _samples(vertices[faces]):
        inside = ((part > -reach - 1) & (part < np.array(shape) + reach)).all(1)
        points.append(part[inside])
        nearest = np.clip(np.rint(part[inside]).astype(int), 0, np.array(shape) - 1)
        near[tuple(nearest.T)] = True
    for axis, count in enumerate(reach):
        near = ndimage.maximum_filter1d(near.view(np.uint8), 2 * count + 1, axis).view(bool)
    candidates = np.argwhere(near)
    if not len(candidates):
        return near
    tree = KDTree(np.concatenate(points) * voxel_size)
    most = thickness / 2 * (1 + 1e-6)
    distances, _ = tree.query(candidates * voxel_size, distance_upper_bound=most)
    near[tuple(candidates.T)] = np.isfinite(distances)
    return near


def _samples(corners: np.ndarray) -> Iterator[np.ndarray]:
    """Yield points on triangles ``(m, 3, 3)``, close to one another."""
    edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(1)
    counts = np.maximum(np.ceil(edges / _STEP), 1).astype(int)
    for count in np.unique(counts):
        some = corners[counts == count]
        i, j = np.meshgrid(*[np.arange(count + 1) / count] * 2, indexing="ij")
        kept = i + j <= 1 + 1e-9
        along, across = i[kept][:, None], j[kept][:, None]
        for start in range(0, len(some), step := max(_AT_ONCE // len(along), 1)):
            a, b, c = some[start : start + step].transpose(1, 0, 2)[:, :, None]
            yield (a + along * (b - a) + across * (c - a)).reshape(-1, 3)


def _portions(counts: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield ranges of triangles that have about as many points as are held at a time."""
    total = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, done + _AT_ONCE, "right")), start + 1)
        yield start, stop
        start = stop


def _cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
