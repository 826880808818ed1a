"""Radial filters from spectra: Wiener's, and the one that gives a volume the spectrum of another.

What is measured of a volume is measured on spherical shells (`core.fourier.shell_average`), of the
volume under a Hann window along each axis: the jumps from one face to the opposite, which an FFT
sees, would put low frequencies where high ones are faint. The shell of frequency 0 holds a mean,
which says nothing of a spectrum: its neighbour stands for it.
"""

from collections.abc import Sequence
from typing import Literal

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


def fit_wiener(
    even: Map, odd: Map, radius: int = 8, of: Literal["mean", "half"] = "mean"
) -> RadialFilter:
    """The Wiener filter that two halves, whose noise is independent, tell.

    Their correlation tells the signal-to-noise ratio of each shell. The gain for one half is the
    correlation FSC itself, where it is positive, and ``2 FSC / (1 + FSC)`` for the mean of both
    (Rosenthal & Henderson 2003, equation 4 squared). Smoothed over three shells.

    Args:
        even, odd: ``(z, y, x)`` of one shape.
        radius: see `RadialFilter`.
        of: what is to be filtered.

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
    gain = fsc if of == "half" else 2 * fsc / (1 + fsc)
    return RadialFilter(_at_knots(gain, even.shape), radius)


def fit_wiener_white(volume: Map, radius: int = 8) -> RadialFilter:
    """The Wiener filter of a tomogram without halves, if its noise is white.

    The noise has the power N that the volume has in the highest fifth of frequencies, where there
    is little else; with the power P of the volume in a shell the gain is ``1 - N / P``, where that
    is positive.

    Args:
        volume: ``(z, y, x)``.
        radius: see `RadialFilter`.

    Raises:
        ValueError: for a volume that was low-pass filtered, whose noise is not white: its power
            falls to a third from 0.375 to 0.475 cycles per voxel, or to a 20th from 0.25 to there.

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
            "the noise is not white: the volume was low-pass filtered; halves are needed to tell "
            "noise from signal"
        )
    power = np.convolve(np.pad(power, 1, "edge"), [0.25, 0.5, 0.25], "valid")
    gain = 1 - floor / np.maximum(power, floor) if floor > 0 else np.ones_like(power)
    return RadialFilter(gain.astype(np.float32), radius)


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
    for taper in fourier.hann_tapers(volume.shape):
        tapered = tapered * jnp.asarray(taper / np.sqrt(np.mean(taper**2)), tapered.dtype)
    return tapered


def _at_knots(shells: np.ndarray, shape: Shape) -> np.ndarray:
    """Values of the shells of a volume of this shape at `KNOTS` frequencies from 0 to 0.5."""
    frequencies = np.arange(shells.size) / min(shape)
    return np.interp(np.linspace(0, 0.5, KNOTS), frequencies, shells).astype(np.float32)
