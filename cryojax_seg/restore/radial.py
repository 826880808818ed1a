"""A linear filter that treats all directions alike."""

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
    """Weights of offsets ``-radius..radius``: 1 up to half the radius, then a cosine down to 0.

    A window that falls from its centre on, such as Hann's, would widen every peak of a gain: what a
    Gaussian gain of scale 0.15 is off by at radius 8 is 0.06 under Hann's and 0.002 under this one.

    >>> [round(float(w), 2) for w in window(3)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5]
    """
    place = np.abs(np.arange(-radius, radius + 1)) / (radius + 1)
    return np.cos(0.5 * np.pi * np.clip(2 * place - 1, 0, 1)) ** 2


class RadialFilter(LocalOperator):
    """A filter given by its gain at spatial frequencies from 0 to 0.5 cycles per voxel.

    Between the given frequencies the gain is interpolated, beyond (in the corners of the Fourier
    cube) it is the last. Its kernel is cut off at a radius, under a window (`window`) along each
    axis, so the filter is local, and detail of the gain finer than about ``1 / radius`` is smoothed
    away: an edge of logistic width 0.02 is off by 0.15, 0.05 and 0.01 at most with a radius of 4, 8
    and 16, a Gaussian of scale s by 0.01 from ``radius = 0.6 / s`` on. The gain of a constant stays
    exactly the first. Computed through the FFT of the volume with zeros around it, so nothing wraps
    around.

    Args:
        gain: at equally spaced frequencies, the first 0 and the last 0.5; any sign; learnable, two
            or more.
        radius: of the kernel, voxels.

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
            raise ValueError(f"a gain needs values at 0 and 0.5 at least, got {gain}")
        if not np.isfinite(numbers).all():
            raise ValueError(f"a gain is finite at every frequency, got {gain}")
        if radius < 1:
            raise ValueError(f"the radius is 1 voxel or more, got {radius}")
        self.gain = learnable(numbers)
        self.radius = radius
        self.halo, self.stride = radius, 1

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
        taper = window(reach)
        weights = jnp.asarray(np.einsum("i,j,k->ijk", taper, taper, taper), gain.dtype)
        response = response * weights
        return response + (gain[0] - response.sum()) * weights / weights.sum()

    def __call__(self, volume: Volume) -> Features:
        reach = self.radius
        # With as many zeros as the radius only the part that is cropped wraps around.
        sizes: list[int] = [
            next_fast_len(max(n, reach + 1) + reach, True)  # pyright: ignore
            for n in volume.shape
        ]
        padded = jnp.pad(volume, [(0, m - n) for m, n in zip(sizes, volume.shape, strict=True)])
        kernel = self.kernel().astype(volume.dtype)
        kernel = jnp.pad(kernel, [(0, m - 2 * reach - 1) for m in sizes])
        spectrum = fourier.rfftn(padded) * fourier.rfftn(kernel)
        out = fourier.irfftn(spectrum, padded.shape).astype(volume.dtype)
        z, y, x = volume.shape
        return out[reach : reach + z, reach : reach + y, reach : reach + x, None]
