"""Methods are compared at thresholds that invent as much, or are as precise."""

import numpy as np
import pytest

from cryojax_seg import evaluate

SHAPE = (12, 24, 24)


@pytest.fixture(scope="module")
def scene():
    """Return the mask of a sheet, and probabilities that are higher on it."""
    rng = np.random.default_rng(0)
    truth = np.zeros(SHAPE, bool)
    truth[:, 10:13] = True
    score = 2.0 * truth - 1.5 + rng.normal(size=SHAPE)
    return truth, 1 / (1 + np.exp(-score))


def recall_at(p, truth, threshold):
    return (p >= threshold)[truth].mean()


def test_a_method_that_claims_more_finds_no_more_at_equal_invention(scene):
    truth, p = scene
    bolder = p**0.25  # the same ranking, with higher probabilities
    assert recall_at(bolder, truth, 0.5) > recall_at(p, truth, 0.5) + 0.05
    found = []
    for one in (p, bolder):
        ranking = evaluate.rank_inventions(one, truth)
        threshold = evaluate.threshold_of_invention(ranking, 0.1)
        found.append(recall_at(one, truth, threshold))
    # Both are read off bins of 1/16 in the log odds.
    assert found[0] == pytest.approx(found[1], abs=0.03)


@pytest.mark.parametrize("level", [0.02, 0.1, 0.5])
def test_the_threshold_invents_at_most_so_much_and_a_lower_one_more(scene, level):
    truth, p = scene
    far = np.ones(SHAPE, bool)
    far[:, 8:15] = False  # within two voxels of the sheet
    threshold = evaluate.threshold_of_invention(evaluate.rank_inventions(p, truth), level)

    def invented(t):
        return (far & (p >= t)).sum() / truth.sum()

    lower = 1 / (1 + np.exp(-(np.log(threshold / (1 - threshold)) - 0.0625)))
    assert invented(threshold) <= level < invented(lower)


def test_the_threshold_is_as_precise_as_asked(scene):
    truth, p = scene
    threshold = evaluate.threshold_of_precision(evaluate.rank(p, truth), 0.6)
    assert (truth & (p >= threshold)).sum() / (p >= threshold).sum() >= 0.6
    assert recall_at(p, truth, threshold) > 0.4
    assert evaluate.threshold_of_precision(evaluate.rank(p, truth), 0.0) < p.min()


def test_no_threshold_is_good_enough_for_a_false_claim_that_is_surest():
    truth = np.zeros((1, 1, 9), bool)
    truth[..., 0] = True
    p = np.full((1, 1, 9), 0.1)
    p[..., 8] = 1.0
    ranking = evaluate.rank_inventions(p, truth)
    assert evaluate.threshold_of_invention(ranking, 0.5) > 1


def test_voxels_without_annotation_are_no_inventions(scene):
    truth, p = scene
    weights = np.ones(SHAPE)
    weights[:, 15:] = 0
    ranking = evaluate.rank_inventions(p, truth, weights=weights)
    assert ranking.negative.sum() == SHAPE[0] * SHAPE[2] * 8  # rows 0 to 7
    assert ranking.positive.sum() == truth.sum()


def test_bad_arguments_are_refused(scene):
    truth, p = scene
    with pytest.raises(ValueError, match="from 0 to 1, got 60"):
        evaluate.threshold_of_precision(evaluate.rank(p, truth), 60)
    nothing = evaluate.rank_inventions(p, np.zeros(SHAPE, bool))
    with pytest.raises(ValueError, match="hold no structure"):
        evaluate.threshold_of_invention(nothing, 0.1)
    with pytest.raises(ValueError, match="shape"):
        evaluate.rank_inventions(p[1:], truth)
