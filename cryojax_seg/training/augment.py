"""Random changes of a patch that keep its labels and its missing wedge right.

Every change is a pure function of a patch and a key, for one patch; `augment` maps them over a
batch. Whether a change is on at all is decided when the step is compiled.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from cryojax_seg.core import fourier
from cryojax_seg.core.types import Key, Volume
from cryojax_seg.training.batch import Batch
from cryojax_seg.training.config import Augmentation

Change = Callable[[Batch, Key], Batch]


def augment(batch: Batch, key: Key, flips: jax.Array, config: Augmentation) -> Batch:
    """A batch with random changes.

    Args:
        batch: with the wedge of each patch.
        key: of this step.
        flips: bool ``(batch, 8, 3)``, the flips allowed for each patch (`sampling.draw`).
        config: probabilities and strengths.
    """
    changes: list[tuple[float, Change]] = [
        (config.rotate, rotate_cube),
        (config.turn, lambda patch, k: turn(patch, k, config.turn_angle)),
        (config.noise, lambda patch, k: add_noise(patch, k, config.noise_strength)),
        (config.narrow, lambda patch, k: narrow_wedge(patch, k, config.narrow_angles)),
        (config.amplitude, lambda patch, k: scale_amplitudes(patch, k, config.amplitude_strength)),
        (config.intensity, lambda patch, k: drift(patch, k, config.intensity_strength)),
        (config.blank, blank_cuboids),
    ]

    def one(patch: Batch, key: Key, flips: jax.Array) -> Batch:
        if config.flip:
            patch = flip(patch, jax.random.fold_in(key, 0), flips)
        for number, (probability, change) in enumerate(changes, start=1):
            if probability > 0:
                coin, inner = jax.random.split(jax.random.fold_in(key, number))
                patch = _maybe(jax.random.bernoulli(coin, probability), change(patch, inner), patch)
        return patch

    return jax.vmap(one)(batch, jax.random.split(key, batch.volume.shape[0]), flips)


def _maybe(flag: jax.Array, changed: Batch, patch: Batch) -> Batch:
    return jax.tree.map(lambda a, b: jnp.where(flag, a, b), changed, patch)


def _arrays(patch: Batch, change: Callable[[jax.Array], jax.Array]) -> Batch:
    """The same change of position for volume, labels and weights."""
    return dataclasses.replace(
        patch,
        volume=change(patch.volume),
        labels=change(patch.labels),
        weights=change(patch.weights),
    )


def _flipped(patch: Batch, axes: jax.Array) -> Batch:
    for axis in range(3):
        patch = _arrays(patch, lambda a, axis=axis: jnp.where(axes[axis], jnp.flip(a, axis), a))
    return patch


def flip(patch: Batch, key: Key, flips: jax.Array) -> Batch:
    """One of the given flips ``(8, 3)``, each of which leaves the wedge as it is."""
    return _flipped(patch, flips[jax.random.randint(key, (), 0, flips.shape[0])])


# The permutations of three axes as ordered products of the exchanges 01, 12 and 02.
_EXCHANGES = ((0, 1), (1, 2), (0, 2))
_PRODUCTS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1))


def cube_rotation(patch: Batch, product: jax.Array, axes: jax.Array) -> Batch:
    """Exchanges axes, then flips some, and gives the wedge the same orthogonal matrix.

    Args:
        patch: one patch; the exchanged axes must have equal lengths.
        product: ``(3,)``, which of the exchanges 01, 12 and 02 to make, in this order.
        axes: ``(3,)``, which axes to flip afterwards.
    """
    shape = patch.volume.shape
    matrix = jnp.eye(3)
    for number, (i, j) in enumerate(_EXCHANGES):
        if shape[i] == shape[j]:
            chosen = product[number] > 0
            order = np.arange(3)
            order[[i, j]] = j, i
            patch = _arrays(
                patch,
                lambda a, c=chosen, i=i, j=j: jnp.where(c, jnp.swapaxes(a, i, j), a),
            )
            matrix = jnp.where(chosen, matrix[order], matrix)
    matrix = jnp.where(axes[:, None] > 0, -matrix, matrix)
    return _turned_wedge(_flipped(patch, axes > 0), matrix)


def _turned_wedge(patch: Batch, matrix: jax.Array) -> Batch:
    if patch.wedge is None:
        return patch
    return dataclasses.replace(patch, wedge=patch.wedge.rotate(matrix))


def rotate_cube(patch: Batch, key: Key) -> Batch:
    """A random proper rotation that maps the box of the patch onto itself (24 for a cube)."""
    shape = patch.volume.shape
    possible = [
        product
        for product in _PRODUCTS
        if all(shape[i] == shape[j] or not p for p, (i, j) in zip(product, _EXCHANGES, strict=True))
    ]
    by_product, by_flip = jax.random.split(key)
    product = jnp.asarray(possible)[jax.random.randint(by_product, (), 0, len(possible))]
    flips = jax.random.bernoulli(by_flip, 0.5, (2,)).astype(product.dtype)
    last = (product.sum() + flips.sum()) % 2  # an even number of reflections in all
    return cube_rotation(patch, product, jnp.append(flips, last))


def rotation_matrix(key: Key, angle: float) -> jax.Array:
    """Rotation about a random axis by up to `angle` degrees (Rodrigues' formula), zyx order."""
    by_axis, by_angle = jax.random.split(key)
    z, y, x = jax.random.normal(by_axis, (3,))
    length = jnp.sqrt(z * z + y * y + x * x + 1e-12)
    zero = jnp.zeros(())
    cross = (
        jnp.stack([jnp.stack([zero, -x, y]), jnp.stack([x, zero, -z]), jnp.stack([-y, z, zero])])
        / length
    )
    theta = jnp.deg2rad(jax.random.uniform(by_angle, minval=-angle, maxval=angle))
    return jnp.eye(3) + jnp.sin(theta) * cross + (1 - jnp.cos(theta)) * (cross @ cross)


def turn(patch: Batch, key: Key, angle: float) -> Batch:
    """A small rotation: linear interpolation for the volume, nearest voxel for the annotation.

    What turns in from outside is the mirrored volume, with weight 0.
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
    volume = map_coordinates(patch.volume, source, order=1, mode="reflect")
    labels = map_coordinates(patch.labels.astype(volume.dtype), source, order=0, mode="nearest")
    labels = labels.astype(patch.labels.dtype)
    weights = map_coordinates(patch.weights, source, order=0, mode="nearest")
    for coordinate, size in zip(source, patch.volume.shape, strict=True):
        weights = jnp.where((coordinate >= 0) & (coordinate <= size - 1), weights, 0.0)
    patch = dataclasses.replace(patch, volume=volume, labels=labels, weights=weights)
    return _turned_wedge(patch, matrix)


def add_noise(patch: Batch, key: Key, strength: float) -> Batch:
    """White noise as this acquisition would have measured it."""
    by_noise, by_strength = jax.random.split(key)
    noise = jax.random.normal(by_noise, patch.volume.shape, patch.volume.dtype)
    if patch.wedge is not None:
        noise = patch.wedge.apply(noise)
    scale = jax.random.uniform(by_strength, maxval=strength).astype(noise.dtype)
    return dataclasses.replace(patch, volume=patch.volume + scale * noise)


def _spread(volume: Volume) -> jax.Array:
    return jnp.sqrt(jnp.var(volume) + 1e-12)


def narrow_wedge(patch: Batch, key: Key, angles: tuple[float, float]) -> Batch:
    """The patch as a tomogram of a smaller tilt range shows it, at unchanged contrast.

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
    volume = narrowed.apply(patch.volume)
    volume = volume * (_spread(patch.volume) / _spread(volume))
    return dataclasses.replace(patch, volume=volume, wedge=narrowed)


def scale_amplitudes(patch: Batch, key: Key, strength: float, terms: int = 4) -> Batch:
    """A random smooth radial gain on the Fourier amplitudes, like another microscope's transfer.

    The logarithm of the gain is a random cosine series in ``|k|``; the mean of the patch is kept.
    """
    k = fourier.radius(patch.volume.shape)
    coefficients = strength * jax.random.normal(key, (terms,))
    log_gain = sum(
        coefficients[n] * (jnp.cos(jnp.pi * (n + 1) * k / k.max()) - 1) for n in range(terms)
    )
    spectrum = fourier.rfftn(patch.volume)
    volume = fourier.irfftn(spectrum * jnp.exp(log_gain).astype(spectrum.dtype), patch.volume.shape)
    mean = patch.volume.mean()
    volume = mean + (volume - mean) * (_spread(patch.volume) / _spread(volume))
    return dataclasses.replace(patch, volume=volume)


def drift(patch: Batch, key: Key, strength: float) -> Batch:
    """A random gain, offset and linear gradient of the brightness."""
    gain, *offsets = strength * jax.random.normal(key, (5,), patch.volume.dtype)
    volume = patch.volume * jnp.exp(gain) + offsets[0]
    for axis, slope in enumerate(offsets[1:]):
        size = volume.shape[axis]
        ramp = jnp.linspace(-1.0, 1.0, size, dtype=volume.dtype)
        volume = volume + slope * ramp.reshape([size if a == axis else 1 for a in range(3)])
    return dataclasses.replace(patch, volume=volume)


def blank_cuboids(patch: Batch, key: Key, most: int = 3) -> Batch:
    """Up to three cuboids, each edge up to a third of the patch, set to 0 (the median)."""
    by_count, by_edge, by_origin = jax.random.split(key, 3)
    shape = patch.volume.shape
    count = jax.random.randint(by_count, (), 1, most + 1)
    edges = jax.random.uniform(by_edge, (most, 3), minval=0.05, maxval=1 / 3)
    origins = jax.random.uniform(by_origin, (most, 3)) * (1 - edges)
    volume = patch.volume
    for number in range(most):
        inside = number < count
        for axis, size in enumerate(shape):
            position = (jnp.arange(size, dtype=jnp.float32) + 0.5) / size - origins[number, axis]
            within = (position >= 0) & (position < edges[number, axis])
            inside = inside & within.reshape([size if a == axis else 1 for a in range(3)])
        volume = jnp.where(inside, 0.0, volume)
    return dataclasses.replace(patch, volume=volume)
