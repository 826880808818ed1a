"""Scores against scikit-image, SciPy, brute force and analytic shapes."""

import json

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from cryojax_seg import evaluate
from cryojax_seg.core import MissingWedge
from cryojax_seg.errors import ParameterError
from cryojax_seg.evaluate.surface import _boundary


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def ball(radius, size=40, centre=None):
    grid = np.indices((size,) * 3) - (
        np.full(3, (size - 1) / 2) if centre is None else centre
    ).reshape(3, 1, 1, 1)
    return np.sqrt((grid**2).sum(0)) <= radius


CLASSES = ("background", "membrane", "filament", "ribosome")


def test_overlap_matches_sets_for_every_class(rng):
    truth = rng.integers(0, 4, (6, 7, 8))
    prediction = rng.integers(0, 4, (6, 7, 8))
    scores = evaluate.overlap(prediction, truth, classes=CLASSES)
    assert list(scores) == list(CLASSES[1:])
    for label, name in enumerate(CLASSES[1:], 1):
        p, t = set(np.flatnonzero(prediction == label)), set(np.flatnonzero(truth == label))
        score = scores[name]
        assert score.dice == pytest.approx(2 * len(p & t) / (len(p) + len(t)))
        assert score.iou == pytest.approx(len(p & t) / len(p | t))
        assert score.precision == pytest.approx(len(p & t) / len(p))
        assert score.recall == pytest.approx(len(p & t) / len(t))


def test_overlap_of_half_overlapping_balls_is_the_lens_volume():
    radius, shift = 12.0, 12.0
    a = ball(radius, 48, np.array([23.5, 23.5, 17.5]))
    b = ball(radius, 48, np.array([23.5, 23.5, 17.5 + shift]))
    lens = np.pi * (4 * radius + shift) * (2 * radius - shift) ** 2 / 12
    dice = evaluate.overlap(a.astype(int), b.astype(int))["foreground"].dice
    assert dice == pytest.approx(lens / (4 / 3 * np.pi * radius**3), abs=0.01)


def test_ignored_voxels_have_no_effect_on_any_score(rng):
    truth = rng.integers(0, 2, (6, 6, 6))
    p = rng.uniform(size=(6, 6, 6, 1))
    weights = rng.integers(0, 2, (6, 6, 6)).astype(float)
    spoiled_truth = np.where(weights > 0, truth, 200)
    spoiled_p = np.where(weights[..., None] > 0, p, np.nan)
    prediction = (p[..., 0] > 0.5).astype(int)
    spoiled_prediction = np.where(weights > 0, prediction, -7)
    for function, clean, spoiled in (
        (evaluate.overlap, prediction, spoiled_prediction),
        (evaluate.expected_calibration_error, p, spoiled_p),
        (evaluate.brier_score, p, spoiled_p),
    ):
        assert function(clean, truth, weights) == function(spoiled, spoiled_truth, weights)
    a = evaluate.surface_dice(prediction > 0, truth > 0, 1.0, weights=weights)
    b = evaluate.surface_dice(spoiled_prediction != 0, spoiled_truth != 0, 1.0, weights=weights)
    c = evaluate.surface_dice(
        np.where(weights > 0, prediction > 0, True), np.where(weights > 0, truth > 0, False), 1.0,
        weights=weights,
    )  # fmt: skip
    assert a == c
    assert b is not None


def test_weights_enter_the_sums():
    truth, prediction = np.array([[[1, 1, 0]]]), np.array([[[1, 0, 1]]])
    score = evaluate.overlap(prediction, truth, np.array([[[2.0, 1.0, 3.0]]]))["foreground"]
    assert (score.true_positive, score.false_negative, score.false_positive) == (2.0, 1.0, 3.0)
    assert score.dice == pytest.approx(4 / 8)


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        (0, 0, (None, None, None, None)),
        (1, 0, (0.0, 0.0, 0.0, None)),
        (0, 1, (0.0, 0.0, None, 0.0)),
        (1, 1, (1.0, 1.0, 1.0, 1.0)),
    ],
)
def test_what_is_undefined_is_none_and_what_is_wrong_is_zero(predicted, true, expected):
    shape = (3, 3, 3)
    score = evaluate.overlap(np.full(shape, predicted), np.full(shape, true))["foreground"]
    assert (score.dice, score.iou, score.precision, score.recall) == expected


def test_bad_input_is_refused_with_its_reason():
    a, b = np.zeros((2, 2, 2), int), np.zeros((2, 2, 3), int)
    with pytest.raises(ValueError, match="same volume on the same grid"):
        evaluate.overlap(a, b)
    with pytest.raises(ValueError, match="labels from 2 to 2"):
        evaluate.overlap(a + 2, a)
    with pytest.raises(ValueError, match="not negative"):
        evaluate.overlap(a, a, np.full((2, 2, 2), -1.0))
    with pytest.raises(ValueError, match="logits"):
        evaluate.brier_score(np.full((2, 2, 2, 1), 3.0), a)
    with pytest.raises(ValueError, match="tolerance"):
        evaluate.surface_dice(a > 0, a > 0, -1.0)


