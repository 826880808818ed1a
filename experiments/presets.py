"""How much accuracy does a network lose when it is made for speed?

    python experiments/presets.py            # 3 CPU-hours, after `networks.py`
    python experiments/presets.py --tiny     # a minute, for the tests

The presets ``fast`` and ``standard`` of `segmenters.unet_preset` learn from the training scenes of
`benchmark_set.py` and are scored on its test scenes. ``standard`` learns twice: in about as many
CPU-seconds as ``fast``, and in as many steps. Speed is that of a volume of 96^3 voxels without
compilation, in voxels per CPU-second, so that the ratio does not depend on the number of cores.
Intervals of differences resample seeds and scenes. ``large`` is for a GPU, and is left out.

The recorded result leaves out equal steps: ``--arms fast "standard, as long"``.

Learned: in as many CPU-seconds ``standard`` learns more: the average precision of ``fast`` is
{preset=fast: average_precision} and its own {preset=standard, as long: average_precision}, which
makes a difference of {preset=standard, as long: fast_minus_this_average_precision_gain}
({preset=standard, as long: fast_minus_this_average_precision_gain_interval}), most of it where
contrast is low. Negative: it had not converged, as its score still rose by
{preset=standard, as long: slope} in 1,000 steps, and it takes
{claim=voxels per CPU-second: fast / standard: value} times as long to segment a tomogram.

A sceptic would say that dense labels of many scenes favour the larger network, and that a few
annotated slices, for which ``fast`` is the default, may favour the smaller one.
"""

import dataclasses
import pathlib
import sys
import time
from typing import Any

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro
from flax import nnx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, segmenters, training
from experiments import networks, scoring
from experiments.benchmark_set import Case, load
from experiments.common import Rows, claim, interval, median, results_folder
from experiments.networks import Design, Trained

FAST = "fast"
EQUAL_TIME, EQUAL_STEPS = "standard, as long", "standard, as many steps"
ARMS = (FAST, EQUAL_TIME, EQUAL_STEPS)
GOALS = {EQUAL_TIME: 0.0, EQUAL_STEPS: -0.01}


@dataclasses.dataclass(frozen=True)
class Config:
    """Compare presets of the U-Net."""

    design: Design = dataclasses.field(default_factory=Design)
    """how ``fast`` is trained, and with what scenes"""
    arms: tuple[str, ...] = ARMS
    """what is trained, ``fast`` first"""
    short: int = 1000
    """steps of ``standard`` that take about as long as those of ``fast``"""
    test: int = 16
    """number of test scenes"""
    edge: int = 96
    """edge of the volume on which speed is measured, in voxels"""
    seeds: tuple[int, ...] = (0, 1, 2)
    tiny: bool = False


def parameters(segmenter: core.Segmenter) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(segmenter, nnx.Param)))


def speed(net: core.Segmenter, edge: int) -> float:
    """Return voxels per CPU-second, as the median of three runs."""
    volume = np.random.default_rng(0).normal(size=(edge,) * 3).astype(np.float32)
    run = jax.jit(lambda net, volume: net(volume))
    times = []
    for _ in range(4):
        start = time.process_time()
        run(net, volume).block_until_ready()
        times.append(time.process_time() - start)
    return volume.size / float(np.median(times[1:]))


