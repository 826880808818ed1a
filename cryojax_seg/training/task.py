"""Holds what stays the same during a run, and what is done with its states."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg.runtime import devices, processes
from cryojax_seg.runtime.interrupts import Interrupts
from cryojax_seg.training import checkpoint, convergence, rundir, validate
from cryojax_seg.training.config import TrainConfig
from cryojax_seg.training.example import Example
from cryojax_seg.training.resume import Best, limits
from cryojax_seg.training.samples import Samples
from cryojax_seg.training.sampling import places
from cryojax_seg.training.schedule import Phases
from cryojax_seg.training.step import Parts, Step, TrainState, step_key
from cryojax_seg.training.stream import Feed


@dataclasses.dataclass(frozen=True)
class Task:
    """Holds the constants of a run."""

    config: TrainConfig
    parts: Parts
    step: Step
    samples: Samples
    examples: Sequence[Example]
    validation: Sequence[Example]
    margin: int
    mesh: jax.sharding.Mesh | None
    folder: Path | None
    feed: Feed | None = None

    @property
    def measured(self) -> np.ndarray:
        """Return a volume on which statistics of normalisation can be measured."""
        return [*self.examples, *self.validation][0].measured

    def samples_at(self, step: int) -> Samples:
        """Return what patches are drawn from after so many steps."""
        if self.feed is None:
            return self.samples
        return dataclasses.replace(self.samples, pool=self.feed.at(step))

    def save(self, state: TrainState, best: Best) -> None:
        """Write a checkpoint of this state, if there is a run folder."""
        if self.folder is None:
            return
        store, step = self.folder / rundir.CHECKPOINTS, int(state.step)
        tree = (state, best.params)
        meta = best.meta() | limits(self.config)
        processes.on_primary(
            lambda: str(checkpoint.save(store, step, tree, meta, self.config.keep))
        )

    def due(self, count: int, plan: Phases) -> bool:
        """Return whether this step, or 0 for the start, is followed by a validation."""
        if count == 0:
            return bool(self.validation) and self.config.validate_start
        due = count % self.config.validate_every == 0 or count == plan.ends
        return bool(self.validation) and due

    def decides(self, count: int) -> bool:
        """Return whether the end of the run is decided anew after this step."""
        known = count == convergence.FIRST or count % self.config.validate_every == 0
        return self.config.minutes is not None and known

    def decided(self, plan: Phases, history: list[dict[str, Any]], count: int) -> Phases:
        """Return when the rate falls and the run ends; the first process decides for all."""
        found = processes.on_primary(
            lambda: list(convergence.decided(plan, self.config, history, count))
        )
        return Phases(*found)

    def commits(self, former: Phases, plan: Phases, count: int) -> bool:
        """Return whether what was decided now will have an effect before it is decided again."""
        near = plan.falls <= count + self.config.validate_every
        return near and (plan != former or count <= plan.falls)

    def follow(self, state: TrainState, plan: Phases) -> TrainState:
        """Return the state with other phases of the learning rate."""
        phases = jnp.asarray(plan, jnp.int32)
        return dataclasses.replace(state, phases=devices.replicated(phases, self.mesh))

    def judge(
        self, state: TrainState, best: Best, interrupts: Interrupts
    ) -> dict[str, float] | None:
        """Return the validation scores of this state, for the record, and its Dice to `best`.

        They are None if a signal interrupted the validation, which is repeated when the run is
        resumed.
        """
        config, operator = self.config, self.operator(state, state.ema)

        def score() -> dict[str, float] | None:
            scores = validate.scores(
                operator,
                self.validation,
                min(config.patch_shape),
                config.seed,
                validate.affordable(config),
                lambda: interrupts.received is not None,
            )
            return None if scores is None else scores._asdict()

        # Machines may differ in the last digit, and who stops early and who does not would part.
        found = processes.on_primary(score)
        if found is not None:
            best.consider(found["dice"], int(state.step), state.ema)
        return found

    def operator(self, state: TrainState, params: dict[str, Any]) -> Any:
        """Return the operator with these parameters, on one device."""
        return self.parts.rebuild(*_on_one_device((params, state.fixed)))

    def patches(self, state: TrainState) -> str:
        """Describe the patches that the next step of this state sees, for messages."""
        phantoms = f"{self.config.phantoms} of phantoms" if self.config.phantoms else ""
        if not self.examples:
            return phantoms
        samples, seed, number = _on_one_device((self.samples, state.seed, state.step))
        key, _ = step_key(seed, number)
        numbers, origins = jax.jit(places, static_argnums=(2, 3, 4, 5, 6))(
            samples,
            key,
            self.config.batch,
            self.config.patch_shape,
            self.margin,
            self.config.unannotated,
            self.config.replay,
        )
        origins = np.asarray(origins) + np.asarray(samples.offsets)[np.asarray(numbers)]
        found = [
            f"{self.examples[n].name} at zyx {tuple(o.tolist())}"
            for n, o in zip(np.asarray(numbers), origins, strict=True)
        ]
        return ", ".join([*found, phantoms] if phantoms else found)


def _on_one_device(tree: Any) -> Any:
    """Return arrays that are the same on all devices, on one of this process."""
    return jax.tree.map(lambda a: jnp.asarray(np.asarray(a)), tree)