def test_surface_dice_matches_brute_force_on_an_anisotropic_grid(rng):
    voxel_size = (20.0, 8.0, 11.0)
    truth, prediction = ball(6, 16), np.roll(ball(5, 16), (1, 2, -1), (0, 1, 2))
    weights = rng.uniform(0.5, 2.0, truth.shape)
    known = np.ones_like(truth)
    t, p = (np.argwhere(_boundary(m, known)) for m in (truth, prediction))
    distance = cdist(t * voxel_size, p * voxel_size)
    for tolerance in (0.0, 8.0, 20.0, 30.0):
        near_t, near_p = distance.min(1) <= tolerance, distance.min(0) <= tolerance
        wt, wp = weights[tuple(t.T)], weights[tuple(p.T)]
        expected = (wt[near_t].sum() + wp[near_p].sum()) / (wt.sum() + wp.sum())
        assert evaluate.surface_dice(
            prediction, truth, tolerance, voxel_size, weights
        ) == pytest.approx(expected, abs=1e-12)


def test_surface_dice_of_concentric_spheres_steps_at_their_distance():
    outer, inner = ball(16, 44), ball(12, 44)
    assert evaluate.surface_dice(outer, inner, 30.0, (10.0, 10.0, 10.0)) < 0.05
    assert evaluate.surface_dice(outer, inner, 50.0, (10.0, 10.0, 10.0)) == 1.0
    assert evaluate.surface_dice(outer, outer, 0.0) == 1.0


def test_surface_dice_without_surfaces():
    nothing = np.zeros((5, 5, 5), bool)
    assert evaluate.surface_dice(nothing, nothing, 1.0) is None
    assert evaluate.surface_dice(ball(1, 5), nothing, 1.0) == 0.0
    assert evaluate.surface_dice(~nothing, ~nothing, 1.0) is None  # nothing but inside


def test_the_end_of_the_annotation_is_no_surface():
    truth = np.zeros((8, 8, 8), bool)
    truth[3:5] = True  # a slab that leaves the volume on four sides
    weights = np.ones(truth.shape)
    weights[:, :, 4:] = 0
    wrong_where_ignored = truth.copy()
    wrong_where_ignored[:, :, 4:] = False
    assert evaluate.surface_dice(wrong_where_ignored, truth, 0.0, weights=weights) == 1.0


def test_calibration_error_of_calibrated_and_of_constant_probabilities(rng):
    p = rng.uniform(size=(60, 60, 60, 1))
    truth = (rng.uniform(size=(60, 60, 60)) < p[..., 0]).astype(int)
    assert evaluate.expected_calibration_error(p, truth) < 0.005
    over = np.where(p > 0.5, 0.99, 0.01)  # right in 3 of 4 voxels, sure of 99 in 100
    assert evaluate.expected_calibration_error(over, truth) == pytest.approx(0.99 - 0.75, abs=0.005)
    # Brier of calibrated uniform probabilities: E[p (1 - p)] = 1/6.
    assert evaluate.brier_score(p, truth) == pytest.approx(1 / 6, abs=0.002)


def test_calibration_error_matches_a_loop_over_bins_for_several_classes(rng):
    p = rng.dirichlet(np.ones(4), (9, 9, 9))
    truth = rng.integers(0, 4, (9, 9, 9))
    weights = rng.uniform(size=(9, 9, 9))
    confidence, correct = p.max(-1), p.argmax(-1) == truth
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & (confidence < low + 1 / 15)
        if inside.any():
            w = weights[inside]
            gap = np.average(correct[inside], weights=w) - np.average(confidence[inside], weights=w)
            expected += w.sum() / weights.sum() * abs(gap)
    assert evaluate.expected_calibration_error(p, truth, weights) == pytest.approx(expected)
    onehot = np.eye(4)[truth]
    brier = np.average(0.5 * ((p - onehot) ** 2).sum(-1), weights=weights)
    assert evaluate.brier_score(p, truth, weights) == pytest.approx(brier)
    assert evaluate.expected_calibration_error(p, truth, weights * 0) is None


def test_foreground_band_is_what_lies_within_its_width():
    truth = np.zeros((15, 15, 15), int)
    truth[7, 7, 7] = 1
    band = evaluate.foreground_band(truth, 3.0)
    assert np.array_equal(band > 0, ball(3.0, 15))
    assert evaluate.foreground_band(truth * 0).sum() == 0


def test_wilson_interval_matches_scipy():
    for found, count in ((0, 5), (3, 10), (97, 100), (5, 5)):
        expected = stats.binomtest(found, count).proportion_ci(0.95, method="wilson")
        z = float(stats.norm.ppf(0.975))
        assert evaluate.wilson_interval(found, count, z) == pytest.approx(tuple(expected))


