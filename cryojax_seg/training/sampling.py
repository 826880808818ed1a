"""Draws patches around annotated voxels, or anywhere without labels, inside the jitted step.

A batch is a pure function of the data and a key, so the state of the data pipeline is the step
number and a resumed run sees the same patches.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg.core.types import Key
from cryojax_seg.training.companions import COMPANIONS
from cryojax_seg.training.example import Batch
from cryojax_seg.training.pool import draw_phantoms, pick
from cryojax_seg.training.samples import Samples


def _place(samples: Samples, among: Any, key: Key, patch: tuple[int, int, int], margin: int):
    """Draw the tomogram and the origin of one patch: class, tomogram, voxel and jitter in turn.

    Only the tomograms that the mask `among` marks are drawn.
    """
    chance = jax.random.uniform(key, (6,))  # one call: each costs compilation time
    present = (samples.counts > 0) & among[:, None]
    value = pick(chance[0], present.any(0))
    example = pick(chance[1], present[:, value])
    index = jnp.floor(chance[2] * samples.counts[example, value].astype(chance.dtype))
    edges = np.asarray(patch, np.int32)
    jitter = margin + jnp.floor(chance[3:] * (edges - 2 * margin).astype(np.float32))
    origin = samples.voxels[example, value, index.astype(jnp.int32)] - jitter.astype(jnp.int32)
    return example, jnp.clip(origin, 0, samples.shapes[example] - edges)


def _anywhere(samples: Samples, key: Key, patch: tuple[int, int, int]):
    """Draw the tomogram, none that is replayed, and the origin of a patch that lies anywhere."""
    chance = jax.random.uniform(key, (4,))
    example = pick(chance[0], ~samples.replayed)
    free = samples.shapes[example] - np.asarray(patch, np.int32) + 1
    return example, jnp.floor(chance[1:] * free.astype(chance.dtype)).astype(jnp.int32)


def places(
    samples: Samples,
    key: Key,
    count: int,
    patch: tuple[int, int, int],
    margin: int = 0,
    anywhere: int = 0,
    replay: int = 0,
) -> tuple[jax.Array, jax.Array]:
    """Draw the tomogram of each patch of a batch, and its origin in the prepared arrays."""

    def around(among: Any, key: Key, count: int):
        keys = jax.random.split(key, count)
        return jax.vmap(lambda k: _place(samples, among, k, patch, margin))(keys)

    groups = [around(~samples.replayed, key, count)] if count else []
    if anywhere:
        keys = jax.random.split(jax.random.fold_in(key, 1), anywhere)
        groups.append(jax.vmap(lambda k: _anywhere(samples, k, patch))(keys))
    if replay:
        groups.append(around(samples.replayed, jax.random.fold_in(key, 2), replay))
    if len(groups) == 1:
        return groups[0]
    examples, origins = (jnp.concatenate(parts) for parts in zip(*groups, strict=True))
    return examples, origins


def draw(
    samples: Samples,
    key: Key,
    count: int,
    patch: tuple[int, int, int],
    margin: int = 0,
    anywhere: int = 0,
    replay: int = 0,
    phantoms: int = 0,
) -> tuple[Batch, jax.Array]:
    """Draw a batch of patches, balanced over the annotated classes.

    Each patch holds an annotated voxel of a class chosen uniformly, anywhere inside its margin, or
    any measured voxel if nothing is labelled; `anywhere` more patches are drawn from the whole
    tomograms, annotated or not, `replay` more from the examples that are replayed, and `phantoms`
    more from the scenes of the pool. The weights of the last two are scaled so that such a patch
    counts as much as an annotated one: of a simulation every voxel is labelled, and of a tomogram
    perhaps one slice.

    Returns:
        the batch, and for each patch the flips ``(batch, 8, 3)`` that keep its wedge.
    """
    batch: Any = None
    flips: Any = None
    if count + anywhere + replay:
        batch, flips = _cut_out(samples, key, count, patch, margin, anywhere, replay)
    if samples.pool is not None and phantoms:
        more = draw_phantoms(samples.pool, jax.random.fold_in(key, 3), phantoms, patch)
        none = jnp.zeros((phantoms, 8, 3), bool)  # they have been turned already
        batch = more if batch is None else _joined(batch, more)
        flips = none if flips is None else jnp.concatenate([flips, none])
    weights = batch.weights
    if weights is None:
        return batch, flips
    if margin:
        inner = np.zeros(patch, np.float32)
        inner[(slice(margin, -margin),) * 3] = 1
        weights = weights * inner[None]
    simulated = replay + phantoms
    if count and simulated:
        total = weights.sum((1, 2, 3))
        others = total[:count].sum() / count
        factor = others * simulated / jnp.maximum(total[-simulated:].sum(), 1.0)
        scales = jnp.where(np.arange(len(total)) < len(total) - simulated, 1.0, factor)
        weights = weights * scales.astype(total.dtype)[:, None, None, None]
    return dataclasses.replace(batch, weights=weights), flips


def _joined(batch: Batch, phantoms: Batch) -> Batch:
    """Return a batch with patches of phantoms added, which have no surface normals."""
    joined = jax.tree.map(
        lambda *parts: jnp.concatenate(parts),
        *(
            Batch(one.volume, one.labels, one.weights, batch.wedge and one.wedge)
            for one in (batch, phantoms)
        ),
    )
    if batch.normals is not None:
        count = phantoms.volume.shape[0]
        none = jnp.zeros((count, *batch.normals.shape[1:]), batch.normals.dtype)
        joined = dataclasses.replace(joined, normals=jnp.concatenate([batch.normals, none]))
    return joined


def _cut_out(
    samples: Samples,
    key: Key,
    count: int,
    patch: tuple[int, int, int],
    margin: int,
    anywhere: int,
    replay: int,
) -> tuple[Batch, jax.Array]:
    """Cut patches out of the tomograms, and return them with the flips that keep their wedges."""
    examples, origins = places(samples, key, count, patch, margin, anywhere, replay)

    def cut(where):
        example, origin = where

        def patch_of(arrays):
            parts = {}
            for name, array in arrays.items():
                start = (*origin, *(0,) * (array.ndim - 3))
                block = jax.lax.dynamic_slice(array, start, (*patch, *array.shape[3:]))
                parts[name] = COMPANIONS[name].cut(block)
            return parts

        branches = [lambda _, arrays=arrays: patch_of(arrays) for arrays in samples.arrays]
        return jax.lax.switch(example, branches, None)

    # A loop and not vmap, which would cut the patch out of every tomogram and then choose.
    parts = jax.lax.map(cut, (examples, origins))
    wedge = jax.tree.map(lambda leaf: leaf[examples], samples.wedges)
    return Batch(**parts, wedge=wedge), samples.flips[examples]
