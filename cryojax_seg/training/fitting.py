"""Trains a method on annotated tomograms, and scores and saves the model."""

import contextlib
import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Unpack

import platformdirs

from cryojax_seg.core import Chain, LocalOperator, Segmenter
from cryojax_seg.errors import ParameterError
from cryojax_seg.losses import Objective
from cryojax_seg.runtime.processes import arrays_from_primary, on_primary
from cryojax_seg.text import percent
from cryojax_seg.training import methods, rundir, semi_supervised, starting
from cryojax_seg.training.config import TrainConfig
from cryojax_seg.training.example import Example
from cryojax_seg.training.fitted import Fitted, finished
from cryojax_seg.training.loop import train
from cryojax_seg.training.phantoms import resembling
from cryojax_seg.training.prior import with_prior
from cryojax_seg.training.reading import Examples, divided
from cryojax_seg.training.restorers import BORDER, jointly, restored
from cryojax_seg.training.settings import (
    CONSISTENCY,
    MINUTES,
    SIZES,
    Settings,
    check,
    configured,
    resized,
)
from cryojax_seg.training.stream import Stream

_log = logging.getLogger("cryojax_seg.training")


def fit_model(
    data: Examples,
    run: str | PathLike[str] | None = None,
    *,
    method: str | None = None,
    start: starting.Start | None = None,
    replay: float | int | None = None,
    unlabelled: Examples | None = None,
    consistency: float = CONSISTENCY,
    validation: float | int | None = None,
    hold_out: int | None = None,
    restorer: LocalOperator | None = None,
    joint: float = 0.0,
    resume: bool = False,
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    progress: bool = True,
    **settings: Unpack[Settings],
) -> Fitted:
    """Train a method on annotated tomograms, score it on held-out annotation, and save the model.

    If neither steps nor minutes are given, it trains until the score on the held-out annotation
    rises no more, for at most 30 minutes; without any held out, it takes the usual steps of the
    method.

    Args:
        data: the annotated tomograms, from `read_examples`.
        run: folder of the run, whose folder ``model`` can be passed to `inference.load`; None keeps
            nothing.
        method: name of the method, see `methods.known`; by default that of `start`, or
            "unet-fast".
        start: a trained segmenter and its card, as `io.load_model` returns them, from whose
            parameters the training begins. It learns at a third of the usual rate. Classes are
            matched by name; new ones begin with random parameters of the head of the network.
        replay: fraction of the patches of each step that are drawn from simulated phantoms, so that
            a few slices do not overwrite what the model knew. By default 0.5 with a `start`, if the
            simulation knows all classes, else 0.
        unlabelled: tomograms without annotation, from `read_unlabelled`, of which as many patches
            teach in each step as of the annotated ones, where the segmenter is sure of them.
        consistency: weight of what they teach.
        validation: fraction of the annotation that is held out, 0 for none. It decides which
            parameters are kept. By default 0.2, or one whole tomogram of three or more.
        hold_out: index of a tomogram that is held out entirely instead.
        restorer: a restorer that is applied to the tomograms first, and does not change.
        joint: factor of the restorer's own loss; if positive, the restorer learns too.
        resume: whether to continue the run in that folder. One that has ended takes more steps or
            minutes, as `train` says.
        overwrite: whether to replace a run in that folder.
        provenance: plain values that describe the source of the data, stored in the model's card
            and as ``config.yaml`` in the folder.
        progress: whether to show loss, rate and time left on stderr.
        settings: settings that differ from the defaults of the method, see `settings.Settings`.

    Raises:
        ParameterError: for an unknown method, a fraction or a factor without meaning, a class
            of which nothing would be left to learn from, or a start that does not fit.
        TrainingError: as `train`.

    >>> import numpy as np
    >>> labels = np.zeros((20, 16, 16), int)
    >>> labels[:, 4:8] = 1
    >>> one = Example(labels.astype(np.float32), labels)
    >>> found = fit_model(
    ...     Examples((one,)), method="threshold", steps=2, patch=8, progress=False
    ... )
    >>> found.result.steps, found.card.patch, sorted(found.scores)
    (2, 8, ['foreground'])
    """
    if start is None:
        method = method or methods.USUAL
    else:
        method, data = starting.method_of(start, method), starting.named_like(start, data)
        starting.check_start(start, data)
        data = starting.sized_like(start, data)
        if any(settings.get(name) is not None for name in SIZES):
            raise ParameterError("a start model has a size of its own", *SIZES)
    methods.known(method)
    check(method, **settings)
    share = starting.replayed_share(data, start is not None, replay)
    if not 0 <= joint < math.inf:
        raise ParameterError(f"joint is a factor, 0 or more, got {joint}", "joint")
    if joint and restorer is None:
        raise ParameterError("joint lets a restorer learn along; give one", "restorer")
    if joint and any(example.wedge is None for example in data.examples):
        raise ParameterError("joint needs the tilt range of every tomogram", "tilt_range")
    others: tuple[Example, ...] = ()
    if unlabelled is not None:
        if restorer is not None:
            raise ParameterError(
                "tomograms without labels teach by the missing wedge, which a restorer fills; "
                "leave one of both out",
                *("unlabelled", "restorer"),
            )
        others = semi_supervised.beside(unlabelled, data, consistency)
    seed = settings.get("seed", 0)
    examples, held_out = divided(data.examples, data.classes, validation, hold_out, seed)
    if held_out and settings.get("steps") is None and settings.get("minutes") is None:
        settings["minutes"] = MINUTES
    if start is None:
        segmenter = methods.build(method, data.classes, examples[0].measured, seed)
        segmenter = with_prior(resized(segmenter, **settings), examples)
    else:
        segmenter = starting.begin(start[0], data.classes, seed)
    config = configured(method, segmenter, examples, **settings)
    if start is not None:
        config = dataclasses.replace(config, validate_start=True, trunk=starting.TRUNK)
    if share:
        more = max(1, round(config.batch * share / (1 - share)))
        # A restorer that stays as it is restores whole phantoms beforehand.
        imaged = {"phantoms": more} if restorer is None or joint else {"replay": more}
        config = dataclasses.replace(config, **imaged)
    task = _Task(segmenter, examples, held_out, (), None, config, methods.objective(method))
    if others:
        objective, config = semi_supervised.consistent(
            task.objective, segmenter, config, consistency
        )
        task = dataclasses.replace(task, objective=objective, config=config)
    with contextlib.ExitStack() as stack:
        if run is not None:
            held = run if isinstance(run, rundir.Held) else _hold(Path(run), stack)
            on_primary(lambda: rundir.begin(held.folder, provenance, overwrite))
            run = held
        if config.phantoms:
            task = dataclasses.replace(task, stream=_stream(data, config))
        elif config.replay:
            task = dataclasses.replace(task, replayed=_whole(_stream(data, config)))
        seen = task if restorer is None else _behind(restorer, task, joint)
        _log.info(f"training {method} on {_described(examples, others, config)}")
        result = train(
            seen.operator,
            [*seen.examples, *others],
            seen.config,
            validation=seen.held_out,
            replayed=seen.replayed,
            stream=seen.stream,
            objective=seen.objective,
            run=run,
            resume=resume,
            progress=progress,
        )
        if restorer is not None and not joint:
            both = Chain([restorer, result.operator])
            result = dataclasses.replace(result, operator=both)
        stated = {"method": method, "config": dict(provenance or {})}
        return finished(result, data, task.examples, task.held_out, seen.config, run, stated)


