"""The phantom: its geometry, its noise and its wedge are what it says they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg.core import MissingWedge, fourier
from cryojax_seg.simulate import phantom
from cryojax_seg.simulate.phantom import KINDS, sphere, tube, waved_sheet

SHAPE = (40, 48, 48)


@pytest.fixture(scope="module")
def cell():
    return phantom(jax.random.key(3), SHAPE, snr=0.5)


def test_the_same_key_gives_the_same_phantom_and_another_key_another(cell):
    again, other = phantom(jax.random.key(3), SHAPE, 0.5), phantom(jax.random.key(4), SHAPE, 0.5)
    assert np.array_equal(cell.density, again.density)
    assert not np.array_equal(cell.labels, other.labels)


def test_every_kind_is_there_and_structure_is_bright_in_the_clean_and_dark_in_the_density(cell):
    assert set(np.unique(cell.labels)) == {0, *range(1, len(KINDS) + 1)}
    inside = np.asarray(cell.labels) > 0
    assert np.asarray(cell.clean)[inside].mean() > 0.5
    assert np.asarray(cell.clean)[~inside].mean() < 0.1
    assert np.asarray(cell.density)[inside].mean() < np.asarray(cell.density)[~inside].mean() - 0.1


def test_nothing_not_even_noise_was_measured_in_the_wedge(cell):
    power = np.abs(np.asarray(fourier.rfftn(cell.density))) ** 2
    lost = np.asarray(cell.wedge.transfer(SHAPE)) < 0.5
    assert power[lost].max() < 1e-8 * power[~lost].mean()


@pytest.mark.parametrize("snr", [0.1, 2.0])
def test_the_signal_to_noise_ratio_is_the_one_asked_for(snr):
    p = phantom(jax.random.key(3), SHAPE, snr=snr)
    measured = np.asarray(p.wedge.apply(p.clean))
    noise = -np.asarray(p.density) - measured
    inside = np.asarray(p.labels) > 0
    assert (measured[inside] ** 2).mean() / noise.var() == pytest.approx(snr, rel=1e-3)


def test_visibility_is_that_of_the_radial_normals_of_a_vesicle():
    wedge = MissingWedge((-50.0, 60.0), tilt_axis="x")
    p = phantom(jax.random.key(5), SHAPE, wedge=wedge, kinds=("membrane",))
    seen, membrane = np.asarray(p.visibility), np.asarray(p.labels) == 1
    assert set(np.unique(p.labels)) == {0, 1}
    assert (seen[~membrane] == 0).all()
    assert (seen[membrane] > 0).all() and seen.max() <= 1 + 1e-6
    # Normals by finite differences of a distance made from the labels would be rough; those of a
    # ball are known.
    points = jnp.asarray(np.random.default_rng(0).normal(size=(50, 3)), jnp.float32) * 9
    normals = jax.vmap(jax.grad(lambda q: sphere(q, jnp.zeros(3), 5.0)))(points)
    radial = points / jnp.linalg.norm(points, axis=-1, keepdims=True)
    np.testing.assert_allclose(normals, radial, atol=1e-5)


def test_distances_are_distances():
    points = jnp.asarray(np.random.default_rng(1).uniform(-20, 20, (200, 3)), jnp.float32)
    frame = jnp.eye(3)
    flat = waved_sheet(points, jnp.ones(3), frame, amplitude=0.0)
    np.testing.assert_allclose(flat, points[:, 0] - 1, atol=1e-5)
    slope = jax.vmap(jax.grad(lambda q: waved_sheet(q, jnp.ones(3), frame)))(points)
    near = jnp.abs(waved_sheet(points, jnp.ones(3), frame)) < 2
    np.testing.assert_allclose(jnp.linalg.norm(slope[near], axis=-1), 1.0, atol=0.1)
    around = tube(points, jnp.zeros(3), frame[1], 4.0)
    np.testing.assert_allclose(
        around, jnp.hypot(points[:, 0], points[:, 2]) - 4, rtol=1e-5, atol=1e-5
    )
    assert np.isfinite(jax.grad(lambda q: sphere(q, jnp.zeros(3), 1.0))(jnp.zeros(3))).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (8, 32, 32)}, "at least 16"),
        ({"snr": 0.0}, "above 0"),
        ({"kinds": ("gold",)}, "membrane, microtubule"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        phantom(jax.random.key(0), **arguments)
