"""The vote that is fitted directly is the one of least loss, and finds structure."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.optimize import minimize

from cryojax_seg.core import apply, labels
from cryojax_seg.segmenters import LinearVote
from cryojax_seg.training import Example, cross_validate_vote, fit_vote
from cryojax_seg.training.vote_fitting import neighbourhoods


@pytest.fixture(scope="module")
def scene():
    """A noisy volume with a bright slab and a brighter one."""
    rng = np.random.default_rng(0)
    known = np.zeros((12, 64, 64), int)
    known[:, 12:22] = 1
    known[:, 40:50] = 2
    return (rng.normal(size=known.shape) + 1.5 * known).astype(np.float32), known


def example(scene, slices, most=2):
    volume, known = scene
    weights = np.zeros(volume.shape, np.float32)
    weights[list(slices)] = 1
    return Example(volume, np.minimum(known, most), weights)


def test_neighbourhoods_are_those_that_the_operator_sees(scene):
    one = example(scene, [0, 6])
    features, found, weights, places = neighbourhoods([one], ("a",), 2)
    vote = LinearVote(2, threshold=0.3)
    kernel = np.random.default_rng(1).normal(size=vote.kernel[...].shape).astype(np.float32)
    vote.kernel[...] = jax.numpy.asarray(kernel)
    logits = apply(vote, one.volume)[..., 0]  # mirrored at the faces
    at = tuple(places[:, 1:].T)
    np.testing.assert_allclose(features @ kernel.ravel() - 0.3, logits[at], atol=2e-4)
    assert (found == one.labels[at]).all()
    for value in (0, 1):  # the weights of a label are those of all its voxels
        total = (one.labels[one.weights > 0] == value).sum()
        np.testing.assert_allclose(weights[found == value].sum(), total, rtol=1e-5)


def test_the_loss_is_the_least(scene):
    """A slow method of another kind finds the same for few weights."""
    one = example(scene, [6], 1)
    features, found, weights, _ = neighbourhoods([one], ("a",), 0)
    w = weights / weights.sum()
    ridge = 10 / (2 * len(features) * 0.3**2)

    def loss(x):
        z = features[:, 0].astype(float) * x[0] + x[1]
        return w @ (np.logaddexp(0, z) - found * z) + ridge * x[0] ** 2

    best = minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12})
    vote = fit_vote([one], ("a",), 0)
    np.testing.assert_allclose(float(vote.kernel[...].ravel()[0]), best.x[0], rtol=2e-3)


@pytest.mark.parametrize("classes", [("slab",), ("background", "one", "two")])
def test_slices_that_were_not_seen_are_labelled(scene, classes):
    volume, known = scene
    most = max(len(classes) - 1, 1)
    vote = fit_vote([example(scene, [2, 3], most)], classes)
    assert vote.classes == classes
    found = np.asarray(labels(apply(vote, volume)))
    truth = np.minimum(known, most)
    for value in range(1, most + 1):
        hit = ((found == value) & (truth == value))[6:].sum()
        dice = 2 * hit / ((found == value)[6:].sum() + (truth == value)[6:].sum())
        assert dice > 0.9


def test_a_start_changes_little_but_the_time(scene):
    first = fit_vote([example(scene, [2], 1)], ("a",))
    cold = fit_vote([example(scene, [2, 3], 1)], ("a",))
    warm = fit_vote([example(scene, [2, 3], 1)], ("a",), start=first)
    one, other = (np.asarray(v.kernel[...]).ravel() for v in (cold, warm))
    assert np.corrcoef(one, other)[0, 1] > 0.99


def test_what_is_missing_is_named(scene):
    volume, known = scene
    one = Example(volume, known * 0, np.ones_like(volume))
    with pytest.raises(ValueError, match="no voxel of membrane is annotated"):
        fit_vote([one], ("membrane",))


def test_the_score_is_that_of_voxels_that_were_not_seen(scene):
    volume, known = scene
    parts = [example(scene, [z], 1) for z in (1, 4, 7, 10)]
    held = cross_validate_vote(parts, ("slab",))
    value, (low, high) = held.dice()
    assert 0.9 < low <= value <= high <= 1
    assert held.tiles.max() + 1 == 4 * 4  # 64 x 64 pixels are four tiles
    rng = np.random.default_rng(2)
    noise = [
        dataclasses.replace(p, volume=rng.normal(size=volume.shape).astype("f")) for p in parts
    ]
    assert cross_validate_vote(noise, ("slab",)).dice()[0] < 0.65  # everything is found


def test_one_slice_is_cut_in_halves(scene):
    held = cross_validate_vote([example(scene, [5], 1)], ("slab",))
    assert held.dice()[0] > 0.9
    empty = example(scene, [5], 0)
    assert cross_validate_vote([empty], ("slab",)) is None
