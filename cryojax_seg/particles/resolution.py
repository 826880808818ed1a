"""Estimates resolution by the correlation of half averages, corrected for the mask."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cryojax_seg.core import fourier
from cryojax_seg.core.plain import Shape
from cryojax_seg.core.types import Array, Key, Volume


class ShellCorrelation(NamedTuple):
    """Holds Fourier shell correlations of two half averages, by shell.

    Returned by `masked_shell_correlation`.

    Attributes:
        frequency: frequency of each shell, in cycles per voxel.
        unmasked: correlation of the halves without a mask.
        masked: correlation of the masked halves.
        randomized: correlation of the masked halves after their phases were randomized.
        corrected: `masked` without the contribution of the mask.
        start: first shell whose phases were randomized.
    """

    frequency: Array
    unmasked: Array
    masked: Array
    randomized: Array
    corrected: Array
    start: Array


def soft_sphere(shape: Shape, radius: float | int, edge: float | int = 3.0) -> Volume:
    """Return a mask that is 1 within a radius of the middle voxel, with a raised-cosine edge.

    Args:
        shape: shape ``(z, y, x)`` of the mask.
        radius: radius in voxels.
        edge: width of the edge beyond the radius, in voxels.

    >>> soft_sphere((9, 9, 9), 2.0, 2.0)[4, 4].round(2).tolist()
    [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    axes = [jnp.square(jnp.arange(n) - n // 2).astype(jnp.result_type(float)) for n in shape]
    z, y, x = (a.reshape([-1 if i == j else 1 for j in range(3)]) for i, a in enumerate(axes))
    beyond = jnp.clip((jnp.sqrt(z + y + x) - radius) / max(edge, 1e-6), 0.0, 1.0)
    return (1 + jnp.cos(jnp.pi * beyond)) / 2


def masked_shell_correlation(
    first: Volume,
    second: Float[Array, "_a _b _c"],
    mask: Float[Array, "_d _e _f"],
    key: Key,
    threshold: float | int = 0.8,
) -> ShellCorrelation:
    """Return the Fourier shell correlation of masked halves, corrected by phase randomization.

    Beyond the shell where the correlation of the unmasked halves falls below `threshold`, the
    phases of both are replaced by random ones. Any correlation of the masked halves that remains
    there comes from the mask, and is removed by ``FSC_true = (FSC_masked - FSC_random) / (1 -
    FSC_random)`` from two shells further on (Chen et al. 2013, Ultramicroscopy 135:24, equation 4).

    Args:
        first, second: averages of independent halves of the particles.
        mask: soft mask, 0 to 1.
        key: random key of the phases.
        threshold: correlation above which phases are kept.

    Raises:
        ValueError: if the shapes differ.

    >>> volume = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    >>> mask, key = soft_sphere((8, 8, 8), 2.0), jax.random.key(0)
    >>> shells = masked_shell_correlation(volume, volume, mask, key)
    >>> shells.corrected[1:4].round(3).tolist()
    [1.0, 1.0, 1.0]
    """
    if not first.shape == second.shape == mask.shape:
        raise ValueError(
            f"halves of shapes {first.shape} and {second.shape} with a mask of {mask.shape}; all "
            "three must lie on one grid"
        )
    first, second, mask = jnp.asarray(first), jnp.asarray(second), jnp.asarray(mask)
    shape = first.shape
    unmasked = fourier.fourier_shell_correlation(first, second)
    numbers = jnp.arange(unmasked.shape[0], dtype=jnp.int32)
    low = (unmasked < threshold) & (numbers > 0)
    start = jnp.where(low.any(), jnp.argmax(low), unmasked.shape[0]).astype(jnp.int32)
    shell = fourier.radius(shape) * min(shape)
    kept = jnp.round(shell).astype(jnp.int32) < start

    def randomized(volume, key):
        # White noise has random phases with the symmetry of a real volume's.
        noise = fourier.rfftn(jax.random.normal(key, shape, volume.dtype))
        spectrum = fourier.rfftn(volume)
        size = jnp.abs(noise)
        phase = noise / jnp.where(size > 0, size, 1.0).astype(noise.dtype)
        random = jnp.abs(spectrum).astype(noise.dtype) * phase
        return fourier.irfftn(jnp.where(kept, spectrum, random), shape)

    keys = jax.random.split(key)
    masked = fourier.fourier_shell_correlation(first * mask, second * mask)
    random = fourier.fourier_shell_correlation(
        randomized(first, keys[0]) * mask, randomized(second, keys[1]) * mask
    )
    safe = jnp.where(random < 1 - 1e-6, 1 - random, 1.0)
    true = jnp.where(random < 1 - 1e-6, (masked - random) / safe, masked)
    corrected = jnp.where(numbers >= start + 2, true, masked)
    frequency = numbers.astype(unmasked.dtype) / min(shape)
    return ShellCorrelation(frequency, unmasked, masked, random, corrected, start)


def find_resolution(
    frequency: Float[Array, " shell"],
    correlation: Float[Array, " shell"],
    voxel_size_angstrom: float | int,
    threshold: float | int = 0.143,
) -> float:
    """Return the resolution in angstrom at which a shell correlation first falls below a threshold.

    It is interpolated linearly between shells. The threshold for halves is 0.143 (Rosenthal and
    Henderson 2003, J. Mol. Biol. 333:721). If the correlation never falls below it, the result is
    the Nyquist limit, two voxels.

    Args:
        frequency: frequency of each shell, in cycles per voxel.
        correlation: correlation of each shell; the zero frequency is ignored.
        voxel_size_angstrom: voxel size.
        threshold: threshold of the correlation.

    Returns:
        the resolution; infinity if not even the first shell is above the threshold.

    >>> k = np.array([0.0, 0.125, 0.25, 0.375, 0.5])
    >>> find_resolution(k, np.array([1.0, 1.0, 0.5, 0.1, 0.0]), 10.0, threshold=0.5)
    40.0
    """
    k, c = np.asarray(frequency, float)[1:], np.asarray(correlation, float)[1:]
    below = np.flatnonzero(~(c >= threshold))
    if not below.size:
        return 2.0 * voxel_size_angstrom
    n = int(below[0])
    if n == 0:
        return float("inf")
    share = (c[n - 1] - threshold) / (c[n - 1] - c[n]) if np.isfinite(c[n]) else 0.0
    return float(voxel_size_angstrom / (k[n - 1] + share * (k[n] - k[n - 1])))
