"""How much accuracy does a network lose when it is made for speed?

    python experiments/presets.py            # 11 minutes on 2 cores
    python experiments/presets.py --tiny     # under a minute: checks that it runs

The U-Nets of `segmenters.unet_preset` learn from simulated vesicles and sheets, whose noise,
contrast drift and tilt range are drawn from all tested values, and are scored on an unseen scene in
each of 40 conditions. Differences are paired by seed. Speed is in voxels of a 96^3 volume per
CPU-second. The fast network takes more steps, in less time. The recorded ``standard`` is older than
the present one: it is ``UNet(16, 2)``, and all networks learned with AdamW.

Learned: the fast preset is {claim=voxels per second: fast / standard: value} times as fast, and its
Dice differs by {claim=Dice: fast minus standard: value}
({claim=Dice: fast minus standard: interval}) from that of the standard one, so that five seeds do
not resolve whether it loses more than a hundredth. The noisiest tomograms lose while clean ones
gain. Negative: the large preset runs at a third of the speed and gains nothing in so few steps.

A sceptic would say that an equal Dice is not resolved, and that these networks were far from
converged.
"""

import dataclasses
import itertools
import pathlib
import sys
import time

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro
from flax import nnx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, evaluate, segmenters, training
from experiments.common import Rows, claim, interval, median, over_seeds, results_folder
from experiments.fitting import train_method
from experiments.scenes import tilt_range_of, vesicles

CLASSES = ("membrane",)
METHODS = {"fast": "unet-fast", "standard": "unet", "large": "unet-large"}  # as commands know them


@dataclasses.dataclass(frozen=True)
class Config:
    """Compare the presets of the U-Net."""

    presets: tuple[str, ...] = ("fast", "standard", "large")
    steps: int = 300
    """training steps of the standard and the large preset"""
    fast_steps: int = 1200
    """training steps of the fast preset, which take less than half the time of the standard one"""
    large_seeds: int = 1
    """number of seeds of the large preset, which is meant for a GPU"""
    patch: int = 32
    edge: int = 96
    """edge of the volume on which speed is measured, in voxels"""
    snr: tuple[float, ...] = (0.02, 0.05, 0.1, 0.3, 1.0)
    half_tilt: tuple[int, ...] = (90, 60, 50, 40)
    """half of the tilt range, in degrees; 90 means no wedge"""
    scene_edge: int = 48
    train: int = 6
    """number of training scenes"""
    halo: int = 8
    """largest mirrored margin of the test volumes, in voxels"""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    tiny: bool = False


def conditions_of(config: Config) -> list[tuple[float, bool, int]]:
    return list(itertools.product(config.snr, (False, True), config.half_tilt))


def examples_of(seed: int, config: Config) -> list[training.Example]:
    """Return training scenes whose conditions are drawn from the tested ones."""
    rng = np.random.default_rng(seed)
    examples = []
    for i in range(config.train):
        snr, drift, tilt = (rng.choice(v) for v in (config.snr, (False, True), config.half_tilt))
        wedge = tilt_range_of(int(tilt))
        made = vesicles(100 * seed + i, float(snr), bool(drift), int(tilt), config.scene_edge)
        examples.append(training.Example(*made, wedge=wedge))
    return examples


def fit(segmenter: core.Segmenter, volume: np.ndarray, halo: int) -> core.Segmenter:
    """Freeze the statistics of a segmenter on a volume, and limit its halo."""
    fitted = segmenters.fit_normalization(segmenter, volume)
    return segmenters.Truncated(fitted, halo) if fitted.halo > halo else fitted


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


def dice(net: core.Segmenter, tests, halo: int) -> list[float]:
    """Return the Dice in each condition."""
    found = []
    for volume, truth in tests:
        fitted = fit(net, volume, halo)
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
    if config.tiny:
        config = dataclasses.replace(
            config,
            presets=("fast", "standard"),
            steps=2,
            fast_steps=2,
            patch=16,
            edge=32,
            snr=(0.1, 1.0),
            half_tilt=(60,),
            scene_edge=32,
            train=1,
            seeds=(0,),
        )
    conditions = conditions_of(config)
    rows = Rows("presets", dataclasses.asdict(config), config.tiny)
    for seed in config.seeds:
        examples = examples_of(seed, config)
        tests = [vesicles(10_000 + seed, *c, config.scene_edge) for c in conditions]
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
                    "dice": dice(net, tests, config.halo),
                    "parameters": parameters(net),
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
    draw(results_folder(config.tiny) / "presets.png", table, config.snr)
    claims = claims_of(rows.records, table)
    rows.finish(table, claims)


def claims_of(records: list[dict], table: list[dict]) -> list[dict]:
    by = {(r["preset"], r["seed"]): float(np.mean(r["dice"])) for r in records}
    pairs = [by["fast", s] - by["standard", s] for p, s in by if p == "fast"]
    rate = {row["preset"]: row["voxels_per_cpu_second"] for row in table}
    spent = {row["preset"]: row["cpu_seconds"] for row in table}
    return [
        over_seeds("Dice: fast minus standard", pairs, -0.01),
        claim("voxels per second: fast / standard", rate["fast"] / rate["standard"], at_least=8),
        claim(
            "CPU-seconds of training: fast / standard", spent["fast"] / spent["standard"], at_most=1
        ),
    ]


if __name__ == "__main__":
    main(tyro.cli(Config))
