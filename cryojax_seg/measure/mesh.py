"""Builds triangle meshes of surfaces, with normals and curvatures at their vertices."""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.optimize import root_scalar
from skimage.measure import marching_cubes

from cryojax_seg.core.types import Array
from cryojax_seg.measure.curvature import level_set_curvature
from cryojax_seg.measure.thickness import Spacing

_MARGIN = 12  # voxels around the surface that curvatures see


class Mesh(NamedTuple):
    """Holds triangles, zyx, in the unit of the voxel size, from the centre of the first voxel.

    Returned by `boundary_mesh`, and by `membrane_mesh`.

    Attributes:
        vertices: ``(n, 3)`` positions of the vertices.
        faces: ``(m, 3)`` indices of vertices, anticlockwise in (z, y, x) as seen from outside.
        normal: ``(n, 3)`` unit vectors outwards at the vertices.
        mean: ``(n,)`` mean curvature at the vertices, positive for a ball.
        gaussian: ``(n,)`` Gaussian curvature at the vertices.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normal: np.ndarray
    mean: np.ndarray
    gaussian: np.ndarray


_NONE = np.zeros((0, 3), np.float32)
NO_MESH = Mesh(_NONE, _NONE.astype(np.int32), _NONE, _NONE[:, 0], _NONE[:, 0])


class Surface(NamedTuple):
    """Holds the boundary of an object, closed by the faces of the array that cut it.

    Returned by `boundary_surface`.

    Attributes:
        places: ``(n, 3)`` positions of the vertices in voxels, zyx; a face of the array is at -0.5.
        faces: ``(m, 3)`` indices of vertices.
        cut: ``(m,)`` which triangles lie in a face of the array, and so are not part of the
            boundary.
    """

    places: np.ndarray
    faces: np.ndarray
    cut: np.ndarray

    def area(self, voxel_size: Spacing = (1.0, 1.0, 1.0)) -> float:
        """Return the area, without the triangles in faces of the array."""
        return mesh_area(self.places * voxel_size, self.faces[~self.cut])

    def volume(self, voxel_size: Spacing = (1.0, 1.0, 1.0)) -> float:
        """Return the volume that it encloses (divergence theorem)."""
        a, b, c = (self.places[self.faces[:, i]] * voxel_size for i in range(3))
        return abs(float((a * np.cross(b, c)).sum() / 6))


def boundary_surface(
    volume: Bool[np.ndarray, "_z _y _x"] | Float[np.ndarray, "_z _y _x"],
    smoothing: float | int = 1.0,
    tolerance: float = 1e-3,
) -> Surface:
    """Return the level set of a smoothed mask that encloses the volume of its voxels.

    Without smoothing, the steps of a mask add 8 % of area; with smoothing, the level 1/2 would
    shrink the radius R of a ball by ``smoothing^2 / R``. The error of the area is below 1.5 % for
    balls from 2 voxels of radius up. For a probability the level is 1/2. The surface comes from
    marching cubes.

    Args:
        volume: mask or probability, continued beyond faces of the array as its mirror image.
        smoothing: standard deviation in voxels of a Gaussian; 0 for a probability.
        tolerance: share of the volume of a mask by which the volume of the surface may differ.

    Returns:
        the surface, without vertices if there is none.

    >>> ball = np.linalg.norm(np.indices((11, 11, 11)) - 5, axis=0) < 3.5
    >>> found = boundary_surface(ball)
    >>> int(ball.sum()), round(found.volume()), round(found.area() / (4 * np.pi * 3.5**2), 2)
    (179, 179, 1.01)
    """
    volume = np.asarray(volume)
    start, values = _boxed(volume, 2 + int(np.ceil(4 * smoothing)))
    field = np.zeros([n + 4 for n in values.shape], np.float32)
    inner = field[2:-2, 2:-2, 2:-2]
    inner[:] = values
    if smoothing:
        ndimage.gaussian_filter(inner, smoothing, output=inner)
    if not values.size or inner.max() == inner.min():
        return Surface(_NONE, NO_MESH.faces, np.zeros(0, bool))
    for axis in range(3):
        ends = np.moveaxis(field, axis, 0)
        ends[1], ends[-2] = ends[2], ends[-3]

    @functools.lru_cache(maxsize=3)
    def at(level: float) -> Surface:
        places, faces, *_ = marching_cubes(field, level)
        # Between a mirror image and its original the surface is straight: vertices are 1 beyond.
        places = np.clip(places - 2, -0.5, np.asarray(inner.shape) - 0.5)
        ends = np.concatenate([places == -0.5, places == np.asarray(inner.shape) - 0.5], 1)
        return Surface(places + start, faces, np.any(np.all(ends[faces], axis=1), axis=1))

    if volume.dtype != bool:
        return at(0.5)
    wanted, most = np.count_nonzero(values), float(inner.max())
    near = inner[inner > 0.05 * most]  # few of the voxels of a thin sheet
    level = float(np.partition(near, -min(wanted, near.size))[-min(wanted, near.size)])
    found = at(min(level, 0.999 * most))
    if abs(found.volume() / wanted - 1) < tolerance:
        return found

    def excess(level: float) -> float:
        return at(level).volume() - wanted

    low, high = 0.8 * level, min(1.2 * level, 0.999 * most)
    if excess(low) < 0 or excess(high) > 0:
        low, high = 1e-3 * most, 0.999 * most
    return at(float(root_scalar(excess, bracket=(low, high), xtol=tolerance / 2 * level).root))


def boundary_mesh(
    volume: Bool[np.ndarray, "_z _y _x"] | Float[np.ndarray, "_z _y _x"],
    voxel_size: Spacing = (1.0, 1.0, 1.0),
    smoothing: float | int = 1.0,
    scale: float | int = 2.0,
) -> Mesh:
    """Return the `boundary_surface` of a mask or probability, open where faces of the array cut it.

    Its area is `boundary_area`. For membranes thicker than about 3 voxels it is the envelope of
    both sides.

    Args:
        volume: mask or probability.
        voxel_size: voxel size along z, y, x.
        smoothing: standard deviation in voxels of a Gaussian; 0 for a probability.
        scale: scale of the curvature, see `level_set_curvature`.

    Returns:
        the mesh, without vertices if there is no surface.

    >>> ball = np.linalg.norm(np.indices((32, 32, 32)) - 15.5, axis=0) < 12
    >>> mesh = boundary_mesh(ball, (10.0, 10.0, 10.0))
    >>> round(mesh_area(mesh.vertices, mesh.faces) / (4 * np.pi * 120**2), 2)
    1.0
    >>> round(float(mesh.mean.mean()) * 120, 1)
    1.0
    """
    volume = np.asarray(volume)
    surface = boundary_surface(volume, smoothing)
    used, faces = np.unique(surface.faces[~surface.cut], return_inverse=True)
    if not used.size:
        return NO_MESH
    places, faces = surface.places[used], faces.reshape(-1, 3)
    start, values = _boxed(volume, _MARGIN)
    bends = level_set_curvature(jnp.asarray(values, jnp.float32), scale, voxel_size)

    def at(field) -> np.ndarray:
        near = (places - start).T
        return ndimage.map_coordinates(np.asarray(field), near, order=1, mode="nearest")

    normal = np.stack([at(bends.normal[..., axis]) for axis in range(3)], -1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    vertices = (places * np.asarray(voxel_size)).astype(np.float32)
    return Mesh(
        vertices, outwards(vertices, faces, normal), normal, at(bends.mean), at(bends.gaussian)
    )


def _boxed(volume: np.ndarray, margin: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an object in a box around it, and the start of the box."""
    inside = volume if volume.dtype == bool else volume > 0.5
    box = ndimage.find_objects(inside.view(np.int8))
    if not box:
        return np.zeros(3, int), volume[:0, :0, :0]
    box = tuple(
        slice(max(0, s.start - margin), min(n, s.stop + margin))
        for s, n in zip(box[0], volume.shape, strict=True)
    )
    return np.array([s.start for s in box]), volume[box]


