import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg.core import fourier

SHAPES = [(8, 8, 8), (5, 7, 9), (6, 9, 8)]


@pytest.mark.parametrize("shape", SHAPES)
def test_round_trip_and_parseval(shape, key):
    volume = jax.random.normal(key, shape)
    spectrum = fourier.rfftn(volume)
    np.testing.assert_allclose(fourier.irfftn(spectrum, shape), volume, atol=1e-6)
    power = fourier.shell_sum(jnp.square(jnp.abs(spectrum)), shape)
    inside = np.round(np.asarray(fourier.radius(shape)) * min(shape)) <= min(shape) // 2
    full = np.abs(np.fft.fftn(volume)) ** 2
    k = [np.fft.fftfreq(n) for n in shape]
    r = np.sqrt(sum(g**2 for g in np.meshgrid(*k, indexing="ij")))
    expected = full[np.round(r * min(shape)) <= min(shape) // 2].sum()
    np.testing.assert_allclose(power.sum(), expected, rtol=1e-5)
    assert inside.any()


def test_white_noise_is_flat(key):
    shape = (32, 32, 32)
    power = fourier.shell_average(
        jnp.square(jnp.abs(fourier.rfftn(jax.random.normal(key, shape)))), shape
    )
    np.testing.assert_allclose(power[4:] / 32**3, 1.0, atol=0.15)


@pytest.mark.parametrize("shape", SHAPES)
def test_pass_filters_on_a_wave(shape):
    """A wave of 1/4 cycle per voxel passes or not by the cutoff; the mean only the low pass."""
    x = jnp.arange(shape[2], dtype=jnp.float32)
    n = round(shape[2] / 4)
    wave = jnp.broadcast_to(jnp.cos(2 * jnp.pi * n * x / shape[2]), shape)
    k = n / shape[2]
    np.testing.assert_allclose(fourier.low_pass(wave, k + 0.1, 0.01), wave, atol=1e-3)
    np.testing.assert_allclose(fourier.low_pass(wave, k - 0.1, 0.01), 0 * wave, atol=1e-3)
    np.testing.assert_allclose(fourier.high_pass(wave + 5, k - 0.1, 0.01), wave, atol=2e-3)
    np.testing.assert_allclose(fourier.band_pass(wave + 5, k - 0.1, k + 0.1, 0.01), wave, atol=2e-3)


def test_fsc_limits(key):
    a, b = jax.random.normal(key, (2, 16, 16, 16))
    np.testing.assert_allclose(fourier.fourier_shell_correlation(a, -3 * a), -1.0, atol=1e-5)
    assert jnp.abs(fourier.fourier_shell_correlation(a, b)[3:]).max() < 0.3
    low = fourier.low_pass(a, 0.2, 0.005)
    fsc = fourier.fourier_shell_correlation(low + 1e-3 * b, a)
    assert fsc[:3].min() > 0.95 and fsc[-1] < 0.3
    assert (fourier.fourier_shell_correlation(a, jnp.zeros_like(a)) == 0).all()


def test_frequencies_in_angstrom():
    _, _, kx = fourier.frequencies((4, 4, 8), (10.0, 10.0, 10.0))
    assert float(kx[0, 0, -1]) == pytest.approx(0.05)
