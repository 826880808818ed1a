"""Provides isotropic linear filters."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float
from scipy.fft import next_fast_len

from cryojax_seg.core import LocalOperator, fourier
from cryojax_seg.core.parameters import learnable
from cryojax_seg.core.types import Array, Features, Volume


def window(radius: int) -> np.ndarray:
    """Return weights of offsets ``-radius..radius``: 1 up to half the radius, then a cosine to 0.

    A window that decreases from its centre, such as a Hann window, would broaden every peak of a
    gain: a Gaussian gain of scale 0.15 at radius 8 has an error of 0.06 with a Hann window and
    0.002 with this one.

    >>> [round(float(w), 2) for w in window(3)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5]
    """
    distance = np.abs(np.arange(-radius, radius + 1)) / (radius + 1)
    return np.cos(0.5 * np.pi * np.clip(2 * distance - 1, 0, 1)) ** 2


class RadialFilter(LocalOperator):
    """Filters by a gain at spatial frequencies from 0 to 0.5 cycles per voxel.

    The gain is interpolated between the given frequencies, and constant beyond the last (in the
    corners of the Fourier cube). The kernel is truncated at a radius with a `window` along each
    axis, which makes the filter local and smooths detail of the gain finer than about
    ``1 / radius``: an edge of logistic width 0.02 has an error of at most 0.15, 0.05 and 0.01 for a
    radius of 4, 8 and 16, a Gaussian of scale s of 0.01 from ``radius = 0.6 / s`` on. The gain of a
    constant volume is exactly the first. The FFT of the zero-padded volume is used, so nothing
    wraps around.

    Args:
        gain: two or more values of any sign at equally spaced frequencies from 0 to 0.5; learnable.
        radius: radius of the kernel, voxels.

    Raises:
        ValueError: for fewer than two gains, one that is not finite, or a radius below 1.

    >>> keep = RadialFilter([1.0, 1.0], radius=2)
    >>> v = jnp.ones((8, 8, 8)).at[4, 4, 4].set(5.0)
    >>> bool(jnp.allclose(keep(v)[2:6, 2:6, 2:6, 0], v[2:6, 2:6, 2:6], atol=1e-5))
    True
    """

    def __init__(self, gain: ArrayLike | Sequence[float], radius: int = 8):
        numbers = np.asarray(gain, np.float32)
        if numbers.ndim != 1 or numbers.size < 2:
            raise ValueError(f"gain needs at least the values at 0 and 0.5, got {gain}")
        if not np.isfinite(numbers).all():
            raise ValueError(f"gain must be finite at every frequency, got {gain}")
        if radius < 1:
            raise ValueError(f"radius must be 1 voxel or more, got {radius}")
        self.gain = learnable(numbers)
        self.radius = radius
        self.halo, self.stride = radius, 1

    def kernel(self) -> Float[Array, "k k k"]:
        """Return the kernel ``(2 radius + 1)^3``, the response to a single voxel of 1."""
        radius, gain = self.radius, self.gain[...]
        edge = 4 * radius + 4  # the response wraps around only where the window is 0
        k = fourier.radius((edge,) * 3).astype(gain.dtype)
        knots = jnp.linspace(0, 0.5, gain.size, dtype=gain.dtype)
        desired = jnp.interp(k, knots, gain)
        response = fourier.irfftn(jax.lax.complex(desired, jnp.zeros_like(desired)), (edge,) * 3)
        response = jnp.roll(response, (radius,) * 3, (0, 1, 2))
        response = response[: 2 * radius + 1, : 2 * radius + 1, : 2 * radius + 1].astype(gain.dtype)
        taper = window(radius)
        weights = jnp.asarray(np.einsum("i,j,k->ijk", taper, taper, taper), gain.dtype)
        response = response * weights
        return response + (gain[0] - response.sum()) * weights / weights.sum()

    def __call__(self, volume: Volume) -> Features:
        radius = self.radius
        # With this padding only the cropped part wraps around.
        sizes: list[int] = [
            next_fast_len(max(n, radius + 1) + radius, True)  # pyright: ignore
            for n in volume.shape
        ]
        padded = jnp.pad(volume, [(0, m - n) for m, n in zip(sizes, volume.shape, strict=True)])
        kernel = self.kernel().astype(volume.dtype)
        kernel = jnp.pad(kernel, [(0, m - 2 * radius - 1) for m in sizes])
        spectrum = fourier.rfftn(padded) * fourier.rfftn(kernel)
        out = fourier.irfftn(spectrum, padded.shape).astype(volume.dtype)
        z, y, x = volume.shape
        return out[radius : radius + z, radius : radius + y, radius : radius + x, None]
