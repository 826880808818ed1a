"""Turns the settings that a user gives into those of a training, and checks them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from cryojax_seg.errors import ParameterError
from cryojax_seg.training import methods
from cryojax_seg.training.config import Augmentation, Optimizer, TrainConfig

if TYPE_CHECKING:
    from cryojax_seg.core import Segmenter
    from cryojax_seg.training.example import Example

MINUTES = 30  # of a training whose length nobody says
CONSISTENCY = 0.3  # weight of what unlabelled tomograms teach
_MOST_STEPS = 1_000_000  # where minutes are the limit
# Settings of `TrainConfig` of the same name.
_PLAIN = ("steps", "minutes", "batch", "patch", "learning_rate", "warmup", "ema", "precision")
_PLAIN += ("validate_every", "patience", "seed", "optimizer")
_PROBABILITIES = ("flip", "rotate90", "rotate", "intensity", "noise", "blank", "narrow")
_PROBABILITIES += ("amplitude",)
SIZES = ("width", "depth", "stem")
_DEEPEST = 5  # halvings of a patch


class Settings(TypedDict, total=False):
    """Holds the settings of a method's training; absent or None values are its defaults.

    Attributes:
        steps: number of optimizer steps; the most of them if minutes are given.
        minutes: longest training, which ends earlier if the validation score rises no more.
        batch: number of patches per step.
        patch: edge of the patches, voxels. By default a small volume takes a smaller patch.
        learning_rate: peak learning rate.
        optimizer: "adamw" or "muon".
        warmup: number of steps in which it rises; below 1, their fraction of all steps.
        ema: decay per step of the running mean of the parameters, which is what is kept.
        precision: "f32" or "bf16", the precision of a network's products while it learns.
        augment: probabilities of changes of the patches, by the names of `Augmentation`; "flip" is
            0 or 1.
        width, depth, stem: size of a U-Net, as in `segmenters.UNet`.
        validate_every: number of steps between validations.
        patience: number of validations without improvement after which training stops; 0 never
            stops early.
        seed: seed of all random numbers; 0 by default.
    """

    steps: int | None
    minutes: float | int | None
    batch: int | None
    patch: int | None
    learning_rate: float | None
    optimizer: Optimizer | None
    warmup: float | int | None
    ema: float | None
    augment: Mapping[str, float | int]
    width: int | None
    depth: int | None
    stem: Literal["none", "space_to_depth"] | None
    validate_every: int | None
    precision: Literal["f32", "bf16"]
    patience: int
    seed: int


def check(method: str, **settings: Unpack[Settings]) -> None:
    """Refuse settings that are wrong whatever the data are.

    Raises:
        ParameterError: naming the first of them.

    >>> try:
    ...     check("threshold", width=8)
    ... except ParameterError as error:
    ...     print(error)
    width describes a U-Net; the method threshold is none
    """
    given: Mapping[str, Any] = settings
    for name in _PLAIN:
        if (value := given.get(name)) is None:
            continue
        try:
            TrainConfig(**{name: value})
        except ValueError as error:
            raise ParameterError(str(error), name) from None
    augmentation(settings.get("augment") or {})
    sizes = _sizes(settings)
    if sizes and not methods.parts(method)[0].startswith("unet"):
        names, verb = " and ".join(sizes), "describe" if len(sizes) > 1 else "describes"
        raise ParameterError(
            f"{names} {verb} a U-Net; the method {method} is none", *("method", *sizes)
        )
    if sizes.get("width", 1) < 1:
        raise ParameterError(f"width must be at least 1, got {sizes['width']}", "width")
    if not 0 <= sizes.get("depth", 0) <= _DEEPEST:
        raise ParameterError(f"depth must be 0 to {_DEEPEST}, got {sizes['depth']}", "depth")


def _sizes(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name in SIZES if settings.get(name) is not None}


def augmentation(probabilities: Mapping[str, float | int]) -> Augmentation:
    """Return the usual augmentation with other probabilities.

    Raises:
        ParameterError: for an unknown name, or what is no probability.

    >>> augmentation({"noise": 0.3, "flip": 0}).noise
    0.3
    """
    for name in probabilities:
        if name not in _PROBABILITIES:
            raise ParameterError(
                f"no augmentation is called {name!r}; there are {', '.join(_PROBABILITIES)}",
                "augment",
            )
    changes: dict[str, Any] = dict(probabilities)
    if changes.get("flip", 0) not in (0, 1):
        raise ParameterError(f"flip is 0 or 1, got {changes['flip']:g}", "augment")
    if "flip" in changes:
        changes["flip"] = bool(changes["flip"])
    try:
        return dataclasses.replace(Augmentation(), **changes)
    except ValueError as error:
        raise ParameterError(str(error), "augment") from None


def resized(segmenter: Any, **settings: Unpack[Settings]) -> Any:
    """Return an untrained U-Net of another size; the segmenter itself if no size is given.

    Args:
        segmenter: an untrained U-Net.
        settings: see `Settings`, of which width, depth, stem and seed matter.

    >>> resized(methods.build("unet", ("membrane",), None), width=4, depth=1).width
    4
    """
    from flax import nnx

    from cryojax_seg.core import hyperparameters

    sizes = _sizes(settings)
    if not sizes:
        return segmenter
    arguments: dict[str, Any] = hyperparameters(segmenter) | sizes
    return type(segmenter)(**arguments, rngs=nnx.Rngs(settings.get("seed", 0)))


def _given(value: Any, usual: Any) -> Any:
    return usual if value is None else value


def configured(
    method: str,
    segmenter: "Segmenter",
    examples: Sequence["Example"],
    **settings: Unpack[Settings],
) -> TrainConfig:
    """Return the settings of a method's training on these examples.

    Absent settings take the defaults of the method; a small volume takes a smaller patch.

    Args:
        method: name of the method, see `known`.
        segmenter: segmenter of that method; patches are a multiple of its stride.
        examples: the examples to learn from.
        settings: see `Settings`.

    >>> import numpy as np
    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> from cryojax_seg.training import Example
    >>> small = Example(np.zeros((16, 64, 64), np.float32))
    >>> configured("threshold", GlobalThreshold(), [small], steps=10).patch_shape
    (16, 40, 40)
    """
    usual, patch = methods.defaults(method), settings.get("patch")
    minutes, steps = settings.get("minutes"), settings.get("steps")
    known = steps is not None or minutes is None
    if steps is None:
        steps = usual.steps if known else _MOST_STEPS
    warmup = TrainConfig.warmup if known else TrainConfig.warmup * usual.steps
    # The statistics of each tomogram are measured anew, which must stay a small part of all.
    often = max(33 * (len(examples) + 1), min(100, steps // 5 if known else usual.steps // 10))
    edges: tuple[int, int, int]
    if patch is not None:
        edges = (patch, patch, patch)
    else:
        stride, shapes = segmenter.stride, [e.volume.shape for e in examples]
        fit = [min(sizes) for sizes in zip(*shapes, strict=True)]
        z, y, x = (min(pair) // stride * stride for pair in zip(usual.patch, fit, strict=True))
        edges = (max(z, stride), max(y, stride), max(x, stride))
    return TrainConfig(
        steps=steps,
        minutes=minutes,
        warmup=_given(settings.get("warmup"), warmup),
        batch=_given(settings.get("batch"), usual.batch),
        patch=edges,
        learning_rate=_given(settings.get("learning_rate"), usual.learning_rate),
        ema=_given(settings.get("ema"), usual.ema),
        optimizer=_given(settings.get("optimizer"), usual.optimizer),
        augmentation=augmentation(settings.get("augment") or {}),
        seed=settings.get("seed", 0),
        precision=settings.get("precision", "f32"),
        patience=settings.get("patience", 0),
        validate_every=_given(settings.get("validate_every"), often),
        checkpoint_every=max(1, min(200, steps // 2)),
    )
