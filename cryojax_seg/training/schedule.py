"""Plans the learning rate: it rises, stays at its peak, and falls at the end."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from cryojax_seg.core.types import Array
from cryojax_seg.training.config import TrainConfig

LOWEST = 0.01  # the rate of the first and the last step, as a fraction of the peak


class Phases(NamedTuple):
    """Holds the steps at which the phases of the learning rate end.

    They are numbers in the state and not in the compiled step, so that a run can be extended, or
    begin its end at any step, without another compilation.

    Attributes:
        risen: the step from which the rate is at its peak.
        falls: the step at which it begins to fall.
        ends: the number of steps in all.
    """

    risen: int
    falls: int
    ends: int


def phases(config: TrainConfig) -> Phases:
    """Return the phases of a run that takes all its steps.

    >>> phases(TrainConfig(steps=1000, warmup=0.05, decay=0.2))
    Phases(risen=50, falls=800, ends=1000)
    >>> phases(TrainConfig(steps=1000, warmup=100, decay=1.0))
    Phases(risen=100, falls=100, ends=1000)
    """
    share = config.warmup * config.steps if config.warmup < 1 else config.warmup
    risen = min(max(round(share), 1), config.steps)
    return Phases(risen, max(risen, _falls(config, config.steps)), config.steps)


def _falls(config: TrainConfig, total: int) -> int:
    return total - round(config.decay * total)


def replanned(former: Phases, config: TrainConfig, done: int, total: int) -> Phases:
    """Return the phases of a run that has done some steps and shall take another number of them.

    A run that has fallen already goes on at the peak rate, and falls again.

    >>> replanned(Phases(50, 800, 1000), TrainConfig(decay=0.2), 1000, 1500)
    Phases(risen=50, falls=1200, ends=1500)
    """
    return Phases(former.risen, max(done, _falls(config, total)), total)


def learning_rate(config: TrainConfig, phases: Array | Phases, step: Array | int) -> Array:
    """Return the learning rate of a step.

    It rises linearly, stays constant, and falls along half a cosine (Hägele et al. 2024,
    arXiv 2405.18392, where such a schedule ends as well as a cosine over all steps, and can be
    extended).

    Args:
        config: settings of the training, of which the peak learning rate matters.
        phases: see `Phases`; in a state it is int32 ``[risen, falls, ends]``.
        step: number of finished steps.

    >>> config = TrainConfig(steps=100, warmup=10, decay=0.5, learning_rate=0.1)
    >>> [round(float(learning_rate(config, phases(config), s)), 4) for s in (0, 10, 50, 75, 100)]
    [0.001, 0.1, 0.1, 0.0505, 0.001]
    """
    risen, falls, ends = jnp.asarray(phases, jnp.float32)
    step = jnp.asarray(step, jnp.float32)
    risen_part = jnp.clip(step / jnp.maximum(risen, 1.0), 0.0, 1.0)
    fallen_part = jnp.clip((step - falls) / jnp.maximum(ends - falls, 1.0), 0.0, 1.0)
    part = jnp.minimum(risen_part, 0.5 + 0.5 * jnp.cos(math.pi * fallen_part))
    return config.learning_rate * (LOWEST + (1 - LOWEST) * part)
