"""How much must be annotated, in which form, and does the rest of the tomogram help?

    python experiments/sparse_annotation.py            # 25 minutes on 2 cores
    python experiments/sparse_annotation.py --tiny     # under a minute: checks that it runs

A U-Net learns the membranes of a simulated tomogram (tilt range +-60 degrees, signal-to-noise ratio
0.1) of which a part is annotated: evenly spaced z ``slices``; ``scribbles``, short strokes on
membrane and on background; or ``boxes`` of 24 pixels around membranes, also with three times as
many ``negatives`` without membrane (the protocol of EMAN2, also run with its network and loss,
``tomoseg``). It is scored on unseen ones. ``plain`` is cross-entropy and Dice; ``consistent`` adds
`losses.equivariant` on patches from anywhere in the tomogram, which needs no labels.

Learned: in one tomogram a single annotated slice is worth as much as all 64
({annotation=slices; amount=1; variant=plain: dice} and
{annotation=slices; amount=64; variant=plain: dice}), and strokes over a thousandth of the voxels
nearly as much ({annotation=scribbles; amount=0.001; variant=plain: dice}). The limit is what one
tomogram shows at this noise, not how much of it is annotated, so it is better to annotate a little
of several tomograms. Consistency adds
{claim=Dice that consistency adds, mean over annotations: value} on average, most where slices are
annotated ({annotation=slices; amount=1; variant=consistent: dice} for one slice) and mostly as
recall, for four times the computation; this lies within the intervals of three seeds. Negative for
the protocol of EMAN2: boxes without membrane make a rare class rarer, and recall falls from
{annotation=boxes; amount=6; variant=plain: recall} to
{annotation=boxes and negatives; amount=6; variant=plain: recall} (Dice from
{annotation=boxes; amount=6; variant=plain: dice} to
{annotation=boxes and negatives; amount=6; variant=plain: dice}; one seed of three collapses). The
network and loss of EMAN2 find nothing at this noise within 300 steps, though they work well on a
real microtubule (`real_microtubules.py`).

A sceptic would say that the networks underfit: where all 64 slices give so low a Dice, equal
numbers do not show that one slice suffices, but that so few steps do not. `few_slices.py` begins
from a trained model.
"""

import dataclasses
import pathlib
import sys
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro
from flax import nnx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, losses, segmenters, training
from cryojax_seg.simulate import Phantom
from cryojax_seg.training.methods import known, objective
from experiments.common import Rows, interval, median, over_seeds, results_folder
from experiments.fitting import narrow
from experiments.scenes import example, overlap, phantom

SIDE = 24  # of a box, pixels
STROKE = 12  # half its length, pixels
PLAIN, CONSISTENT, TOMOSEG = "plain", "consistent", "tomoseg"


@dataclasses.dataclass(frozen=True)
class Config:
    """Relate accuracy to the amount of annotation."""

    annotations: tuple[tuple[str, float], ...] = (
        ("scribbles", 0.001),
        ("scribbles", 0.01),
        ("slices", 1),
        ("slices", 3),
        ("slices", 64),
        ("boxes", 6),
        ("boxes and negatives", 6),
    )
    """kind of annotation, and the fraction of voxels (scribbles) or the number (slices, boxes)"""
    snr: float = 0.1
    edge: int = 64
    """edge of the volumes, in voxels of 10 angstrom"""
    test: int = 3
    method: str = "unet"
    """method that is trained; may be your own, with your own loss"""
    width: int = 8
    """channels of the finest level of the U-Net"""
    steps: int = 150
    patch: int = 24
    tomoseg_steps: int = 300
    seeds: tuple[int, ...] = (0, 1, 2)
    tiny: bool = False


def slices(labels: np.ndarray, count: int) -> np.ndarray:
    weights = np.zeros(labels.shape, np.float32)
    size = len(labels)
    weights[np.unique(((np.arange(count) + 0.5) * size / count).astype(int))] = 1
    return weights