def _hold(folder: Path, stack: contextlib.ExitStack) -> rundir.Held:
    """Hold the folder of the run until the stack ends; the first process does it for all."""
    on_primary(lambda: str(stack.enter_context(rundir.exclusive(folder)).folder))
    return rundir.Held(folder)


def _described(examples: Sequence[Example], others: Sequence[Example], config: TrainConfig) -> str:
    known = sum(float((e.weights > 0).mean()) for e in examples) / len(examples)
    simulated = config.replay + config.phantoms
    return (
        f"{len(examples)} tomogram(s), {percent(known)} annotated"
        + (f", and {len(others)} without labels" if others else "")
        + f": {_length(config)} of "
        f"{config.batch} patches "
        + "x".join(map(str, config.patch_shape))
        + (f", {config.unannotated} without labels" if config.unannotated else "")
        + (f", and {simulated} of phantoms" if simulated else "")
    )


def _stream(data: Examples, config: TrainConfig) -> Stream:
    """Return scenes of phantoms that resemble the tomograms, kept for the next training."""
    assert data.voxel_size is not None  # `starting.replayed_share` found one
    wedge, size = data.examples[0].wedge, sum(data.voxel_size) / 3
    cache = platformdirs.user_cache_path("cryojax-seg") / "scenes"
    return resembling(data.classes, wedge, size, config.patch_shape, config.seed, cache=cache)


def _whole(stream: Stream) -> list[Example]:
    """Image whole phantoms, the same in every process."""
    found = [stream.example(number) for number in range(stream.first)]
    arrays = arrays_from_primary([(one.volume, one.labels) for one in found])
    return [
        dataclasses.replace(one, volume=volume, labels=labels)
        for one, (volume, labels) in zip(found, arrays, strict=True)
    ]


def _length(config: TrainConfig) -> str:
    if config.minutes is None:
        return f"{config.steps} steps"
    return f"until the score rises no more, at most {config.minutes:g} minutes, steps"


@dataclasses.dataclass(frozen=True)
class _Task:
    """Holds an operator to train, with its examples and settings."""

    operator: Segmenter
    examples: Sequence[Example]
    held_out: Sequence[Example]
    replayed: Sequence[Example]
    stream: Stream | None
    config: TrainConfig
    objective: Objective | None


def _behind(restorer: LocalOperator, task: _Task, joint: float) -> _Task:
    """Return the task of a segmenter behind a restorer, which learns too or does not change."""
    config, segmenter = task.config, task.operator
    if joint:
        both, objective = jointly(restorer, segmenter, task.objective, joint)
        config = dataclasses.replace(config, margin=min(BORDER, min(config.patch_shape) // 5))
        return dataclasses.replace(task, operator=both, config=config, objective=objective)
    patch = max(config.patch_shape)  # it stays as it is, so whole volumes can be restored first
    examples, held_out, replayed = (
        restored(restorer, es, patch) for es in (task.examples, task.held_out, task.replayed)
    )
    return dataclasses.replace(task, examples=examples, held_out=held_out, replayed=replayed)
