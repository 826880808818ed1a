"""Does it matter which slices of a tomogram are annotated?

    python experiments/active.py           # an hour of CPU time; goes on where it stopped
    python experiments/active.py --tiny    # a minute, for the tests

Whole slices of the middle of test tilt series of `benchmark_set.py`, and of the real microtubule of
14 protofilaments (`datasets.py`), are annotated, and the linear vote and the last layer of a
built-in model label the rest as `annotate` does. Slices are those that the page suggests one after
the other, drawn at random, or evenly spaced; the first that is suggested is drawn. The Dice is that
of the whole, with the annotation where there is some. Intervals (Student's t) are of paired
differences, over scenes, or over seeds that draw other slices of the microtubule.

Learned, of the real microtubule: after four slices the vote has a Dice of
{data=14pf; learner=vote; slices=4; way=suggested: dice} where they were suggested,
{data=14pf; learner=vote; slices=4; way=random: dice} where they were drawn, and
{data=14pf; learner=vote; slices=4; way=evenly spaced: dice} where they were evenly spaced;
`microtubule-fast` has {data=14pf; learner=microtubule-fast; slices=4; way=suggested: dice},
{data=14pf; learner=microtubule-fast; slices=4; way=random: dice} and
{data=14pf; learner=microtubule-fast; slices=4; way=evenly spaced: dice}. Negative: neither here nor
in the phantoms is any difference between the ways resolved.

A sceptic would say that one microtubule is much the same in all of its slices, and that scenes of
32 slices leave little to choose; that slices are annotated without an error; and that nobody
paints whole slices where the page also suggests boxes.
"""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any, Literal

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg.core.plain import Shape
from experiments import datasets
from experiments.annotation_loop import LEAST, Data, Loop, excerpt, microtubule
from experiments.benchmark_set import TIERS, load
from experiments.common import Rows, interval, of, over_seeds, results_folder
from experiments.curves import over_slices

Way = Literal["suggested", "random", "evenly spaced"]
WAYS: tuple[Way, ...] = ("suggested", "random", "evenly spaced")
TIER = TIERS[0]  # tilt series


@dataclasses.dataclass(frozen=True)
class Config:
    """Compare slices to annotate."""

    test: int = 12
    """number of test scenes; those with little membrane in the middle are left out"""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """seeds of the slices of the real microtubule"""
    shape: Shape = (48, 96, 96)
    """shape of the middle of a scene"""
    edge: int = 128
    """edge of the whole scenes"""
    slices: tuple[int, ...] = (2, 4, 8)
    """numbers of annotated slices"""
    tiny: bool = False


def curve(data: Data, start: str, way: Way, config: Config, seed: int) -> dict[str, float]:
    """Return the Dice after each number of slices.

    The first suggested slice is drawn, the others are those of `view.ranked`. Evenly spaced slices
    have a random phase.
    """
    rng, depth = np.random.default_rng(seed), len(data.truth)
    # A slice without any structure cannot be annotated as the first one.
    order = rng.permutation(depth)
    first = next(int(z) for z in order if (data.truth & data.known)[z].any())
    order = [first, *(int(z) for z in order if z != first)]
    phase, found, loop = rng.random(), {}, Loop(data, start)
    for count in range(1, max(config.slices) + 1):
        if way == "evenly spaced":
            places = [int(depth * (i + phase) / count) for i in range(count)]
            if count not in config.slices:
                continue
            if not (data.truth & data.known)[places].any():
                found[str(count)] = 0.0  # nothing to learn from
                continue
            loop = Loop(data, start)
            for z in places:
                loop.annotate(z)
        else:
            loop.annotate(
                loop.suggestion() if way == "suggested" and count > 1 else order[count - 1]
            )
        if way == "suggested" or count in config.slices:
            labels = loop.labels(compare=way == "suggested")
            if count in config.slices:
                found[str(count)] = loop.dice(labels)
    return found


def tomograms(config: Config) -> Iterator[tuple[Data, int]]:
    """Yield what is annotated, and the seed that draws its slices."""
    for seed, case in enumerate(load("test", TIER, config.test, config.edge)):
        data = excerpt(case, config.shape)
        if data.truth.mean() > LEAST:
            yield data, seed
    try:
        for seed in config.seeds:
            yield microtubule(), seed
    except datasets.MissingData as error:
        print(f"the real microtubule is left out: {error}")


def run(config: Config, records: Rows) -> None:
    """Measure all ways of choosing slices."""
    for data, seed in tomograms(config):
        for learner in ("vote", data.model):
            for way in WAYS:
                key = {"data": data.name, "learner": learner, "way": way, "seed": seed}
                if records.done(**key) is not None:
                    continue
                start = time.process_time()
                found = curve(data, learner, way, config, seed)
                cpu = time.process_time() - start
                records.add(key, {"dice": found, "cpu_seconds": cpu})
                print(*key.values(), found, f"{cpu:.1f} s", flush=True)


def table(records: list[dict], config: Config) -> list[dict]:
    """Return a row for each way and number of slices, with intervals over scenes or seeds."""
    found = []
    for data, learner, way in dict.fromkeys((r["data"], r["learner"], r["way"]) for r in records):
        kept = of(records, data=data, learner=learner, way=way)
        told = {"data": data, "learner": learner, "way": way, "count": len(kept)}
        for count in config.slices:
            mean, low, high = interval([r["dice"][str(count)] for r in kept])
            ends = None if low is None else [low, high]
            found.append({**told, "slices": count, "dice": mean, "dice_interval": ends})
    return found


def claims_of(records: list[dict], config: Config) -> list[dict]:
    """Return what suggestions gain."""
    found = []
    for data, learner in dict.fromkeys((r["data"], r["learner"]) for r in records):
        ours, *others = (
            [r["dice"] for r in of(records, data=data, learner=learner, way=way)] for way in WAYS
        )
        for way, theirs in zip(WAYS[1:], others, strict=True):
            # The mean over the numbers of slices, so that no number is chosen afterwards.
            gains = [
                float(np.mean([a[str(n)] - b[str(n)] for n in config.slices]))
                for a, b in zip(ours, theirs, strict=True)
            ]
            name = f"{data}, {learner}: mean Dice of suggested minus {way} slices"
            found.append(over_seeds(name, gains, 0.0))
    return found


def draw(rows: list[dict], config: Config) -> None:
    """Draw the Dice over the number of slices, a panel for each tomogram and learner."""
    names = list(dict.fromkeys((r["data"], r["learner"]) for r in rows))
    columns = -(-len(names) // 2)
    figure, axes = plt.subplots(
        2, columns, figsize=(4.2 * columns, 6.4), layout="constrained", squeeze=False
    )
    for axis, (data, learner) in zip(axes.T.ravel(), names, strict=False):
        over_slices(axis, [r for r in rows if (r["data"], r["learner"]) == (data, learner)], WAYS)
        axis.set_title(f"{data}, {learner}")
    axes[0][0].set_ylabel("Dice")
    axes[0][0].legend(fontsize=8)
    figure.savefig(results_folder(config.tiny) / "active.png", dpi=130)
    plt.close(figure)


def main(config: Config) -> None:
    if config.tiny:
        small: Any = {"test": 1, "seeds": (), "shape": (24, 40, 40), "edge": 48}
        config = dataclasses.replace(config, slices=(1, 2), **small)
    records = Rows("active", dataclasses.asdict(config), config.tiny)
    run(config, records)
    rows = table(records.records, config)
    draw(rows, config)
    records.finish(rows, claims_of(records.records, config))


if __name__ == "__main__":
    main(tyro.cli(Config))
