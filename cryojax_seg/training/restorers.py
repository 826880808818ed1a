"""Trains restorers: each method has a name, an objective, and a usual length of training.

Every method trains a U-Net behind Wiener's filter, without labels. `fit_restorer` trains one on one
tomogram; `restored` and `jointly` put a restorer in front of a segmenter that is trained.
"""

import dataclasses
import logging
import os
import signal
from collections.abc import Sequence
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
from flax import nnx

from cryojax_seg import losses
from cryojax_seg.core import Chain, LocalOperator, MissingWedge, Segmenter, apply, plan_tiles
from cryojax_seg.core.blocks import Readable
from cryojax_seg.core.intensity import measured_box
from cryojax_seg.core.plain import Shape
from cryojax_seg.errors import ParameterError
from cryojax_seg.restore import RadialFilter, fit_wiener, fit_wiener_white, unet_restorer
from cryojax_seg.segmenters import ConvNet, fit_normalization
from cryojax_seg.training.config import Augmentation, Interrupted, RestorerMethod, TrainConfig
from cryojax_seg.training.example import Example
from cryojax_seg.training.loop import Result, train
from cryojax_seg.training.phantoms import simulated
from cryojax_seg.training.restoring import unlabelled

log = logging.getLogger(__name__)

NEED_HALVES = ("n2n", "deepdewedge", "isonet2")
BORDER = 6  # voxels at the faces of a patch without loss, if its restorer learns too
_THINNEST = 16  # voxels of a patch; a thinner volume is continued by mirror images
_LARGEST = 256  # voxels along the block in which a spectrum is measured
_RECIPES = {
    "equivariant": losses.EQUIVARIANT,
    "n2n": losses.NOISE2NOISE,
    "deepdewedge": losses.DEEPDEWEDGE,
    "isonet": losses.ISONET,
    "isonet2": losses.ISONET2,
}


