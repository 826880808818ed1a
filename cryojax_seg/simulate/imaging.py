"""Images a density as a noisy reconstruction, through one interface with two levels of detail.

`WedgeImaging` filters the density by the missing wedge and adds noise, in milliseconds;
`tilt_series.TiltSeriesImaging` records and reconstructs a whole tilt series.
"""

import abc
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from cryojax_seg.core import fourier
from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Key, Mask, Number, Scalar, Volume
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.errors import ParameterError


@register_pytree
@dataclasses.dataclass(frozen=True)
class Imaged:
    """Holds a reconstruction and its halves; volumes ``(z, y, x)``, structure bright.

    Attributes:
        density: the noisy reconstruction.
        even: half from every second tilt or from half of the electrons.
        odd: the other half, with independent noise.
        signal: the reconstruction without noise.
        snr: `signal_to_noise` of `density`.

    >>> import jax
    >>> from cryojax_seg.simulate import WedgeImaging
    >>> ball = jnp.zeros((8, 8, 8)).at[2:6, 2:6, 2:6].set(1.0)
    >>> imaged = WedgeImaging(sigma=0.5)(ball, ball > 0, 10.0, jax.random.key(0))
    >>> imaged.density.shape, bool(imaged.snr > 0)
    ((8, 8, 8), True)
    """

    density: Volume
    even: Volume
    odd: Volume
    signal: Volume
    snr: Scalar


class Imaging(abc.ABC):
    """Abstract base of imaging models, which turn a density into an `Imaged`.

    The same key gives the same result.

    >>> from cryojax_seg.simulate import Imaging, WedgeImaging
    >>> white = WedgeImaging(sigma=0.5, exponent=0.0, wedge=None)
    >>> isinstance(white, Imaging), white.wedge is None
    (True, True)
    """

    @property
    @abc.abstractmethod
    def wedge(self) -> MissingWedge | None:
        """Return the missing wedge; None if everything is measured."""

    @abc.abstractmethod
    def __call__(self, density: Volume, mask: Mask, voxel_size: Number, key: Key) -> Imaged:
        """Image a density.

        Args:
            density: ``(z, y, x)``, bright, 1 for solid protein.
            mask: mask of the structures, for the signal-to-noise ratio.
            voxel_size: angstrom, the same along each axis.
            key: random key.
        """


def signal_to_noise(signal: Volume, noise: Volume, mask: Mask) -> Scalar:
    """Return the signal-to-noise ratio, a ratio of variances inside the structures.

    The mean square over the mask of the signal about its mean outside the mask, over the mean
    square of the noise there. (About the mean outside, because a structure of constant density is
    signal, though it has no variance of its own.) A contrast of c standard deviations of the
    noise in every voxel of the mask is a ratio of ``c^2``. 0 if the mask is empty.

    >>> import jax.numpy as jnp
    >>> mask = jnp.zeros((4, 4, 4), bool).at[1].set(True)
    >>> float(signal_to_noise(mask.astype(float), 0.5 * jnp.ones((4, 4, 4)), mask))
    4.0
    """
    inside = mask.astype(signal.dtype)
    outside = 1 - inside
    level = jnp.sum(outside * signal) / jnp.maximum(jnp.sum(outside), 1)
    power = jnp.sum(inside * jnp.square(signal - level))
    noise_power = jnp.sum(inside * jnp.square(noise))
    return power / jnp.where(noise_power > 0, noise_power, 1)


def coloured_noise(key: Key, shape: tuple[int, ...], exponent: Number) -> Volume:
    """Draw Gaussian noise of variance 1 whose power falls as ``k**-exponent``; 0 is white.

    The zero frequency gets the power of the lowest one.
    """
    white = jax.random.normal(key, shape)
    k = jnp.maximum(fourier.radius(shape), 1 / max(shape))
    noise = fourier.apply_gain(white, k ** (-jnp.asarray(exponent, k.dtype) / 2))
    return noise / jnp.std(noise)


@register_pytree
@dataclasses.dataclass(frozen=True)
class WedgeImaging(Imaging):
    """Images with a missing wedge and noise of a given strength, without further physics.

    Signal and noise both pass through the wedge, as in a reconstruction: what was not measured has
    neither.

    Attributes:
        snr: `signal_to_noise` of the reconstruction, above 0; None where `sigma` says it.
        sigma: standard deviation of the noise before the wedge, in units of the density of
            protein; None where `snr` says it.
        exponent: of the fall of the noise power with frequency; 0 is white.
        wedge: what is measured; None for everything.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> ball = jnp.zeros((16, 16, 16)).at[6:10, 6:10, 6:10].set(1.0)
    >>> imaged = WedgeImaging(snr=0.1)(ball, ball > 0, 10.0, jax.random.key(0))
    >>> round(float(imaged.snr), 4)
    0.1
    """

    snr: Any = None
    sigma: Any = None
    exponent: Any = 0.5
    wedge: Any = MissingWedge((-60.0, 60.0))

    def __post_init__(self):
        if (self.snr is None) == (self.sigma is None):
            raise ValueError("WedgeImaging takes either snr or sigma")
        for name in ("snr", "sigma"):
            value = getattr(self, name)
            if isinstance(value, float | int) and not 0 < value < math.inf:
                raise ParameterError(f"{name} must be above 0, got {value}", name)

    def __call__(self, density: Volume, mask: Mask, voxel_size: Number, key: Key) -> Imaged:
        measure = (lambda v: v) if self.wedge is None else self.wedge.apply
        signal = measure(density)
        noises = [
            measure(coloured_noise(k, density.shape, self.exponent)).astype(density.dtype)
            for k in jax.random.split(key)
        ]
        noise = (noises[0] + noises[1]) / 2  # of the mean of the halves
        if self.snr is None:
            scale = jnp.asarray(self.sigma, density.dtype) * jnp.sqrt(2.0).astype(density.dtype)
        else:
            wanted = jnp.asarray(self.snr, density.dtype)
            scale = jnp.sqrt(signal_to_noise(signal, noise, mask) / wanted)
        even, odd = (signal + scale * n for n in noises)
        snr = signal_to_noise(signal, scale * noise, mask)
        return Imaged(signal + scale * noise, even, odd, signal, snr)
