"""Places structures at random positions and rotations without overlap.

The method is random sequential adsorption on a lattice. Each lattice point stores its distance to
the nearest excluded volume, so a candidate is proposed only where its centre has enough clearance,
and it is accepted if all points of its excluded volume are free.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from cryojax_seg.core.plain import Shape
from cryojax_seg.core.types import Key
from cryojax_seg.simulate.scene import Placed, excluded_points, excluded_volume_at
from cryojax_seg.simulate.structures import Structure


def generator(key: Key) -> np.random.Generator:
    """Return a NumPy generator seeded by a JAX key, for the placement loop on the host."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Return a uniformly distributed rotation matrix ``(3, 3)``."""
    return Rotation.from_quat(rng.normal(size=4)).as_matrix()


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
        # Fine enough for a small protein, and never more than 2 million points.
        self.spacing = max(voxel_size, 10.0, float(np.prod(self.extent + 1) / 2e6) ** (1 / 3))
        size = np.floor(self.extent / self.spacing).astype(int) + 1
        self.clearance = np.full(size, np.inf, np.float32)
        self._templates: dict[int, tuple[Structure, np.ndarray, float]] = {}

    def add(self, placed: Placed) -> None:
        """Mark the excluded volume of a placed structure as occupied."""
        radius = min(placed.structure.bounding_radius(), 2 * np.linalg.norm(self.extent))
        radius += 100.0  # a margin: distances close to the structure also guide later proposals
        count = 8 * int(np.ceil((2 * radius / self.spacing + 2) / 8))  # few sizes to compile
        count = np.minimum(count, self.clearance.shape)
        first = np.round((np.asarray(placed.centre) - radius) / self.spacing).astype(int)
        first = np.clip(first, 0, np.array(self.clearance.shape) - count)
        distance = _lattice(placed, jnp.asarray(first), tuple(int(c) for c in count), self.spacing)
        where = tuple(slice(a, a + n) for a, n in zip(first, count, strict=True))
        self.clearance[where] = np.minimum(self.clearance[where], np.asarray(distance))

    def free_volume(self) -> float:
        """Return the volume outside every excluded volume, in cubic angstrom."""
        return float((self.clearance > 0).mean() * np.prod(self.extent + self.spacing))

    def free_at(self, points: np.ndarray, inside: bool = True) -> bool:
        """Return whether all points are free.

        Args:
            points: ``(n, 3)``, angstrom.
            inside: whether points outside the volume count as occupied.
        """
        index = np.round(points / self.spacing).astype(int)
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
    ) -> Placed | None:
        """Place a structure at a random free position and mark its excluded volume.

        Args:
            structure: the structure to place.
            name: name of the placed instance.
            rotation: function of the generator that returns a rotation matrix for each try.
            inside: whether the whole structure must lie within the volume, or only its centre.
            tries: number of positions to try.
            centres: candidate centres ``(n, 3)``, angstrom; None for any free position.

        Returns:
            the placed structure, or None if no try succeeded.
        """
        if id(structure) not in self._templates:
            # Keep the structure as well, because an id is unique only while its object lives.
            self._templates[id(structure)] = structure, *_template(structure)
        _, points, inner = self._templates[id(structure)]
        if centres is None:
            centres = self._free_centres(inner, inside)
        if not len(centres):
            return None
        for row in self.rng.integers(len(centres), size=tries):
            jitter = self.rng.uniform(-0.5, 0.5, 3) * self.spacing
            matrix = rotation(self.rng)
            centre = centres[row] + jitter
            if self.free_at(points @ matrix.T + centre, inside):
                dtype = np.float32
                placed = Placed(structure, centre.astype(dtype), matrix.astype(dtype), name)
                self.add(placed)
                return placed
        return None

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


def _template(structure: Structure) -> tuple[np.ndarray, float]:
    """Return points in the excluded volume, and the depth of the origin below its surface."""
    points = excluded_points(structure)
    return points, -float(excluded_volume_at(structure, jnp.zeros((1, 3)))[0])


@functools.partial(jax.jit, static_argnames=("count", "spacing"))
def _lattice(placed: Placed, first, count: tuple[int, ...], spacing: float):
    axes = [jnp.arange(n, dtype=jnp.int32) + a for n, a in zip(count, first, strict=True)]
    grid = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1)
    return placed.excluded_volume(grid.astype(jnp.result_type(float)) * spacing)
