"""Provides the building blocks of networks, and the halo of a U-Net.

Products are computed in the type of the features, see `precision.Bfloat16`; parameters are kept,
and biases and statistics computed, in float32.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cryojax_seg.core.convolution import conv3d, downsample, upsample
from cryojax_seg.core.parameters import filled
from cryojax_seg.core.types import Array, Features, at_least_float32
from cryojax_seg.segmenters.normalization import Normalization, standardized

SLOPE = 0.01


def activation(x: Features) -> Features:
    """Apply a leaky rectifier of slope 0.01, as in nnU-Net."""
    return jnp.maximum(x, SLOPE * x)


class Kernel(nnx.Param):
    """Holds a parameter that is zero until `initialize` draws it with its `variance`."""


def kernel(shape: tuple[int, ...], variance: float) -> Kernel:
    return Kernel(filled(shape), variance=variance)


def vector(size: int, value: float = 0.0) -> nnx.Param:
    return nnx.Param(filled((size,), value))


@partial(jax.jit, static_argnums=(1, 2, 3))
def _draw(key, shapes, variances, truncation):
    ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
    if truncation is None:
        values = jax.random.normal(key, (ends[-1],), jnp.float32)
    else:
        values = jax.random.truncated_normal(key, -truncation, truncation, (ends[-1],), jnp.float32)
    parts = jnp.split(values, ends[:-1])
    triples = zip(parts, shapes, variances, strict=True)
    return [part.reshape(shape) * variance**0.5 for part, shape, variance in triples]


def initialize(module: nnx.Module, rngs: nnx.Rngs, truncation: float | None = None) -> None:
    """Draw every `Kernel` of a module that is being constructed, from a normal distribution.

    All of them from one stream in one compiled function: a function a shape takes 10 seconds to
    compile for a small U-Net.

    Args:
        truncation: cut at this many standard deviations; the variance is that before the cut.
    """
    kernels = [node for _, node in nnx.iter_graph(module) if isinstance(node, Kernel)]
    shapes = tuple(tuple(k.shape) for k in kernels)
    variances = tuple(k.variance for k in kernels)
    for k, value in zip(kernels, _draw(rngs.params(), shapes, variances, truncation), strict=True):
        k[...] = value


def biased(x: Array, bias: nnx.Param) -> Array:
    """Add a bias to each channel of features."""
    # In at least float32, where the gradient of the bias is a sum over all voxels.
    wide = at_least_float32(x.dtype)
    return (x.astype(wide) + bias[...][None, None, None, :]).astype(x.dtype)


class Linear(nnx.Module):
    """Maps channels linearly with bias, ``(z, y, x, in) -> (z, y, x, out)``."""

    def __init__(self, inputs: int, outputs: int):
        self.kernel = kernel((inputs, outputs), 1 / inputs)
        self.bias = vector(outputs)

    def __call__(self, x: Features) -> Array:
        return biased(x @ self.kernel[...].astype(x.dtype), self.bias)


class Down(nnx.Module):
    """Halves the resolution by a 2x2x2 convolution of stride 2 with bias."""

    def __init__(self, inputs: int, outputs: int):
        self.kernel = kernel((2, 2, 2, inputs, outputs), 1 / (8 * inputs))
        self.bias = vector(outputs)

    def __call__(self, x: Features) -> Array:
        return biased(downsample(x, self.kernel[...].astype(x.dtype)), self.bias)


class Up(nnx.Module):
    """Doubles the resolution by a 2x2x2 transposed convolution of stride 2 with bias."""

    def __init__(self, inputs: int, outputs: int):
        self.kernel = kernel((2, 2, 2, inputs, outputs), 1 / inputs)
        self.bias = vector(outputs)

    def __call__(self, x: Features) -> Array:
        return biased(upsample(x, self.kernel[...].astype(x.dtype)), self.bias)


class Convolution(nnx.Module):
    """Applies a 3D convolution and its normalisation, ``normalize(conv3d(x, kernel))``.

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
        scale: float = 1.0,
    ):
        # Variance 2 / fan_in keeps the variance through a rectifier (He et al. 2015).
        self.kernel = kernel((size, size, size, inputs, outputs), 2 / (size**3 * inputs))
        self.norm = Normalization(outputs, norm, scale)

    def __call__(self, x: Features) -> Array:
        kernel = self.kernel[...]
        # Over one channel a kernel without mean would not see the level of its input.
        if self.norm.kind == "weight" and kernel.shape[3] > 1:
            kernel = standardized(kernel)
        return self.norm(conv3d(x, kernel.astype(x.dtype)))


class ResidualBlock(nnx.Module):
    """Computes ``activation(x' + c2(activation(c1(x))))``; x' is x or its map to `outputs`.

    Two convolutions of 3x3x3 (He et al. 2016). Where no statistics are taken (``"none"``,
    ``"weight"``) the branch starts scaled by 0.2, so that variance does not grow with depth
    (Brock et al. 2021).
    """

    def __init__(self, inputs: int, outputs: int, norm: str):
        scale = 0.2 if norm in ("none", "weight") else 1.0
        self.first = Convolution(inputs, outputs, 3, norm)
        self.second = Convolution(outputs, outputs, 3, norm, scale)
        self.project = None if inputs == outputs else Linear(inputs, outputs)

    def __call__(self, x: Features) -> Array:
        branch = self.second(activation(self.first(x)))
        skip = x if self.project is None else self.project(x)
        return activation(skip + branch)


def unet_halo(depth: int, stem: bool) -> int:
    """Return the exact halo of `unet.UNet`, found by tracing output voxels back to the input.

    The receptive field of a voxel is an interval per axis: a residual block widens it by 2, an
    upsampling halves its ends, a downsampling doubles them, a skip connection joins two intervals.
    The halo is the largest extent over the ``2**depth`` phases (twice that with a stem) of an
    output voxel.

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

    halo = 0
    for voxel in range(2 ** (depth + stem)):
        start = voxel // 2 if stem else voxel
        low, high = back(start, start, 0)
        low, high = (2 * low, 2 * high + 1) if stem else (low, high)
        halo = max(halo, voxel - low, high - voxel)
    return halo
