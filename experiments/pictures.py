"""Draw the pictures of the README: a whole tomogram segmented, and a report of `compare`.

    python experiments/pictures.py           # 12 minutes on 2 cores
    python experiments/pictures.py --tiny    # under two minutes: checks that it runs

It runs the commands that the README shows, on phantoms whose truth is known: `train` learns from
five annotated slices of one tomogram, `segment` labels another, and `compare` lets four methods
compete on the first. Writes `segmented.png` and, where Chromium is installed, `compare.png` into
`experiments/results`, and prints the scores that `evaluate` finds.
"""

import dataclasses
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import tyro
from matplotlib.figure import Figure
from matplotlib.patches import Patch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import cli, evaluate, io
from experiments.common import results_folder

CLASSES = ("membrane", "lumen", "microtubule", "actin", "macromolecule")
COLOURS = ("#eda100", "#4a3aa7", "#1baf7a", "#d83a7c", "#2a78d6")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclasses.dataclass(frozen=True)
class Config:
    """The pictures of the README, by the commands of the README."""

    shape: tuple[int, int, int] = (80, 256, 256)
    snr: float = 0.5
    steps: int = 1500
    compared: tuple[int, int, int] = (40, 96, 96)
    """shape of the tomogram that the methods compete on"""
    compare_steps: int = 200
    tiny: bool = False


def command(*words: object) -> None:
    """Run one command line in this process."""
    status = cli.main([str(word) for word in words])
    if status:
        raise SystemExit(status)


def slices(depth: int, count: int) -> list[int]:
    """Return evenly spread z indices.

    >>> slices(80, 5)
    [8, 24, 40, 56, 72]
    """
    return [depth * (2 * i + 1) // (2 * count) for i in range(count)]


def segmented(folder: pathlib.Path, config: Config) -> pathlib.Path:
    """Train on five slices of one phantom, segment another, and draw that."""
    phantoms = folder / "phantoms"
    shape = ("--shape", *config.shape, "--snr", config.snr)
    command("simulate", "crowded", "-o", phantoms, *shape, "--tier", "tilt_series", "--count", 2)
    first, second = phantoms / "crowded-000", phantoms / "crowded-001"
    annotated = slices(config.shape[0], 5)
    command(
        "train", first / "tomogram.mrc", "--labels", first / "labels.mrc", "-o", folder / "run",
        "--method", "unet-fast", "--classes", *CLASSES, "--slices", *annotated,
        "--tilt-range", -60, 60, "--steps", config.steps,
    )  # fmt: skip
    output = folder / "labels.mrc"
    command("segment", folder / "run", second / "tomogram.mrc", "-o", output)
    volume, predicted, truth = (
        np.asarray(io.read_tomogram(path).density)
        for path in (second / "tomogram.mrc", output, second / "labels.mrc")
    )
    scores = evaluate.overlap(predicted, truth, classes=("background", *CLASSES))
    for name, score in scores.items():
        dice = "-" if score.dice is None else f"{score.dice:.2f}"
        print(f"{name}: Dice {dice}")
    path = results_folder(config.tiny) / "segmented.png"
    draw(path, volume, predicted.astype(int), truth.astype(int))
    return path


def overlay(labels: np.ndarray) -> np.ndarray:
    """Return an RGBA image of a slice of labels, transparent where there is no structure."""
    from matplotlib.colors import to_rgba

    table = np.array([(0, 0, 0, 0), *(to_rgba(colour, 0.55) for colour in COLOURS)])
    return table[labels]


def depth_shaded(labels: np.ndarray) -> np.ndarray:
    """Return an RGB view along z: the uppermost structure of every column, darker with depth."""
    from matplotlib.colors import to_rgb

    solid = labels.copy()
    solid[solid == 2] = 0  # a lumen would hide what lies in it
    top = (solid > 0).argmax(0)
    depth = top / max(len(labels) - 1, 1)
    seen = np.take_along_axis(solid, top[None], 0)[0]
    slope = np.hypot(*np.gradient(top.astype(float)))
    shade = (1 - 0.6 * depth) / (1 + 0.15 * np.minimum(slope, 6))
    table = np.array([(1, 1, 1), *(to_rgb(colour) for colour in COLOURS)])
    return np.where((seen > 0)[..., None], table[seen] * shade[..., None], 1.0)


def draw(path: pathlib.Path, volume: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> None:
    """Draw slices of the tomogram with predicted and true labels, and a view of each from above."""
    z, y = volume.shape[0] // 2, volume.shape[1] // 2
    low, high = np.percentile(volume, (1, 99))
    flat = volume.shape[0] / volume.shape[1]
    figure = Figure(figsize=(11, 4 * (1.9 + flat)), layout="constrained", facecolor="white")
    grid = figure.add_gridspec(3, 3, height_ratios=(1, flat, 0.95))
    titles = ("tomogram", "segmented", "truth")
    for row, cut in enumerate((np.s_[z], np.s_[:, y])):
        for column, labels in enumerate((None, predicted, truth)):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(volume[cut], cmap="gray", vmin=low, vmax=high, origin="lower")
            if labels is not None:
                axes.imshow(overlay(labels[cut]), origin="lower", interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(titles[column], loc="left")
            if column == 0:
                axes.set_ylabel((f"xy slice, z = {z}", f"xz slice, y = {y}")[row])
    note = figure.add_subplot(grid[2, 0])
    note.axis("off")
    handles = [Patch(color=c, label=n) for n, c in zip(CLASSES, COLOURS, strict=True)]
    note.legend(handles=handles, loc="center left", frameon=False, fontsize=12)
    note.set_title("right: all labels seen from above", loc="left", fontsize=11)
    for column, labels in ((1, predicted), (2, truth)):
        axes = figure.add_subplot(grid[2, column])
        axes.imshow(depth_shaded(labels), origin="lower", interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
    figure.savefig(path, dpi=90)


def compared(folder: pathlib.Path, config: Config) -> pathlib.Path | None:
    """Compare four methods on one phantom, and photograph the report; None without a browser."""
    phantoms = folder / "compared"
    shape = ("--shape", *config.compared, "--snr", config.snr)
    command("simulate", "vesicles", "-o", phantoms, *shape, "--tier", "tilt_series", "--seed", 5)
    one = phantoms / "vesicles-000"
    labels = io.read_tomogram(one / "labels.mrc")
    membrane = (np.asarray(labels.density) == 1).astype(np.int8)
    io.write_mrc(folder / "membrane.mrc", membrane, labels, overwrite=True)
    command(
        "compare", one / "tomogram.mrc", "--labels", folder / "membrane.mrc",
        "--classes", "membrane", "--slices", *slices(config.compared[0], 6),
        "--methods", "threshold,sheet,vote,unet-fast", "--tilt-range", -60, 60,
        "--steps", config.compare_steps, "-o", folder / "comparison",
    )  # fmt: skip
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("compare.png needs Chromium, which is not installed")
        return None
    path = results_folder(config.tiny) / "compare.png"
    report = folder / "comparison" / "report.html"
    subprocess.run(
        [browser, "--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1100,1250",
         "--virtual-time-budget=4000", f"--screenshot={path}", report.resolve().as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return path


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(
            config, shape=(40, 64, 64), steps=4, compared=(40, 48, 48), compare_steps=4
        )
    with tempfile.TemporaryDirectory() as name:
        for path in (segmented(pathlib.Path(name), config), compared(pathlib.Path(name), config)):
            if path is not None:
                print(f"wrote {path}")


if __name__ == "__main__":
    main(tyro.cli(Config))
