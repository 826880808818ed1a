"""Trains methods on restored tomograms and scores them."""

import dataclasses
from typing import NamedTuple

import numpy as np
from flax import nnx

from cryojax_seg import core, evaluate, losses, segmenters, training
from experiments.restorers import Labelled

METHODS = ("threshold", "sheet", "best sheet", "unet")
# Scales of the sheet filter, in voxels.
SCALES = {"sheet": ((1.5, 3.0),), "best sheet": ((1.5,), (2.0,), (3.0,))}
LOW = 0.3  # of visibility


@dataclasses.dataclass(frozen=True)
class Network:
    """Sets the training of the U-Net."""

    steps: int = 120
    patch: int = 32
    border: int = 6
    """border of patches in joint training with a restorer, in voxels on each side"""


class Answer(NamedTuple):
    """Holds scores of volumes, and the score from which a voxel counts as membrane."""

    scores: list[np.ndarray]
    threshold: float


def unit(volume: np.ndarray) -> np.ndarray:
    """Scale a volume so that the power that a restorer removed does not matter."""
    return ((volume - volume.mean()) / volume.std()).astype(np.float32)


def best_threshold(scores: list[np.ndarray], scenes: list[Labelled]) -> tuple[float, float]:
    """Return the threshold of highest Dice on the annotation of these scenes, and that Dice."""
    score = np.concatenate([s[one.weights > 0] for s, one in zip(scores, scenes, strict=True)])
    truth = np.concatenate([one.labels[one.weights > 0] for one in scenes])
    order = np.argsort(-score)
    dice = 2 * np.cumsum(truth[order]) / (np.arange(1, order.size + 1) + truth.sum())
    best = int(np.argmax(dice))
    return float(score[order[best]]), float(dice[best])


def sheet(scales: tuple[float, ...], volume: np.ndarray) -> np.ndarray:
    return np.asarray(core.apply(segmenters.SheetFilter(scales), volume))[..., 0]


def unet(
    examples: list[training.Example],
    network: Network,
    seed: int,
    objective: losses.Objective | None = None,
    restorer: core.LocalOperator | None = None,
) -> core.Segmenter:
    """Build a small U-Net, by itself or behind a restorer."""
    net = segmenters.UNet(width=8, classes=("membrane",), rngs=nnx.Rngs(seed))
    both = net if restorer is None else core.Chain([restorer, net])
    border = 0 if restorer is None else network.border
    settings = training.TrainConfig(
        steps=network.steps, patch=network.patch + 2 * border, margin=border, seed=seed
    )
    return training.train(both, examples, settings, objective=objective, progress=False).operator


def annotated(one: Labelled, volume: np.ndarray) -> training.Example:
    return training.Example(
        volume, one.labels, one.weights, one.noisy.wedge, halves=one.noisy.halves
    )


def answer(segmenter: core.Segmenter, volumes: list[np.ndarray]) -> Answer:
    def logits(volume: np.ndarray) -> np.ndarray:
        fitted = segmenters.fit_normalization(segmenter, volume)
        return np.asarray(core.apply(fitted, volume))[..., 0]

    return Answer([logits(v) for v in volumes], 0.0)


def found(
    method: str,
    volumes: list[np.ndarray],
    scenes: list[Labelled],
    tests: int,
    network: Network,
    seed: int,
) -> Answer:
    """Return scores of the last scenes by a method trained on the first, restored ones."""
    volumes = [unit(v) for v in volumes]
    learned = scenes[:-tests]
    if method == "unet":
        pairs = zip(learned, volumes[:-tests], strict=True)
        net = unet([annotated(one, v) for one, v in pairs], network, seed)
        return answer(net, volumes[-tests:])
    options = []
    for scale in SCALES.get(method, (None,)):
        scores = volumes if scale is None else [sheet(scale, v) for v in volumes]
        threshold, dice = best_threshold(scores[:-tests], learned)
        options.append((dice, Answer(scores[-tests:], threshold)))
    return max(options, key=lambda option: option[0])[1]


def score(answer: Answer, tests: list[Labelled], precision: float | None = None) -> dict:
    """Return the scores of all test scenes together.

    Thresholds of highest Dice may trade recall for precision differently. Therefore the scores also
    hold the recall of faint membrane at the lowest threshold with a given `precision`.
    """
    known = [one.weights > 0 for one in tests]
    values = np.concatenate([s[k] for s, k in zip(answer.scores, known, strict=True)])
    truth = np.concatenate([one.labels[k] == 1 for one, k in zip(tests, known, strict=True)])
    faint = truth & np.concatenate(
        [one.visibility[k] < LOW for one, k in zip(tests, known, strict=True)]
    )
    mask = values >= answer.threshold
    hits = float((mask & truth).sum())
    counts = evaluate.Overlap(hits, float(mask.sum()) - hits, float(truth.sum()) - hits)
    matched = None
    if precision is not None and faint.any():
        order = np.argsort(-values)
        enough = np.cumsum(truth[order]) / np.arange(1, order.size + 1) >= precision
        most = np.flatnonzero(enough)[-1] + 1 if enough.any() else 0
        matched = float(faint[order[:most]].sum() / faint.sum())
    return {
        "dice": counts.dice,
        "precision": counts.precision,
        "recall": counts.recall,
        "recall_low": float(mask[faint].mean()) if faint.any() else None,
        "recall_low_matched": matched,
    }
