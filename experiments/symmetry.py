"""Over which copies of a tomogram may predictions be averaged, and what does it cost?

    python experiments/symmetry.py            # 12 minutes on 2 cores
    python experiments/symmetry.py --tiny     # under a minute: checks that it runs

Test-time averaging flips or rotates the volume, segments it, moves the results back and averages
them. It is exact only for motions that leave the missing wedge unchanged; any other motion shows
the network a tomogram with another wedge, which it never saw in training. A U-Net is trained on
simulated membranes at a signal-to-noise ratio of 0.1, once for a symmetric tilt range (+-60
degrees) and once for an asymmetric one (-70 to 40), each with the flips that keep its wedge, and
averaged over

- ``none``: a single pass.
- ``symmetrized``: the flips that keep this wedge (`core.Symmetrized`), which are all 8 for the
  symmetric range and 4 for the asymmetric one.
- ``mirrors``: all 8 flips, whether or not they keep the wedge.
- ``quarter turns``: the 4 rotations about the beam, two of which move the tilt axis.
- ``cube``: all 24 rotations of the cube.

Learned: averaging gains little, less than 0.01 in Dice and a seventh of the ECE, and costs as many
passes as there are copies. Only motions that keep the wedge keep this gain: for the asymmetric
range all mirrors lose it at twice the cost, quarter turns lose more, and the rotations of the cube
lose 0.05 of Dice and a third of the recall at low visibility. For the symmetric range, whose wedge
all mirrors keep, quarter turns and the cube do no harm on average and find more membrane of low
visibility (0.44 against 0.39, at 24 passes).
"""

import dataclasses
import itertools
import pathlib
import sys
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, evaluate, segmenters, training
from cryojax_seg.core.rotation import cube_rotations, rotate_on_grid
from cryojax_seg.simulate import Phantom
from cryojax_seg.training.methods import known, objective
from experiments.common import Rows, claim, interval, results_folder
from experiments.fitting import narrow
from experiments.scenes import WEDGE, example, phantom