class Learning(TypedDict, total=False):
    """Holds the settings of a restorer's training, each of which has a default.

    Attributes:
        steps: number of optimizer steps; by default 400, and 700 for "simulated".
        batch: number of patches per step; 2 by default.
        patch: edge of the patches in voxels, a multiple of 4; by default 32, and 48 for
            "simulated". A smaller volume takes a smaller patch.
        width: number of channels of the finest level of the U-Net; by default 8, and 16 for
            "simulated". A wide network that learns for long from one small tomogram overfits its
            noise.
        learning_rate: peak learning rate of AdamW; 1e-3 by default.
        phantoms: number of phantoms that "simulated" learns from; 32 by default.
        seed: seed of all random numbers; 0 by default.
    """

    steps: int | None
    batch: int
    patch: int | None
    width: int | None
    learning_rate: float
    phantoms: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Holds the length and the size of a training.

    Attributes:
        steps: number of optimizer steps.
        patch: edge of the patches, in voxels.
        width: number of channels of the finest level of the U-Net.
    """

    steps: int
    patch: int
    width: int


def schedule(method: str, shape: Shape, **learning: Unpack[Learning]) -> Schedule:
    """Return the steps, patches and width of a method's training on a volume of this shape.

    A single tomogram holds little to learn from, so a wider U-Net overfits its noise, and so does
    one that sees each part too often. Many phantoms allow both.

    >>> schedule("simulated", (64, 64, 64), steps=9)
    Schedule(steps=9, patch=48, width=16)
    >>> schedule("equivariant", (26, 64, 64)).patch
    24
    """
    usual = (700, 48, 16) if method == "simulated" else (400, 32, 8)
    asked = (learning.get(name) for name in ("steps", "patch", "width"))
    steps, patch, width = (b if a is None else a for a, b in zip(asked, usual, strict=True))
    return Schedule(steps, min(patch, *(max(n // 4 * 4, _THINNEST) for n in shape)), width)


def check_learning(method: str, halves: Any, **learning: Unpack[Learning]) -> None:
    """Raise a ParameterError for the first setting that this method cannot be trained with."""
    if method in NEED_HALVES and halves is None:
        raise ParameterError(
            f"method {method!r} needs halves, two tomograms of independent noise; equivariant, "
            "isonet, energy, simulated and wiener work without",
            "halves",
        )
    if (phantoms := learning.get("phantoms", 1)) < 1:
        raise ParameterError(f"phantoms must be 1 or more, got {phantoms}", "phantoms")
    patch = learning.get("patch")
    if patch is not None and (patch % 4 or patch < 16):
        raise ParameterError(f"patch must be a multiple of 4, 16 or more, got {patch}", "patch")


def fit_restorer(
    volume: Readable,
    wedge: MissingWedge,
    halves: Sequence[Readable] | None = None,
    *,
    method: RestorerMethod = "equivariant",
    voxel_size: float | None = None,
    name: str = "tomogram",
    run: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = False,
    **learning: Unpack[Learning],
) -> Result:
    """Train a restorer on one tomogram, or with "simulated" on phantoms that resemble it.

    Args:
        volume: the normalized tomogram ``(z, y, x)``, an array or a `core.Normalized`.
        wedge: missing wedge of the tomogram.
        halves: two volumes of the same shape and scale with independent noise.
        method: name of the objective that is minimised, see `losses.restoration`,
            `losses.adversarial` ("energy") and `losses.noise2clean` ("simulated").
        voxel_size: voxel size in angstrom, which only "simulated" needs.
        name: name of the tomogram, for messages and the record of the run.
        run, resume, progress: as in `train`.
        learning: the settings of the training, see `Learning`.

    Returns:
        the result of `train`, whose operator is the restorer.

    Raises:
        ParameterError: if a setting is invalid, or the method needs halves or a voxel size that
            is not given.
        Interrupted: if a signal ended the training.
        TrainingError: as in `train`.

    >>> noise = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    >>> wedge = MissingWedge((-60.0, 60.0))
    >>> result = fit_restorer(noise, wedge, steps=1, patch=16, width=2)
    >>> result.steps, result.operator(noise).shape
    (1, (16, 16, 16, 1))
    """
    check_learning(method, halves, **learning)
    if method == "simulated" and voxel_size is None:
        raise ParameterError(
            f"{name}: has no voxel size, which phantoms need; give voxel_size", "voxel_size"
        )
    seed = learning.get("seed", 0)
    usual = schedule(method, volume.shape, **learning)
    config = TrainConfig(
        steps=usual.steps,
        batch=learning.get("batch", 2),
        patch=usual.patch,
        learning_rate=learning.get("learning_rate", 1e-3),
        seed=seed,
        augmentation=Augmentation(intensity=0.0),
        checkpoint_every=max(1, min(200, usual.steps // 4)),
    )
    operator, objective = _learner(method, volume, halves, usual.width, seed)
    log.info(
        f"{method} on {name}{'' if halves is None else ' and its halves'}: {config.steps} steps of "
        f"{config.batch} patches of {usual.patch}^3"
    )
    if method == "simulated" and voxel_size is not None:
        examples = simulated(wedge, voxel_size, learning.get("phantoms", 32), seed=seed)
    else:
        examples = unlabelled(volume, wedge, halves, seed=seed, name=name)
    result = train(
        operator, examples, config,
        objective=objective, run=run, resume=resume, progress=progress,
    )  # fmt: skip
    if result.stopped in signal.Signals.__members__:
        raise Interrupted(signal.Signals[result.stopped], result.steps)
    trained = result.operator
    if isinstance(trained, losses.EnergyTrained):
        result = dataclasses.replace(result, operator=trained.restorer)
    return result


def fit_wiener_to(
    volume: Readable,
    halves: Sequence[Readable] | None = None,
    of: Literal["mean", "half"] = "mean",
) -> RadialFilter:
    """Fit Wiener's filter to the middle of a volume of any size, from its halves if there are any.

    Args:
        volume: the normalized volume ``(z, y, x)``; blank parts of a `core.Normalized` are left
            out.
        halves: two volumes of the same shape and scale with independent noise.
        of: "mean" for a filter of the mean of the halves, "half" for a filter of each of them.

    Raises:
        ValueError: if there are no halves and the noise is not white.
    """
    if halves is None:
        return fit_wiener_white(_middle(volume, volume))
    one, other = (_middle(half, volume) for half in halves)
    return fit_wiener(one, other, of=of)


def _middle(volume: Readable, whole: Readable) -> np.ndarray:
    """Return the part of a volume around the middle of the box that holds data in the whole."""
    box = measured_box(whole)
    edges = [min(s.stop - s.start, _LARGEST) for s in box]
    starts = [(s.start + s.stop - e) // 2 for s, e in zip(box, edges, strict=True)]
    where = tuple(slice(a, a + e) for a, e in zip(starts, edges, strict=True))
    return np.asarray(volume[where], np.float32)


def _learner(
    method: str, volume: Readable, halves: Sequence[Readable] | None, width: int, seed: int
) -> tuple[Any, Any]:
    """Return the network to train, a U-Net behind Wiener's filter, and its objective."""
    # The share is that of noise in the spectrum, for a tomogram that has to be split.
    start, share = None, None
    own = method != "simulated"
    try:
        start = fit_wiener_to(volume, halves, "half" if own else "mean")
    except ValueError as error:
        if halves is not None:
            raise
        log.warning(
            f"{error}. All of the spectrum is taken to be noise, which smooths"
            if own
            else f"{error}. Simulated noise is nearly white, so this tomogram is not like them"
        )
        share = 1.0
    restorer = unet_restorer(width, start=start, rngs=nnx.Rngs(seed))
    if method == "energy":
        energy = ConvNet(3, 8, norm="weight", rngs=nnx.Rngs(1))
        return losses.EnergyTrained(restorer, energy), losses.adversarial(share=share)
    if method == "simulated":
        return restorer, losses.noise2clean
    return restorer, losses.restoration(_RECIPES[method], share=share)


