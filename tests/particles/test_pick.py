"""Picks: where particles are, once each, and only where they may be."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from cryojax_seg import evaluate
from cryojax_seg.core import Particles
from cryojax_seg.particles import distances_to, inside_mask, pick_peaks, pick_regions

SHAPE = (40, 48, 56)


def blurred(centres, heights, sigma):
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    parts = [
        h * np.exp(-np.square(grid - c).sum(-1) / (2 * sigma**2))
        for c, h in zip(centres, heights, strict=True)
    ]
    return np.max(parts, 0).astype(np.float32)


@pytest.fixture
def scene():
    """Particles of 10 voxels on a jittered lattice, 12 or more apart."""
    rng = np.random.default_rng(0)
    lattice = np.stack(np.meshgrid(*[np.arange(8, n - 6, 14) for n in SHAPE], indexing="ij"), -1)
    centres = lattice.reshape(-1, 3) + rng.uniform(-1, 1, (lattice.size // 3, 3))
    return centres, rng.uniform(0.5, 0.9, len(centres))


def test_peaks_are_found_to_a_tenth_of_a_voxel(scene):
    centres, heights = scene
    found = pick_peaks(blurred(centres, heights, 2.5), 10.0, 0.3)
    assert len(found) == len(centres)
    assert cdist(centres, found.coordinates).min(1).max() < 0.1
    assert (np.diff(found.scores) <= 0).all()


def test_suppression_is_at_the_diameter_and_nested_in_the_threshold():
    scores = np.random.default_rng(0).uniform(size=SHAPE).astype(np.float32)
    found = pick_peaks(scores, 7.0, 0.9)
    whole = np.rint(found.coordinates)
    apart = np.linalg.norm(whole[:, None] - whole[None], axis=-1) + 99 * np.eye(len(found))
    assert apart.min() >= 7.0
    # No voxel that is a local maximum above the threshold is far from all picks.
    higher = pick_peaks(scores, 7.0, 0.97)
    np.testing.assert_array_equal(
        higher.coordinates, found.coordinates[found.scores >= np.float32(0.97)]
    )
    assert len(pick_peaks(scores, 7.0, 2.0)) == 0


def test_touching_regions_are_split_and_specks_left_out():
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    centres = np.array([[20.0, 20, 15], [20, 20, 24.5], [20, 34, 40]])
    inside = [np.linalg.norm(grid - c, axis=-1) < 5.5 for c in centres]
    probability = np.max(inside, 0).astype(np.float32) * 0.8
    probability[2, 2, 2] = 0.9  # a speck
    found = pick_regions(probability, 11.0, 0.5)
    assert len(found) == 3
    for centre in centres:
        assert np.linalg.norm(found.coordinates - centre, axis=1).min() < 0.6
    assert len(pick_regions(probability, 11.0, 0.5, smallest=0.0)) == 4
    one = pick_regions(probability, 11.0, 0.5, mask=grid[..., 2] > 30)
    np.testing.assert_allclose(one.coordinates, [centres[2]], atol=0.2)


def test_nothing_gives_nothing():
    empty = np.zeros((6, 6, 6), np.float32)
    for found in (pick_peaks(empty, 3.0, 0.5), pick_regions(empty, 3.0, 0.5)):
        assert len(found) == 0 and found.scores.shape == (0,)
    damaged = empty + np.nan
    assert len(pick_peaks(damaged, 3.0, 0.5)) == 0
    with pytest.raises(ValueError, match="diameter must be positive"):
        pick_peaks(empty, 0.0, 0.5)
    with pytest.raises(ValueError, match="threshold must be a number"):
        pick_regions(empty, 3.0, float("nan"))


def test_a_compartment_and_a_distance_restrict_them():
    grid = np.indices(SHAPE)
    compartment = grid[2] < 20
    membrane = grid[2] == 20
    particles = Particles([[5.0, 5, 19.4], [5, 5, 19.6], [5, 5, 30.25], [5, 5, 99], [-3, 5, 5]])
    assert inside_mask(particles, compartment).tolist() == [True, False, False, False, False]
    found = distances_to(particles, membrane)
    np.testing.assert_allclose(found[[0, 2]], [0.6, 10.25], atol=1e-6)
    assert np.isinf(distances_to(particles, membrane & False)).all()
    mask = pick_peaks(np.ones(SHAPE, np.float32) * 0.7, 12.0, 0.5, compartment)
    assert len(mask) and inside_mask(mask, compartment).all()


def test_the_threshold_has_the_highest_f_beta():
    """Against trying all; recall counts more with a larger beta, so the threshold falls."""
    rng = np.random.default_rng(0)
    truth, picks = [], []
    for _ in range(2):
        there = rng.uniform(0, 400, (30, 3))
        noise = rng.uniform(0, 400, (40, 3))
        found = np.concatenate([there[:25] + rng.normal(size=(25, 3)), noise])
        scores = np.concatenate([rng.normal(0.7, 0.15, 25), rng.normal(0.4, 0.15, 40)])
        truth.append(there)
        picks.append((found, scores))
    values = {}
    for beta in (0.5, 1.0, 4.0):
        fitted = evaluate.fit_threshold(picks, truth, 10.0, beta)
        tried = []
        for t in np.linspace(0, 1, 400):
            counts = evaluate.Detection(0, 0, 0)
            for (centres, scores), there in zip(picks, truth, strict=True):
                counts += evaluate.detection(centres[scores >= t], there, 10.0)
            tried.append(counts.f_beta(beta))
        assert fitted.counts.f_beta(beta) >= max(tried) - 1e-12
        values[beta] = fitted.value
    assert values[0.5] >= values[1.0] >= values[4.0] and values[0.5] > values[4.0]
    with pytest.raises(ValueError, match="nothing was picked"):
        evaluate.fit_threshold([(np.zeros((0, 3)), np.zeros(0))], [truth[0]], 10.0)
