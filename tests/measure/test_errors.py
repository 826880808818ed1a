"""Intervals of sizes of predicted objects against errors that are known because they were made."""

import math

import numpy as np
import pytest

from cryojax_seg import measure


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def made(rng, count, shift=0.1, slope=0.3, spread=0.05, growth=1.5):
    """Objects whose measured size is off by a Gaussian that widens with the doubt."""
    doubt = rng.uniform(0, 1, count)
    true = np.exp(rng.normal(5, 1, count))
    error = shift + slope * doubt + spread * np.exp(growth * doubt) * rng.normal(size=count)
    return true / np.exp(error), true, doubt


def holds(errors, measured, true, doubt):
    found = [errors.measured(m, d) for m, d in zip(measured, doubt, strict=True)]
    return np.array([f.low <= t <= f.high for f, t in zip(found, true, strict=True)])


def test_the_errors_are_found_and_19_of_20_new_objects_are_covered(rng):
    shares = []
    for _ in range(20):
        errors = measure.fit_size_errors(*made(rng, 300))
        assert errors.shift == pytest.approx((0.1, 0.3), abs=0.06)
        assert errors.bias(1.0) == pytest.approx(math.exp(0.4), rel=0.06)
        measured, true, doubt = made(rng, 300)
        inside = holds(errors, measured, true, doubt)
        shares.append(inside.mean())
        clear, unclear = doubt < 0.3, doubt > 0.7
        assert abs(inside[clear].mean() - inside[unclear].mean()) < 0.15
    assert np.mean(shares) == pytest.approx(0.95, abs=0.012)


def test_few_scenes_have_the_wider_limit_of_students_t(rng):
    shares = []
    for _ in range(200):
        parts = made(rng, 13, slope=0, growth=0)
        errors = measure.fit_size_errors(*(part[:12] for part in parts))
        shares.append(holds(errors, *(part[12:] for part in parts)).mean())
    assert np.mean(shares) == pytest.approx(0.95, abs=0.05)


def test_kinds_of_scenes_that_differ_widen_the_interval(rng):
    """Presets that are biased in their own way cover a preset that nobody saw."""
    shares, widths = [], {"known": [], "blind": []}
    for _ in range(60):
        parts = [made(rng, 60, shift=rng.normal(0, 0.2), slope=0, growth=0) for _ in range(7)]
        *seen, unseen = parts
        together = [np.concatenate(column) for column in zip(*seen, strict=True)]
        groups = np.repeat(np.arange(6), 60)
        for name, of in (("known", groups), ("blind", None)):
            errors = measure.fit_size_errors(*together, of)
            widths[name].append(errors.limit * math.exp(errors.spread[0]))
            if name == "known":
                shares.append(holds(errors, *unseen).mean())
    assert np.mean(widths["known"]) > np.mean(widths["blind"])
    assert np.mean(shares) > 0.85


def test_what_is_too_doubtful_is_not_measured(rng):
    errors = measure.fit_size_errors(*made(rng, 200), most=0.5)
    assert errors.objects == pytest.approx(100, abs=25)
    assert errors.measured(10.0, 0.5).low is not None
    assert errors.measured(10.0, 0.6) == errors.measured(10.0, math.inf) == (10.0, None, None)


def test_openness_of_caps_and_of_nothing():
    """A cap of a sphere of radius R and height h has an area of 2 pi R h and an edge."""
    for height in (0.2, 1.0, 1.8):
        edge = 2 * math.pi * math.sqrt(1 - (1 - height) ** 2)
        expected = (1 - (1 - height) ** 2) / (2 * height)
        assert measure.openness(edge, 2 * math.pi * height) == pytest.approx(expected)
    assert measure.openness(0.0, 5.0) == 0 and measure.openness(1.0, 0.0) == math.inf


def test_too_few_objects_and_sizes_of_zero_are_refused(rng):
    measured, true, doubt = made(rng, 30)
    with pytest.raises(ValueError, match="10 objects"):
        measure.fit_size_errors(measured[:9], true[:9], doubt[:9])
    with pytest.raises(ValueError, match="above 0"):
        measure.fit_size_errors(measured, 0 * true, doubt)
