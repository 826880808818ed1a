"""What does a network lose on tomograms that were recorded otherwise than those it learned from?

    python experiments/generalisation.py            # 3 CPU-hours; goes on where it stopped
    python experiments/generalisation.py --tiny     # a minute, for the tests

The training scenes of `benchmark_set.py` are divided in two halves by voxel size, contrast, tilt
range or tier (a tilt series, or a missing wedge and noise alone). A network learns from each half,
in equally many steps, and segments the test scenes of both sides of the same limit. What counts is
the average precision on one side of the network that learned from the other, minus that of the
network that learned from the same side. Intervals resample seeds and scenes.
"""

import dataclasses
import pathlib
import sys
from typing import Any

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import evaluate
from experiments import networks, scoring
from experiments.benchmark_set import TIERS, Case, Conditions, load
from experiments.common import Rows, results_folder
from experiments.networks import Design, Trained

FACTORS = ("voxel size", "contrast", "tilt range", "tier")
SIDES = ("low", "high")
TOLERATED = -0.03  # change of average precision


@dataclasses.dataclass(frozen=True)
class Config:
    """Train on one half of the scenes, and test on both."""

    design: Design = dataclasses.field(default_factory=lambda: Design(steps=2000))
    test: int = 16
    """number of test scenes"""
    seeds: tuple[int, ...] = (0, 1, 2)
    tiny: bool = False


def value_of(factor: str, one: Conditions) -> float:
    match factor:
        case "voxel size":
            return one.voxel_size
        case "contrast":
            return one.contrast
    low, high = one.tilt_range
    return high - low


def side_of(factor: str, side: str, cases: dict[str, list[Case]], limit: float) -> list[Case]:
    """Return the scenes of one side of a factor; a tier is a side of its own."""
    low = side == SIDES[0]
    if factor == "tier":
        return cases[TIERS[1] if low else TIERS[0]]
    return [c for c in cases[TIERS[0]] if (value_of(factor, c.conditions) < limit) == low]


def learned_from(
    factor: str, side: str, cases: dict[str, list[Case]], config: Config, seed: int
) -> Trained:
    """Return a network that learned from half of the training scenes."""
    limit = limit_of(factor, cases)
    mine = side_of(factor, side, cases, limit)
    if factor == "tier":
        mine = mine[: max(len(mine) // 2, 1)]  # as many as of the other factors
    examples = [case.example() for case in mine]
    net = networks.untrained(seed, examples)
    return networks.train(net, examples, config.design.settings(seed))


def limit_of(factor: str, cases: dict[str, list[Case]]) -> float:
    """Return the median of a factor over the training scenes."""
    return float(np.median([value_of(factor, case.conditions) for case in cases[TIERS[0]]]))


def precisions(found: Trained, cases: list[Case]) -> list[float]:
    ranked = [evaluate.rank(found.predict(case), case.membrane) for case in cases]
    return [one.average_precision or 0.0 for one in ranked]


def matrix_of(records: list[dict], factor: str) -> dict[tuple[str, str], np.ndarray]:
    """Return the precisions ``(seed, scene)`` by the side of the training and that of the test."""
    found = {}
    for learned in SIDES:
        mine = [r for r in records if (r["factor"], r["learned"]) == (factor, learned)]
        for tested in SIDES:
            found[learned, tested] = np.array([r["precision"][tested] for r in mine])
    return found


def summary(records: list[dict], limits: dict[str, float]) -> list[dict]:
    """Return a row for each factor and side of the test, with the change by the other training."""
    rows = []
    for factor in FACTORS:
        matrix = matrix_of(records, factor)
        for tested in SIDES:
            other = SIDES[1 - SIDES.index(tested)]
            own, foreign = matrix[tested, tested], matrix[other, tested]
            if not own.size:
                continue
            more = evaluate.paired_difference(foreign, own)
            row: dict[str, Any] = {
                "factor": factor,
                "limit": None if factor == "tier" else limits[factor],
                "tested": tested if factor != "tier" else TIERS[1 - SIDES.index(tested)],
                "scenes": own.shape[1],
                "learned_from_the_same": float(own.mean()),
                "learned_from_the_other": float(foreign.mean()),
                "average_precision_gain": more.mean,
                "average_precision_gain_interval": more.interval and list(more.interval),
                "seeds": len(own),
            }
            rows.append(row)
    return rows


def draw(path: pathlib.Path, rows: list[dict]) -> None:
    """Draw the precision of both networks on the test scenes of each side."""
    figure, axis = plt.subplots(figsize=(9, 4), layout="constrained")
    for number, row in enumerate(rows):
        axis.plot([number] * 2, [row["learned_from_the_same"], row["learned_from_the_other"]],
                  color="0.7", zorder=0)  # fmt: skip
        for key, colour in (("same", "#2a78d6"), ("other", "#eda100")):
            label = f"learned from the {key} side" if number == 0 else None
            axis.plot(number, row[f"learned_from_the_{key}"], "o", color=colour, label=label)
    names = [f"{row['factor']}\n{row['tested']}" for row in rows]
    axis.set_xticks(range(len(rows)), names, fontsize=8)
    axis.set(ylabel="average precision", ylim=(0, 1))
    axis.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(config: Config) -> None:
    if config.tiny:
        design = dataclasses.replace(networks.TINY, scenes=2)
        config = dataclasses.replace(config, design=design, test=2, seeds=(0,))
    rows = Rows("generalisation", dataclasses.asdict(config), config.tiny)
    design = config.design
    learned = {tier: load("train", tier, design.scenes, design.edge) for tier in TIERS}
    tests = {tier: load("test", tier, config.test, design.edge) for tier in TIERS}
    limits = {factor: limit_of(factor, learned) for factor in FACTORS}
    for seed in config.seeds:
        for factor in FACTORS:
            for side in SIDES:
                if rows.done(seed=seed, factor=factor, learned=side):
                    continue
                found = learned_from(factor, side, learned, config, seed)
                values = {
                    tested: precisions(found, side_of(factor, tested, tests, limits[factor]))
                    for tested in SIDES
                }
                rows.add(
                    {"seed": seed, "factor": factor, "learned": side},
                    {"precision": values, "cpu_seconds": found.cpu_seconds},
                )
                means = "  ".join(f"{k}: {np.mean(v):.3f}" for k, v in values.items() if v)
                print(
                    f"seed {seed} {factor}, learned from {side}: average precision {means}  "
                    f"{found.cpu_seconds:.0f} CPU-s",
                    flush=True,
                )
                jax.clear_caches()
    table = summary(rows.records, limits)
    draw(results_folder(config.tiny) / "generalisation.png", table)
    claims = []
    for row in table:
        ends = row["average_precision_gain_interval"]
        more = evaluate.Difference(row["average_precision_gain"], ends and tuple(ends))
        name = f"change of average precision by learning from the other side, {row['factor']}"
        claims.append(scoring.gained(f"{name}, tested on {row['tested']}", more, TOLERATED))
    rows.finish(table, claims)


if __name__ == "__main__":
    main(tyro.cli(Config))
