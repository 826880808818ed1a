"""Both tiers of imaging: signal-to-noise, halves, the wedge as theory has it, gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cryojax_seg.core import MissingWedge, fourier
from cryojax_seg.simulate import (
    Acquisition,
    Bilayer,
    Placed,
    Scene,
    Sphere,
    TiltScheme,
    TiltSeriesImaging,
    WedgeImaging,
    presets,
    render,
    signal_to_noise,
    simulate,
)
from cryojax_seg.simulate.acquisition import Detector
from cryojax_seg.simulate.imaging import coloured_noise
from cryojax_seg.simulate.phantom import _image
from cryojax_seg.simulate.sheets import Plane

SHAPE = (24, 32, 32)
SCENE = Scene(
    (Placed(Bilayer(Sphere(np.float32(70.0))), np.float32([115, 155, 155])),), SHAPE, 10.0
)
COARSE = TiltScheme.every(10.0, -60.0, 50.0)
TIERS = {
    "wedge": WedgeImaging(snr=0.2, wedge=MissingWedge((-60.0, 50.0))),
    "tilt_series": TiltSeriesImaging(Acquisition(scheme=COARSE), snr=0.2),
    "tilt halves": TiltSeriesImaging(Acquisition(scheme=COARSE), snr=0.2, halves="tilt"),
    "sirt": TiltSeriesImaging(Acquisition(scheme=COARSE), snr=0.2, iterations=3),
}


@pytest.fixture(scope="module", params=TIERS)
def phantom(request):
    return simulate(SCENE, TIERS[request.param], jax.random.key(1))


def test_the_same_key_gives_the_same_volume(phantom, request):
    tier = TIERS[request.node.callspec.params["phantom"]]
    again = simulate(SCENE, tier, jax.random.key(1))
    other = simulate(SCENE, tier, jax.random.key(2))
    assert np.array_equal(phantom.density, again.density)
    assert not np.array_equal(phantom.density, other.density)


def test_the_ratio_asked_for_is_the_one_of_signal_and_noise(phantom):
    """Exactly in the wedge tier; to 20 % where electrons are counted."""
    imaged, mask = phantom.imaged, np.asarray(phantom.truth.structures)
    signal = np.asarray(imaged.signal)
    noise = np.asarray(imaged.density) - signal
    level = signal[~mask].mean()
    ratio = np.square(signal - level)[mask].mean() / np.square(noise)[mask].mean()
    assert float(imaged.snr) == pytest.approx(ratio, rel=1e-3)
    assert ratio == pytest.approx(0.2, rel=0.2)


def test_structure_is_bright_and_halves_agree_on_it_alone(phantom):
    mask, imaged = np.asarray(phantom.truth.structures), phantom.imaged
    signal = np.asarray(imaged.signal)
    assert np.corrcoef(signal.ravel(), np.asarray(phantom.truth.density).ravel())[0, 1] > 0.5
    assert signal[mask].mean() > signal[~mask].mean()
    noises = [np.asarray(half) - signal for half in (imaged.even, imaged.odd)]
    correlation = np.corrcoef(noises[0].ravel(), noises[1].ravel())[0, 1]
    # Halves by tilt each lack half of the signal's projections, which looks like noise.
    assert abs(correlation) < 0.05
    assert noises[0].std() == pytest.approx(noises[1].std(), rel=0.2)


def test_the_wedge_is_that_of_the_tilts(phantom):
    assert phantom.wedge is not None
    assert phantom.wedge.tilt_range == (-60.0, 50.0)
    power = np.abs(np.asarray(fourier.rfftn(phantom.imaged.even - phantom.imaged.odd))) ** 2
    measured = np.asarray(phantom.wedge.transfer(SHAPE)) > 0.5
    # A few projections fill a small volume unevenly: SIRT leaves a third of the power outside.
    assert power[measured].mean() > 2 * power[~measured].mean()
    membrane = np.asarray(phantom.labels) == 1
    seen = np.asarray(phantom.visibility)
    assert (seen[~membrane] == 0).all() and seen[membrane].min() > 0 and seen.max() <= 1


def test_signal_to_noise_of_known_volumes():
    mask = jnp.zeros((8, 8, 8), bool).at[2:6].set(True)
    signal = jnp.where(mask, 1.3, 0.3)  # a constant structure 1 above its surroundings
    noise = 2.0 * jax.random.rademacher(jax.random.key(0), (8, 8, 8), signal.dtype)
    assert float(signal_to_noise(signal, noise, mask)) == pytest.approx(0.25)
    assert float(signal_to_noise(signal, noise, mask & False)) == 0.0


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_noise_has_the_colour_asked_for(exponent):
    noise = coloured_noise(jax.random.key(0), (48, 48, 48), exponent)
    assert float(noise.std()) == pytest.approx(1, abs=1e-5)
    power = fourier.shell_average(jnp.square(jnp.abs(fourier.rfftn(noise))), noise.shape)
    k = np.arange(4, 22) / 48
    slope = np.polyfit(np.log(k), np.log(np.asarray(power)[4:22]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.1)  # some hundred coefficients a shell


@pytest.mark.parametrize("tilts", [(-60.0, 60.0), (-40.0, 60.0)])
def test_white_noise_keeps_the_solid_angle_of_the_wedge(tilts):
    """In a cube a sector of tilts keeps its share of the square's area; see below."""
    imaging = WedgeImaging(sigma=1.0, exponent=0.0, wedge=MissingWedge(tilts))
    empty = jnp.zeros((64, 64, 64))
    density = imaging(empty, empty > 0, 10.0, jax.random.key(0)).density
    kept = float(jnp.mean(jnp.square(density)))

    # Area of the part of a half square |k_z| <= 1/2, 0 <= k_x <= 1/2 below a tilt, over the whole.
    def below(angle):
        t = np.tan(np.deg2rad(angle))
        return t / 4 if t <= 1 else (1 - 1 / (2 * t)) / 2

    expected = below(tilts[1]) + below(-tilts[0])
    assert kept == pytest.approx(expected, abs=0.01)


