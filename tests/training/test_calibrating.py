"""A trained model is calibrated on what was held out, and inference does the same as its scores."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cryojax_seg import core, evaluate, inference, io
from cryojax_seg.evaluate import expected_calibration_error
from cryojax_seg.segmenters import ConvNet, GlobalThreshold
from cryojax_seg.training import Example, calibrating
from cryojax_seg.training.fitted import _calibrated


def net(scale: float, shift: float) -> ConvNet:
    """A network whose logit is the voxel, times a scale, plus a shift."""
    one = ConvNet(1, 2, 1, ("membrane",), rngs=nnx.Rngs(0))
    one.convolutions[0].kernel[...] = jnp.array([1.0, -1.0]).reshape(1, 1, 1, 1, 2)
    one.head.kernel[...] = jnp.array([[scale], [-scale]]) / 1.01  # two leaky rectifiers of +x, -x
    one.head.bias[...] = jnp.array([shift])
    return one


def example(seed: int, edge: int = 24) -> Example:
    """Labels drawn with probability ``sigmoid(volume - 2)``."""
    rng = np.random.default_rng(seed)
    volume = rng.normal(0, 2, (edge,) * 3).astype(np.float32)
    p = 1 / (1 + np.exp(2 - volume.astype(float)))
    return Example(volume, (rng.uniform(size=p.shape) < p).astype(int))


def test_a_network_is_calibrated_for_data_it_has_not_seen():
    segmenter, unseen = net(4.0, 0.0), example(1)
    held = calibrating.known(segmenter, [example(0)], 8)
    found, scores = calibrating.calibrate(segmenter, held)
    assert found.recalibration is not None and found.reason is None
    assert found.recalibration.temperature == pytest.approx(4.0, rel=0.1)
    assert found.recalibration.shifts[0] == pytest.approx(-2.0, abs=0.15)
    p = core.probabilities(core.apply(found.on(segmenter), unseen.volume))
    error = expected_calibration_error(np.asarray(p), unseen.labels)
    assert error < 0.02 < 0.1 < held.calibration_error() == found.errors[0]
    assert found.errors[1] < 0.02
    assert found.dice[0] < found.dice[1] == scores["membrane"].dice
    assert f"{found.errors[0]:.4f} before" in str(found)


def test_segment_labels_as_the_scores_say(tmp_path):
    """The card's thresholds are applied unless another is given."""
    segmenter, one = net(4.0, 0.0), example(0)
    held = calibrating.known(segmenter, [one], 8)
    found, scores = calibrating.calibrate(segmenter, held)
    card = io.ModelCard(contrast="bright", thresholds=found.thresholds)
    io.save_model(tmp_path / "model", found.on(segmenter), card)
    model = inference.load(tmp_path)
    raw = core.Tomogram(one.volume)
    volume = inference.plan(model, raw, engine="jax").volume
    normal = Example(np.asarray(volume[:, :, :]), one.labels)
    expected = calibrating.known(model.segmenter, [normal], 8).overlaps(found.thresholds)
    labels = inference.segment(model, raw, engine="jax")
    assert evaluate.overlap(labels, one.labels, None, ("membrane",)) == expected
    half = inference.segment(model, raw, engine="jax", threshold=0.5)
    assert half.sum() < labels.sum()  # the best threshold lies below 0.5


def test_little_annotation_fits_nothing():
    one = example(0)
    few = np.where(np.cumsum(one.labels == 1).reshape(one.labels.shape) <= 150, 1, 0)
    few = np.where(one.labels == 1, few, 1).astype(np.float32)
    held = calibrating.known(net(4.0, 0.0), [dataclasses.replace(one, weights=few)], 8)
    found, scores = calibrating.calibrate(net(4.0, 0.0), held)
    assert found.recalibration is None and found.thresholds is None
    assert "only 150 held-out voxels are membrane; 200 of each" in found.reason
    assert found.dice == (scores["membrane"].dice,) * 2
    segmenter = net(4.0, 0.0)
    assert found.on(segmenter) is segmenter


def test_other_methods_get_thresholds_alone():
    segmenter = GlobalThreshold(4.0, softness=1.0, classes=("membrane",))
    held = calibrating.known(segmenter, [example(0)], 8)
    found, _ = calibrating.calibrate(segmenter, held)
    assert found.recalibration is None and found.reason == "this method is no network"
    assert found.thresholds[0] < 0.3 and found.dice[1] > found.dice[0] + 0.05
    assert found.on(segmenter) is segmenter


def test_the_calibration_survives_as_plain_values():
    import json

    held = calibrating.known(net(4.0, 0.0), [example(0)], 8)
    found, _ = calibrating.calibrate(net(4.0, 0.0), held)
    assert _calibrated(json.loads(json.dumps(dataclasses.asdict(found)))) == found


def test_voxels_of_all_examples_count_and_unannotated_ones_do_not():
    one, two = example(0, 8), example(1, 8)
    weights = np.zeros(one.labels.shape, np.float32)
    weights[2:5, 1:] = 0.5
    one = dataclasses.replace(one, weights=weights)
    held = calibrating.known(net(1.0, 0.0), [one, two], 8)
    assert len(held.logits) == 3 * 7 * 8 + 8**3
    assert held.weights.sum() == 3 * 7 * 8 / 2 + 8**3
    np.testing.assert_array_equal(held.labels[: 3 * 7 * 8], one.labels[2:5, 1:].ravel())
