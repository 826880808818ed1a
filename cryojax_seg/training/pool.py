"""Keeps rendered scenes on the device, and draws patches of them that are imaged anew each time."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg.core import label_names
from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.rotation import cube_rotations
from cryojax_seg.core.types import Key
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.simulate.types import CLASSES
from cryojax_seg.training.example import Batch
from cryojax_seg.training.imaging import (
    CONTEXT,
    Patch,
    Randomisation,
    draw_conditions,
    image_patch,
)

VOXELS = 4096  # of each class and scene, around which patches are drawn


class Rendered(NamedTuple):
    """Holds a rendered scene, most often without imaging.

    Attributes:
        density: float16 ``(z, y, x)``, 1 for solid protein; or its tomogram, normalised.
        labels: int8 of the same shape, values in `simulate.CLASSES`.
        voxel_size: angstrom.
        tilts: float32 ``(2,)``, lowest and highest tilt about y, in degrees, of the tomogram; NaN
            without imaging.
    """

    density: np.ndarray
    labels: np.ndarray
    voxel_size: float
    tilts: np.ndarray = np.full(2, np.nan, np.float32)


@register_pytree
@dataclasses.dataclass(frozen=True)
class Pool:
    """Holds the scenes of `draw_phantoms` on the device, all of one shape.

    Attributes:
        density: float16 ``(scene, z, y, x)``.
        labels: int8 ``(scene, z, y, x)``, values in `simulate.CLASSES`.
        voxel_sizes: angstrom, ``(scene,)``.
        tilts: degrees, ``(scene, 2)``, NaN for scenes without imaging.
        voxels: int16 ``(scene, class, voxel, 3)``, voxels around which patches are drawn.
        counts: int32 ``(scene, class)``, the number of these voxels.
        values: int32, the label of a segmenter for each of `simulate.CLASSES`.
        ranges: conditions of imaging.
    """

    density: Any
    labels: Any
    voxel_sizes: Any
    tilts: Any
    voxels: Any
    counts: Any
    values: Any
    ranges: Randomisation


def label_values(classes: tuple[str, ...]) -> np.ndarray:
    """Return the label of a segmenter of these classes for each of `simulate.CLASSES`.

    Structures of other classes are background.

    >>> label_values(("membrane",)).tolist()
    [0, 1, 0, 0, 0, 0]
    """
    names = label_names(classes)
    return np.array([names.index(n) if n in names[1:] else 0 for n in CLASSES], np.int32)


def empty_pool(
    count: int, shape: tuple[int, ...], classes: tuple[str, ...], ranges: Randomisation
) -> Pool:
    """Return a pool without scenes, to which `inserted` adds them."""
    values = max(len(classes), 2)
    return Pool(
        density=jnp.zeros((count, *shape), jnp.float16),
        labels=jnp.zeros((count, *shape), jnp.int8),
        voxel_sizes=jnp.ones(count, jnp.float32),
        tilts=jnp.full((count, 2), jnp.nan, jnp.float32),
        voxels=jnp.zeros((count, values, VOXELS, 3), jnp.int16),
        counts=jnp.zeros((count, values), jnp.int32),
        values=jnp.asarray(label_values(classes)),
        ranges=jax.tree.map(lambda number: jnp.asarray(number, jnp.float32), ranges),
    )


def inserted(pool: Pool, place: int, scene: Rendered, seed: int = 0) -> Pool:
    """Return the pool with another scene at a place.

    Args:
        pool: the pool.
        place: index of the scene that is replaced.
        scene: rendered scene of the shape of the others.
        seed: seed of the subset of its voxels that is kept.
    """
    rng = np.random.default_rng(seed)
    labels = np.asarray(pool.values)[scene.labels]
    voxels = np.zeros(pool.voxels.shape[1:], np.int16)
    counts = np.zeros(pool.counts.shape[1:], np.int32)
    for value in range(len(counts)):
        found = np.flatnonzero(labels == value)
        if found.size > VOXELS:
            found = np.sort(rng.choice(found, VOXELS, replace=False))
        counts[value] = found.size
        voxels[value, : found.size] = np.stack(np.unravel_index(found, labels.shape), -1)
    size, tilts = np.float32(scene.voxel_size), scene.tilts.astype(np.float32)
    density, kept = scene.density.astype(np.float16), scene.labels.astype(np.int8)
    new = (density, kept, size, tilts, voxels, counts)
    return _put(pool, np.int32(place), new)


@jax.jit
def _put(pool: Pool, place: Any, new: Any) -> Pool:
    names = ("density", "labels", "voxel_sizes", "tilts", "voxels", "counts")
    changed = {
        name: getattr(pool, name).at[place].set(value)
        for name, value in zip(names, new, strict=True)
    }
    return dataclasses.replace(pool, **changed)


def draw_phantoms(pool: Pool, key: Key, count: int, patch: tuple[int, int, int]) -> Batch:
    """Draw a batch of patches, balanced over the classes, each imaged under conditions of its own.

    A patch holds a voxel of a class drawn uniformly, at a random place within it. It is turned to
    one of the 48 orientations of the cube (those that keep its shape), and filtered and covered by
    noise with some context around it, see `imaging.image_patch`. Patches are not interpolated at
    other angles: the scenes hold structures in all orientations with equal chances already.

    Scenes that were imaged as a whole give their patches as they are, in those orientations that
    keep the beam along z.

    Args:
        pool: the scenes.
        key: random key.
        count: number of patches.
        patch: edges of a patch, voxels.
    """
    shape = tuple(edge + 2 * CONTEXT for edge in patch)
    by_place, by_condition, by_noise = (
        jax.random.split(k, count) for k in jax.random.split(key, 3)
    )
    scenes, origins, turns = jax.vmap(lambda k: _place(pool, k, patch))(by_place)
    # A loop, whose results are stored: merged with the filters, compilers would evaluate these
    # small arrays anew for every voxel.
    conditions = jax.lax.map(
        lambda one: draw_conditions(one[0], pool.ranges, one[1], shape),
        (by_condition, pool.voxel_sizes[scenes]),
    )

    def one(scene, origin, turn, condition, key):
        density, labels = _cut(pool, scene, origin, turn, shape)
        imaged = image_patch(density, labels, condition, key)
        own = _as_it_is(density, labels, pool.tilts[scene], turn, imaged.wedge)
        is_imaged = jnp.isfinite(pool.tilts[scene, 0])
        imaged = jax.tree.map(functools.partial(jnp.where, is_imaged), own, imaged)
        inner = tuple(slice(CONTEXT, CONTEXT + edge) for edge in patch)
        return imaged.volume[inner], pool.values[imaged.labels[inner]], imaged.wedge

    volume, labels, wedge = jax.vmap(one)(scenes, origins, turns, conditions, by_noise)
    return Batch(volume, labels=labels, weights=jnp.ones_like(volume), wedge=wedge)


def _place(pool: Pool, key: Key, patch: tuple[int, int, int]):
    """Draw the scene, the origin with context and the orientation of a patch."""
    chance = jax.random.uniform(key, (7,))
    present = pool.counts > 0
    value = pick(chance[0], present.any(0))
    scene = pick(chance[1], present[:, value])
    index = jnp.floor(chance[2] * pool.counts[scene, value].astype(chance.dtype))
    edges = np.asarray(patch, np.float32)
    inside = CONTEXT + jnp.floor(chance[3:6] * edges).astype(jnp.int32)
    origin = pool.voxels[scene, value, index.astype(jnp.int32)].astype(jnp.int32) - inside
    free = np.asarray(pool.density.shape[1:]) - np.asarray(patch) - 2 * CONTEXT
    table = cube_rotations(patch)
    table = np.concatenate([table, -table])  # mirror images as well
    upright = table[np.abs(table[:, 0, 0]) == 1]
    turns = [
        jnp.asarray(allowed)[jnp.floor(chance[6] * len(allowed)).astype(jnp.int32)]
        for allowed in (upright, table)
    ]
    turn = jnp.where(jnp.isfinite(pool.tilts[scene, 0]), *turns)
    return scene, jnp.clip(origin, 0, free.astype(np.int32)), turn


def _as_it_is(density: Any, labels: Any, tilts: Any, turn: Any, wedge: MissingWedge) -> Patch:
    """Return a patch of a tomogram, turned, whose wedge is in the form of another one."""
    # A wedge is the same after inversion, so a mirror image has that of a proper rotation.
    proper = turn * jnp.sum(turn[0] * jnp.cross(turn[1], turn[2]))
    wedge = dataclasses.replace(wedge, tilt_range=tilts, rotation=proper.astype(tilts.dtype))
    return Patch(density.astype(tilts.dtype), labels, wedge)


def pick(chance: jax.Array, allowed: jax.Array) -> jax.Array:
    """Choose one of the allowed indices with equal chances, by a uniform number in [0, 1)."""
    rank = jnp.cumsum(allowed) - 1
    wanted = jnp.floor(chance * allowed.sum().astype(chance.dtype)).astype(rank.dtype)
    return jnp.argmax(allowed & (rank == wanted))


def _cut(pool: Pool, scene: Any, origin: Any, turn: Any, shape: tuple[int, ...]):
    """Return a part of a scene, turned: the value at r comes from ``M^T r``."""
    size = pool.density.shape[1:]
    grids = np.meshgrid(*[2 * np.arange(n, dtype=np.int32) - (n - 1) for n in shape], indexing="ij")
    index = jnp.full(shape, 0, jnp.int32) + scene
    for axis, edge in enumerate(shape):
        doubled = sum(turn[other, axis] * grids[other] for other in range(3))
        index = index * size[axis] + (doubled + (edge - 1)) // 2 + origin[axis]
    return pool.density.reshape(-1)[index], pool.labels.reshape(-1)[index]
