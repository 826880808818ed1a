"""How far must a method look if its number of parameters is fixed?

    python experiments/neighbourhood.py            # 3 CPU-hours; goes on where it stopped
    python experiments/neighbourhood.py --tiny     # a minute, for the tests

Networks of nearly as many parameters and different reach learn from the training scenes of
`benchmark_set.py` in equally many steps: convolutions of one voxel (a learned threshold), two to
eight layers of 3^3 voxels, and a U-Net of two levels. They are compared on the test scenes by
average precision, and where all invent as much; intervals resample seeds and scenes.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Callable
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
from experiments.benchmark_set import load
from experiments.common import Rows, interval, median, results_folder
from experiments.curves import with_seeds
from experiments.networks import Design

CLASSES = ("membrane",)
Build = Callable[[int, int], core.Segmenter]  # of width and seed


@dataclasses.dataclass(frozen=True)
class Config:
    """Compare networks of equal size and different reach."""

    networks: tuple[str, ...] = ("one voxel", "2 layers", "4 layers", "8 layers", "U-Net")
    """from the one that looks least far to the one that looks farthest"""
    design: Design = dataclasses.field(
        default_factory=lambda: Design(steps=1200, validation=4, patch=32)
    )
    test: int = 16
    """number of test scenes"""
    parameters: int = 10_000
    """largest number of parameters"""
    seeds: tuple[int, ...] = (0, 1, 2)
    tiny: bool = False


def stack(layers: int, kernel: int) -> Build:
    def build(width: int, seed: int) -> core.Segmenter:
        return segmenters.ConvNet(
            layers, width, kernel, CLASSES, norm="instance", rngs=nnx.Rngs(seed)
        )

    return build


def pyramid(width: int, seed: int) -> core.Segmenter:
    return segmenters.UNet(width, 2, classes=CLASSES, rngs=nnx.Rngs(seed))


NETWORKS: dict[str, Build] = {
    "one voxel": stack(4, 1),
    "2 layers": stack(2, 3),
    "4 layers": stack(4, 3),
    "8 layers": stack(8, 3),
    "U-Net": pyramid,
}


def parameters(segmenter: core.Segmenter) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(segmenter, nnx.Param)))


def widest(build: Build, budget: int) -> int:
    """Return the largest width within the budget."""
    low, high = 1, 1024
    while high - low > 1:
        middle = (low + high) // 2
        net = nnx.eval_shape(lambda w=middle: build(w, 0))
        low, high = (middle, high) if parameters(net) <= budget else (low, middle)
    return low


def summary(records: list[dict], truth: scoring.Truth, config: Config) -> list[dict]:
    """Return a row for each network, with its differences to the one that looks less far."""
    rows, before = [], None
    for name in config.networks:
        mine = [r for r in records if r["network"] == name]
        row: dict[str, Any] = {k: mine[0][k] for k in ("network", "halo", "width", "parameters")}
        row |= scoring.summary(mine, truth)
        if before is not None:
            quantities = ("average_precision", "dice", "recall_hidden")
            row |= scoring.gain_columns(mine, before, truth, *quantities)
        row["slope"] = interval([networks.slope(r["curve"]) for r in mine])[0]
        row["cpu_seconds"] = median([r["cpu_seconds"] for r in mine])
        row["curves"]["average_precision"] = [r["average_precision"] for r in mine]
        rows.append(row)
        before = mine
    return rows


def draw(path: pathlib.Path, rows: list[dict]) -> None:
    """Draw precision over reach, of each seed and on average, and recall over visibility."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    middle = (scoring.BINS[:-1] + scoring.BINS[1:]) / 2
    for number, row in enumerate(rows):
        look: Any = {"color": f"C{number}"}
        seeds = np.array(row["curves"]["average_precision"]).mean(1)
        left.plot([row["halo"]] * len(seeds), seeds, ".", ms=5, alpha=0.5, **look)
        left.plot(row["halo"], seeds.mean(), "s" if row["network"] == "U-Net" else "o", **look)
        left.annotate(
            row["network"], (row["halo"], seeds.mean()), (0, 9), textcoords="offset points",
            ha="center", fontsize=8,
        )  # fmt: skip
        values = row["curves"]["recall_by_visibility"]
        with_seeds(right, middle, values, label=row["network"], **look)
    left.set_xscale("symlog", linthresh=1)
    left.set(xlabel="halo (voxels)", ylabel="average precision", ylim=(0, 1))
    right.set(xlabel="visibility", ylabel="recall", ylim=(0, 1))
    right.set_title(f"invention {scoring.CHOSEN}", fontsize=10)
    right.legend(fontsize=8)
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(
            config, networks=("one voxel", "2 layers"), design=networks.TINY, test=1,
            parameters=500, seeds=(0,),
        )  # fmt: skip
    rows = Rows("neighbourhood", dataclasses.asdict(config), config.tiny)
    design = config.design
    examples = [case.example() for case in design.learned()]
    judged = design.judged()
    tests = load("test", design.tier, config.test, design.edge)
    truth = scoring.Truth.of(tests)
    for seed in config.seeds:
        for name in config.networks:
            if rows.done(network=name, seed=seed):
                continue
            width = widest(NETWORKS[name], config.parameters)
            net = training.with_prior(NETWORKS[name](width, seed), examples)
            settings = design.settings(seed, validate_every=max(design.steps // 6, 1))
            validation = [case.example() for case in judged[:2]]
            found = networks.train(net, examples, settings, validation)
            facts = {"halo": net.halo, "width": width, "parameters": parameters(net)}
            facts |= {"curve": found.curve, "cpu_seconds": found.cpu_seconds}
            record = rows.add(
                {"network": name, "seed": seed},
                {**facts, **scoring.score(found.predict, judged, tests)},
            )
            one = scoring.summary([record], truth)
            print(
                f"seed {seed} {name:10s} halo {net.halo:3d}  {facts['parameters']} parameters  "
                f"average precision {one['average_precision']:.3f}  {found.cpu_seconds:.0f} CPU-s",
                flush=True,
            )
            jax.clear_caches()  # programs of other networks
    table = summary(rows.records, truth, config)
    draw(results_folder(config.tiny) / "neighbourhood.png", table)
    of = {name: [r for r in rows.records if r["network"] == name] for name in config.networks}
    claims = []
    for near, far in zip(config.networks, config.networks[1:], strict=False):
        more = scoring.gain(of[far], of[near], truth, "average_precision")
        claims.append(scoring.gained(f"average precision, {far} minus {near}", more))
    rows.finish(table, claims)


if __name__ == "__main__":
    main(tyro.cli(Config))
