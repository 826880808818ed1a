"""Prepares a trained model to learn on from annotation of other tomograms."""

import dataclasses
import inspect
import logging
from typing import Any

import numpy as np
from flax import nnx

from cryojax_seg.core import Chain, Segmenter, class_names, hyperparameters, label_names
from cryojax_seg.errors import Mendable, ParameterError
from cryojax_seg.io import ModelCard
from cryojax_seg.io.modules import flat_state, with_state
from cryojax_seg.segmenters import thaw_normalization
from cryojax_seg.simulate import CLASSES
from cryojax_seg.training import methods
from cryojax_seg.training.phantoms import not_simulated
from cryojax_seg.training.reading import Examples
from cryojax_seg.training.resampling import alike, angstrom, at_one_size

Start = tuple[Segmenter, ModelCard]  # as `io.load_model` returns them
TRUNK = 1 / 3  # of the learning rate of the last layers; more of it unlearns what a model knows
ALIKE = 0.1  # fraction by which the axes of a voxel may differ in a simulation
FAR = 2.001  # ratio of voxel sizes above which nothing is known of the model
FINEST = 2.5  # angstrom; phantoms of finer voxels take minutes
_log = logging.getLogger("cryojax_seg.training")


def method_of(start: Start, method: str | None = None) -> str:
    """Return the method of a model; one that is given may only add a loss of its own.

    Raises:
        ParameterError: if another method is given, or the model does not tell its own.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> method_of((GlobalThreshold(0.5), ModelCard(provenance={"method": "threshold"})))
    'threshold'
    """
    stated = start[1].provenance.get("method")
    if not isinstance(stated, str):
        if method is None:
            raise ParameterError(
                f"the start model, a {type(start[0]).__name__}, does not tell its method; give it",
                "method",
            )
        return method
    if method is None:
        return stated
    if methods.parts(method)[0] != methods.parts(stated)[0]:
        raise ParameterError(
            f"the start model is a {stated}, not a {method}; leave the method out, or start with "
            "another model",
            *("method", "start"),
        )
    return method


def named_like(start: Start, data: Examples) -> Examples:
    """Return the data with the classes of the model where the labels have no names of their own.

    Raises:
        ParameterError: if the number of classes differs, so that they have to be named.
    """
    known, count = start[0].classes, len(label_names(data.classes)) - 1
    if data.classes != class_names((), count) or data.classes == known:
        return data
    if len(known) != len(data.classes):
        raise ParameterError(
            f"the labels have {count} class(es) without names, and the start model knows "
            f"{', '.join(label_names(known)[1:])}; name the classes of the labels",
            "classes",
        )
    return dataclasses.replace(data, classes=known)


def check_start(start: Start, data: Examples) -> None:
    """Refuse a model that cannot learn on from these tomograms.

    A warning is logged if the tomograms have the other contrast, or no voxel size.

    Raises:
        ParameterError: if the model restores first, voxel sizes differ more than twofold, or
            classes differ and the method is no network.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> start = (GlobalThreshold(0.5), ModelCard(voxel_size=(10.0, 10.0, 10.0)))
    >>> check_start(start, Examples((), voxel_size=(27.0, 27.0, 27.0)))
    Traceback (most recent call last):
    cryojax_seg.errors.ParameterError: the tomograms have voxels of 27 angstrom, ...
    """
    segmenter, card = start
    if isinstance(segmenter, Chain):
        raise ParameterError(
            "the start model restores tomograms before it segments them; start with a model that "
            "was trained without a restorer",
            "start",
        )
    if card.voxel_size is None or data.voxel_size is None:
        lacking = "the start model does not tell its" if data.voxel_size else "the tomograms lack a"
        _log.warning(Mendable(f"{lacking} voxel size, so nobody knows if it fits", "voxel_size"))
    else:
        ratios = [a / b for a, b in zip(data.voxel_size, card.voxel_size, strict=True)]
        if max(ratios) > FAR or min(ratios) < 1 / FAR:
            raise ParameterError(
                f"the tomograms have voxels of {angstrom(data.voxel_size)} angstrom, and the "
                f"start model learned from {angstrom(card.voxel_size)}, more than twofold off; "
                "start with another model, or give voxel_size if the files are wrong",
                *("start", "voxel_size"),
            )
    if card.contrast != data.contrast:
        text = (
            f"the start model learned from tomograms of {card.contrast} structure, these are said "
            f"to have {data.contrast} structure; both work, if that is so"
        )
        _log.warning(Mendable(text, "contrast"))
    if data.classes != segmenter.classes and not _is_network(segmenter):
        raise ParameterError(
            f"the start model knows the classes {', '.join(segmenter.classes)}, and only a network "
            f"can learn others, not a {type(segmenter).__name__}; name the same classes in the "
            "same order, or start without a model",
            *("classes", "start"),
        )


def sized_like(start: Start, data: Examples) -> Examples:
    """Return the data in voxels of the model, resampled with its labels if they differ by over 5 %.

    Nothing changes where a voxel size is unknown.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> from cryojax_seg.training import Example
    >>> volume = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    >>> data = Examples((Example(volume, np.ones((8, 8, 8), int)),), voxel_size=(5.0, 5.0, 5.0))
    >>> start = (GlobalThreshold(0.5), ModelCard(voxel_size=(10.0, 10.0, 10.0)))
    >>> found = sized_like(start, data)
    >>> found.examples[0].volume.shape, found.voxel_size
    ((4, 4, 4), (10.0, 10.0, 10.0))
    """
    wanted, size = start[1].voxel_size, data.voxel_size
    if wanted is None or size is None or alike(size, wanted):
        return data
    examples = at_one_size(data.examples, [size] * len(data.examples), wanted)
    return dataclasses.replace(data, examples=tuple(examples), voxel_size=wanted)


