"""How much do wrong labels of the training scenes harm a network?

    python experiments/label_noise.py            # 1 CPU-hour; goes on where it stopped
    python experiments/label_noise.py --tiny     # a minute, for the tests

Networks learn from the training scenes of `benchmark_set.py`, in equally many steps, with labels
that are ``right`` or spoiled: membranes, about five voxels thick, are a voxel thicker or thinner on
either side (``dilated``, ``eroded``), lie two voxels off (``moved``), or a third of them is called
background (``missed``). Right labels score them: by average precision, and by the hidden membrane
that is found where all invent as much, as in `wedge_losses.py`. Intervals of differences resample
seeds, scenes and membranes.

Learned: too thin labels harm most. Eroded ones change the average precision by
{labels=eroded: average_precision_gain} ({labels=eroded: average_precision_gain_interval}), and the
hidden membrane that is found falls from {labels=right: recall_hidden} to
{labels=eroded: recall_hidden}. Too thick ones change it by {labels=dilated: average_precision_gain}
({labels=dilated: average_precision_gain_interval}), yet find more of the hidden membrane
({labels=dilated: recall_hidden_gain_interval}). With a third of the membranes missing it changes by
{labels=missed: average_precision_gain} ({labels=missed: average_precision_gain_interval}), and with
labels two voxels off by {labels=moved: average_precision_gain}
({labels=moved: average_precision_gain_interval}). So who is in doubt should annotate membranes too
thick rather than too thin, and need not fear to miss some.

A sceptic would say that a voxel on either side is a large error for membranes five voxels thick,
that eroded labels lose by construction where the score counts voxels, and that missed membranes
were drawn at random, where people miss those that are hardly visible.
"""

import dataclasses
import pathlib
import sys
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro
from scipy import ndimage

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import training
from experiments import networks, scoring
from experiments.benchmark_set import Case, load
from experiments.common import Rows, median, results_folder
from experiments.curves import with_seeds
from experiments.networks import Design
from experiments.scoring import INVENTIONS

KINDS = ("right", "dilated", "eroded", "missed", "moved")
TOLERATED = -0.03  # change of average precision


@dataclasses.dataclass(frozen=True)
class Config:
    """Train on labels that are wrong, and test on right ones."""

    kinds: tuple[str, ...] = KINDS
    design: Design = dataclasses.field(default_factory=lambda: Design(steps=2000))
    test: int = 16
    """number of test scenes"""
    missed: float = 1 / 3
    """share of the membranes that ``missed`` lacks"""
    seeds: tuple[int, ...] = (0, 1, 2)
    tiny: bool = False


def spoiled(kind: str, case: Case, missed: float, rng: np.random.Generator) -> np.ndarray:
    """Return the labels of a scene, wrong in this way, as a mask."""
    mask = case.membrane
    match kind:
        case "right":
            return mask
        case "dilated":
            return np.asarray(ndimage.binary_dilation(mask))
        case "eroded":
            return np.asarray(ndimage.binary_erosion(mask, border_value=1))
        case "missed":
            objects = scoring.objects_of(case)
            number = int(objects.max())
            lost = 1 + rng.permutation(number)[: round(missed * number)]
            return mask & ~np.isin(objects, lost)
        case "moved":
            way = rng.normal(size=3)
            steps = np.round(2 * way / np.linalg.norm(way)).astype(int)
            return np.asarray(ndimage.shift(mask.astype(np.uint8), steps, order=0)) > 0
    raise ValueError(f"unknown kind {kind!r}; there are {', '.join(KINDS)}")


def examples_of(kind: str, cases: list[Case], config: Config) -> list[training.Example]:
    rng = np.random.default_rng(0)
    return [
        training.Example(
            case.volume,
            spoiled(kind, case, config.missed, rng).astype(np.int32),
            wedge=case.conditions.wedge,
        )
        for case in cases
    ]


