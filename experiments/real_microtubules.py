"""Which methods find a microtubule's wall in a real tomogram, from five annotated slices?

    python experiments/real_microtubules.py             # 25 minutes on 2 cores
    python experiments/real_microtubules.py --tiny      # under a minute, for the tests

Every method trains on five z slices of a real 13-protofilament microtubule and is scored on a 14-
protofilament one it never saw. Needs the data set ``cylindra_mt`` (see `cryojax_seg.datasets`).

The labels come from the published centre-line, moved by up to a few nanometres to where the
density has its wall (six numbers for a whole volume: the published points are clicks, up to 3 nm
off the axis). Wall is what lies 8 to 13 nm from the axis. Nearer than 7 nm is lumen and counts as
background: a method that floods the tube must pay. The rest within 16 nm, and everything near the
axis beyond the ends of the centre-line, is not annotated. The tilt range is not published; it is
read from the power spectrum.

It also trains on two 96^3 patches with partial masks of filled microtubules (``tardis_cnn``) and
scores two 64^3 ones; slices without any mask count as not annotated.

Expected: Dice 0.24 for a threshold, 0.76 for the sheet filter, 0.85 for tensor voting, 0.87 for the
U-Net, and recall of the wall falling with its visibility for every method.
"""

import dataclasses
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, datasets, evaluate, segmenters, training
from cryojax_seg.cli.methods import Method
from experiments.annotated import Scene, patch_scene, scene
from experiments.common import claim, results_folder, write_results
from experiments.fitting import NETWORKS, train_method

CLASSES = ("microtubule",)


@dataclasses.dataclass(frozen=True)
class Config:
    """Real microtubules, from five slices."""

    methods: tuple[Method, ...] = (
        "threshold",
        "local-threshold",
        "hysteresis",
        "sheet",
        "tube",
        "tensor-voting",
        "vote",
        "tomoseg",
        "convnet",
        "unet",
    )
    slices: tuple[int, ...] = (6, 12, 18, 24, 30)
    """annotated z slices of the training volume"""
    steps: int = 300
    """of the networks; filters take 100, and tomoseg, whose steps are slow, a fifth"""
    seeds: tuple[int, ...] = (0, 1)
    patches: bool = True
    """also the tardis_cnn patches, with the first seed and half the steps"""
    tiny: bool = False


def train(method: Method, scenes: list[Scene], config: Config, seed: int):
    """The trained segmenter and the CPU-seconds it took, compilation included."""
    examples = [
        training.Annotated(s.volume, s.labels, s.weights, s.wedge, f"volume {i}")
        for i, s in enumerate(scenes)
    ]
    steps = config.steps if method in NETWORKS else 100
    steps = steps // 5 if method == "tomoseg" else steps
    patch = (16, 24, 24) if config.tiny else (8, 96, 64) if method == "tomoseg" else (32, 48, 48)
    steps = 4 if config.tiny else steps
    return train_method(method, CLASSES, examples, seed, steps=steps, patch=patch)


def predict(segmenter, target: Scene) -> np.ndarray:
    segmenter = segmenters.fit_normalization(segmenter, target.volume)
    return core.segment(segmenter, target.volume)


def score(logits: np.ndarray, target: Scene) -> dict:
    """Dice, precision and recall on annotated voxels, and calibration."""
    predicted = np.asarray(core.labels(logits))
    overlap = evaluate.overlap(predicted, target.labels, target.weights, CLASSES)[CLASSES[0]]
    ece = evaluate.expected_calibration_error(
        np.asarray(core.probabilities(logits)), target.labels, target.weights
    )
    return {
        "dice": overlap.dice,
        "precision": overlap.precision,
        "recall": overlap.recall,
        "ece": ece,
    }


BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def by_visibility(logits: np.ndarray, target: Scene) -> list[float | None]:
    """Recall of the wall in bins of its visibility."""
    bins = evaluate.recall_by_visibility(
        np.asarray(core.labels(logits)) == 1,
        target.labels == 1,
        target.visibility,
        BINS,
        target.weights,
    )
    return [b.recall for b in bins]


def mean(values) -> float | None:
    kept = np.array([v for v in values if v is not None], float)
    return float(kept.mean()) if kept.size else None


