"""What the networks are built of: convolution, residual block, and the reach of a U-Net."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from cryojax_seg.core.neighbourhood import conv3d, downsample, upsample
from cryojax_seg.core.types import Features
from cryojax_seg.segmenters.normalization import Normalization, standardized

_SLOPE = 0.01


def activation(x: Features) -> Features:
    """Leaky rectifier of slope 0.01 (as in nnU-Net): no channel can die."""
    return jnp.maximum(x, _SLOPE * x)


def drawn(rngs: nnx.Rngs, shape: tuple[int, ...], variance: float) -> nnx.Param:
    """A normally distributed initial kernel."""
    return nnx.Param(jax.random.normal(rngs.params(), shape, jnp.float32) * variance**0.5)


class Linear(nnx.Module):
    """A linear map of channels with bias, ``(z, y, x, in) -> (z, y, x, out)``."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.kernel = drawn(rngs, (inputs, outputs), 1 / inputs)
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32))

    def __call__(self, x: Features) -> Array:
        return x @ self.kernel[...] + self.bias[...][None, None, None, :]


class Down(nnx.Module):
    """2x2x2 convolution of stride 2 with bias: half the size."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.kernel = drawn(rngs, (2, 2, 2, inputs, outputs), 1 / (8 * inputs))
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32))

    def __call__(self, x: Features) -> Array:
        return downsample(x, self.kernel[...]) + self.bias[...][None, None, None, :]


class Up(nnx.Module):
    """2x2x2 transposed convolution of stride 2 with bias: twice the size."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.kernel = drawn(rngs, (2, 2, 2, inputs, outputs), 1 / inputs)
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32))

    def __call__(self, x: Features) -> Array:
        return upsample(x, self.kernel[...]) + self.bias[...][None, None, None, :]


class Convolution(nnx.Module):
    """A 3D convolution and its normalisation: ``normalize(conv3d(x, kernel))``.

    Args:
        inputs, outputs: channels.
        size: odd edge of the kernel, voxels.
        norm: see `Normalization`; ``"weight"`` standardises the kernel.
        scale: initial value of the scale that is learned per channel.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        norm: str,
        *,
        scale: float = 1.0,
        rngs: nnx.Rngs,
    ):
        # Variance 2 / fan_in keeps the variance through a rectifier (He et al. 2015).
        self.kernel = drawn(rngs, (size, size, size, inputs, outputs), 2 / (size**3 * inputs))
        self.norm = Normalization(outputs, norm, scale)

    def __call__(self, x: Features) -> Array:
        kernel = self.kernel[...]
        # Over one channel a kernel without mean would not see the level of its input.
        if self.norm.kind == "weight" and kernel.shape[3] > 1:
            kernel = standardized(kernel)
        return self.norm(conv3d(x, kernel))


class ResidualBlock(nnx.Module):
    """``activation(x' + c2(activation(c1(x))))``, x' being x or its linear map to `outputs`.

    Two convolutions of 3x3x3 (He et al. 2016). Where no statistics are taken (``"none"``,
    ``"weight"``) the branch starts scaled by 0.2, so that variance does not grow with depth
    (Brock et al. 2021).
    """

    def __init__(self, inputs: int, outputs: int, norm: str, *, rngs: nnx.Rngs):
        scale = 0.2 if norm in ("none", "weight") else 1.0
        self.first = Convolution(inputs, outputs, 3, norm, rngs=rngs)
        self.second = Convolution(outputs, outputs, 3, norm, scale=scale, rngs=rngs)
        self.project = None if inputs == outputs else Linear(inputs, outputs, rngs=rngs)

    def __call__(self, x: Features) -> Array:
        branch = self.second(activation(self.first(x)))
        skip = x if self.project is None else self.project(x)
        return activation(skip + branch)


def unet_halo(depth: int, stem: bool) -> int:
    """The exact halo of `unet.UNet`, by following output voxels back to the input.

    What a voxel can see is an interval per axis: a residual block widens it by 2, an upsampling
    halves its ends, a downsampling doubles them, a skip connection joins two intervals. The halo
    is the largest reach over the ``2**depth`` phases (twice that with a stem) of an output voxel.

    >>> [unet_halo(depth, stem=False) for depth in (0, 1, 2)]
    [2, 9, 23]
    """

    def back(low: int, high: int, level: int) -> tuple[int, int]:
        if level == depth:
            return low - 2, high + 2
        low, high = low - 2, high + 2
        deep_low, deep_high = back(low // 2, high // 2, level + 1)
        low, high = min(low, 2 * deep_low), max(high, 2 * deep_high + 1)
        return low - 2, high + 2

    reach = 0
    for voxel in range(2 ** (depth + stem)):
        start = voxel // 2 if stem else voxel
        low, high = back(start, start, 0)
        low, high = (2 * low, 2 * high + 1) if stem else (low, high)
        reach = max(reach, voxel - low, high - voxel)
    return reach
