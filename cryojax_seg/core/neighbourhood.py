"""What a neighbourhood computes: convolutions, windows and pooling on ``(z, y, x, channel)``.

XLA's 3D convolution is the slowest path there is on a CPU, and its gradient is slower still. `conv3d`
is one function for all devices: on a CPU it is rewritten, exactly, as 2D convolutions; elsewhere it
is the native convolution.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cryojax_seg.core.types import Features, Scalar, Volume

Kernel = Float[Array, "kz ky kx in out"]
_NHWC = ("NHWC", "HWIO", "NHWC")
_NDHWC = ("NDHWC", "DHWIO", "NDHWC")


def _native(volume, kernel):
    return jax.lax.conv_general_dilated(
        volume[None], kernel, (1, 1, 1), "SAME", dimension_numbers=_NDHWC
    )[0]


def _pad_z(volume, size):
    # SAME padding as XLA does it: the extra voxel of an even kernel goes to the end.
    low = (size - 1) // 2
    return jnp.pad(volume, ((low, size - 1 - low), (0, 0), (0, 0), (0, 0)))


def _conv2d(images, kernel):
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=_NHWC
    )


def _decomposed(volume, kernel):
    size, depth = kernel.shape[0], volume.shape[0]
    padded = _pad_z(volume, size)
    if volume.shape[-1] <= 2:  # few channels: the z taps become channels of one 2D convolution
        taps = jnp.concatenate([padded[i : i + depth] for i in range(size)], axis=-1)
        ky, kx = kernel.shape[1:3]
        return _conv2d(taps, kernel.transpose(1, 2, 0, 3, 4).reshape(ky, kx, -1, kernel.shape[-1]))
    return sum(_conv2d(padded[i : i + depth], kernel[i]) for i in range(size))


def _forward(volume, kernel):
    return jax.lax.platform_dependent(volume, kernel, cpu=_decomposed, default=_native)


@jax.custom_vjp
def _conv3d(volume, kernel):
    return _forward(volume, kernel)


def _kernel_gradient_cpu(volume, cotangent, shape):
    # One matrix product per tap: (in, voxels) x (voxels, out).
    pads = [((n - 1) // 2, n - 1 - (n - 1) // 2) for n in shape[:3]]
    padded = jnp.pad(volume, [*pads, (0, 0)])
    z, y, x, channels = volume.shape
    flat = cotangent.reshape(-1, shape[-1])
    taps = [
        padded[i : i + z, j : j + y, k : k + x].reshape(-1, channels).T @ flat
        for i in range(shape[0])
        for j in range(shape[1])
        for k in range(shape[2])
    ]
    return jnp.stack(taps).reshape(shape)


def _conv3d_fwd(volume, kernel):
    return _conv3d(volume, kernel), (volume, kernel)


def _conv3d_bwd(residuals, cotangent):
    volume, kernel = residuals
    if any(n % 2 == 0 for n in kernel.shape[:3]):
        _, pull = jax.vjp(_native, volume, kernel)
        return pull(cotangent)
    mirrored = kernel[::-1, ::-1, ::-1].swapaxes(3, 4)
    to_volume = _forward(cotangent, mirrored)

    def native(volume, cotangent):
        _, pull = jax.vjp(lambda k: _native(volume, k), kernel)
        return pull(cotangent)[0]

    to_kernel = jax.lax.platform_dependent(
        volume,
        cotangent,
        cpu=partial(_kernel_gradient_cpu, shape=kernel.shape),
        default=native,
    )
    return to_volume, to_kernel


_conv3d.defvjp(_conv3d_fwd, _conv3d_bwd)


def conv3d(volume: Features, kernel: Kernel) -> Float[Array, "z y x out"]:
    """Cross-correlation with zero padding, stride 1, output of the input's size.

    ``out[r, o] = sum_{d, i} volume[r + d, i] kernel[d + radius, i, o]``, as in every deep-learning
    library. Reverse-mode differentiable.

    Args:
        volume: ``(z, y, x, in)``.
        kernel: ``(kz, ky, kx, in, out)``.

    >>> import jax.numpy as jnp
    >>> out = conv3d(jnp.ones((4, 4, 4, 2)), jnp.ones((3, 3, 3, 2, 5)))
    >>> out.shape, float(out[1, 1, 1, 0]), float(out[0, 0, 0, 0])
    ((4, 4, 4, 5), 54.0, 16.0)
    """
    if kernel.shape[:3] == (1, 1, 1):
        return volume @ kernel[0, 0, 0]
    return _conv3d(volume, kernel)
