"""Samples restored volumes from a restorer trained with `losses.adversarial`."""

from typing import Any

import jax
import numpy as np

from cryojax_seg.core import LocalOperator, MissingWedge
from cryojax_seg.core.tiling import apply
from cryojax_seg.core.wedge import unmeasured_noise


def sample_statistics(
    restorer: LocalOperator,
    volume: np.ndarray,
    wedge: MissingWedge,
    count: int = 4,
    seed: int = 0,
    tile: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation of several restored samples of one volume.

    For each sample the missing wedge of the input is filled with different noise, as in training.
    The standard deviation shows where the data do not determine the density.

    Args:
        restorer: restorer trained with `losses.adversarial`.
        volume: ``(z, y, x)``, normalized; held in memory.
        wedge: missing wedge of the volume.
        count: number of samples, at least 2.
        seed: seed of the noise.
        tile: as in `core.apply`.

    Raises:
        ValueError: for fewer than two samples.

    >>> from cryojax_seg.restore import Gaussian
    >>> volume = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    >>> wedge = MissingWedge((-60.0, 60.0))
    >>> mean, deviation = sample_statistics(Gaussian(1.0), volume, wedge, count=2)
    >>> mean.shape, bool(deviation.mean() > 0)
    ((8, 8, 8), True)
    """
    if count < 2:
        raise ValueError(f"a standard deviation needs count of 2 or more, got {count}")
    transfer = wedge.transfer(volume.shape)
    filled = jax.jit(lambda v, key: v + unmeasured_noise(v, transfer, key))
    mean, square = np.zeros(volume.shape), np.zeros(volume.shape)
    for number in range(count):
        key = jax.random.fold_in(jax.random.key(seed), number)
        sample = apply(restorer, np.asarray(filled(volume, key)), tile)[..., 0]
        difference = sample - mean  # Welford's running moments
        mean += difference / (number + 1)
        square += difference * (sample - mean)
    deviation = np.sqrt(square / (count - 1))
    return mean.astype(np.float32), deviation.astype(np.float32)