WEDGE = jax.jit(MissingWedge((-60.0, 60.0)).apply)


def leaflets(normal, size):
    """Two Gaussian leaflets 5 voxels apart through the middle of a cube, and its points."""
    axis = np.arange(size) - float(size // 2)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    distance = points @ (np.asarray(normal) / np.linalg.norm(normal))
    return sum(np.exp(-np.square(distance + side) / 2) for side in (-2.5, 2.5)), points


STEP = {0: 1.00, 30: 0.99, 55: 0.86, 65: 0.21, 75: 0.10, 90: 0.05}


@pytest.mark.parametrize("angle", STEP)
def test_a_bilayer_vanishes_in_a_step_as_it_turns_to_face_the_beam(angle):
    """Standard deviation of the density around the middle, with the wedge over without, to 0.05."""
    a = np.deg2rad(angle)
    sheet, points = leaflets((np.sin(a), 0, np.cos(a)), 64)
    window = np.hanning(64)
    sheet *= window[:, None, None] * window[:, None] * window
    left = np.asarray(WEDGE(sheet.astype(np.float32)))
    middle = np.square(points).sum(-1) < 10**2
    assert left[middle].std() / sheet[middle].std() == pytest.approx(STEP[angle], abs=0.05)


TABLE = {  # degrees to the beam: energy kept when leaning to x, to 45 degrees, to y
    30: (0.511, 0.222, 0.136),
    45: (0.875, 0.746, 0.170),
    60: (0.942, 0.893, 0.238),
    75: (0.963, 0.944, 0.373),
    90: (0.968, 0.955, 0.763),
}


@pytest.mark.parametrize("theta", TABLE)
def test_the_energy_kept_depends_on_the_azimuth(theta):
    """96^3, a patch of standard deviation 18 voxels, tilts of +-60 degrees, to 0.06."""
    t, transfer = np.deg2rad(theta), np.asarray(MissingWedge((-60.0, 60.0)).transfer((96,) * 3))
    for azimuth, expected in zip((0, 45, 90), TABLE[theta], strict=True):
        a = np.deg2rad(azimuth)
        sheet, points = leaflets((np.cos(t), np.sin(t) * np.sin(a), np.sin(t) * np.cos(a)), 96)
        sheet *= np.exp(-np.square(points / 18).sum(-1) / 2)
        power = np.abs(np.fft.rfftn(sheet)) ** 2
        assert (power * transfer).sum() / power.sum() == pytest.approx(expected, abs=0.06)


def test_a_plane_is_drawn_and_erased_as_its_normal_says():
    """Through the imaging itself: the sheet across x stays, the sheet across the beam goes."""
    left = {}
    for name, turn in (("x", np.eye(3)[:, [2, 1, 0]] * [1, 1, -1]), ("z", np.eye(3))):
        placed = Placed(Bilayer(Plane()), np.float32([150, 150, 150]), turn.astype(np.float32))
        truth = render(Scene((placed,), (32, 32, 32), 10.0))
        window = jnp.asarray(np.hanning(32), jnp.float32)
        density = truth.density * window[:, None, None] * window[None, :, None] * window[None, None]
        imaging = WedgeImaging(sigma=1e-3)
        imaged = imaging(density, truth.structures, 10.0, jax.random.key(0))
        left[name] = float(jnp.std(imaged.signal) / jnp.std(density))
    assert left["x"] > 0.9 and left["z"] < 0.4


def test_radius_and_thickness_are_found_through_the_whole_chain():
    """Gradient descent on a noisy tilt-series reconstruction, to a fifth of a voxel."""
    scheme = TiltScheme.every(6.0, -60.0, 60.0)
    detector = Detector(noise="gaussian")
    imaging = TiltSeriesImaging(Acquisition(scheme=scheme, detector=detector, strips=1))
    centre, shape = np.float32([115, 155, 155]), SHAPE

    def scene(radius, thickness):
        return Scene((Placed(Bilayer(Sphere(radius), thickness=thickness), centre),), shape, 10.0)

    seen = simulate(scene(np.float32(80.0), np.float32(34.0)), imaging, jax.random.key(3)).density
    clean = dataclasses.replace(
        imaging,
        acquisition=dataclasses.replace(imaging.acquisition, detector=Detector(noise="none")),
    )

    @jax.jit
    def step(parameters, state):
        def loss(parameters):
            truth = render(scene(parameters[0], parameters[1]))
            model = clean(truth.density, truth.structures, 10.0, jax.random.key(0)).signal
            return jnp.mean(jnp.square(model - seen)) / jnp.mean(jnp.square(seen))

        gradient = jax.grad(loss)(parameters)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(parameters, updates), state

    with jax.numpy_dtype_promotion("standard"):
        optimizer = optax.adam(optax.cosine_decay_schedule(1.5, 60))
        parameters = jnp.array([72.0, 28.0])
        state = optimizer.init(parameters)
        for _ in range(60):
            parameters, state = step(parameters, state)
    assert float(parameters[0]) == pytest.approx(80.0, abs=2.0)
    assert float(parameters[1]) == pytest.approx(34.0, abs=2.0)


def test_gradients_reach_defocus_and_tilt_range():
    """Against central differences of the noise-free reconstruction, in float64 to 1e-4."""
    from cryojax_seg.core.ctf import ContrastTransfer
    from cryojax_seg.simulate.instrument import Microscope

    volume = np.asarray(render(SCENE).density, np.float64)[6:18, 8:24, 8:24]
    order = TiltScheme.every(15.0, -45.0, 45.0).order

    def energy(defocus, low):
        acquisition = Acquisition(
            scheme=TiltScheme((low, 45.0), order),
            microscope=Microscope(ContrastTransfer(defocus)),
            detector=Detector(noise="none"),
            strips=1,
        )
        imaging = TiltSeriesImaging(acquisition)
        density = jnp.asarray(volume)
        signal = imaging(density, density > 0, 10.0, jax.random.key(0)).signal
        return jnp.sum(jnp.square(signal - density))

    with jax.enable_x64(True):
        at = (jnp.asarray(41_234.0), jnp.asarray(-44.3))
        value = jax.jit(energy)
        slopes = jax.jit(jax.grad(energy, (0, 1)))(*at)
        for i, h in ((0, 0.5), (1, 1e-4)):
            plus, minus = (
                float(value(*(a + s * h * (j == i) for j, a in enumerate(at)))) for s in (1, -1)
            )
            assert float(slopes[i]) == pytest.approx((plus - minus) / (2 * h), rel=1e-4)
            assert float(slopes[i]) != 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: WedgeImaging(), "either snr or sigma"),
        (lambda: WedgeImaging(snr=1.0, sigma=1.0), "either snr or sigma"),
        (lambda: WedgeImaging(snr=0.0), "snr must be above 0"),
        (lambda: WedgeImaging(sigma=-1.0), "sigma must be above 0"),
        (lambda: TiltSeriesImaging(snr=-0.1), "snr must be above 0"),
        (lambda: TiltSeriesImaging(iterations=-1), "iterations must be 0"),
        (lambda: WedgeImaging(snr=1.0, wedge=MissingWedge((-95.0, 60.0))), "within -90 to 90"),
    ],
)
def test_impossible_imaging_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_presets_span_the_contrast_of_real_tomograms():
    """Membranes at 0.52 sigma per voxel, as measured on real vesicles, is a ratio of about 0.3."""
    scene = presets.vesicles(jax.random.key(0), (32, 40, 40), 10.0, crowding=0.0)
    phantom = simulate(scene, WedgeImaging(snr=0.27), jax.random.key(1))
    membrane = np.asarray(phantom.labels) == 1
    background = np.asarray(phantom.labels) == 0
    density = np.asarray(phantom.density)
    contrast = (density[membrane].mean() - density[background].mean()) / density[background].std()
    assert 0.1 < contrast < 0.55


@pytest.mark.parametrize(
    "imaging",
    [
        WedgeImaging(snr=0.5),
        TiltSeriesImaging(Acquisition(TiltScheme.every(30.0)), filter="ramp"),
    ],
    ids=["wedge", "tilt series"],
)
def test_one_program_images_all_voxel_sizes(imaging):
    density = jnp.zeros((12, 16, 16)).at[4:8, 6:10, 6:10].set(1.0)
    before = _image._cache_size()
    found = [
        _image(imaging, density, density > 0, size, jax.random.key(0)).signal
        for size in (8.0, 10.0, 12.5)
    ]
    assert _image._cache_size() == before + 1
    assert np.isfinite(found).all()
