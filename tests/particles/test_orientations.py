"""Grids of rotations: evenly spread, and covering what they say."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryojax_seg.particles import (
    covering_angle,
    normals_at,
    orientations_from_normals,
    rotations_near,
    rotations_within,
    uniform_rotations,
)


def test_rotations_are_spread_evenly():
    """Moments of Haar measure: E[R] = 0, E[R_ij R_kl] = delta_ik delta_jl / 3."""
    turns = uniform_rotations(1000)
    np.testing.assert_allclose(
        turns @ turns.transpose(0, 2, 1), np.tile(np.eye(3), (1000, 1, 1)), atol=1e-12
    )
    assert np.allclose(np.linalg.det(turns), 1)
    assert np.abs(turns.mean(0)).max() < 0.005  # 0.02 for random ones
    second = np.einsum("nij,nkl->ijkl", turns, turns) / 1000
    expected = np.einsum("ik,jl->ijkl", np.eye(3), np.eye(3)) / 3
    assert np.abs(second - expected).max() < 0.005
    # Angles are distributed as (angle - sin angle) / pi.
    angle = np.sort(np.arccos(np.clip((np.trace(turns, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    share = (angle - np.sin(angle)) / np.pi
    assert np.abs(share - (np.arange(1000) + 0.5) / 1000).max() < 0.02  # 0.04 for random ones


@pytest.mark.parametrize("count, largest, mean", [(100, 52, 26.2), (1000, 23, 12.0)])
def test_covering_angles(count, largest, mean):
    found = covering_angle(uniform_rotations(count), 50_000)
    assert 0.9 * largest < found[0] < largest and 0.95 * mean < found[1] < mean
    random = Rotation.random(count, random_state=0).as_matrix()
    assert covering_angle(random, 50_000)[0] > 1.2 * found[0]


def test_a_step_is_covered():
    for step in (40.0, 20.0):
        assert covering_angle(rotations_within(step), 50_000)[0] < step
    with pytest.raises(ValueError, match="step must be between 2 and 180"):
        rotations_within(0.5)
    with pytest.raises(ValueError, match="count must be 1"):
        uniform_rotations(0)


def test_a_local_grid_covers_its_ball():
    angle, step = 15.0, 5.0
    near = rotations_near(angle, step)
    turned = np.rad2deg(Rotation.from_matrix(near).magnitude())
    assert turned.max() <= angle + step / 4 + 1e-6 and turned.min() == 0
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3000, 3))
    vectors *= np.deg2rad(angle - step / 2) / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors *= rng.uniform(0, 1, (3000, 1)) ** (1 / 3)
    inverse = Rotation.from_rotvec(vectors).inv()
    away = np.min([np.rad2deg((Rotation.from_matrix(n) * inverse).magnitude()) for n in near], 0)
    assert away.max() < 0.66 * step
    np.testing.assert_array_equal(rotations_near(0.0, 5.0), [np.eye(3)])
    with pytest.raises(ValueError, match="0 < step"):
        rotations_near(5.0, 0.0)


def test_the_axis_of_the_reference_goes_to_the_normal():
    normals = np.random.default_rng(0).normal(size=(50, 3))
    normals[:2] = [[1, 0, 0], [-2, 0, 0]]
    for seed in (None, 3):
        turns = orientations_from_normals(normals, seed)
        unit = normals / np.linalg.norm(normals, axis=1, keepdims=True)
        np.testing.assert_allclose(turns[:, :, 0], unit, atol=1e-12)
        assert np.allclose(np.linalg.det(turns), 1)
    np.testing.assert_allclose(orientations_from_normals(normals)[0], np.eye(3), atol=1e-12)
    least = np.rad2deg(Rotation.from_matrix(orientations_from_normals(normals)).magnitude())
    np.testing.assert_allclose(least, np.rad2deg(np.arccos(unit[:, 0])), atol=1e-5)
    with pytest.raises(ValueError, match="longer than 0"):
        orientations_from_normals(np.zeros((1, 3)))
    assert orientations_from_normals(np.zeros((0, 3))).shape == (0, 3, 3)


def test_normals_of_a_vesicle_point_away_from_it():
    """On a sphere the normal is the radius, to 4 degrees for particles on either side."""
    size, radius = 48, 15.0
    grid = np.indices((size,) * 3) - (size - 1) / 2
    distance = np.sqrt(np.square(grid).sum(0))
    wall = np.abs(distance - radius) < 2
    direction = np.random.default_rng(0).normal(size=(40, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    for at, sign in ((radius + 5, 1), (radius - 5, -1)):
        normals = normals_at(direction * at + (size - 1) / 2, wall)
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
        assert np.rad2deg(np.arccos(np.sum(sign * normals * direction, 1))).max() < 4
    within = normals_at(direction * radius + (size - 1) / 2, wall)
    assert np.rad2deg(np.arccos(np.abs(np.sum(within * direction, 1)))).max() < 12
    solid = normals_at(direction * (radius - 1) + (size - 1) / 2, distance < radius)
    assert np.sum(solid * direction, 1).min() > 0.99
    with pytest.raises(ValueError, match="empty or full"):
        normals_at(direction, np.zeros((4, 4, 4), bool))
