"""Template matching against sums by hand, and planted particles found."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryojax_seg.particles import match_template, rotate, soft_sphere, uniform_rotations

EDGE = 15


def by_hand(volume, template, mask, where):
    """The score from its definition at one voxel."""
    low = [w - t // 2 for w, t in zip(where, template.shape, strict=True)]
    part = volume[tuple(slice(a, a + t) for a, t in zip(low, template.shape, strict=True))]

    def centred(values):
        return values - (mask * values).sum() / mask.sum()

    a, b = centred(template), centred(part)
    return (mask * a * b).sum() / np.sqrt((mask * a * a).sum() * (mask * b * b).sum())


def test_scores_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    template = rng.normal(size=(7, 8, 9)).astype(np.float32)
    volume = (5 + 3 * rng.normal(size=(20, 21, 22))).astype(np.float32)
    mask = np.asarray(soft_sphere(template.shape, 2.0, 2.0))
    found = match_template(volume, template, np.eye(3)[None], mask=mask)
    for where in [(3, 4, 4), (10, 11, 12), (16, 17, 17), (8, 6, 15)]:
        expected = by_hand(volume, template, mask, where)
        assert found.scores[where] == pytest.approx(expected, abs=1e-4)
    assert np.abs(found.scores).max() < 1


def test_a_perfect_match_scores_one_behind_its_wedge(blobs, wedge):
    """Also for any gain and offset, at a rotation of the list."""
    turns = Rotation.random(4, random_state=0).as_matrix().astype(np.float32)
    turned = np.asarray(rotate(blobs(EDGE), turns[2]))
    volume = np.zeros((32, 30, 34), np.float32)
    volume[8 : 8 + EDGE, 9 : 9 + EDGE, 7 : 7 + EDGE] = np.asarray(wedge.apply(turned))
    found = match_template(40 - 0.3 * -volume, blobs(EDGE), turns, wedge)
    where = np.unravel_index(found.scores.argmax(), found.scores.shape)
    assert where == (8 + EDGE // 2, 9 + EDGE // 2, 7 + EDGE // 2)
    assert found.scores[where] == pytest.approx(1, abs=2e-4) and found.numbers[where] == 2
    assert found.scores.max() <= 1 + 2e-4


def test_planted_particles_are_found_with_their_poses(blobs, wedge):
    """Eight at poses of a grid, noise of twice the particles' deviation, behind the wedge."""
    rng = np.random.default_rng(1)
    turns = uniform_rotations(60)
    where = np.array([[z, y, x] for z in (10, 28) for y in (11, 33) for x in (12, 35)])
    chosen = rng.integers(0, 60, 8)
    volume = np.zeros((40, 44, 48), np.float32)
    for place, number in zip(where, chosen, strict=True):
        low = place - EDGE // 2
        part = tuple(slice(a, a + EDGE) for a in low)
        volume[part] += blobs(EDGE, turns[number])
    noise = rng.normal(size=volume.shape) * 2 * blobs(EDGE).std()
    volume = np.asarray(wedge.apply((volume + noise).astype(np.float32)))
    whole = match_template(volume, blobs(EDGE), turns, wedge)
    scores = whole.scores.copy()
    for _ in range(8):  # the eight highest, each with its neighbourhood taken out
        peak = np.array(np.unravel_index(scores.argmax(), scores.shape))
        distance = np.linalg.norm(where - peak, axis=1)
        assert distance.min() < 1.5
        assert whole.numbers[tuple(peak)] == chosen[distance.argmin()]
        scores[tuple(slice(max(p - 8, 0), p + 9) for p in peak)] = 0
    assert scores.max() < 0.8 * whole.scores.max()
    tiled = match_template(volume, blobs(EDGE), turns, wedge, memory=0.002)
    np.testing.assert_allclose(tiled.scores, whole.scores, atol=2e-5)
    assert (tiled.numbers == whole.numbers).mean() > 0.999


def test_flat_and_damaged_volumes_and_bad_templates(blobs):
    flat = np.full((20, 20, 20), 3.0, np.float32)
    turns = np.eye(3)[None]
    assert (match_template(flat, blobs(EDGE), turns).scores == 0).all()
    flat[:, :, 10:] = np.random.default_rng(0).normal(size=(20, 20, 10))
    flat[0, 0, 0] = np.nan
    scores = match_template(flat, blobs(EDGE), turns).scores
    assert np.isfinite(scores).all() and np.abs(scores).max() < 1 + 1e-4
    with pytest.raises(ValueError, match="constant under its mask"):
        match_template(flat, np.ones((8, 8, 8), np.float32), turns)
    with pytest.raises(ValueError, match="larger than the volume"):
        match_template(flat, blobs(24), turns)
    with pytest.raises(ValueError, match="differ in shape"):
        match_template(flat, blobs(EDGE), turns, mask=np.ones((3, 3, 3), np.float32))
