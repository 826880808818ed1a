"""Linear filters that treat all directions alike: Wiener filters, CTF deconvolution, whitening."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from cryojax_seg.core import Restorer, fourier
from cryojax_seg.core.ctf import ContrastTransfer
from cryojax_seg.core.parameters import learnable
from cryojax_seg.core.types import Array, Number, Volume

KNOTS = 33  # frequencies at which the functions below give the gain


class RadialFilter(Restorer):
    """A filter given by its gain at spatial frequencies from 0 to 0.5 cycles per voxel.

    Between the given frequencies the gain is interpolated, beyond (in the corners of the Fourier
    cube) it is the last. Its kernel is cut off at a radius, under a cosine window, so the filter
    is local, and a gain with detail finer than ``1 / (2 radius)`` is smoothed to that. The gain of
    a constant stays exactly the first. Computed through the FFT of the zero-padded volume.

    Args:
        gain: at equally spaced frequencies, the first 0 and the last 0.5; learnable, two or more.
        radius: of the kernel, voxels.

    Raises:
        ValueError: for fewer than two gains, or a radius below 1.

    >>> keep = RadialFilter([1.0, 1.0], radius=2)
    >>> v = jnp.ones((8, 8, 8)).at[4, 4, 4].set(5.0)
    >>> bool(jnp.allclose(keep(v)[2:6, 2:6, 2:6], v[2:6, 2:6, 2:6], atol=1e-5))
    True
    """

    halo: int = 0
    stride: int = 1

    def __init__(self, gain: ArrayLike | Sequence[float], radius: int = 8):
        if np.ndim(gain) != 1 or np.size(gain) < 2:
            raise ValueError(f"a gain needs values at 0 and 0.5 at least, got {gain}")
        if radius < 1:
            raise ValueError(f"the radius is 1 voxel or more, got {radius}")
        self.gain = learnable(gain)
        self.radius = radius
        self.halo = radius

    def kernel(self) -> Float[Array, "k k k"]:
        """The filter's response to a voxel of 1, ``(2 radius + 1)^3``."""
        reach, gain = self.radius, self.gain[...]
        edge = 4 * reach + 4  # the response wraps where the window is 0
        k = fourier.radius((edge,) * 3).astype(gain.dtype)
        knots = jnp.linspace(0, 0.5, gain.size, dtype=gain.dtype)
        wanted = jnp.interp(k, knots, gain)
        response = fourier.irfftn(jax.lax.complex(wanted, jnp.zeros_like(wanted)), (edge,) * 3)
        response = jnp.roll(response, (reach,) * 3, (0, 1, 2))
        response = response[: 2 * reach + 1, : 2 * reach + 1, : 2 * reach + 1].astype(gain.dtype)
        taper = np.cos(0.5 * np.pi * np.arange(-reach, reach + 1) / (reach + 1)) ** 2
        window = np.einsum("i,j,k->ijk", taper, taper, taper)
        window = jnp.asarray(window, gain.dtype)
        response = response * window
        return response + (gain[0] - response.sum()) * window / window.sum()

    def __call__(self, volume: Volume) -> Volume:
        reach = self.radius
        padded = jnp.pad(volume, ((0, 2 * reach),) * 3)
        kernel = self.kernel().astype(volume.dtype)
        kernel = jnp.pad(kernel, [(0, n - 2 * reach - 1) for n in padded.shape])
        spectrum = fourier.rfftn(padded) * fourier.rfftn(kernel)
        out = fourier.irfftn(spectrum, padded.shape).astype(volume.dtype)
        z, y, x = volume.shape
        return out[reach : reach + z, reach : reach + y, reach : reach + x]


def wiener(snr: ArrayLike | Sequence[float], radius: int = 8) -> RadialFilter:
    """The linear filter of least mean square error: gain ``snr / (1 + snr)`` (Wiener 1949).

    Args:
        snr: power of the signal over that of the noise, at frequencies as in `RadialFilter`.
        radius: see `RadialFilter`.

    Raises:
        ValueError: for a ratio below 0.

    >>> wiener([1.0, 0.0]).gain[...].tolist()
    [0.5, 0.0]
    """
    ratio = np.asarray(snr, np.float64)
    if not (ratio >= 0).all():
        raise ValueError(f"a signal-to-noise ratio is not negative, got {snr}")
    return RadialFilter((ratio / (1 + ratio)).astype(np.float32), radius)


