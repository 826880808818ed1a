"""Renders a scene on a voxel grid, with density, labels, instances and normals."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Float

from cryojax_seg.core.plain import Shape
from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Array, Labels, Volume
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.simulate.scene import Placed, Scene
from cryojax_seg.simulate.structures import Structure
from cryojax_seg.simulate.types import BACKGROUND, LUMEN, MEMBRANE

BLOCK = 8  # edge in voxels of the blocks in which objects are drawn
CHUNK = 256  # blocks drawn in one call
FAR = 1e6  # angstrom; the distance to a membrane where none is near
TAIL = 25.0  # angstrom; an object has no density farther than this from its excluded volume


@register_pytree
@dataclasses.dataclass(frozen=True)
class Truth:
    """Holds the ground truth of a rendered scene; arrays ``(z, y, x)``.

    Attributes:
        density: mean density of each voxel, bright; 1 is solid protein.
        labels: indices into `CLASSES`.
        instances: 0 for background, else 1 + the index of the object in the scene.
        normals: ``(z, y, x, 3)`` unit vectors (zyx) on membrane voxels, 0 elsewhere.
        distance: signed distance to the middle of the nearest membrane, angstrom; `FAR` where no
            membrane is near.

    >>> from cryojax_seg.simulate import Placed, Scene, Solid, Sphere, render
    >>> scene = Scene((Placed(Solid(Sphere(30.0)), (80.0, 80.0, 80.0)),), (16, 16, 16), 10.0)
    >>> truth = render(scene)
    >>> truth.labels.shape, int(truth.instances[8, 8, 8]), round(float(truth.density[8, 8, 8]), 1)
    ((16, 16, 16), 1, 1.0)
    """

    density: Volume
    labels: Labels
    instances: Labels
    normals: Float[Array, "z y x 3"]
    distance: Volume

    @property
    def structures(self) -> Array:
        """Return the mask of structures, which excludes background and lumen."""
        return (self.labels != BACKGROUND) & (self.labels != LUMEN)

    def visibility(
        self,
        wedge: MissingWedge,
        extent_angstrom: float = 60.0,
        thickness_angstrom: float = 15.0,
    ) -> Volume:
        """Return the visibility of membrane voxels, 0 elsewhere, see `MissingWedge`."""
        seen = wedge.visibility(self.normals, extent_angstrom, thickness_angstrom)
        return jnp.where(self.labels == MEMBRANE, seen, 0.0)


def render(scene: Scene) -> Truth:
    """Render a scene in blocks of voxels, which limits memory.

    The density of a voxel is the mean of four points in it, at alternate corners of a cube. Like a
    detector it averages over the voxel; without that, thin leaflets would alias.

    >>> from cryojax_seg.simulate import Bilayer, Placed, Sphere
    >>> truth = render(Scene((Placed(Bilayer(Sphere(80.0)), (150.0,) * 3),), (32, 32, 32), 10.0))
    >>> int(truth.labels[15, 15, 15]), int(truth.labels[15, 15, 23]), int(truth.labels[0, 0, 0])
    (2, 1, 0)
    """
    padded = tuple(-(-n // BLOCK) * BLOCK for n in scene.shape)
    canvas = Truth(
        jnp.zeros(padded),
        jnp.zeros(padded, jnp.int32),
        jnp.zeros(padded, jnp.int32),
        jnp.zeros((*padded, 3)),
        jnp.full(padded, FAR),
    )
    for first, group in _runs(scene.objects):
        structure, poses = group[0].structure, _poses(group)
        index, starts = _blocks(group, poses, padded, scene.voxel_size)
        for pairs in _chunks(poses, index, starts):
            canvas = _draw(canvas, structure, *pairs, jnp.int32(first), scene.voxel_size)
    z, y, x = scene.shape
    truth = jax.tree.map(lambda a: a[:z, :y, :x], canvas)
    if scene.contrast is not None:
        density = truth.density * jnp.asarray(scene.contrast, truth.density.dtype)
        truth = dataclasses.replace(truth, density=density)
    return truth


def _runs(objects: tuple[Placed, ...]) -> Iterator[tuple[int, list[Placed]]]:
    """Yield runs of objects that share one structure, each with the index of its first object."""

    def kind(placed: Placed):
        return id(placed.structure), placed.rotation is None

    first = 0
    for _, run in itertools.groupby(objects, kind):
        group = list(run)
        yield first, group
        first += len(group)


def _traced(tree) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def _poses(group: list[Placed]) -> tuple:
    """Return the centres ``(n, 3)`` of objects and their rotations ``(n, 3, 3)`` or None."""
    dtype = jnp.result_type(float)
    stack = jnp.stack if _traced(group) else np.stack
    centres = stack([_array(placed.centre, dtype) for placed in group])
    if group[0].rotation is None:
        return centres, None
    return centres, stack([_array(placed.rotation, dtype) for placed in group])


def _blocks(group: list[Placed], poses: tuple, shape: Shape, voxel_size: float):
    """Return pairs of an object and the first voxel of each block that it touches.

    Traced objects are paired with all blocks, because their positions are unknown.
    """
    axes = [np.arange(0, n, BLOCK) for n in shape]
    starts = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).astype(np.int32)
    if _traced(group):
        index = np.repeat(np.arange(len(group), dtype=np.int32), len(starts))
        return index, np.tile(starts, (len(group), 1))
    middles = (starts + (BLOCK - 1) / 2) * voxel_size
    structure = group[0].structure
    radius = structure.bounding_radius() + 0.87 * BLOCK * voxel_size  # half the diagonal of a block
    near = []
    for i, placed in enumerate(group):
        far = np.linalg.norm(middles - np.asarray(placed.centre), axis=-1)
        block = np.flatnonzero(far < radius)
        near.append(np.stack([np.full_like(block, i), block], -1))
    index, block = np.concatenate(near).T
    index, starts = index.astype(np.int32), starts[block]
    touched = [
        np.asarray(_touched(structure, *pairs, voxel_size))
        for pairs in _chunks(poses, index, starts)
    ]
    kept = np.concatenate([np.zeros(0, bool), *touched])[: len(index)]
    return index[kept], starts[kept]


def _chunks(poses: tuple, index: np.ndarray, starts: np.ndarray) -> Iterator[tuple]:
    """Yield the pairs in parts of one size, so that each kind of structure is compiled once.

    A part consists of poses, the indices of their objects (-1 for padding of the last part), and
    the first voxels of the blocks.
    """
    for i in range(0, len(index), CHUNK):
        part = index[i : i + CHUNK]
        blank = (0, CHUNK - len(part))
        taken = np.pad(part, blank)
        chosen = jax.tree.map(lambda leaf, taken=taken: leaf[taken], poses)
        start = np.pad(starts[i : i + CHUNK], (blank, (0, 0)))
        yield chosen, np.pad(part, blank, constant_values=-1), start


def _array(leaf, dtype):
    """Return a leaf as an array; convert Python numbers and NumPy doubles to the working dtype."""
    if isinstance(leaf, jax.Array):
        return leaf
    array = np.asarray(leaf)
    return array.astype(dtype) if np.issubdtype(array.dtype, np.floating) else array


# The voxel size is a traced number, so that one program serves all voxel sizes.
@jax.jit
def _touched(structure: Structure, poses, index, starts, voxel_size):
    cell = 4  # voxels between the points at which the distance is evaluated
    axis = np.arange(cell / 2 - 0.5, BLOCK, cell)
    offsets = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    offsets = jnp.asarray(offsets, jnp.result_type(float))

    def touched(pair):
        pose, start = pair
        placed = Placed(structure, *pose)
        points = (offsets + start.astype(offsets.dtype)[None, None, None]) * voxel_size
        return placed.excluded_volume(points).min() < 3**0.5 * cell / 2 * voxel_size + TAIL

    return jax.lax.map(touched, (poses, starts))


@functools.partial(jax.jit, donate_argnums=0)
def _draw(canvas: Truth, structure: Structure, poses, index, starts, first, voxel_size) -> Truth:
    """Add an object to each block. Instances are counted from `first`; index -1 is padding."""

    def draw(canvas, pair):
        pose, i, start = pair
        placed = Placed(structure, *pose)
        origin = tuple(start)

        def at(volume):
            rest = volume.shape[3:]
            return jax.lax.dynamic_slice(
                volume, (*origin, *[jnp.int32(0)] * len(rest)), (BLOCK,) * 3 + rest
            )

        def put(volume, block):
            return jax.lax.dynamic_update_slice(
                volume, block, (*origin, *[jnp.int32(0)] * (volume.ndim - 3))
            )

        old = jax.tree.map(at, canvas)
        new = jax.lax.cond(
            i < 0, lambda: old, lambda: _drawn(old, placed, first + i + 1, start, voxel_size)
        )
        return jax.tree.map(put, canvas, new), None

    return jax.lax.scan(draw, canvas, (poses, index, starts))[0]


def _drawn(old: Truth, placed: Placed, number, start, voxel_size) -> Truth:
    """Return a block after adding one more object to it."""
    axis, dtype = np.arange(BLOCK), old.density.dtype
    grid = jnp.asarray(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1), dtype)
    points = (grid + start.astype(dtype)[None, None, None]) * voxel_size
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    corners = jnp.asarray(corners, dtype) * (voxel_size / 4)
    samples = jax.vmap(lambda c: placed.density(points + c[None, None, None]))(corners)
    label = placed.labels(points)
    wins = jnp.where(label == LUMEN, old.labels == BACKGROUND, label != BACKGROUND)
    membrane = wins & (label == MEMBRANE)

    def surface():
        distance = placed.distance(points).astype(dtype)
        closer = jnp.abs(distance) < jnp.abs(old.distance)
        normals = jnp.where(membrane[..., None], placed.normal(points).astype(dtype), old.normals)
        return normals, jnp.where(closer, distance, old.distance)

    normals, distance = jax.lax.cond(
        jnp.any(label == MEMBRANE), surface, lambda: (old.normals, old.distance)
    )
    return Truth(
        old.density + samples.mean(0).astype(dtype),
        jnp.where(wins, label, old.labels),
        jnp.where(wins, number, old.instances),
        jnp.where((wins & ~membrane)[..., None], 0.0, normals),
        distance,
    )
