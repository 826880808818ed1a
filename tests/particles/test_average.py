"""Averages behind wedges, and how far they can be trusted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryojax_seg.core import MissingWedge, fourier
from cryojax_seg.core.rotation import cube_rotations
from cryojax_seg.particles import (
    Poses,
    average_particles,
    find_resolution,
    masked_shell_correlation,
    soft_sphere,
)

EDGE = 20
averaged = jax.jit(average_particles, static_argnames="oversampling")


def test_the_formula_by_hand_for_turns_of_a_cube(wedge):
    """sum R^-1 (M F) / max(sum R^-1 M, floor), with turns that need no interpolation."""
    edge, rng = 9, np.random.default_rng(0)  # odd, so that quarter turns keep the middle
    volumes = rng.normal(size=(5, edge, edge, edge)).astype(np.float32)
    turns = cube_rotations((edge,) * 3)[rng.integers(0, 24, 5)]
    middle, total, weight = edge // 2, 0, 0
    grid = np.indices((edge,) * 3).reshape(3, -1) - middle
    transfer = np.asarray(wedge.transfer((edge,) * 3))
    full = np.fft.ifftshift(np.ones((edge,) * 3))
    full[..., : transfer.shape[2]] = transfer
    flipped = np.roll(transfer[::-1, ::-1, ::-1], (1, 1), (0, 1))
    full[..., transfer.shape[2] :] = flipped[..., : edge - transfer.shape[2]]
    for volume, turn in zip(volumes, turns, strict=True):
        masked = np.fft.fftn(volume) * full
        place = tuple((turn @ grid) % edge)  # the value at r of the turned back is that at R r
        total = total + masked[place].reshape((edge,) * 3)[:]
        weight = weight + full[place].reshape((edge,) * 3)
    expected = np.fft.ifftn(np.fft.ifftshift(total) / np.maximum(np.fft.ifftshift(weight), 1))
    poses = Poses(turns.astype(np.float32), np.zeros((5, 3), np.float32), np.zeros(5, np.float32))
    # By hand about voxel 0, so the volumes are moved there and the result back.
    moved = np.stack([np.fft.fftshift(v) for v in volumes])
    average = averaged(moved, poses, wedge)
    np.testing.assert_allclose(np.fft.ifftshift(average.compensated()), expected.real, atol=2e-3)
    parts = averaged(moved[:2], jax.tree.map(lambda p: p[:2], poses), wedge) + averaged(
        moved[2:], jax.tree.map(lambda p: p[2:], poses), wedge
    )
    assert float(parts.count) == 5
    np.testing.assert_allclose(parts.compensated(), average.compensated(), atol=1e-5)
    np.testing.assert_allclose(parts.plain(), average.plain(), atol=1e-5)


def test_the_average_is_the_structure(blobs, wedge, imaged):
    """Without noise to 8 %: what the wedge smears out of a box this small is lost (36: 6 %)."""
    rng = np.random.default_rng(0)
    turns = Rotation.random(30, random_state=1).as_matrix()
    offsets = rng.uniform(-1, 1, (30, 3))
    volumes = imaged(blobs, EDGE, turns, offsets, wedge)
    average = averaged(volumes, Poses(turns, offsets, np.zeros(30)), wedge)
    inside = np.asarray(soft_sphere((EDGE,) * 3, 7.0)) == 1
    truth = blobs(EDGE)
    error = np.linalg.norm((average.compensated() - truth)[inside]) / np.linalg.norm(truth[inside])
    assert error < 0.09
    plain = np.asarray(average.plain())
    assert 0.6 < np.vdot(plain, truth) / np.vdot(truth, truth) < 0.9


def test_biased_orientations_are_compensated(blobs, wedge, imaged):
    """Turns about y alone by up to 40 degrees: the average leans, the compensated one does not."""
    angles = np.linspace(-40, 40, 15)
    turns = Rotation.from_euler("y", angles[:, None], degrees=True).as_matrix()[:, ::-1, ::-1]
    offsets = np.zeros((15, 3))
    volumes = imaged(blobs, EDGE, turns, offsets, wedge)
    average = averaged(volumes, Poses(turns, offsets, np.zeros(15)), wedge)
    truth = jnp.asarray(blobs(EDGE))
    mask = soft_sphere((EDGE,) * 3, 7.0)

    def error(volume):
        volume = volume * mask
        scale = jnp.vdot(volume, truth * mask) / jnp.vdot(volume, volume)
        return float(jnp.linalg.norm(scale * volume - truth * mask) / jnp.linalg.norm(truth * mask))

    compensated, plain = error(average.compensated()), error(average.plain())
    assert compensated < 0.12 and plain > 2.5 * compensated


def test_noise_falls_with_the_root_of_the_number():
    rng = np.random.default_rng(0)
    turns = Rotation.random(64, random_state=1).as_matrix()
    noise = rng.normal(size=(64, 18, 18, 18)).astype(np.float32)
    inside = np.asarray(soft_sphere((18,) * 3, 7.0)) == 1
    spread = {}
    for count in (4, 64):
        poses = Poses(turns[:count], np.zeros((count, 3)), np.zeros(count))
        spread[count] = np.asarray(averaged(noise[:count], poses).plain())[inside].std()
    assert spread[4] / spread[64] == pytest.approx(4, rel=0.15)


def shells(edge, signal, noise, seed=0):
    """Two halves with a common signal of a known spectrum: FSC = S / (S + N) is known."""
    keys = jax.random.split(jax.random.key(seed), 3)
    s, a, b = (jax.random.normal(k, (edge,) * 3) for k in keys)
    k = fourier.radius((edge,) * 3)
    power = signal * jnp.exp(-jnp.square(k / 0.15))
    common = fourier.apply_gain(s, jnp.sqrt(power))
    return common + noise * a, common + noise * b, power / (power + noise**2)


def test_the_mask_is_taken_out_of_the_correlation():
    """A tight mask correlates unrelated noise; after the correction it does not."""
    edge = 32
    mask = soft_sphere((edge,) * 3, 6.0, 3.0)
    key = jax.random.key(0)
    true = np.zeros(edge // 2 + 1)
    corrected, masked, expected = [], [], []
    compute = jax.jit(masked_shell_correlation)
    for seed in range(6):
        first, second, known = shells(edge, 60.0, 1.0, seed)
        # The same smooth mask on both halves is itself a common signal where noise is coloured.
        offset = 3.0 * jnp.ones((edge,) * 3)
        found = compute(first + offset, second + offset, mask, jax.random.fold_in(key, seed))
        corrected.append(found.corrected)
        masked.append(found.masked)
        expected.append(fourier.shell_average(known, (edge,) * 3))
    corrected, masked, true = (np.mean(v, 0) for v in (corrected, masked, expected))
    assert np.abs(corrected - true)[6:].mean() < 0.08
    assert np.abs(masked - true)[6:].mean() > np.abs(corrected - true)[6:].mean()
    unrelated = [jax.random.normal(jax.random.key(i), (edge,) * 3) + 1.0 for i in (1, 2)]
    none = compute(*unrelated, mask, key)
    assert np.abs(none.corrected[5:]).mean() < 0.25 and int(none.start) == 1
    with pytest.raises(ValueError, match="one grid"):
        masked_shell_correlation(*unrelated, mask[1:], key)


def test_resolutions():
    k = np.arange(9) / 16
    fsc = np.array([1, 1, 0.9, 0.7, 0.5, 0.243, 0.043, 0, 0])
    assert find_resolution(k, fsc, 10.0) == pytest.approx(160 / 5.5)
    assert find_resolution(k, fsc, 10.0, 0.5) == pytest.approx(160 / 4)
    assert find_resolution(k, np.ones(9), 10.0) == 20.0
    assert find_resolution(k, np.zeros(9), 10.0) == float("inf")
    same = jax.random.normal(jax.random.key(0), (16, 16, 16))
    found = masked_shell_correlation(same, same, jnp.ones((16,) * 3), jax.random.key(1))
    np.testing.assert_allclose(found.corrected, 1, atol=1e-5)


def test_without_a_wedge_everything_counts_the_same():
    assert MissingWedge((-90.0, 90.0)).transfer((4, 4, 4)).min() == 1
    volumes = np.random.default_rng(0).normal(size=(3, 6, 6, 6)).astype(np.float32)
    poses = Poses(np.tile(np.eye(3), (3, 1, 1)), np.zeros((3, 3)), np.zeros(3))
    average = averaged(volumes, poses)
    np.testing.assert_allclose(average.plain(), volumes.mean(0), atol=1e-4)
    np.testing.assert_allclose(average.compensated(), volumes.mean(0), atol=1e-4)
