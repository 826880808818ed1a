import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg.core.ctf import (
    ContrastTransfer,
    critical_exposure,
    damage,
    detector_mtf,
    interaction_constant,
    wavelength,
)

EXAMPLE = ContrastTransfer(
    defocus=21_000.0,
    astigmatism=1_500.0,
    azimuth=30.0,
    amplitude_contrast=0.1,
    phase_shift=20.0,
    b_factor=40.0,
)


@pytest.mark.parametrize(
    "voltage, length, constant",
    [(100.0, 0.03701, 9.244e-4), (200.0, 0.02508, 7.288e-4), (300.0, 0.01969, 6.526e-4)],
)
def test_electrons_match_the_tables(voltage, length, constant):
    """Kirkland 2010, table of wavelengths (angstrom) and of radian per volt and angstrom."""
    assert abs(wavelength(voltage) - length) < 6e-6
    assert abs(interaction_constant(voltage) - constant) < 6e-8


@pytest.mark.parametrize(
    "k_y, k_x, chi",
    # chi without the amplitude contrast, by hand with lambda = 0.01968749 A, C_s = 2.7e7 A:
    # pi lambda k^2 z - (pi / 2) C_s lambda^3 k^4 + pi / 9
    [
        (0.0, 0.0, 0.349066),  # pi / 9
        # k^2 = 0.0025, angle 0: z = 21000 + 750 cos(-60) = 21375;  3.305113 - 0.002023 + 0.349066
        (0.0, 0.05, 3.652156),
        # k^2 = 0.01, angle 90: z = 21000 + 750 cos(120) = 20625;  12.756577 - 0.032363 + 0.349066
        (0.1, 0.0, 13.073280),
        # k^2 = 0.01, angle 30: z = 21750;  13.452390 - 0.032363 + 0.349066
        (0.05, 0.08660254037844387, 13.769093),
    ],
)
def test_transfer_at_frequencies_computed_by_hand(k_y, k_x, chi, x64):
    squared = k_y**2 + k_x**2
    expected = -np.sin(chi + np.arcsin(0.1)) * np.exp(-40 * squared / 4)
    assert abs(EXAMPLE(k_y, k_x) - expected) < 3e-6


def test_under_focus_makes_dense_structure_dark():
    """The transfer starts at minus the amplitude contrast and falls from there."""
    transfer = ContrastTransfer(defocus=30_000.0, amplitude_contrast=0.07)
    assert abs(transfer(0.0, 0.0) + 0.07) < 1e-6
    assert transfer(0.0, 0.01) < -0.2
    assert ContrastTransfer(phase_shift=90.0)(0.0, 0.0) < -0.99  # a phase plate


def test_zeros_are_where_lambda_z_k2_is_a_whole_number():
    transfer = ContrastTransfer(
        defocus=25_000.0, spherical_aberration=0.0, amplitude_contrast=0.0, astigmatism=2_000.0
    )
    rings = np.arange(1, 7)
    along_x = np.sqrt(rings / (wavelength(300.0) * 26_000.0)).astype(np.float32)
    along_y = np.sqrt(rings / (wavelength(300.0) * 24_000.0)).astype(np.float32)
    np.testing.assert_allclose(transfer(0.0, along_x), 0, atol=1e-5)
    np.testing.assert_allclose(transfer(along_y, 0.0), 0, atol=1e-5)
    assert np.abs(transfer(along_x, 0.0)).min() > 0.1
    turned = dataclasses.replace(transfer, azimuth=90.0)
    np.testing.assert_allclose(turned(along_x, 0.0), 0, atol=1e-5)


def test_gradients_reach_every_number(x64, check_gradients):
    k_y, k_x = jnp.array([0.0, 0.01, -0.02]), jnp.array([0.0, 0.02, 0.013])
    leaves, structure = jax.tree.flatten(EXAMPLE)
    assert len(leaves) == 8
    # In units of each number's size, since finite differences use one step for all.
    scale = jnp.array([leaf if leaf else 1.0 for leaf in leaves])

    def transfer(numbers):
        return jax.tree.unflatten(structure, list(numbers * scale))(k_y, k_x)

    start = jnp.array(leaves) / scale
    weights = jnp.array([1.0, -2.0, 0.7])
    check_gradients(lambda numbers: jnp.sum(weights * transfer(numbers)), start)
    assert (jnp.abs(jax.jacobian(transfer)(start)).max(0) > 0).all()


def test_impossible_optics_are_refused():
    with pytest.raises(ValueError, match="amplitude_contrast is a fraction: 7 looks like percent"):
        ContrastTransfer(amplitude_contrast=7.0)


@pytest.mark.parametrize("k, expected", [(0.05, 38.7337), (0.1, 14.1383), (0.2, 6.3823)])
def test_critical_exposures_are_those_published(k, expected):
    """0.245 k^-1.665 + 2.81 by hand: 20^1.665 = 146.627, 10^1.665 = 46.238, 5^1.665 = 14.581."""
    assert abs(critical_exposure(jnp.array(k)) - expected) < 2e-3
    assert abs(critical_exposure(jnp.array(k), 200.0) - 0.8 * expected) < 2e-3


def test_damage_takes_fine_detail_first():
    k = jnp.array([0.0, 0.05, 0.1, 0.2])
    np.testing.assert_allclose(damage(k, 0.0), 1)
    left = np.asarray(damage(k, 60.0))
    np.testing.assert_allclose(left, [1, 0.46093, 0.11980, 0.00909], atol=3e-5)
    assert np.isfinite(jax.grad(lambda k: damage(k, 60.0).sum())(k)).all()


def test_detector_blurs_as_told():
    np.testing.assert_allclose(
        detector_mtf(jnp.array([0.0, 0.25, 0.5]), 0.6), [1, 0.6**0.25, 0.6], rtol=1e-6
    )


def test_agrees_with_cryojax(x64):
    simulator = pytest.importorskip("cryojax.simulator")
    k = np.random.default_rng(0).uniform(-0.2, 0.2, (16, 16, 2))  # y, x
    theirs = simulator.AstigmaticCTF(21_000.0, 1_500.0, 30.0, 2.7)(
        jnp.asarray(k), wavelength(300.0), amplitude_contrast_ratio=0.1, phase_shift=20.0
    )
    ours = dataclasses.replace(EXAMPLE, b_factor=0.0)(k[..., 0], k[..., 1])
    np.testing.assert_allclose(ours, theirs, atol=1e-9)