WEDGES = {"symmetric": WEDGE, "one-sided": core.MissingWedge((-70.0, 40.0))}
LOW = 0.3  # of visibility


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure the gain and the cost of test-time averaging."""

    snr: float = 0.1
    edge: int = 64
    """edge of the volumes, in voxels of 10 angstrom"""
    train: int = 6
    test: int = 3
    method: str = "unet"
    """method whose predictions are averaged; may be your own, with your own loss"""
    width: int = 8
    """channels of the finest level of the U-Net"""
    steps: int = 200
    patch: int = 32
    seeds: tuple[int, ...] = (0, 1, 2)
    tiny: bool = False


def diagonal(flip: tuple[int, ...]) -> np.ndarray:
    return np.diag([-1 if axis in flip else 1 for axis in range(3)])


def averages(wedge: core.MissingWedge) -> dict[str, list[np.ndarray]]:
    """Return the motions of each kind of averaging, as signed permutation matrices (zyx)."""
    rotations = list(cube_rotations((8, 8, 8)))
    return {
        "none": [np.eye(3, dtype=int)],
        "symmetrized": [diagonal(flip) for flip in wedge.symmetries()],
        "mirrors": [np.diag(signs) for signs in itertools.product((1, -1), repeat=3)],
        "quarter turns": [r for r in rotations if r[0, 0] == 1],
        "cube": rotations,
    }  # fmt: skip


def averaged(segmenter: core.Segmenter, volume: np.ndarray, motions: list[np.ndarray]):
    """Average the logits over motions of a cube."""
    total = np.zeros((*volume.shape, len(segmenter.classes)), np.float32)
    for matrix in motions:
        logits = core.apply(segmenter, np.asarray(rotate_on_grid(matrix, volume)[0]))
        total += np.asarray(rotate_on_grid(matrix.T, logits)[0])
    return total / len(motions)


def score(segmenter: core.Segmenter, motions: list[np.ndarray], tests: list[Phantom]) -> dict:
    """Return the scores of all unseen scenes together."""
    pooled = evaluate.Overlap(0.0, 0.0, 0.0)
    predicted, truth, seen, errors, seconds = [], [], [], [], []
    for one in tests:
        volume = core.normalize(np.asarray(one.density), "bright")
        fitted = segmenters.fit_normalization(segmenter, volume)
        start = time.perf_counter()
        logits = averaged(fitted, volume, motions)
        seconds.append(time.perf_counter() - start)
        label = np.asarray(one.labels == 1, np.int32)
        found = np.asarray(core.labels(logits))
        pooled = pooled + evaluate.overlap(found, label)["foreground"]
        errors.append(
            evaluate.expected_calibration_error(np.asarray(core.probabilities(logits)), label)
        )
        predicted.append(found == 1)
        truth.append(label == 1)
        seen.append(np.asarray(one.visibility))
    joined = [np.concatenate(parts) for parts in (predicted, truth, seen)]
    low = evaluate.recall_by_visibility(joined[0], joined[1], joined[2], (0.0, LOW, 1.0))[0]
    return {
        "dice": pooled.dice,
        "precision": pooled.precision,
        "recall": pooled.recall,
        "recall_low": low.recall,
        "ece": interval(errors)[0],
        "voxels_per_second": tests[0].density.size / float(np.median(seconds)),
    }


def draw(path: pathlib.Path, rows: list[dict]) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for axis, name in zip(axes, WEDGES, strict=True):
        mine = [row for row in rows if row["wedge"] == name]
        for number, row in enumerate(mine):
            gain, (low, high) = row["dice_gain"], row["dice_gain_interval"] or (0.0, 0.0)
            error = [[gain - low], [high - gain]] if row["dice_gain_interval"] else None
            axis.errorbar(row["passes"], gain, error, fmt="o", capsize=3, color="#2a78d6")
            place = (7, 16 - 12 * (number % 3))  # some lie on top of each other
            axis.annotate(row["average"], (row["passes"], gain), place, textcoords="offset points")
        axis.axhline(0, color="0.7", lw=0.8)
        axis.set_xscale("log", base=2)
        axis.set(title=f"{name} tilt range", xlabel="passes of the network", xlim=(0.8, 64))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("Dice gained over a single pass")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def summary(records: list[dict], names: list[str]) -> list[dict]:
    rows = []
    for name in names:
        single = {r["seed"]: r for r in records if (r["wedge"], r["average"]) == (name, "none")}
        for average in averages(WEDGES[name]):
            mine = [r for r in records if (r["wedge"], r["average"]) == (name, average)]
            row: dict = {"wedge": name, "average": average, "passes": mine[0]["passes"]}
            for key in ("dice", "precision", "recall", "recall_low", "ece", "voxels_per_second"):
                row[key] = interval([r[key] for r in mine])[0]
            gains = [(r["dice"] or 0.0) - (single[r["seed"]]["dice"] or 0.0) for r in mine]
            row["dice_gain"], low, high = interval(gains)
            row["dice_gain_interval"] = None if low is None else [low, high]
            rows.append({**row, "seeds": len(mine)})
    return rows


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(
            config, edge=32, train=1, test=1, width=2, steps=2, seeds=(0,)
        )  # fmt: skip
    names = ["one-sided"] if config.tiny else list(WEDGES)
    known(config.method)
    rows = Rows("symmetry", dataclasses.asdict(config), config.tiny)
    for name in names:
        wedge = WEDGES[name]
        tests = [phantom(1000 + i, config.edge, config.snr, wedge) for i in range(config.test)]
        for seed in config.seeds:
            if all(rows.done(wedge=name, seed=seed, average=a) for a in averages(wedge)):
                continue
            scenes = [
                phantom(100 * seed + i, config.edge, config.snr, wedge) for i in range(config.train)
            ]
            examples = [example(one, wedge) for one in scenes]
            network = training.train(
                narrow(config.method, config.width, examples, seed),
                examples,
                training.TrainConfig(steps=config.steps, patch=config.patch, seed=seed),
                objective=objective(config.method),
                progress=False,
            ).operator
            for average, motions in averages(wedge).items():
                if rows.done(wedge=name, seed=seed, average=average):
                    continue
                record = rows.add(
                    {"wedge": name, "seed": seed, "average": average},
                    {"passes": len(motions), **score(network, motions, tests)},
                )
                print(
                    f"{name:10s} seed {seed} {average:14s} Dice {record['dice'] or 0:.3f}  low "
                    f"visibility recall {record['recall_low'] or 0:.3f}  "
                    f"{record['voxels_per_second']:.3g} voxels/s",
                    flush=True,
                )
    table = summary(rows.records, names)
    if not config.tiny:
        draw(results_folder(False) / "symmetry.png", table)
    of = {(r["wedge"], r["average"]): r for r in table}

    def apart(key: str, one: str, other: str) -> float:
        return (of["one-sided", one][key] or 0.0) - (of["one-sided", other][key] or 0.0)

    claims = [
        claim("one-sided range: Dice of symmetrized minus single pass",
              apart("dice", "symmetrized", "none"), at_least=0.0),
        claim("one-sided range: Dice of symmetrized minus all mirrors",
              apart("dice", "symmetrized", "mirrors"), at_least=0.0),
        claim("one-sided range: Dice of symmetrized minus quarter turns",
              apart("dice", "symmetrized", "quarter turns"), at_least=0.0),
        claim("one-sided range: Dice of symmetrized minus the cube's rotations",
              apart("dice", "symmetrized", "cube"), at_least=0.0),
    ]  # fmt: skip
    rows.finish(table, claims)


if __name__ == "__main__":
    main(tyro.cli(Config))
