"""Places structures at random positions and rotations without overlap.

The method is random sequential adsorption on a lattice. Each lattice point stores its distance to
the nearest excluded volume, so a candidate is proposed only where its centre has enough clearance,
and it is accepted if all points of its excluded volume are free.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from scipy.spatial.transform import Rotation

from cryojax_seg.core.plain import Shape
from cryojax_seg.core.types import Key, Number
from cryojax_seg.simulate.scene import Placed, excluded_points, excluded_volume_at
from cryojax_seg.simulate.structures import Structure

TABLE = 16  # cells from the origin to the face of a table of distances


def generator(key: Key) -> np.random.Generator:
    """Return a NumPy generator seeded by a JAX key, for the placement loop on the host."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Return a uniformly distributed rotation matrix ``(3, 3)``."""
    return Rotation.from_quat(rng.normal(size=4)).as_matrix()


def random_direction(rng: np.random.Generator) -> np.ndarray:
    """Return a random direction (zyx); all are equally likely."""
    direction = rng.normal(size=3)
    return direction / np.linalg.norm(direction)


def facing(direction: np.ndarray, rng: np.random.Generator, axis: int = 0) -> np.ndarray:
    """Return a rotation that maps an axis onto a direction, with a random angle about it.

    Args:
        direction: ``(3,)`` zyx, of any length.
        rng: draws the angle.
        axis: 0, 1 or 2 for z, y or x.
    """
    first = np.asarray(direction, float) / np.linalg.norm(direction)
    side = np.cross(first, np.eye(3)[np.argmin(np.abs(first))])
    side /= np.linalg.norm(side)
    angle = rng.uniform(0, 2 * np.pi)
    second = np.cos(angle) * side + np.sin(angle) * np.cross(first, side)
    columns = np.stack([first, second, np.cross(first, second)], axis=1)
    return np.roll(columns, axis, axis=1)  # a cyclic permutation keeps the determinant at 1


class _Template:
    """Holds the excluded volume of a structure in its own frame.

    Attributes:
        structure: the structure.
        points: ``(n, 3)`` points in the excluded volume, about as dense as the lattice.
        inner: depth of the origin below the surface of the excluded volume, angstrom.
        radius: of a ball around the origin with all points, angstrom.
        reach: how far from the origin distances are of use, angstrom. Distances close to the
            structure also guide later proposals, of structures as thick as this one.
    """

    def __init__(self, structure: Structure, spacing: float, gap: float):
        self.structure = structure
        points = excluded_points(structure)
        cells = np.round(points / (0.7 * spacing)).astype(int)
        _, kept = np.unique(cells, axis=0, return_index=True)
        self.points = points[kept]
        self.inner = -float(excluded_volume_at(structure, jnp.zeros((1, 3)))[0])
        self.radius = float(np.linalg.norm(points, axis=-1).max())
        self.reach = self.radius + spacing + float(np.clip(self.inner, 20.0, 100.0)) + gap

    @functools.cached_property
    def table(self) -> np.ndarray:
        """Return the distances on a cubic lattice around the origin, up to `reach`."""
        axis = np.linspace(-self.reach, self.reach, 2 * TABLE + 1)
        points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        values = excluded_volume_at(self.structure, jnp.asarray(points, jnp.result_type(float)))
        return np.asarray(values).reshape((axis.size,) * 3)

    def distances(self, placed: Placed, first, count, spacing: float) -> np.ndarray:
        """Interpolate the distances at points of a lattice; they are infinite beyond `reach`."""
        axes = [np.arange(a, a + n, dtype=np.float32) for a, n in zip(first, count, strict=True)]
        points = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1) * np.float32(spacing)
        points -= np.asarray(placed.centre, np.float32)[:, None]
        if placed.rotation is not None:
            points = np.asarray(placed.rotation, np.float32).T @ points
        index = points * np.float32(TABLE / self.reach) + TABLE
        found = scipy.ndimage.map_coordinates(self.table, index, order=1, cval=np.inf)
        return np.asarray(found).reshape(tuple(count))


