"""Finds the state from which a run starts: the initial one, or its newest intact checkpoint."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cryojax_seg.runtime import processes
from cryojax_seg.text import shown
from cryojax_seg.training import checkpoint, rundir
from cryojax_seg.training.config import TrainConfig, TrainingError
from cryojax_seg.training.schedule import Phases, replanned
from cryojax_seg.training.step import Arrays, TrainState


@dataclasses.dataclass
class Best:
    """Holds the best validation so far.

    Attributes:
        params: the parameters that were validated, on the host.
        score: mean Dice; None before the first validation.
        step: when that was.
        stale: validations since the score last rose.
        judged: the step of the last validation, which an interruption may have cut short; -1 before
            the first.

    >>> best = Best({})
    >>> for step, score in enumerate((0.5, 0.8, 0.7)):
    ...     best.consider(score, step, {})
    >>> best.meta()
    {'score': 0.8, 'step': 1, 'stale': 1, 'judged': 2}
    """

    params: Any
    score: float | None = None
    step: int = 0
    stale: int = 0
    judged: int = -1

    def consider(self, score: float, step: int, params: Arrays) -> None:
        """Keep these parameters if no others had a higher score."""
        risen = self.score is None or score > self.score
        self.stale = 0 if risen else self.stale + 1
        self.judged = step
        if risen or score == self.score:  # of equals the later, which has seen more
            self.score, self.step = score, step
            self.params = on_host(params)

    def meta(self) -> dict[str, Any]:
        """Return everything but the parameters, as plain values."""
        return {name: getattr(self, name) for name in ("score", "step", "stale", "judged")}


def on_host(tree: Any) -> Any:
    """Copy arrays to NumPy, also those that every process has a replica of.

    >>> on_host({"a": jax.numpy.ones(2)})
    {'a': array([1., 1.], dtype=float32)}
    """
    return jax.tree.map(np.array, tree)  # copies: the originals may be donated to a step


def limits(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that may change the course of a run that goes on.

    Its checkpoints keep them.

    >>> limits(TrainConfig(steps=7))
    {'steps': 7, 'minutes': None, 'learning_rate': 0.003}
    """
    return {name: getattr(config, name) for name in ("steps", "minutes", "learning_rate")}


def starting_point(
    folder: Path,
    description: dict[str, Any],
    resume: bool,
    state: TrainState,
    best: Best,
    config: TrainConfig,
) -> tuple[TrainState, Best]:
    """Return the state to start from, which is the newest checkpoint if a run is resumed.

    If its length is another one now, the phases of the learning rate are planned anew from there.
    If its learning rate is lower now, it goes back to the best parameters so far, because those of
    a run that diverged are finite, but no good.

    The first process reads, and the others are told: so all start from the same one, even where a
    file of another machine appears late.

    Args:
        folder: of the run, held by the first process.
        description: see `rundir.describe`.
        resume: go on with the run in that folder.
        state: at step 0, on the host or on one device.
        best: before any validation.
        config: settings of the training.

    Raises:
        TrainingError: if the folder holds a run that is not to be resumed, or another one, or one
            that has taken more steps already, or no sound checkpoint.
    """
    tree = (state, best.params)

    def look() -> dict[str, Any] | None:
        nonlocal tree
        found = _newest(folder, description, resume, tree)
        if found is None:
            return None
        tree = found.tree
        return found.meta

    meta = processes.on_primary(look)
    if meta is None:
        return state, best
    found, params = processes.arrays_from_primary(tree)
    number = (int, float, type(None))
    known = {"score": number, "step": int, "stale": int, "judged": int}
    known |= {"steps": int, "minutes": number, "learning_rate": number}
    if set(meta) != set(known) or not all(isinstance(meta[k], known[k]) for k in known):
        raise TrainingError(
            f"{folder}: its checkpoint says {shown(meta)} of the best step; start in a new folder"
        )
    former = {name: meta.pop(name) for name in limits(config)}
    best = Best(params, **meta)
    if former == limits(config):
        return found, best
    done = int(found.step)
    if config.steps < done:
        raise TrainingError(
            f"{folder}: has taken {done} steps already; give more than that, not {config.steps}",
            "steps",
        )
    best.stale = 0
    plan = replanned(Phases(*found.phases.tolist()), config, done, config.steps)
    found = dataclasses.replace(found, phases=np.array(plan, np.int32))
    if former["learning_rate"] == config.learning_rate:
        return found, best
    back = {"params": on_host(params), "ema": on_host(params), "opt_state": state.opt_state}
    return dataclasses.replace(found, **back), best


def _newest(
    folder: Path, description: dict[str, Any], resume: bool, template: Any
) -> checkpoint.Restored | None:
    """Return the checkpoint to go on from; None to start at step 0."""
    store = folder / rundir.CHECKPOINTS
    if not (folder / rundir.DESCRIPTION).exists():
        if checkpoint.checkpoints(store):
            raise TrainingError(f"{folder}: holds checkpoints but no {rundir.DESCRIPTION}")
        rundir.write_json(folder / rundir.DESCRIPTION, description)
        return None
    if not resume:
        raise TrainingError(
            f"{folder}: already holds a run; continue it with resume=True, or choose "
            "another folder",
            "resume",
        )
    rundir.check_same(folder, description)
    restored = checkpoint.restore(store, template)
    if restored is None:
        warnings.warn(f"{folder}: no checkpoint yet, starting at step 0", stacklevel=5)
        return None
    for message in restored.skipped:
        warnings.warn(f"skipped checkpoint {message}", stacklevel=5)
    return restored
