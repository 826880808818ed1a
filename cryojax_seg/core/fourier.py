"""Defines the FFT convention of the package.

`rfftn` transforms the three axes of a real volume without normalisation. `irfftn` inverts it and
always takes the shape, without which an odd last axis would be lost. The zero frequency is in the
corner. Frequencies are in cycles per voxel, or per angstrom if a voxel size is given.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cryojax_seg.core.plain import Shape
from cryojax_seg.core.types import Array, Number, Spectrum, Volume

_UNIT = (1.0, 1.0, 1.0)
Spacing = tuple[float, ...]  # voxel size along z, y, x


def rfftn(volume: Volume) -> Spectrum:
    """Return the unnormalised Fourier transform of a real volume, ``(z, y, x // 2 + 1)``."""
    return jnp.fft.rfftn(volume)


def irfftn(spectrum: Spectrum, shape: Shape) -> Volume:
    """Invert `rfftn` for a volume of this shape."""
    return jnp.fft.irfftn(spectrum, s=shape)


def frequencies(
    shape: Shape, voxel_size: Spacing = _UNIT
) -> tuple[Float[Array, "z 1 1"], Float[Array, "1 y 1"], Float[Array, "1 1 half_x"]]:
    """Return the frequencies of the rfftn grid along z, y, x, ready to broadcast.

    They are in cycles per voxel, or in cycles per unit of `voxel_size` if it is given.

    >>> kz, ky, kx = frequencies((4, 4, 4))
    >>> kx.shape, float(kx[0, 0, -1])
    ((1, 1, 3), 0.5)
    """
    kz = jnp.fft.fftfreq(shape[0], voxel_size[0])[:, None, None]
    ky = jnp.fft.fftfreq(shape[1], voxel_size[1])[None, :, None]
    kx = jnp.fft.rfftfreq(shape[2], voxel_size[2])[None, None, :]
    return kz, ky, kx


def radius(shape: Shape, voxel_size: Spacing = _UNIT) -> Float[Array, "z y half_x"]:
    """Return the length of the frequency vectors of the rfftn grid, as in `frequencies`."""
    kz, ky, kx = frequencies(shape, voxel_size)
    return jnp.sqrt(jnp.square(kz) + jnp.square(ky) + jnp.square(kx))


def apply_gain(volume: Volume, gain: Float[Array, "z y half_x"]) -> Volume:
    """Multiply the Fourier transform of a volume by a real gain on the rfftn grid."""
    spectrum = rfftn(volume)
    return irfftn(spectrum * gain.astype(spectrum.dtype), volume.shape)


def _edge(distance: Array, width: Number) -> Array:
    # A logistic edge: smooth, so that cutoffs have gradients, and 1/2 exactly at the cutoff.
    return jax.nn.sigmoid(distance / width)


def low_pass(volume: Volume, cutoff: Number, width: Number = 0.02) -> Volume:
    """Keep frequencies below `cutoff` (cycles per voxel), with a logistic edge of this `width`.

    >>> v = jnp.ones((4, 4, 4))
    >>> bool(jnp.allclose(low_pass(v, 0.25), v, atol=1e-4))
    True
    """
    return apply_gain(volume, _edge(cutoff - radius(volume.shape), width))


def high_pass(volume: Volume, cutoff: Number, width: Number = 0.02) -> Volume:
    """Keep frequencies above `cutoff` (cycles per voxel) by subtracting the `low_pass` volume."""
    return volume - low_pass(volume, cutoff, width)


def band_pass(volume: Volume, low: Number, high: Number, width: Number = 0.02) -> Volume:
    """Keep frequencies between `low` and `high` (cycles per voxel)."""
    k = radius(volume.shape)
    return apply_gain(volume, _edge(high - k, width) * _edge(k - low, width))


def multiplicity(shape: Shape) -> Float[Array, "1 1 half_x"]:
    """Return how often each frequency of the rfftn grid occurs in the full transform, 1 or 2.

    >>> multiplicity((4, 4, 4)).ravel().tolist()
    [1.0, 2.0, 1.0]
    """
    kx = jnp.arange(shape[2] // 2 + 1)
    return jnp.where((kx > 0) & (2 * kx != shape[2]), 2.0, 1.0)[None, None]


def hann_tapers(shape: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Hann windows along z, y and x, ready to broadcast, without the zeros at their ends.

    Multiplied by all three, a volume has no jump between opposite faces, which would otherwise
    appear as structure in its Fourier transform.

    >>> [taper.shape for taper in hann_tapers((4, 5, 6))]
    [(4, 1, 1), (1, 5, 1), (1, 1, 6)]
    """
    z, y, x = (np.hanning(n + 2)[1:-1] for n in shape)
    return z[:, None, None], y[None, :, None], x[None, None, :]


def _shells(shape: Shape) -> tuple[Array, Array, int]:
    # The shell index of each frequency (shells are one grid step of the shortest axis wide) and the
    # multiplicity of each frequency.
    count = min(shape) // 2 + 1
    index = jnp.round(radius(shape) * min(shape)).astype(jnp.int32)
    counts = jnp.broadcast_to(multiplicity(shape), index.shape)
    return jnp.where(index < count, index, count), counts, count


def shell_sum(values: Float[Array, "z y half_x"], shape: Shape) -> Float[Array, " shell"]:
    """Sum a real quantity on the rfftn grid of a volume of this shape over spherical shells.

    Shells are one grid step of the shortest axis wide, from the zero frequency to its Nyquist
    frequency. The conjugate half that rfftn omits is included.
    """
    index, counts, count = _shells(shape)
    return jnp.zeros(count + 1, values.dtype).at[index].add(values * counts)[:count]


def shell_expand(values: Float[Array, " shell"], shape: Shape) -> Float[Array, "z y half_x"]:
    """Assign each frequency of the rfftn grid the value of its shell; inverse of `shell_average`.

    Frequencies in the corners, beyond the last shell, get the value of the last shell.

    >>> k = radius((8, 8, 8))
    >>> flat = shell_expand(shell_average(jnp.ones_like(k), (8, 8, 8)), (8, 8, 8))
    >>> bool((flat == 1).all())
    True
    """
    index, _, count = _shells(shape)
    return jnp.asarray(values)[jnp.minimum(index, count - 1)]


def shell_average(values: Float[Array, "z y half_x"], shape: Shape) -> Float[Array, " shell"]:
    """Average over the spherical shells of `shell_sum`; ``abs(rfftn(v))**2`` gives the spectrum."""
    return shell_sum(values, shape) / shell_sum(jnp.ones_like(values), shape)


def fourier_shell_correlation(first: Volume, second: Volume) -> Float[Array, " shell"]:
    """Return the Fourier shell correlation of two volumes of one shape, by shells of `shell_sum`.

    ``FSC(s) = Re sum(A conj(B)) / sqrt(sum |A|^2 sum |B|^2)`` (Harauz & van Heel 1986). A shell in
    which a volume has no energy gives 0.

    >>> import jax
    >>> v = jax.random.normal(jax.random.key(0), (8, 8, 8))
    >>> bool((fourier_shell_correlation(v, 2 * v) > 0.999).all())
    True
    """
    a, b = rfftn(first), rfftn(second)
    cross = shell_sum(jnp.real(a * b.conj()), first.shape)
    energy = shell_sum(jnp.square(jnp.abs(a)), first.shape) * shell_sum(
        jnp.square(jnp.abs(b)), first.shape
    )
    return jnp.where(energy > 0, cross / jnp.sqrt(jnp.where(energy > 0, energy, 1.0)), 0.0)
