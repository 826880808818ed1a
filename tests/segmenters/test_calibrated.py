"""Calibration: the optimum is found, probabilities become true, and what must stay stays."""

import dataclasses

import numpy as np
import pytest
from scipy.special import log_expit

from cryojax_seg import core, evaluate
from cryojax_seg.segmenters import (
    GlobalThreshold,
    Isotonic,
    LinearVote,
    Tempered,
    fit_isotonic,
    fit_temperature,
)


@dataclasses.dataclass(frozen=True)
class Example:
    volume: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def example(seed=0, shift=0.0, edge=24):
    """Labels drawn with probability ``sigmoid(volume + shift)``: the volume is the true logit."""
    rng = np.random.default_rng(seed)
    volume = rng.normal(0, 2, (edge,) * 3).astype(np.float32)
    labels = (rng.uniform(size=volume.shape) < 1 / (1 + np.exp(-volume - shift))).astype(int)
    weights = (rng.uniform(size=volume.shape) > 0.3).astype(float)
    return Example(volume, np.where(weights > 0, labels, 255), weights)


def ece(segmenter, one):
    p = np.asarray(core.probabilities(core.apply(segmenter, one.volume)))
    return evaluate.expected_calibration_error(p, one.labels, one.weights)


def likelihood(segmenter, examples):
    """Mean log-likelihood of the annotated voxels, by SciPy."""
    (one,) = examples
    logits = core.apply(segmenter, one.volume)[..., 0].astype(float)
    values = log_expit(np.where(one.labels > 0, logits, -logits))
    return np.average(values[one.weights > 0], weights=one.weights[one.weights > 0])


@pytest.mark.parametrize("sharpness", [0.25, 1.0, 4.0])
def test_temperature_undoes_overconfidence(sharpness):
    """The logit is `sharpness` times too large; 10 000 voxels know it to about 3 %."""
    fitted = fit_temperature(GlobalThreshold(0.0, softness=1 / sharpness), [example()])
    assert float(fitted.temperature) == pytest.approx(sharpness, rel=0.06)
    unseen = example(1)
    assert ece(fitted, unseen) < 0.02  # 9700 voxels in 15 bins: about 0.01 by chance


def test_temperature_keeps_labels_and_never_lowers_the_likelihood():
    one = example(2, shift=1.0)
    for softness in (0.1, 1.0, 7.0):
        segmenter = GlobalThreshold(0.3, softness=softness)
        fitted = fit_temperature(segmenter, [one])
        assert likelihood(fitted, [one]) >= likelihood(segmenter, [one])
        before, after = (core.apply(s, one.volume) > 0 for s in (segmenter, fitted))
        np.testing.assert_array_equal(before, after)


def test_isotonic_calibration_also_corrects_a_bias():
    """A threshold that is off by 2 logits: no temperature helps, an increasing map does."""
    train, unseen = [example(i, shift=2.0) for i in (0, 1)]
    segmenter = GlobalThreshold(0.0, softness=0.5)
    tempered, isotonic = fit_temperature(segmenter, [train]), fit_isotonic(segmenter, [train])
    assert ece(isotonic, unseen) < 0.02 < ece(tempered, unseen)
    assert likelihood(isotonic, [unseen]) > likelihood(tempered, [unseen]) + 0.05


def test_isotonic_map_is_the_one_of_pooled_adjacent_violators():
    """With one voxel a knot: worked by hand. 2/3 and 1/3 violate the order and are pooled."""
    volume = np.repeat([-1.0, 0.0, 1.0, 2.0], 3).reshape(1, 3, 4).astype(np.float32)
    labels = np.array([0, 0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1]).reshape(volume.shape)
    one = Example(volume, labels, np.ones(volume.shape))
    fitted = fit_isotonic(GlobalThreshold(0.0, softness=1.0), [one])
    assert fitted.knots == (-1.0, 0.0, 1.0, 2.0)
    rates = np.array([0.5 / 4, 0.5, 0.5, 3.5 / 4])  # half a voxel of either label added
    np.testing.assert_allclose(fitted.values[...], np.log(rates / (1 - rates)), atol=1e-6)


def test_several_classes_take_a_temperature():
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(12, 12, 12)).astype(np.float32)
    segmenter = LinearVote(0, 0.5, 0.2, classes=("background", "a", "b"))
    logits = core.apply(segmenter, volume)
    p = np.exp(logits / 3) / np.exp(logits / 3).sum(-1, keepdims=True)  # 3 times too sure
    labels = (rng.uniform(size=volume.shape)[..., None] > np.cumsum(p, -1)).sum(-1)
    one = Example(volume, np.minimum(labels, 2), np.ones(volume.shape))
    assert float(fit_temperature(segmenter, [one]).temperature) == pytest.approx(3.0, rel=0.2)
    with pytest.raises(ValueError, match="takes one class"):
        fit_isotonic(segmenter, [one])


def test_what_cannot_be_fitted_is_refused():
    nothing = Example(*(np.zeros((3, 3, 3)) for _ in range(3)))
    with pytest.raises(ValueError, match="at least one annotated voxel"):
        fit_temperature(GlobalThreshold(0.0), [nothing])
    with pytest.raises(ValueError, match="different logits"):
        fit_isotonic(
            GlobalThreshold(0.0), [dataclasses.replace(nothing, weights=np.ones((3, 3, 3)))]
        )
    with pytest.raises(ValueError, match="temperature must be positive"):
        Tempered(GlobalThreshold(0.0), 0.0)
    with pytest.raises(ValueError, match="must increase"):
        Isotonic(GlobalThreshold(0.0), (1.0, 0.0), (0.0, 1.0))
