"""What does a network made for speed lose?

    python experiments/presets.py            # 11 minutes on 2 cores
    python experiments/presets.py --tiny     # under a minute: checks that it runs

The U-Nets of `segmenters.unet_preset` learn the phantoms of `method_comparison.py` (vesicles and
sheets; signal-to-noise ratio, contrast drift and tilt range drawn from all that is tested) and are
scored on an unseen scene in each of its 40 conditions. Differences are paired by seed. Speed is
that of a 96^3 volume, compilation apart, in voxels per CPU-second: on any number of cores the ratio
is the same. A fast network can afford more steps: it is trained for less time in all.

Learned: at nine times the speed the fast preset loses less than a hundredth of Dice on average,
but the average hides much: from one seed to the next the difference goes both ways by up to 0.04,
and it is the noisiest tomograms that lose (0.01 to 0.02 at ratios below 0.1) while clean ones gain.
Negative: the large preset, at a third of the speed, gains nothing in as few steps.
"""

import dataclasses
import pathlib
import sys
import time

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, evaluate
from experiments import method_comparison as comparison
from experiments.common import Rows, claim, interval, median, results_folder
from experiments.fitting import train_method

CLASSES = ("membrane",)
METHODS = {"fast": "unet-fast", "standard": "unet", "large": "unet-large"}  # as commands know them


@dataclasses.dataclass(frozen=True)
class Config:
    """The presets against each other."""

    presets: tuple[str, ...] = ("fast", "standard", "large")
    steps: int = 300
    """of the standard and the large one"""
    fast_steps: int = 1200
    """which take less than half the time of the standard one's"""
    large_seeds: int = 1
    """of the large one, which is for a GPU"""
    patch: int = 32
    edge: int = 96
    """of the volume that speed is measured on"""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    tiny: bool = False


def speed(net: core.Segmenter, edge: int) -> float:
    """Voxels a CPU-second: median of three."""
    volume = np.random.default_rng(0).normal(size=(edge,) * 3).astype(np.float32)
    run = jax.jit(lambda net, volume: net(volume))
    times = []
    for _ in range(4):
        start = time.process_time()
        run(net, volume).block_until_ready()
        times.append(time.process_time() - start)
    return volume.size / float(np.median(times[1:]))


def dice(net: core.Segmenter, tests, halo: int) -> list[float]:
    """Of each condition."""
    found = []
    for volume, truth in tests:
        fitted = comparison.fit(net, volume, halo)
        labels = np.asarray(core.labels(core.apply(fitted, volume)))
        found.append(evaluate.overlap(labels, truth)["foreground"].dice or 0.0)
    return found


def draw(path: pathlib.Path, rows: list[dict], snr: tuple[float, ...]) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for row in rows:
        seeds = f"{row['seeds']} seeds" if row["seeds"] > 1 else "1 seed"
        if row["seeds"] == max(r["seeds"] for r in rows):  # means over other scenes do not compare
            axes[0].plot(snr, row["dice_by_snr"], "o-", label=row["preset"])
        place = (row["voxels_per_cpu_second"], row["dice_minus_standard"])
        axes[1].plot(*place, "o")
        axes[1].annotate(f"{row['preset']}, {seeds}", place, (6, 6), textcoords="offset points")
    axes[0].set(xscale="log", xlabel="signal-to-noise ratio", ylabel="Dice, unseen scenes")
    axes[0].legend()
    axes[1].set(
        xscale="log",
        xlabel="voxels per CPU-second",
        ylabel="Dice minus that of standard, same seeds",
    )
    axes[1].margins(0.3)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def summary(records: list[dict], name: str, conditions: list[tuple]) -> dict:
    mine = [r for r in records if r["preset"] == name]
    mean, low, high = interval([float(np.mean(r["dice"])) for r in mine])
    by = {(r["preset"], r["seed"]): float(np.mean(r["dice"])) for r in records}
    apart = interval([by[name, r["seed"]] - by["standard", r["seed"]] for r in mine])[0]
    by_snr = {}
    for number, (snr, _, _) in enumerate(conditions):
        by_snr.setdefault(snr, []).extend(r["dice"][number] for r in mine)
    return {
        "preset": name,
        "seeds": len(mine),
        "dice": mean,
        "dice_interval": None if low is None else [low, high],
        "dice_minus_standard": apart,
        "dice_by_snr": [float(np.mean(values)) for values in by_snr.values()],
        "parameters": mine[0]["parameters"],
        "halo": mine[0]["halo"],
        "voxels_per_cpu_second": median([r["voxels_per_cpu_second"] for r in mine]),
        "cpu_seconds": median([r["cpu_seconds"] for r in mine]),
    }


def main(config: Config) -> None:
    data = comparison.Config()
    if config.tiny:
        config = dataclasses.replace(
            config,
            presets=("fast", "standard"),
            steps=2,
            fast_steps=2,
            patch=16,
            edge=32,
            seeds=(0,),
        )
        data = dataclasses.replace(data, snr=(0.1, 1.0), half_tilt=(60,), edge=32, train=1)
    conditions = comparison.conditions(data)
    rows = Rows("presets", dataclasses.asdict(config), config.tiny)
    for seed in config.seeds:
        examples = comparison.examples_of(seed, data)
        tests = [comparison.phantom(10_000 + seed, *c, data.edge) for c in conditions]
        for name in config.presets:
            if name == "large" and seed >= config.large_seeds:
                continue
            if rows.done(preset=name, seed=seed):
                continue
            net, seconds = train_method(
                METHODS[name],
                CLASSES,
                examples,
                seed,
                steps=config.fast_steps if name == "fast" else config.steps,
                patch=config.patch,
            )
            record = rows.add(
                {"preset": name, "seed": seed},
                {
                    "dice": dice(net, tests, data.halo),
                    "parameters": comparison.parameters(net),
                    "halo": net.halo,
                    "voxels_per_cpu_second": speed(net, config.edge),
                    "cpu_seconds": seconds,
                },
            )
            print(
                f"seed {seed} {name:9s} Dice {np.mean(record['dice']):.3f}  "
                f"{record['voxels_per_cpu_second'] / 1e6:.2f} M voxels per CPU-s  trained in "
                f"{seconds:.0f} CPU-s",
                flush=True,
            )
    table = [summary(rows.records, name, conditions) for name in config.presets]
    draw(results_folder(config.tiny) / "presets.png", table, data.snr)
    claims = claims_of(rows.records, table)
    rows.finish(table, claims)


def claims_of(records: list[dict], table: list[dict]) -> list[dict]:
    by = {(r["preset"], r["seed"]): float(np.mean(r["dice"])) for r in records}
    pairs = [by["fast", s] - by["standard", s] for p, s in by if p == "fast"]
    mean, low, high = interval(pairs)
    known = "" if low is None else f" (95 % from {low:.3f} to {high:.3f})"
    rate = {row["preset"]: row["voxels_per_cpu_second"] for row in table}
    spent = {row["preset"]: row["cpu_seconds"] for row in table}
    return [
        claim(f"Dice: fast minus standard{known}", mean, at_least=-0.01),
        claim("voxels per second: fast / standard", rate["fast"] / rate["standard"], at_least=8),
        claim(
            "CPU-seconds of training: fast / standard", spent["fast"] / spent["standard"], at_most=1
        ),
    ]


if __name__ == "__main__":
    main(tyro.cli(Config))
