"""Several answers of a restorer that was trained against an energy; see `losses.adversarial`."""

from typing import Any

import jax
import numpy as np

from cryojax_seg.core import LocalOperator, MissingWedge
from cryojax_seg.core.tiling import apply
from cryojax_seg.core.wedge import unmeasured_noise


def draws(
    restorer: LocalOperator,
    volume: np.ndarray,
    wedge: MissingWedge,
    count: int = 4,
    seed: int = 0,
    tile: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of several answers to one volume: a map of what is not known.

    Each time the wedge of the input is filled with other noise, as in training. Where the answers
    agree the data determine them; where they differ, they do not.

    Args:
        restorer: trained with `losses.adversarial`.
        volume: ``(z, y, x)``, normalized; held in memory.
        wedge: of the volume.
        count: of answers, at least 2.
        seed: of the noise.
        tile: as for `core.apply`.

    Raises:
        ValueError: for fewer than two.
    """
    if count < 2:
        raise ValueError(f"a spread takes two answers or more, got count={count}")
    transfer = wedge.transfer(volume.shape)
    filled = jax.jit(lambda v, key: v + unmeasured_noise(v, transfer, key))
    mean, square = np.zeros(volume.shape), np.zeros(volume.shape)
    for number in range(count):
        key = jax.random.fold_in(jax.random.key(seed), number)
        answer = apply(restorer, np.asarray(filled(volume, key)), tile)[..., 0]
        difference = answer - mean  # Welford's running moments
        mean += difference / (number + 1)
        square += difference * (answer - mean)
    deviation = np.sqrt(square / (count - 1))
    return mean.astype(np.float32), deviation.astype(np.float32)
