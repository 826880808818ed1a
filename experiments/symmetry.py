"""Over which copies of a tomogram may predictions be averaged, and what does it cost?

    python experiments/symmetry.py            # 20 CPU-minutes, after those of `networks.py`
    python experiments/symmetry.py --tiny     # a minute, for the tests

Test-time averaging flips or rotates the volume, segments it, moves the results back and averages
the logits. The converged networks of `networks.py` segment the test tilt series of
`benchmark_set.py`, whose ranges lean by up to 5 degrees to one side: in a single pass (``none``),
by the 4 flips that keep this wedge (``symmetrized``, see `core.Symmetrized`), by all 8 ``mirrors``,
by the 4 ``quarter turns`` about the beam, two of which move the tilt axis, and by the 24 rotations
of the ``cube``. Hidden membrane is compared where all invent as much, as in `wedge_losses.py`.
Intervals of differences resample seeds, scenes and membranes.

Learned: averaging over the flips that keep the wedge pays. It adds
{average=symmetrized: average_precision_gain} of average precision
({average=symmetrized: average_precision_gain_interval}) and finds
{average=symmetrized: recall_hidden_gain} more of the hidden membrane
({average=symmetrized: recall_hidden_gain_interval}) where it invents as much, in four passes. All
eight mirrors cost twice as much; that they add anything to it, or harm where ranges lean so little,
is not resolved. Quarter turns, which move the tilt axis, find more hidden membrane than a single
pass too; whether they are worse than the flips is not resolved. The rotations of the cube turn the
wedge out of what the network has learned, and change the average precision by
{average=cube: average_precision_gain} and the recall of hidden membrane by
{average=cube: recall_hidden_gain}.

A sceptic would say that flips gain because the network is small, and that one that is trained
longer with the same flips needs them less; only one size and length of training was tried.
"""

import dataclasses
import functools
import itertools
import pathlib
import sys
import time
from typing import Literal

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, segmenters
from cryojax_seg.core.rotation import cube_rotations, rotate_on_grid
from experiments import networks, scoring
from experiments.benchmark_set import Case, load
from experiments.common import Rows, median, results_folder
from experiments.curves import with_seeds
from experiments.networks import Design
from experiments.scoring import CHOSEN, INVENTIONS

