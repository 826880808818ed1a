"""What do the presets contain, what do they cost, and what remains behind the missing wedge?

    python experiments/phantoms.py           # 3 minutes on 2 cores
    python experiments/phantoms.py --tiny    # under a minute: checks that it runs

Every preset is drawn and imaged by both models of imaging. The table has the time in seconds
(including the compilation of a first call) and the volume fraction of each class, and the picture a
slice of each.

Learned: the signal-to-noise ratio of every preset is what was asked for, up to a relative error of
{claim=largest relative error of the signal-to-noise ratio: value}, and the slowest preset takes
{claim=seconds to place, draw and image the slowest preset, tilt series: value} seconds as a tilt
series.

A sceptic would say that volume fractions and pictures do not show that a preset resembles a cell;
`simulated_microtubules.py` compares spectra and grey values with real ones, of microtubules alone.
"""

import dataclasses
import pathlib
import sys
import time

import jax
import matplotlib
import numpy as np
import tyro

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg.simulate import (
    CLASSES,
    Acquisition,
    Phantom,
    TiltScheme,
    TiltSeriesImaging,
    WedgeImaging,
    presets,
    simulate,
)
from experiments.common import claim, results_folder, write_results

PRESETS = {
    "vesicles": presets.vesicles,
    "organelles": presets.organelles,
    "cytoskeleton": presets.cytoskeleton,
    "crowded": presets.crowded,
    "contrast_drift": presets.contrast_drift,
    "threshold_dilemma": presets.threshold_dilemma,
    "flat_bilayers": presets.flat_bilayers,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Draw all presets in both tiers of imaging."""

    shape: tuple[int, int, int] = (64, 128, 128)
    voxel_size: float = 10.0
    snr: float = 0.5
    tilt_step: float = 3.0
    seed: int = 0
    tiny: bool = False


def contrast(phantom: Phantom) -> float:
    """Return the contrast of structures to background, in standard deviations of the background.

    Real tomograms at 1 to 1.7 nm have about 0.5 for membranes and 0.25 to 0.6 for microtubules.
    """
    density, inside = np.asarray(phantom.density), np.asarray(phantom.truth.structures)
    background = density[np.asarray(phantom.labels) == 0]
    return float((density[inside].mean() - background.mean()) / background.std())


def picture(path: pathlib.Path, shown: dict[str, list[np.ndarray]]) -> None:
    """Draw a row for each preset, with slices of density, classes and both reconstructions."""
    titles = ("density", "classes", "wedge tier", "tilt-series tier")
    figure, axes = plt.subplots(
        len(titles), len(shown), figsize=(2.4 * len(shown), 9.8), constrained_layout=True
    )
    for column, (name, slices) in enumerate(shown.items()):
        for row, (title, image) in enumerate(zip(titles, slices, strict=True)):
            axis = axes[row, column]
            if title == "classes":
                axis.imshow(image, cmap="tab10", vmin=0, vmax=9, interpolation="nearest")
            else:
                low, high = np.percentile(image, (0.5, 99.5))
                axis.imshow(-image, cmap="gray", vmin=-high, vmax=-low)
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(name, fontsize=10)
            if column == 0:
                axis.set_ylabel(title)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main(config: Config) -> None:
    chosen = PRESETS
    if config.tiny:
        config = dataclasses.replace(config, shape=(24, 32, 32), tilt_step=15.0)
        chosen = {name: PRESETS[name] for name in ("threshold_dilemma", "flat_bilayers")}
    tiers = {
        "wedge": WedgeImaging(snr=config.snr),
        "tilt_series": TiltSeriesImaging(
            Acquisition(scheme=TiltScheme.every(config.tilt_step)), config.snr
        ),
    }
    rows, shown = [], {}
    for name, preset in chosen.items():
        scene_key, noise_key = jax.random.split(jax.random.key(config.seed))
        start = time.perf_counter()
        scene = preset(scene_key, config.shape, config.voxel_size)
        placed = time.perf_counter() - start
        row = {"preset": name, "objects": len(scene.objects), "place_seconds": placed}
        slices = []
        for tier, imaging in tiers.items():
            start = time.perf_counter()
            phantom = simulate(scene, imaging, noise_key)
            jax.block_until_ready(phantom.density)
            row[f"{tier}_seconds"] = time.perf_counter() - start
            row[f"{tier}_snr"] = float(phantom.imaged.snr)
            row[f"{tier}_contrast"] = contrast(phantom)
            slices.append(np.asarray(phantom.density)[config.shape[0] // 2])
        labels = np.asarray(phantom.labels)
        for k, label in enumerate(CLASSES):
            row[label] = float((labels == k).mean())
        rows.append(row)
        middle = config.shape[0] // 2
        truth = [np.asarray(phantom.truth.density)[middle], labels[middle]]
        shown[name] = [*truth, *slices]
        print(f"{name}: {row['objects']} objects, {placed:.1f} s to place; {scene.notes}")
    picture(results_folder(config.tiny) / "phantoms.png", shown)
    off = max(abs(row[f"{tier}_snr"] / config.snr - 1) for row in rows for tier in tiers)
    claims = [
        claim("largest relative error of the signal-to-noise ratio", off, at_most=0.1),
        claim(
            "seconds to place, draw and image the slowest preset, tilt series",
            max(row["place_seconds"] + row["tilt_series_seconds"] for row in rows),
            at_most=60.0,
        ),
    ]
    write_results("phantoms", dataclasses.asdict(config), rows, claims, tiny=config.tiny)


if __name__ == "__main__":
    main(tyro.cli(Config))
