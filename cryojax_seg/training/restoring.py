"""Makes examples without labels, from which a restorer learns."""

from collections.abc import Sequence

import numpy as np

from cryojax_seg.core.blocks import Readable, random_starts
from cryojax_seg.core.intensity import measured_box
from cryojax_seg.core.types import Array
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.training.example import Example


def unlabelled(
    volume: Readable,
    wedge: MissingWedge,
    halves: Sequence[Readable] | Array | None = None,
    *,
    edge: int = 128,
    count: int = 8,
    seed: int = 0,
    name: str = "tomogram",
) -> list[Example]:
    """Return a tomogram without labels as one example, or random blocks of it if it is larger.

    Blank parts of a `core.Normalized` volume are left out.

    Args:
        volume: ``(z, y, x)``, normalized; `core.Normalized` will do.
        wedge: the missing wedge of the tomogram.
        halves: two volumes of the same shape and scale, with independent noise; None without.
        edge: edge of the blocks, in voxels.
        count: number of blocks.
        seed: seed of their positions.
        name: name of the tomogram, for messages.

    >>> v = np.random.default_rng(0).normal(size=(24, 24, 24)).astype(np.float32)
    >>> [e.volume.shape for e in unlabelled(v, MissingWedge((-60.0, 60.0)))]
    [(24, 24, 24)]
    """
    box = measured_box(volume)
    shape = [s.stop - s.start for s in box]
    size = [min(edge, n) for n in shape]
    whole = float(np.prod(shape)) <= count * float(np.prod(size))
    starts = [[s.start for s in box]] if whole else random_starts(box, size, count, seed)
    edges = shape if whole else size
    examples = []
    for number, start in enumerate(starts):
        where = tuple(slice(a, a + e) for a, e in zip(start, edges, strict=True))
        block = np.asarray(volume[where], np.float32)
        pair = None
        if halves is not None:
            pair = np.stack([np.asarray(half[where], np.float32) for half in halves])
        label = name if whole else f"{name}, block {number}"
        examples.append(Example(block, wedge=wedge, halves=pair, name=label))
    return examples
