"""Computes convolutions of arrays ``(z, y, x, channel)`` at the speed of the machine.

XLA's 3D convolution is the slowest path there is on a CPU, and its gradient is slower still.
`conv3d` gives the same numbers by the fastest way that the machine has: oneDNN where jaxlib carries
it, otherwise matrix products over blocks that stay in the cache; the FFT for large kernels; and the
native convolution on GPUs and TPUs.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float

from cryojax_seg.core import large_kernels, onednn
from cryojax_seg.core.types import Array, Features, at_least_float32

Kernel = Float[Array, "kz ky kx in out"]
Pads = tuple[tuple[int, int], ...]  # zeros before and after each axis
_NHWC = ("NHWC", "HWIO", "NHWC")
_NDHWC = ("NDHWC", "DHWIO", "NDHWC")

# Bytes of a block of gathered neighbourhoods: small enough to stay in the cache of one core.
_BLOCK_BYTES = 1_000_000
_FEW = 2  # input channels, of which a product over channels would be narrow


def _same(kernel: Array) -> Pads:
    """Return the zeros before and after each axis that SAME padding has."""
    return tuple(((n - 1) // 2, n // 2) for n in kernel.shape[:3])


def _few_channels(volume, kernel, pads):
    """Convolve with the z taps as channels of one 2D convolution."""
    depth, (ky, kx) = volume.shape[0], kernel.shape[1:3]
    padded = jnp.pad(volume, (pads[0], (0, 0), (0, 0), (0, 0)))
    taps = [padded[i : i + depth] for i in range(kernel.shape[0])]
    merged = kernel.transpose(1, 2, 0, 3, 4).reshape(ky, kx, -1, kernel.shape[-1])
    return jax.lax.conv_general_dilated(
        jnp.concatenate(taps, axis=-1), merged, (1, 1), pads[1:], dimension_numbers=_NHWC
    )


def _rows(shape, taps, itemsize):
    """Return how many rows of a plane to take at once, which divides the height."""
    _, height, width, channels = shape
    most = max(1, _BLOCK_BYTES // (width * taps * channels * itemsize))
    best = max(n for n in range(1, height + 1) if height % n == 0 and n <= most)
    return best if 4 * best >= min(most, height) else height  # e.g. a prime height


def _in_plane(padded, z, y, rows, shape, size):
    """Gather the in-plane neighbourhoods of some rows of a padded plane: ``(row x, tap in)``."""
    (ky, kx), (width, channels) = size, shape
    near = jax.lax.dynamic_slice(padded, (z, y, 0, 0), (1, rows + ky - 1, width + kx - 1, channels))
    taps = [near[0, b : b + rows, c : c + width] for b in range(ky) for c in range(kx)]
    return jnp.concatenate(taps, axis=-1).reshape(rows * width, -1)


def _products(volume, kernel, pads):
    """Multiply gathered in-plane neighbourhoods by the kernel, block by block.

    A block is a few rows of one plane, so that the gathered copy never leaves the cache. The z taps
    are columns of the product: one block adds to as many output planes as the kernel is deep, which
    makes the product wide enough for the processor even where there are few output channels.
    """
    depth, height, width, channels = volume.shape
    kz, ky, kx, _, outputs = kernel.shape
    rows = _rows(volume.shape, ky * kx, volume.dtype.itemsize)
    padded = jnp.pad(volume, ((0, 0), *pads[1:], (0, 0)))
    matrix = kernel.transpose(1, 2, 3, 0, 4).reshape(ky * kx * channels, kz * outputs)
    wide = at_least_float32(volume.dtype)  # for the sum over the z taps

    def block(i, out):
        z, y = i // (height // rows), (i % (height // rows)) * rows
        near = _in_plane(padded, z, y, rows, (width, channels), (ky, kx))
        product = jnp.matmul(near, matrix, preferred_element_type=wide)
        # Tap a of input plane z belongs to output plane z - a + pads[0][0].
        planes = product.reshape(rows, width, kz, outputs).transpose(2, 0, 1, 3)[::-1]
        before = jax.lax.dynamic_slice(out, (z, y, 0, 0), planes.shape)
        return jax.lax.dynamic_update_slice(out, before + planes, (z, y, 0, 0))

    # Blocks are written in place. `lax.map` under vmap would put the batch axis in the middle and
    # make the next operation, such as a mean over a channel, three times slower.
    out = jnp.zeros((depth + kz - 1, height, width, outputs), wide)
    out = jax.lax.fori_loop(0, depth * height // rows, block, out)
    first = kz - 1 - pads[0][0]
    return out[first : first + depth].astype(volume.dtype)


def _kernel_gradient(volume, cotangent, kernel, pads):
    """Return the gradient with respect to the kernel, block by block as well.

    The in-plane neighbourhoods of one input plane meet the output planes of all z taps in one
    matrix product.
    """
    depth, height, width, channels = volume.shape
    kz, ky, kx, _, outputs = kernel.shape
    rows = _rows(volume.shape, ky * kx, volume.dtype.itemsize)
    padded = jnp.pad(volume, ((0, 0), *pads[1:], (0, 0)))
    around = jnp.pad(cotangent, (pads[0][::-1], (0, 0), (0, 0), (0, 0)))

    def block(total, i):
        z, y = i // (height // rows), (i % (height // rows)) * rows
        columns = _in_plane(padded, z, y, rows, (width, channels), (ky, kx))
        planes = jax.lax.dynamic_slice(around, (z, y, 0, 0), (kz, rows, width, outputs))
        outer = jnp.concatenate([planes[kz - 1 - a] for a in range(kz)], axis=-1)
        part = jnp.matmul(columns.T, outer.reshape(rows * width, -1), preferred_element_type=wide)
        return total + part, None

    wide = at_least_float32(volume.dtype)  # for a sum of many small parts
    zero = jnp.zeros((ky * kx * channels, kz * outputs), wide)
    total, _ = jax.lax.scan(block, zero, jnp.arange(depth * height // rows))
    total = total.astype(kernel.dtype)
    return total.reshape(ky, kx, channels, kz, outputs).transpose(3, 0, 1, 2, 4)


def _native(volume, kernel, pads):
    return jax.lax.conv_general_dilated(
        volume[None], kernel, (1, 1, 1), pads, dimension_numbers=_NDHWC
    )[0]


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _by_onednn(volume) -> bool:
    return volume.dtype in onednn.types() and onednn.available()


def _fastest(volume, kernel, pads):
    """Convolve on a CPU."""
    if volume.shape[-1] <= _FEW:
        return _few_channels(volume, kernel, pads)
    if _by_onednn(volume):
        return onednn.convolve(volume[None], kernel, pads)[0]
    return _products(volume, kernel, pads)


@jax.custom_vjp
def _conv3d(volume, kernel):
    if large_kernels.is_large(kernel):
        return large_kernels.convolve(volume, kernel)
    return _fastest(volume, kernel, _same(kernel))


def _conv3d_fwd(volume, kernel):
    return _conv3d(volume, kernel), (volume, kernel)


def _conv3d_bwd(residuals, cotangent):
    volume, kernel = residuals
    if large_kernels.is_large(kernel):
        return large_kernels.gradients(volume, kernel, cotangent)
    pads = _same(kernel)
    # The gradient of a correlation is the correlation with the mirrored kernel.
    mirrored = kernel[::-1, ::-1, ::-1].swapaxes(3, 4)
    to_volume = _fastest(cotangent, mirrored, tuple(p[::-1] for p in pads))
    if volume.shape[-1] > _FEW and _by_onednn(volume):
        to_kernel = onednn.kernel_gradient(volume, cotangent, kernel.shape[:3], pads)
        return to_volume, to_kernel.astype(kernel.dtype)
    if volume.shape[-1] > _FEW:
        return to_volume, _kernel_gradient(volume, cotangent, kernel, pads)
    pull = jax.vjp(partial(_few_channels, volume, pads=pads), kernel)[1]
    return to_volume, *pull(cotangent)


_conv3d.defvjp(_conv3d_fwd, _conv3d_bwd)


def conv3d(volume: Features, kernel: Kernel) -> Float[Array, "z y x out"]:
    """Cross-correlate with zero padding and stride 1; the output has the size of the input.

    ``out[r, o] = sum_{d, i} volume[r + d, i] kernel[d + radius, i, o]``, as in every deep-learning
    library. It is differentiable in reverse mode. How it is computed is decided when it is traced,
    by JAX's default backend: other devices than CPUs run the native convolution and its own
    gradient, which contracts over a batch. On CPUs, large kernels go through the FFT
    (`large_kernels.is_large`: from 5x5x5 with few channels, from 9x9x9 otherwise).

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
    return _conv3d(volume, kernel) if _on_cpu() else _native(volume, kernel, _same(kernel))


