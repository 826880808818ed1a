"""Fits the linear vote to annotated voxels directly, in a fraction of a second."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from cryojax_seg.core.names import label_names
from cryojax_seg.evaluate import bootstrap_ratio
from cryojax_seg.segmenters import LinearVote, fit_thresholds
from cryojax_seg.training.example import Example
from cryojax_seg.training.logistic import fit_logistic

_PER_LABEL = 4000  # voxels of each label that are learned from
_PRIOR = 0.3  # standard deviation of a weight before anything is known of it
_FOLDS = 5
_TILE = 32  # pixels


def fit_vote(
    examples: Sequence[Example],
    classes: tuple[str, ...] = ("foreground",),
    radius: int = 3,
    start: LinearVote | None = None,
    seed: int = 0,
) -> LinearVote:
    """Return the linear vote of the greatest posterior probability given the annotated voxels.

    It is a logistic regression (multinomial for several classes) on the neighbourhoods of the
    voxels, whose loss is convex, so it needs neither patches nor a learning rate: L-BFGS (Liu and
    Nocedal 1989) finds its minimum within tens of products of a matrix. Voxels are weighted as they
    are annotated. The last step shifts the thresholds of the classes to those of the best Dice
    (`segmenters.fit_thresholds`).

    Args:
        examples: annotated examples; every label must be annotated somewhere.
        classes: names of the classes, background first if there are several.
        radius: of the neighbourhood, in voxels.
        start: a vote of the same radius and number of classes to begin with, which saves time.
        seed: seed of the choice of voxels, at most 4000 of each label.

    Raises:
        ValueError: naming the label that is not annotated anywhere.

    >>> noise = np.random.default_rng(0).normal(size=(9, 24, 24)).astype(np.float32)
    >>> labels = np.zeros(noise.shape, int)
    >>> labels[:, 8:16] = 1
    >>> vote = fit_vote([Example(noise + 2 * labels, labels)], radius=1)
    >>> found = np.asarray(vote(noise + 2 * labels))[1:-1, 1:-1, 1:-1, 0] > 0
    >>> bool((found == labels[1:-1, 1:-1, 1:-1]).mean() > 0.97)
    True
    """
    features, labels, weights, _ = neighbourhoods(examples, classes, radius, seed)
    count = len(classes)
    outputs = count if count > 1 else 1
    target = np.eye(max(count, 2), dtype=np.float32)[labels][:, -outputs:]
    first = None
    if start is not None and start.radius == radius and len(start.classes) == count:
        first = _parameters(start)
    kernel, bias = fit_logistic(features, target, weights, _PRIOR, start=first)
    logits = features @ kernel.astype(np.float32) + bias
    # A threshold t of the probability is a shift of the logit by log((1 - t) / t).
    limits = np.array(fit_thresholds(logits, labels, weights * len(labels) / weights.sum()))
    shift = np.log((1 - limits) / limits)
    bias = bias + (shift if outputs == 1 else np.concatenate([[0.0], shift]))
    vote = LinearVote(radius, classes=classes)
    vote.kernel[...] = jnp.asarray(kernel.reshape(vote.kernel[...].shape), jnp.float32)
    vote.threshold[...] = jnp.asarray(-bias, jnp.float32)
    return vote


def neighbourhoods(
    examples: Sequence[Example],
    classes: tuple[str, ...],
    radius: int,
    seed: int = 0,
    every: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the neighbourhoods, labels and weights of annotated voxels, some of each label.

    Args:
        examples, classes, radius, seed: as in `fit_vote`. Volumes are continued by mirror images.
        every: whether each label must be annotated somewhere.

    Returns:
        features ``(voxel, neighbour)``, labels and weights ``(voxel,)``, and places ``(voxel, 4)``:
        number of the example, z, y, x. The weights of a label sum up to those of all its annotated
        voxels.

    Raises:
        ValueError: naming the label that is not annotated anywhere.
    """
    rng, names = np.random.default_rng(seed), label_names(classes)
    places = [np.argwhere(example.weights > 0) for example in examples]
    labels = [e.labels[tuple(p.T)] for e, p in zip(examples, places, strict=True)]
    weights = [e.weights[tuple(p.T)] for e, p in zip(examples, places, strict=True)]
    number = np.repeat(np.arange(len(examples)), [len(p) for p in places])
    place, label, weight = (np.concatenate(parts) for parts in (places, labels, weights))
    chosen = []
    for value, name in enumerate(names):
        rows = np.flatnonzero(label == value)
        if not rows.size and every:
            raise ValueError(
                f"no voxel of {name} is annotated, so nothing can be told from it; paint some"
            )
        if rows.size > _PER_LABEL:
            total = weight[rows].sum()
            rows = rng.choice(rows, _PER_LABEL, replace=False)
            weight[rows] *= total / weight[rows].sum()
        chosen.append(rows)
    rows = np.sort(np.concatenate(chosen))
    edge = 2 * radius + 1
    features = np.empty((rows.size, edge**3), np.float32)
    for index, example in enumerate(examples):
        mine = np.flatnonzero(number[rows] == index)
        if mine.size:
            padded = np.pad(example.volume, radius, mode="symmetric")
            windows = np.lib.stride_tricks.sliding_window_view(padded, (edge,) * 3)
            z, y, x = place[rows[mine]].T
            features[mine] = windows[z, y, x].reshape(mine.size, -1)
    place = np.column_stack([number[rows], place[rows]])
    return features, label[rows].astype(np.int64), weight[rows].astype(np.float64), place


