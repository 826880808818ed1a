"""Pair correlation of point patterns whose correlation is known, in boxes and in masks."""

import numpy as np
import pytest

from cryojax_seg.measure import Region, pair_correlation

VOXEL = (10.0, 10.0, 10.0)
EDGES = np.linspace(0, 160, 9)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture(scope="module")
def box():
    return Region((30, 60, 60), VOXEL)


@pytest.fixture(scope="module")
def ball():
    grid = np.indices((50, 50, 50)) - 24.5
    return Region((50, 50, 50), VOXEL, np.sqrt((grid**2).sum(0)) <= 22.0)


def test_overlap_of_a_ball_with_itself_is_a_lens(ball):
    radius, moves = 220.0, np.array([0.0, 50.0, 150.0, 300.0, 460.0])
    lens = np.pi * (4 * radius + moves) * (2 * radius - moves) ** 2 / 12
    lens[moves > 2 * radius] = 0
    assert ball.volume_angstrom3 == pytest.approx(lens[0], rel=0.005)
    assert ball.overlap_angstrom3(moves) == pytest.approx(lens, rel=0.01, abs=1e-3 * lens[0])


def test_a_box_and_its_mask_overlap_alike(box):
    mask = Region(box.shape, VOXEL, np.ones(box.shape, bool))
    radii = np.array([10.0, 100.0, 250.0, 400.0])
    assert mask.overlap_angstrom3(radii) == pytest.approx(box.overlap_angstrom3(radii), rel=0.01)
    assert mask.volume_angstrom3 == box.volume_angstrom3
    # Coarser than it is given: 4 voxels in one.
    large = Region((120, 200, 200), VOXEL, np.ones((120, 200, 200), bool))
    plain = Region((120, 200, 200), VOXEL)
    assert large.overlap_angstrom3(radii) == pytest.approx(plain.overlap_angstrom3(radii), rel=0.01)


def test_points_are_uniform_and_know_their_border(box, ball, rng):
    points = ball.random_points(4000, rng)
    assert ball.contains(points).all()
    away = np.linalg.norm(points - 245, axis=1)
    assert np.median(away) == pytest.approx(220 * 0.5 ** (1 / 3), rel=0.02)
    assert ball.border_distance_angstrom(points) == pytest.approx(220 - away, abs=9)
    points = box.random_points(4000, rng)
    assert box.contains(points).all()
    low, high = points.min(0), points.max(0)
    assert low == pytest.approx([-5] * 3, abs=1) and high == pytest.approx([295, 595, 595], abs=1)
    inside = np.minimum(points + 5, np.array([295, 595, 595]) - points).min(1)
    assert box.border_distance_angstrom(points) == pytest.approx(inside)


@pytest.mark.parametrize("name", ["box", "ball"])
def test_random_points_have_no_correlation_and_stay_in_the_band(name, request, rng):
    """95 % of bins and 95 % of p values, over 60 patterns; g is 1 on average also at the edges."""
    region = request.getfixturevalue(name)
    g, inside, p = [], [], []
    for seed in range(60):
        points = region.random_points(120, rng)
        found = pair_correlation(points, region, EDGES[::2], 39, seed)
        g.append(found.g)
        bins = zip(found.random_low, found.g, found.random_high, strict=True)
        inside.append([low <= value <= high for low, value, high in bins])
        p.append(found.p_value)
    error = np.std(g, 0) / np.sqrt(60)
    assert (np.abs(np.mean(g, 0) - 1) < 3.5 * error).all()
    # With 39 patterns the band from 2.5 to 97.5 % holds a new one in 90 to 95 %.
    assert 0.87 < np.mean(inside) < 0.97
    assert np.mean(np.array(p) <= 0.05) < 0.13 and 0.35 < np.mean(p) < 0.65


def test_hard_core_points_are_never_near_and_clusters_are(box, rng):
    kept = []
    for point in box.random_points(4000, rng):
        if all(np.linalg.norm(point - q) > 60 for q in kept):
            kept.append(point)
        if len(kept) == 250:
            break
    hard = pair_correlation(np.array(kept), box, EDGES)
    assert hard.g[:3] == (0.0, 0.0, 0.0)
    assert hard.random_low[2] > 0 and hard.p_value == pytest.approx(0.01)
    parents = box.random_points(40, rng)
    points = (parents[:, None] + 15 * rng.normal(size=(40, 6, 3))).reshape(-1, 3)
    points = points[box.contains(points)]
    clustered = pair_correlation(points, box, EDGES)
    assert all(np.array(clustered.g[:3]) > np.array(clustered.random_high[:3]))
    assert clustered.p_value == pytest.approx(0.01)
    # K is the integral of g: far beyond the clusters it has their pairs more than chance.
    k = np.array(clustered.ripley_k_nm3)
    chance = 4 / 3 * np.pi * 0.1**3 * EDGES[1:] ** 3
    assert k[-1] > chance[-1] + 0.5 * (k[3] - chance[3])


def test_thomas_clusters_have_the_correlation_of_theory(rng):
    """``g(r) = 1 + exp(-r^2 / 4 s^2) / ((4 pi s^2)^(3/2) parents)`` (Stoyan & Stoyan 1994)."""
    box, sigma, parents = Region((60, 60, 60), VOXEL), 30.0, 150
    edges = np.array([20.0, 40.0, 60.0, 80.0, 120.0])
    found = []
    for seed in range(15):
        # Parents also outside, whose points may lie inside.
        wide = rng.uniform(-150, 740, (rng.poisson(parents * (890 / 600) ** 3), 3))
        points = np.concatenate([p + sigma * rng.normal(size=(rng.poisson(6), 3)) for p in wide])
        points = points[box.contains(points)]
        found.append(pair_correlation(points, box, edges, 19, seed).g)
    middle = (edges[1:] + edges[:-1]) / 2
    theory = 1 + np.exp(-(middle**2) / (4 * sigma**2)) / (
        (4 * np.pi * sigma**2) ** 1.5 * parents / box.volume_angstrom3
    )
    assert np.mean(found, 0) == pytest.approx(theory, rel=0.12)


def test_bad_input(box):
    points = np.zeros((3, 3))
    with pytest.raises(ValueError, match="edges_angstrom"):
        pair_correlation(points, box, np.array([10.0, 5.0]))
    with pytest.raises(ValueError, match="simulations"):
        pair_correlation(points, box, EDGES, 5)
    with pytest.raises(ValueError, match="region is empty"):
        Region((2, 2, 2), VOXEL, np.zeros((2, 2, 2), bool))
    with pytest.raises(ValueError, match="region has shape"):
        Region((2, 2, 2), VOXEL, np.zeros((2, 2, 3), bool))
    assert pair_correlation(points[:1], box, EDGES) is None