def space_to_depth(volume: Features, size: int = 2) -> Array:
    """Move blocks of ``size^3`` voxels into channels: ``(z, y, x, c) -> (z/s, y/s, x/s, s^3 c)``.

    >>> import jax.numpy as jnp
    >>> space_to_depth(jnp.zeros((4, 4, 4, 3))).shape
    (2, 2, 2, 24)
    """
    z, y, x, c = volume.shape
    blocks = volume.reshape(z // size, size, y // size, size, x // size, size, c)
    blocks = blocks.transpose(0, 2, 4, 1, 3, 5, 6)
    return blocks.reshape(z // size, y // size, x // size, size**3 * c)


def depth_to_space(volume: Features, size: int = 2) -> Array:
    """Move channels into blocks of voxels; the inverse of `space_to_depth`.

    >>> import jax.numpy as jnp
    >>> v = jnp.arange(64.0).reshape(4, 4, 4, 1)
    >>> bool((depth_to_space(space_to_depth(v)) == v).all())
    True
    """
    z, y, x, c = volume.shape
    blocks = volume.reshape(z, y, x, size, size, size, c // size**3)
    blocks = blocks.transpose(0, 3, 1, 4, 2, 5, 6)
    return blocks.reshape(z * size, y * size, x * size, c // size**3)


def downsample(volume: Features, kernel: Float[Array, "2 2 2 in out"]) -> Array:
    """Apply a 2x2x2 convolution of stride 2, ``(z, y, x, in) -> (z/2, y/2, x/2, out)``.

    It is computed as a matrix product over blocks, which is exact and fastest on every device.
    """
    inputs, outputs = kernel.shape[3:]
    return space_to_depth(volume) @ kernel.reshape(8 * inputs, outputs)


def upsample(volume: Features, kernel: Float[Array, "2 2 2 in out"]) -> Array:
    """Apply a 2x2x2 transposed convolution of stride 2, ``(z, y, x, in) -> (2z, 2y, 2x, out)``.

    Voxel ``2r + d`` of the output is ``volume[r] @ kernel[d]``, so each output is written once.
    """
    inputs, outputs = kernel.shape[3:]
    spread = kernel.transpose(3, 0, 1, 2, 4).reshape(inputs, 8 * outputs)
    return depth_to_space(volume @ spread)