def _parameters(vote: LinearVote) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernel and the bias of a vote as `fit_logistic` finds them."""
    softness = float(vote.softness)
    kernel = np.asarray(vote.kernel[...], np.float64).reshape(-1, len(vote.classes)) / softness
    return kernel, -np.asarray(vote.threshold[...], np.float64) / softness


@dataclasses.dataclass(frozen=True)
class HeldOutVoxels:
    """Holds annotated voxels that were predicted by a method that had not seen them.

    Returned by `cross_validate_vote`.

    Attributes:
        logits: ``(voxel, class)``.
        labels: ``(voxel,)``, the true ones.
        found: ``(voxel,)``, the predicted ones.
        weights: ``(voxel,)``.
        tiles: ``(voxel,)``, the number of the tile of 32 x 32 pixels of a slice that each lies in.
    """

    logits: np.ndarray
    labels: np.ndarray
    found: np.ndarray
    weights: np.ndarray
    tiles: np.ndarray

    def dice(self) -> tuple[float, tuple[float, float] | None] | None:
        """Return the Dice over all classes but the background, and its 95 % interval.

        The interval is a bootstrap over tiles, as neighbouring voxels are correlated. None if there
        is nothing to find and nothing found.
        """
        true, found = self.labels > 0, self.found > 0
        top = np.bincount(self.tiles, 2 * self.weights * (true & (self.labels == self.found)))
        bottom = np.bincount(self.tiles, self.weights * (true.astype(float) + found))
        if bottom.sum() == 0:
            return None
        return float(top.sum() / bottom.sum()), bootstrap_ratio(top, bottom)


def cross_validate_vote(
    examples: Sequence[Example], classes: tuple[str, ...] = ("foreground",), radius: int = 3
) -> HeldOutVoxels | None:
    """Predict annotated voxels by votes that were fitted without their slices.

    Up to five groups of consecutive examples are left out in turn; a single example is cut into two
    halves along x that have equally many voxels of the classes. A group is left out of the result
    where the rest does not have every label.

    Args:
        examples, classes, radius: as in `fit_vote`, with one example for each annotated slice.

    Returns:
        the voxels; None if no group can be held out.

    >>> noise = np.random.default_rng(0).normal(size=(9, 64, 64)).astype(np.float32)
    >>> labels = np.zeros(noise.shape, int)
    >>> labels[:, 20:40] = 1
    >>> held = cross_validate_vote([Example(noise + 2 * labels, labels)], radius=1)
    >>> value, (low, high) = held.dice()
    >>> 0.9 < low < value < high < 1
    True
    """
    parts = []
    for number, (learned, held) in enumerate(_folds(examples)):
        try:
            vote = fit_vote(learned, classes, radius)
            features, labels, weights, places = neighbourhoods(held, classes, radius, every=False)
        except ValueError:
            continue
        logits = features @ np.asarray(vote.kernel[...]).reshape(features.shape[1], -1)
        logits = (logits - np.asarray(vote.threshold[...])) / float(vote.softness)
        found = logits.argmax(1) if len(classes) > 1 else (logits[:, 0] > 0).astype(int)
        places[:, 2:] //= _TILE
        parts.append((logits, labels, found, weights, np.insert(places, 0, number, axis=1)))
    if not parts:
        return None
    logits, labels, found, weights, places = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    tiles = np.unique(places, axis=0, return_inverse=True)[1].ravel()
    return HeldOutVoxels(logits, labels, found, weights, tiles)


def _folds(examples: Sequence[Example]) -> list[tuple[list[Example], list[Example]]]:
    """Return pairs of examples to learn from and examples that are held out."""
    if len(examples) > 1:
        groups = np.array_split(np.arange(len(examples)), min(len(examples), _FOLDS))
        return [
            ([e for i, e in enumerate(examples) if i not in group], [examples[i] for i in group])
            for group in groups
        ]
    (one,) = examples
    columns = np.argwhere((one.weights > 0) & (one.labels > 0))[:, 2]
    if not columns.size:
        return []
    left = np.arange(one.volume.shape[2]) <= np.median(columns)
    halves = []
    for side in (left, ~left):
        weights = np.where(side, one.weights, 0).astype(np.float32)
        if not weights.any():
            return []
        halves.append([dataclasses.replace(one, weights=weights)])
    return [(halves[0], halves[1]), (halves[1], halves[0])]
