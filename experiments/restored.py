"""Trains and chooses the segmenters that stand behind a restorer."""

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cryojax_seg import core, evaluate, losses, segmenters, training
from cryojax_seg.training.restorers import BORDER
from experiments import networks, scoring
from experiments.benchmark_set import Case
from experiments.networks import Design, Trained

THRESHOLD, SHEET, UNET = "threshold", "sheet", "unet-fast"
SEGMENTERS = (THRESHOLD, SHEET, UNET)
Scales = Sequence[tuple[float, ...]]  # of the sheet filter, voxels


class Parts(NamedTuple):
    """Holds what belongs to the scenes to train on, to choose settings on, and to test."""

    learned: list[Any]
    judged: list[Any]
    tests: list[Any]


class Found(NamedTuple):
    """Holds how a segmenter answers, and what is recorded of it."""

    predict: scoring.Predict
    facts: dict[str, Any]


def jointly(
    restorer: core.LocalOperator, series: Parts, design: Design, factor: float, seed: int
) -> Trained:
    """Train a U-Net behind a restorer that learns on, as ``train --restorer R --joint`` does."""
    examples = [
        dataclasses.replace(one.case.example(), halves=one.halves) for one in series.learned
    ]
    goal = losses.supervised(losses.combine(losses.cross_entropy, losses.dice))
    both, goal = training.jointly(
        segmenters.thaw_normalization(restorer),
        networks.untrained(seed, examples),
        goal,
        factor,
    )
    settings = settings_of(design, seed, margin=min(BORDER, design.patch // 5))
    validation = [one.case.example() for one in series.judged[:2]]
    return networks.train(both, examples, settings, validation, goal)


def settings_of(design: Design, seed: int, **changes: Any) -> training.TrainConfig:
    """Return the settings of a U-Net's training, with six validations."""
    every = max(design.steps // 6, 1)
    return design.settings(seed, validate_every=every, **changes)


def predict(segmenter: core.Segmenter, case: Case) -> np.ndarray:
    return np.asarray(core.probabilities(core.apply(segmenter, case.volume)))[..., 0]


def precision_of(segmenter: core.Segmenter, cases: Sequence[Case]) -> float:
    """Return the average precision of all scenes together."""
    ranked = [evaluate.rank(predict(segmenter, case), case.membrane) for case in cases]
    return sum(ranked[1:], ranked[0]).average_precision or 0.0


def segmenter_of(name: str, cases: Parts, design: Design, scales: Scales, seed: int) -> Found:
    """Return a segmenter of restored scenes; the sheet filter has the best of these scales.

    The softness of the filter spreads its responses over the bins of a ranking: with 1/32 those of
    restored tomograms, where contrast is high, were all at probability 1.
    """
    start = time.process_time()
    if name == THRESHOLD:
        run = functools.partial(predict, segmenters.GlobalThreshold(0.0, 0.5))
        return Found(run, {"setting": "-", "segmenter_seconds": time.process_time() - start})
    if name == SHEET:
        options = {
            " ".join(f"{scale:g}" for scale in each): segmenters.SheetFilter(
                each, threshold=0.4, softness=1 / 16
            )
            for each in scales
        }
        setting = max(options, key=lambda key: precision_of(options[key], cases.judged))
        facts = {"setting": setting, "segmenter_seconds": time.process_time() - start}
        return Found(functools.partial(predict, options[setting]), facts)
    examples = [case.example() for case in cases.learned]
    validation = [case.example() for case in cases.judged[:2]]
    net = networks.untrained(seed, examples)
    return of_network(networks.train(net, examples, settings_of(design, seed), validation))


def of_network(found: Trained) -> Found:
    facts = {"setting": "-", "segmenter_seconds": found.cpu_seconds, "curve": found.curve}
    return Found(found.predict, facts)
