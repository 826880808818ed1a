"""Provides real volumes with labels and weights, for training and scoring in experiments."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.optimize import minimize
from scipy.spatial import KDTree

from cryojax_seg import core, training
from cryojax_seg.io.paint import offset_from_path, sample_path
from experiments import datasets

WALL, LUMEN, NEAR = (80.0, 130.0), 70.0, 160.0  # angstrom from the axis


@dataclasses.dataclass(frozen=True)
class Scene:
    """Holds a normalized volume with labels, weights, and normals and visibility of the wall.

    Attributes:
        normals: ``(z, y, x, 3)`` on the wall, 0 elsewhere; None if unknown.
        shift: how far the centre-line was moved on average, angstrom.
    """

    volume: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    visibility: np.ndarray
    wedge: core.MissingWedge | None
    normals: np.ndarray | None = None
    shift: float = 0.0

    def annotated(self, name: str, slices: Sequence[int] | None = None) -> training.Example:
        """Return the training example in which only these z slices are annotated."""
        weights = self.weights
        if slices is not None:
            weights = np.zeros_like(weights)
            weights[list(slices)] = self.weights[list(slices)]
        return training.Example(
            self.volume, self.labels, weights, self.wedge, self.normals, name=name
        )


def refine(density: np.ndarray, points: np.ndarray, voxel: float) -> np.ndarray:
    """Return the centre-line after shifting it across its axis to the best contrast of the wall."""
    radii = np.arange(0, 195, 10.0)
    sign = np.where((radii > 85) & (radii < 125), 1.0, 0.0)
    sign /= sign.sum()
    outside = (radii < 65) | (radii > 150)
    sign[outside] = -1 / outside.sum()
    azimuth = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    across = np.cross(points[-1] - points[0], [1.0, 0, 0])
    across /= np.linalg.norm(across)
    density = density.astype(np.float32)

    def moved(shifts):
        shifts = shifts.reshape(len(points), 2)
        return points + shifts[:, :1] * [1.0, 0, 0] + shifts[:, 1:] * across

    def contrast(shifts):
        path = sample_path(moved(shifts))[::10]
        tangent = np.gradient(path, axis=0)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        side = np.cross(tangent, [1.0, 0, 0])
        side /= np.linalg.norm(side, axis=1, keepdims=True)
        up = np.cross(side, tangent)
        ring = np.cos(azimuth)[:, None, None] * up + np.sin(azimuth)[:, None, None] * side
        where = path + ring[None] * (radii / voxel)[:, None, None, None]
        values = map_coordinates(density, where.reshape(-1, 3).T, order=1, mode="nearest")
        return -(sign @ values.reshape(len(radii), -1).mean(1))

    start = np.zeros(2 * len(points))
    found = minimize(contrast, start, method="Powell", bounds=[(-5, 5)] * len(start))
    return moved(found.x)


def scene(name: str) -> Scene:
    """Return one microtubule, labelled from its refined centre-line.

    The published points are clicks, up to 3 nm off the axis; their fit has six parameters. Voxels 8
    to 13 nm from the axis are wall, and nearer than 7 nm they are lumen, which is background. The
    rest within 16 nm, and all near the axis beyond its ends, is not annotated. The tilt range is
    not published; it is estimated from the power spectrum.
    """
    source = datasets.microtubule(name)
    density = np.asarray(source.tomogram.density)
    voxel = source.tomogram.require_voxel_size()[0]
    points = refine(density, source.centreline, voxel)
    wedge = core.estimate_wedge(density)
    if wedge is None:
        raise ValueError(f"{name}: its power spectrum shows no missing wedge")
    offset = offset_from_path(density.shape, points, extend=200.0)
    distance = np.linalg.norm(offset, axis=-1)
    nearest = np.moveaxis(np.indices(density.shape), 0, -1) - offset
    beyond = KDTree(sample_path(points)).query(nearest)[0] > 0.5
    radius = distance * voxel
    wall = (radius >= WALL[0]) & (radius <= WALL[1])
    known = wall | (radius < LUMEN) | (radius > NEAR)
    known &= ~(beyond & (radius < 2 * NEAR))
    normals = (offset / np.maximum(distance, 1e-6)[..., None]).astype(np.float32)
    seen = np.asarray(wedge.visibility(normals, extent_angstrom=60.0, thickness_angstrom=20.0))
    return Scene(
        core.normalize(density, "bright"),
        (wall & known).astype(np.int32),
        known.astype(np.float32),
        seen,
        wedge,
        np.where(wall[..., None], normals, np.float32(0)),
        float(np.linalg.norm(points - source.centreline, axis=1).mean() * voxel),
    )
