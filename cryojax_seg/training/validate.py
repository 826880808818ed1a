"""Scores a segmenter on the annotated voxels that are held out, by Dice and average precision."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from cryojax_seg.core import segmenter as core
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.core.tiling import Tiling, apply_tiles, cheapest_tiling
from cryojax_seg.evaluate import Ranking, rank
from cryojax_seg.segmenters import fit_normalization
from cryojax_seg.training.config import TrainConfig
from cryojax_seg.training.example import Example

SHARE = 0.04  # of the training time is spent on validation; with compilation about 0.05
_STEP = 3.0  # a training step, forwards and backwards, costs as much as so many forward passes
_PROBES = 8  # patches on which statistics are measured, as many as for the network that is kept
_MEASURING = 0.5  # of the voxels of a validation may go into statistics of normalisation
_FEWEST = 4  # tiles that a limit too low for all the annotation allows, if they are not too small


def affordable(config: TrainConfig) -> float:
    """Return the voxels one validation may compute, so that all take `SHARE` of the training time.

    The time is counted in voxels and not measured, so that a run that is resumed, extended, or
    repeated on another machine, validates at the same steps with the same voxels.

    >>> round(affordable(TrainConfig(steps=1000, validate_every=100, batch=2, patch=48)) / 48**3)
    24
    """
    interval = min(config.validate_every, config.steps)
    return SHARE * _STEP * interval * config.patches * math.prod(config.patch_shape)


class Scores(NamedTuple):
    """Holds the means over the foreground classes, of all validation examples together.

    Attributes:
        dice: Dice of the labels.
        average_precision: of the probabilities, which no threshold can spoil. It is 1 where no
            class is annotated.
    """

    dice: float
    average_precision: float


def scores(
    segmenter: Segmenter,
    examples: Sequence[Example],
    patch: int,
    seed: int = 0,
    voxels: float | int = math.inf,
    interrupted: Callable[[], bool] = lambda: False,
) -> Scores | None:
    """Return how well a segmenter finds the classes of annotated examples.

    Normalisation statistics are fitted to each volume first. A class that is neither annotated nor
    predicted has no Dice and is left out; if no class is left, the score is 1. If the halo is wider
    than a quarter of a patch, tiles get only this much context, as patches do in training.

    Args:
        segmenter: any segmenter.
        examples: the examples that are held out.
        patch: edge of the patches of training, in voxels.
        seed: seed of the tiles that are drawn.
        voxels: number of voxels that may be computed. If all the annotation takes more, some tiles
            of it are drawn: at least one, and those that add a class first. If statistics of all
            examples would take more than half, so are the examples.
        interrupted: function that is called before every tile; True ends the validation.

    Returns:
        the scores; None if it was interrupted.
    """

    def fit(example: Example) -> Segmenter:
        volume = example.measured
        return fit_normalization(segmenter, volume, patch=patch, count=_PROBES, seed=seed)

    cost = _PROBES * patch**3
    most = int(max(1, min(_MEASURING * voxels / cost, len(examples))))
    some = _drawn(examples, most, seed)
    fitted = [fit(some[0])]
    if fitted[0] is segmenter:  # nothing has to be measured
        fitted = [segmenter] * len(examples)
    else:
        examples, voxels = some, voxels - most * cost
        fitted += [fit(e) for e in examples[1:]]
    stride = segmenter.stride
    context = min(fitted[0].halo, max(patch // 4, 1))
    context = -(-context // stride) * stride
    values = np.arange(1, max(len(segmenter.classes), 2))
    overlap, total = np.zeros(len(values)), np.zeros(len(values))
    ranked: list[Ranking | None] = [None] * len(values)
    for number, tiling in _chosen(examples, context, stride, voxels, seed):
        if interrupted():
            return None
        example = examples[number]
        ((_, (predicted, found)),) = apply_tiles(fitted[number], example.volume, tiling, _answers)
        where = _where(tiling)
        known = example.weights[where] > 0
        true, weight = example.labels[where][known], example.weights[where][known]
        predicted, found = predicted[known], found[known]
        for i, value in enumerate(values):
            overlap[i] += 2 * weight[(predicted == value) & (true == value)].sum()
            total[i] += weight[predicted == value].sum() + weight[true == value].sum()
            one = rank(found[..., value if found.shape[-1] > 1 else 0], true == value, weight)
            former = ranked[i]
            ranked[i] = one if former is None else former + one
    precisions = [r.average_precision for r in ranked if r is not None]
    return Scores(_mean(overlap[total > 0] / total[total > 0]), _mean(precisions))


def _mean(values: Any) -> float:
    """Return the mean of the values that exist; 1 if none does."""
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else 1.0


def _answers(logits: Any) -> tuple[Any, Any]:
    return core.labels(logits), core.probabilities(logits)


def _chosen(
    examples: Sequence[Example], context: int, stride: int, voxels: float | int, seed: int
) -> list[tuple[int, Tiling]]:
    """Return the tiles with annotation, or some of them, with the numbers of their examples."""
    parts = [(n, box) for n, e in enumerate(examples) for box in _parts(e, stride, context)]
    shapes = [tuple(b.stop - b.start for b in box) for _, box in parts]
    largest = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    whole = Tiling(largest, tuple(-(-n // stride) * stride for n in largest), context)
    enough = voxels >= len(parts) * math.prod(whole.padded)
    cut = cheapest_tiling(whole, stride, voxels if enough else voxels / _FEWEST)
    tiles = []
    for (number, box), shape in zip(parts, shapes, strict=True):
        example = examples[number]
        for inside in dataclasses.replace(cut, shape=shape):
            tile = dataclasses.replace(
                cut,  # so that all are of one shape, and one program serves all
                shape=tuple(i.stop - i.start for i in inside),
                origin=tuple(b.start + i.start for b, i in zip(box, inside, strict=True)),
            )
            if example.weights[_where(tile)].any():
                tiles.append((number, tile))
    most = max(1, int(min(voxels / math.prod(cut.padded), len(tiles))))
    if most == len(tiles):
        return tiles
    order = np.random.default_rng(seed).permutation(len(tiles)).tolist()
    held = [_classes(examples[n], _where(tile)) for n, tile in tiles]
    return [tiles[i] for i in _new_classes_first(order, held)[:most]]


def _where(tile: Tiling) -> tuple[slice, ...]:
    return tuple(slice(o, o + n) for o, n in zip(tile.origin, tile.shape, strict=True))


def annotated(example: Example, stride: int) -> tuple[slice, ...]:
    """Return the smallest box that holds all annotation, from multiples of the stride on.

    >>> v, w = np.zeros((8, 8, 8), np.float32), np.zeros((8, 8, 8), np.float32)
    >>> w[3, :, 5:] = 1
    >>> annotated(Example(v, v.astype(int), w), 2)
    (slice(2, 4, None), slice(0, 8, None), slice(4, 8, None))
    """
    box = []
    for axis in range(3):
        planes = np.flatnonzero(example.weights.any(tuple(a for a in range(3) if a != axis)))
        box.append(slice(int(planes[0]) // stride * stride, int(planes[-1]) + 1))
    return tuple(box)


def _parts(example: Example, stride: int, context: int) -> list[tuple[slice, ...]]:
    """Return boxes that hold all annotation, and no gaps so wide that tiles would be wasted there.

    >>> v, w = np.zeros((20, 8, 8), np.float32), np.zeros((20, 8, 8), np.float32)
    >>> w[[3, 4, 17], 2:] = 1
    >>> [box[0] for box in _parts(Example(v, v.astype(int), w), 1, 2)]
    [slice(3, 5, None), slice(17, 18, None)]
    """
    boxes = [annotated(example, stride)]
    for axis in range(3):
        boxes = [part for box in boxes for part in _divided(example, box, axis, stride, context)]
    return boxes


def _divided(
    example: Example, box: tuple[slice, ...], axis: int, stride: int, context: int
) -> list[tuple[slice, ...]]:
    """Divide a box where more planes than two tiles share as context have no annotation."""
    others = tuple(a for a in range(3) if a != axis)
    planes = np.flatnonzero(example.weights[box].any(others)) + box[axis].start
    runs = np.split(planes, np.flatnonzero(np.diff(planes) > 2 * context + stride) + 1)
    found = []
    for run in runs:
        inside = slice(int(run[0]) // stride * stride, int(run[-1]) + 1)
        found.append((*box[:axis], inside, *box[axis + 1 :]))
    return found


def _drawn(examples: Sequence[Example], most: int, seed: int) -> Sequence[Example]:
    """Return so many examples, drawn at random, those that add a class first."""
    if most >= len(examples):
        return examples
    order = np.random.default_rng(seed).permutation(len(examples)).tolist()
    held = [_classes(e, (slice(None),) * 3) for e in examples]
    return [examples[i] for i in _new_classes_first(order, held)[:most]]


def _classes(example: Example, where: tuple[slice, ...]) -> set[int]:
    """Return the labels, without background, that are annotated in a part of an example."""
    known = np.asarray(example.labels[where])[example.weights[where] > 0]
    return set(np.flatnonzero(np.bincount(known)).tolist()) - {0}


def _new_classes_first(order: Sequence[int], held: Sequence[set[int]]) -> list[int]:
    """Order numbers so that the first few of them hold as many classes as there are.

    >>> _new_classes_first([2, 1, 0], [{1}, set(), {2}])
    [2, 0, 1]
    """
    seen: set[int] = set()
    first, rest = [], []
    for number in order:
        (first if held[number] - seen else rest).append(number)
        seen |= held[number]
    return first + rest
