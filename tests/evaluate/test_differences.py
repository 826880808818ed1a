"""Intervals of differences cover the truth, and decide claims."""

import numpy as np
import pytest

from cryojax_seg.evaluate import Claim, paired_difference


def experiment(rng, difference, seeds=5, scenes=8, objects=4):
    """Return scores of two methods with effects of seeds, scenes and objects on both and each."""
    count = scenes * objects
    scene = np.repeat(np.arange(scenes), objects)
    size = rng.uniform(50, 150, count)
    shared = rng.normal(0, 0.2, scenes)[scene] + rng.normal(0, 0.1, count)
    rates = []
    for shift in (difference, 0.0):
        own = rng.normal(0, 0.03, (seeds, 1)) + rng.normal(0, 0.03, scenes)[scene]
        rates.append(0.6 + shift + shared + own + rng.normal(0, 0.03, (seeds, count)))
    return rates[0] * size, rates[1] * size, size, scene


def test_intervals_cover_the_true_difference():
    rng = np.random.default_rng(0)
    inside, widths = [], []
    for _ in range(100):
        one = paired_difference(*experiment(rng, 0.05), resamples=300)
        low, high = one.interval
        inside.append(low <= 0.05 <= high)
        widths.append(high - low)
    # A binomial of 100 with 0.95 is below 0.89 in one of 200 cases.
    assert np.mean(inside) >= 0.89
    # Without pairs, the effects of scenes alone would give 4 * 0.2 * sqrt(2 / 8) = 0.4.
    assert np.median(widths) < 0.15


def test_objects_of_one_scene_are_not_independent():
    rng = np.random.default_rng(1)
    found, other, size, scene = experiment(rng, 0.0, seeds=1, scenes=4, objects=16)
    together = paired_difference(found, other, size, scene).interval
    apart = paired_difference(found, other, size).interval
    assert together[1] - together[0] > 1.2 * (apart[1] - apart[0])


def test_the_mean_weighs_objects_by_their_size():
    one = paired_difference(np.array([[10.0, 0.0]]), np.zeros((1, 2)), np.array([10.0, 90.0]))
    assert one.mean == pytest.approx(0.1)


def test_a_single_value_has_no_interval():
    one = paired_difference(np.array([[1.0]]), np.array([[0.5]]))
    assert one.mean == 0.5 and one.interval is None
    assert Claim("better", one.mean, one.interval, 0.0).verdict == "not resolved"


@pytest.mark.parametrize(
    ("interval", "at_most", "verdict"),
    [
        ((0.1, 0.3), False, "met"),
        ((-0.3, -0.1), False, "missed"),
        ((-0.1, 0.1), False, "not resolved"),
        ((0.1, 0.3), True, "missed"),
        ((-0.3, -0.1), True, "met"),
        ((-0.1, 0.1), True, "not resolved"),
    ],
)
def test_a_claim_is_decided_by_its_whole_interval(interval, at_most, verdict):
    assert Claim("gain", 0.0, interval, 0.0, at_most).verdict == verdict


def test_bad_scores_are_refused():
    scores = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"same seeds and objects.*\(2, 3\) and \(1, 3\)"):
        paired_difference(scores, scores[:1])
    with pytest.raises(ValueError, match="each of 3 objects"):
        paired_difference(scores, scores, np.ones(2))
    with pytest.raises(ValueError, match="finite"):
        paired_difference(scores * np.nan, scores)
