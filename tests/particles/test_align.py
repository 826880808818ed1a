"""Poses: found on a grid, then to a hundredth of a voxel by the gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryojax_seg.particles import (
    Poses,
    align_particles,
    classify_particles,
    constrained_correlation,
    refine_poses,
    rotations_near,
    search_poses,
    uniform_rotations,
)

EDGE = 20


def degrees(a, b):
    """Angles between rotations."""
    product = np.asarray(a, float).transpose(0, 2, 1) @ np.asarray(b, float)
    return np.rad2deg(np.arccos(np.clip((np.trace(product, axis1=1, axis2=2) - 1) / 2, -1, 1)))


@pytest.fixture(scope="module")
def truth():
    rng = np.random.default_rng(1)
    turns = Rotation.random(6, random_state=2).as_matrix()[:, ::-1, ::-1].copy()
    return turns, rng.uniform(-1.5, 1.5, (6, 3))


def disturbed(truth, angle, shift, seed=0):
    rng = np.random.default_rng(seed)
    axes = rng.normal(size=(len(truth[0]), 3))
    axes *= np.deg2rad(angle) / np.linalg.norm(axes, axis=1, keepdims=True)
    turns = Rotation.from_rotvec(axes).as_matrix()[:, ::-1, ::-1] @ truth[0]
    moves = rng.normal(size=(len(turns), 3))
    moves *= shift / np.linalg.norm(moves, axis=1, keepdims=True)
    zero = jnp.zeros(len(turns), jnp.float32)
    return Poses(jnp.asarray(turns, jnp.float32), jnp.asarray(truth[1] + moves, jnp.float32), zero)


search = jax.jit(search_poses, static_argnames="max_shift")
refine = jax.jit(refine_poses, static_argnames=("steps", "max_shift"))


def test_the_score_is_the_correlation_of_filtered_volumes(blobs, wedge):
    a = blobs(EDGE) + np.random.default_rng(0).normal(size=(EDGE,) * 3).astype(np.float32)
    b = blobs(EDGE, offset=(1, 0, 0))
    transfer = wedge.transfer((EDGE,) * 3)
    filtered = [np.asarray(wedge.apply(jnp.asarray(v))).ravel() for v in (a, b)]
    expected = np.corrcoef(*filtered)[0, 1]
    assert float(constrained_correlation(a, b, transfer)) == pytest.approx(expected, abs=1e-5)
    assert float(
        constrained_correlation(a, wedge.apply(jnp.asarray(a)), transfer)
    ) == pytest.approx(1, abs=1e-5)
    zero = jnp.zeros((EDGE,) * 3)
    slope = jax.grad(lambda v: constrained_correlation(v, zero, transfer))(zero)
    assert float(constrained_correlation(a, zero, transfer)) == 0 and np.isfinite(slope).all()


def test_the_search_finds_the_nearest_rotation_and_offset(blobs, wedge, imaged, truth):
    """Every pose within the covering angle of the grid, and offsets to a voxel, behind a wedge."""
    volumes = imaged(blobs, EDGE, *truth, wedge, noise=0.5)
    grid = uniform_rotations(600)
    found = search(volumes, blobs(EDGE), grid, wedge.transfer((EDGE,) * 3), 3.0)
    assert degrees(found.rotations, truth[0]).max() < 27
    assert np.linalg.norm(found.offsets - truth[1], axis=1).max() < 1.2
    assert np.asarray(found.scores).min() > 0.5


def test_refinement_reaches_the_pose(blobs, wedge, imaged, truth):
    """Without noise from 8 degrees and 0.8 voxels away to 0.1 degrees and 0.01 voxels, score 1."""
    volumes = imaged(blobs, EDGE, *truth, wedge)
    start = disturbed(truth, 8.0, 0.8)
    transfer = wedge.transfer((EDGE,) * 3)
    found = refine(volumes, blobs(EDGE), start, transfer, 10, 3.0)
    assert degrees(found.rotations, truth[0]).max() < 0.1
    assert np.linalg.norm(found.offsets - truth[1], axis=1).max() < 0.01
    assert np.asarray(found.scores).min() > 0.9999
    held = refine(volumes, blobs(EDGE), start, transfer, 10, 0.1)
    moved = np.linalg.norm(held.offsets - start.offsets, axis=1)
    assert moved.max() <= 0.1 + 1e-5


def test_scores_only_rise_and_noise_is_survived(blobs, wedge, imaged, truth):
    volumes = imaged(blobs, EDGE, *truth, wedge, noise=1.0)
    start = disturbed(truth, 6.0, 0.6)
    transfer = wedge.transfer((EDGE,) * 3)
    before = refine(volumes, blobs(EDGE), start, transfer, 0, 3.0)
    after = refine(volumes, blobs(EDGE), start, transfer, 10, 3.0)
    assert (after.scores > before.scores).all()
    assert np.median(degrees(after.rotations, truth[0])) < 3


def test_alignment_searches_around_each_pose(blobs, wedge, imaged, truth):
    """From 12 degrees and 2 voxels away, where the gradient alone does not always arrive."""
    volumes = imaged(blobs, EDGE, *truth, wedge, noise=0.5)
    start = disturbed(truth, 12.0, 2.0)
    near = rotations_near(12.0, 6.0)
    align = jax.jit(functools.partial(align_particles, max_shift=3.0, steps=8))
    found = align(volumes, blobs(EDGE), start, wedge.transfer((EDGE,) * 3), near)
    assert degrees(found.rotations, truth[0]).max() < 2
    assert np.linalg.norm(found.offsets - truth[1], axis=1).max() < 0.2


def test_empty_volumes_and_other_shapes(blobs, wedge):
    transfer = wedge.transfer((EDGE,) * 3)
    nothing = jnp.zeros((2, EDGE, EDGE, EDGE))
    poses = Poses(jnp.tile(jnp.eye(3), (2, 1, 1)), jnp.zeros((2, 3)), jnp.zeros(2))
    found = search(nothing, blobs(EDGE), jnp.eye(3)[None], transfer, 3.0)
    assert (found.scores == 0).all()
    found = refine(nothing, blobs(EDGE), poses, transfer, 10, 3.0)
    assert all(np.isfinite(part).all() for part in found) and (found.scores == 0).all()
    with pytest.raises(ValueError, match="crop or pad"):
        search_poses(nothing, jnp.zeros((4, 4, 4)), jnp.eye(3)[None], transfer, 3.0)


def test_classes_are_told_apart(blobs, wedge, imaged):
    """Two structures at random poses, behind a wedge: from noisy starts all particles but few."""
    rng = np.random.default_rng(5)
    other = type(blobs)(seed=7)
    turns = Rotation.random(40, random_state=6).as_matrix()
    offsets = np.zeros((40, 3))
    first = imaged(blobs, EDGE, turns[:25], offsets[:25], wedge, noise=1.5, seed=1)
    second = imaged(other, EDGE, turns[25:], offsets[25:], wedge, noise=1.5, seed=2)
    volumes = jnp.concatenate([first, second])
    starts = np.stack([b(EDGE) for b in (blobs, other)])
    starts = starts + rng.normal(size=starts.shape).astype(np.float32) * starts.std() * 2
    poses = Poses(turns, offsets, np.zeros(40))
    found = classify_particles(volumes, starts.astype(np.float32), poses, wedge, max_shift=1.0)
    truth = np.arange(40) >= 25
    assert np.mean(found.classes == truth) > 0.94
    assert found.changed[-1] == 0 and len(found.changed) < 10
    averages = [
        np.corrcoef(found.references[i].ravel(), b(EDGE).ravel())[0, 1]
        for i, b in enumerate((blobs, other))
    ]
    assert min(averages) > 0.9
    with pytest.raises(ValueError, match="two or more"):
        classify_particles(volumes, starts[:1], poses)
