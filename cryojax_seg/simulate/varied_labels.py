"""Takes the shapes of membranes from label volumes of real tomograms.

A label volume gives points and normals of its surfaces once. A scene takes a part of them, turned
at random, and gives them a bilayer. So the shapes are real, and lipids and density are drawn.

Labels have gaps where the wedge hid a membrane. In a scene a gap is an open membrane, with its edge
in the density as well as in the labels, so it does not teach that there is none.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import scipy.spatial

from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Key
from cryojax_seg.simulate.membranes import Bilayer
from cryojax_seg.simulate.placement import Occupancy, random_rotation
from cryojax_seg.simulate.populate import Species
from cryojax_seg.simulate.scene import Placed
from cryojax_seg.simulate.surfaces import Surface, floats, length
from cryojax_seg.simulate.types import Points, Values
from cryojax_seg.simulate.varied_membranes import (
    LEAST,
    MOST,
    DrawnMembranes,
    add_varied_proteins,
)

NEIGHBOURS = 32  # labelled voxels, at most, that decide about the plane at one of them
REACH = 3.0  # voxels within which they lie
TRIES = 12  # parts of a label volume that are tried for a scene


@register_pytree
@dataclasses.dataclass(frozen=True)
class SurfacePoints:
    """Holds points on surfaces, as dense as voxels.

    Attributes:
        points: float32 ``(n, 3)``, angstrom, zyx.
        normals: float32 ``(n, 3)``, unit vectors of either sign.
        spacing: between neighbours, angstrom.
    """

    points: np.ndarray
    normals: np.ndarray
    spacing: float


def surface_points(labels: np.ndarray, voxel_size: float) -> SurfacePoints:
    """Return the points of surfaces that are labelled one voxel thick.

    Each labelled voxel moves along the normal onto the plane through its neighbours of the same
    label, which takes the steps of the voxels out.

    Args:
        labels: ``(z, y, x)`` integers, 0 for background; each value is a surface of its own.
        voxel_size: angstrom.

    >>> flat = np.zeros((9, 9, 9), int)
    >>> flat[4] = 1
    >>> found = surface_points(flat, 10.0)
    >>> len(found.points), np.unique(found.points[:, 0].round(3)).tolist()
    (81, [40.0])
    >>> np.abs(found.normals[40]).round(3).tolist()
    [1.0, 0.0, 0.0]
    """
    where = np.flatnonzero(labels)
    voxels = np.stack(np.unravel_index(where, labels.shape), -1).astype(np.float32)
    values = np.asarray(labels).ravel()[where]
    points, normals = [], []
    for value in np.unique(values):
        own = voxels[values == value]
        if len(own) < 3:
            continue
        tree = scipy.spatial.KDTree(own)
        count = min(NEIGHBOURS, len(own))
        far, index = tree.query(own, k=count, distance_upper_bound=REACH)
        weight = np.where(np.isfinite(far), np.exp(-np.square(far / (0.6 * REACH))), 0)
        weight = (weight / weight.sum(1, keepdims=True)).astype(np.float32)
        near = own[np.minimum(index, len(own) - 1)]
        middle = np.einsum("nk,nki->ni", weight, near)
        near = near - middle[:, None]
        spread = np.einsum("nk,nki,nkj->nij", weight, near, near)
        normal = np.linalg.eigh(spread)[1][..., 0]  # of the smallest eigenvalue
        height = np.sum((own - middle) * normal, -1, keepdims=True)
        points.append(own - height * normal)
        normals.append(normal)
    if not points:
        raise ValueError("the label volume holds no surface")
    size = np.float32(voxel_size)
    return SurfacePoints(size * np.concatenate(points), np.concatenate(normals), float(size))


@register_pytree
@dataclasses.dataclass(frozen=True)
class PlanarPieces(Surface):
    """Models an open surface around the origin by a piece of a plane for each point of a grid.

    Attributes:
        heights: ``(z, y, x)``, signed distance of grid points to the plane of the nearest piece,
            angstrom.
        normals: ``(z, y, x, 3)``, normals of those planes.
        beyond: ``(z, y, x)``, distance within the plane to the edge of the piece, 0 on it.
        spacing: of the grid, angstrom.

    >>> ones = np.ones((4, 4, 4), np.float32)
    >>> up = np.stack([ones, 0 * ones, 0 * ones], -1)
    >>> z = np.float32([-15, -5, 5, 15])[:, None, None] * ones
    >>> round(float(PlanarPieces(z, up, 0 * ones, 10.0).distance(jnp.array([7.0, 3, 0]))), 3)
    7.0
    """

    heights: Any
    normals: Any
    beyond: Any
    spacing: Any

    closed = False

    def distance(self, points: Points) -> Values:
        points, spacing, heights, normals, beyond = floats(
            points, self.spacing, self.heights, self.normals, self.beyond
        )
        cell, offsets = 0, []
        for i, size in enumerate(heights.shape):
            place = points[..., i] / spacing + (size - 1) / 2
            nearest = jnp.clip(jnp.round(place), 0, size - 1)
            cell = cell * size + nearest.astype(jnp.int32)
            offsets.append((place - nearest) * spacing)
        normal = normals.reshape(-1, 3)[cell]
        height = heights.reshape(-1)[cell] + sum(normal[..., i] * offsets[i] for i in range(3))
        outside = [jnp.maximum(jnp.abs(o) - spacing, 0.0) for o in offsets]  # of the grid
        edge = beyond.reshape(-1)[cell] + length(*outside)
        away = length(height, edge)
        return jnp.where(edge > 0, jnp.where(height < 0, -away, away), height)

    def measurements(self) -> dict[str, float]:
        return {}

    def bounding_radius(self) -> float:
        return math.inf  # as other surfaces that cross the whole volume


def planar_pieces(found: SurfacePoints, shape: Sequence[int], spacing: float) -> PlanarPieces:
    """Return the surface through points, on a grid whose middle is at the origin.

    Args:
        found: the points, of which at least one lies within the grid.
        shape: of the grid.
        spacing: of the grid, angstrom.
    """
    shape = tuple(int(n) for n in shape)
    middle = (np.array(shape, np.float32) - 1) / 2
    cells = np.round(found.points / np.float32(spacing) + middle).astype(np.int32)
    within = ((cells >= 0) & (cells < shape)).all(-1)
    numbers = np.full(shape, -1, np.int32)
    numbers[tuple(cells[within].T)] = np.flatnonzero(within)
    near = np.asarray(
        scipy.ndimage.distance_transform_edt(
            numbers < 0, return_distances=False, return_indices=True
        )
    )
    nearest = numbers[tuple(near)]
    axes = [
        (np.arange(n, dtype=np.float32) - m) * spacing for n, m in zip(shape, middle, strict=True)
    ]
    normals = found.normals[nearest]
    away = np.stack(np.meshgrid(*axes, indexing="ij"), -1).astype(np.float32)
    away -= found.points[nearest]
    heights = np.sum(away * normals, -1)
    across = np.sqrt(np.maximum(np.sum(np.square(away), -1) - np.square(heights), 0))
    beyond = np.maximum(across - 1.5 * found.spacing, 0).astype(np.float32)  # points have gaps
    return PlanarPieces(
        jnp.asarray(heights), jnp.asarray(normals), jnp.asarray(beyond), np.float32(spacing)
    )


@register_pytree
@dataclasses.dataclass(frozen=True)
class LabelledMembranes:
    """Draws membranes whose shapes are parts of label volumes, as `varied.varied` asks for them.

    Each scene has a part of one volume around a random point of a surface, in a random orientation
    or its mirror image, at its true size. All its membranes share thickness and density.

    Attributes:
        volumes: points of the surfaces of each label volume by name.
    """

    volumes: dict[str, SurfacePoints]

    def __call__(
        self, occupancy: Occupancy, key: Key, sheets: bool, proteins: Species | None = None
    ) -> list[Placed]:
        """Place membranes that fill 0.3 to 15 % of the voxels, or none if no try gives them."""
        rng = occupancy.rng
        lipids = DrawnMembranes(occupancy, key).lipids()
        centre = (occupancy.extent / 2).astype(np.float32)
        for _ in range(TRIES):
            part = self._part(rng, occupancy.extent)
            surface = planar_pieces(part, occupancy.shape, occupancy.voxel_size)
            bilayer = Bilayer(surface, **lipids)
            # A voxel is membrane where its middle is, so grid points tell the fraction.
            wall = np.hypot(surface.heights, surface.beyond)
            filled = float((wall <= bilayer.thickness / 2 + bilayer.leaflet_sigma).mean())
            if LEAST <= filled <= MOST:
                placed = [Placed(bilayer, centre, np.eye(3, dtype=np.float32), "membrane")]
                occupancy.add(placed[0])
                if rng.uniform() < 0.5:
                    placed += add_varied_proteins(occupancy, placed, proteins)
                return placed
        return []

    def _part(self, rng: np.random.Generator, extent: np.ndarray) -> SurfacePoints:
        """Return a part of a volume, turned, with the middle of the scene at the origin."""
        found = self.volumes[str(rng.choice(sorted(self.volumes)))]
        seed = found.points[rng.integers(len(found.points))]
        turn = random_rotation(rng) * rng.choice([-1, 1])
        at = rng.uniform(-0.3, 0.3, 3) * extent
        radius = np.linalg.norm(extent / 2) + np.linalg.norm(at)
        kept = (np.abs(found.points - seed) <= radius).all(-1)
        turn, at = turn.astype(np.float32), at.astype(np.float32)
        points = (found.points[kept] - seed) @ turn.T + at
        inside = (np.abs(points) <= extent / 2).all(-1)
        return SurfacePoints(points[inside], found.normals[kept][inside] @ turn.T, found.spacing)