def summary(records: list[dict], truth: scoring.Truth, config: Config) -> list[dict]:
    """Return a row for each kind of labels, with its differences to right ones."""
    rows = []
    right = [r for r in records if r["labels"] == "right"]
    for kind in config.kinds:
        mine = [r for r in records if r["labels"] == kind]
        row: dict[str, Any] = {"labels": kind, **scoring.summary(mine, truth)}
        if kind != "right":
            quantities = ("average_precision", "dice", "recall_hidden")
            row |= scoring.gain_columns(mine, right, truth, *quantities)
        row["dice_of_labels"] = mine[0]["dice_of_labels"]
        rows.append({**row, "cpu_seconds": median([r["cpu_seconds"] for r in mine])})
    return rows


def draw(path: pathlib.Path, rows: list[dict], case: Case, config: Config) -> None:
    """Draw a slice of the labels of each kind, and recall over visibility and invention."""
    figure = plt.figure(figsize=(12, 6.5), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1, 1.3))
    for axis, row in zip(parts[0].subplots(1, len(rows)), rows, strict=True):
        mask = spoiled(row["labels"], case, config.missed, np.random.default_rng(0))
        axis.imshow(mask[len(mask) // 2], cmap="gray_r")
        axis.set(xticks=[], yticks=[], title=row["labels"])
    left, right = parts[1].subplots(1, 2)
    middle = (scoring.BINS[:-1] + scoring.BINS[1:]) / 2
    for number, row in enumerate(rows):
        for axis, x, key in (
            (left, middle, "recall_by_visibility"),
            (right, INVENTIONS, "recall_hidden_by_invention"),
        ):
            with_seeds(axis, x, row["curves"][key], color=f"C{number}", label=row["labels"])
    left.set(xlabel="visibility", ylabel="recall", ylim=(0, 1))
    left.legend(fontsize=8)
    right.set(xscale="log", xlabel="invented voxels for each true voxel", ylim=(0, 1))
    right.set_ylabel("recall of hidden membrane")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def agreement(cases: list[Case], examples: list[training.Example]) -> float:
    """Return the Dice of the labels with the right ones, of all scenes together."""
    given = [np.asarray(example.labels) == 1 for example in examples]
    true = [case.membrane for case in cases]
    both = sum((a & b).sum() for a, b in zip(true, given, strict=True))
    return float(2 * both / sum(mask.sum() for mask in (*true, *given)))


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(
            config, kinds=("right", "eroded"), design=networks.TINY, test=1, seeds=(0,)
        )
    rows = Rows("label_noise", dataclasses.asdict(config), config.tiny)
    design = config.design
    learned, validation = design.learned(), design.judged()
    tests = load("test", design.tier, config.test, design.edge)
    truth = scoring.Truth.of(tests)
    for seed in config.seeds:
        for kind in config.kinds:
            if rows.done(seed=seed, labels=kind):
                continue
            examples = examples_of(kind, learned, config)
            net = networks.untrained(seed, examples)
            found = networks.train(net, examples, design.settings(seed))
            values = scoring.score(found.predict, validation, tests)
            values["dice_of_labels"] = agreement(learned, examples)
            record = rows.add(
                {"seed": seed, "labels": kind}, {**values, "cpu_seconds": found.cpu_seconds}
            )
            one = scoring.summary([record], truth)
            print(
                f"seed {seed} {kind:8s} average precision {one['average_precision']:.3f}  Dice "
                f"{one['dice']:.3f}  {found.cpu_seconds:.0f} CPU-s",
                flush=True,
            )
    table = summary(rows.records, truth, config)
    draw(results_folder(config.tiny) / "label_noise.png", table, learned[0], config)
    right = [r for r in rows.records if r["labels"] == "right"]
    claims = []
    for kind in config.kinds:
        if kind != "right":
            mine = [r for r in rows.records if r["labels"] == kind]
            more = scoring.gain(mine, right, truth, "average_precision")
            name = f"average precision, {kind} labels minus right ones"
            claims.append(scoring.gained(name, more, TOLERATED))
    rows.finish(table, claims)


if __name__ == "__main__":
    main(tyro.cli(Config))