def replayed_share(data: Examples, started: bool, replay: float | int | None = None) -> float:
    """Return the fraction of the patches of a step that are drawn from phantoms.

    By default it is a half for a model that was started from another, unless the tomograms or their
    classes cannot be simulated, which the log says, and 0 for a new one.

    Args:
        data: the annotated tomograms.
        started: whether the model learned before.
        replay: the fraction that is asked for; None for the default.

    Raises:
        ParameterError: if the fraction has no meaning, or cannot be had.

    >>> replayed_share(Examples((), ("membrane",), (10.0, 10.0, 10.0)), started=True)
    0.5
    """
    if replay is not None and not 0 <= replay < 1:
        raise ParameterError(
            f"replay is the fraction of phantoms in a step, from 0 to below 1, got {replay}",
            "replay",
        )
    if replay == 0 or (replay is None and not started):
        return 0.0
    reason = _not_simulated(data)
    if reason is None:
        return 0.5 if replay is None else replay
    if replay is not None:
        raise ParameterError(f"no phantoms can be replayed: {reason}", "replay")
    _log.info(f"no phantoms are replayed: {reason}")
    return 0.0


def _not_simulated(data: Examples) -> str | None:
    """Return the reason why phantoms of these tomograms cannot be simulated; None if they can."""
    if missing := not_simulated(data.classes):
        return (
            f"{', '.join(missing)} cannot be simulated; "
            f"classes of these names can: {', '.join(CLASSES[1:])}"
        )
    if data.voxel_size is None:
        return "the voxel size is not known"
    finest, widest = min(data.voxel_size), max(data.voxel_size)
    if widest > (1 + ALIKE) * finest:
        return f"voxels of {angstrom(data.voxel_size)} angstrom are no cubes"
    if finest < FINEST:
        return f"voxels of {finest:.4g} angstrom are finer than {FINEST:g} angstrom"
    return None


def begin(segmenter: Segmenter, classes: tuple[str, ...], seed: int = 0) -> Segmenter:
    """Return a trained segmenter as one to train, for these classes.

    Frozen normalisation statistics become those of each patch again. The head keeps the part of
    each class that has the same name, and the part of a new class is drawn as in a new network; the
    log says which. A network of one class, whose background has the logit 0, may become one of
    several classes, and the other way round.

    Args:
        segmenter: the segmenter, which is not modified; a network, unless it has these classes.
        classes: classes to learn, as in `core.Segmenter`.
        seed: seed of the part of new classes.

    >>> from cryojax_seg.segmenters import ConvNet
    >>> net = ConvNet(1, 2, classes=("membrane",), rngs=nnx.Rngs(0))
    >>> more = begin(net, ("background", "actin", "membrane"))
    >>> volume = np.random.default_rng(0).normal(size=(4, 4, 4)).astype(np.float32)
    >>> bool(np.allclose(more(volume)[..., 2], net(volume)[..., 0], atol=1e-6))
    True
    """
    thawed = thaw_normalization(segmenter)
    if classes == segmenter.classes:
        return thawed
    arguments = hyperparameters(thawed)

    network: Any = type(thawed)

    def build(names: tuple[str, ...]) -> Any:
        return network(**{**arguments, "classes": names}, rngs=nnx.Rngs(seed))

    fresh, known = build(classes), segmenter.classes
    old, new = ({n: np.asarray(v) for n, v in flat_state(m).items()} for m in (thawed, fresh))
    # What has another shape with one class more belongs to the head.
    more = flat_state(nnx.eval_shape(lambda: build((*known, ""))))
    values = {
        name: value if more[name].shape == value.shape else _head(value, new[name], known, classes)
        for name, value in old.items()
    }
    mine, theirs = label_names(classes)[1:], label_names(known)[1:]
    _log.info(
        f"the start model keeps what it knows of {_listed(n for n in mine if n in theirs)}; new is "
        f"{_listed(n for n in mine if n not in theirs)}, no longer told apart is "
        f"{_listed(n for n in theirs if n not in mine)}"
    )
    return with_state(fresh, values)


def _listed(names: Any) -> str:
    return ", ".join(names) or "nothing"


def _is_network(segmenter: Segmenter) -> bool:
    """Return whether a segmenter has random parameters at first, and classes as an argument."""
    return {"rngs", "classes"} <= set(inspect.signature(type(segmenter).__init__).parameters)


def _head(
    old: np.ndarray, fresh: np.ndarray, known: tuple[str, ...], classes: tuple[str, ...]
) -> np.ndarray:
    """Return the kernel or bias of a head for other classes, which are the fastest of its axis."""
    outputs = old.reshape(*old.shape[:-1], -1, len(known))
    drawn = fresh.reshape(*fresh.shape[:-1], -1, len(classes))
    if len(known) == 1:  # a sigmoid is a softmax beside a background of logit 0
        outputs = np.concatenate([np.zeros_like(outputs), outputs], -1)
    names = ("background", *label_names(known)[1:])
    if len(classes) == 1:
        (name,) = classes
        if name in names:
            drawn = outputs[..., names.index(name), None] - outputs[..., :1]
        return drawn.reshape(fresh.shape)
    wanted = ("background", *classes[1:])
    parts = [
        outputs[..., names.index(name)] if name in names else drawn[..., number]
        for number, name in enumerate(wanted)
    ]
    return np.stack(parts, -1).reshape(fresh.shape)
