"""Plans the learning rate: it rises, stays at its peak, and falls at the end."""

import math

import jax.numpy as jnp
import numpy as np

from cryojax_seg.core.types import Array
from cryojax_seg.training.config import TrainConfig

LOWEST = 0.01  # the rate of the first and the last step, as a fraction of the peak


def phases(config: TrainConfig) -> np.ndarray:
    """Return the steps ``[risen, falls, ends]`` at which the phases of the learning rate end.

    They are numbers in the state and not in the compiled step, so that a run can be extended, or
    begin its end at any step, without another compilation.

    >>> phases(TrainConfig(steps=1000, warmup=0.05, decay=0.2)).tolist()
    [50, 800, 1000]
    >>> phases(TrainConfig(steps=1000, warmup=100, decay=1.0)).tolist()
    [100, 100, 1000]
    """
    share = config.warmup * config.steps if config.warmup < 1 else config.warmup
    risen = min(max(round(share), 1), config.steps)
    falls = config.steps - round(config.decay * config.steps)
    return np.array([risen, max(risen, falls), config.steps], np.int32)


def learning_rate(config: TrainConfig, phases: Array, step: Array | int) -> Array:
    """Return the learning rate of a step.

    It rises linearly, stays constant, and falls along half a cosine (Hägele et al. 2024,
    arXiv 2405.18392, where such a schedule ends as well as a cosine over all steps, and can be
    extended).

    Args:
        config: settings of the training, of which the peak learning rate matters.
        phases: int32 ``[risen, falls, ends]``, see `phases`.
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
