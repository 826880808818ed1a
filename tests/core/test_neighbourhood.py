from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from jax.test_util import check_grads

from cryojax_seg.core import neighbourhood as nb


def native(volume, kernel):
    return jax.lax.conv_general_dilated(
        volume[None], kernel, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )[0]


CASES = [
    ((6, 7, 8, 1), (3, 3, 3, 1, 4)),
    ((6, 8, 8, 2), (5, 3, 3, 2, 3)),
    ((5, 12, 9, 4), (3, 3, 3, 4, 6)),
    ((6, 7, 8, 3), (2, 4, 3, 3, 2)),  # even kernels pad more at the end
    ((1, 3, 2, 5), (3, 5, 3, 5, 4)),  # thinner than the kernel
    ((6, 7, 8, 3), (1, 1, 1, 3, 2)),
]


@pytest.mark.parametrize("shape, kernel_shape", CASES, ids=str)
def test_conv3d_is_the_native_convolution(shape, kernel_shape, key):
    keys = jax.random.split(key, 3)
    volume, kernel = jax.random.normal(keys[0], shape), jax.random.normal(keys[1], kernel_shape)
    cotangent = jax.random.normal(keys[2], (*shape[:3], kernel_shape[-1]))

    @partial(jax.jit, static_argnums=0)
    def with_gradient(conv, volume, kernel):
        value, pull = jax.vjp(conv, volume, kernel)
        return value, *pull(cotangent)

    expected = with_gradient(native, volume, kernel)
    for ours, reference in zip(with_gradient(nb.conv3d, volume, kernel), expected, strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-5 * float(jnp.abs(reference).max()))


def test_conv3d_against_scipy(key):
    volume, kernel = jax.random.normal(key, (2, 7, 7, 7))
    ours = nb.conv3d(volume[..., None], kernel[:5, 1:6, :7, None, None])[..., 0]
    expected = scipy.ndimage.correlate(
        np.asarray(volume, np.float64), np.asarray(kernel[:5, 1:6, :7]), mode="constant"
    )
    np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_conv3d_blocks_of_a_large_plane(key):
    """A plane too big for one block is cut into rows; rows that do not divide are not."""
    for height in (96, 97):
        volume = jax.random.normal(key, (2, height, 100, 8))
        kernel = jax.random.normal(key, (3, 3, 3, 8, 2))
        assert nb._rows(volume.shape, 27, 4) in ((48, 32, 97) if height == 97 else (48, 32))
        np.testing.assert_allclose(nb.conv3d(volume, kernel), native(volume, kernel), atol=2e-4)


@pytest.mark.parametrize("channels", [1, 4])
def test_conv3d_gradients_in_float64(channels, x64, key):
    volume = jax.random.normal(key, (4, 5, 3, channels), jnp.float64)
    kernel = jax.random.normal(key, (3, 3, 3, channels, 2), jnp.float64)
    conv = jax.jit(lambda v, k: nb.conv3d(v, k))
    check_grads(conv, (volume, kernel), order=1, modes=("rev",))
    batched = jax.vmap(nb.conv3d, in_axes=(0, None))(jnp.stack([volume, 2 * volume]), kernel)
    np.testing.assert_allclose(batched[1], 2 * nb.conv3d(volume, kernel), rtol=1e-12)


def test_strided_forms_equal_the_strided_convolutions(key):
    volume = jax.random.normal(key, (4, 6, 8, 3))
    kernel = jax.random.normal(key, (2, 2, 2, 3, 5))
    expected = jax.lax.conv_general_dilated(
        volume[None], kernel, (2, 2, 2), "VALID", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )[0]
    np.testing.assert_allclose(nb.downsample(volume, kernel), expected, atol=1e-5)
    # The transposed convolution is the adjoint of the one with inputs and outputs swapped.
    up = nb.upsample(volume, kernel)
    other = jax.random.normal(jax.random.key(9), up.shape)
    down = nb.downsample(other, kernel.swapaxes(3, 4))
    np.testing.assert_allclose(jnp.vdot(up, other), jnp.vdot(volume, down), rtol=1e-4)


@pytest.mark.parametrize("orders", [(0, 0, 0), (1, 0, 0), (0, 2, 0), (1, 0, 1)])
def test_gaussian_against_scipy(orders, key):
    volume = jax.random.normal(key, (9, 11, 13))
    ours = nb.gaussian(volume, 1.5, 6, orders)
    expected = scipy.ndimage.gaussian_filter(
        np.asarray(volume, np.float64), 1.5, order=orders, mode="constant", radius=6
    )
    # Ours is normalised to be exact on polynomials, scipy's samples the continuous derivative.
    np.testing.assert_allclose(ours, expected, atol=0.02 * np.abs(expected).max())


def test_gaussian_derivatives_are_exact_on_polynomials(x64):
    c = jnp.arange(17.0) - 8
    z, y, x = jnp.meshgrid(c, c, c, indexing="ij")
    volume = 1 + 2 * z - 3 * y + 0.5 * x**2 + z * y
    centre = (8, 8, 8)
    assert float(nb.gaussian(volume, 1.0, 4, (1, 0, 0))[centre]) == pytest.approx(2, abs=1e-12)
    assert float(nb.gaussian(volume, 2.0, 4, (0, 0, 2))[centre]) == pytest.approx(1, abs=1e-12)
    assert float(nb.gaussian(volume, 1.3, 4, (1, 1, 0))[centre]) == pytest.approx(1, abs=1e-12)
    check_grads(lambda s: nb.gaussian(volume, s, 4, (0, 1, 2)), (jnp.array(1.5),), order=1)


def test_box_and_pooling_against_scipy(key):
    volume = jax.random.normal(key, (7, 8, 9))
    expected = scipy.ndimage.uniform_filter(np.asarray(volume, np.float64), 5, mode="constant")
    np.testing.assert_allclose(nb.box(volume, 2), expected, atol=1e-6)
    for connectivity in (1, 3):
        footprint = scipy.ndimage.generate_binary_structure(3, connectivity)
        for ours, theirs, fill in (
            (nb.dilate, scipy.ndimage.maximum_filter, -np.inf),
            (nb.erode, scipy.ndimage.minimum_filter, np.inf),
        ):
            expected = theirs(np.asarray(volume), footprint=footprint, mode="constant", cval=fill)
            np.testing.assert_array_equal(ours(volume, connectivity), expected)
    with pytest.raises(ValueError, match="connectivity"):
        nb.dilate(volume, 2)


def test_nothing_leaks_beyond_the_neighbourhood():
    """NaN at one voxel reaches exactly its neighbourhood."""
    volume = jnp.zeros((15, 15, 15)).at[7, 7, 7].set(jnp.nan)
    for out, radius in (
        (nb.gaussian(volume, 1.0, 3), 3),
        (nb.box(volume, 2), 2),
        (nb.dilate(volume), 1),
        (nb.conv3d(volume[..., None], jnp.ones((5, 5, 5, 1, 2)))[..., 0], 2),
        (nb.conv3d(jnp.stack([volume] * 3, -1), jnp.ones((3, 3, 3, 3, 2)))[..., 0], 1),
    ):
        bad = np.argwhere(np.isnan(out))
        assert np.abs(bad - 7).max() == radius
        assert len(bad) == (2 * radius + 1) ** 3
