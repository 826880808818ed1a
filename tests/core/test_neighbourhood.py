import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from jax.test_util import check_grads

from cryojax_seg.core import neighbourhood as nb
from cryojax_seg.core.convolution import conv3d


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
        (conv3d(volume[..., None], jnp.ones((5, 5, 5, 1, 2)))[..., 0], 2),
        (conv3d(jnp.stack([volume] * 3, -1), jnp.ones((3, 3, 3, 3, 2)))[..., 0], 1),
    ):
        bad = np.argwhere(np.isnan(out))
        assert np.abs(bad - 7).max() == radius
        assert len(bad) == (2 * radius + 1) ** 3
