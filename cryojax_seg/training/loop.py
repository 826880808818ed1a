"""Training from start to end: steps, validation, checkpoints, interruption and resumption."""

import contextlib
import dataclasses
import os
import signal
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg import losses
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.losses import Objective
from cryojax_seg.segmenters import fit_normalization
from cryojax_seg.training import checkpoint, rundir, validate
from cryojax_seg.training.batch import Annotated
from cryojax_seg.training.config import TrainConfig, TrainingError
from cryojax_seg.training.progress import reporter, tensorboard
from cryojax_seg.training.sampling import Samples, exact_margin, places, prepare
from cryojax_seg.training.signals import Interrupts
from cryojax_seg.training.step import (
    Arrays,
    Metrics,
    Parts,
    Step,
    TrainState,
    data_mesh,
    initial_state,
    learnable,
    make_step,
    replicated,
    step_key,
    take_apart,
)


@dataclasses.dataclass(frozen=True)
class Result:
    """What training gives.

    Attributes:
        segmenter: with the running mean of the parameters, from the step of the best validation,
            or of the last step without validation. Normalisation statistics are fitted to the
            first example.
        history: one dict per step: step, loss, norm, rate, seconds, and dice where validated.
        steps: finished steps.
        stopped: why it ended: "finished", "no improvement", or the name of a signal.
        score: best validation Dice; None without validation.
    """

    segmenter: Segmenter
    history: list[dict[str, Any]]
    steps: int
    stopped: str
    score: float | None


@dataclasses.dataclass
class _Best:
    """The best validation so far."""

    params: Arrays
    score: float | None = None
    step: int = 0
    stale: int = 0  # validations since the score last rose

    def consider(self, score: float, step: int, params: Arrays) -> None:
        risen = self.score is None or score > self.score
        self.stale = 0 if risen else self.stale + 1
        if risen or score == self.score:  # of equals the later, which has seen more
            self.score, self.step = score, step
            self.params = jax.tree.map(jnp.array, params)

    def meta(self) -> dict[str, Any]:
        return {"score": self.score, "step": self.step, "stale": self.stale}


def train(
    segmenter: Segmenter,
    examples: Sequence[Annotated],
    config: TrainConfig,
    *,
    validation: Sequence[Annotated] = (),
    objective: Objective | None = None,
    learn: Any = None,
    run: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Result:
    """Trains a segmenter on sparsely annotated tomograms.

    Uses all devices that divide the batch. With a run folder it writes checkpoints, ``run.json``
    and ``metrics.jsonl`` there, and SIGTERM, SIGUSR1 or SIGINT end it after the current step with
    everything saved; ``resume=True`` then continues bit for bit.

    Args:
        segmenter: any; it is not changed.
        examples: annotated tomograms.
        config: see `TrainConfig`.
        validation: held-out annotation (`split_annotation` makes some); decides which parameters
            are kept and when to stop early.
        objective: ``objective(segmenter, batch) -> scalar``; see `losses.default_objective`.
        learn: an nnx filter for the parameters that learn, instead of `config.learn`:
            ``nnx.PathContains("threshold")`` learns the threshold and freezes its softness.
        run: folder of this run; made if absent.
        resume: continue the run in that folder.
        progress: show loss, rate and time left on stderr.

    Raises:
        ValueError: for examples that cannot be trained on.
        TrainingError: if the run folder is in use, already holds a run, holds another run, or
            holds no sound checkpoint; if nothing is learnable; and if the loss stops being finite,
            with the step and the patches, after saving the last finite state.
        OSError: if the disk is full.
    """
    patch = config.patch_shape
    if any(edge % segmenter.stride for edge in patch):
        raise ValueError(
            f"patch {patch} must be a multiple of the stride {segmenter.stride} of "
            f"{type(segmenter).__name__}"
        )
    for example in validation:
        example.check_labels(segmenter.classes)
    margin = exact_margin(segmenter, patch) if config.margin is None else config.margin
    samples = prepare(
        examples,
        segmenter.classes,
        patch,
        margin,
        config.voxels_per_class,
        config.seed,
        everywhere=config.unannotated > 0,
    )
    parts = take_apart(segmenter, learnable(config.learn) if learn is None else learn)
    mesh = data_mesh(config.batch + config.unannotated)
    state: TrainState = replicated(initial_state(parts, config), mesh)
    samples = replicated(samples, mesh)
    step = make_step(parts, objective or losses.default_objective(segmenter), config, margin, mesh)
    with contextlib.ExitStack() as stack:
        folder = None if run is None else Path(run)
        best = _Best(jax.tree.map(jnp.array, state.ema))
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(rundir.exclusive(folder))
            description = rundir.describe(segmenter, config, examples)
            state, best = _starting_point(folder, description, resume, state, best)
        task = _Task(config, parts, step, samples, examples, validation, margin, folder)
        return _run(task, state, best, progress)


def _starting_point(
    folder: Path, description: dict[str, Any], resume: bool, state: TrainState, best: _Best
) -> tuple[TrainState, _Best]:
    """The state to start from: the given one for a new run, else the newest sound checkpoint."""
    store = folder / "checkpoints"
    if not (folder / rundir.DESCRIPTION).exists():
        if checkpoint.checkpoints(store):
            raise TrainingError(f"{folder}: holds checkpoints but no {rundir.DESCRIPTION}")
        rundir.write_json(folder / rundir.DESCRIPTION, description)
        return state, best
    if not resume:
        raise TrainingError(
            f"{folder}: already holds a run; continue it with resume=True (--resume), or choose "
            "another folder"
        )
    rundir.check_same(folder, description)
    restored = checkpoint.restore(store, (state, best.params))
    if restored is None:
        warnings.warn(f"{folder}: no checkpoint yet, starting at step 0", stacklevel=3)
        return state, best
    for message in restored.skipped:
        warnings.warn(f"skipped checkpoint {message}", stacklevel=3)
    state, params = restored.tree
    return state, _Best(params, **restored.meta)


@dataclasses.dataclass(frozen=True)
class _Task:
    """What stays the same during a run."""

    config: TrainConfig
    parts: Parts
    step: Step
    samples: Samples
    examples: Sequence[Annotated]
    validation: Sequence[Annotated]
    margin: int
    folder: Path | None

    def save(self, state: TrainState, best: _Best) -> None:
        """A checkpoint of this state, if there is a run folder."""
        if self.folder is not None:
            store, step = self.folder / "checkpoints", int(state.step)
            checkpoint.save(store, step, (state, best.params), best.meta(), self.config.keep)

    def segmenter(self, state: TrainState, params: Arrays) -> Segmenter:
        """A segmenter with these parameters, on one device."""
        params, fixed = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)), (params, state.fixed))
        return self.parts.rebuild(params, fixed)

    def patches(self, state: TrainState) -> str:
        """Which patches the next step of this state sees, for messages."""
        key, _ = step_key(state.seed, state.step)
        numbers, origins = jax.jit(places, static_argnums=(2, 3, 4, 5))(
            self.samples,
            key,
            self.config.batch,
            self.config.patch_shape,
            self.margin,
            self.config.unannotated,
        )
        origins = np.asarray(origins) + np.asarray(self.samples.offsets)[np.asarray(numbers)]
        return ", ".join(
            f"{self.examples[n].name} at zyx {tuple(o.tolist())}"
            for n, o in zip(np.asarray(numbers), origins, strict=True)
        )


