"""Changes patches at random, with their labels and their missing wedge.

Every change is a pure function of one patch and a key; `augment` maps them over a batch. Whether a
change is on is decided when the step is compiled; in a step in which no patch takes it, it costs
nothing.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from cryojax_seg.core import fourier
from cryojax_seg.core.rotation import cube_rotations, rotation_from_vector
from cryojax_seg.core.types import Key, Volume
from cryojax_seg.training.companions import COMPANIONS, Companion
from cryojax_seg.training.config import Augmentation
from cryojax_seg.training.example import Batch

Change = Callable[[Batch, Key], Batch]


def augment(batch: Batch, key: Key, flips: jax.Array, config: Augmentation) -> Batch:
    """Return a batch with random changes.

    Args:
        batch: patches with the wedge of each.
        key: random key of this step.
        flips: bool ``(batch, 8, 3)``, the flips allowed for each patch (`sampling.draw`).
        config: probabilities and strengths of the changes.
    """
    changes: list[tuple[float, Change]] = [
        (config.rotate90, rotate90),
        (config.rotate, lambda patch, k: rotate(patch, k, config.rotate_angle)),
        (config.noise, lambda patch, k: add_noise(patch, k, config.noise_strength)),
        (config.narrow, lambda patch, k: narrow_wedge(patch, k, config.narrow_angles)),
        (config.amplitude, lambda patch, k: scale_amplitudes(patch, k, config.amplitude_strength)),
        (config.intensity, lambda patch, k: drift(patch, k, config.intensity_strength)),
        (config.blank, blank_cuboids),
    ]

    changes = [(probability, change) for probability, change in changes if probability > 0]

    def draws(key: Key) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
        by_flip, by_coin, *keys = jax.random.split(key, 2 + len(changes))
        return by_flip, jax.random.uniform(by_coin, (len(changes),)), keys

    by_flip, coins, keys = jax.vmap(draws)(jax.random.split(key, batch.volume.shape[0]))
    if config.flip:
        batch = jax.vmap(flip)(batch, by_flip, flips)
    for number, (probability, change) in enumerate(changes):
        batch = _maybe(change, batch, keys[number], coins[:, number] < probability)
    return batch


def _maybe(change: Change, batch: Batch, keys: jax.Array, taken: jax.Array) -> Batch:
    """Change the patches of a batch that are taken; without any, nothing is computed."""

    def one(patch: Batch, key: Key, take: jax.Array) -> Batch:
        changed = change(patch, key)
        return jax.tree.map(lambda new, old: jnp.where(take, new, old), changed, patch)

    # One condition for the batch: under vmap it would become a choice between two results.
    return jax.lax.cond(taken.any(), jax.vmap(one), lambda batch, *_: batch, batch, keys, taken)


def _below(key: Key, count: int) -> jax.Array:
    """Draw an integer from 0 to count - 1, for small counts; compiles faster than `randint`."""
    return jnp.floor(jax.random.uniform(key) * count).astype(jnp.int32)


def _companions(patch: Batch, change: Callable[[Companion, jax.Array], jax.Array]) -> Batch:
    """Change every companion of the volume of a patch according to its kind."""
    arrays = {name: getattr(patch, name) for name in COMPANIONS}
    changed = {n: change(COMPANIONS[n], a) for n, a in arrays.items() if a is not None}
    return dataclasses.replace(patch, **changed)


def _moved(patch: Batch, matrix: jax.Array) -> Batch:
    """Rotate or flip everything but the wedge by a signed permutation matrix."""
    return _companions(patch, lambda kind, array: kind.moved(array, matrix))


def _each(patch: Batch, change: Callable[[Volume], Volume]) -> Batch:
    """Apply one change to the volume and all other measured densities."""
    return _companions(patch, lambda kind, array: kind.changed(array, change))


def flip(patch: Batch, key: Key, flips: jax.Array) -> Batch:
    """Apply one of the given flips ``(8, 3)``, each of which leaves the wedge as it is."""
    axes = flips[_below(key, flips.shape[0])]
    return _moved(patch, jnp.diag(jnp.where(axes, -1, 1)).astype(jnp.int32))


def rotate_by(patch: Batch, matrix: jax.Array) -> Batch:
    """Rotate a patch and its wedge by a signed permutation matrix of integers (zyx order)."""
    return _rotated_wedge(_moved(patch, matrix), matrix.astype(patch.volume.dtype))


def rotate90(patch: Batch, key: Key) -> Batch:
    """Rotate a patch by a random one of `cube_rotations`."""
    table = cube_rotations(patch.volume.shape)
    return rotate_by(patch, jnp.asarray(table)[_below(key, len(table))])


def _rotated_wedge(patch: Batch, matrix: jax.Array) -> Batch:
    if patch.wedge is None:
        return patch
    return dataclasses.replace(patch, wedge=patch.wedge.rotate(matrix))


def rotation_matrix(key: Key, angle: float) -> jax.Array:
    """Draw a rotation about a random axis by up to `angle` degrees, in zyx order."""
    by_axis, by_angle = jax.random.split(key)
    axis = jax.random.normal(by_axis, (3,))
    theta = jnp.deg2rad(jax.random.uniform(by_angle, minval=-angle, maxval=angle))
    length = jnp.sqrt(jnp.sum(axis * axis) + 1e-12)
    return jnp.asarray(rotation_from_vector(-theta * axis / length))


def rotate(patch: Batch, key: Key, angle: float) -> Batch:
    """Rotate by up to `angle` degrees, with linear interpolation of densities only.

    Other companions take the nearest voxel.

    Voxels that come from outside the patch hold the mirrored volume, with weight 0.
    """
    matrix = rotation_matrix(key, angle)
    grids = jnp.meshgrid(
        *[jnp.arange(n, dtype=jnp.float32) - (n - 1) / 2 for n in patch.volume.shape], indexing="ij"
    )
    # The content at r comes from R^T r.
    source = [
        sum(matrix[j, i] * grids[j] for j in range(3)) + (patch.volume.shape[i] - 1) / 2
        for i in range(3)
    ]

    patch = _companions(patch, lambda kind, array: kind.rotated(array, source, matrix))
    return _rotated_wedge(patch, matrix)


def add_noise(patch: Batch, key: Key, strength: float) -> Batch:
    """Add white noise as this acquisition would have measured it, independent in the halves."""
    by_noise, by_strength = jax.random.split(key)
    two = jax.random.normal(by_noise, (2, *patch.volume.shape), patch.volume.dtype)
    if patch.wedge is not None:
        two = jax.vmap(patch.wedge.apply)(two)
    scale = jax.random.uniform(by_strength, maxval=strength).astype(two.dtype)
    if patch.halves is None:
        return dataclasses.replace(patch, volume=patch.volume + scale * two[0])
    # Their mean is the noise of the volume, so each half has sqrt(2) times as much.
    two = jnp.sqrt(jnp.asarray(2.0, two.dtype)) * scale * two
    return dataclasses.replace(patch, volume=patch.volume + two.mean(0), halves=patch.halves + two)


def _spread(volume: Volume) -> jax.Array:
    return jnp.sqrt(jnp.var(volume) + 1e-12)


def narrow_wedge(patch: Batch, key: Key, angles: tuple[float, float]) -> Batch:
    """Show the patch as a tomogram of a smaller tilt range does, at unchanged contrast.

    The range becomes the intersection with ``(-a, a)``, a uniform between `angles`: still one
    wedge about the same axis, so that the wedge value stays exactly right. The labels stay, so a
    network learns to complete what the wedge takes away.
    """
    wedge = patch.wedge
    if wedge is None:
        return patch
    half = jax.random.uniform(key, minval=angles[0], maxval=angles[1])
    low, high = wedge.tilt_range
    limits = jnp.stack([jnp.maximum(low, -half), jnp.minimum(high, half)])
    narrowed = dataclasses.replace(wedge, tilt_range=limits)
    gain = _spread(patch.volume) / _spread(narrowed.apply(patch.volume))
    patch = _each(patch, lambda volume: gain * narrowed.apply(volume))
    return dataclasses.replace(patch, wedge=narrowed)


def scale_amplitudes(patch: Batch, key: Key, strength: float, terms: int = 4) -> Batch:
    """Apply a random smooth radial gain to the Fourier amplitudes, like another transfer function.

    The logarithm of the gain is a random cosine series in ``|k|``; the mean of the patch is kept.
    """
    k = fourier.radius(patch.volume.shape)
    coefficients = strength * jax.random.normal(key, (terms,))
    log_gain = sum(
        coefficients[n] * (jnp.cos(jnp.pi * (n + 1) * k / k.max()) - 1) for n in range(terms)
    )
    gain = jnp.exp(log_gain)
    gain = gain * (_spread(patch.volume) / _spread(fourier.apply_gain(patch.volume, gain)))
    gain = gain.at[0, 0, 0].set(1.0)
    return _each(patch, lambda volume: fourier.apply_gain(volume, gain))


def drift(patch: Batch, key: Key, strength: float) -> Batch:
    """Apply a random gain, offset and linear gradient of the brightness."""
    gain, *offsets = strength * jax.random.normal(key, (5,), patch.volume.dtype)
    plane = jnp.broadcast_to(offsets[0], patch.volume.shape)
    for axis, slope in enumerate(offsets[1:]):
        size = plane.shape[axis]
        ramp = jnp.linspace(-1.0, 1.0, size, dtype=plane.dtype)
        plane = plane + slope * ramp.reshape([size if a == axis else 1 for a in range(3)])
    return _each(patch, lambda volume: volume * jnp.exp(gain) + plane)


def blank_cuboids(patch: Batch, key: Key, most: int = 3) -> Batch:
    """Set up to three cuboids, each edge up to a third of the patch, to 0 (the median)."""
    by_count, by_edge, by_origin = jax.random.split(key, 3)
    shape = patch.volume.shape
    count = 1 + _below(by_count, most)
    edges = jax.random.uniform(by_edge, (most, 3), minval=0.05, maxval=1 / 3)
    origins = jax.random.uniform(by_origin, (most, 3)) * (1 - edges)
    blank = jnp.zeros(shape, bool)
    for number in range(most):
        inside = number < count
        for axis, size in enumerate(shape):
            position = (jnp.arange(size, dtype=jnp.float32) + 0.5) / size - origins[number, axis]
            within = (position >= 0) & (position < edges[number, axis])
            inside = inside & within.reshape([size if a == axis else 1 for a in range(3)])
        blank = blank | inside
    return _each(patch, lambda volume: jnp.where(blank, 0.0, volume))
