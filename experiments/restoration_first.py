"""Does restoring a tomogram before it is segmented help, and whom?

    python experiments/restoration_first.py            # 12 minutes on 2 cores
    python experiments/restoration_first.py --tiny     # under a minute: checks that it runs

Each method is trained on simulated membranes whose contrast falls to 35 % across the volume (tilt
range +-60 degrees, signal-to-noise ratio 0.3, dense labels), as it is and behind each restorer, and
scored on unseen scenes. A restorer in front learns with the method.

- ``none``: the tomogram, normalized as a whole.
- ``local contrast``: mean and deviation of a Gaussian window taken out (`LocalContrast`).

Learned so far, and negative: at this noise local contrast helps nobody. It neither raises the Dice
of a threshold nor of anything else by more than 0.005: noise, not the contrast that falls, decides.
"""

import dataclasses
import pathlib
import sys

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import restore
from cryojax_seg.cli.methods import defaults, known
from cryojax_seg.simulate import Phantom, WedgeImaging, presets, simulate
from experiments.common import Rows, claim, interval, median, results_folder
from experiments.fitting import train_method
from experiments.scenes import WEDGE, example, overlap

RESTORERS = {
    "none": lambda: [],
    "local contrast": lambda: [restore.LocalContrast(scale=8.0, radius=16)],
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Methods behind restorers."""

    methods: tuple[str, ...] = ("threshold", "hysteresis", "sheet", "vote", "unet")
    snr: float = 0.3
    edge: int = 64
    """of the volumes, voxels of 10 angstrom"""
    train: int = 3
    test: int = 3
    network_steps: int = 100
    seeds: tuple[int, ...] = (0, 1, 2)
    tiny: bool = False


def drifting(seed: int, config: Config) -> Phantom:
    by_scene, by_noise = jax.random.split(jax.random.key(seed))
    scene = presets.contrast_drift(by_scene, (config.edge,) * 3, 10.0)
    return simulate(scene, WedgeImaging(snr=config.snr, wedge=WEDGE), by_noise)


def draw(path: pathlib.Path, rows: list[dict], config: Config) -> None:
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    width = 0.8 / len(RESTORERS)
    for number, restorer in enumerate(RESTORERS):
        mine = [r for r in rows if r["restorer"] == restorer]
        low = [r["dice"] - (r["dice_interval"] or [r["dice"]])[0] for r in mine]
        high = [(r["dice_interval"] or [r["dice"]])[-1] - r["dice"] for r in mine]
        place = np.arange(len(mine)) + number * width
        axis.bar(place, [r["dice"] for r in mine], width, yerr=[low, high], label=restorer)
    axis.set_xticks(np.arange(len(config.methods)) + 0.4 - width / 2, config.methods)
    axis.set(ylabel="Dice on unseen scenes", ylim=(0, None))
    axis.legend(title="restorer")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(
            config, methods=("threshold",), edge=32, train=1, test=1, seeds=(0,)
        )
    for method in config.methods:
        known(method)
    rows = Rows("restoration_first", dataclasses.asdict(config), config.tiny)
    tests = [drifting(1000 + i, config) for i in range(config.test)]
    for seed in config.seeds:
        examples = [example(drifting(100 * seed + i, config)) for i in range(config.train)]
        for method in config.methods:
            for restorer, make in RESTORERS.items():
                if rows.done(method=method, restorer=restorer, seed=seed):
                    continue
                steps = config.network_steps if method == "unet" else defaults(method).steps
                segmenter, seconds = train_method(
                    method,
                    ("membrane",),
                    examples,
                    seed,
                    steps=2 if config.tiny else steps,
                    patch=min(40, config.edge),
                    restorers=make(),
                )
                counts = overlap(segmenter, tests)
                record = rows.add(
                    {"method": method, "restorer": restorer, "seed": seed},
                    {
                        "dice": counts.dice,
                        "precision": counts.precision,
                        "recall": counts.recall,
                        "cpu_seconds": seconds,
                    },
                )
                print(
                    f"seed {seed} {method:12s} restorer {restorer}: Dice "
                    f"{record['dice'] or 0:.3f}  {seconds:.0f} CPU-s",
                    flush=True,
                )
    table = []
    for method in config.methods:
        for restorer in RESTORERS:
            mine = [r for r in rows.records if (r["method"], r["restorer"]) == (method, restorer)]
            row: dict = {"method": method, "restorer": restorer, "seeds": len(mine)}
            row["dice"], low, high = interval([r["dice"] or 0.0 for r in mine])
            row["dice_interval"] = None if low is None else [low, high]
            for key in ("precision", "recall"):
                row[key] = interval([r[key] for r in mine])[0]
            row["cpu_seconds"] = median([r["cpu_seconds"] for r in mine])
            table.append(row)
    draw(results_folder(config.tiny) / "restoration_first.png", table, config)
    dice = {(r["method"], r["restorer"]): r["dice"] for r in table}
    best = max(RESTORERS, key=lambda r: dice["threshold", r])
    claims = [
        claim(
            f"Dice that the best restorer ({best}) adds to a threshold",
            dice["threshold", best] - dice["threshold", "none"],
            at_least=0.02,
        )
    ]
    rows.finish(table, claims)


if __name__ == "__main__":
    main(tyro.cli(Config))