def fit_wiener(even: Volume, odd: Volume, radius: int = 8) -> RadialFilter:
    """The Wiener filter for the mean of two halves, whose noise is independent.

    The correlation of the halves tells the signal-to-noise ratio of each shell, and the gain for
    their mean is ``2 FSC / (1 + FSC)`` (Rosenthal & Henderson 2003, equation 4 squared), where the
    correlation is positive. Smoothed over three shells.

    Args:
        even, odd: ``(z, y, x)`` of one shape.
        radius: see `RadialFilter`.

    >>> rng = np.random.default_rng(0)
    >>> halves = rng.normal(size=(2, 24, 24, 24)).astype(np.float32)       # no signal at all
    >>> bool(fit_wiener(*halves).gain[...].max() < 0.3)
    True
    """
    fsc = np.asarray(fourier.fourier_shell_correlation(jnp.asarray(even), jnp.asarray(odd)))
    fsc = np.convolve(np.pad(fsc, 1, "edge"), [0.25, 0.5, 0.25], "valid")
    fsc = np.clip(fsc, 0, 1)
    gain = 2 * fsc / (1 + fsc)
    frequencies = np.linspace(0, 0.5, gain.size)
    knots = np.interp(np.linspace(0, 0.5, KNOTS), frequencies, gain)
    return RadialFilter(knots.astype(np.float32), radius)


def ctf_deconvolution(
    transfer: ContrastTransfer,
    voxel_size: Number,
    strength: float = 1.0,
    falloff: float = 1.0,
    highpass: float = 0.02,
    radius: int = 16,
) -> RadialFilter:
    """Undoes the contrast transfer where there is signal, with the sign of the data kept.

    ``gain = -CTF / (CTF^2 + 1 / snr)`` with ``snr = 10^(3 strength) exp(-100 falloff q / a) h``,
    ``q`` the frequency over Nyquist, ``a`` the voxel size in angstrom and ``h`` a cosine that rises
    from 0 to 1 at `highpass` (the filter of Tegunov & Cramer 2019, as in IsoNet's ``deconv``). The
    minus makes the gain positive up to the first zero: dense structure stays dark or bright.

    Args:
        transfer: of the untilted image; astigmatism is ignored.
        voxel_size: angstrom.
        strength, falloff: of the assumed signal-to-noise ratio.
        highpass: fraction of Nyquist below which the gain falls to 0.
        radius: see `RadialFilter`; a defocus of micrometres rings far.

    >>> deconvolve = ctf_deconvolution(ContrastTransfer(defocus=30_000.0), 10.0)
    >>> float(deconvolve.gain[...][0])
    0.0
    """
    q = np.linspace(0, 1, 4 * KNOTS - 3)
    ctf = np.asarray(transfer(0.0, jnp.asarray(q / (2 * float(voxel_size)), jnp.float32)))
    rise = np.minimum(q / highpass, 1.0) if highpass > 0 else np.ones_like(q)
    h = 0.5 - 0.5 * np.cos(np.pi * rise)
    snr = 10 ** (3 * strength) * np.exp(-100 * falloff * q / float(voxel_size)) * h
    gain = -ctf * snr / (ctf**2 * snr + 1)
    return RadialFilter(gain.astype(np.float32), radius)


def match_spectrum(volume: Volume, target: Volume, radius: int = 8) -> RadialFilter:
    """The filter that gives a volume the radially averaged amplitudes of another.

    Args:
        volume, target: ``(z, y, x)``, on voxels of the same size; shapes may differ.
        radius: see `RadialFilter`.

    >>> v = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    >>> bool(jnp.allclose(match_spectrum(v, 2 * v).gain[...], 2.0, atol=1e-3))
    True
    """

    def amplitudes(v: Array) -> np.ndarray:
        v = jnp.asarray(v)
        power = fourier.shell_average(jnp.square(jnp.abs(fourier.rfftn(v - v.mean()))), v.shape)
        found = np.sqrt(np.maximum(np.asarray(power), 0) / v.size)[1:]  # the mean is not matched
        frequencies = np.linspace(0, 0.5, found.size + 1)[1:]
        return np.interp(np.linspace(0, 0.5, KNOTS), frequencies, found)

    have, want = amplitudes(volume), amplitudes(target)
    gain = want / np.maximum(have, 1e-6 * max(have.max(), 1e-30))
    return RadialFilter(gain.astype(np.float32), radius)
