"""Does a simulated microtubule resemble a real one?

    python experiments/simulated_microtubules.py            # 5 minutes on 2 cores
    python experiments/simulated_microtubules.py --tiny     # under a minute, for the tests

A microtubule is simulated at the position of a real one, by both models of imaging. The noise is
what gives the wall of a real microtubule of 13 protofilaments its contrast; everything is then
compared with another real one, of 14 protofilaments, which set nothing: the radial amplitude
spectra (root mean square difference of their logarithms to base 10, after both volumes are scaled
to variance 1) and the grey values (Wasserstein distance of the normalized volumes, in standard
deviations of the noise). It needs the data set ``cylindra_mt``, see `datasets.py`.

Learned: both models of imaging resemble the real volume. The logarithms of the amplitudes differ by
{tier=tilt_series: log10_amplitude_rms} for tilt series and {tier=wedge: log10_amplitude_rms} for a
missing wedge and noise alone, and the grey values by {tier=tilt_series: grey_value_distance} and
{tier=wedge: grey_value_distance}. The wall has a contrast of {tier=tilt_series: contrast} and
{tier=wedge: contrast} where the real one has {tier=wedge: real_contrast}, although another
microtubule set the noise.

A sceptic would say that both real volumes are of one laboratory and one kind of ice, that a
straight tube in empty ice is the easiest thing to simulate, and that equal spectra and histograms
do not mean equal structure.
"""

import dataclasses
import pathlib
import sys
from typing import Any, Literal

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro
from scipy.stats import wasserstein_distance

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg.core import MissingWedge, fourier, normalize
from cryojax_seg.evaluate import Claim
from cryojax_seg.simulate import (
    Acquisition,
    Imaging,
    Microtubule,
    Phantom,
    Placed,
    TiltScheme,
    TiltSeriesImaging,
    WedgeImaging,
    simulate,
)
from cryojax_seg.simulate import Scene as Simulated
from cryojax_seg.simulate.placement import facing
from experiments import datasets
from experiments.annotated import Scene, refine, scene
from experiments.common import Rows, interval, resolved, results_folder

