"""A restorer that is trained against a learned energy, and draws several answers.

In the manner of CryoGEN (ICLR 2025), reconstructed from its public abstract and reviews: the paper
and its code were not at hand. What is the same: a predictor with noise in its input, an energy that
is learned against it with a gradient penalty, data and re-projection consistency, one stage. What
the energy compares is our own choice, see `losses.adversarial`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cryojax_seg.core import MissingWedge, Restorer, Segmenter
from cryojax_seg.core.tiling import restore
from cryojax_seg.core.types import Key, Logits, Volume
from cryojax_seg.segmenters import ConvNet


class EnergyTrained(Segmenter):
    """A restorer and the energy it is trained against, as one thing that learns.

    Args:
        restorer: any.
        energy: a segmenter of one class; the mean of its logits is the energy of a volume, low for
            what looks like data.

    >>> from cryojax_seg.restore import unet_restorer
    >>> pair = EnergyTrained(unet_restorer(2, 0, norm="none", rngs=nnx.Rngs(0)))
    >>> pair(jnp.zeros((4, 4, 4))).shape
    (4, 4, 4, 1)
    """

    def __init__(self, restorer: Restorer, energy: Segmenter | None = None):
        self.restorer = restorer
        self.energy = ConvNet(3, 8, norm="weight", rngs=nnx.Rngs(1)) if energy is None else energy

    @property
    def halo(self) -> int:
        return self.restorer.halo

    @property
    def stride(self) -> int:
        return self.restorer.stride

    @property
    def classes(self) -> tuple[str, ...]:
        return ("density",)

    def __call__(self, volume: Volume) -> Logits:
        return self.restorer(volume)[..., None]


def in_the_wedge(volume: Volume, wedge: MissingWedge, key: Key) -> Volume:
    """Noise that lies where nothing was measured, of the power the volume has where it was.

    >>> wedge = MissingWedge((-60.0, 60.0))
    >>> noise = in_the_wedge(jnp.ones((8, 8, 8)).at[4].set(2.0), wedge, jax.random.key(0))
    >>> bool(jnp.abs(wedge.apply(noise)).max() < 1e-5)
    True
    """
    measured = wedge.transfer(volume.shape).mean()
    deviation = jnp.std(volume) / jnp.sqrt(jnp.maximum(measured, 1e-6))
    noise = deviation.astype(volume.dtype) * jax.random.normal(key, volume.shape, volume.dtype)
    return noise - wedge.apply(noise)


def draws(
    restorer: Restorer,
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
        tile: as for `core.tiling.restore`.

    Raises:
        ValueError: for fewer than two.
    """
    if count < 2:
        raise ValueError(f"a spread takes two answers or more, got count={count}")
    filled = jax.jit(lambda v, key: v + in_the_wedge(v, wedge, key))
    mean, square = np.zeros(volume.shape), np.zeros(volume.shape)
    for number in range(count):
        key = jax.random.fold_in(jax.random.key(seed), number)
        answer = restore(restorer, np.asarray(filled(volume, key)), tile)
        difference = answer - mean  # Welford's running moments
        mean += difference / (number + 1)
        square += difference * (answer - mean)
    deviation = np.sqrt(square / (count - 1))
    return mean.astype(np.float32), deviation.astype(np.float32)
