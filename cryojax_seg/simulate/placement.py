"""Finding room: random places at which structures do not overlap.

Random sequential adsorption on a lattice. The distance from every lattice point to the nearest
body is kept, so a candidate is drawn only where its middle has room and is accepted if the points
of its body are free.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from cryojax_seg.core.types import Key, Shape
from cryojax_seg.simulate.scene import Placed, body_at, body_points
from cryojax_seg.simulate.structures import Structure


def generator(key: Key) -> np.random.Generator:
    """A NumPy generator that continues a JAX key: placing is a loop on the host."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A uniformly random rotation matrix, ``(3, 3)``."""
    return Rotation.from_quat(rng.normal(size=4)).as_matrix()


def facing(direction: np.ndarray, rng: np.random.Generator, axis: int = 0) -> np.ndarray:
    """A rotation that takes an axis (0, 1, 2: z, y, x) to a direction, at random about it."""
    first = np.asarray(direction, float) / np.linalg.norm(direction)
    side = np.cross(first, np.eye(3)[np.argmin(np.abs(first))])
    side /= np.linalg.norm(side)
    turn = rng.uniform(0, 2 * np.pi)
    second = np.cos(turn) * side + np.sin(turn) * np.cross(first, side)
    columns = np.stack([first, second, np.cross(first, second)], axis=1)
    return np.roll(columns, axis, axis=1)  # a cyclic order keeps it a rotation


class Room:
    """The room that is left in a volume.

    Args:
        shape: voxels along z, y, x.
        voxel_size: angstrom.
        rng: drawn from for every place.
        gap: angstrom that stay free between any two bodies.
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
        """Takes the room of an object that is there."""
        reach = min(placed.structure.reach(), 2 * np.linalg.norm(self.extent))
        reach += 100.0  # beyond, the distance only guides where to try
        count = 8 * int(np.ceil((2 * reach / self.spacing + 2) / 8))  # few sizes, few programs
        count = np.minimum(count, self.clearance.shape)
        first = np.round((np.asarray(placed.centre) - reach) / self.spacing).astype(int)
        first = np.clip(first, 0, np.array(self.clearance.shape) - count)
        body = _lattice(placed, jnp.asarray(first), tuple(int(c) for c in count), self.spacing)
        where = tuple(slice(a, a + n) for a, n in zip(first, count, strict=True))
        self.clearance[where] = np.minimum(self.clearance[where], np.asarray(body))

    def free_volume(self) -> float:
        """Cubic angstrom that no body takes."""
        return float((self.clearance > 0).mean() * np.prod(self.extent + self.spacing))

    def free_at(self, points: np.ndarray, inside: bool = True) -> bool:
        """Whether all points (angstrom) are free; those outside the volume count as `not inside`.

        Args:
            points: ``(n, 3)``.
            inside: whether all points must be within the volume.
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
        """Puts a structure where there is room for it.

        Args:
            structure: what is placed.
            name: what the instance is called.
            rotation: of the generator, gives a rotation matrix for each try.
            inside: whether all of it must be within the volume, or only its middle.
            tries: how many places are tried.
            centres: ``(n, 3)`` angstrom, to choose from; None for any.

        Returns:
            the placed structure, its room taken; None if none of the tries fitted.
        """
        if id(structure) not in self._templates:
            # The structure is kept too: an id is its own only while it lives.
            self._templates[id(structure)] = structure, *_template(structure)
        _, points, inner = self._templates[id(structure)]
        if centres is None:
            centres = self._roomy(inner, inside)
        if not len(centres):
            return None
        for row in self.rng.integers(len(centres), size=tries):
            jitter = self.rng.uniform(-0.5, 0.5, 3) * self.spacing
            turn = rotation(self.rng)
            centre = centres[row] + jitter
            if self.free_at(points @ turn.T + centre, inside):
                dtype = np.float32
                placed = Placed(structure, centre.astype(dtype), turn.astype(dtype), name)
                self.add(placed)
                return placed
        return None

    def _roomy(self, inner: float, inside: bool) -> np.ndarray:
        """Lattice points ``(n, 3)``, angstrom, with this much room around them: a few at random."""

        def fitting(cells):
            fits = self.clearance[tuple(cells.T)] > max(inner, 0.0) + self.gap
            if inside:  # as far from the faces as its shortest half axis
                at = cells * self.spacing
                fits &= ((at >= inner) & (at <= self.extent - inner)).all(-1)
            return cells[fits] * self.spacing

        size = self.clearance.shape
        found = fitting(self.rng.integers(size, size=(4096, 3)))
        return found if len(found) else fitting(np.argwhere(self.clearance > self.gap))


def _template(structure: Structure) -> tuple[np.ndarray, float]:
    """Points of the body in its own frame, and how far inside the origin is."""
    points = body_points(structure)
    return points, -float(body_at(structure, jnp.zeros((1, 3)))[0])


@functools.partial(jax.jit, static_argnames=("count", "spacing"))
def _lattice(placed: Placed, first, count: tuple[int, ...], spacing: float):
    axes = [jnp.arange(n, dtype=jnp.int32) + a for n, a in zip(count, first, strict=True)]
    grid = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1)
    return placed.body(grid.astype(jnp.result_type(float)) * spacing)