def learned(arm: str, seed: int, config: Config, judged: list[Case]) -> Trained:
    """Return the trained network of an arm."""
    design = config.design
    if arm == FAST:
        return networks.converged(seed, design)
    design = dataclasses.replace(design, steps=config.short if arm == EQUAL_TIME else design.steps)
    examples = [case.example() for case in design.learned()]
    net = segmenters.unet_preset("standard", ("membrane",), rngs=nnx.Rngs(seed))
    settings = design.settings(seed, validate_every=max(design.steps // 6, 1))
    validation = [case.example() for case in judged[:2]]
    return networks.train(training.with_prior(net, examples), examples, settings, validation)


def summary(records: list[dict], truth: scoring.Truth, arms: tuple[str, ...]) -> list[dict]:
    """Return a row for each arm, with the difference of ``fast`` to it."""
    rows = []
    fast = [r for r in records if r["preset"] == FAST]
    for arm in arms:
        mine = [r for r in records if r["preset"] == arm]
        row: dict[str, Any] = {"preset": arm, **scoring.summary(mine, truth)}
        if arm != FAST:
            more = scoring.gain_columns(fast, mine, truth, "average_precision", "dice")
            row |= {f"fast_minus_this_{key}": value for key, value in more.items()}
        row["slope"] = interval([networks.slope(r["curve"]) for r in mine])[0]
        for key in ("parameters", "halo", "voxels_per_cpu_second", "cpu_seconds"):
            row[key] = median([r[key] for r in mine])
        row["curves"]["average_precision"] = [r["average_precision"] for r in mine]
        rows.append(row)
    return rows


def draw(path: pathlib.Path, rows: list[dict], tests: list[Case]) -> None:
    """Draw precision over contrast, and over the CPU-seconds of training."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    contrast = np.array([case.conditions.contrast for case in tests])
    order = np.argsort(contrast)
    for number, row in enumerate(rows):
        look: Any = {"color": f"C{number}", "label": row["preset"]}
        values = np.array(row["curves"]["average_precision"])
        left.plot(contrast[order], values[:, order].mean(0), "o", ms=5, **look)
        right.plot([row["cpu_seconds"]] * len(values), values.mean(1), "o", ms=5, **look)
    left.set(xlabel="contrast (standard deviations of the noise)", ylabel="average precision")
    left.set_ylim(0, 1)
    right.set(xlabel="CPU-seconds of training", ylabel="average precision, each seed")
    right.set_xlim(0, 1.2 * max(row["cpu_seconds"] for row in rows))
    left.legend(fontsize=8)
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def claims_of(records: list[dict], table: list[dict], truth: scoring.Truth) -> list[dict]:
    fast, *others = table
    mine = [r for r in records if r["preset"] == FAST]
    found = []
    for arm in (row["preset"] for row in others):
        more = scoring.gain(
            mine, [r for r in records if r["preset"] == arm], truth, "average_precision"
        )
        name = f"average precision, fast minus {arm}"
        found.append(scoring.gained(name, more, GOALS[arm]))
    ratio = fast["voxels_per_cpu_second"] / others[0]["voxels_per_cpu_second"]
    return [*found, claim("voxels per CPU-second: fast / standard", ratio, at_least=4)]


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(
            config, arms=ARMS[:2], design=networks.TINY, short=1, test=1, edge=32, seeds=(0,)
        )
    rows = Rows("presets", dataclasses.asdict(config), config.tiny)
    design = config.design
    judged, tests = design.judged(), load("test", design.tier, config.test, design.edge)
    truth = scoring.Truth.of(tests)
    for seed in config.seeds:
        for arm in config.arms:
            if rows.done(preset=arm, seed=seed):
                continue
            found = learned(arm, seed, config, judged)
            net = segmenters.fit_normalization(found.network, tests[0].volume)
            facts = {"parameters": parameters(found.network), "halo": found.network.halo}
            facts |= {"voxels_per_cpu_second": speed(net, config.edge), "curve": found.curve}
            facts |= {"cpu_seconds": found.cpu_seconds}
            values = scoring.score(found.predict, judged, tests)
            record = rows.add({"preset": arm, "seed": seed}, {**facts, **values})
            one = scoring.summary([record], truth)
            print(
                f"seed {seed} {arm:24s} average precision {one['average_precision']:.3f}  "
                f"{record['voxels_per_cpu_second'] / 1e6:.2f} M voxels per CPU-s  trained in "
                f"{found.cpu_seconds:.0f} CPU-s",
                flush=True,
            )
    table = summary(rows.records, truth, config.arms)
    draw(results_folder(config.tiny) / "presets.png", table, tests)
    rows.finish(table, claims_of(rows.records, table, truth))


if __name__ == "__main__":
    main(tyro.cli(Config))
