"""Triangle meshes of surfaces, with normals and curvatures at their vertices."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from skimage.measure import marching_cubes

from cryojax_seg.measure.curvature import level_set_curvature
from cryojax_seg.measure.thickness import Spacing

_MARGIN = 12  # voxels around the surface that curvatures see


class Mesh(NamedTuple):
    """Triangles, in the unit of the voxel size, zyx, from the centre of the first voxel.

    Attributes:
        vertices: ``(n, 3)``.
        faces: ``(m, 3)`` indices of vertices, anticlockwise in (z, y, x) as seen from outside.
        normal: ``(n, 3)`` unit vectors outwards.
        mean: mean curvature at the vertices, positive for a ball.
        gaussian: Gaussian curvature at the vertices.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normal: np.ndarray
    mean: np.ndarray
    gaussian: np.ndarray


def boundary_mesh(
    volume: Bool[np.ndarray, "_z _y _x"] | Float[np.ndarray, "_z _y _x"],
    voxel_size: Spacing = (1.0, 1.0, 1.0),
    smoothing: float | int = 1.0,
    scale: float | int = 2.0,
) -> Mesh:
    """The surface where a smoothed mask or probability is 1/2, by marching cubes.

    Without the smoothing, the steps of a mask add 8 % of area. Faces of the array cut the surface
    open. For membranes thicker than about 3 voxels this is the envelope of both sides.

    Args:
        volume: mask or probability.
        voxel_size: along z, y, x.
        smoothing: standard deviation in voxels of a Gaussian; 0 for a probability.
        scale: see `level_set_curvature`.

    Returns:
        no vertices where there is no surface.

    >>> from cryojax_seg.measure.area import mesh_area
    >>> ball = np.linalg.norm(np.indices((32, 32, 32)) - 15.5, axis=0) < 12
    >>> mesh = boundary_mesh(ball, (10.0, 10.0, 10.0))
    >>> round(mesh_area(mesh.vertices, mesh.faces) / (4 * np.pi * 120**2), 2)
    0.98
    >>> round(float(mesh.mean.mean()) * 120, 1)
    1.0
    """
    volume = np.asarray(volume)
    none = np.zeros((0, 3), np.float32)
    inside = volume if volume.dtype == bool else volume > 0.5
    if not inside.any():
        return Mesh(none, none.astype(np.int32), none, none[:, 0], none[:, 0])
    (box,) = ndimage.find_objects(inside.view(np.int8))
    box = tuple(
        slice(max(0, s.start - _MARGIN), min(n, s.stop + _MARGIN))
        for s, n in zip(box, volume.shape, strict=True)
    )
    values = volume[box].astype(np.float32)
    smooth = ndimage.gaussian_filter(values, smoothing) if smoothing else values
    if not smooth.min() < 0.5 < smooth.max():
        return Mesh(none, none.astype(np.int32), none, none[:, 0], none[:, 0])
    places, faces, _, _ = marching_cubes(smooth, 0.5)
    bends = level_set_curvature(jnp.asarray(values), scale, voxel_size)

    def at(field) -> np.ndarray:
        return ndimage.map_coordinates(np.asarray(field), places.T, order=1, mode="nearest")

    normal = np.stack([at(bends.normal[..., axis]) for axis in range(3)], -1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    start = np.array([s.start for s in box])
    size = np.asarray(voxel_size, np.float32)
    vertices = ((places + start) * size).astype(np.float32)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    outwards = (np.cross(b - a, c - a) * normal[faces[:, 0]]).sum() > 0
    faces = (faces if outwards else faces[:, ::-1]).astype(np.int32)
    return Mesh(vertices, faces, normal, at(bends.mean), at(bends.gaussian))