def stroke(labels: np.ndarray, normals: np.ndarray, on: bool, rng) -> np.ndarray:
    """Return the voxels of a stroke two pixels wide in a z slice, along a membrane or anywhere."""
    where = np.argwhere(labels == on)
    z, y, x = where[rng.integers(len(where))]
    along = np.array([-normals[z, y, x, 2], normals[z, y, x, 1]])  # across the normal, in the slice
    if not on or np.linalg.norm(along) < 0.1:
        angle = rng.uniform(0, np.pi)
        along = np.array([np.sin(angle), np.cos(angle)])
    along = along / np.linalg.norm(along)
    grid = np.moveaxis(np.indices(labels.shape[1:]), 0, -1) - np.array([y, x])
    reach = grid @ along
    aside = grid @ np.array([-along[1], along[0]])
    drawn = np.zeros(labels.shape, bool)
    drawn[z] = (np.abs(reach) <= STROKE) & (np.abs(aside) < 1)
    return drawn & (labels == on)


def scribbles(labels: np.ndarray, normals: np.ndarray, fraction: float, rng) -> np.ndarray:
    """Draw strokes alternately on membrane and background until the fraction is reached."""
    drawn = np.zeros(labels.shape, bool)
    on = True
    while drawn.mean() < fraction:
        drawn |= stroke(labels, normals, on, rng)
        on = not on
    return drawn.astype(np.float32)


