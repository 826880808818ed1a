"""The score on held-out annotation: mean Dice over the classes, annotated voxels only."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg.core import segmenter as core
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.core.tiling import apply_tiles
from cryojax_seg.segmenters import fit_normalization
from cryojax_seg.training.batch import Annotated

_TILE = 96


def around_annotation(example: Annotated, context: int, stride: int) -> tuple[np.ndarray, ...]:
    """Volume, labels and weights of the annotated box and `context` voxels around it.

    It starts at a multiple of the stride, so that it is segmented as the whole volume would be.
    """
    box = []
    for axis, size in enumerate(example.volume.shape):
        planes = np.flatnonzero(example.weights.any(tuple(a for a in range(3) if a != axis)))
        box.append(
            slice(max(int(planes[0]) - context, 0), min(int(planes[-1]) + 1 + context, size))
        )
    where = tuple(box)
    return example.volume[where], example.labels[where], example.weights[where]


@jax.jit
def _predicted(logits):
    return core.labels(logits)


def dice(segmenter: Segmenter, examples: Sequence[Annotated], patch: int, seed: int = 0) -> float:
    """Mean over the foreground classes of the Dice coefficient of all examples together.

    Normalisation statistics are fitted to each volume first. A class that is neither annotated nor
    predicted has no Dice and is left out; with no class left the score is 1.
    """
    overlap, total = 0.0, 0.0
    for example in examples:
        fitted = fit_normalization(segmenter, example.volume, patch=patch, seed=seed)
        volume, labels, weights = around_annotation(example, fitted.halo, fitted.stride)
        values = np.arange(1, max(len(fitted.classes), 2))[:, None]
        for where, logits in apply_tiles(fitted, volume, _TILE):
            weight = weights[where].ravel()
            if weight.any():
                predicted = np.asarray(_predicted(jnp.asarray(logits))).ravel() == values
                true = labels[where].ravel() == values
                overlap += 2 * (weight * (predicted & true)).sum(1)
                total += (weight * predicted).sum(1) + (weight * true).sum(1)
    total = np.asarray(total)
    defined = total > 0
    return float((np.asarray(overlap)[defined] / total[defined]).mean()) if defined.any() else 1.0
