import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg.core import ctf
from cryojax_seg.simulate.acquisition import Acquisition, TiltScheme, expose, tilt_angles
from cryojax_seg.simulate.instrument import Detector, Microscope, Misalignment, Slab

VOXEL = 10.0
SILENT = Detector(noise="none", mtf_at_nyquist=1.0)
QUICK = {"xla_backend_optimization_level": 0}  # compiles in a third of the time
exposed = jax.jit(expose, compiler_options=QUICK)


def acquire(volume, key, **changes):
    """A clean recording of three tilts without damage or phase correction, but for the changes."""
    plain = dict(
        scheme=TiltScheme.every(60.0), detector=SILENT, damaged=False, flip_phases=False, strips=1
    )
    return exposed(volume, VOXEL, Acquisition(**(plain | changes)), key)


def point(shape=(8, 48, 48), at=(4, 24, 24), density=1e-3):
    volume = np.zeros(shape, jnp.result_type(float))
    volume[at] = density
    return volume


def blobs(shape=(12, 24, 24), seed=0):
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfftn(rng.normal(size=shape))
    k = sum(np.square(a) for a in np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij"))
    gain = np.exp(-60 * k[..., : shape[2] // 2 + 1])
    smooth = np.fft.irfftn(spectrum * gain, shape, (0, 1, 2))
    return (smooth / np.abs(smooth).max()).astype(np.float32)


def test_dose_symmetric_order():
    """Outwards from zero on alternating sides; what is left of the longer side comes last."""
    assert tilt_angles(-40.0, 60.0, 20.0, "dose_symmetric").tolist() == [0, 20, -20, 40, -40, 60]
    angles = tilt_angles(-60.0, 60.0, 3.0, "dose_symmetric")
    assert sorted(angles) == list(range(-60, 61, 3))
    assert (np.diff(np.abs(angles)) >= 0).all()
    assert (np.sign(angles[1::2]) == 1).all() and (np.sign(angles[2::2]) == -1).all()


def test_other_orders():
    assert tilt_angles(-40.0, 41.0, 20.0, "unidirectional").tolist() == [-40, -20, 0, 20, 40]
    assert tilt_angles(-40.0, 20.0, 20.0, "bidirectional").tolist() == [0, 20, -20, -40]
    assert tilt_angles(10.0, 30.0, 10.0, "dose_symmetric").tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((-100.0, 60.0, 3.0, "bidirectional"), "within -90 to 90"),
        ((60.0, -60.0, 3.0, "bidirectional"), "rising"),
        ((-60.0, 60.0, 0.0, "bidirectional"), "tilt step 0.0 must be above 0"),
    ],
)
def test_impossible_tilts_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tilt_angles(*arguments)


@pytest.mark.parametrize(
    "part, arguments, message",
    [
        (TiltScheme, {"tilt_range": (-95.0, 60.0), "order": (0, 1)}, "tilt_range must be between"),
        (TiltScheme, {"tilt_range": (-60.0, 60.0), "order": (0, 2)}, "rank the tilts 0 to 1"),
        (TiltScheme, {"tilt_range": (0.0, 9.0), "order": (0, 1), "exposure": -1.0}, "exposure"),
        (Slab, {"thickness": -5.0}, "thickness must be between 0 and inf, got -5.0"),
        (Detector, {"efficiency": 0.0}, "efficiency"),
        (Misalignment, {"shift": -1.0}, "shift"),
        (Acquisition, {"strips": 0}, "strips must be between 1 and 1000, got 0"),
    ],
)
def test_impossible_instruments_are_refused(part, arguments, message):
    with pytest.raises(ValueError, match=message):
        part(**arguments)


def test_a_scheme_is_its_angles_in_order():
    scheme = TiltScheme.every(5.0, -40.0, 60.0, "dose_symmetric", exposure=2.0)
    np.testing.assert_allclose(
        scheme.angles, tilt_angles(-40.0, 60.0, 5.0, "dose_symmetric"), atol=1e-5
    )
    np.testing.assert_allclose(scheme.exposures, 1 + 2 * np.arange(21))
    slopes = jax.jacobian(lambda r: dataclasses.replace(scheme, tilt_range=r).angles)(
        jnp.array([-40.0, 60.0])
    )
    np.testing.assert_allclose(slopes[0], [0.6, 0.4], rtol=1e-5)  # 0 is 40 % up the range


def test_ice_takes_electrons_by_the_length_of_the_path():
    at = jnp.array([-300.0, 0.0, 300.0])
    flat = Slab(thickness=1300.0, mean_free_path=3900.0)
    for angle in (0.0, 60.0):
        expected = np.exp(-1 / 3 / np.cos(np.deg2rad(angle)))
        np.testing.assert_allclose(flat.transmission(at, at, angle, "y"), expected, rtol=1e-5)
    wedge = dataclasses.replace(flat, slope=(0.0, 0.5))
    # At 60 degrees about y, 300 A on the detector are 600 A along the slab.
    np.testing.assert_allclose(
        wedge.transmission(0 * at, at, 60.0, "y"),
        np.exp(-(1300 + 0.5 * 2 * np.asarray(at)) * 2 / 3900),
        rtol=1e-4,
    )
    waves = dataclasses.replace(flat, waviness=200.0).thickness_at(
        *np.mgrid[:9000:1000.0, :9000:1000.0]
    )
    assert 1100 <= waves.min() < 1150 and 1450 < waves.max() <= 1500


def test_uneven_ice_shows_unless_flattened(key):
    slab = Slab(thickness=1500.0, slope=(0.8, 0.0))
    nothing = np.zeros((4, 32, 24), np.float32)
    np.testing.assert_allclose(acquire(nothing, key, slab=slab).clean, 0, atol=1e-5)
    image = np.asarray(acquire(nothing, key, slab=slab, flatten=False).clean[0])
    y = (np.arange(32) - 15.5) * VOXEL
    background = np.exp(-(1500 + 0.8 * y) / 3900)
    expected = 1 - background / background.mean()  # thick ice is dark, hence bright here
    np.testing.assert_allclose(image, np.broadcast_to(expected[:, None], (32, 24)), atol=1e-4)


def test_a_point_shows_the_thon_rings(key, x64):
    """The image of a weak point is ``-2 phase CTF`` at every frequency, within 2 % of the peak."""
    transfer = ctf.ContrastTransfer(defocus=20_000.0, astigmatism=3_000.0, azimuth=20.0)
    image = acquire(point(), key, microscope=Microscope(transfer)).clean[0]
    spectrum = np.fft.rfft2(np.fft.ifftshift(np.asarray(image, np.float64)))
    k_y = np.fft.fftfreq(48, VOXEL)[:, None]
    k_x = np.fft.rfftfreq(48, VOXEL)[None]
    expected = (
        -2 * 1e-3 * 6.526e-4 * 2.5 * VOXEL * np.asarray(transfer(*np.broadcast_arrays(k_y, k_x)))
    )
    inside = (np.abs(k_y) < 0.45 / VOXEL) & (k_x < 0.45 / VOXEL)
    error = np.abs(spectrum - expected)[inside]
    assert error.max() < 0.02 * np.abs(expected).max()


def test_correcting_phases_makes_the_transfer_positive(key, x64):
    image = acquire(point(), key, flip_phases=True).clean[0]
    plain = acquire(point(), key).clean[0]
    corrected, spectrum = (
        np.fft.rfft2(np.fft.ifftshift(np.asarray(i, np.float64))) for i in (image, plain)
    )
    assert corrected.real.min() > -0.05 * corrected.real.max()
    np.testing.assert_allclose(np.abs(corrected), np.abs(spectrum), atol=1e-7)
    assert image[24, 24] > 2 * plain[24, 24] > 0


@pytest.mark.parametrize("tilt_axis, sign", [("y", -1), ("x", 1)])
@pytest.mark.parametrize("side", [-1, 1])
def test_defocus_follows_the_height_of_the_slab(tilt_axis, sign, side, key, x64):
    """A point of the middle plane at +-30 voxels along x (y) is imaged as its own defocus says.

    Electrons travel along ``(z, x) = (cos a, -sin a)``, or ``(z, y) = (cos a, sin a)``: at +60
    degrees about y a point at +x is nearer to the source and less under focus by ``x sin a``.
    """
    index = 48 + side * 30
    at = (4, 24, index) if tilt_axis == "y" else (4, index, 24)
    shape = (9, 48, 97) if tilt_axis == "y" else (9, 97, 48)
    scheme = TiltScheme.every(60.0, 0.0, 60.0, tilt_axis=tilt_axis)
    volume = point(shape, at)

    def image(defocus, strips):
        microscope = Microscope(ctf.ContrastTransfer(defocus=defocus))
        series = acquire(volume, key, scheme=scheme, microscope=microscope, strips=strips)
        return np.asarray(series.clean[1], np.float64)

    shift = sign * side * 30 * VOXEL * np.sin(np.deg2rad(60))
    varying = image(10_000.0, 9)
    error = np.abs(varying - image(10_000.0 + shift, 1)).max()
    assert error < 0.02 * np.abs(varying).max()
    assert np.abs(varying - image(10_000.0 - shift, 1)).max() > 5 * error


def test_damage_accumulates_in_the_order_of_recording(key, x64):
    """A point at each tilt loses ``exp(-D / 2 D_c)`` more than without damage, within 1 %."""
    scheme = TiltScheme.every(40.0, -40.0, 40.0, "bidirectional", exposure=20.0)
    whole = acquire(point(), key, scheme=scheme).clean
    damaged = acquire(point(), key, scheme=scheme, damaged=True).clean
    k = np.fft.rfftfreq(48, VOXEL)[1:13]
    for tilt, exposure in enumerate((10.0, 30.0, 50.0)):
        before, after = (np.fft.rfft2(np.asarray(i[tilt]))[0, 1:13] for i in (whole, damaged))
        clear = np.abs(before) > 0.3 * np.abs(before).max()  # away from the zeros of the transfer
        ratio = np.abs(after / before)[clear]
        np.testing.assert_allclose(ratio, ctf.damage(k, exposure)[clear], atol=0.02)


def test_gold_stays_within_physics(key):
    """A bead of gold, ten times as dense as protein, neither goes negative nor breaks."""
    z, y, x = np.meshgrid(*[np.arange(n) - n // 2 for n in (24, 48, 48)], indexing="ij")
    bead = 10 * (z**2 + y**2 + x**2 < 25).astype(np.float32)
    series = acquire(bead, key, flip_phases=False)
    assert np.isfinite(series.clean).all()
    assert series.clean.max() < 1  # contrast 1 is no electrons at all
    assert series.clean[0, 24, 24] > 0.3


@pytest.mark.parametrize("noise", ["poisson", "gaussian"])
def test_counts_have_the_statistics_of_electrons(noise, key):
    """Mean and variance of each half are half the expected count, to 4 standard errors."""
    for rate in (3.0, 250.0):
        expected = jnp.full((4, 100, 100), rate)
        halves = np.asarray(Detector(noise=noise).count(expected, key), np.float64)
        error = np.sqrt(rate / 2 / halves.size)
        assert abs(halves.mean() - rate / 2) < 4 * error
        assert abs(halves.var() - rate / 2) < 4 * rate / 2 * np.sqrt(2.5 / halves.size)
        assert abs(np.corrcoef(halves.reshape(2, -1))[0, 1]) < 4 / np.sqrt(halves[0].size)
        if noise == "poisson":
            np.testing.assert_array_equal(halves, halves.round())
            assert abs(halves.sum(0).var() - rate) < 4 * rate * np.sqrt(2.5 / halves[0].size)


def test_noise_of_the_images_follows_the_electrons(key):
    """In empty ice its variance is ``1 / (exposure voxel^2 efficiency T)``, within 4 %."""
    config = dict(
        scheme=TiltScheme.every(60.0, exposure=2.0),
        slab=Slab(thickness=1300.0, mean_free_path=3900.0),
        flip_phases=True,
    )
    nothing = np.zeros((4, 96, 96), np.float32)
    for efficiency in (0.8, 0.2):
        detector = Detector(efficiency, 1.0)
        series = acquire(nothing, key, detector=detector, **config)
        transmission = np.exp(-1 / 3 / np.cos(np.deg2rad(series.angles)))
        expected = 1 / (2.0 * VOXEL**2 * efficiency * transmission)
        np.testing.assert_allclose(series.images.var((1, 2)), expected, rtol=0.04)
        np.testing.assert_allclose(series.halves.var((0, 2, 3)), 2 * expected, rtol=0.04)
        np.testing.assert_allclose(series.clean, 0, atol=1e-5)


def test_the_detector_blurs_noise_too(key):
    series = acquire(np.zeros((4, 96, 96), np.float32), key, detector=Detector(1.0, 0.5))
    power = np.square(np.abs(np.fft.rfft2(series.images))).mean(0)
    k = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.rfftfreq(96)[None])
    low, high = power[(k > 0.02) & (k < 0.15)].mean(), power[(k > 0.45) & (k < 0.5)].mean()
    assert abs(high / low / 0.5 ** (2 * (0.95**2 - 0.2**2)) - 1) < 0.1


def test_halves_add_up_and_the_same_key_gives_the_same_bits(key):
    volume = blobs()
    config = dict(detector=Detector(), misalignment=Misalignment())
    series, again = (acquire(volume, key, **config) for _ in range(2))
    for one, other in zip(jax.tree.leaves(series), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(series.images, (series.halves[0] + series.halves[1]) / 2)
    other = acquire(volume, jax.random.key(1), **config)
    assert (
        np.abs(other.halves - series.halves).min(initial=1)
        < 1e-3
        < np.abs(other.clean - series.clean).max()
    )
    noise = np.asarray(series.halves - series.clean[None]).reshape(2, -1)
    assert abs(np.corrcoef(noise)[0, 1]) < 4 / np.sqrt(noise.shape[1])


def test_halves_by_tilt_are_every_second_angle(key):
    scheme = TiltScheme.every(10.0, -20.0, 30.0)
    series = acquire(blobs(), key, scheme=scheme)
    even, odd = series.split_by_tilt()
    np.testing.assert_allclose(even.angles, [-20, 0, 20], atol=1e-5)
    np.testing.assert_allclose(odd.angles, [-10, 10, 30], atol=1e-5)
    at_zero = int(np.argmin(np.abs(series.angles)))
    np.testing.assert_array_equal(even.clean[1], series.clean[at_zero])
    np.testing.assert_array_equal(even.images[1], series.images[at_zero])


def test_tilting_about_x_is_tilting_about_y_mirrored(key):
    volume = blobs((10, 24, 32))
    slab = Slab(slope=(0.1, -0.2), waviness=100.0)
    turned = dataclasses.replace(slab, slope=(-0.2, 0.1))
    about_y = TiltScheme.every(20.0, -40.0, 20.0, "unidirectional")
    about_x = TiltScheme((-20.0, 40.0), about_y.order[::-1], tilt_axis="x")
    kept = dict(damaged=True, strips=3, flip_phases=True, flatten=False)
    one = acquire(volume, key, scheme=about_y, slab=slab, **kept)
    other = acquire(
        np.ascontiguousarray(volume.swapaxes(1, 2)), key, scheme=about_x, slab=turned, **kept
    )
    np.testing.assert_allclose(one.clean, other.clean.swapaxes(1, 2), atol=2e-5)


def test_gradients_reach_density_and_instrument(x64, key, check_gradients):
    volume = jnp.asarray(blobs((6, 12, 12)), jnp.float64)
    scheme = TiltScheme.every(30.0, -30.0, 60.0)

    def loss(volume, defocus, tilts, thickness, voxel_size):
        config = Acquisition(
            scheme=dataclasses.replace(scheme, tilt_range=(tilts[0], tilts[1])),
            microscope=Microscope(ctf.ContrastTransfer(defocus=defocus * 1e4)),
            slab=Slab(thickness=thickness * 1e3, slope=(0.1, 0.2)),
            detector=Detector(noise="gaussian"),
            flip_phases=False,
        )
        series = expose(volume, voxel_size * 10, config, key)
        return jnp.sum(jnp.sin(9 * series.images)) + jnp.sum(jnp.square(series.clean))

    arguments = (volume, jnp.array(3.1), jnp.array([-31.0, 57.0]), jnp.array(1.2), jnp.array(1.1))
    check_gradients(loss, *arguments)
