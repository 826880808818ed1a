"""What does a network lose on tomograms that were recorded otherwise than those it learned from?

    python experiments/generalisation.py            # 3 CPU-hours; goes on where it stopped
    python experiments/generalisation.py --tiny     # a minute, for the tests

The training scenes of `benchmark_set.py` are divided in two halves by voxel size, contrast, tilt
range or tier (a tilt series, or a missing wedge and noise alone). A network learns from each half
in equally many steps, is calibrated on validation scenes of its side, and segments test scenes of
both sides. What counts is the average precision on one side of the network that learned from the
other, minus that of the network that learned from the same side, and the same of the calibration
error within 3 voxels of membranes. Intervals resample seeds and scenes.

Learned: faint membranes and the voxel size must be seen in training. Tested on low contrast, a
network that learned from high contrast has an average precision of
{factor=contrast; tested=low: average_precision_learned_from_the_other} instead of
{factor=contrast; tested=low: average_precision_learned_from_the_same}; the other way round nothing
is lost ({factor=contrast; tested=high: average_precision_learned_from_the_other} and
{factor=contrast; tested=high: average_precision_learned_from_the_same}). Another voxel size costs
accuracy in both directions ({factor=voxel size; tested=low: average_precision_gain}, interval
{factor=voxel size; tested=low: average_precision_gain_interval}, on small voxels, and
{factor=voxel size; tested=high: average_precision_gain}, interval
{factor=voxel size; tested=high: average_precision_gain_interval}, on large ones). ``segment``
resamples to the voxel size of the model; these networks were not given that help. Another tilt
range changes little (intervals {factor=tilt range; tested=low: average_precision_gain_interval} on
narrow ranges and {factor=tilt range; tested=high: average_precision_gain_interval} on wide ones). A
network that learned from a missing wedge and noise alone loses on simulated tilt series
({factor=tier; tested=tilt series: average_precision_gain}, interval
{factor=tier; tested=tilt series: average_precision_gain_interval}). Where average
precision falls, the calibration error mostly grows by a third to two thirds, so that probabilities
on other data are not to be trusted.

A sceptic would say that each side has 5 to 16 test scenes, in which the other conditions differ as
well; that a gap within simulated data says little of the gap to real data; and that voxels of 8 to
14 angstrom and tilts of 40 to 70 degrees are what was tried.
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

from cryojax_seg import core, evaluate, segmenters
from experiments import networks, scoring
from experiments.benchmark_set import TIERS, Case, Conditions, load
from experiments.common import Rows, resolved, results_folder
from experiments.curves import COLOURS
from experiments.networks import Design, Trained

FACTORS = ("voxel size", "contrast", "tilt range", "tier")
SIDES = ("low", "high")
TOLERATED = -0.03  # change of average precision
UNCALIBRATED = 0.02  # growth of the expected calibration error
SCORES = ("average_precision", "calibration_error")


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


def calibration(found: Trained, cases: list[Case]) -> segmenters.Recalibration:
    """Return what makes the probabilities in some scenes agree with frequencies."""
    logits = np.concatenate([found.logits(case).reshape(-1, 1) for case in cases])
    labels = np.concatenate([case.membrane.ravel().astype(int) for case in cases])
    return segmenters.fit_recalibration(logits, labels)


def score(found: Trained, to_frequencies: Any, cases: list[Case]) -> dict[str, list[float]]:
    """Return average precision and calibration error of each scene."""
    scores: dict[str, list[float]] = {name: [] for name in SCORES}
    for case in cases:
        p = np.asarray(core.probabilities(to_frequencies(found.logits(case))))
        ranked = evaluate.rank(p[..., 0], case.membrane)
        scores["average_precision"].append(ranked.average_precision or 0.0)
        truth = case.membrane.astype(np.int32)
        near = evaluate.foreground_band(truth).astype(np.float32)
        error = evaluate.expected_calibration_error(p, truth, near)
        scores["calibration_error"].append(error or 0.0)
    return scores


def matrix_of(records: list[dict], factor: str, name: str) -> dict[tuple[str, str], np.ndarray]:
    """Return a score ``(seed, scene)`` by the side of the training and that of the test."""
    found = {}
    for learned in SIDES:
        mine = [r for r in records if (r["factor"], r["learned"]) == (factor, learned)]
        for tested in SIDES:
            found[learned, tested] = np.array([r[tested][name] for r in mine])
    return found


def summary(records: list[dict], limits: dict[str, float]) -> list[dict]:
    """Return a row for each factor and side of the test, with the changes by the other training."""
    rows = []
    for factor in FACTORS:
        for tested in SIDES:
            row: dict[str, Any] = {
                "factor": factor,
                "limit": None if factor == "tier" else limits[factor],
                "tested": tested if factor != "tier" else TIERS[1 - SIDES.index(tested)],
            }
            for name in SCORES:
                matrix = matrix_of(records, factor, name)
                other = SIDES[1 - SIDES.index(tested)]
                own, foreign = matrix[tested, tested], matrix[other, tested]
                if own.size:
                    more = evaluate.paired_difference(foreign, own)
                    row |= {
                        "seeds": len(own),
                        "scenes": own.shape[1],
                        f"{name}_learned_from_the_same": float(own.mean()),
                        f"{name}_learned_from_the_other": float(foreign.mean()),
                        f"{name}_gain": more.mean,
                        f"{name}_gain_interval": more.interval and list(more.interval),
                    }
            if "seeds" in row:
                rows.append(row)
    return rows


def claims_of(rows: list[dict]) -> list[dict]:
    """Return the claims that neither average precision nor calibration suffers."""
    found = []
    for row in rows:
        where = f"by learning from the other side, {row['factor']}, tested on {row['tested']}"
        more = {}
        for name in SCORES:
            ends = row[f"{name}_gain_interval"]
            more[name] = evaluate.Difference(row[f"{name}_gain"], ends and tuple(ends))
        said = f"change of average precision {where}"
        found.append(scoring.gained(said, more["average_precision"], TOLERATED))
        worse = more["calibration_error"]
        said = f"growth of the calibration error {where}"
        goal = evaluate.Claim(said, worse.mean, worse.interval, UNCALIBRATED, at_most=True)
        found.append(resolved(goal))
    return found


def draw(path: pathlib.Path, rows: list[dict]) -> None:
    """Draw both scores of both networks on the test scenes of each side.

    The bar is the interval of the difference, drawn from the score of the same side.
    """
    figure, axes = plt.subplots(2, 1, figsize=(9, 6.5), layout="constrained", sharex=True)
    place = np.arange(len(rows))
    for name, axis in zip(SCORES, axes, strict=True):
        same, other = (
            np.array([row[f"{name}_learned_from_the_{key}"] for row in rows])
            for key in ("same", "other")
        )
        ends = [row[f"{name}_gain_interval"] or [row[f"{name}_gain"]] * 2 for row in rows]
        bar = np.abs(np.array(ends).T + same - other)
        axis.plot(place, same, "o", color=COLOURS[0], label="learned from the same side")
        axis.errorbar(
            place + 0.12, other, bar, fmt="o", color=COLOURS[1], capsize=3,
            label="learned from the other side",
        )  # fmt: skip
        axis.set_ylabel(name.replace("_", " "))
        axis.set_ylim(bottom=0)
        axis.grid(axis="y", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylim(0, 1)
    names = [f"{row['factor']}\n{row['tested']}" for row in rows]
    axes[1].set_xticks(place, names, fontsize=8)
    axes[1].set_xlabel("tested on")
    axes[0].legend(loc="lower left")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(config: Config) -> None:
    if config.tiny:
        design = dataclasses.replace(networks.TINY, scenes=2)
        config = dataclasses.replace(config, design=design, test=2, seeds=(0,))
    rows = Rows("generalisation", dataclasses.asdict(config), config.tiny)
    design = config.design
    learned = {tier: load("train", tier, design.scenes, design.edge) for tier in TIERS}
    judged = learned  # by a tiny run, whose few validation scenes may lie on one side
    if not config.tiny:
        judged = {tier: load("validation", tier, design.validation, design.edge) for tier in TIERS}
    tests = {tier: load("test", tier, config.test, design.edge) for tier in TIERS}
    limits = {factor: limit_of(factor, learned) for factor in FACTORS}
    for seed in config.seeds:
        for factor in FACTORS:
            for side in SIDES:
                if rows.done(seed=seed, factor=factor, learned=side):
                    continue
                found = learned_from(factor, side, learned, config, seed)
                limit = limits[factor]
                to_frequencies = calibration(found, side_of(factor, side, judged, limit))
                values = {
                    tested: score(found, to_frequencies, side_of(factor, tested, tests, limit))
                    for tested in SIDES
                }
                rows.add(
                    {"seed": seed, "factor": factor, "learned": side},
                    {**values, "cpu_seconds": found.cpu_seconds},
                )
                means = "  ".join(
                    f"{k}: {np.mean(v['average_precision']):.3f} "
                    f"(calibration error {np.mean(v['calibration_error']):.4f})"
                    for k, v in values.items()
                    if v["average_precision"]
                )
                print(
                    f"seed {seed} {factor}, learned from {side}: average precision {means}  "
                    f"{found.cpu_seconds:.0f} CPU-s",
                    flush=True,
                )
                jax.clear_caches()
    table = summary(rows.records, limits)
    draw(results_folder(config.tiny) / "generalisation.png", table)
    rows.finish(table, claims_of(table))


if __name__ == "__main__":
    main(tyro.cli(Config))
