"""Builds methods by name, with the defaults of their training.

Your own segmenter has the name ``MODULE:CLASS``, as Python would import it. Comparisons and
experiments accept it like any other method. It is built as ``CLASS(classes=..., rngs=...)``, the
latter if its constructor takes it, and is trained with the defaults of filters.

``METHOD@MODULE:FUNCTION`` is a method whose loss is replaced by your own ``loss(logits, labels,
weights)`` or ``objective(segmenter, batch)``.
"""

import dataclasses
import importlib
import inspect
from typing import Any, Literal, get_args

from cryojax_seg.errors import ParameterError
from cryojax_seg.training.config import Optimizer

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

# Methods that can be fitted to a tomogram without annotation, see `untrained.first_look`.
Untrained = Literal["threshold", "sheet", "tensor-voting"]

NAMES = ",".join(get_args(Method))
USUAL: Method = "unet-fast"  # what is trained unless a method is named


@dataclasses.dataclass(frozen=True)
class Defaults:
    """Holds the default settings of a method's training (see `training.TrainConfig`).

    `overlap_only`: whether to minimise the Dice loss alone. A filter rarely knows enough of a noisy
    voxel to make a rare class the most probable one, so cross-entropy would teach it to find
    nothing.
    """

    steps: int = 150
    batch: int = 2
    patch: tuple[int, int, int] = (40, 40, 40)
    learning_rate: float = 0.05
    ema: float = 0.9
    overlap_only: bool = True
    optimizer: Optimizer = "adamw"


def named(text: str) -> list[str]:
    """Return the names of methods in a text with commas between them, each once.

    Raises:
        ParameterError: naming a method that does not exist, or for no name.

    >>> named("threshold, unet")
    ['threshold', 'unet']
    """
    names = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not names:
        raise ParameterError("no method given; name one or more", "methods")
    try:
        return [known(name) for name in names]
    except ValueError as error:
        raise ParameterError(str(error), "methods") from None


def known(name: str) -> str:
    """Return the name if its method and its loss exist, or can be imported if they are your own.

    Raises:
        ValueError: if one does not.

    >>> known("vote")
    'vote'
    >>> known("vote@cryojax_seg.losses:tversky")
    'vote@cryojax_seg.losses:tversky'
    """
    method, loss = parts(name)
    if ":" in method:
        own(method)
    elif method not in get_args(Method):
        raise ValueError(
            f"unknown method {method!r}; known are {', '.join(get_args(Method))}, and MODULE:CLASS "
            "for a segmenter of your own"
        )
    if loss is not None:
        own_objective(loss)
    return name


def parts(name: str) -> tuple[str, str | None]:
    """Split a name into the method and the loss it is trained with; None for its own loss.

    >>> parts("unet@mine:loss"), parts("unet")
    (('unet', 'mine:loss'), ('unet', None))
    """
    method, at, loss = name.partition("@")
    return method, loss if at else None


def own_objective(name: str) -> Any:
    """Return the objective that ``MODULE:FUNCTION`` names; a loss of logits becomes one.

    Raises:
        ValueError: if there is no such function, or it takes neither (logits, labels, weights) nor
            (segmenter, batch).
    """
    from cryojax_seg import losses

    found = _imported(name, "loss", "MODULE:FUNCTION")
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    called: bool = callable(found)
    taken = inspect.signature(found).parameters.values() if called else ()
    match sum(p.kind in kinds and p.default is p.empty for p in taken):
        case 3:
            return losses.supervised(found)
        case 2:
            return found
    raise ValueError(
        f"loss {name!r} must be a function of (logits, labels, weights) or (segmenter, batch)"
    )


def _imported(name: str, kind: str, form: str) -> Any:
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        raise ValueError(f"{kind} {name!r} must be {form}")
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ValueError(f"{kind} {name!r}: {error}; is its folder in PYTHONPATH?") from None


def own(name: str) -> Any:
    """Return the class that ``MODULE:CLASS`` names.

    Raises:
        ValueError: if there is no such module, or it has no such segmenter.
    """
    from cryojax_seg.core import Segmenter

    found = _imported(name, "method", "MODULE:CLASS")
    module, _, attribute = name.partition(":")
    if not (isinstance(found, type) and issubclass(found, Segmenter)):
        raise ValueError(f"method {name!r}: {module} has no segmenter called {attribute!r}")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ValueError(f"method {name!r}: {attribute} lacks {missing}")
    return found


def defaults(method: str) -> Defaults:
    """Return the default settings of a method; networks train longer and more slowly than filters.

    >>> defaults("unet").learning_rate < defaults("threshold").learning_rate
    True
    """
    match parts(method)[0]:
        case "unet" | "unet-fast" | "unet-large":
            return Defaults(1000, 2, (48, 48, 48), 1e-2, 0.99, False, "muon")
        case "convnet":
            return Defaults(1000, 2, (48, 48, 48), 3e-3, 0.99, False)
        case "tomoseg":  # slice by slice, so a patch needs width rather than depth
            return Defaults(1000, 2, (8, 128, 128), 1e-3, 0.99, False)
        case "vote":
            return Defaults(400, 2, (40, 40, 40), 1e-2, 0.95)
        case _:
            return Defaults()


def objective(method: str):
    """Return the objective of a method; None for the default of `training.train`."""
    from cryojax_seg import losses

    loss = parts(method)[1]
    if loss is not None:
        return own_objective(loss)
    return losses.supervised(losses.dice) if defaults(method).overlap_only else None


def build(method: str, classes: tuple[str, ...], volume, seed: int = 0):
    """Return an untrained segmenter of this method.

    Filters of one class are combined for several classes by `core.Stacked`, each at two scales and
    beside the intensity.

    Args:
        method: name of the method, see `known`.
        classes: names of the classes, as in `core.Segmenter`.
        volume: a normalized volume, whose Otsu threshold is the initial threshold.
        seed: seed of the initial kernels of networks.
    """
    from flax import nnx

    from cryojax_seg import segmenters as s
    from cryojax_seg.core import Stacked

    rngs = nnx.Rngs(seed)
    method = parts(method)[0]
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
