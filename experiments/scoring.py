"""Scores methods on the fixed scenes where they invent as much, and compares them with intervals.

Each method gets its thresholds from the validation scenes: that of the highest Dice, and those at
which it invents so many voxels for each voxel of membrane, where an invention is a false voxel
farther than two voxels from any membrane.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from cryojax_seg import evaluate
from cryojax_seg.evaluate import Claim
from cryojax_seg.evaluate.ranking import bin_thresholds
from experiments.benchmark_set import Case
from experiments.common import interval, resolved

HIDDEN = 0.3  # visibility below which a membrane counts as hidden
INVENTIONS = (0.01, 0.02, 0.05, 0.1, 0.2)  # false voxels for each true one, far from any
CHOSEN = 0.05  # of the claims
TOLERANCE = 2.0  # voxels
BINS = np.linspace(0, 1, 11)  # of visibility

Predict = Callable[[Case], np.ndarray]  # the probability of membrane


@dataclasses.dataclass(frozen=True)
class Truth:
    """Holds the membranes of scenes, of which each connected component is an object.

    Attributes:
        hidden: number of hidden voxels of each object that has any.
        scene: number of the scene of each such object.
        membrane: number of voxels of membrane of each scene.
        by_bin: number of voxels of membrane in each bin of visibility.
    """

    hidden: np.ndarray
    scene: np.ndarray
    membrane: np.ndarray
    by_bin: np.ndarray

    @classmethod
    def of(cls, cases: Sequence[Case]) -> "Truth":
        sizes = [np.bincount(objects_of(c)[hidden_of(c)])[1:] for c in cases]
        sizes = [size[size > 0] for size in sizes]
        seen = np.concatenate([case.visibility[case.membrane] for case in cases])
        return cls(
            np.concatenate(sizes),
            np.repeat(np.arange(len(cases)), [len(size) for size in sizes]),
            np.array([int(case.membrane.sum()) for case in cases]),
            np.histogram(seen, BINS)[0],
        )


def hidden_of(case: Case) -> np.ndarray:
    return case.membrane & (case.visibility < HIDDEN)


def objects_of(case: Case) -> np.ndarray:
    labels: Any = ndimage.label(case.membrane, np.ones((3, 3, 3)))
    return labels[0]


def counts_of(p: np.ndarray, case: Case, thresholds: Sequence[float]) -> list[dict[str, Any]]:
    """Return the counts of a scene at each threshold."""
    hidden, objects = hidden_of(case), objects_of(case)
    size = np.bincount(objects[hidden])
    bins = np.clip(np.digitize(case.visibility[case.membrane], BINS) - 1, 0, len(BINS) - 2)
    far = np.asarray(ndimage.distance_transform_edt(~case.membrane)) > TOLERANCE
    counts = []
    for threshold in thresholds:
        found = p >= threshold
        by_object = np.bincount(objects[hidden & found], minlength=len(size))
        counts.append(
            {
                "found": int((found & case.membrane).sum()),
                "claimed": int(found.sum()),
                "invented": int((found & far).sum()),
                "by_bin": np.bincount(bins, found[case.membrane], len(BINS) - 1).tolist(),
                "by_object": by_object[1:][size[1:] > 0].tolist(),
            }
        )
    return counts


def best_threshold(ranking: evaluate.Ranking) -> float:
    """Return the threshold of the highest Dice of all scenes of a ranking together."""
    found = np.cumsum(ranking.positive[::-1])[::-1]
    claimed = found + np.cumsum(ranking.negative[::-1])[::-1]
    dice = 2 * found / np.maximum(claimed + found[0], 1e-9)
    return float(bin_thresholds()[int(dice.argmax())])


def score(predict: Predict, validation: Sequence[Case], tests: Sequence[Case]) -> dict[str, Any]:
    """Choose the thresholds in the validation scenes, and count in the test scenes."""
    known = [predict(case) for case in validation]
    pairs = list(zip(known, validation, strict=True))
    every = functools.reduce(
        evaluate.Ranking.__add__, (evaluate.rank(p, case.membrane) for p, case in pairs)
    )
    inventions = functools.reduce(
        evaluate.Ranking.__add__,
        (evaluate.rank_inventions(p, case.membrane, TOLERANCE) for p, case in pairs),
    )
    thresholds = [evaluate.threshold_of_invention(inventions, level) for level in INVENTIONS]
    chosen = thresholds[INVENTIONS.index(CHOSEN)]
    record: dict[str, Any] = {
        "threshold": best_threshold(every),
        "thresholds": thresholds,
        "validation_average_precision": every.average_precision,
        "validation_hidden": sum(int((p[hidden_of(c)] >= chosen).sum()) for p, c in pairs),
        "average_precision": [],
        "dice": [],
        "dice_in_hindsight": [],
        "counts": [],
    }
    for case in tests:
        p = predict(case)
        found = p >= record["threshold"]
        dice = 2 * (found & case.membrane).sum() / (found.sum() + case.membrane.sum())
        record["dice"].append(float(dice))
        ranking = evaluate.rank(p, case.membrane)
        record["average_precision"].append(ranking.average_precision)
        record["dice_in_hindsight"].append(ranking.best_dice)
        record["counts"].append(counts_of(p, case, thresholds))
    return record


def counted(record: dict, key: str, level: float = CHOSEN) -> np.ndarray:
    """Return a count of each scene where so much is invented; of each object for "by_object"."""
    at = INVENTIONS.index(level)
    values = [one[at][key] for one in record["counts"]]
    return np.concatenate(values) if key == "by_object" else np.array(values)


def summary(records: Sequence[dict], truth: Truth) -> dict[str, Any]:
    """Return the means over the seeds of a method, and its curves of each seed."""
    voxels = truth.membrane.sum()
    total = {
        "average_precision": [np.mean(r["average_precision"]) for r in records],
        "dice": [np.mean(r["dice"]) for r in records],
        "dice_in_hindsight": [np.mean(r["dice_in_hindsight"]) for r in records],
        "recall_hidden": [counted(r, "by_object").sum() / truth.hidden.sum() for r in records],
        "recall": [counted(r, "found").sum() / voxels for r in records],
        "precision": [
            counted(r, "found").sum() / max(counted(r, "claimed").sum(), 1) for r in records
        ],
        "invented_per_true": [counted(r, "invented").sum() / voxels for r in records],
    }
    curves = {
        "recall_by_visibility": [
            (counted(r, "by_bin").sum(0) / np.maximum(truth.by_bin, 1)).tolist() for r in records
        ],
        "recall_hidden_by_invention": [
            [float(counted(r, "by_object", v).sum() / truth.hidden.sum()) for v in INVENTIONS]
            for r in records
        ],
    }
    return {
        "seeds": len(records),
        **{key: interval(values)[0] for key, values in total.items()},
        "curves": curves,
    }


def gain(
    records: Sequence[dict], others: Sequence[dict], truth: Truth, quantity: str
) -> evaluate.Difference:
    """Return how much better the first records are than those of the same seeds of another method.

    Args:
        records: of each seed.
        others: of the other method; seeds that only one of both has are left out, and a single
            record stands for a method without seeds.
        truth: the membranes of the test scenes.
        quantity: "recall_hidden", "average_precision" or "dice".
    """
    by_seed = {r["seed"]: r for r in others}
    one = others[0] if len(others) == 1 else None
    pairs = [(r, by_seed.get(r["seed"], one)) for r in records]
    pairs = [(r, other) for r, other in pairs if other is not None]
    if quantity == "recall_hidden":
        found, other = (np.stack([counted(p[i], "by_object") for p in pairs]) for i in (0, 1))
        return evaluate.paired_difference(found, other, truth.hidden, truth.scene)
    found, other = (np.array([p[i][quantity] for p in pairs]) for i in (0, 1))
    return evaluate.paired_difference(found, other)


def gain_columns(
    records: Sequence[dict], others: Sequence[dict], truth: Truth, *quantities: str
) -> dict[str, Any]:
    """Return the `gain` in each quantity, with its interval, as columns of a row."""
    columns: dict[str, Any] = {}
    for quantity in quantities:
        more = gain(records, others, truth, quantity)
        columns[f"{quantity}_gain"] = more.mean
        columns[f"{quantity}_gain_interval"] = more.interval and list(more.interval)
    return columns


def gained(
    name: str, difference: evaluate.Difference, goal: float = 0.0, at_most: bool = False
) -> dict[str, Any]:
    """Return the claim that a difference reaches a goal, or with `at_most` stays below it."""
    return resolved(Claim(name, difference.mean, difference.interval, goal, at_most))
