"""Patches of scenes that are imaged under drawn conditions, against what was asked for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg.core import MissingWedge, fourier
from cryojax_seg.training import Randomisation
from cryojax_seg.training.imaging import Range, draw_conditions, image_patch

EDGE = 32
PLAIN = Randomisation(
    contrast=Range(1.0, 1.0),
    lowest=Range(-90.0, -90.0),
    highest=Range(90.0, 90.0),
    about_x=0.0,
    missing_tilts=0.0,
    noise_exponent=Range(0.0, 0.0),
    b_factor=Range(0.0, 0.0),
    focused=1.0,
    flavours=(1.0, 0.0, 0.0, 0.0),
    amplitude=0.0,
    density=0.0,
    lumen=0.0,
    ramp=0.0,
    filled=Range(0.0, 0.0),
    blank=0.0,
)


def scene():
    """A ball and a plate of different density, and their labels."""
    grid = np.indices((EDGE,) * 3) - EDGE / 2
    ball = (grid**2).sum(0) < 36
    plate = np.abs(grid[0] - 10) < 1.5
    density = np.where(ball, 1.0, 0.4 * plate).astype(np.float32)
    return jnp.asarray(density), jnp.asarray(5 * ball + 1 * plate, jnp.int32)


@jax.jit
def imaged(density, labels, key, ranges, noise=None):
    by_condition, by_noise = jax.random.split(key)
    conditions = draw_conditions(by_condition, ranges, 10.0, density.shape)
    return image_patch(density, labels, conditions, by_noise if noise is None else noise)


def image(key=0, labels=None, **changes):
    density, truth = scene()
    ranges = jax.tree.map(jnp.float32, dataclasses.replace(PLAIN, **changes))
    return imaged(density, truth if labels is None else labels, jax.random.key(key), ranges)


def test_without_noise_and_wedge_it_is_the_density_up_to_gain_and_offset():
    density, labels = scene()
    volume = np.asarray(image(contrast=Range(1e5, 1e5)).volume) / 1e5
    slope, offset = np.polyfit(np.asarray(density).ravel(), volume.ravel(), 1)
    np.testing.assert_allclose(volume, slope * density + offset, atol=2e-4)
    inside = np.asarray(labels) > 0
    assert np.sqrt(np.mean(np.square(volume[inside]))) == pytest.approx(1.0, rel=0.05)
    assert abs(volume[~inside].mean()) < 1e-4  # empty ice is 0


@pytest.mark.parametrize("contrast", [0.2, 1.5])
def test_the_contrast_is_that_of_the_structures_in_deviations_of_the_noise(contrast):
    noise = image(contrast=Range(1e-6, 1e-6)).volume
    volume = image(contrast=Range(contrast, contrast)).volume
    inside = np.asarray(scene()[1]) > 0
    signal = np.asarray(volume - noise)
    assert float(noise.std()) == pytest.approx(1.0, rel=1e-3)
    assert np.sqrt(np.mean(signal[inside] ** 2)) == pytest.approx(contrast, rel=0.03)


def test_intensities_are_scaled_as_in_a_tomogram_that_structures_fill_in_part():
    alone = image(contrast=Range(2.0, 2.0)).volume
    filled = image(contrast=Range(2.0, 2.0), filled=Range(0.25, 0.25)).volume
    np.testing.assert_allclose(filled, (alone - 0.5) / np.sqrt(2), atol=1e-5)


def test_nothing_is_in_the_missing_wedge():
    tilts = {"lowest": Range(-60.0, -60.0), "highest": Range(50.0, 50.0)}
    patch = image(key=1, noise_exponent=Range(1.0, 1.0), **tilts)
    power = np.abs(np.asarray(fourier.rfftn(patch.volume))) ** 2
    measured = np.asarray(patch.wedge.transfer(patch.volume.shape)) > 0
    assert measured.mean() == pytest.approx(110 / 180, abs=0.1)
    assert power[~measured].max() < 1e-8 * power[measured].mean()
    assert np.asarray(patch.wedge.tilt_range).tolist() == [-60.0, 50.0]


def test_tilts_about_x_give_the_wedge_that_is_stated():
    tilts = {"lowest": Range(-40.0, -40.0), "highest": Range(60.0, 60.0), "about_x": 1.0}
    patch = image(key=2, **tilts)
    stated = MissingWedge((-40.0, 60.0), "x").transfer(patch.volume.shape)
    np.testing.assert_array_equal(patch.wedge.transfer(patch.volume.shape), stated)
    power = np.abs(np.asarray(fourier.rfftn(patch.volume))) ** 2
    assert power[np.asarray(stated) == 0].max() < 1e-8 * power.mean()


def test_the_power_of_the_noise_falls_with_the_exponent():
    faint = Range(1e-6, 1e-6)
    spectra = [
        fourier.shell_average(jnp.square(jnp.abs(fourier.rfftn(image(k, **{
            "contrast": faint, "noise_exponent": Range(1.2, 1.2)}).volume))), (EDGE,) * 3)
        for k in range(3)
    ]  # fmt: skip
    shells = np.arange(2, EDGE // 2)
    slope = np.polyfit(np.log(shells), np.log(np.mean(spectra, 0)[shells]), 1)[0]
    assert slope == pytest.approx(-1.2, abs=0.08)


def test_padding_has_one_value_and_no_label():
    patch = image(key=3, blank=1.0, contrast=Range(2.0, 2.0))
    volume, labels = np.asarray(patch.volume), np.asarray(patch.labels)
    values, counts = np.unique(volume, return_counts=True)
    padding = volume == values[counts.argmax()]
    assert 0.05 < padding.mean() < 0.8
    assert not labels[padding].any()
    np.testing.assert_array_equal(labels[~padding], np.asarray(scene()[1])[~padding])


def test_all_ranges_are_drawn_within_and_the_same_key_draws_the_same():
    ranges = Randomisation()
    drawn = jax.jit(jax.vmap(lambda k: draw_conditions(k, ranges, 10.0, (16, 16, 16))))(
        jax.random.split(jax.random.key(0), 400)
    )
    assert 0.25 <= drawn.contrast.min() < 0.3 and 2.5 < drawn.contrast.max() <= 3.0
    assert np.log(drawn.contrast).mean() == pytest.approx(np.log(0.25 * 3) / 2, abs=0.1)
    low, high = np.asarray(drawn.wedge.tilt_range).T
    complete = low == -90
    assert complete.mean() == pytest.approx(0.03, abs=0.03)
    assert -70 <= low[~complete].min() < -68 and -37 < low[~complete].max() <= -35
    assert 35 <= high[~complete].min() < 37 and 68 < high[~complete].max() <= 70
    assert (low == -high).mean() == pytest.approx(0.5, abs=0.1)
    assert np.asarray(drawn.about_x).mean() == pytest.approx(0.5, abs=0.1)
    assert np.isfinite(drawn.gains).all()
    one, again = (image(key=7, contrast=Range(0.1, 2.0)).volume for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, image(key=8, contrast=Range(0.1, 2.0)).volume)


def test_the_tilts_can_be_those_of_one_wedge():
    ranges = Randomisation().like(MissingWedge((-50.0, 89.5), "x"))
    assert (ranges.lowest, ranges.highest) == (Range(-52.0, -48.0), Range(87.5, 90.0))
    assert (ranges.about_x, ranges.complete) == (1.0, 0.0)
    assert Randomisation().like(None) == Randomisation()


@pytest.mark.parametrize("empty", [False, True])
def test_gradients_are_finite(empty):
    density, labels = scene()
    density, labels = (0 * density, 0 * labels) if empty else (density, labels)
    ranges = jax.tree.map(jnp.float32, Randomisation())

    def loss(density):
        return jnp.sum(jnp.square(imaged(density, labels, jax.random.key(4), ranges).volume))

    assert np.isfinite(jax.grad(loss)(density)).all()
