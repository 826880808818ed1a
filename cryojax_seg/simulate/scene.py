"""Describes scenes of structures with positions and rotations, and measures them exactly.

A scene is a frozen pytree of numbers, so rendered volumes have gradients with respect to every
radius, thickness, centre and rotation. Voxel ``i`` is at ``i * voxel_size`` angstrom.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg import units
from cryojax_seg.core.plain import Shape
from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.simulate.complexes import GaussianComplex
from cryojax_seg.simulate.maps import MapDensity
from cryojax_seg.simulate.structures import Structure
from cryojax_seg.simulate.types import Classes, Points, Values


@register_pytree
@dataclasses.dataclass(frozen=True)
class Placed:
    """Gives a structure a position and a rotation in the volume.

    Points transform as ``lab = rotation @ own + centre``, in angstrom, zyx.

    >>> from cryojax_seg.simulate import Bilayer, Placed, Sphere
    >>> vesicle = Placed(Bilayer(Sphere(100.0)), (150.0, 150.0, 200.0))
    >>> vesicle.distance(jnp.array([150.0, 150.0, 200.0])).item()
    -100.0
    """

    structure: Structure
    centre: Any
    rotation: Any = None
    name: str = dataclasses.field(default="", metadata={"static": True})

    def own(self, points: Points) -> Points:
        """Return points of the volume in the frame of the structure."""
        shifted = points - jnp.broadcast_to(jnp.asarray(self.centre, points.dtype), points.shape)
        if self.rotation is None:
            return shifted
        return shifted @ jnp.asarray(self.rotation, points.dtype)  # R^T p, for rows

    def distance(self, points: Points) -> Values:
        """Return the signed distance of the structure at points of the volume."""
        return self.structure.distance(self.own(points))

    def density(self, points: Points) -> Values:
        """Return the density of the structure at points of the volume."""
        return self.structure.density(self.own(points))

    def labels(self, points: Points) -> Classes:
        """Return the class labels of the structure at points of the volume."""
        return self.structure.labels(self.own(points))

    def excluded_volume(self, points: Points) -> Values:
        """Return the signed distance to the excluded volume at points of the volume."""
        return self.structure.excluded_volume(self.own(points))

    def normal(self, points: Points) -> Points:
        """Return unit normals in the frame of the volume."""
        normals = self.structure.normal(self.own(points))
        if self.rotation is None:
            return normals
        return normals @ jnp.asarray(self.rotation, points.dtype).T


@register_pytree
@dataclasses.dataclass(frozen=True)
class Scene:
    """Holds the structures in a volume.

    Attributes:
        objects: placed structures in rendering order. Densities add; the label of a later object
            replaces that of an earlier one, but a lumen only fills background.
        shape: voxels along z, y, x.
        voxel_size: angstrom.
        contrast: ``(z, y, x)`` factor on the density, for ice of uneven thickness; None for 1.
        notes: one sentence for each request that could not be met.

    >>> from cryojax_seg.simulate import Placed, Scene, Solid, Sphere
    >>> ball = Placed(Solid(Sphere(40.0)), (80.0, 80.0, 80.0), name="ball")
    >>> scene = Scene((ball,), (16, 16, 16), 10.0)
    >>> [p.name for p in scene.objects], scene.shape
    (['ball'], (16, 16, 16))
    """

    objects: tuple[Placed, ...]
    shape: Shape = dataclasses.field(metadata={"static": True})
    voxel_size: float = dataclasses.field(metadata={"static": True})
    contrast: Any = None
    notes: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})

    def __post_init__(self):
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"shape must be three sizes of 1 or more, got {self.shape}")
        if not self.voxel_size > 0:
            raise ValueError(f"voxel_size must be above 0 angstrom, got {self.voxel_size}")
        units.check("voxel_size", self.voxel_size, units.VOXEL_SIZE)


def measurements(scene: Scene) -> list[dict[str, Any]]:
    """Return one row per object: its name, centre, rotation and exact measurements.

    Measurements refer to the whole object: area in square angstrom, volume in cubic angstrom,
    length in angstrom. `inside` is the fraction of its excluded volume that lies within the scene.

    >>> from cryojax_seg.simulate import Placed, Scene, Solid, Sphere, measurements
    >>> ball = Placed(Solid(Sphere(40.0)), (80.0, 80.0, 80.0), name="ball")
    >>> scene = Scene((ball,), (16, 16, 16), 10.0)
    >>> (row,) = measurements(scene)
    >>> row["name"], row["inside"], round(row["area"])
    ('ball', 1.0, 20106)
    """
    rows = []
    for i, placed in enumerate(scene.objects):
        rotation = np.eye(3) if placed.rotation is None else np.asarray(placed.rotation)
        rows.append(
            {
                "instance": i + 1,
                "name": placed.name,
                "centre": [float(c) for c in np.asarray(placed.centre)],
                "rotation": rotation.astype(float).tolist(),
                "inside": round(part_inside(placed, scene.shape, scene.voxel_size), 3),
                **{k: float(v) for k, v in placed.structure.measurements().items()},
            }
        )
    return rows


def excluded_points(structure: Structure) -> np.ndarray:
    """Return points ``(n, 3)`` inside the excluded volume, in the frame of the structure.

    A coarse lattice with a spacing of a sixteenth of the bounding radius finds the bounding box
    (long and thin for a filament); a lattice of the same size within that box gives the points.
    For an unbounded structure they cover a micrometre around the origin. All lattices have one
    size, so each kind of structure is compiled once.
    """

    def lattice(half):
        axes = [np.linspace(-h, h, 33) for h in half]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        return points, np.asarray(
            excluded_volume_at(structure, jnp.asarray(points, jnp.result_type(float)))
        )

    radius = min(structure.bounding_radius(), 1e4)
    points, distance = lattice((radius,) * 3)
    near = points[distance <= radius / 16]
    if not len(near):
        return np.zeros((1, 3))
    points, distance = lattice(np.minimum(np.abs(near).max(0) + radius / 16, radius))
    return points[distance <= 0] if (distance <= 0).any() else np.zeros((1, 3))


@jax.jit
def excluded_volume_at(structure: Structure, points: Points) -> Values:
    """Evaluate `Structure.excluded_volume`, compiled."""
    return structure.excluded_volume(points)


def part_inside(placed: Placed, shape: Shape, voxel_size: float) -> float:
    """Return the fraction of an object's excluded volume within the volume, to about 1 %."""
    points = excluded_points(placed.structure)
    rotation = np.eye(3) if placed.rotation is None else np.asarray(placed.rotation)
    index = (points @ rotation.T + np.asarray(placed.centre)) / voxel_size
    within = (index >= -0.5) & (index <= np.array(shape) - 0.5)
    return float(within.all(-1).mean())


def particles(scene: Scene) -> tuple[Placed, ...]:
    """Return the macromolecules of a scene, with their centres and rotations.

    >>> from cryojax_seg.simulate import Placed, Scene, Solid, Sphere, particles
    >>> from cryojax_seg.simulate.complexes import apoferritin
    >>> complex_ = Placed(apoferritin(), (80.0, 80.0, 80.0), name="apoferritin")
    >>> scene = Scene((Placed(Solid(Sphere(20.0)), (30.0, 30.0, 30.0)), complex_), (16,) * 3, 10.0)
    >>> [p.name for p in particles(scene)]
    ['apoferritin']
    """
    return tuple(p for p in scene.objects if isinstance(p.structure, GaussianComplex | MapDensity))
