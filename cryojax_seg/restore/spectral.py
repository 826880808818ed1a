"""Fits radial filters to spectra: Wiener filters and spectrum matching.

Spectra are averaged over spherical shells (`core.fourier.shell_average`) of the volume under a Hann
window along each axis, which suppresses spectral leakage from jumps between opposite faces. The
shell of frequency 0 contains only the mean, so it is replaced by its neighbour.
"""

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from cryojax_seg.core import fourier
from cryojax_seg.core.plain import Shape
from cryojax_seg.core.types import Array
from cryojax_seg.restore.radial import RadialFilter

Map = Float[Array, "_ _ _"]  # (z, y, x), each of its own shape
KNOTS = 33  # number of frequencies at which a gain is measured
_FAINTEST = 1e-3  # smallest amplitude to divide by, relative to the largest


def wiener(snr: ArrayLike | Sequence[float], radius: int = 8) -> RadialFilter:
    """Return the Wiener filter with gain ``1 / (1 + 1 / snr)`` (Wiener 1949).

    It is the linear filter with the least mean squared error.

    Args:
        snr: power of the signal divided by that of the noise, at the frequencies of `RadialFilter`.
        radius: see `RadialFilter`.

    Raises:
        ValueError: for a ratio that is negative or not finite.

    >>> wiener([1.0, 0.0]).gain[...].tolist()
    [0.5, 0.0]
    """
    ratio = np.asarray(snr, np.float64)
    if not (np.isfinite(ratio).all() and (ratio >= 0).all()):
        raise ValueError(f"snr must be finite and not negative, got {snr}")
    return RadialFilter((ratio / (1 + ratio)).astype(np.float32), radius)


def fit_wiener(
    even: Map, odd: Map, radius: int = 8, of: Literal["mean", "half"] = "mean"
) -> RadialFilter:
    """Return the Wiener filter estimated from two half-maps with independent noise.

    The Fourier shell correlation gives the signal-to-noise ratio of each shell. The gain for one
    half is the FSC where it is positive, and ``2 FSC / (1 + FSC)`` for the mean of both (Rosenthal
    & Henderson 2003, equation 4 squared). It is smoothed over three shells.

    Args:
        even, odd: halves ``(z, y, x)`` of one shape.
        radius: see `RadialFilter`.
        of: whether the filter is for the mean of both halves or for one half.

    Raises:
        ValueError: for halves of different shapes.

    >>> rng = np.random.default_rng(0)
    >>> signal, *noise = rng.normal(size=(3, 24, 24, 24)).astype(np.float32)
    >>> gain = fit_wiener(signal + noise[0], signal + noise[1]).gain[...]   # FSC 1/2, gain 2/3
    >>> bool(jnp.abs(gain[8:] - 2 / 3).max() < 0.15)
    True
    """
    if even.shape != odd.shape:
        raise ValueError(f"halves must have one shape, got {even.shape} and {odd.shape}")
    fsc = np.asarray(fourier.fourier_shell_correlation(_tapered(even), _tapered(odd)))
    fsc = np.concatenate([fsc[1:2], fsc[1:]])
    fsc = np.clip(np.convolve(np.pad(fsc, 1, "edge"), [0.25, 0.5, 0.25], "valid"), 0, 1)
    gain = fsc if of == "half" else 2 * fsc / (1 + fsc)
    return RadialFilter(_at_knots(gain, even.shape), radius)


def fit_wiener_white(volume: Map, radius: int = 8) -> RadialFilter:
    """Return the Wiener filter of a tomogram without halves, assuming white noise.

    The noise power N is that of the highest fifth of frequencies, where signal is weak. With the
    power P of the volume in a shell, the gain is ``1 - N / P`` where that is positive.

    Args:
        volume: ``(z, y, x)``.
        radius: see `RadialFilter`.

    Raises:
        ValueError: for a low-pass filtered volume, whose power falls below a third from 0.375 to
            0.475 cycles per voxel, or below a twentieth from 0.25 to 0.475.

    >>> rng = np.random.default_rng(0)
    >>> v = rng.normal(size=(24, 24, 24)).astype(np.float32)
    >>> v[8:16] += 1
    >>> gain = fit_wiener_white(v).gain[...]
    >>> bool(gain[1] > 0.8), bool(gain[20:].mean() < 0.1)
    (True, True)
    """
    power = _amplitudes(volume) ** 2
    floor = power[4 * KNOTS // 5 :].mean()
    halfway, high, highest = (power[k - 2 : k + 2].mean() for k in (17, 25, 31))
    if 3 * highest < high or 20 * highest < halfway:
        raise ValueError(
            "the noise is not white, because the volume was low-pass filtered; use two halves "
            "to separate noise from signal"
        )
    power = np.convolve(np.pad(power, 1, "edge"), [0.25, 0.5, 0.25], "valid")
    gain = 1 - floor / np.maximum(power, floor) if floor > 0 else np.ones_like(power)
    return RadialFilter(gain.astype(np.float32), radius)


def match_spectrum(volume: Map, target: Map, radius: int = 8) -> RadialFilter:
    """Return the filter that gives a volume the radially averaged amplitudes of a target.

    Amplitudes below a thousandth of the largest are raised to that value, which limits the gain.

    Args:
        volume, target: ``(z, y, x)`` with the same voxel size; shapes may differ.
        radius: see `RadialFilter`.

    >>> v = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    >>> bool(jnp.allclose(match_spectrum(v, 2 * v).gain[...], 2.0, atol=1e-3))
    True
    """
    have, want = _amplitudes(volume), _amplitudes(target)
    floor = _FAINTEST * have.max()
    # A constant volume has no spectrum and stays constant.
    gain = want / np.maximum(have, floor) if floor > 0 else np.ones_like(want)
    return RadialFilter(gain.astype(np.float32), radius)


def _amplitudes(volume: Map) -> np.ndarray:
    """Return the radially averaged amplitudes per voxel at `KNOTS` frequencies."""
    v = _tapered(volume)
    power = fourier.shell_average(jnp.square(jnp.abs(fourier.rfftn(v))), v.shape)
    amplitude = np.sqrt(np.maximum(np.asarray(power), 0) / v.size)
    return _at_knots(np.concatenate([amplitude[1:2], amplitude[1:]]), v.shape)


def _tapered(volume: Map) -> Array:
    """Subtract the mean and apply a window of mean square 1."""
    tapered = jnp.asarray(volume) - jnp.mean(volume)
    for taper in fourier.hann_tapers(volume.shape):
        tapered = tapered * jnp.asarray(taper / np.sqrt(np.mean(taper**2)), tapered.dtype)
    return tapered


def _at_knots(shells: np.ndarray, shape: Shape) -> np.ndarray:
    """Interpolate shell values at `KNOTS` frequencies from 0 to 0.5."""
    frequencies = np.arange(shells.size) / min(shape)
    return np.interp(np.linspace(0, 0.5, KNOTS), frequencies, shells).astype(np.float32)
