"""Recalibration: the distortion of logits is undone, and thresholds are the best there are."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cryojax_seg import core
from cryojax_seg.evaluate import expected_calibration_error, overlap
from cryojax_seg.segmenters import (
    ConvNet,
    GlobalThreshold,
    Recalibration,
    UNet,
    fit_recalibration,
    fit_thresholds,
)

ONE, SEVERAL = ("a",), ("background", "a", "b")
SHIFTS = {ONE: (-1.5,), SEVERAL: (0.0, -1.0, 1.5)}


def probabilities(logits):
    p = core.probabilities(jnp.asarray(logits, jnp.float32).reshape(len(logits), 1, 1, -1))
    return np.asarray(p, np.float64)


def drawn(classes, count=30_000, seed=0):
    """Logits, and labels drawn with their probabilities."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 2, (count, len(classes)))
    p = probabilities(logits).reshape(count, -1)
    p = np.concatenate([1 - p, p], -1) if len(classes) == 1 else p
    labels = (rng.uniform(size=(count, 1)) > np.cumsum(p, -1)[:, :-1]).sum(-1)
    return logits, labels


@pytest.mark.parametrize("classes", [ONE, SEVERAL])
@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_temperature_and_shifts_are_found(classes, temperature):
    """30 000 voxels know them to about 3 %."""
    true, labels = drawn(classes)
    shifts = np.asarray(SHIFTS[classes])
    found = fit_recalibration((true - shifts) * temperature, labels)
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    np.testing.assert_allclose(found.shifts, shifts, atol=0.08)


def test_the_error_of_calibration_goes_where_training_distorted_the_frequencies():
    true, labels = drawn(SEVERAL)
    seen = (true - np.asarray((0.0, -2.0, -2.0))) * 2
    unseen, other = drawn(SEVERAL, seed=1)
    unseen = (unseen - np.asarray((0.0, -2.0, -2.0))) * 2
    found = fit_recalibration(seen, labels)

    def error(logits):
        return expected_calibration_error(probabilities(logits), other.reshape(-1, 1, 1))

    assert error(unseen) > 0.1 and error(found(unseen)) < 0.015


def test_weights_count_voxels():
    """Weight 3 is the same as three times the voxel; only the prior of one voxel differs."""
    logits, labels = drawn(ONE, 4000)
    weights = np.where(labels > 0, 3.0, 1.0)
    rows = np.repeat(np.arange(len(labels)), weights.astype(int))
    one = fit_recalibration(logits, labels, weights)
    other = fit_recalibration(logits[rows], labels[rows])
    assert one.temperature == pytest.approx(other.temperature, rel=5e-3)
    np.testing.assert_allclose(one.shifts, other.shifts, atol=1e-2)


def test_classes_without_overlap_stay_finite():
    logits = np.repeat([[-1.0], [1.0]], 300, axis=0)
    found = fit_recalibration(logits, np.repeat([0, 1], 300))
    np.testing.assert_allclose(  # (n + 1) / (n + 2), as Platt
        probabilities(found(logits))[-1].item(), 301 / 302, rtol=1e-4
    )


def test_a_label_without_voxels_is_refused():
    with pytest.raises(ValueError, match="every label"):
        fit_recalibration(np.zeros((4, 3)), np.array([0, 1, 1, 0]))


@pytest.mark.parametrize("stem", ["none", "space_to_depth"])
@pytest.mark.parametrize("classes", [ONE, SEVERAL])
def test_a_folded_network_gives_the_mapped_logits(stem, classes):
    net = UNet(2, 1, stem, True, "none", classes=classes, rngs=nnx.Rngs(0))
    map_ = Recalibration(1.7, SHIFTS[classes])
    volume = jnp.asarray(np.random.default_rng(0).normal(size=(8, 8, 8)), jnp.float32)
    before = np.asarray(net(volume))
    folded = map_.folded(net)
    np.testing.assert_allclose(folded(volume), map_(before), atol=1e-5)
    np.testing.assert_array_equal(net(volume), before)
    for fine, other in zip(
        folded.logits_at_scales(volume), net.logits_at_scales(volume), strict=True
    ):
        np.testing.assert_allclose(fine, map_(np.asarray(other)), atol=1e-5)


def test_a_network_behind_a_restorer_is_folded_and_a_threshold_is_not():
    from cryojax_seg.restore import Gaussian

    chain = core.Chain([Gaussian(1.0), ConvNet(1, 2, rngs=nnx.Rngs(0))])
    volume = jnp.asarray(np.random.default_rng(0).normal(size=(6, 6, 6)), jnp.float32)
    map_ = Recalibration(0.5, (1.0,))
    np.testing.assert_allclose(
        map_.folded(chain)(volume), map_(np.asarray(chain(volume))), atol=1e-5
    )
    with pytest.raises(ValueError, match="GlobalThreshold has no last linear map"):
        map_.folded(GlobalThreshold(0.5))


def mean_dice(logits, labels, classes, thresholds):
    found = core.labels(logits.reshape(-1, 1, 1, logits.shape[-1]), thresholds)
    scores = overlap(np.asarray(found), labels.reshape(-1, 1, 1), None, classes)
    return np.mean([one.dice for one in scores.values()])


def test_the_threshold_of_one_class_is_the_best_of_all():
    logits, labels = drawn(ONE, 3000)
    logits = logits * 2 + 4
    found = fit_thresholds(logits, labels)
    best = max(mean_dice(logits, labels, ONE, (t,)) for t in np.linspace(0.01, 0.99, 199))
    assert mean_dice(logits, labels, ONE, found) > best - 1.1e-3
    assert best > mean_dice(logits, labels, ONE, ()) + 0.02


def test_for_calibrated_probabilities_it_is_half_the_best_score():
    """Lipton et al. 2014 (arXiv:1402.1892), theorem 1."""
    logits, labels = drawn(ONE, 200_000)
    (found,) = fit_thresholds(logits, labels)
    assert found == pytest.approx(mean_dice(logits, labels, ONE, (found,)) / 2, abs=0.03)


def test_thresholds_of_several_classes_are_no_worse_than_a_grid():
    logits, labels = drawn(SEVERAL, 3000)
    logits = logits + np.asarray((0.0, -2.0, 1.0))
    found = fit_thresholds(logits, labels)
    grid = itertools.product(np.linspace(0.05, 0.95, 19), repeat=2)
    best = max(mean_dice(logits, labels, SEVERAL, pair) for pair in grid)
    assert mean_dice(logits, labels, SEVERAL, found) > best - 3e-3
    assert best > mean_dice(logits, labels, SEVERAL, ()) + 0.02


def test_annotation_that_decides_nothing_changes_nothing():
    logits = np.repeat([[-2.0], [2.0]], 50, axis=0)
    assert fit_thresholds(logits, np.repeat([0, 1], 50)) == (0.5,)
    absent = np.concatenate([logits, -logits, np.full((100, 1), -3.0)], axis=-1)
    assert fit_thresholds(absent, np.repeat([0, 1], 50))[1] == 0.5