def restored(
    restorer: LocalOperator, examples: Sequence[Example], patch: int = 64
) -> list[Example]:
    """Apply a restorer to the volumes of examples.

    Args:
        restorer: the restorer, whose statistics are fitted to each volume before it is applied.
        examples: the examples that a segmenter will learn from.
        patch: as in `segmenters.fit_normalization`.

    >>> from cryojax_seg.restore import Gaussian
    >>> volume = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    >>> (one,) = unlabelled(volume, MissingWedge((-60.0, 60.0)))
    >>> bool(restored(Gaussian(1.0), [one])[0].volume.std() < 0.5 * volume.std())
    True
    """
    found = []
    for example in examples:
        fitted = fit_normalization(restorer, example.measured, patch=patch)
        volume = apply(fitted, example.volume, plan_tiles(fitted, example.volume.shape))[..., 0]
        if example.missing is not None:
            volume[example.missing] = 0
        found.append(dataclasses.replace(example, volume=volume))
    return found


def jointly(
    restorer: LocalOperator,
    segmenter: Segmenter,
    objective: losses.Objective | None,
    factor: float,
) -> tuple[Chain, losses.Objective]:
    """Return a segmenter behind a restorer that learns too, and their objective.

    Args:
        restorer, segmenter: the operators before training.
        objective: objective of the segmenter; None for its default.
        factor: weight of the restorer's own loss, `losses.restoration`.

    >>> from cryojax_seg.restore import Gaussian
    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> both, _ = jointly(Gaussian(1.0), GlobalThreshold(0.5), None, 0.3)
    >>> [type(r).__name__ for r in both.restorers]
    ['Gaussian']
    """
    both = Chain([restorer, segmenter])
    objective = both.default_loss() if objective is None else objective
    return both, losses.add(objective, losses.restoration(), factors=(1.0, factor))
