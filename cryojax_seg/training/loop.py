"""Runs training with validation, checkpoints, interruption and resumption."""

import contextlib
import dataclasses
import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic

import numpy as np

from cryojax_seg.core.operator import LocalOperator, Operator
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.errors import Mendable
from cryojax_seg.losses import Objective
from cryojax_seg.runtime import devices, processes
from cryojax_seg.runtime.interrupts import Interrupts
from cryojax_seg.segmenters import fit_normalization
from cryojax_seg.training import rundir
from cryojax_seg.training.config import TrainConfig, TrainingError
from cryojax_seg.training.convergence import Trend, trend
from cryojax_seg.training.example import Example
from cryojax_seg.training.imaging import CONTEXT
from cryojax_seg.training.record import NotFinite, recording
from cryojax_seg.training.resume import Best, on_host, starting_point
from cryojax_seg.training.samples import exact_margin, prepare, without_examples
from cryojax_seg.training.schedule import Phases
from cryojax_seg.training.step import (
    Metrics,
    TrainState,
    initial_state,
    learnable,
    make_step,
    take_apart,
)
from cryojax_seg.training.stream import Feed, Stream
from cryojax_seg.training.task import Task

_log = logging.getLogger("cryojax_seg.training")


@dataclasses.dataclass(frozen=True)
class Result(Generic[Operator]):
    """Holds the result of a training.

    Returned by `train`.

    Attributes:
        operator: the operator with the running mean of the parameters at the step of the best
            validation, or at the last step without validation. Normalisation statistics are fitted
            to the first example, unless a signal ended the training.
        history: one dict per step with step, loss, norm, rate, seconds, and dice and
            average_precision where validated.
        steps: number of finished steps.
        stopped: reason of the end: "finished", "converged", "out of time", "no improvement", or the
            name of a signal.
        score: best validation Dice; None without validation.
        trend: how fast the score rose before the learning rate fell; None where it is not known.
    """

    operator: Operator
    history: list[dict[str, Any]]
    steps: int
    stopped: str
    score: float | None
    trend: Trend | None = None


