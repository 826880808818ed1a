"""Restorers without training against analytic truth and reference implementations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.restoration import denoise_nl_means

from cryojax_seg import core, restore
from cryojax_seg.core.ctf import ContrastTransfer
from cryojax_seg.io import load_model, save_model

KNOTS = np.linspace(0, 0.5, 33)


def noise(shape=(32, 32, 32), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def within(radius):
    return (slice(radius, -radius),) * 3


def blob(scale, edge=24):
    """A Gaussian of unit integral in the middle."""
    grid = np.stack(np.meshgrid(*[np.arange(edge) - edge // 2] * 3, indexing="ij"))
    return np.exp(-0.5 * (grid**2).sum(0) / scale**2) / (2 * np.pi * scale**2) ** 1.5


def run(restorer, volume):
    return np.asarray(jax.jit(restorer)(jnp.asarray(volume)))[..., 0]


def test_a_gaussian_of_a_gaussian_is_wider():
    """Variances add."""
    found = run(restore.Gaussian(2.0), blob(1.5).astype(np.float32))
    np.testing.assert_allclose(found, blob(2.5), atol=2e-5)


def realised(filter_, edge=64):
    """The gain on the Fourier grid of a large cube, from the kernel itself."""
    kernel = np.asarray(filter_.kernel(), np.float64)
    pad = edge - kernel.shape[0]
    centred = np.roll(np.pad(kernel, (0, pad)), (-filter_.radius,) * 3, (0, 1, 2))
    return np.fft.rfftn(centred)


SMOOTH = [
    # gain, radius, largest difference (measured 0.003, 0.003, 0.16, 0.046, 0.005)
    (np.exp(-0.5 * (KNOTS / 0.15) ** 2), 4, 0.01),
    (np.exp(-0.5 * (KNOTS / 0.08) ** 2), 8, 0.01),
    (1 / (1 + np.exp((KNOTS - 0.25) / 0.02)), 4, 0.18),
    (1 / (1 + np.exp((KNOTS - 0.25) / 0.02)), 8, 0.06),
    (1 / (1 + np.exp((KNOTS - 0.25) / 0.02)), 16, 0.01),
]


@pytest.mark.parametrize("gain, radius, tolerance", SMOOTH)
def test_a_radial_filter_has_the_gain_it_was_given(gain, radius, tolerance):
    found = realised(restore.RadialFilter(gain, radius))
    wanted = np.interp(np.asarray(core.fourier.radius((64,) * 3)), KNOTS, gain)
    assert np.abs(found - wanted).max() < tolerance
    assert np.abs(found.imag).max() < 1e-6  # nothing is moved
    assert found[0, 0, 0].real == pytest.approx(gain[0], abs=1e-5)


def test_white_noise_keeps_the_mean_squared_gain():
    """Parseval; 30^3 correlated voxels tell a variance to 2 %."""
    gain = np.cos(np.linspace(0, np.pi / 2, 9)) ** 2
    v = noise((46, 46, 46))
    filtered = run(restore.RadialFilter(gain, 8), v)[within(8)]
    k = np.sqrt(sum(np.square(np.meshgrid(*[np.fft.fftfreq(64)] * 3))))
    expected = np.mean(np.interp(k, np.linspace(0, 0.5, 9), gain) ** 2)
    assert filtered.var() / v.var() == pytest.approx(expected, rel=0.06)


def test_a_constant_keeps_the_first_gain():
    flat = run(restore.RadialFilter([0.7, 0.1, -0.4], 4), np.full((16, 17, 19), 3.0, np.float32))
    np.testing.assert_allclose(flat[within(4)], 2.1, rtol=1e-5)


def test_a_radial_filter_does_not_wrap_around():
    spike = np.zeros((7, 12, 13), np.float32)
    spike[0, 0, 0] = 1.0
    radial = restore.RadialFilter([1.0, 0.3, 0.1], 5)
    found = run(radial, spike)
    np.testing.assert_allclose(
        found[:6, :6, :6], np.asarray(radial.kernel())[5:, 5:, 5:], atol=1e-6
    )
    assert np.abs(found[6:]).max() < 1e-6 and np.abs(found[:, 6:]).max() < 1e-6
    assert run(radial, spike[:3, :3, :3]).shape == (3, 3, 3)  # smaller than the kernel


def random_field(amplitude, shape, seed):
    """A Gaussian random field with this amplitude at the frequencies `KNOTS`."""
    k = np.asarray(core.fourier.radius(shape))
    gain = np.interp(k, KNOTS, amplitude).astype(np.float32)
    return np.asarray(core.fourier.apply_gain(noise(shape, seed), gain))


AMPLITUDE = 3 * np.exp(-0.5 * (KNOTS / 0.12) ** 2)


def test_the_wiener_filter_has_the_least_error_there_can_be():
    """Of a field of power P in white noise of power 1: the mean of P / (P + 1)."""
    shape = (48, 48, 48)
    signal = random_field(AMPLITUDE, shape, 0)
    seen = signal + noise(shape, 1)
    power = AMPLITUDE**2

    def error(radial):
        return np.mean((run(radial, seen) - signal)[within(8)] ** 2)

    best = error(restore.wiener(power))
    k = np.sqrt(sum(np.square(np.meshgrid(*[np.fft.fftfreq(64)] * 3))))
    ratio = np.interp(k, KNOTS, power)
    assert best == pytest.approx(np.mean(ratio / (ratio + 1)), rel=0.06)
    gain = power / (power + 1)
    for other in (0.8 * gain, 1.2 * gain, gain**0.5, gain**2):
        assert error(restore.RadialFilter(other)) > 1.02 * best


def test_halves_tell_the_wiener_filter_of_their_mean():
    """Its signal-to-noise ratio is 2 P; low frequencies have few coefficients to tell it by."""
    shape = (45, 48, 48)
    signal = random_field(AMPLITUDE, shape, 0)
    even, odd = (signal + noise(shape, seed) for seed in (1, 2))
    found = np.asarray(restore.fit_wiener(even, odd).gain[...])
    wanted = 2 * AMPLITUDE**2 / (1 + 2 * AMPLITUDE**2)
    assert np.abs(found - wanted)[2:].max() < 0.12
    assert 0 <= found.min() and found.max() <= 1
    shifted = restore.fit_wiener(even + 1, odd - 1)  # means of unlike sign tell nothing
    np.testing.assert_allclose(shifted.gain[...], found, atol=1e-4)
    half = np.asarray(restore.fit_wiener(even, odd, of="half").gain[...])
    np.testing.assert_allclose(2 * half / (1 + half), found, atol=0.01)


def test_white_noise_tells_the_wiener_filter_of_one_volume():
    volume = random_field(AMPLITUDE, (48, 48, 48), 0) + noise((48, 48, 48), 1)
    found = np.asarray(restore.fit_wiener_white(volume).gain[...])
    wanted = AMPLITUDE**2 / (1 + AMPLITUDE**2)
    assert np.abs(found - wanted)[2:].max() < 0.12
    assert np.abs(found - wanted)[25:].max() < 0.06
    for cutoff in (0.25, 0.42):
        filtered = np.asarray(core.fourier.low_pass(jnp.asarray(volume), cutoff, 0.03))
        with pytest.raises(ValueError, match="noise is not white"):
            restore.fit_wiener_white(filtered)


def test_the_deconvolution_is_that_of_warp():
    """Its formula by hand, at a tenth and half of Nyquist of 10 angstrom voxels at 3 um, 300 kV."""
    transfer = ContrastTransfer(defocus=30_000.0, amplitude_contrast=0.07)
    for flipped in (False, True):
        found = restore.ctf_deconvolution(transfer, 10.0, 1.0, 1.1, 0.02, flipped)
        gain = np.asarray(found.gain[...])
        for q in (0.125, 0.5, 0.875):
            k = q / 20
            chi = np.pi * 0.0196875 * 30_000 * k**2 - np.pi / 2 * 2.7e7 * 0.0196875**3 * k**4
            c = np.sin(chi + np.arcsin(0.07))
            c = abs(c) if flipped else c
            snr = 1000 * np.exp(-q * 1.1 * 100 / 10) * 2
            expected = c / (c**2 + 1 / snr)
            assert gain[round(q * (gain.size - 1))] == pytest.approx(expected, rel=2e-3)
    assert gain[0] == 0
    # Twice as far as detail at Nyquist is moved: 0.0197 * 50000 / 5^2 / 2
    assert restore.ctf_deconvolution(ContrastTransfer(defocus=50_000.0), 5.0).radius == 40


@pytest.mark.parametrize("flipped", [False, True])
def test_deconvolution_brings_a_volume_back(flipped):
    transfer = ContrastTransfer(defocus=20_000.0, amplitude_contrast=0.1)
    edge = 48
    truth = sum(
        np.roll(blob(s, edge), move, (0, 1, 2))
        for s, move in ((2.0, (0, 0, 0)), (1.5, (3, -6, 7)), (1.2, (-5, 4, -6)))
    )
    k = np.asarray(core.fourier.radius(truth.shape, (8.0,) * 3))
    effect = -np.asarray(transfer(0.0, k))
    effect = np.abs(effect) if flipped else effect
    seen = np.asarray(core.fourier.apply_gain(jnp.asarray(truth, jnp.float32), effect))
    seen = (seen + 0.1 * seen.std() * noise(truth.shape)).astype(np.float32)
    deconvolve = restore.ctf_deconvolution(transfer, 8.0, 1.0, 0.5, phase_flipped=flipped)

    def agreement(v):
        inner = within(12)
        return np.corrcoef(np.asarray(v)[inner].ravel(), truth[inner].ravel())[0, 1]

    assert agreement(run(deconvolve, seen)) > agreement(seen) + 0.1


def amplitudes(volume):
    """At the frequencies of the shells; of the volume under a window."""
    for axis, n in enumerate(volume.shape):
        taper = np.hanning(n) / np.sqrt(np.mean(np.hanning(n) ** 2))
        volume = volume * np.moveaxis(taper.astype(np.float32)[:, None, None], 0, axis)
    power = core.fourier.shell_average(
        jnp.square(jnp.abs(core.fourier.rfftn(jnp.asarray(volume)))), volume.shape
    )
    return np.arange(power.size) / min(volume.shape), np.sqrt(np.asarray(power) / volume.size)


def test_matching_gives_the_spectrum_of_another_volume():
    v, target = noise((45, 48, 48)), random_field(AMPLITUDE, (40, 41, 48), 1)
    matched = run(restore.match_spectrum(v, target), v)[within(4)]
    k, found = amplitudes(matched)
    wanted = np.interp(k, *amplitudes(target))
    # Below, the few coefficients of a shell differ from its neighbours by more than the filter can.
    assert np.abs(found - wanted)[k > 0.08].max() < 0.1 * wanted.max()
    fine = (k > 0.1) & (k < 0.3)
    np.testing.assert_allclose(found[fine], wanted[fine], rtol=0.15)
    empty = np.full((8, 8, 8), 2.0, np.float32)
    np.testing.assert_array_equal(restore.match_spectrum(empty, target).gain[...], 1.0)
    assert float(restore.match_spectrum(blob(3.0), target[:16, :16, :16]).gain[...].max()) < 1e6


def perona_malik(v, steps, contrast, rate):
    v = v.copy()
    for _ in range(steps):
        change = np.zeros_like(v)
        for axis in range(3):
            d = np.diff(v, axis=axis)
            flow = d * np.exp(-((d / contrast) ** 2))
            here, there = [slice(None)] * 3, [slice(None)] * 3
            here[axis], there[axis] = slice(None, -1), slice(1, None)
            change[tuple(here)] += flow
            change[tuple(there)] -= flow
        v += rate * change
    return v


def test_diffusion_is_that_of_perona_and_malik(x64):
    v = np.random.default_rng(0).normal(size=(6, 7, 8))
    restorer = restore.AnisotropicDiffusion(5, 1.5, 0.125)
    restorer = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), restorer)
    expected = perona_malik(v, 5, float(restorer.contrast), float(restorer.rate))
    found = run(restorer, v)
    np.testing.assert_allclose(found, expected, atol=1e-13)
    assert found.sum() == pytest.approx(v.sum(), abs=1e-12)  # nothing is lost


def test_the_fastest_diffusion_is_stable():
    """No value ever leaves the range of those before, however large a rate was learned."""
    v = noise((12, 12, 12))
    restorer = restore.AnisotropicDiffusion(60, 100.0, 1 / 6)
    restorer.log_rate[...] = jnp.asarray(3.0)
    found = run(restorer, v)
    assert float(restorer.rate) == pytest.approx(1 / 6)
    assert v.min() <= found.min() and found.max() <= v.max()
    assert found.std() < 0.05 * v.std()


def test_diffusion_keeps_edges():
    step = np.where(np.arange(24) < 12, 0.0, 10.0) + 0.3 * noise((24, 24, 24))
    found = run(restore.AnisotropicDiffusion(12, 2.0), step.astype(np.float32))
    assert found[:, :, 2:10].std() < 0.3 * step[:, :, 2:10].std()
    jump = found[:, :, 12].mean() - found[:, :, 11].mean()
    assert jump == pytest.approx(10.0, abs=0.2)


def non_local_means(v, search, patch, strength, skimage=False):
    """The definition, with mirrors at the faces.

    `skimage`: with what the fast mode of ``denoise_nl_means`` has of its own: patches that lack
    their first layers, though their difference is divided by the whole volume, and no weights
    below exp(-5).
    """
    far = search + patch
    wide = np.pad(v, far, mode="reflect")
    faintest = np.exp(-5) if skimage else 0.0
    low, high = (patch - 1 if skimage else patch), patch

    def at(offset, low, high):
        ends = zip(offset, v.shape, strict=True)
        return wide[tuple(slice(far + o - low, far + o + n + high) for o, n in ends)]

    total, weights = v, np.ones_like(v)
    for offset in itertools.product(range(-search, search + 1), repeat=3):
        if offset == (0, 0, 0):
            continue
        squared = np.square(at(offset, low, high) - at((0, 0, 0), low, high))
        edge = low + high + 1
        patches = np.lib.stride_tricks.sliding_window_view(squared, (edge,) * 3)
        weight = np.exp(-patches.sum((3, 4, 5)) / (2 * patch + 1) ** 3 / strength**2)
        weight = np.where(weight > faintest, weight, 0)
        total = total + weight * at(offset, 0, 0)
        weights = weights + weight
    return total / weights


@pytest.mark.parametrize("search, patch, strength", [(2, 1, 1.0), (1, 2, 0.7), (2, 0, 1.5)])
def test_non_local_means_is_as_defined(search, patch, strength):
    v = noise((9, 10, 11)) + 3 * (np.arange(11) > 5)
    v = v.astype(np.float32)
    far = search + patch
    padded = np.pad(v, far, mode="reflect")
    found = run(restore.NonLocalMeans(search, patch, strength), padded)[within(far)]
    expected = non_local_means(v.astype(np.float64), search, patch, strength)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_definition_is_that_of_skimage():
    """To 0.01, as it approximates the exponential; without its peculiarities to 0.3."""
    v = noise((9, 10, 11)).astype(np.float64)
    expected = denoise_nl_means(v, 3, 2, h=1.0, fast_mode=True)
    np.testing.assert_allclose(non_local_means(v, 2, 1, 1.0, skimage=True), expected, atol=0.01)


def test_non_local_means_keeps_what_is_alike_apart():
    step = np.where(np.arange(20) < 10, 0.0, 5.0) + 0.5 * noise((20, 20, 20))
    found = run(restore.NonLocalMeans(3, 1, 0.8), step.astype(np.float32))
    assert found[:, :, 4:7].std() < 0.35 * 0.5
    assert found[:, :, 10].mean() - found[:, :, 9].mean() == pytest.approx(5.0, abs=0.1)


RESTORERS = {
    "diffusion": (lambda: restore.AnisotropicDiffusion(2, 1.0), 1e-6),
    "non-local means": (lambda: restore.NonLocalMeans(1, 1, 1.0), 0.0),
    "local contrast": (lambda: restore.LocalContrast(1.0), 0.0),
    "wiener": (lambda: restore.wiener(AMPLITUDE, 3), 1e-5),
    "deconvolution": (lambda: restore.ctf_deconvolution(ContrastTransfer(), 14.0, radius=4), 1e-4),
}


@pytest.mark.parametrize("build, tolerance", RESTORERS.values(), ids=list(RESTORERS))
def test_a_restorer_is_stored_and_runs_on_a_file(build, tolerance, tmp_path):
    """By itself, on a memory map, in tiles."""
    v = noise((13, 14, 15))
    np.save(tmp_path / "volume.npy", v)
    save_model(tmp_path / "model", build())
    restorer, _ = load_model(tmp_path / "model")
    mapped = np.load(tmp_path / "volume.npy", mmap_mode="r")
    tiled = core.apply(restorer, mapped, tile=8)[..., 0]
    whole = core.apply(build(), v)[..., 0]
    assert tiled.shape == v.shape and tiled.dtype == np.float32
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "build, complaint",
    [
        (lambda: restore.Gaussian(0.0), "scale must be positive"),
        (lambda: restore.RadialFilter([1.0]), "values at 0 and 0.5"),
        (lambda: restore.RadialFilter([1.0, np.nan]), "finite at every frequency"),
        (lambda: restore.RadialFilter([1.0, 0.0], 0), "radius must be 1 voxel or more"),
        (lambda: restore.wiener([1.0, -0.1]), "finite and not negative"),
        (
            lambda: restore.fit_wiener(noise((8, 8, 8)), noise((8, 8, 9))),
            "halves must have one shape",
        ),
        (lambda: restore.ctf_deconvolution(ContrastTransfer(), 0.0), "voxel_size must be positive"),
        (lambda: restore.ctf_deconvolution(ContrastTransfer(), 8.0, falloff=-1), "falloff must be"),
        (lambda: restore.ctf_deconvolution(ContrastTransfer(), 8.0, highpass=2), "highpass must"),
        (lambda: restore.AnisotropicDiffusion(0), "steps must be 1 or more"),
        (lambda: restore.AnisotropicDiffusion(2, rate=0.2), "at most 1/6"),
        (lambda: restore.NonLocalMeans(0), "search must be 1 voxel or more"),
        (lambda: restore.NonLocalMeans(1, -1), "patch must be 0 voxels or more"),
        (lambda: restore.NonLocalMeans(1, 1, 0.0), "strength must be positive"),
        (lambda: restore.LocalContrast(8.0, floor=0.0), "floor must be positive"),
    ],
)
def test_what_makes_no_sense_is_refused(build, complaint):
    with pytest.raises(ValueError, match=complaint):
        build()
