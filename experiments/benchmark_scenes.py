"""Builds and images the scenes of `benchmark_set.py`; a scene depends on its split and number."""

import dataclasses
from typing import Any, Literal

import jax
import numpy as np

from cryojax_seg import core
from cryojax_seg.core.ctf import ContrastTransfer
from cryojax_seg.core.plain import TiltAxis
from cryojax_seg.simulate import (
    Acquisition,
    Imaged,
    Imaging,
    Scene,
    TiltScheme,
    TiltSeriesImaging,
    Truth,
    WedgeImaging,
    presets,
    render,
)
from cryojax_seg.simulate.instrument import Microscope

VERSION = 1
MEMBRANE = 1  # index in `simulate.CLASSES`
LEAST = 0.005  # of the voxels are membrane; some scenes of ``varied`` have none
Split = Literal["train", "validation", "test"]
Tier = Literal["tilt series", "wedge"]
COUNTS: dict[Split, int] = {"train": 48, "validation": 8, "test": 16}
TIERS: tuple[Tier, ...] = ("tilt series", "wedge")
UNSEEN_PRESETS = {8: "organelles", 9: "varied", 10: "organelles", 11: "varied"}  # by test number
UNSEEN_SIZES = {12: 8.0, 13: 14.0, 14: 8.0, 15: 14.0}  # angstrom


@dataclasses.dataclass(frozen=True)
class Conditions:
    """States how a scene is built and imaged.

    Attributes:
        preset: name of a function of `simulate.presets`.
        voxel_size: angstrom.
        tilt_range: lowest and highest tilt, degrees.
        tilt_axis: "y" or "x".
        defocus: angstrom.
        contrast: mean of membrane minus that of its surroundings, in standard deviations of noise.
        fraction: volume fraction of the vesicles.
        crowding: fraction of the free volume that macromolecules fill.
        sheet: whether a membrane crosses the volume.
    """

    preset: str
    voxel_size: float
    tilt_range: tuple[float, float]
    tilt_axis: TiltAxis
    defocus: float
    contrast: float
    fraction: float
    crowding: float
    sheet: bool

    @property
    def wedge(self) -> core.MissingWedge:
        return core.MissingWedge(self.tilt_range, self.tilt_axis)


def conditions(split: Split, number: int) -> Conditions:
    """Return the conditions of a scene, which depend on the version, split and number alone."""
    rng = np.random.default_rng([VERSION, list(COUNTS).index(split), number])
    half, lean = rng.uniform(40, 70), rng.uniform(-5, 5)
    sheet = number % 4 == 1
    drawn = Conditions(
        preset="crowded" if number % 3 == 2 else "vesicles",
        voxel_size=round(rng.uniform(9, 12), 2),
        tilt_range=(round(max(-half + lean, -70.0), 1), round(min(half + lean, 70.0), 1)),
        tilt_axis="x" if number % 2 else "y",
        defocus=round(float(np.exp(rng.uniform(np.log(2e4), np.log(6e4)))), -2),
        contrast=round(float(np.exp(rng.uniform(np.log(0.2), 0))), 3),
        fraction=round(rng.uniform(0.01, 0.05) / (2 if sheet else 1), 3),
        crowding=round(rng.uniform(0.02, 0.25), 3),
        sheet=sheet,
    )
    if split == "test" and number in UNSEEN_PRESETS:
        return dataclasses.replace(drawn, preset=UNSEEN_PRESETS[number])
    if split == "test" and number in UNSEEN_SIZES:
        return dataclasses.replace(drawn, voxel_size=UNSEEN_SIZES[number])
    return drawn


def built(one: Conditions, key: Any, edge: int) -> Scene:
    """Return the scene; what its preset does not know is left out."""
    known = {
        "vesicles": {"fraction": one.fraction, "sheet": one.sheet, "proteins": 4},
        "crowded": {"fraction": one.fraction},
    }
    return getattr(presets, one.preset)(
        key, (edge,) * 3, one.voxel_size, crowding=one.crowding, **known.get(one.preset, {})
    )


def imaging_of(one: Conditions, tier: Tier, snr: float) -> Imaging:
    if tier == "wedge":
        return WedgeImaging(snr=snr, wedge=one.wedge)
    low, high = one.tilt_range
    scheme = TiltScheme.every(3.0, low, high, tilt_axis=one.tilt_axis)
    microscope = Microscope(ContrastTransfer(defocus=one.defocus))
    return TiltSeriesImaging(Acquisition(scheme, microscope), snr=snr)


@jax.jit
def _image(imaging, density, mask, voxel_size, key) -> Imaged:
    return imaging(density, mask, voxel_size, key)


def visible_contrast(imaged: Imaged, membrane: np.ndarray, background: np.ndarray) -> float:
    """Return the mean of membrane minus that of background, in standard deviations of the noise."""
    signal = np.asarray(imaged.signal)
    noise = np.asarray(imaged.density) - signal
    return float((signal[membrane].mean() - signal[background].mean()) / noise.std())


def imaged(one: Conditions, tier: Tier, truth: Truth, key: Any) -> tuple[Imaged, float]:
    """Return the images of a scene at the contrast of its conditions, and the contrast they have.

    The halves are those of the electrons of each tilt, so that their noise is independent.
    """
    labels = np.asarray(truth.labels)
    membrane, background = labels == MEMBRANE, labels == 0
    snr = 0.1
    for _ in range(2):  # the second time at the signal-to-noise ratio of the wanted contrast
        imaging = imaging_of(one, tier, snr)
        found = _image(imaging, truth.density, truth.structures, one.voxel_size, key)
        seen = visible_contrast(found, membrane, background)
        snr *= (one.contrast / max(seen, 0.02)) ** 2
    return found, seen


def with_membranes(one: Conditions, key: Any, edge: int) -> Truth:
    """Return the truth of a scene; where it has hardly any membrane, that of the next one."""
    for number in range(10):
        key = key if number == 0 else jax.random.fold_in(key, number)
        truth = render(built(one, key, edge))
        if (np.asarray(truth.labels) == MEMBRANE).mean() >= LEAST:
            return truth
    raise ValueError(f"no scene of {one} has {100 * LEAST:g} % of membrane")


def keys_of(split: Split, number: int) -> tuple[Any, Any]:
    """Return the random keys of a scene, and of its noise."""
    seed = 1000 * list(COUNTS).index(split) + number
    by_scene, by_noise = jax.random.split(jax.random.fold_in(jax.random.key(VERSION), seed))
    return by_scene, by_noise
