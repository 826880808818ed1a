"""Structures at places, and everything that is true about the volume they make.

A scene is a frozen tree of numbers; the gradient of what `render` draws reaches
every radius, thickness, centre and rotation. Voxel ``i`` is at ``i * voxel_size`` angstrom.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg import units
from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Shape
from cryojax_seg.simulate.complexes import GaussianComplex, MapDensity
from cryojax_seg.simulate.structures import Structure
from cryojax_seg.simulate.types import Classes, Points, Values


@register_pytree
@dataclasses.dataclass(frozen=True)
class Placed:
    """A structure at a place: ``lab = rotation @ own + centre``, angstrom, zyx.

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
        """Points of the lab in the frame of the structure."""
        shifted = points - jnp.broadcast_to(jnp.asarray(self.centre, points.dtype), points.shape)
        if self.rotation is None:
            return shifted
        return shifted @ jnp.asarray(self.rotation, points.dtype)  # R^T p, for rows

    def distance(self, points: Points) -> Values:
        """Signed distance of the structure at points of the lab."""
        return self.structure.distance(self.own(points))

    def density(self, points: Points) -> Values:
        """Density of the structure at points of the lab."""
        return self.structure.density(self.own(points))

    def labels(self, points: Points) -> Classes:
        """Classes of the structure at points of the lab."""
        return self.structure.labels(self.own(points))

    def body(self, points: Points) -> Values:
        """Signed distance to the room that the structure takes up, at points of the lab."""
        return self.structure.body(self.own(points))

    def normal(self, points: Points) -> Points:
        """Unit normals in the lab."""
        normals = self.structure.normal(self.own(points))
        if self.rotation is None:
            return normals
        return normals @ jnp.asarray(self.rotation, points.dtype).T


@register_pytree
@dataclasses.dataclass(frozen=True)
class Scene:
    """What is in a volume.

    Attributes:
        objects: in the order in which they are drawn. Densities add; the label of a later object
            replaces that of an earlier one, but a lumen only fills background.
        shape: voxels along z, y, x.
        voxel_size: angstrom.
        contrast: ``(z, y, x)`` factor on the density, as uneven thickness causes; None for 1.
        notes: what could not be done as asked, a sentence each.
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
    """A row for each object: its name, classes, place and what is known of it exactly.

    Area in square angstrom, volume in cubic angstrom, length in angstrom, of the whole object;
    `inside` says which part of its body lies within the volume (1 if all of it does).
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


def body_points(structure: Structure) -> np.ndarray:
    """Points ``(n, 3)``, in the frame of the structure, that its body holds.

    A lattice of a sixteenth of its reach finds the box it lies in (a filament's is long and thin),
    and a lattice of as many points in that box gives the points. Of an endless structure they cover
    a micrometre around the origin. One size of lattice: one program for each kind of structure.
    """

    def lattice(half):
        axes = [np.linspace(-h, h, 33) for h in half]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        return points, np.asarray(body_at(structure, jnp.asarray(points, jnp.result_type(float))))

    reach = min(structure.reach(), 1e4)
    points, distance = lattice((reach,) * 3)
    near = points[distance <= reach / 16]
    if not len(near):
        return np.zeros((1, 3))
    points, distance = lattice(np.minimum(np.abs(near).max(0) + reach / 16, reach))
    return points[distance <= 0] if (distance <= 0).any() else np.zeros((1, 3))


@jax.jit
def body_at(structure: Structure, points: Points) -> Values:
    """`Structure.body`, compiled."""
    return structure.body(points)


def part_inside(placed: Placed, shape: Shape, voxel_size: float) -> float:
    """Fraction of the body of an object that lies in the volume, to about 1 %."""
    points = body_points(placed.structure)
    rotation = np.eye(3) if placed.rotation is None else np.asarray(placed.rotation)
    index = (points @ rotation.T + np.asarray(placed.centre)) / voxel_size
    within = (index >= -0.5) & (index <= np.array(shape) - 0.5)
    return float(within.all(-1).mean())


def particles(scene: Scene) -> tuple[Placed, ...]:
    """The macromolecules of a scene, with their centres and rotations."""
    return tuple(p for p in scene.objects if isinstance(p.structure, GaussianComplex | MapDensity))
