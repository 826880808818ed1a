"""Provides the restorers of the experiments, and the tomograms that they restore."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from flax import nnx

from cryojax_seg import core, losses, restore, segmenters, training
from cryojax_seg.simulate import presets
from experiments.annotated import scene
from experiments.scenes import phantom


@dataclasses.dataclass(frozen=True)
class Noisy:
    """Holds a normalized tomogram, with halves ``(2, z, y, x)`` of independent noise or None."""

    volume: np.ndarray
    halves: np.ndarray | None
    wedge: core.MissingWedge


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Holds a tomogram with known truth; weights are 0 where the truth is unknown."""

    noisy: Noisy
    labels: np.ndarray
    weights: np.ndarray
    visibility: np.ndarray
    clean: np.ndarray | None = None


def simulated(seed: int, edge: int, snr: float, wedge: core.MissingWedge) -> Labelled:
    """Make vesicles and sheets with halves."""
    one = phantom(seed, edge, snr, wedge)
    intensity = core.measure_intensity(np.asarray(one.density), "bright")

    def scaled(density) -> np.ndarray:
        return np.asarray(core.Normalized(np.asarray(density), intensity)[:])

    halves = np.stack([scaled(one.imaged.even), scaled(one.imaged.odd)])
    labels = np.asarray(one.labels == 1, np.int32)
    return Labelled(
        Noisy(scaled(one.density), halves, wedge),
        labels,
        np.ones(labels.shape, np.float32),
        np.asarray(one.visibility),
        np.asarray(one.truth.density),
    )


def microtubules() -> list[Labelled]:
    """Return both real volumes; the training volume is annotated in five slices."""
    scenes = []
    for name, slices in (("14pf", (6, 12, 18, 24, 30)), ("13pf", None)):
        one = scene(name)
        weights = one.annotated(name, slices).weights
        wedge = one.wedge or core.MissingWedge((-90.0, 90.0))
        scenes.append(Labelled(Noisy(one.volume, None, wedge), one.labels, weights, one.visibility))
    return scenes


@dataclasses.dataclass(frozen=True)
class Effort:
    """Sets how long a restorer is trained, and how wide its U-Net is."""

    steps: int = 200
    width: int = 8
    patch: int = 32
    learning_rate: float = 1e-3


# The number of phantoms is unlimited, so they support more steps of a wider U-Net.
PATIENT = Effort(700, 16, 48)
Restored = tuple[list[np.ndarray], core.LocalOperator | None]
Make = Callable[[list[Noisy], Effort, int], Restored]

FILTERS = {
    "gaussian": lambda one: restore.Gaussian(1.5),
    "local contrast": lambda one: restore.LocalContrast(8.0, radius=16),
    "diffusion": lambda one: restore.AnisotropicDiffusion(),
    "non-local means": lambda one: restore.NonLocalMeans(3, 1, 0.8),
    "wiener": lambda one: wiener(one),
}
RECIPES = {
    "n2n": losses.NOISE2NOISE,
    "isonet": losses.ISONET,
    "isonet2": losses.ISONET2,
    "deepdewedge": losses.DEEPDEWEDGE,
    "equivariant": losses.EQUIVARIANT,
}
SIMULATED = {
    "simulated": (presets.vesicles,),
    "simulated (other scenes)": (presets.organelles, presets.cytoskeleton, presets.crowded),
}
SINGLE = " (no halves)"
ENERGY = "energy"


def wiener(one: Noisy, of: Literal["mean", "half"] = "mean") -> restore.RadialFilter:
    if one.halves is None:
        return restore.fit_wiener_white(one.volume)
    return restore.fit_wiener(*one.halves, of=of)


def run(name: str, tomograms: list[Noisy], effort: Effort, seed: int) -> tuple[Restored, float]:
    """Return restored tomograms, the restorer if it was trained, and the CPU-seconds.

    Each filter is fitted to its tomogram; a network is trained on all of them together, or on
    phantoms.
    """
    start = time.process_time()
    if name == "none":
        found: Restored = ([one.volume for one in tomograms], None)
    elif name in FILTERS:
        found = ([core.apply(FILTERS[name](one), one.volume)[..., 0] for one in tomograms], None)
    elif name in SIMULATED:
        found = from_phantoms(name, tomograms, seed)
    else:
        if name.endswith(SINGLE):
            tomograms = [dataclasses.replace(one, halves=None) for one in tomograms]
        found = learned(name.removesuffix(SINGLE), tomograms, effort, seed)
    return found, time.process_time() - start


def trained(
    module: core.LocalOperator,
    goal: losses.Objective,
    examples: list[training.Example],
    effort: Effort,
    seed: int,
) -> core.LocalOperator:
    config = training.TrainConfig(
        steps=effort.steps,
        patch=effort.patch,
        learning_rate=effort.learning_rate,
        seed=seed,
        augmentation=training.Augmentation(intensity=0.0),
    )
    return training.train(module, examples, config, objective=goal, progress=False).operator


def learned(name: str, tomograms: list[Noisy], effort: Effort, seed: int) -> Restored:
    """Train a restorer on all tomograms, starting from Wiener's filter of the first."""
    net = restore.unet_restorer(
        effort.width, start=wiener(tomograms[0], "half"), rngs=nnx.Rngs(seed)
    )
    energy = name == ENERGY
    judge = segmenters.ConvNet(3, 8, norm="weight", rngs=nnx.Rngs(1))
    module = losses.EnergyTrained(net, judge) if energy else net
    goal = losses.adversarial() if energy else losses.restoration(RECIPES[name])
    examples = [
        example
        for one in tomograms
        for example in training.unlabelled(one.volume, one.wedge, one.halves)
    ]
    restorer: Any = trained(module, goal, examples, effort, seed)
    restorer = restorer.restorer if energy else restorer
    return [apply(restorer, one, energy, seed) for one in tomograms], restorer


def from_phantoms(name: str, tomograms: list[Noisy], seed: int) -> Restored:
    """Train a restorer on phantoms with known truth, of 10 angstrom and the same wedge."""
    net = restore.unet_restorer(PATIENT.width, start=wiener(tomograms[0]), rngs=nnx.Rngs(seed))
    kinds = SIMULATED[name]
    examples = training.simulated(tomograms[0].wedge, 10.0, kinds=kinds, seed=5000 + seed)
    restorer = trained(net, losses.noise2clean, examples, PATIENT, seed)
    wholes = [dataclasses.replace(one, halves=None) for one in tomograms]
    return [apply(restorer, one, False, seed) for one in wholes], restorer


def apply(restorer: core.LocalOperator, one: Noisy, energy: bool, seed: int) -> np.ndarray:
    """Return the mean over halves, or over samples of a restorer trained against an energy."""
    fitted = segmenters.fit_normalization(restorer, one.volume)
    if energy:
        return restore.sample_statistics(fitted, one.volume, one.wedge, 4, seed)[0]
    views = [one.volume] if one.halves is None else list(one.halves)
    return np.mean([core.apply(fitted, view)[..., 0] for view in views], axis=0)
