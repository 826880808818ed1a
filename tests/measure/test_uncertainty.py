"""Intervals from probabilities: does the truth lie in them as often as they say?"""

import math

import numpy as np
import pytest
from scipy import ndimage, special

from cryojax_seg import measure

RADIUS, SPREAD, SIZE = 9.0, 1.0, 28


@pytest.fixture(scope="module")
def depth():
    """Distance to the centre."""
    return np.linalg.norm(np.indices((SIZE,) * 3) - (SIZE - 1) / 2, axis=0).astype(np.float32)


@pytest.mark.parametrize("correlation", [0, 1.5, math.inf])
def test_every_voxel_is_foreground_with_its_probability(correlation):
    p = np.linspace(0, 1, 11, dtype=np.float32)[:, None, None] * np.ones((11, 12, 12), np.float32)
    count = 100
    mean = np.mean(list(measure.sample_masks(p, 1, count, correlation)), axis=0).mean((1, 2))
    assert mean[0] == 0 and mean[-1] == 1
    # A plane of independent samples; the levels of an infinite correlation are stratified.
    np.testing.assert_allclose(mean, p[:, 0, 0], atol=0.02)


def test_samples_have_the_correlation_that_was_asked_for():
    """Two voxels of p = 1/2 agree with probability 1/2 + asin(rho) / pi (Sheppard 1899)."""
    p = np.full((1, 60, 60), 0.5, np.float32)
    masks = np.array(list(measure.sample_masks(p, 0, 100, 4.0)))
    for shift in (1, 4, 8):
        agree = (masks[..., shift:] == masks[..., :-shift]).mean()
        rho = math.exp(-(shift**2) / 2 / 4.0**2)
        assert agree == pytest.approx(0.5 + math.asin(rho) / math.pi, abs=0.015)


@pytest.mark.parametrize("correlation", [0.0, 2.0, 5.0])
def test_variance_of_the_volume_is_that_of_drawn_masks(depth, correlation):
    p = special.ndtr((RADIUS - depth) / SPREAD).astype(np.float32)
    soft = measure.soft_volume(p, (2.0, 1.0, 1.0), correlation)
    samples = [2.0 * m.sum() for m in measure.sample_masks(p, 3, 200, correlation)]
    assert soft.value == pytest.approx(2.0 * p.sum(), rel=1e-6)
    # 200 samples know a standard deviation to 5 %.
    assert (soft.high - soft.low) / 2 / 1.96 == pytest.approx(np.std(samples), rel=0.15)


def truths(depth, correlation, count):
    """Balls whose boundary is off by a Gaussian of spread 1 voxel that varies over its surface."""
    rng = np.random.default_rng(11)
    for _ in range(count):
        if math.isinf(correlation):
            yield depth < RADIUS + SPREAD * rng.normal()
            continue
        wide = ndimage.gaussian_filter(rng.normal(size=(SIZE + 24,) * 3), correlation / 2**0.5)
        off = wide[12:-12, 12:-12, 12:-12] * (2 * math.sqrt(math.pi) * correlation / 2**0.5) ** 1.5
        yield depth < RADIUS + SPREAD * off


@pytest.mark.parametrize("true", [4.0, math.inf])
def test_coverage_of_the_volume(depth, true):
    """95 % with the right length, everything with an infinite one, too little with a short one."""
    p = special.ndtr((RADIUS - depth) / SPREAD).astype(np.float32)
    volumes = [float(mask.sum()) for mask in truths(depth, true, 150)]

    def coverage(found):
        return np.mean([found.low <= v <= found.high for v in volumes])

    right = coverage(measure.soft_volume(p, correlation=true))
    assert right == pytest.approx(0.95, abs=0.045)  # 2.5 standard errors of 150 truths
    assert coverage(measure.soft_volume(p, correlation=1.0)) < 0.75
    drawn = measure.with_interval(lambda m: float(m.sum()), p, 0, 80, true)
    assert coverage(drawn) == pytest.approx(0.95, abs=0.06)
    assert coverage(measure.soft_volume(p)) >= right


def test_coverage_where_the_whole_structure_is_displaced():
    """A ball displaced by a Gaussian is a blurred ball; its upper half gains what the lower loses.

    The error turns its sign over the diameter: an infinite length covers more than it says.
    """
    rng = np.random.default_rng(2)
    grid = np.indices((SIZE,) * 3) - (SIZE - 1) / 2

    def ball(shift):
        away = np.linalg.norm(grid - shift.reshape(3, 1, 1, 1), axis=0)
        return np.clip(RADIUS + 0.5 - away, 0, 1)

    p = ndimage.gaussian_filter(ball(np.zeros(3)), SPREAD)[SIZE // 2 :]
    halves = [ball(rng.normal(size=3) * SPREAD)[SIZE // 2 :].sum() for _ in range(100)]
    found = {c: measure.soft_volume(p, correlation=c) for c in (RADIUS, math.inf)}
    share = {c: np.mean([f.low <= v <= f.high for v in halves]) for c, f in found.items()}
    assert share[RADIUS] >= 0.93 and share[math.inf] >= 0.99
    width = {c: f.high - f.low for c, f in found.items()}
    assert width[RADIUS] < 0.8 * width[math.inf]


def test_nothing_and_certainty_have_no_spread():
    for p in (np.zeros((3, 4, 5), np.float32), np.ones((3, 4, 5), np.float32)):
        total = float(p.sum())
        for correlation in (0, 2.0, math.inf):
            assert measure.soft_volume(p, correlation=correlation) == (total, total, total)
            assert all((m == (p > 0.5)).all() for m in measure.sample_masks(p, 0, 3, correlation))
    empty = np.zeros((0, 4, 4), np.float32)
    assert measure.soft_volume(empty).value == 0


def test_what_is_no_probability_is_refused():
    with pytest.raises(ValueError, match="sigmoid"):
        next(measure.sample_masks(np.full((2, 2, 2), 3.0, np.float32)))
    with pytest.raises(ValueError, match="correlation"):
        next(measure.sample_masks(np.zeros((2, 2, 2), np.float32), correlation=-1.0))
    with pytest.raises(ValueError, match="count"):
        next(measure.sample_masks(np.zeros((2, 2, 2), np.float32), count=0))


def test_interval_of_an_object_that_is_there(depth):
    """A ball of uncertain radius that exists in three of four samples: its size is what it is."""
    whole = special.ndtr((RADIUS - depth) / SPREAD)
    p = (0.75 * whole).astype(np.float32)
    low, high = measure.interval_if_present(lambda m: float(m.sum()), p, 2)
    volumes = [float(mask.sum()) for mask in truths(depth, math.inf, 150)]
    assert np.mean([low <= v <= high for v in volumes]) == pytest.approx(0.95, abs=0.045)
    assert measure.soft_volume(p).low == 0  # with the chance that it is not there


def test_interval_of_an_area_covers_balls_of_uncertain_radius(depth):
    p = special.ndtr((RADIUS - depth) / SPREAD).astype(np.float32)
    low, high = measure.interval_if_present(measure.boundary_area, p)
    rng = np.random.default_rng(5)
    areas = 4 * np.pi * (RADIUS + SPREAD * rng.normal(size=400)) ** 2
    assert np.mean((areas >= low) & (areas <= high)) == pytest.approx(0.95, abs=0.03)
