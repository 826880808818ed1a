"""The methods by name: how each is made for some classes, and how long it is trained by default."""

import dataclasses
from typing import Literal

Method = Literal[
    "unet",
    "convnet",
    "vote",
    "threshold",
    "local-threshold",
    "hysteresis",
    "sheet",
    "tube",
    "blob",
    "tensor-voting",
    "tomoseg",
]


@dataclasses.dataclass(frozen=True)
class Defaults:
    """What training uses for a method unless told otherwise (see `training.TrainConfig`).

    `overlap_only`: minimise the Dice loss alone. What a filter knows of a noisy voxel rarely makes
    a rare class the more probable one, so cross-entropy would teach it to find nothing.
    """

    steps: int = 150
    batch: int = 2
    patch: tuple[int, int, int] = (40, 40, 40)
    learning_rate: float = 0.05
    ema: float = 0.9
    overlap_only: bool = True


def defaults(method: Method) -> Defaults:
    """Networks learn long and slowly, filters with a handful of parameters fast.

    >>> defaults("unet").learning_rate < defaults("threshold").learning_rate
    True
    """
    match method:
        case "unet" | "convnet":
            return Defaults(1000, 2, (48, 48, 48), 3e-3, 0.99, False)
        case "tomoseg":  # slice by slice, so a patch needs width rather than depth
            return Defaults(1000, 2, (8, 128, 128), 1e-3, 0.99, False)
        case "vote":
            return Defaults(400, 2, (40, 40, 40), 1e-2, 0.95)
        case _:
            return Defaults()


def objective(method: Method):
    """The objective of a method; None for the default of `training.train`."""
    from cryojax_seg import losses

    return losses.supervised(losses.dice) if defaults(method).overlap_only else None


def build(method: Method, classes: tuple[str, ...], volume, seed: int = 0):
    """An untrained segmenter of this method.

    Filters that know one class vote for several with `core.Stacked`, each at two scales and
    beside the intensity.

    Args:
        method: its name.
        classes: as in `core.Segmenter`.
        volume: a normalized volume, whose Otsu threshold starts the threshold.
        seed: of the initial kernels of networks.
    """
    from flax import nnx

    from cryojax_seg import segmenters as s
    from cryojax_seg.core import Stacked

    rngs = nnx.Rngs(seed)
    match method:
        case "unet":
            return s.UNet(classes=classes, rngs=rngs)
        case "convnet":
            return s.ConvNet(classes=classes, rngs=rngs)
        case "tomoseg":
            return s.Tomoseg(head="sigmoid_bce", classes=classes, rngs=rngs)
        case "vote":
            return s.LinearVote(radius=3, classes=classes)
        case "threshold":
            return s.otsu(volume, classes=classes)
        case "local-threshold":
            return s.LocalThreshold(classes=classes)
        case "hysteresis":
            one, members = s.Hysteresis, [s.Hysteresis(0.5, 1.5), s.Hysteresis(1.0, 2.0)]
        case "sheet":
            one, members = s.SheetFilter, [s.SheetFilter((1.5,)), s.SheetFilter((3.0,))]
        case "tube":
            one, members = s.TubeFilter, [s.TubeFilter((1.5,)), s.TubeFilter((3.0,))]
        case "blob":
            one, members = s.BlobFilter, [s.BlobFilter((1.5,)), s.BlobFilter((3.0,))]
        case "tensor-voting":
            one, members = s.TensorVoting, [s.TensorVoting()]
    if len(classes) == 1:
        return one(classes=classes)
    return Stacked([*members, s.GlobalThreshold(1.0)], classes)
