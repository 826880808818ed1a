import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.transform

from cryojax_seg.core import MissingWedge
from cryojax_seg.simulate.projection import project
from cryojax_seg.simulate.reconstruction import (
    angular_weights,
    row_filter,
    sirt,
    weighted_back_projection,
)

projected = jax.jit(project, static_argnames="tilt_axis")
wbp = jax.jit(weighted_back_projection, static_argnums=(2, 3, 4, 5))
iterated = jax.jit(sirt, static_argnums=(2, 3, 4))


def centred(shape):
    return np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij", sparse=True)


def phantom(shape):
    """A shell and three blobs, no two axes alike, inside the inscribed ball."""
    z, y, x = centred(shape)
    r = np.sqrt(z**2 + y**2 + x**2)
    volume = np.exp(-((r - 0.36 * min(shape)) ** 2) / 2 / 1.5**2)
    for weight, at, s in ((1.0, (3, -2, 4), 2.0), (0.7, (-4, 3, 0), 1.6), (0.8, (0, 4, -5), 2.5)):
        d = (z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2
        volume = volume + weight * np.exp(-d / 2 / s**2)
    return volume.astype(np.float32)


def compare(one, other):
    """Correlation, and the slope of the fit of `one` by `other`."""
    one, other = (np.asarray(v, np.float64).ravel() for v in (one, other))
    slope = np.cov(one, other)[0, 1] / other.var(ddof=1)
    return np.corrcoef(one, other)[0, 1], slope


def test_weights_are_the_way_to_the_neighbours():
    full = np.rad2deg(angular_weights(jnp.arange(-90.0, 90.0, 2.0)))
    np.testing.assert_allclose(full, 2, rtol=1e-5)
    ends = np.rad2deg(angular_weights(jnp.array([60.0, -60.0, 0.0, 20.0, -30.0])))
    np.testing.assert_allclose(ends, [40, 30, 25, 30, 30], rtol=1e-5)


def test_filters():
    ramp = row_filter(64, "ramp")
    k = np.fft.rfftfreq(128)
    np.testing.assert_allclose(ramp[8:], k[8:], rtol=0.01)
    assert 0 < ramp[0] < k[1]  # the mean survives
    np.testing.assert_allclose((row_filter(64, "hamming") / ramp)[[0, 64]], [1, 0.08])
    few, many = row_filter(64, "sirt", 5) / ramp, row_filter(64, "sirt", 4000) / ramp
    np.testing.assert_allclose(many, 1, atol=1e-6)
    assert (np.diff(few) <= 1e-9).all() and few[0] == 1
    np.testing.assert_allclose(few[64], 1 - (1 - 1 / 32) ** 5)


def test_a_full_range_gives_the_density():
    """Every degree over 180: correlation above 0.995 with the truth, its amplitude within 3 %.

    The rest is the blur of two strip integrals.
    """
    volume = phantom((33, 9, 33))
    angles = np.arange(-90, 90, 2, np.float32)
    correlation, slope = compare(wbp(projected(volume, angles), angles, volume.shape), volume)
    assert correlation > 0.995
    assert abs(slope - 1) < 0.03
    hamming = wbp(projected(volume, angles), angles, volume.shape, "hamming")
    correlation, slope = compare(hamming, volume)
    assert correlation > 0.97 and 0.8 < slope < 1


def test_every_slice_agrees_with_scikit_image():
    """`iradon` from the same images: correlation above 0.998, amplitude within 2 %."""
    volume = phantom((33, 6, 33))
    angles = np.arange(-90, 90, 3, np.float32)
    images = np.asarray(projected(volume, angles))
    ours = np.asarray(wbp(images, angles, volume.shape))
    z, _, x = centred(volume.shape)
    disc = (z**2 + x**2)[:, 0] < 15**2
    for y in range(6):
        theirs = skimage.transform.iradon(images[:, y].T, -angles, filter_name="ramp", circle=True)
        correlation, slope = compare(ours[:, y][disc], theirs[disc])
        assert correlation > 0.998
        assert abs(slope - 1) < 0.02


@pytest.mark.parametrize("tilt_axis", ["y", "x"])
def test_the_measured_region_is_that_of_the_wedge(tilt_axis, key):
    """At least 90 % of the energy lies where `MissingWedge` says; below 85 % for other wedges."""
    n, angles = 33, np.arange(-40, 61, 2, np.float32)
    z, y, x = centred((n, n, n))
    ball = (z**2 + y**2 + x**2 < 14**2).astype(np.float32)
    volume = np.asarray(jax.random.normal(key, (n, n, n))) * ball
    images = projected(volume, angles, tilt_axis)
    power = np.square(np.abs(np.fft.rfftn(wbp(images, angles, (n, n, n), "ramp", tilt_axis))))
    power[..., 1:] *= 2

    def inside(low, high, axis):
        mask = np.asarray(MissingWedge((low, high), axis).transfer((n, n, n)))
        return (power * mask).sum() / power.sum()

    assert inside(-40.0, 60.0, tilt_axis) > 0.9
    assert inside(-60.0, 40.0, tilt_axis) < 0.85
    assert inside(-40.0, 60.0, "x" if tilt_axis == "y" else "y") < 0.85
    measured = MissingWedge((-38.0, 58.0), tilt_axis).apply(jnp.asarray(volume))
    kept = MissingWedge((-38.0, 58.0), tilt_axis).apply(
        wbp(images, angles, (n, n, n), "ramp", tilt_axis)
    )
    assert compare(np.asarray(kept)[ball > 0], np.asarray(measured)[ball > 0])[0] > 0.8


def test_the_order_of_the_tilts_does_not_matter():
    volume = phantom((16, 8, 20))
    angles = np.array([-50, -20, 0, 5, 44], np.float32)
    images, mixed = np.asarray(projected(volume, angles)), [3, 0, 4, 2, 1]
    np.testing.assert_allclose(
        wbp(images, angles, volume.shape),
        wbp(images[mixed], angles[mixed], volume.shape),
        atol=1e-6,
    )


@pytest.mark.parametrize("tilt_axis", ["y", "x"])
def test_sirt_beats_back_projection_on_few_tilts(tilt_axis):
    """The residual falls at every iteration, to below 5 % of the images."""
    volume = phantom((32, 32, 32))
    angles = np.arange(-60, 61, 10, np.float32)
    images = projected(volume, angles, tilt_axis)
    found, residuals = iterated(images, angles, volume.shape, 40, tilt_axis)
    assert (np.diff(residuals) < 0).all()
    assert residuals[-1] < 0.05 * np.sqrt(np.mean(np.square(images)))
    best = max(
        compare(wbp(images, angles, volume.shape, kind, tilt_axis), volume)[0]
        for kind in ("ramp", "hamming", "sirt")
    )
    assert compare(found, volume)[0] > best + 0.02


def test_gradients(x64, key, check_gradients):
    shape, angles = (5, 4, 6), jnp.array([-41.3, 3.0, 66.0])
    images = jax.random.normal(key, (3, 4, 6), jnp.float64)

    def loss(images, angles):
        filtered = weighted_back_projection(images, angles, shape, "hamming")
        return jnp.sum(jnp.sin(filtered)) + jnp.sum(jnp.square(sirt(images, angles, shape, 3)[0]))

    check_gradients(loss, images, angles)
