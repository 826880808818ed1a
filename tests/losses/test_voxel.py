"""Losses against optax, analytic values and the rules of sparse annotation."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.test_util import check_grads

from cryojax_seg import losses
from cryojax_seg.core import Segmenter
from cryojax_seg.segmenters import GlobalThreshold

LOSSES = {
    "cross_entropy": losses.cross_entropy,
    "focal": losses.focal,
    "dice": losses.dice,
    "tversky": losses.tversky,
    "log_mse": losses.log_mse,
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
one_or_more = pytest.mark.parametrize("classes", [1, 3])


@functools.cache
def run(loss):
    return jax.jit(jax.value_and_grad(loss))


def data(classes, dtype=np.float32, shape=(3, 4, 5), seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(*shape, classes)).astype(dtype)
    labels = rng.integers(0, max(classes, 2), shape).astype(np.int32)
    weights = (rng.uniform(size=shape) * (rng.uniform(size=shape) > 0.4)).astype(dtype)
    return jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(weights)


def test_cross_entropy_is_optax_on_full_annotation():
    logits, labels, _ = data(4)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    ours = losses.cross_entropy(logits, labels, jnp.ones(labels.shape))
    np.testing.assert_allclose(ours, expected, rtol=2e-6)
    logits, labels, _ = data(1)
    expected = optax.sigmoid_binary_cross_entropy(logits[..., 0], labels.astype(jnp.float32)).mean()
    ours = losses.cross_entropy(logits, labels, jnp.ones(labels.shape))
    np.testing.assert_allclose(ours, expected, rtol=2e-6)


@one_or_more
def test_cross_entropy_is_the_mean_over_annotated_voxels(classes):
    logits, labels, _ = data(classes)
    mask = jnp.zeros(labels.shape).at[1].set(1.0)
    part = losses.cross_entropy(logits[1], labels[1], jnp.ones(labels.shape[1:]))
    np.testing.assert_allclose(losses.cross_entropy(logits, labels, mask), part, rtol=2e-6)
    half = losses.cross_entropy(logits, labels, 0.5 * mask)
    np.testing.assert_allclose(half, part, rtol=2e-6)


@one_or_more
def test_focal_without_focus_is_cross_entropy_and_matches_its_formula(classes):
    x = data(classes)
    np.testing.assert_allclose(losses.focal(*x, gamma=0.0), losses.cross_entropy(*x), rtol=2e-6)
    logits, labels, weights = x
    if classes == 1:
        q = jax.nn.sigmoid(logits[..., 0])
        p = jnp.where(labels > 0, q, 1 - q)
    else:
        p = jnp.take_along_axis(jax.nn.softmax(logits), labels[..., None], -1)[..., 0]
    expected = jnp.sum(weights * -jnp.square(1 - p) * jnp.log(p)) / weights.sum()
    np.testing.assert_allclose(losses.focal(*x, gamma=2.0), expected, rtol=1e-5)


def test_dice_of_hard_predictions_is_the_set_formula():
    labels = jnp.array([1, 1, 1, 0, 0, 0, 1, 0])
    predicted = jnp.array([1, 1, 0, 1, 0, 0, 1, 1])
    weights = jnp.array([1, 1, 1, 1, 1, 1, 0, 0], jnp.float32)  # TP 2, FP 1, FN 1
    logits = jnp.where(predicted[:, None] > 0, 200.0, -200.0)
    value = losses.dice(logits, labels, weights, smooth=0.0)
    np.testing.assert_allclose(value, 1 - 4 / 6, rtol=1e-6)
    value = losses.tversky(logits, labels, weights, alpha=0.2, beta=0.8, smooth=1.0)
    np.testing.assert_allclose(value, 1 - 3 / 4, rtol=1e-6)


def test_log_mse_is_the_formula_of_eman2():
    logits, labels, weights = data(1)
    y = np.minimum(np.asarray(logits[..., 0], np.float64) + 0.5, 1.0)
    square = (np.asarray(labels) - y) ** 2
    expected = np.log((square * weights).sum() / np.asarray(weights).sum())
    np.testing.assert_allclose(losses.log_mse(logits, labels, weights), expected, rtol=1e-5)


@every_loss
@one_or_more
def test_gradients_in_float64(loss, classes, x64):
    logits, labels, weights = data(classes, np.float64)
    for at in (logits, 0 * logits, 30 * logits):
        f = jax.jit(lambda z: loss(jnp.asarray(z), labels, weights))  # noqa: E731
        check_grads(f, (at,), order=1, modes=("fwd", "rev"), rtol=1e-4, atol=1e-6)


@every_loss
@one_or_more
def test_gradients_stay_finite_when_saturated_or_right(loss, classes):
    _, labels, weights = data(classes)
    right = jax.nn.one_hot(labels, max(classes, 2))[..., -classes:] - 0.5
    for scale in (0.0, 1.0, 1e3, -1e3, 1e6):
        value, gradient = run(loss)(scale * right, labels, weights)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


@every_loss
@one_or_more
def test_unannotated_voxels_have_no_influence(loss, classes):
    logits, labels, weights = data(classes)
    ignored = weights == 0
    value, gradient = run(loss)(logits, labels, weights)
    assert (np.asarray(gradient)[np.asarray(ignored)] == 0).all()
    assert np.abs(gradient).max() > 0
    other = jnp.where(ignored, -1, labels)
    for junk in (1e30, -1e30, np.nan, np.inf):
        disturbed = jnp.where(ignored[..., None], junk, logits)
        # A NaN weight is no annotation either.
        for unknown in (weights, jnp.where(ignored, jnp.nan, weights)):
            value2, gradient2 = run(loss)(disturbed, other, unknown)
            assert value == value2
            np.testing.assert_array_equal(gradient, gradient2)


@every_loss
@one_or_more
def test_nothing_annotated_gives_zero(loss, classes):
    logits, labels, weights = data(classes)
    value, gradient = run(loss)(logits * jnp.nan, labels, 0 * weights)
    assert value == 0
    assert (np.asarray(gradient) == 0).all()


@every_loss
@one_or_more
def test_a_perfect_prediction_is_the_optimum(loss, classes):
    _, labels, weights = data(classes)
    right = jax.nn.one_hot(labels, max(classes, 2))[..., -classes:] - 0.5
    scale = 1.0 if loss is losses.log_mse else 40.0  # y = logit + 1/2 is a regression
    best, gradient = run(loss)(scale * right, labels, weights)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    if loss is not losses.log_mse:
        np.testing.assert_allclose(best, 0, atol=1e-6)
    rng = np.random.default_rng(1)
    for _ in range(5):
        other = scale * right + jnp.asarray(rng.normal(size=right.shape), jnp.float32) * scale
        assert run(loss)(other, labels, weights)[0] > best


@every_loss
def test_classes_may_be_renamed(loss):
    logits, labels, weights = data(3)
    order = jnp.array([2, 0, 1])
    renamed, _ = run(loss)(logits[..., order], jnp.argsort(order)[labels], weights)
    np.testing.assert_allclose(renamed, run(loss)(logits, labels, weights)[0], rtol=1e-5)


@every_loss
def test_an_absent_class_is_harmless(loss):
    logits, labels, weights = data(3)
    labels = jnp.minimum(labels, 1)
    value, gradient = run(loss)(logits, labels, weights)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    silent = logits.at[..., 2].set(-60.0)
    assert run(loss)(silent, labels, weights)[0] < value or loss is losses.log_mse


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.focal])
def test_two_softmax_classes_are_one_sigmoid(loss):
    logits, labels, weights = data(1)
    two = jnp.concatenate([jnp.zeros_like(logits), logits], -1)
    one, _ = run(loss)(logits, labels, weights)
    np.testing.assert_allclose(run(loss)(two, labels, weights)[0], one, rtol=1e-5)


def test_combine_refuses_a_missing_factor():
    with pytest.raises(ValueError, match="2 losses need as many factors, got 1"):
        losses.combine(losses.dice, losses.focal, factors=(1.0,))


class Pyramid(Segmenter):
    """Logits proportional to the volume, at several scales."""

    halo, stride, classes = 0, 4, ("thing",)

    def __init__(self):
        self.gain = nnx.Param(jnp.ones(()))

    def logits_at_scales(self, volume):
        z, y, x = volume.shape
        coarse = volume.reshape(z // 2, 2, y // 2, 2, x // 2, 2).mean((1, 3, 5))
        return self.gain[...] * volume[..., None], self.gain[...] * coarse[..., None]

    def __call__(self, volume):
        return self.logits_at_scales(volume)[0]


@dataclasses.dataclass
class Patches:
    volume: Any
    labels: Any
    weights: Any


def patches(seed=0):
    rng = np.random.default_rng(seed)
    volume = jnp.asarray(rng.normal(size=(2, 4, 4, 8)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 2, volume.shape), jnp.int32)
    weights = jnp.zeros(volume.shape).at[:, 1].set(1.0)  # one annotated slice, at an odd index
    return Patches(volume, labels, weights)


def test_supervised_ignores_a_nan_in_the_volume():
    batch = patches()
    objective = losses.supervised(losses.cross_entropy)
    graph, params = nnx.split(Pyramid())
    run = jax.value_and_grad(lambda p, b: objective(nnx.merge(graph, p), b))
    value, gradient = run(params, batch)
    hole = dataclasses.replace(batch, volume=batch.volume.at[0, 3, 0, 0].set(jnp.nan))
    value2, gradient2 = run(params, hole)
    assert value == value2
    np.testing.assert_array_equal(gradient["gain"][...], gradient2["gain"][...])


def test_deep_supervision_weighs_the_scales_and_keeps_thin_annotation():
    batch = patches()
    fine = losses.supervised(losses.cross_entropy)(Pyramid(), batch)
    _, coarse = jax.vmap(Pyramid().logits_at_scales)(batch.volume)
    probability = jax.nn.sigmoid(coarse[..., 0])
    labels = batch.labels.astype(jnp.float32)
    cube = lambda a: a.reshape(2, 2, 2, 2, 2, 4, 2).sum((2, 4, 6))  # noqa: E731
    ones, zeros = cube(batch.weights * labels), cube(batch.weights * (1 - labels))
    by_hand = -(ones * jnp.log(probability) + zeros * jnp.log(1 - probability)).sum()
    by_hand = by_hand / batch.weights.sum()
    value = losses.deep_supervision(losses.cross_entropy, (1.0, 0.5))(Pyramid(), batch)
    np.testing.assert_allclose(value, (fine + 0.5 * by_hand) / 1.5, rtol=1e-5)
    only = losses.deep_supervision(losses.cross_entropy, (3.0,))(Pyramid(), batch)
    np.testing.assert_allclose(only, fine, rtol=1e-6)


def test_deep_supervision_of_a_segmenter_with_one_scale_is_its_loss():
    flat, batch = GlobalThreshold(0.5), patches()
    value = losses.deep_supervision(losses.dice)(flat, batch)
    assert value == losses.supervised(losses.dice)(flat, batch) > 0
