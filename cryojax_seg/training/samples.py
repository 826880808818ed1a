"""Prepares what patches are drawn from, once, and puts it on the device."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg.core.blocks import mirror
from cryojax_seg.core.operator import LocalOperator, is_local
from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.training.companions import present
from cryojax_seg.training.example import Example
from cryojax_seg.training.pool import Pool

# Array sizes are rounded up, so that a step compiled for one annotation serves the next: edges are
# rounded to multiples of this number of voxels, and lists of voxels to powers of two.
ROUNDING = 32


@register_pytree
@dataclasses.dataclass(frozen=True)
class Samples:
    """Holds the data of `draw` on the device.

    Attributes:
        arrays: companions of each tomogram by name (see `companions`), ``(z, y, x, ...)``, cropped
            to the part that patches can reach. Where patches reach beyond the volume, they are
            padded by mirror images with weight 0.
        shapes: int32 ``(tomogram, 3)``, shape of the part that patches can reach; the arrays are
            rounded up.
        voxels: int32 ``(tomogram, class, voxel, 3)``, voxels around which patches are drawn,
            followed by zeros. Those of an unlabelled tomogram are in the first class.
        counts: int32 ``(tomogram, class)``, the number of these voxels.
        wedges: the missing wedge of each tomogram in one common form, stacked; None if none is
            known.
        flips: bool ``(tomogram, 8, 3)``, the flips that leave its wedge unchanged.
        offsets: int32 ``(tomogram, 3)``, voxel 0 of the arrays in the tomogram.
        replayed: bool ``(tomogram,)``, which of them only serve for patches that are replayed.
        pool: the scenes of patches that are imaged anew (see `pool.draw_phantoms`), if any.
    """

    arrays: tuple[dict[str, Any], ...]
    shapes: Any
    voxels: Any
    counts: Any
    wedges: Any
    flips: Any
    offsets: Any
    replayed: Any
    pool: Pool | None = None


def without_examples() -> Samples:
    """Return the data of a training that draws all patches from a pool of scenes."""
    return Samples((), None, None, None, None, None, None, None)


def canonical(wedge: MissingWedge | None) -> MissingWedge:
    """Return the same wedge as numbers of fixed shapes about the y axis, for stacking.

    An unknown wedge becomes a full tilt range, as if nothing were missing.
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


