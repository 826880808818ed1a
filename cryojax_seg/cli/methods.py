"""The methods by name: how each is made for some classes, and how long it is trained by default.

A segmenter of one's own has the name ``MODULE:CLASS``, as Python would import it. Comparisons and
experiments take it as any other; it is made as ``CLASS(classes=..., rngs=...)``, the latter if its
constructor has it, and is trained as filters are.
"""

import dataclasses
import importlib
import inspect
from typing import Any, Literal, get_args

Method = Literal[
    "unet",
    "unet-fast",
    "unet-large",
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


def known(name: str) -> str:
    """The name, if it is that of a method, or of a segmenter of one's own that can be imported.

    Raises:
        ValueError: if it is not.

    >>> known("vote")
    'vote'
    """
    if ":" in name:
        own(name)
    elif name not in get_args(Method):
        raise ValueError(
            f"unknown method {name!r}; known are {', '.join(get_args(Method))}, and MODULE:CLASS "
            "for a segmenter of your own"
        )
    return name


def own(name: str) -> Any:
    """The class that ``MODULE:CLASS`` names.

    Raises:
        ValueError: if there is no such module, or it has no such segmenter.
    """
    from cryojax_seg.core import Segmenter

    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ValueError(f"method {name!r}: {error}; is its folder in PYTHONPATH?") from None
    if not (isinstance(found, type) and issubclass(found, Segmenter)):
        raise ValueError(f"method {name!r}: {module} has no segmenter called {attribute!r}")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ValueError(f"method {name!r}: {attribute} lacks {missing}")
    return found


def defaults(method: str) -> Defaults:
    """Networks learn long and slowly, filters with a handful of parameters fast.

    >>> defaults("unet").learning_rate < defaults("threshold").learning_rate
    True
    """
    match method:
        case "unet" | "unet-fast" | "unet-large" | "convnet":
            return Defaults(1000, 2, (48, 48, 48), 3e-3, 0.99, False)
        case "tomoseg":  # slice by slice, so a patch needs width rather than depth
            return Defaults(1000, 2, (8, 128, 128), 1e-3, 0.99, False)
        case "vote":
            return Defaults(400, 2, (40, 40, 40), 1e-2, 0.95)
        case _:
            return Defaults()


def objective(method: str):
    """The objective of a method; None for the default of `training.train`."""
    from cryojax_seg import losses

    return losses.supervised(losses.dice) if defaults(method).overlap_only else None


def build(method: str, classes: tuple[str, ...], volume, seed: int = 0):
    """An untrained segmenter of this method.

    Filters that know one class vote for several with `core.Stacked`, each at two scales and
    beside the intensity.

    Args:
        method: its name; see `known`.
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
            return s.unet_preset("standard", classes, rngs=rngs)
        case "unet-fast":
            return s.unet_preset("fast", classes, rngs=rngs)
        case "unet-large":
            return s.unet_preset("large", classes, rngs=rngs)
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
        case _:
            mine = own(known(method))
            random = {"rngs": rngs} if "rngs" in inspect.signature(mine.__init__).parameters else {}
            return mine(classes=classes, **random)
    if len(classes) == 1:
        return one(classes=classes)
    return Stacked([*members, s.GlobalThreshold(1.0)], classes)