def test_recall_by_visibility_counts_what_it_says(rng):
    truth = rng.uniform(size=(20, 20, 20)) < 0.3
    visibility = rng.uniform(size=truth.shape)
    found = truth & (rng.uniform(size=truth.shape) < visibility)  # recall equals visibility
    visibility[~truth] = np.nan
    bins = evaluate.recall_by_visibility(found, truth, visibility, bins=4)
    assert sum(b.count for b in bins) == truth.sum()
    for b in bins:
        assert b.recall == pytest.approx((b.low + b.high) / 2, abs=0.06)
        assert b.interval[0] < b.recall < b.interval[1]
    wide = evaluate.recall_by_visibility(found, truth, visibility, bins=4, voxels_per_sample=10.0)
    assert wide[0].interval[1] - wide[0].interval[0] > 2.5 * (
        bins[0].interval[1] - bins[0].interval[0]
    )
    empty = evaluate.recall_by_visibility(found, truth & False, visibility, bins=[0.0, 0.5, 1.0])
    assert [(b.count, b.recall, b.interval) for b in empty] == [(0, None, None)] * 2
    with pytest.raises(ValueError, match="increase"):
        evaluate.recall_by_visibility(found, truth, visibility, bins=[0.5, 0.5])
    with pytest.raises(ValueError, match="must be finite"):
        evaluate.recall_by_visibility(found, ~truth, visibility)


def test_all_scores_by_one_call_are_those_of_the_functions():
    rng = np.random.default_rng(5)
    true = np.zeros((16, 16, 16), np.int64)
    true[3:9, 3:12, 3:12], true[11:14] = 1, 2
    predicted = np.roll(true, 1, 1)
    weights = np.ones(true.shape)
    size = (10.0, 12.0, 12.0)
    wedge = MissingWedge((-60.0, 60.0))
    p = rng.uniform(0, 0.5, (*true.shape, 2))
    found = evaluate.score(
        predicted, true, weights=weights, classes=("a", "b"), voxel_size=size, wedge=wedge,
        probabilities=p,
    )  # fmt: skip
    counts = evaluate.overlap(predicted, true, weights, ("background", "a", "b"))
    assert found.unit == "angstrom" and found.tolerance == pytest.approx(2 * 34 / 3)
    for label, name in enumerate("ab", 1):
        one, masks = found.classes[name], (predicted == label, true == label)
        assert one.overlap == counts[name]
        assert one.surface_dice == evaluate.surface_dice(*masks, found.tolerance, size)
        assert one.boundary_iou == evaluate.boundary_iou(*masks, found.tolerance, size)
        assert one.hausdorff95 == evaluate.hausdorff95(*masks, size)
        assert one.betti_error == evaluate.betti_error(*masks)
        seen = wedge.visibility(evaluate.mask_normals(masks[1]))
        recall = evaluate.recall_by_visibility(
            *masks, seen, evaluate.VISIBILITY_BINS, voxels_per_sample=50.0
        )
        assert one.recall_bins == tuple(recall)
    dice = [counts[name].dice for name in "ab"]
    assert found.mean["dice"] == pytest.approx(sum(dice) / 2)
    together = evaluate.overlap((predicted > 0).astype(int), (true > 0).astype(int))["foreground"]
    assert found.foreground == together
    whole = np.concatenate([1 - p.sum(-1, keepdims=True), p], -1).astype(np.float32)
    assert found.calibration is not None
    assert found.calibration.brier == pytest.approx(evaluate.brier_score(whole, true))
    plain = json.loads(json.dumps(found.as_dict()))
    assert plain["classes"]["a"]["dice"] == dice[0] and plain["tolerance_unit"] == "angstrom"
    assert len(plain["classes"]["b"]["by_visibility"]) == 5


def test_what_cannot_be_scored_names_the_parameter():
    true = np.zeros((4, 4, 4), np.int64)
    true[0, 0, 0] = 2
    weights = np.ones(true.shape)
    weights[1] = 0
    part = evaluate.score(true, true, weights=weights)
    assert part.unit == "voxels" and part.classes["class2"].betti_error is None
    with pytest.raises(ParameterError, match="a label 2, but only 1 classes are named"):
        evaluate.score(true, true, classes=("a",))
    with pytest.raises(ParameterError, match="1 probabilities for 2 classes"):
        evaluate.score(true, true, probabilities=np.zeros((4, 4, 4, 1)))
    with pytest.raises(ValueError, match="between 0 and 1"):
        evaluate.score(true, true, probabilities=np.full((4, 4, 4, 2), 2.0))
    with pytest.raises(ValueError, match="same volume on the same grid"):
        evaluate.score(true, true[:2])