Average = Literal["none", "symmetrized", "mirrors", "quarter turns", "cube"]
AVERAGES: tuple[Average, ...] = ("none", "symmetrized", "mirrors", "quarter turns", "cube")


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure the gain and the cost of test-time averaging."""

    averages: tuple[Average, ...] = AVERAGES
    design: Design = dataclasses.field(default_factory=Design)
    """how the networks were trained"""
    test: int = 16
    """number of test scenes"""
    seeds: tuple[int, ...] = (0, 1, 2)
    tiny: bool = False


def motions_of(average: Average, wedge: core.MissingWedge) -> list[np.ndarray]:
    """Return the motions that are averaged over, as signed permutation matrices (zyx)."""
    rotations = list(cube_rotations((8, 8, 8)))
    match average:
        case "symmetrized":
            flips = wedge.symmetries()
            return [np.diag([-1 if a in flip else 1 for a in range(3)]) for flip in flips]
        case "mirrors":
            return [np.diag(signs) for signs in itertools.product((1, -1), repeat=3)]
        case "quarter turns":
            return [r for r in rotations if r[0, 0] == 1]
        case "cube":
            return rotations
    return [np.eye(3, dtype=int)]


def averaged(segmenter: core.Segmenter, volume: np.ndarray, motions: list[np.ndarray]):
    """Average the logits over motions of a cube."""
    total = np.zeros((*volume.shape, len(segmenter.classes)), np.float32)
    for matrix in motions:
        logits = core.apply(segmenter, np.asarray(rotate_on_grid(matrix, volume)[0]))
        total += np.asarray(rotate_on_grid(matrix.T, logits)[0])
    return total / len(motions)


def predict(case: Case, network: core.Segmenter, average: Average) -> np.ndarray:
    """Return the probability of membrane, averaged."""
    motions = motions_of(average, case.conditions.wedge)
    fitted = segmenters.fit_normalization(network, case.volume)
    return np.asarray(core.probabilities(averaged(fitted, case.volume, motions)))[..., 0]


def draw(path: pathlib.Path, rows: list[dict]) -> None:
    """Draw hidden membrane over invention, and the gains over the passes they cost."""
    figure, (left, *panels) = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    for number, row in enumerate(rows):
        curves = row["curves"]["recall_hidden_by_invention"]
        with_seeds(left, INVENTIONS, curves, color=f"C{number}", label=row["average"])
        for axis, quantity in zip(panels, ("average_precision", "recall_hidden"), strict=True):
            mean, ends = row.get(f"{quantity}_gain", 0.0), row.get(f"{quantity}_gain_interval")
            error = ends and [[mean - ends[0]], [ends[1] - mean]]
            axis.errorbar(row["passes"], mean, error, fmt="o", capsize=3, color=f"C{number}")
    left.set(xscale="log", xlabel="invented voxels for each true voxel (validation)")
    left.set_ylabel("recall of hidden membrane")
    left.legend(fontsize=8)
    for axis, title in zip(panels, ("average precision", "recall of hidden membrane"), strict=True):
        axis.axhline(0, color="0.7", lw=0.8)
        axis.set_xscale("log", base=2)
        axis.set(xlabel="passes of the network", title=f"{title}, minus a single pass")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def summary(records: list[dict], truth: scoring.Truth) -> list[dict]:
    """Return a row for each kind of averaging, with its differences to a single pass."""
    rows = []
    for average in dict.fromkeys(r["average"] for r in records):
        mine = [r for r in records if r["average"] == average]
        row = {"average": average, "passes": mine[0]["passes"], **scoring.summary(mine, truth)}
        if average != "none":
            single = [r for r in records if r["average"] == "none"]
            row |= scoring.gain_columns(mine, single, truth, "average_precision", "recall_hidden")
        rows.append({**row, "cpu_seconds": median([r["cpu_seconds"] for r in mine])})
    return rows


def main(config: Config) -> None:
    if config.tiny:
        few = {"averages": ("none", "symmetrized"), "test": 1, "seeds": (0,)}
        config = dataclasses.replace(config, design=networks.TINY, **few)
    rows = Rows("symmetry", dataclasses.asdict(config), config.tiny)
    design = config.design
    validation, tests = design.judged(), load("test", design.tier, config.test, design.edge)
    truth = scoring.Truth.of(tests)
    for seed in config.seeds:
        network = networks.converged(seed, design).network
        for average in config.averages:
            if rows.done(seed=seed, average=average):
                continue
            start = time.process_time()
            of_one = functools.partial(predict, network=network, average=average)
            values = scoring.score(of_one, validation, tests)
            seconds = (time.process_time() - start) / (len(validation) + len(tests))
            passes = len(motions_of(average, tests[0].conditions.wedge))
            values |= {"passes": passes, "cpu_seconds": seconds}
            record = rows.add({"seed": seed, "average": average}, values)
            one = scoring.summary([record], truth)
            print(
                f"seed {seed} {average:14s} average precision {one['average_precision']:.4f}  "
                f"recall of hidden membrane {one['recall_hidden']:.3f} at an invention of "
                f"{CHOSEN}  {seconds:.1f} CPU-s a scene",
                flush=True,
            )
    table = summary(rows.records, truth)
    draw(results_folder(config.tiny) / "symmetry.png", table)
    claims = []
    for one, other in (
        ("symmetrized", "none"),
        ("mirrors", "symmetrized"),
        ("quarter turns", "symmetrized"),
        ("cube", "symmetrized"),
    ):
        first, second = ([r for r in rows.records if r["average"] == n] for n in (one, other))
        if not first or not second:
            continue
        more = scoring.gain(first, second, truth, "average_precision")
        claims.append(scoring.gained(f"average precision, {one} minus {other}", more))
    rows.finish(table, claims)


if __name__ == "__main__":
    main(tyro.cli(Config))