def _run(task: _Task, state: TrainState, best: _Best, progress: bool) -> Result:
    """Steps until the end, an interruption, or no improvement."""
    config, start = task.config, int(state.step)
    count = start
    history: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        interrupts = Interrupts()
        if task.folder is not None:  # else nothing could be saved: signals keep their effect
            stack.enter_context(interrupts)
        reports = [
            stack.enter_context(reporter(config.steps, start, progress)),
            stack.enter_context(tensorboard(task.folder, config.tensorboard)),
        ]
        if task.folder is not None:
            path = task.folder / rundir.METRICS
            log = stack.enter_context(contextlib.closing(rundir.MetricsFile(path, start)))
            history = rundir.read_metrics(task.folder)
            reports.append(log.write)
        clock = time.monotonic()

        def record(metrics: Metrics, score: float | None = None) -> None:
            nonlocal clock
            values = {name: value.item() for name, value in jax.device_get(metrics).items()}
            if not values["finite"]:
                raise _NotFinite(values)
            now = time.monotonic()
            line = {name: values[name] for name in ("step", "loss", "norm", "rate")}
            line["seconds"] = round(now - clock, 4)
            clock = now
            history.append(line if score is None else line | {"dice": score})
            for report in reports:
                report(history[-1])

        pending: Metrics | None = None
        stopped = _exhausted(config, best)
        try:
            while count < config.steps and stopped is None:
                state, metrics = task.step(state, task.samples)
                count += 1
                # The numbers of a step are fetched while the next one runs.
                if pending is not None:
                    record(pending)
                pending = metrics
                last = count == config.steps or interrupts.received is not None
                judge = bool(task.validation) and (
                    count % config.validate_every == 0 or count == config.steps
                )
                if not (last or judge or count % config.checkpoint_every == 0):
                    continue
                score = None
                if judge and metrics["finite"]:
                    segmenter = task.segmenter(state, state.ema)
                    score = validate.dice(
                        segmenter, task.validation, min(config.patch_shape), config.seed
                    )
                    best.consider(score, count, state.ema)
                pending = record(metrics, score)
                stopped = _exhausted(config, best)
                if interrupts.received is not None:
                    stopped = signal.Signals(interrupts.received).name
                if last or stopped or count % config.checkpoint_every == 0:
                    task.save(state, best)
        except _NotFinite as error:
            if int(state.step) > start:  # else it is the checkpoint that was resumed from
                task.save(state, best)
            where = f"; the state before it is kept in {task.folder}" if task.folder else ""
            raise TrainingError(
                f"step {error.values['step']}: the loss is {error.values['loss']:g} and the norm "
                f"of its gradient {error.values['norm']:g}, with the patches "
                f"{task.patches(state)}{where}. Lower the learning rate or look at these patches"
            ) from None
    segmenter = task.segmenter(state, state.ema if best.score is None else best.params)
    fitted = fit_normalization(
        segmenter, task.examples[0].volume, patch=min(config.patch_shape), seed=config.seed
    )
    return Result(fitted, history, count, stopped or "finished", best.score)


class _NotFinite(Exception):
    def __init__(self, values: dict[str, Any]):
        super().__init__()
        self.values = values


def _exhausted(config: TrainConfig, best: _Best) -> str | None:
    return "no improvement" if 0 < config.patience <= best.stale else None