class Occupancy:
    """Records which part of a volume is occupied, and finds free places for structures.

    Args:
        shape: voxels along z, y, x.
        voxel_size: angstrom.
        rng: draws positions and rotations.
        gap: smallest distance between two excluded volumes, angstrom.

    >>> from cryojax_seg.simulate import Occupancy, Solid, Sphere
    >>> occupancy = Occupancy((16, 16, 16), 10.0, np.random.default_rng(0))
    >>> ball = occupancy.place(Solid(Sphere(30.0)), "ball")
    >>> ball.name, occupancy.free_at(np.asarray(ball.centre)[None])
    ('ball', False)
    >>> occupancy.place(Solid(Sphere(300.0)), "too large") is None
    True
    """

    def __init__(
        self, shape: Shape, voxel_size: float, rng: np.random.Generator, gap: float = 10.0
    ):
        self.extent = (np.array(shape) - 1) * voxel_size
        self.shape, self.voxel_size = tuple(shape), voxel_size
        self.rng, self.gap = rng, gap
        # As fine as the voxels, but never more than 2 million points; the same number of points at
        # each voxel size, so that nothing is compiled again.
        self.spacing = max(voxel_size, float(np.prod(self.extent + voxel_size) / 2e6) ** (1 / 3))
        size = np.floor(self.extent / self.spacing).astype(int) + 1
        self.clearance = np.full(size, np.inf, np.float32)
        self._templates: dict[int, _Template] = {}

    def add(self, placed: Placed, hollow: bool = False) -> None:
        """Mark the excluded volume of a placed structure as occupied.

        Args:
            placed: the structure.
            hollow: whether only the wall of a membrane is occupied, and its lumen stays free.
        """
        template = self._template(placed.structure)
        size, reach = np.array(self.clearance.shape), template.reach
        small = not hollow and reach / TABLE < 2 * self.spacing
        # Few sizes to compile: powers of 2, and 1.5 times those.
        needed = min(2 * reach / self.spacing + 2, size.max())
        sizes = (n for k in range(4, 64) for n in (1 << k, 3 << (k - 1)))
        count = np.minimum(
            int(np.ceil(needed)) if small else next(n for n in sizes if n >= needed), size
        )
        first = np.round((np.asarray(placed.centre) - reach) / self.spacing).astype(int)
        first = np.clip(first, 0, size - count)
        if small:
            distance = template.distances(placed, first, count, self.spacing)
        else:
            counts = tuple(int(c) for c in count)
            distance = _lattice(placed, jnp.asarray(first), counts, self.spacing, hollow)
        where = tuple(slice(a, a + n) for a, n in zip(first, count, strict=True))
        self.clearance[where] = np.minimum(self.clearance[where], np.asarray(distance))

    def free_volume(self) -> float:
        """Return the volume outside every excluded volume, in cubic angstrom."""
        return float((self.clearance > 0).mean() * np.prod(self.extent + self.spacing))

    def free_at(self, points: np.ndarray, inside: bool = True, periodic: bool = False) -> bool:
        """Return whether all points are free.

        Args:
            points: ``(n, 3)``, angstrom.
            inside: whether points outside the volume count as occupied.
            periodic: whether points beyond a face are tested at the opposite face instead.
        """
        index = np.round(points / self.spacing).astype(int)
        if periodic:
            index %= np.array(self.clearance.shape)
            return bool((self.clearance[tuple(index.T)] > self.gap).all())
        within = ((points >= 0) & (points <= self.extent)).all(-1)
        if inside and not within.all():
            return False
        index = np.minimum(index[within], np.array(self.clearance.shape) - 1)
        return bool((self.clearance[tuple(index.T)] > self.gap).all())

    def place(
        self,
        structure: Structure,
        name: str,
        rotation=random_rotation,
        inside: bool = True,
        tries: int = 50,
        centres: np.ndarray | None = None,
        periodic: bool = False,
        hollow: bool = False,
    ) -> Placed | None:
        """Place a structure at a random free position and mark its excluded volume.

        If only the centre must lie within the volume, a position near a face has fewer obstacles
        than one in the middle, and structures gather at the faces. With `periodic` they do not,
        because the part beyond a face occupies as much room at the opposite face.

        Args:
            structure: the structure to place.
            name: name of the placed instance.
            rotation: function of the generator that returns a rotation matrix for each try.
            inside: whether the whole structure must lie within the volume, or only its centre.
            tries: number of positions to try.
            centres: candidate centres ``(n, 3)``, angstrom; None for any free position.
            periodic: as in `free_at`; `inside` is ignored.
            hollow: as in `add`.

        Returns:
            the placed structure, or None if no try succeeded.
        """
        template = self._template(structure)
        if centres is None:
            centres = self._free_centres(template.inner, inside and not periodic)
        if not len(centres):
            return None
        for row in self.rng.integers(len(centres), size=tries):
            jitter = self.rng.uniform(-0.5, 0.5, 3) * self.spacing
            matrix = rotation(self.rng)
            centre = np.clip(centres[row] + jitter, 0, self.extent)
            if self.free_at(template.points @ matrix.T + centre, inside, periodic):
                dtype = np.float32
                placed = Placed(structure, centre.astype(dtype), matrix.astype(dtype), name)
                for image in self._images(placed) if periodic else (placed,):
                    self.add(image, hollow)
                return placed
        return None

    def _images(self, placed: Placed) -> Iterator[Placed]:
        """Yield a placed structure, and its periodic images that reach into the volume."""
        period = np.array(self.clearance.shape) * self.spacing
        radius = self._template(placed.structure).radius
        shifts = np.array(list(itertools.product((0, 1, -1), repeat=3)))
        centres = np.asarray(placed.centre) + shifts * period
        near = ((centres > -radius) & (centres < self.extent + radius)).all(-1)
        for centre in centres[near].astype(np.float32):
            yield dataclasses.replace(placed, centre=centre)

    def fits(self, placed: Placed, inside: bool = False) -> bool:
        """Return whether the excluded volume of a structure is free where it is placed.

        Args:
            placed: the structure.
            inside: whether the whole structure must lie within the volume.
        """
        points = self._template(placed.structure).points
        rotation = np.eye(3) if placed.rotation is None else np.asarray(placed.rotation)
        return self.free_at(points @ rotation.T + np.asarray(placed.centre), inside)

    def _template(self, structure: Structure) -> "_Template":
        # It keeps the structure as well, because an id is unique only while its object lives.
        if id(structure) not in self._templates:
            self._templates[id(structure)] = _Template(structure, self.spacing, self.gap)
        return self._templates[id(structure)]

    def _free_centres(self, inner: float, inside: bool) -> np.ndarray:
        """Return random lattice points ``(n, 3)``, angstrom, with at least this clearance."""

        def fitting(cells):
            fits = self.clearance[tuple(cells.T)] > max(inner, 0.0) + self.gap
            if inside:  # keep the shortest half axis away from the faces
                at = cells * self.spacing
                fits &= ((at >= inner) & (at <= self.extent - inner)).all(-1)
            return cells[fits] * self.spacing

        size = self.clearance.shape
        found = fitting(self.rng.integers(size, size=(4096, 3)))
        return found if len(found) else fitting(np.argwhere(self.clearance > self.gap))


@functools.partial(jax.jit, static_argnames=("count", "hollow"))
def _lattice(placed: Placed, first, count: tuple[int, ...], spacing: Number, hollow: bool):
    axes = [jnp.arange(n, dtype=jnp.int32) + a for n, a in zip(count, first, strict=True)]
    grid = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1)
    points = grid.astype(jnp.result_type(float)) * spacing
    if not hollow:
        return placed.excluded_volume(points)
    bilayer: Any = placed.structure
    return bilayer.wall(placed.own(points))
