"""How far must a method look if its number of parameters is fixed?

    python experiments/neighbourhood.py            # 22 minutes on 2 cores
    python experiments/neighbourhood.py --tiny     # under a minute: checks that it runs

The networks have nearly equal numbers of parameters and different receptive fields: convolutions of
one voxel (a learned threshold), one to eight layers of 3^3 voxels, and U-Nets of one and two
levels. All learn from the same dense labels (vesicles and sheets, tilt range +-60 degrees) in as
many steps, and are scored on unseen scenes. The width is the largest that fits the budget of
parameters. Other methods and your own MODULE:CLASS, given to ``--networks``, keep their own size.

Learned: Dice grows with the receptive field up to about four voxels, the thickness of a membrane
with its surroundings, and hardly beyond: it is {network=one voxel: dice} with one voxel,
{network=1 layer: dice}, {network=2 layers: dice} and {network=4 layers: dice} with one, two and
four layers, and {network=8 layers: dice} with eight. Negative: at this size and after so few steps,
looking farther does not help. U-Nets of one and two levels equal the layers
({network=U-Net, 1 level: dice} and {network=U-Net, 2 levels: dice}), and train in
{network=U-Net, 1 level: cpu_seconds} and {network=U-Net, 2 levels: cpu_seconds} CPU-seconds instead
of {network=4 layers: cpu_seconds} and more.

A sceptic would say that these networks had too few steps: where Dice stays so low, a network that
looks farther may only need longer to learn. Networks that converge on the scenes of
`benchmark_set.py` would answer that.
"""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import tyro
from flax import nnx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, segmenters, training
from cryojax_seg.training.methods import build, known, objective
from experiments.common import Rows, claim, interval, median, over_seeds, results_folder
from experiments.scenes import example, overlap, phantom

CLASSES = ("membrane",)
Build = Callable[[int, int], core.Segmenter]  # of width and seed


@dataclasses.dataclass(frozen=True)
class Config:
    """Compare networks of equal size and different receptive fields."""

    networks: tuple[str, ...] = (
        "one voxel",
        "1 layer",
        "2 layers",
        "4 layers",
        "8 layers",
        "U-Net, 1 level",
        "U-Net, 2 levels",
    )
    snr: float = 0.1
    edge: int = 64
    """edge of the volumes, in voxels of 10 angstrom"""
    train: int = 6
    test: int = 4
    parameters: int = 25_000
    """largest number of parameters"""
    steps: int = 200
    patch: int = 32
    seeds: tuple[int, ...] = (0, 1, 2)
    tiny: bool = False


def stack(layers: int, kernel: int) -> Build:
    def build(width: int, seed: int) -> core.Segmenter:
        return segmenters.ConvNet(
            layers, width, kernel, CLASSES, norm="instance", rngs=nnx.Rngs(seed)
        )

    return build


def pyramid(depth: int) -> Build:
    def build(width: int, seed: int) -> core.Segmenter:
        return segmenters.UNet(width, depth, classes=CLASSES, rngs=nnx.Rngs(seed))

    return build


NETWORKS = {
    "one voxel": stack(4, 1),
    "1 layer": stack(1, 3),
    "2 layers": stack(2, 3),
    "4 layers": stack(4, 3),
    "8 layers": stack(8, 3),
    "U-Net, 1 level": pyramid(1),
    "U-Net, 2 levels": pyramid(2),
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


def draw(path: pathlib.Path, rows: list[dict]) -> None:
    figure, axes = plt.subplots(figsize=(6.5, 4), layout="constrained")
    for row in rows:
        marker = "s" if row["network"].startswith("U-Net") else "o"
        low, high = row["dice_interval"] or (row["dice"], row["dice"])
        error = [[row["dice"] - low], [high - row["dice"]]]
        axes.errorbar(row["halo"], row["dice"], error, fmt=marker, capsize=3, color="#2a78d6")
        place = {"U-Net, 1 level": (-30, -34), "U-Net, 2 levels": (-44, 16)}
        axes.annotate(
            row["network"], (row["halo"], row["dice"]), place.get(row["network"], (-20, 9)),
            textcoords="offset points",
        )  # fmt: skip
    axes.set_xscale("symlog", linthresh=1)
    axes.set(xlabel="halo, voxels", ylabel="Dice on unseen scenes", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(
            config, networks=("one voxel", "2 layers"), edge=32, train=1, test=1, parameters=500,
            steps=2, seeds=(0,),
        )  # fmt: skip
    names = config.networks
    for name in names:
        if name not in NETWORKS:
            known(name)
    rows = Rows("neighbourhood", dataclasses.asdict(config), config.tiny)
    tests = [phantom(1000 + i, config.edge, config.snr) for i in range(config.test)]
    widths = {name: widest(NETWORKS[name], config.parameters) for name in names if name in NETWORKS}
    for seed in config.seeds:
        scenes = [phantom(100 * seed + i, config.edge, config.snr) for i in range(config.train)]
        examples = [example(one) for one in scenes]
        train_config = training.TrainConfig(steps=config.steps, patch=config.patch, seed=seed)
        for name in names:
            if rows.done(network=name, seed=seed):
                continue
            start = time.process_time()
            if name in NETWORKS:
                net, goal = NETWORKS[name](widths[name], seed), None
            else:
                net, goal = build(name, CLASSES, examples[0].volume, seed), objective(name)
            net = training.train(
                net, examples, train_config, objective=goal, progress=False
            ).operator
            seconds = time.process_time() - start
            counts = overlap(net, tests)
            record = rows.add(
                {"network": name, "seed": seed},
                {
                    "halo": net.halo,
                    "width": widths.get(name),
                    "parameters": parameters(net),
                    "dice": counts.dice,
                    "precision": counts.precision,
                    "recall": counts.recall,
                    "cpu_seconds": seconds,
                },
            )
            print(
                f"seed {seed} {name:16s} halo {net.halo:3d}  {record['parameters']} parameters  "
                f"Dice {record['dice'] or 0:.3f}  {seconds:.0f} CPU-s",
                flush=True,
            )
    table = []
    for name in names:
        mine = [r for r in rows.records if r["network"] == name]
        row = {key: mine[0][key] for key in ("network", "halo", "width", "parameters")}
        dice, low, high = interval([r["dice"] or 0.0 for r in mine])
        row |= {"dice": dice, "dice_interval": None if low is None else [low, high]}
        for key in ("precision", "recall"):
            row[key] = interval([r[key] for r in mine])[0]
        row["cpu_seconds"] = median([r["cpu_seconds"] for r in mine])
        table.append(row)
    draw(results_folder(config.tiny) / "neighbourhood.png", table)
    near, far = (
        {r["seed"]: r["dice"] or 0.0 for r in rows.records if r["network"] == names[end]}
        for end in (0, -1)
    )
    gains = [far[seed] - near[seed] for seed in near]
    counts = [row["parameters"] for row in table if row["network"] != "1 layer"]
    claims = [
        over_seeds("Dice: farthest look minus one voxel", gains, 0.2),
        claim("parameters: most / fewest", max(counts) / min(counts), at_most=1.25),
    ]
    rows.finish(table, claims)


if __name__ == "__main__":
    main(tyro.cli(Config))
