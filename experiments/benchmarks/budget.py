"""Trains for a given number of CPU-seconds, with a learning rate that is planned for them."""

import dataclasses
import time
from typing import Protocol

import numpy as np

from cryojax_seg import training
from cryojax_seg.core import Segmenter
from cryojax_seg.training.samples import prepare
from cryojax_seg.training.schedule import Phases, phases
from cryojax_seg.training.step import initial_state, make_step, take_apart
from experiments.recipe import Data, score


class Arm(Protocol):
    """Learns step by step, and is scored."""

    def step(self, progress: float) -> float:
        """Take a step after this share of the budget, from 0 to 1, and return the loss."""
        ...

    def score(self, data: Data) -> list[float]:
        """Return the mean Dice over the classes in each of the tomograms that are scored."""
        ...


def spend(arm: Arm, seconds: float) -> dict:
    """Take at least one step, and as many as these CPU-seconds allow."""
    spent, losses = 0.0, []
    while not losses or spent + spent / len(losses) <= seconds:
        clock = time.process_time()
        losses.append(arm.step(spent / seconds))
        spent += time.process_time() - clock
    last = float(np.mean(losses[-20:]))
    loss = last if np.isfinite(last) else None
    return {"steps": len(losses), "cpu_seconds": spent, "loss": loss}


def phases_at(config: training.TrainConfig, step: int, progress: float) -> Phases:
    """Return the phases of a run that has spent this share of its budget in so many steps.

    >>> phases_at(training.TrainConfig(warmup=0.1, decay=0.5), 30, 0.25)
    Phases(risen=12, falls=60, ends=120)
    """
    ends = max(round(step / progress), step + 1) if progress else config.steps
    return phases(dataclasses.replace(config, steps=ends))


class Ours:
    """Trains with `training.make_step`."""

    def __init__(self, net: Segmenter, data: Data, config: training.TrainConfig):
        self.parts, self.config, self.steps = take_apart(net), config, 0
        self.state = initial_state(self.parts, config)
        self.samples = prepare(data.examples, data.classes, config.patch_shape)
        step = make_step(self.parts, net.default_loss(), config)
        self.compiled = step.lower(self.state, self.samples).compile()  # pyright: ignore

    def step(self, progress: float) -> float:
        plan = np.array(phases_at(self.config, self.steps, progress), np.int32)
        self.state = dataclasses.replace(self.state, phases=plan)
        self.state, metrics = self.compiled(self.state, self.samples)
        self.steps += 1
        return float(metrics["loss"])

    def score(self, data: Data) -> list[float]:
        return score(self.parts.rebuild(self.state.ema, self.state.fixed), data)  # pyright: ignore