def train(
    operator: Operator,
    examples: Sequence[Example],
    config: TrainConfig,
    *,
    validation: Sequence[Example] = (),
    replayed: Sequence[Example] = (),
    stream: Stream | None = None,
    objective: Objective | None = None,
    learn: Any = None,
    run: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Result[Operator]:
    """Train a segmenter on sparsely annotated tomograms, or a restorer by an objective.

    The batch is divided over as many devices as possible. With a run folder, checkpoints,
    ``run.json`` and ``metrics.jsonl`` are written there, and SIGTERM, SIGUSR1 or SIGINT end the
    training after the current step, or in the middle of a validation, with everything saved;
    ``resume=True`` then continues bit for bit. It also extends a run that has ended, if the
    settings allow more steps or minutes than before: the learning rate returns to its peak and
    falls again at the new end. With a lower learning rate it goes on from its best parameters.

    Several joined processes (see `processes.join`) that call this with the same arguments share the
    work and get the same result. Only the first of them writes to the run folder, and a signal to
    any of them ends all at the same step.

    Args:
        operator: any segmenter or restorer, which is not modified.
        examples: annotated tomograms; there may be none if all patches are of phantoms, and then
            validation is needed.
        config: settings of the training.
        validation: examples with held-out annotation, see `split_annotation`; they decide which
            parameters are kept and when to stop early.
        replayed: examples from which `config.replay` more patches of every step are drawn, such as
            those that the operator learned from before.
        stream: simulated scenes from which `config.phantoms` more patches of every step are drawn,
            each imaged anew.
        objective: ``objective(operator, batch) -> scalar``; a segmenter has a default, see
            `core.Segmenter.default_loss`. Restorers need one: see `losses.restoration`,
            `losses.noise2clean` and `losses.adversarial`.
        learn: an nnx filter for the parameters that learn, instead of `config.learn`:
            ``nnx.PathContains("threshold")`` learns the threshold and freezes its softness.
        run: folder of this run. It is made if absent, and locked unless it comes from
            `rundir.exclusive`.
        resume: whether to continue the run in that folder.
        progress: whether to show loss, rate and time left on stderr.

    Raises:
        ValueError: for examples that cannot be trained on, or a batch that cannot be divided evenly
            over the processes.
        TrainingError: if the run folder is in use, already holds a run, holds another run, or
            holds no sound checkpoint; if nothing is learnable; and if the loss stops being finite,
            with the step and the patches, after saving the last finite state.
        OSError: if the disk is full.

    >>> import numpy as np
    >>> from cryojax_seg.segmenters import LinearVote
    >>> labels = np.zeros((16, 16, 16), int)
    >>> labels[:, 4:8] = 1
    >>> example = Example(labels.astype(np.float32), labels)
    >>> result = train(LinearVote(1), [example], TrainConfig(steps=2, patch=8), progress=False)
    >>> result.steps, len(result.history), result.stopped
    (2, 2, 'finished')
    """
    patch = config.patch_shape
    if any(edge % operator.stride for edge in patch):
        raise ValueError(
            f"patch {patch} must be a multiple of the stride {operator.stride} of "
            f"{type(operator).__name__}"
        )
    classes = operator.classes if isinstance(operator, Segmenter) else ()
    objective = objective or _default_loss(operator)
    if validation and not classes:
        raise ValueError("validation compares labels, and a restorer gives none")
    for example in validation:
        example.require_labels("validation")
        example.check_labels(classes)
    if bool(config.replay) != bool(replayed):
        raise ValueError(
            f"{config.replay} patches a step are replayed, of {len(replayed)} examples; give both"
        )
    if bool(config.phantoms) != (stream is not None):
        raise ValueError(
            f"{config.phantoms} patches a step are of phantoms, and "
            f"{'no' if stream is None else 'a'} stream is given; give both"
        )
    if stream is not None:
        _check_stream(stream, classes, [*examples, *replayed], patch)
        if not (examples or validation) or bool(config.batch) != bool(examples):
            raise ValueError(
                f"{config.batch} patches a step are of {len(examples)} examples; give both, or "
                "none of them and validation"
            )
    mesh = devices.data_mesh(config.patches)
    margin = exact_margin(operator, patch) if config.margin is None else config.margin
    samples = without_examples()
    if examples or stream is None:
        samples = prepare(
            examples,
            classes,
            patch,
            margin,
            config.voxels_per_class,
            config.seed,
            everywhere=config.unannotated > 0,
            replayed=replayed,
        )
    examples = [*examples, *replayed]
    parts = take_apart(operator, learnable(config.learn) if learn is None else learn)
    state = initial_state(parts, config)
    switches = (run is None, resume, bool(validation))
    processes.check_same(state, samples, repr((config, classes, switches)))
    step = make_step(parts, objective, config, margin, mesh)
    with contextlib.ExitStack() as stack:
        folder = None if run is None else Path(run)
        best = Best(on_host(state.ema))
        if folder is not None:
            description = rundir.describe(operator, config, examples, stream)
            if not isinstance(run, rundir.Held):
                held = rundir.exclusive(folder)
                processes.on_primary(lambda: str(stack.enter_context(held).folder))
            state, best = starting_point(folder, description, resume, state, best, config)
        state, samples = devices.replicated((state, samples), mesh)
        feed = None if stream is None else stack.enter_context(Feed(stream, mesh))
        task = Task(config, parts, step, samples, examples, validation, margin, mesh, folder, feed)
        return _run(task, state, best, progress)


def _check_stream(
    stream: Stream, classes: tuple[str, ...], examples: Sequence[Example], patch: Any
) -> None:
    if stream.classes != classes:
        raise ValueError(f"the stream labels {stream.classes}, and {classes} are to be learned")
    if all(example.labels is None for example in examples):
        for example in examples:
            example.require_labels("training beside phantoms")
    smallest = tuple(edge + 2 * CONTEXT for edge in patch)
    if any(n < least for n, least in zip(stream.scenes.shape, smallest, strict=True)):
        raise ValueError(
            f"scenes of {stream.scenes.shape} voxels are too small: patches with their context "
            f"have {smallest}"
        )


def _default_loss(operator: LocalOperator) -> Objective:
    if isinstance(operator, Segmenter):
        return operator.default_loss()
    raise ValueError(
        f"a {type(operator).__name__} has no default loss; give an objective, such as "
        "losses.restoration()"
    )


def _run(task: Task, state: TrainState, best: Best, progress: bool) -> Result:
    """Take steps until the end, an interruption, or no improvement."""
    config, start = task.config, int(state.step)
    count, plan = start, Phases(*np.asarray(state.phases).tolist())
    with contextlib.ExitStack() as stack:
        interrupts = Interrupts()
        if task.folder is not None:  # else nothing could be saved: signals keep their effect
            stack.enter_context(interrupts)
        # A signal may have cut that validation short.
        late = task.due(start, plan) and best.judged < start
        score = task.judge(state, best, interrupts) if late else None
        made_up = score if start else None  # the start is no step, and has no line in the record
        record = stack.enter_context(recording(config, task.folder, start, progress, made_up))
        if score is not None and not start:
            _log.info(f"it begins at a validation Dice of {score['dice']:.3f}")
        if plan.ends < config.steps:  # it was decided before the run was resumed
            record.expect(plan.ends)
        pending: Metrics | None = None
        stopped = _exhausted(config, best)
        if late and score is None:  # and again
            interrupts.ask()
            stopped = _name(interrupts.agreed())
        try:
            while count < plan.ends and stopped is None:
                interrupts.ask(record.failure)
                state, metrics = task.step(state, task.samples_at(count))
                count += 1
                # The numbers of a step are fetched while the next one runs.
                if pending is not None:
                    record.add(pending)
                pending = metrics
                last = count == plan.ends or interrupts.agreed() is not None
                judge, decides = task.due(count, plan), task.decides(count) and not last
                saves = last or count % config.checkpoint_every == 0
                if not (saves or judge or decides):
                    continue
                score = None
                if judge and metrics["finite"]:
                    score = task.judge(state, best, interrupts)
                pending = record.add(metrics, score)
                if decides:
                    former, plan = plan, task.decided(plan, record.history, count)
                    state = task.follow(state, plan)
                    record.expect(plan.ends)
                    # Of what a clock decided, a run that is resumed must know.
                    saves = saves or task.commits(former, plan, count)
                interrupts.ask(record.failure)  # again, as a validation may have taken long
                stopped = _name(interrupts.agreed()) or _exhausted(config, best)
                if saves or stopped:
                    task.save(state, best)
        except NotFinite as error:
            if int(state.step) > start:  # else it is the checkpoint that was resumed from
                task.save(state, best)
            raise _not_finite(task, state, error.values) from None
    last = best.score is None or not config.keep_best
    operator = task.operator(state, state.ema if last else best.params)
    known = trend(record.history, config.learning_rate)
    if stopped is None:
        stopped = _reason(config, plan, known)
    result = Result(operator, record.history, count, stopped, best.score, known)
    if stopped in signal.Signals.__members__:
        return result
    if 0 < start == count:
        _log.warning(_how_to_go_on(config, count))
    fitted = fit_normalization(
        operator, task.measured, patch=min(config.patch_shape), seed=config.seed
    )
    return dataclasses.replace(result, operator=fitted)


def _reason(config: TrainConfig, plan: Phases, known: Trend | None) -> str:
    if config.minutes is None or plan.ends == config.steps:
        return "finished"
    return "converged" if known is not None and known.flat else "out of time"


def _how_to_go_on(config: TrainConfig, count: int) -> Mendable:
    limit = "steps" if config.minutes is None else "minutes"
    text = f"this run ended after step {count}; to go on, resume it with more {limit}"
    return Mendable(text, limit, "resume")


def _not_finite(task: Task, state: TrainState, values: dict[str, Any]) -> TrainingError:
    kept = f"; the state before it is kept in {task.folder}" if task.folder else ""
    lower = "Resume it with a lower" if task.folder else "Choose a lower"
    return TrainingError(
        f"step {values['step']}: the loss is {values['loss']:g} and the norm of its gradient "
        f"{values['norm']:g}, with the patches {task.patches(state)}{kept}. {lower} learning rate, "
        "or look at these patches",
        *(("resume", "learning_rate") if task.folder else ("learning_rate",)),
    )


def _name(number: int | None) -> str | None:
    return None if number is None else signal.Signals(number).name


def _exhausted(config: TrainConfig, best: Best) -> str | None:
    return "no improvement" if 0 < config.patience <= best.stale else None
