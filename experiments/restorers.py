"""Fits restorers to tilt series of the benchmark, as ``cryojax-seg restore`` does to a tomogram.

Wiener's filter is fitted to the halves of each tomogram. A network learns from the halves of all of
them together, without labels, or from phantoms of the same voxel sizes and missing wedges. It is as
fast as that of ``unet-fast``, which the default of ``restore`` is not.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from flax import nnx

from cryojax_seg import core, evaluate, losses, restore, training
from cryojax_seg.evaluate.restoration import invented
from cryojax_seg.segmenters import fit_normalization
from cryojax_seg.training.phantoms import KINDS
from experiments.benchmark_set import Case, Series

NONE, WIENER, SIMULATED = "none", "wiener", "simulated"
RECIPES = {
    "n2n": losses.NOISE2NOISE,
    "deepdewedge": losses.DEEPDEWEDGE,
    "equivariant": losses.EQUIVARIANT,
}


@dataclasses.dataclass(frozen=True)
class Lesson:
    """States how a restorer learns.

    Attributes:
        steps: of two patches each.
        patch: edge of the patches, voxels.
        width: number of channels of the network.
        phantoms: number of phantoms that "simulated" learns from.
        edge: of the phantoms, voxels; by default what their scenes need at 8 angstrom.
    """

    steps: int
    patch: int
    width: int = 16
    phantoms: int = 32
    edge: int = 76


def untrained(series: Sequence[Series], method: str, width: int, seed: int) -> core.LocalOperator:
    """Return a network behind the mean of the Wiener filters of these tilt series."""
    of = "mean" if method == SIMULATED else "half"
    gains = [np.asarray(restore.fit_wiener(*one.halves, of=of).gain[...]) for one in series]
    start = restore.RadialFilter(np.mean(gains, 0))
    return restore.unet_restorer(width, 1, start=start, stem="space_to_depth", rngs=nnx.Rngs(seed))


def phantoms(series: Sequence[Series], lesson: Lesson, seed: int) -> list[training.Example]:
    """Return phantoms with their truth that resemble the tilt series, and the presets, in turn."""
    found = []
    for number in range(lesson.phantoms):
        known = series[number % len(series)].case.conditions
        found += training.simulated(
            known.wedge,
            known.voxel_size,
            1,
            edge=lesson.edge,
            kinds=(KINDS[number % len(KINDS)],),
            seed=1000 * (seed + 1) + number,
        )
    return found


def learned(method: str, series: Sequence[Series], lesson: Lesson, seed: int) -> core.LocalOperator:
    """Train a restorer by a recipe on all tilt series, or on phantoms that resemble them."""
    if method == SIMULATED:
        examples, goal = phantoms(series, lesson, seed), losses.noise2clean
    else:
        goal = losses.restoration(RECIPES[method])
        examples = [
            example
            for one in series
            for example in training.unlabelled(
                one.case.volume, one.case.conditions.wedge, one.halves
            )
        ]
    settings = training.TrainConfig(
        steps=lesson.steps,
        patch=lesson.patch,
        learning_rate=1e-3,
        seed=seed,
        augmentation=training.Augmentation(intensity=0.0),
    )
    net = untrained(series, method, lesson.width, seed)
    return training.train(net, examples, settings, objective=goal, progress=False).operator


def restored(
    method: str, restorer: core.LocalOperator | None, one: Series, patch: int
) -> np.ndarray:
    """Return the restored volume of a tilt series, normalized as ``segment`` does it.

    A network that learned from halves restores each of them, and the mean is taken.

    Args:
        method: "none", "wiener", "simulated", or any other name for what learned from halves.
        restorer: the trained network; None for "none" and "wiener".
        one: the tilt series.
        patch: edge of the patches that the network learned from, voxels.
    """
    if method == NONE:
        return one.case.volume
    views = [one.case.volume] if method in (WIENER, SIMULATED) else list(one.halves)
    restorer = restore.fit_wiener(*one.halves) if method == WIENER else restorer
    assert restorer is not None
    fitted = fit_normalization(restorer, views[0], patch=patch)
    density = np.mean([core.apply(fitted, view)[..., 0] for view in views], axis=0)
    return np.asarray(core.normalize(density, "bright"))


def quality(cases: Sequence[Case], series: Sequence[Series]) -> dict[str, Any]:
    """Return what restored volumes invent, for each scene, and how they agree with the data.

    Dense is what is above halfway from the background to membranes that are clear. Dense voxels
    farther than two voxels from any structure are invented, relative to the voxels of structures.
    """
    found: dict[str, Any] = {"density_invented": [], "agreement": [], "filled": []}
    for case, one in zip(cases, series, strict=True):
        audit = evaluate.audit(one.case.volume, case.volume, case.conditions.wedge, count=1)
        found["density_invented"].append(invented(case.volume, one.structures, case.visibility)[1])
        found["agreement"].append(audit.agreement_overall)
        found["filled"].append(audit.filled_overall)
    return found
