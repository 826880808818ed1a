"""Deconvolves the contrast transfer function."""

import math

import jax.numpy as jnp
import numpy as np

from cryojax_seg import units
from cryojax_seg.core.ctf import ContrastTransfer, check_between, wavelength
from cryojax_seg.restore.radial import RadialFilter


def ctf_deconvolution(
    transfer: ContrastTransfer,
    voxel_size: float | int,
    strength: float | int = 1.0,
    falloff: float | int = 1.0,
    highpass: float | int = 0.02,
    phase_flipped: bool = False,
    radius: int | None = None,
) -> RadialFilter:
    """Return the filter that inverts the contrast transfer where there is signal.

    ``gain = C / (C^2 + 1 / snr)`` with ``C = -CTF``, or its absolute value after phase flipping,
    and ``snr = 10^(3 strength) exp(-100 falloff q / a) (1 - cos(pi min(q / highpass, 1)))``; q is
    the frequency divided by Nyquist and a the voxel size in angstrom. This is the filter of Warp
    (Tegunov & Cramer 2019, ``tom_deconv``); IsoNet's has ``10^strength``. The minus sign makes the
    gain positive up to the first zero, so structure stays dark or bright as in the input.

    The window of `RadialFilter` cannot resolve a high-pass of 0.02: the gain rises from 0 over
    about ``1 / radius`` cycles per voxel if `highpass` is less.

    Args:
        transfer: contrast transfer of the untilted image; astigmatism is ignored.
        voxel_size: angstrom.
        strength, falloff: parameters of the assumed signal-to-noise ratio.
        highpass: fraction of Nyquist below which the gain falls to 0; 0 for no high-pass.
        phase_flipped: whether the signs of the transfer were corrected before reconstruction.
        radius: see `RadialFilter`. By default the larger of 16 and twice the delocalisation at
            Nyquist, which is ``wavelength defocus / (2 a^2)`` voxels.

    Raises:
        ValueError: for a number outside its range.

    >>> deconvolve = ctf_deconvolution(ContrastTransfer(defocus=30_000.0), 10.0)
    >>> float(deconvolve.gain[...][0]), deconvolve.radius
    (0.0, 16)
    """
    if not 0 < voxel_size < math.inf:
        raise ValueError(f"voxel_size must be positive, in angstrom, got {voxel_size}")
    units.check("voxel_size", voxel_size, units.VOXEL_SIZE)
    check_between("strength", strength, -10, 10)
    check_between("falloff", falloff, 0, 1000)
    check_between("highpass", highpass, 0, 1)
    if radius is None:
        moved = wavelength(float(transfer.voltage)) * abs(float(transfer.defocus))
        radius = max(16, math.ceil(moved / float(voxel_size) ** 2))
    q = np.linspace(0, 1, 1 + max(128, 8 * radius))  # enough knots for every oscillation
    signal = -np.asarray(transfer(0.0, jnp.asarray(q / (2 * voxel_size), jnp.float32)), np.float64)
    signal = np.abs(signal) if phase_flipped else signal
    snr = 10.0 ** (3 * strength) * np.exp(-100 * falloff * q / voxel_size)
    if highpass > 0:
        snr *= 1 - np.cos(np.pi * np.minimum(q / highpass, 1))
    return RadialFilter((signal * snr / (signal**2 * snr + 1)).astype(np.float32), radius)
