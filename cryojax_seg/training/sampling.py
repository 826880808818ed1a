"""Patches around annotated voxels, drawn inside the jitted step.

The host prepares once; then a batch is a pure function of the data and a key, so the state of the
data pipeline is the step number and a resumed run sees the same patches.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg.core.blocks import mirror
from cryojax_seg.core.operator import LocalOperator, is_local
from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Key
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.training.batch import Annotated, Batch

# Array sizes are rounded up, so that a step compiled for one annotation serves the next: edges to
# multiples of this, in voxels, and lists of voxels to powers of two.
ROUNDING = 32


@register_pytree
@dataclasses.dataclass(frozen=True)
class Samples:
    """Everything `draw` needs, on the device.

    Attributes:
        volumes, labels, weights: one array ``(z, y, x)`` per tomogram, cropped to what patches
            can reach and padded by mirror images where they reach beyond (weight 0 there).
        shapes: int32 ``(tomogram, 3)``, what they can reach; the arrays are rounded up.
        voxels: int32 ``(tomogram, class, voxel, 3)``, annotated voxels; zeros follow the last.
        counts: int32 ``(tomogram, class)``, how many of them there are.
        wedges: the missing wedge of each tomogram in one common form, stacked; None if none is
            known.
        flips: bool ``(tomogram, 8, 3)``, the flips that leave its wedge unchanged.
        offsets: int32 ``(tomogram, 3)``, voxel 0 of the array in the tomogram.
        normals: int8 ``(z, y, x, 3)`` per tomogram, in units of 1/127; None if no example has any.
        halves: ``(z, y, x, 2)`` per tomogram; None unless every example has them.
        truths: ``(z, y, x)`` per tomogram; None unless every example has one.
    """

    volumes: tuple[Any, ...]
    labels: tuple[Any, ...]
    weights: tuple[Any, ...]
    shapes: Any
    voxels: Any
    counts: Any
    wedges: Any
    flips: Any
    offsets: Any
    normals: Any = None
    halves: Any = None
    truths: Any = None


def canonical(wedge: MissingWedge | None) -> MissingWedge:
    """The same wedge as numbers of fixed shapes about the y axis, so that wedges can be stacked.

    An unknown wedge becomes a full tilt range: nothing is missing as far as anybody knows.
    """
    if wedge is None:
        wedge = MissingWedge((-90.0, 90.0))
    wedge = wedge.about_y()
    return MissingWedge(
        jnp.asarray([float(a) for a in wedge.tilt_range], jnp.float32),
        "y",
        jnp.asarray(wedge.softness, jnp.float32),
        jnp.asarray(wedge.rotation, jnp.float32),
    )


def _flips(wedge: MissingWedge | None) -> np.ndarray:
    allowed = (MissingWedge((-60.0, 60.0)) if wedge is None else wedge).symmetries()
    table = np.array([[axis in axes for axis in range(3)] for axes in allowed])
    return np.tile(table, (8 // len(table), 1))  # they form a group, so there are 1, 2, 4 or 8


def _context(example: Annotated, patch: tuple[int, int, int], margin: int, everywhere: bool):
    """The part of an example that patches can reach, as indices along each axis (mirrored).

    For each axis: the indices, which of them are within the volume, the first, and how many there
    are before rounding up.
    """
    indices = []
    for axis, edge in enumerate(patch):
        size = example.volume.shape[axis]
        planes = np.flatnonzero(example.weights.any(tuple(a for a in range(3) if a != axis)))
        start = max(int(planes[0]) - edge + 1 + margin, -margin)
        stop = min(int(planes[-1]) + edge - margin, size + margin)
        if everywhere:
            start, stop = -margin, size + margin
        short = max(edge - (stop - start), 0)
        start, stop = start - short // 2, stop + short - short // 2
        reach = stop - start
        index = np.arange(start, start + -(-reach // ROUNDING) * ROUNDING)
        folded = mirror(start, start + index.size, size)
        indices.append((folded, (index >= 0) & (index < size), start, reach))
    return indices


def exact_margin(operator: LocalOperator, patch: tuple[int, int, int]) -> int:
    """The halo where it is at most a quarter of the patch, else 0 (also for one without a halo)."""
    if not is_local(operator):  # before its statistics are fitted
        return 0
    return operator.halo if 4 * operator.halo <= min(patch) else 0


def prepare(
    examples: Sequence[Annotated],
    classes: tuple[str, ...],
    patch: tuple[int, int, int],
    margin: int = 0,
    limit: int = 32768,
    seed: int = 0,
    everywhere: bool = False,
) -> Samples:
    """Checks the examples and puts what `draw` needs on the device.

    Args:
        examples: at least one.
        classes: of the segmenter; none for a restorer.
        patch: edges of the patches, voxels.
        margin: border of a patch without loss; volumes are continued by mirror images so that
            voxels at their faces can be drawn too, as `core.apply` does.
        limit: annotated voxels kept per class and tomogram (a random subset).
        seed: of that subset.
        everywhere: keep whole volumes, so that `draw` can take patches that nobody annotated.

    Raises:
        ValueError: without examples, or for labels that stand for no class.
    """
    if not examples:
        raise ValueError("at least one annotated tomogram is needed")
    if 2 * margin >= min(patch):
        raise ValueError(f"a margin of {margin} voxels leaves nothing of patches of {patch}")
    rng = np.random.default_rng(seed)
    values = max(len(classes), 2)
    arrays, voxels, offsets, shapes, normals, halves, truths = [], [], [], [], [], [], []
    has_normals = any(example.normals is not None for example in examples)
    has_halves = all(example.halves is not None for example in examples)
    has_truth = all(example.truth is not None for example in examples)
    for example in examples:
        example.check_labels(classes)
        axes = _context(example, patch, margin, everywhere)
        where = np.ix_(*[folded for folded, *_ in axes])
        real = [inside for _, inside, *_ in axes]
        inside = real[0][:, None, None] & real[1][:, None] & real[2]
        weights = np.where(inside, example.weights[where], 0).astype(np.float32)
        labels = np.where(weights > 0, example.labels[where], 0).astype(np.int8)
        arrays.append((np.asarray(example.volume[where], np.float32), labels, weights))
        offsets.append([start for *_, start, _ in axes])
        shapes.append([reach for *_, reach in axes])
        if has_normals:
            given = example.normals
            vectors = np.zeros((*weights.shape, 3)) if given is None else given[where]
            normals.append(np.rint(127 * vectors * inside[..., None]).astype(np.int8))
        if has_halves and example.halves is not None:
            halves.append(np.stack([h[where] for h in example.halves], -1).astype(np.float32))
        if has_truth and example.truth is not None:
            truths.append(np.asarray(example.truth[where], np.float32))
        per_class = []
        for value in range(values):
            found = np.flatnonzero((weights > 0) & (labels == value))
            if found.size > limit:
                found = np.sort(rng.choice(found, limit, replace=False))
            per_class.append(np.stack(np.unravel_index(found, weights.shape), -1))
        voxels.append(per_class)
    counts = np.array([[len(v) for v in per_class] for per_class in voxels], np.int32)
    room = 1 << int(counts.max() - 1).bit_length()
    table = np.zeros((*counts.shape, room, 3), np.int32)
    for i, per_class in enumerate(voxels):
        for j, found in enumerate(per_class):
            table[i, j, : len(found)] = found
    wedges = [canonical(example.wedge) for example in examples]
    known = any(example.wedge is not None for example in examples)
    volumes, labels, weights = zip(*arrays, strict=True)
    return jax.device_put(
        Samples(
            volumes=volumes,
            labels=labels,
            weights=weights,
            shapes=np.array(shapes, np.int32),
            voxels=table,
            counts=counts,
            wedges=jax.tree.map(lambda *leaves: jnp.stack(leaves), *wedges) if known else None,
            flips=np.stack([_flips(example.wedge) for example in examples]),
            offsets=np.array(offsets, np.int32),
            normals=tuple(normals) or None,
            halves=tuple(halves) or None,
            truths=tuple(truths) or None,
        )
    )


def _pick(chance: jax.Array, allowed: jax.Array) -> jax.Array:
    """One of the allowed indices, all equally likely, from a uniform number in [0, 1)."""
    rank = jnp.cumsum(allowed) - 1
    wanted = jnp.floor(chance * allowed.sum().astype(chance.dtype)).astype(rank.dtype)
    return jnp.argmax(allowed & (rank == wanted))


def _place(samples: Samples, key: Key, patch: tuple[int, int, int], margin: int):
    """Tomogram and origin of one patch: class first, then tomogram, then voxel, then jitter."""
    chance = jax.random.uniform(key, (6,))  # one call: each costs compilation time
    present = samples.counts > 0
    value = _pick(chance[0], present.any(0))
    example = _pick(chance[1], present[:, value])
    index = jnp.floor(chance[2] * samples.counts[example, value].astype(chance.dtype))
    edges = np.asarray(patch, np.int32)
    jitter = margin + jnp.floor(chance[3:] * (edges - 2 * margin).astype(np.float32))
    origin = samples.voxels[example, value, index.astype(jnp.int32)] - jitter.astype(jnp.int32)
    return example, jnp.clip(origin, 0, samples.shapes[example] - edges)


def _anywhere(samples: Samples, key: Key, patch: tuple[int, int, int]):
    """Tomogram and origin of a patch that may lie anywhere."""
    chance = jax.random.uniform(key, (4,))
    example = jnp.floor(chance[0] * samples.shapes.shape[0]).astype(jnp.int32)
    room = samples.shapes[example] - np.asarray(patch, np.int32) + 1
    return example, jnp.floor(chance[1:] * room.astype(chance.dtype)).astype(jnp.int32)


def places(
    samples: Samples,
    key: Key,
    count: int,
    patch: tuple[int, int, int],
    margin: int = 0,
    anywhere: int = 0,
) -> tuple[jax.Array, jax.Array]:
    """Which tomogram each patch of a batch comes from, and its origin in the prepared arrays."""
    found = jax.vmap(lambda k: _place(samples, k, patch, margin))(jax.random.split(key, count))
    if not anywhere:
        return found
    keys = jax.random.split(jax.random.fold_in(key, 1), anywhere)
    more = jax.vmap(lambda k: _anywhere(samples, k, patch))(keys)
    examples, origins = (jnp.concatenate(pair) for pair in zip(found, more, strict=True))
    return examples, origins


def draw(
    samples: Samples,
    key: Key,
    count: int,
    patch: tuple[int, int, int],
    margin: int = 0,
    anywhere: int = 0,
) -> tuple[Batch, jax.Array]:
    """A batch of patches, balanced over the annotated classes.

    Each patch holds an annotated voxel of a class chosen uniformly, anywhere inside its margin;
    `anywhere` more patches are drawn from the whole tomograms, annotated or not.

    Returns:
        the batch, and for each patch the flips ``(batch, 8, 3)`` that keep its wedge.
    """
    examples, origins = places(samples, key, count, patch, margin, anywhere)
    tomograms = zip(samples.volumes, samples.labels, samples.weights, strict=True)
    each: list[dict[str, Any]] = [
        {"volume": v, "labels": label, "weights": w} for v, label, w in tomograms
    ]
    more = {"normals": samples.normals, "halves": samples.halves, "truth": samples.truths}
    for name, arrays in more.items():
        for arrays_of_one, array in zip(each, arrays or (), strict=False):
            arrays_of_one[name] = array

    def cut(where):
        example, origin = where

        def patch_of(arrays):
            parts = {}
            for name, array in arrays.items():
                more = array.ndim - 3
                start = (*origin, *(0,) * more)
                parts[name] = jax.lax.dynamic_slice(array, start, (*patch, *array.shape[3:]))
            parts["labels"] = parts["labels"].astype(jnp.int32)
            if "normals" in parts:
                parts["normals"] = parts["normals"].astype(jnp.float32) / 127
            if "halves" in parts:
                parts["halves"] = jnp.moveaxis(parts["halves"], -1, 0)
            return parts

        branches = [lambda _, arrays=arrays: patch_of(arrays) for arrays in each]
        return jax.lax.switch(example, branches, None)

    # A loop and not vmap, which would cut the patch out of every tomogram and then choose.
    parts = jax.lax.map(cut, (examples, origins))
    if margin:
        inner = np.zeros(patch, np.float32)
        inner[(slice(margin, -margin),) * 3] = 1
        parts["weights"] = parts["weights"] * inner[None]
    wedge = jax.tree.map(lambda leaf: leaf[examples], samples.wedges)
    return Batch(**parts, wedge=wedge), samples.flips[examples]
