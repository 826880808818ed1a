"""Radial filters from spectra: Wiener's, and the one that gives a volume the spectrum of another.

What is measured of a volume is measured on spherical shells (`core.fourier.shell_average`), of the
volume under a Hann window along each axis: the jumps from one face to the opposite, which an FFT
sees, would put low frequencies where high ones are faint. The shell of frequency 0 holds a mean,
which says nothing of a spectrum: its neighbour stands for it.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from cryojax_seg.core import fourier
from cryojax_seg.core.types import Array, Shape
from cryojax_seg.restore.radial import RadialFilter

Map = Float[Array, "_ _ _"]  # (z, y, x), each of its own shape
KNOTS = 33  # frequencies at which a measured gain is given
_FAINTEST = 1e-3  # amplitude, relative to the largest, that may still be divided by


def wiener(snr: ArrayLike | Sequence[float], radius: int = 8) -> RadialFilter:
    """The linear filter of least mean square error: gain ``1 / (1 + 1 / snr)`` (Wiener 1949).

    Args:
        snr: power of the signal over that of the noise, at frequencies as in `RadialFilter`.
        radius: see `RadialFilter`.

    Raises:
        ValueError: for a ratio that is negative or not finite.

    >>> wiener([1.0, 0.0]).gain[...].tolist()
    [0.5, 0.0]
    """
    ratio = np.asarray(snr, np.float64)
    if not (np.isfinite(ratio).all() and (ratio >= 0).all()):
        raise ValueError(f"a signal-to-noise ratio is finite and not negative, got {snr}")
    return RadialFilter((ratio / (1 + ratio)).astype(np.float32), radius)


def fit_wiener(even: Map, odd: Map, radius: int = 8) -> RadialFilter:
    """The Wiener filter for the mean of two halves, whose noise is independent.

    The correlation of the halves tells the signal-to-noise ratio of each shell, and the gain for
    their mean is ``2 FSC / (1 + FSC)`` (Rosenthal & Henderson 2003, equation 4 squared), where the
    correlation is positive. Smoothed over three shells.

    Args:
        even, odd: ``(z, y, x)`` of one shape.
        radius: see `RadialFilter`.

    Raises:
        ValueError: for halves of different shapes.

    >>> rng = np.random.default_rng(0)
    >>> signal, *noise = rng.normal(size=(3, 24, 24, 24)).astype(np.float32)
    >>> gain = fit_wiener(signal + noise[0], signal + noise[1]).gain[...]   # FSC 1/2, gain 2/3
    >>> bool(jnp.abs(gain[8:] - 2 / 3).max() < 0.15)
    True
    """
    if even.shape != odd.shape:
        raise ValueError(f"halves lie on one grid, got the shapes {even.shape} and {odd.shape}")
    fsc = np.asarray(fourier.fourier_shell_correlation(_tapered(even), _tapered(odd)))
    fsc = np.concatenate([fsc[1:2], fsc[1:]])
    fsc = np.clip(np.convolve(np.pad(fsc, 1, "edge"), [0.25, 0.5, 0.25], "valid"), 0, 1)
    return RadialFilter(_at_knots(2 * fsc / (1 + fsc), even.shape), radius)


def match_spectrum(volume: Map, target: Map, radius: int = 8) -> RadialFilter:
    """The filter that gives a volume the radially averaged amplitudes of another.

    Amplitudes of the volume that are fainter than a thousandth of its largest count as that, so
    that what is not there is not blown up.

    Args:
        volume, target: ``(z, y, x)``, on voxels of the same size; shapes may differ.
        radius: see `RadialFilter`.

    >>> v = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    >>> bool(jnp.allclose(match_spectrum(v, 2 * v).gain[...], 2.0, atol=1e-3))
    True
    """
    have, want = _amplitudes(volume), _amplitudes(target)
    floor = _FAINTEST * have.max()
    # A constant has no spectrum to divide by, and stays one.
    gain = want / np.maximum(have, floor) if floor > 0 else np.ones_like(want)
    return RadialFilter(gain.astype(np.float32), radius)


def _amplitudes(volume: Map) -> np.ndarray:
    """Per voxel, at `KNOTS` frequencies."""
    v = _tapered(volume)
    power = fourier.shell_average(jnp.square(jnp.abs(fourier.rfftn(v))), v.shape)
    amplitude = np.sqrt(np.maximum(np.asarray(power), 0) / v.size)
    return _at_knots(np.concatenate([amplitude[1:2], amplitude[1:]]), v.shape)


def _tapered(volume: Map) -> Array:
    """The volume without its mean, under a window whose mean square is 1."""
    tapered = jnp.asarray(volume) - jnp.mean(volume)
    for axis, n in enumerate(volume.shape):
        taper = np.hanning(n + 2)[1:-1]
        taper = jnp.asarray(taper / np.sqrt(np.mean(taper**2)), tapered.dtype)
        tapered = tapered * taper.reshape([-1 if a == axis else 1 for a in range(3)])
    return tapered


def _at_knots(shells: np.ndarray, shape: Shape) -> np.ndarray:
    """Values of the shells of a volume of this shape at `KNOTS` frequencies from 0 to 0.5."""
    frequencies = np.arange(shells.size) / min(shape)
    return np.interp(np.linspace(0, 0.5, KNOTS), frequencies, shells).astype(np.float32)
