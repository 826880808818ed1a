"""What a neighbourhood computes: convolutions, windows and pooling on ``(z, y, x, channel)``.

XLA's 3D convolution is the slowest path there is on a CPU, and its gradient is slower still.
`conv3d` is one function for all devices: on a CPU it is rewritten, exactly, as matrix products over
blocks that stay in the cache; elsewhere it is the native convolution.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float

from cryojax_seg.core.types import Array, Features, Number, Volume, at_least_float32

Kernel = Float[Array, "kz ky kx in out"]
_NHWC = ("NHWC", "HWIO", "NHWC")
_NDHWC = ("NDHWC", "DHWIO", "NDHWC")


def _same(kernel):
    """Zeros before and after each axis, as SAME padding has them."""
    return tuple(((n - 1) // 2, n // 2) for n in kernel.shape[:3])


def _few_channels(volume, kernel, pads):
    """The z taps become channels of one 2D convolution."""
    depth, (ky, kx) = volume.shape[0], kernel.shape[1:3]
    padded = jnp.pad(volume, (pads[0], (0, 0), (0, 0), (0, 0)))
    taps = [padded[i : i + depth] for i in range(kernel.shape[0])]
    merged = kernel.transpose(1, 2, 0, 3, 4).reshape(ky, kx, -1, kernel.shape[-1])
    return jax.lax.conv_general_dilated(
        jnp.concatenate(taps, axis=-1), merged, (1, 1), pads[1:], dimension_numbers=_NHWC
    )


# Bytes of a block of gathered neighbourhoods: small enough to stay in a core's cache.
_BLOCK_BYTES = 4_000_000


def _rows(shape, taps, itemsize):
    """How many rows of a plane to take at once: a divisor of the height."""
    _, height, width, channels = shape
    most = max(1, _BLOCK_BYTES // (width * taps * channels * itemsize))
    best = max(n for n in range(1, height + 1) if height % n == 0 and n <= most)
    return best if 4 * best >= min(most, height) else height  # e.g. a prime height


def _gathered(volume, kernel, pads):
    """Neighbourhoods gathered into rows and multiplied by the kernel, block by block.

    A block is a few rows of one plane, so the gathered copy (27 times the input, for a 3x3x3
    kernel) never leaves the cache.
    """
    depth, height, width, channels = volume.shape
    kz, ky, kx, _, outputs = kernel.shape
    rows = _rows(volume.shape, kz * ky * kx, volume.dtype.itemsize)
    padded = jnp.pad(volume, (*pads, (0, 0)))
    matrix = kernel.reshape(-1, outputs)
    size = (kz, rows + ky - 1, width + kx - 1, channels)

    def block(i, out):
        start = (i // (height // rows), (i % (height // rows)) * rows, 0, 0)
        near = jax.lax.dynamic_slice(padded, start, size)
        taps = [
            near[a, b : b + rows, c : c + width]
            for a in range(kz)
            for b in range(ky)
            for c in range(kx)
        ]
        product = jnp.concatenate(taps, axis=-1) @ matrix
        return jax.lax.dynamic_update_slice(out, product[None], start)

    # Written in place and not stacked by `lax.map`, whose stack under vmap has the batch in its
    # middle: what reads it next, such as the mean of a channel, would be three times slower.
    out = jnp.zeros((depth, height, width, outputs), volume.dtype)
    return jax.lax.fori_loop(0, depth * height // rows, block, out)


def _gathered_kernel_gradient(volume, cotangent, kernel, pads):
    """Gradient of `_gathered` with respect to the kernel, block by block as well.

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
        near = jax.lax.dynamic_slice(
            padded, (z, y, 0, 0), (1, rows + ky - 1, width + kx - 1, channels)
        )[0]
        taps = [near[b : b + rows, c : c + width] for b in range(ky) for c in range(kx)]
        columns = jnp.concatenate(taps, axis=-1).reshape(rows * width, -1)
        planes = jax.lax.dynamic_slice(around, (z, y, 0, 0), (kz, rows, width, outputs))
        answers = jnp.concatenate([planes[kz - 1 - a] for a in range(kz)], axis=-1)
        part = jnp.matmul(columns.T, answers.reshape(rows * width, -1), preferred_element_type=wide)
        return total + part, None

    wide = at_least_float32(volume.dtype)  # of many small parts
    zero = jnp.zeros((ky * kx * channels, kz * outputs), wide)
    total, _ = jax.lax.scan(block, zero, jnp.arange(depth * height // rows))
    total = total.astype(kernel.dtype)
    return total.reshape(ky, kx, channels, kz, outputs).transpose(3, 0, 1, 2, 4)


def _cpu(volume, kernel, pads):
    few = volume.shape[-1] <= 2
    return (_few_channels if few else _gathered)(volume, kernel, pads)


def _general(volume, kernel, pads):
    return jax.lax.conv_general_dilated(
        volume[None], kernel, (1, 1, 1), pads, dimension_numbers=_NDHWC
    )[0]


def _choose(volume, kernel, pads):
    return jax.lax.platform_dependent(
        volume, kernel, cpu=partial(_cpu, pads=pads), default=partial(_general, pads=pads)
    )


@jax.custom_vjp
def _conv3d(volume, kernel):
    return _choose(volume, kernel, _same(kernel))


def _conv3d_fwd(volume, kernel):
    return _conv3d(volume, kernel), (volume, kernel)


def _conv3d_bwd(residuals, cotangent):
    volume, kernel = residuals
    pads = _same(kernel)
    # The gradient of a correlation is the correlation with the mirrored kernel.
    mirrored = kernel[::-1, ::-1, ::-1].swapaxes(3, 4)
    to_volume = _choose(cotangent, mirrored, tuple(p[::-1] for p in pads))

    def on_cpu(volume, cotangent):
        if volume.shape[-1] > 2:
            return _gathered_kernel_gradient(volume, cotangent, kernel, pads)
        return jax.vjp(lambda k: _few_channels(volume, k, pads), kernel)[1](cotangent)[0]

    def elsewhere(volume, cotangent):
        return jax.vjp(lambda k: _general(volume, k, pads), kernel)[1](cotangent)[0]

    to_kernel = jax.lax.platform_dependent(volume, cotangent, cpu=on_cpu, default=elsewhere)
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


def space_to_depth(volume: Features, size: int = 2) -> Array:
    """Moves blocks of ``size^3`` voxels into channels: ``(z, y, x, c) -> (z/s, y/s, x/s, s^3 c)``.

    >>> import jax.numpy as jnp
    >>> space_to_depth(jnp.zeros((4, 4, 4, 3))).shape
    (2, 2, 2, 24)
    """
    z, y, x, c = volume.shape
    blocks = volume.reshape(z // size, size, y // size, size, x // size, size, c)
    blocks = blocks.transpose(0, 2, 4, 1, 3, 5, 6)
    return blocks.reshape(z // size, y // size, x // size, size**3 * c)


def depth_to_space(volume: Features, size: int = 2) -> Array:
    """The inverse of `space_to_depth`.

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
    """The 2x2x2 convolution of stride 2, ``(z, y, x, in) -> (z/2, y/2, x/2, out)``.

    Written as a matrix product over blocks, which equals the strided convolution exactly and is
    the fastest form on every device.
    """
    inputs, outputs = kernel.shape[3:]
    return space_to_depth(volume) @ kernel.reshape(8 * inputs, outputs)


def upsample(volume: Features, kernel: Float[Array, "2 2 2 in out"]) -> Array:
    """The 2x2x2 transposed convolution of stride 2, ``(z, y, x, in) -> (2z, 2y, 2x, out)``.

    Voxel ``2r + d`` of the output is ``volume[r] @ kernel[d]``: no voxel is written twice.
    """
    inputs, outputs = kernel.shape[3:]
    spread = kernel.transpose(3, 0, 1, 2, 4).reshape(inputs, 8 * outputs)
    return depth_to_space(volume @ spread)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _along(volume: Volume, taps: Float[Array, " tap"], axis: int) -> Volume:
    # Shift and add: one pass over memory when XLA fuses it, and NaN stays within the radius.
    radius, length = taps.shape[0] // 2, volume.shape[axis]
    pad = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
    padded = jnp.pad(volume, pad)
    shifted = (jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(taps.shape[0]))
    return sum((taps[i] * v for i, v in enumerate(shifted)), jnp.zeros_like(volume))


def banded(volume: Volume, taps: Float[Array, " tap"], axis: int) -> Volume:
    """Correlate with taps along one axis, as a product with a banded matrix; zero outside."""
    position = jnp.arange(volume.shape[axis])
    tap = position[None, :] - position[:, None] + taps.shape[0] // 2
    inside = (tap >= 0) & (tap < taps.shape[0])
    matrix = jnp.where(inside, taps[jnp.clip(tap, 0, taps.shape[0] - 1)], 0)
    return jnp.moveaxis(jnp.tensordot(matrix, volume, ((1,), (axis,))), 0, axis)


@_along.defjvp
def _along_jvp(axis, primals, tangents):
    # Transposing the shifts would unroll into hundreds of additions that take seconds to compile.
    # A matrix product has cheap derivatives, and on a patch it is as fast.
    (volume, taps), (volume_dot, taps_dot) = primals, tangents
    tangent = banded(volume_dot, taps, axis) + banded(volume, taps_dot, axis)
    return _along(volume, taps, axis), tangent


def gaussian_taps(scale: Number, radius: int, order: int = 0, dtype=None) -> Float[Array, " tap"]:
    """Taps of a Gaussian of this standard deviation (voxels) or of its derivative.

    Correlating with them is exact on polynomials up to degree `order`: the taps of order 0 sum to
    1, of order 1 they differentiate a ramp exactly, of order 2 a parabola.

    Args:
        scale: standard deviation in voxels; differentiable.
        radius: taps reach from ``-radius`` to ``radius``.
        order: 0, 1 or 2.

    >>> [round(float(t), 3) for t in gaussian_taps(1.0, 1)]
    [0.274, 0.452, 0.274]
    """
    scale = jnp.asarray(scale, dtype)
    offset = jnp.arange(-radius, radius + 1).astype(scale.dtype)
    weight = jnp.exp(-0.5 * jnp.square(offset / scale))
    weight = weight / weight.sum()
    if order == 0:
        return weight
    second_moment = (weight * jnp.square(offset)).sum()
    if order == 1:
        return weight * offset / second_moment
    curve = weight * (jnp.square(offset) - second_moment)
    return 2.0 * curve / (curve * jnp.square(offset)).sum()


def gaussian(
    volume: Volume, scale: Number, radius: int, orders: tuple[int, int, int] = (0, 0, 0)
) -> Volume:
    """Gaussian window (or a derivative of it) around every voxel; zero outside the volume.

    Args:
        volume: ``(z, y, x)``.
        scale: standard deviation in voxels; differentiable.
        radius: the window is cut off beyond this many voxels, which makes it exactly local.
        orders: how often to differentiate along z, y, x; 0, 1 or 2 each.

    >>> import jax.numpy as jnp
    >>> x = jnp.broadcast_to(jnp.arange(9.0), (9, 9, 9))
    >>> round(float(gaussian(x, 1.0, 4, (0, 0, 1))[4, 4, 4]), 4)
    1.0
    """
    for axis, order in enumerate(orders):
        volume = _along(volume, gaussian_taps(scale, radius, order, volume.dtype), axis)
    return volume


def box(volume: Volume, radius: int) -> Volume:
    """Mean over the cube of edge ``2 radius + 1`` around every voxel; zero outside the volume.

    >>> import jax.numpy as jnp
    >>> float(box(jnp.ones((5, 5, 5)), 1)[2, 2, 2])
    1.0
    """
    taps = jnp.full(2 * radius + 1, 1 / (2 * radius + 1), volume.dtype)
    for axis in range(3):
        volume = _along(volume, taps, axis)
    return volume


def _largest(volume: Volume, axis: int) -> Volume:
    pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
    padded = jnp.pad(volume, pad, constant_values=-jnp.inf)
    n = volume.shape[axis]
    below = jax.lax.slice_in_dim(padded, 0, n, axis=axis)
    above = jax.lax.slice_in_dim(padded, 2, n + 2, axis=axis)
    return jnp.maximum(jnp.maximum(below, volume), above)


def dilate(volume: Volume, connectivity: int = 3) -> Volume:
    """The largest value among a voxel and its neighbours.

    Args:
        volume: ``(z, y, x)``, any real values.
        connectivity: 1 for the 6 face neighbours, 3 for all 26.

    >>> import jax.numpy as jnp
    >>> v = jnp.zeros((3, 3, 3)).at[1, 1, 1].set(1.0)
    >>> float(dilate(v).sum()), float(dilate(v, connectivity=1).sum())
    (27.0, 7.0)
    """
    if connectivity == 3:
        for axis in range(3):
            volume = _largest(volume, axis)
        return volume
    if connectivity == 1:
        z, y, x = (_largest(volume, axis) for axis in range(3))
        return jnp.maximum(jnp.maximum(z, y), x)
    raise ValueError(
        f"connectivity is 1 (faces) or 3 (faces, edges and corners), not {connectivity}"
    )


def erode(volume: Volume, connectivity: int = 3) -> Volume:
    """The smallest value among a voxel and its neighbours; see `dilate`."""
    return -dilate(-volume, connectivity)