def _context(example: Example, patch: tuple[int, int, int], margin: int, everywhere: bool):
    """Return the part of an example that patches can cover, as mirrored indices along each axis.

    Each axis has a tuple of the indices, a mask of those within the volume, the first index, and
    the number of indices before rounding up.
    """
    indices, drawn = [], example.drawn
    for axis, edge in enumerate(patch):
        size = example.volume.shape[axis]
        planes = np.flatnonzero(drawn.any(tuple(a for a in range(3) if a != axis)))
        start = max(int(planes[0]) - edge + 1 + margin, -margin)
        stop = min(int(planes[-1]) + edge - margin, size + margin)
        if everywhere:
            start, stop = -margin, size + margin
        short = max(edge - (stop - start), 0)
        start, stop = start - short // 2, stop + short - short // 2
        extent = stop - start
        index = np.arange(start, start + -(-extent // ROUNDING) * ROUNDING)
        folded = mirror(start, start + index.size, size)
        indices.append((folded, (index >= 0) & (index < size), start, extent))
    return indices


def exact_margin(operator: LocalOperator, patch: tuple[int, int, int]) -> int:
    """Return the halo if it is at most a quarter of the patch, else 0 (also without a halo)."""
    if not is_local(operator):  # before its statistics are fitted
        return 0
    return operator.halo if 4 * operator.halo <= min(patch) else 0


def prepare(
    examples: Sequence[Example],
    classes: tuple[str, ...],
    patch: tuple[int, int, int],
    margin: int = 0,
    limit: int = 32768,
    seed: int = 0,
    everywhere: bool = False,
    replayed: Sequence[Example] = (),
) -> Samples:
    """Check the examples and put what `draw` needs on the device.

    Args:
        examples: one or more examples, labelled or not.
        classes: classes of the segmenter; none for a restorer.
        patch: edges of the patches, in voxels.
        margin: border of a patch without loss, in voxels. Volumes are continued by mirror images,
            as in `core.apply`, so that voxels at their faces can be drawn too.
        limit: largest number of voxels per class and tomogram; of more, a random subset is kept.
        seed: seed of that subset.
        everywhere: whether to keep whole volumes, so that `draw` can take patches that nobody
            annotated.
        replayed: more examples, from which only patches that are replayed are drawn.

    Raises:
        ValueError: if there are no examples, a label has no class, or no patch would be drawn from
            an unlabelled example among labelled ones.
    """
    if not examples:
        raise ValueError("at least one example is needed")
    if 2 * margin >= min(patch):
        raise ValueError(f"a margin of {margin} voxels leaves nothing of patches of {patch}")
    own = len(examples)
    examples = [*examples, *replayed]
    labelled = any(example.labels is not None for example in examples)
    for example in examples:
        example.check_labels(classes)
        if labelled and example.labels is None and not everywhere:
            raise ValueError(
                f"{example.name}: is not labelled as other examples are, so no patch of it would "
                "be drawn; train with `unannotated` patches to use it"
            )
    rng, values = np.random.default_rng(seed), range(max(len(classes), 2))
    companions = present(examples)
    arrays, voxels, offsets, shapes = [], [], [], []
    for example in examples:
        axes = _context(example, patch, margin, everywhere)
        where = np.ix_(*[folded for folded, *_ in axes])
        within = [inside for _, inside, *_ in axes]
        inside = within[0][:, None, None] & within[1][:, None] & within[2]
        kept = {}
        for name, companion in companions.items():
            given = getattr(example, name)
            if given is None:
                given = np.broadcast_to(np.float32(0), companion.shape(example.volume.shape))
            kept[name] = companion.kept(given, where, inside)
        if labelled:  # the labels of voxels that are not annotated are arbitrary
            kept["labels"] = np.where(kept["weights"] > 0, kept["labels"], 0).astype(np.int8)
        arrays.append(kept)
        offsets.append([start for *_, start, _ in axes])
        shapes.append([extent for *_, extent in axes])
        drawn = kept["weights"] > 0 if labelled else inside & example.drawn[where]
        label = kept["labels"] if labelled else np.zeros(drawn.shape, np.int8)
        voxels.append([_some(drawn & (label == c), limit, rng) for c in values])
    wedges = [canonical(example.wedge) for example in examples]
    known = any(example.wedge is not None for example in examples)
    table, counts = _table(voxels)
    return jax.device_put(
        Samples(
            arrays=tuple(arrays),
            shapes=np.array(shapes, np.int32),
            voxels=table,
            counts=counts,
            wedges=jax.tree.map(lambda *leaves: jnp.stack(leaves), *wedges) if known else None,
            flips=np.stack([_flips(example.wedge) for example in examples]),
            offsets=np.array(offsets, np.int32),
            replayed=np.arange(len(examples)) >= own,
        )
    )


def _some(mask: np.ndarray, limit: int, rng: np.random.Generator) -> np.ndarray:
    """Return the indices ``(voxel, 3)`` of a mask, or a random subset of at most `limit`."""
    found = np.flatnonzero(mask)
    if found.size > limit:
        found = np.sort(rng.choice(found, limit, replace=False))
    return np.stack(np.unravel_index(found, mask.shape), -1)


def _table(voxels: list[list[np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels of each tomogram and class as one array, and their counts."""
    counts = np.array([[len(found) for found in classes] for classes in voxels], np.int32)
    length = 1 << int(counts.max() - 1).bit_length()
    table = np.zeros((*counts.shape, length, 3), np.int32)
    for i, classes in enumerate(voxels):
        for j, found in enumerate(classes):
            table[i, j, : len(found)] = found
    return table, counts