def mesh_area(vertices: Array, faces: Array) -> float:
    """Return the area of a triangle mesh.

    Args:
        vertices: ``(n, 3)`` positions of the vertices.
        faces: ``(m, 3)`` indices of vertices.

    >>> mesh_area(np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0]]), np.array([[0, 1, 2]]))
    0.5
    """
    a, b, c = (np.asarray(vertices, float)[np.asarray(faces)[:, i]] for i in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def outwards(vertices: np.ndarray, faces: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Return the faces, all flipped if they are clockwise about the normals of most vertices."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    right = (np.cross(b - a, c - a) * normal[faces[:, 0]]).sum() >= 0
    return (faces if right else faces[:, ::-1]).astype(np.int32)


def cut(table: np.ndarray, faces: np.ndarray, height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of a mesh where a height at its vertices, linear between them, is 0 or more.

    Args:
        table: ``(n, k)`` values of each vertex, which are interpolated at new vertices on edges.
        faces: ``(m, 3)`` indices of vertices.
        height: ``(n,)`` height of each vertex.

    >>> corners = np.array([[0.0, 0], [2, 0], [0, 2]])
    >>> kept, faces = cut(corners, np.array([[0, 1, 2]]), corners[:, 0] - 1)
    >>> kept.tolist(), faces.tolist()
    ([[2.0, 0.0], [1.0, 0.0], [1.0, 1.0]], [[0, 2, 1]])
    """
    inside = height >= 0
    count = inside[faces].sum(1)
    pieces, edges = [faces[count == 3]], []
    for few in (1, 2):  # turned so that the vertex that differs from the two others is the first
        some = faces[count == few]
        first = np.argmax(inside[some] == (few == 1), axis=1)
        a, b, c = (np.take_along_axis(some, (first[:, None] + i) % 3, 1)[:, 0] for i in range(3))
        ab, ac = (
            len(table) + sum(map(len, edges)) + i * len(a) + np.arange(len(a)) for i in (0, 1)
        )
        edges += [np.stack([a, b], 1), np.stack([a, c], 1)]
        pieces += [np.stack([a, ab, ac], 1)] if few == 1 else [
            np.stack([b, c, ab], 1), np.stack([c, ac, ab], 1)
        ]  # fmt: skip
    ends, member = np.unique(np.sort(np.concatenate(edges), axis=1), axis=0, return_inverse=True)
    one, two = ends.T
    span = height[one] - height[two]
    share = (height[one] / np.where(span == 0, 1, span))[:, None]
    everything = np.concatenate([table, (1 - share) * table[one] + share * table[two]])
    number = np.concatenate([np.arange(len(table)), len(table) + member.ravel()])
    flat = number[np.concatenate(pieces)]
    used, flat = np.unique(flat, return_inverse=True)
    return everything[used], flat.reshape(-1, 3)