def run(name: str, train_scenes: list[Scene], tests: list[Scene], config: Config):
    """Rows of the table of one data set, and one prediction per method for the figure."""
    rows, pictures = [], {}
    for method in ("otsu", *config.methods):
        records = []
        for seed in config.seeds if method in NETWORKS else config.seeds[:1]:
            if method == "otsu":  # nothing learned: the classical answer
                segmenter, seconds = None, 0.0
            else:
                segmenter, seconds = train(method, train_scenes, config, seed)
            for target in tests:
                fitted = (
                    segmenters.otsu(target.volume, classes=CLASSES)
                    if segmenter is None
                    else segmenter
                )
                logits = predict(fitted, target)
                record = score(logits, target) | {"cpu_seconds": seconds}
                if target.wedge is not None:
                    record["visibility"] = by_visibility(logits, target)
                records.append(record)
                pictures.setdefault(method, logits)
        row = {"data": name, "method": method, "seeds": len(records) // len(tests)}
        for key in ("dice", "precision", "recall", "ece", "cpu_seconds"):
            row[key] = mean([r[key] for r in records])
        row["dice_range"] = [
            min(r["dice"] or 0 for r in records),
            max(r["dice"] or 0 for r in records),
        ]
        if "visibility" in records[0]:
            columns = zip(*(r["visibility"] for r in records), strict=True)
            row["recall_by_visibility"] = [mean(c) for c in columns]
        rows.append(row)
        print(
            f"{name:13s} {method:16s} Dice {row['dice'] or 0:.3f}  precision"
            f" {row['precision'] or 0:.3f}  recall {row['recall'] or 0:.3f}"
            f"  trained in {row['cpu_seconds']:.0f} CPU-s",
            flush=True,
        )
    return rows, pictures


def draw(path: pathlib.Path, target: Scene, rows: list[dict], pictures: dict) -> None:
    """The untouched volume, four answers, the table as bars, and recall against visibility."""
    shown = [m for m in ("otsu", "tensor-voting", "tomoseg", "unet") if m in pictures]
    shown = shown or list(pictures)[:4]
    figure = plt.figure(figsize=(15, 9), constrained_layout=True)
    top, bottom = np.asarray(figure.subfigures(2, 1, height_ratios=[1.45, 1])).tolist()
    axes = top.subplots(2, len(shown) + 1, height_ratios=[3, 1], squeeze=False)
    z, y = target.volume.shape[0] // 2, target.volume.shape[1] // 2
    for row, cut in enumerate((np.s_[z], np.s_[:, y])):
        image = target.volume[cut]
        window = {"cmap": "gray", "vmin": -2.5, "vmax": 3}
        axes[row, 0].imshow(image, **window)
        axes[row, 0].contour(target.labels[cut], [0.5], colors="tab:cyan", linewidths=0.8)
        axes[row, 0].set_title("true wall" if row == 0 else "", fontsize=10)
        for axis, method in zip(axes[row, 1:], shown, strict=True):
            axis.imshow(image, **window)
            answer = np.ma.masked_less(core.labels(pictures[method][cut]), 1)
            axis.imshow(answer, cmap="autumn", alpha=0.55)
            axis.set_title(method if row == 0 else "", fontsize=10)
    axes[0, 0].set_ylabel("slice facing the beam")
    axes[1, 0].set_ylabel("across the tilt axis")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    bars, curves = bottom.subplots(1, 2)
    names = [r["method"] for r in rows]
    bars.barh(names[::-1], [r["dice"] or 0 for r in rows][::-1], color="0.55")
    bars.set(xlabel="Dice on the untouched 14-protofilament volume", xlim=(0, 1))
    centre = (np.array(BINS[1:]) + np.array(BINS[:-1])) / 2
    for row in rows:
        if row["method"] in (*shown, "threshold", "sheet"):
            recall = [np.nan if v is None else v for v in row["recall_by_visibility"]]
            curves.plot(centre, recall, "o-", label=row["method"])
    curves.set(
        xlabel="visibility of the wall under the missing wedge", ylabel="recall", ylim=(0, 1)
    )
    curves.legend(fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(
            config, methods=("threshold", "vote"), seeds=(0,), patches=False
        )
    train_scene, test_scene = scene("13pf"), scene("14pf")
    for name, s in (("13pf", train_scene), ("14pf", test_scene)):
        print(
            f"{name}: {s.wedge}, centre-line moved by {s.shift / 10:.1f} nm on average, "
            f"wall {s.labels.sum()} voxels"
        )
    weights = np.zeros_like(train_scene.weights)
    weights[list(config.slices)] = train_scene.weights[list(config.slices)]
    sparse = dataclasses.replace(train_scene, weights=weights)
    rows, pictures = run("microtubules", [sparse], [test_scene], config)
    folder = results_folder(config.tiny)
    draw(folder / "real_microtubules.png", test_scene, rows, pictures)
    dice = {r["method"]: r["dice"] or 0 for r in rows}
    best_threshold = max(v for k, v in dice.items() if k in ("otsu", "threshold"))
    others = {k: v for k, v in dice.items() if k not in ("otsu", "threshold")}
    best = max(others, key=lambda k: others[k])
    curve = next(r for r in rows if r["method"] == best)["recall_by_visibility"]
    seen = [v for v in curve if v is not None]
    claims = [
        claim(
            f"Dice of the best method ({best}) / best threshold",
            others[best] / best_threshold,
            at_least=1.5,
        ),
        claim(
            f"recall of {best}: least visible wall / most visible",
            seen[0] / max(seen[-1], 1e-9),
            at_least=0.7,
        ),
    ]
    if config.patches:
        train_patches = [patch_scene(n) for n in datasets.TARDIS_TRAINING]
        test_patches = [patch_scene(n) for n in datasets.TARDIS_TEST]
        short = dataclasses.replace(config, steps=config.steps // 2, seeds=config.seeds[:1])
        rows += run("tardis_cnn", train_patches, test_patches, short)[0]
    write_results("real_microtubules", dataclasses.asdict(config), rows, claims, tiny=config.tiny)


if __name__ == "__main__":
    main(tyro.cli(Config))