VOXEL = 10.52  # angstrom
Tier = Literal["wedge", "tilt_series"]
TIERS: tuple[Tier, ...] = ("wedge", "tilt_series")
PROTOFILAMENTS = {"13pf": 13, "14pf": 14}
MATCHED, COMPARED = "13pf", "14pf"
QUANTITIES = {
    "log10_amplitude_rms": "spectrum, rms of log10 of the ratio of amplitudes",
    "grey_value_distance": "grey values, Wasserstein distance in sigma",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Compare simulated microtubules with a real one."""

    tiers: tuple[Tier, ...] = TIERS
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """of the noise"""
    tiny: bool = False


def imaging(tier: Tier, snr: float, wedge: MissingWedge) -> Imaging:
    if tier == "wedge":
        return WedgeImaging(snr=snr, wedge=wedge)
    low, high = wedge.tilt_range
    return TiltSeriesImaging(Acquisition(scheme=TiltScheme.every(3.0, low, high)), snr)


def contrast(volume: np.ndarray, target: Scene) -> float:
    """Return the contrast of the wall, in standard deviations of its surroundings."""
    known = target.weights > 0
    wall, around = volume[known & (target.labels == 1)], volume[known & (target.labels == 0)]
    return float((wall.mean() - around.mean()) / around.std())


def twin(name: str, target: Scene) -> Simulated:
    """Return a straight microtubule along the axis of the real one."""
    source = datasets.microtubule(name)
    points = refine(np.asarray(source.tomogram.density), source.centreline, VOXEL)
    middle = points.mean(0)
    direction = np.linalg.svd(points - middle)[2][0]
    turn = facing(direction, np.random.default_rng(0), axis=1).astype(np.float32)
    length = np.float32(2 * VOXEL * max(target.volume.shape))
    tube = Microtubule(length, protofilaments=PROTOFILAMENTS[name])
    placed = Placed(tube, (middle * VOXEL).astype(np.float32), turn, "microtubule")
    return Simulated((placed,), target.volume.shape, VOXEL)


def ratio_of(tier: Tier, twin: Simulated, target: Scene, wedge: MissingWedge, key) -> float:
    """Return the signal-to-noise ratio at which the wall has the contrast of the real one."""
    wanted, snr = contrast(target.volume, target), 0.1
    for _ in range(4):
        phantom = simulate(twin, imaging(tier, snr, wedge), key)
        # The labels of the real one serve for the twin, which lies at the same position.
        reached = contrast(np.asarray(phantom.density), target)
        snr *= float(np.clip((wanted / max(reached, 1e-3)) ** 2, 0.2, 5.0))
    return snr


def spectrum(volume: np.ndarray) -> np.ndarray:
    """Return the radial amplitude spectrum of a volume of variance 1, without frequency zero."""
    scaled = (volume - volume.mean()) / volume.std()
    power = np.abs(np.asarray(fourier.rfftn(scaled.astype(np.float32)))) ** 2 / scaled.size
    return np.sqrt(np.asarray(fourier.shell_average(power, scaled.shape)))[1:]


def draw(path: pathlib.Path, target: Scene, twins: dict[str, np.ndarray]) -> None:
    """Draw slices, spectra and histograms, the real one first."""
    volumes = {"real": target.volume, **twins}
    figure, axes = plt.subplots(
        2, len(volumes) + 1, figsize=(13, 6.4), constrained_layout=True, squeeze=False
    )
    z, y = target.volume.shape[0] // 2, target.volume.shape[1] // 2
    for column, (name, volume) in enumerate(volumes.items()):
        for row, cut in enumerate((volume[z], volume[:, y])):
            axes[row, column].imshow(cut, cmap="gray_r", vmin=-2.5, vmax=3)
            axes[row, column].set(xticks=[], yticks=[])
        axes[0, column].set_title(name)
        values = spectrum(volume)
        k = np.arange(1, len(values) + 1) / min(volume.shape) / (VOXEL / 10)
        axes[0, -1].semilogy(k, values, label=name)
        axes[1, -1].hist(volume.ravel(), np.linspace(-5, 6, 80), density=True, histtype="step")
    axes[0, 0].set_ylabel("slice facing the beam")
    axes[1, 0].set_ylabel("across the tilt axis")
    axes[0, -1].set(xlabel="1 / nm", title="radial amplitude spectrum")
    axes[0, -1].legend()
    axes[1, -1].set(xlabel="normalized grey value", title="histogram")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def compared(phantom: Phantom, target: Scene) -> tuple[np.ndarray, dict[str, float]]:
    """Return a simulated volume, normalized, and how far it is from the real one."""
    volume = np.asarray(normalize(np.asarray(phantom.density), "bright"))
    ratio = spectrum(volume) / spectrum(target.volume)
    wall = (target.labels == 1) & (target.weights > 0)
    return volume, {
        "snr": float(phantom.imaged.snr),
        "contrast": contrast(volume, target),
        "log10_amplitude_rms": float(np.sqrt(np.mean(np.square(np.log10(ratio))))),
        "grey_value_distance": float(wasserstein_distance(volume.ravel(), target.volume.ravel())),
        "wall_distance": float(wasserstein_distance(volume[wall], target.volume[wall])),
    }


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(config, tiers=("wedge",), seeds=(0,))
    rows = Rows("simulated_microtubules", dataclasses.asdict(config), config.tiny)
    known, target = scene(MATCHED), scene(COMPARED)
    assert known.wedge is not None and target.wedge is not None  # `scene` refuses a volume without
    twins = {name: twin(name, one) for name, one in ((MATCHED, known), (COMPARED, target))}
    drawn = {}
    for tier in config.tiers:
        key = jax.random.key(1)
        snr = ratio_of(tier, twins[MATCHED], known, known.wedge, key)
        for seed in config.seeds:
            if rows.done(tier=tier, seed=seed) and tier in drawn:
                continue
            phantom = simulate(
                twins[COMPARED], imaging(tier, snr, target.wedge), jax.random.fold_in(key, seed)
            )
            volume, values = compared(phantom, target)
            drawn.setdefault(tier, volume)
            if not rows.done(tier=tier, seed=seed):
                rows.add({"tier": tier, "seed": seed}, values)
            print(tier, seed, {k: round(v, 3) for k, v in values.items()}, flush=True)
    draw(results_folder(config.tiny) / "simulated_microtubules.png", target, drawn)
    table, claims = [], []
    for tier in config.tiers:
        mine = [r for r in rows.records if r["tier"] == tier]
        row: dict[str, Any] = {"tier": tier, "seeds": len(mine)}
        row["real_contrast"] = contrast(target.volume, target)
        for name in ("snr", "contrast", "wall_distance", *QUANTITIES):
            row[name], low, high = interval([r[name] for r in mine])
            if name in QUANTITIES:
                row[f"{name}_interval"] = ends = (
                    None if low is None or high is None else (low, high)
                )
                told = f"{QUANTITIES[name]}, {tier}"
                claims.append(resolved(Claim(told, row[name], ends, 0.1, at_most=True)))
        table.append(row)
    rows.finish(table, claims)


if __name__ == "__main__":
    main(tyro.cli(Config))
