"""Rotations and shifts against SciPy and against volumes known everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryojax_seg.core.rotation import rotation_from_vector
from cryojax_seg.particles import rotate, shift, spline_coefficients

TURNS = Rotation.random(20, random_state=3).as_matrix()[:, ::-1, ::-1].copy()


def band_limited(shape, cutoff, seed=0):
    """Noise below a frequency, as a function of continuous positions from the middle voxel."""
    rng = np.random.default_rng(seed)
    k = rng.normal(size=(40, 3))
    k *= cutoff * rng.uniform(0.3, 1, (40, 1)) / np.linalg.norm(k, axis=1, keepdims=True)
    phase = rng.uniform(0, 2 * np.pi, 40)
    grids = [np.arange(n) - n // 2 for n in shape]
    r = np.stack(np.meshgrid(*grids, indexing="ij"), -1).astype(float)

    def values(rotation=None, offset=(0, 0, 0)):
        place = (r - offset) @ (np.eye(3) if rotation is None else rotation)  # R^T (r - offset)
        window = np.exp(-np.square(place / (np.array(shape) / 8)).sum(-1) / 2)
        return np.cos(2 * np.pi * place @ k.T + phase).sum(-1) * window

    return values, np.sqrt(np.square(r).sum(-1))


def relative(found, wanted, where):
    return np.linalg.norm((found - wanted)[where]) / np.linalg.norm(wanted[where])


def test_the_prefilter_is_that_of_scipy():
    volume = np.random.default_rng(0).normal(size=(7, 10, 13)).astype(np.float32)
    expected = ndimage.spline_filter(volume.astype(float), mode="mirror")
    np.testing.assert_allclose(spline_coefficients(volume), expected, atol=5e-6)


@pytest.mark.parametrize("shape", [(12, 13, 14), (15, 12, 16)])
def test_rotations_are_those_of_scipy_in_the_interior(shape):
    volume = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    offset = np.array([0.3, -0.7, 1.2], np.float32)
    middle = np.array(shape) // 2
    compiled = jax.jit(rotate)
    for turn in TURNS[:3]:
        origin = middle - turn.T @ (middle + offset)
        expected = ndimage.affine_transform(
            volume.astype(float), turn.T, origin, order=3, mode="mirror", prefilter=True
        )
        found = np.asarray(compiled(volume, turn.astype(np.float32), offset))
        inside = found != 0
        assert 0.4 < inside.mean() < 1
        np.testing.assert_allclose(found[inside], expected[inside], atol=3e-5)


@pytest.mark.parametrize(
    "cutoff, oversampling, once, twice",
    [
        (0.15, 1, 1.2e-3, 2e-3),
        (0.15, 2, 8e-5, 1.5e-4),
        (0.25, 1, 7e-3, 1.1e-2),
        (0.25, 2, 3e-4, 6e-4),
    ],
)
def test_rotations_against_truth_and_there_and_back(cutoff, oversampling, once, twice):
    values, radius = band_limited((33, 32, 32), cutoff)
    volume = jnp.asarray(values(), jnp.float32)
    compiled = jax.jit(lambda v, r: rotate(v, r, None, oversampling))
    inside = radius < 14
    errors, back = [], []
    for turn in TURNS:
        turn = turn.astype(np.float32)
        turned = compiled(volume, turn)
        errors.append(relative(np.asarray(turned), values(turn), inside))
        back.append(relative(np.asarray(compiled(turned, turn.T)), values(), inside))
    assert np.mean(errors) < once, np.mean(errors)
    assert np.mean(back) < twice, np.mean(back)


def test_shifts_are_exact_below_the_nyquist_frequency():
    rng = np.random.default_rng(0)
    for shape in ((8, 9, 10), (9, 8, 7)):
        volume = rng.normal(size=shape).astype(np.float32)
        np.testing.assert_allclose(
            shift(volume, np.float32([1, -2, 3])), np.roll(volume, (1, -2, 3), (0, 1, 2)), atol=1e-5
        )
    values, _ = band_limited((32, 32, 32), 0.2)
    offset = np.float32([0.37, -1.21, 2.5])
    moved = np.asarray(shift(jnp.asarray(values(), jnp.float32), offset))
    # The window is not quite band-limited and not quite 0 at the faces: 1e-3 of the norm.
    assert relative(moved, values(offset=offset), np.s_[4:-4, 4:-4, 4:-4]) < 2e-3
    odd = rng.normal(size=(9, 9, 9)).astype(np.float32)
    np.testing.assert_allclose(shift(shift(odd, offset), -offset), odd, atol=2e-5)


def test_offsets_move_after_the_turn():
    values, radius = band_limited((32, 32, 32), 0.15)
    offset = np.float32([1.3, -0.4, 2.1])
    moved = rotate(jnp.asarray(values(), jnp.float32), TURNS[0].astype(np.float32), offset)
    assert relative(np.asarray(moved), values(TURNS[0], offset), radius < 11) < 1e-3


def test_exact_for_the_turns_of_a_cube_and_the_middle_is_half_the_size():
    volume = np.random.default_rng(2).normal(size=(7, 7, 7)).astype(np.float32)
    quarter = np.float32([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    turned = np.asarray(rotate(volume, quarter))
    np.testing.assert_allclose(turned, np.rot90(volume, -1, (1, 2)), atol=1e-5)


def test_gradients(x64, check_gradients):
    values, _ = band_limited((8, 9, 10), 0.2)
    other, _ = band_limited((8, 9, 10), 0.2, seed=1)
    volume, weights = jnp.asarray(values()), jnp.asarray(other())
    vector, offset = jnp.array([0.3, -0.2, 0.5]), jnp.array([0.11, 0.23, -0.4])

    def turned(volume, vector, offset):
        return jnp.sum(weights * rotate(volume, rotation_from_vector(vector), offset, 2))

    check_gradients(turned, volume, vector, offset)
    check_gradients(lambda v, o: jnp.sum(weights * shift(v, o)), volume, offset)
    gradient = jax.grad(turned, (1, 2))(volume, jnp.zeros(3), jnp.zeros(3))
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in gradient)


def test_rotation_vectors_are_those_of_scipy(x64):
    for vector in np.random.default_rng(0).normal(size=(5, 3)) * [[1], [2], [1e-2], [1e-4], [0]]:
        expected = Rotation.from_rotvec(vector[::-1]).as_matrix()[::-1, ::-1]
        np.testing.assert_allclose(rotation_from_vector(jnp.asarray(vector)), expected, atol=1e-9)
    slope = jax.jacobian(rotation_from_vector)(jnp.zeros(3))
    assert np.isfinite(slope).all() and np.abs(slope).sum() == 6


def test_oversampling_below_one_is_refused():
    with pytest.raises(ValueError, match="oversampling must be 1 or more"):
        spline_coefficients(np.zeros((4, 4, 4), np.float32), 0)