def boxes(labels: np.ndarray, count: int, negatives: int, rng) -> np.ndarray:
    """Return squares with membrane and squares without, or fewer if there are not enough."""
    weights = np.zeros(labels.shape, np.float32)
    side = min(SIDE, labels.shape[1] // 2)
    kinds = {True: count, False: negatives}
    for _ in range(10_000):
        if not any(kinds.values()):
            break
        z, y, x = (
            rng.integers(n - s + 1) for n, s in zip(labels.shape, (1, side, side), strict=True)
        )
        cut = np.s_[z, y : y + side, x : x + side]
        share = labels[cut].mean()
        positive = share > 0.1
        if (positive or share == 0) and kinds[positive] and not weights[cut].any():
            weights[cut] = 1
            kinds[positive] -= 1
    return weights


def annotate(kind: str, amount: float, one: Phantom, seed: int) -> np.ndarray:
    """Return weights, which are 1 where the volume is annotated."""
    rng = np.random.default_rng(seed)
    labels, normals = np.asarray(one.labels == 1), np.asarray(one.truth.normals)
    match kind:
        case "slices":
            return slices(labels, int(amount))
        case "scribbles":
            return scribbles(labels, normals, amount, rng)
        case "boxes":
            return boxes(labels, int(amount), 0, rng)
        case "boxes and negatives":
            return boxes(labels, int(amount), 3 * int(amount), rng)
    raise ValueError(f"unknown kind of annotation {kind!r}")


def train(variant: str, annotated: training.Example, config: Config, seed: int) -> core.Segmenter:
    classes = ("membrane",)
    if variant == TOMOSEG:
        return training.train(
            segmenters.Tomoseg(head="linear_logmse", classes=classes, rngs=nnx.Rngs(seed)),
            [annotated],
            training.TrainConfig(
                steps=config.tomoseg_steps, patch=(2, config.edge, config.edge), seed=seed,
                learning_rate=1e-3,
            ),
            objective=losses.supervised(losses.log_mse),
            progress=False,
        ).operator  # fmt: skip
    usual = losses.supervised(losses.combine(losses.cross_entropy, losses.dice))
    plain = objective(config.method) or usual
    consistent = variant == CONSISTENT
    train_config = training.TrainConfig(
        steps=config.steps, patch=config.patch, seed=seed, unannotated=2 if consistent else 0
    )
    return training.train(
        narrow(config.method, config.width, [annotated], seed),
        [annotated],
        train_config,
        objective=losses.add(plain, losses.equivariant()) if consistent else plain,
        progress=False,
    ).operator


def draw(path: pathlib.Path, rows: list[dict]) -> None:
    """Draw Dice against the annotation; filled marks are plain, open ones consistent."""
    figure, axis = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    kinds = list(dict.fromkeys(row["annotation"] for row in rows))
    for number, kind in enumerate(kinds):
        for variant, fill in ((PLAIN, "full"), (CONSISTENT, "none"), (TOMOSEG, "left")):
            mine = [r for r in rows if (r["annotation"], r["variant"]) == (kind, variant)]
            if not mine:
                continue
            low = [r["dice"] - (r["dice_interval"] or [r["dice"]])[0] for r in mine]
            high = [(r["dice_interval"] or [r["dice"]])[-1] - r["dice"] for r in mine]
            axis.errorbar(
                [100 * r["fraction"] * (1.06 if variant == CONSISTENT else 1) for r in mine],
                [r["dice"] for r in mine], [low, high], fmt="osD^"[number], capsize=2,
                fillstyle=fill, color=f"C{number}", label=f"{kind}, {variant}",
            )  # fmt: skip
    axis.set(xscale="log", xlabel="annotated voxels, %", ylabel="Dice on unseen tomograms")
    axis.set_ylim(0, None)
    axis.legend(fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def variants(kind: str) -> tuple[str, ...]:
    return (PLAIN, CONSISTENT, TOMOSEG) if kind == "boxes and negatives" else (PLAIN, CONSISTENT)


def summary(records: list[dict], config: Config) -> list[dict]:
    rows = []
    for kind, amount in config.annotations:
        for variant in variants(kind):
            key = (kind, amount, variant)
            mine = [r for r in records if (r["annotation"], r["amount"], r["variant"]) == key]
            row: dict = {"annotation": kind, "amount": amount, "variant": variant}
            row["fraction"] = interval([r["fraction"] for r in mine])[0]
            row["dice"], low, high = interval([r["dice"] or 0.0 for r in mine])
            row["dice_interval"] = None if low is None else [low, high]
            for name in ("precision", "recall"):
                row[name] = interval([r[name] for r in mine])[0]
            row["cpu_seconds"] = median([r["cpu_seconds"] for r in mine])
            rows.append({**row, "seeds": len(mine)})
    return rows


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(
            config, annotations=(("slices", 3),), edge=32, test=1, width=2,
            steps=2, patch=8, seeds=(0,),
        )  # fmt: skip
    known(config.method)
    rows = Rows("sparse_annotation", dataclasses.asdict(config), config.tiny)
    tests = [phantom(1000 + i, config.edge, config.snr) for i in range(config.test)]
    for seed in config.seeds:
        one = phantom(100 * seed, config.edge, config.snr)
        for kind, amount in config.annotations:
            weights = annotate(kind, amount, one, seed)
            annotated = dataclasses.replace(example(one), weights=weights)
            for variant in variants(kind):
                key = {"annotation": kind, "amount": amount, "variant": variant, "seed": seed}
                if rows.done(**key):
                    continue
                start = time.process_time()
                segmenter = train(variant, annotated, config, seed)
                seconds = time.process_time() - start
                counts = overlap(segmenter, tests)
                record = rows.add(
                    key,
                    {
                        "fraction": float(weights.mean()),
                        "dice": counts.dice,
                        "precision": counts.precision,
                        "recall": counts.recall,
                        "cpu_seconds": seconds,
                    },
                )
                print(
                    f"seed {seed} {kind} {amount:g} ({100 * record['fraction']:.2g} %) {variant}: "
                    f"Dice {record['dice'] or 0:.3f}  {seconds:.0f} CPU-s",
                    flush=True,
                )
    table = summary(rows.records, config)
    draw(results_folder(config.tiny) / "sparse_annotation.png", table)
    rows.finish(table, claims_of(rows.records, config))


def claims_of(records: list[dict], config: Config) -> list[dict]:
    """Return the claims about few slices and about consistency; intervals over seeds decide."""
    dice = {
        (r["annotation"], r["amount"], r["variant"], r["seed"]): r["dice"] or 0.0 for r in records
    }
    every = max(a for k, a in config.annotations if k == "slices")
    shares = [
        dice["slices", 3, PLAIN, seed] / max(dice["slices", every, PLAIN, seed], 1e-9)
        for seed in config.seeds
    ]
    gains = [
        float(
            np.mean(
                [
                    dice[k, a, CONSISTENT, seed] - dice[k, a, PLAIN, seed]
                    for k, a in config.annotations
                ]
            )
        )
        for seed in config.seeds
    ]
    return [
        over_seeds("Dice from three slices / from all", shares, 0.9),
        over_seeds("Dice that consistency adds, mean over annotations", gains, 0.02),
    ]


if __name__ == "__main__":
    main(tyro.cli(Config))
