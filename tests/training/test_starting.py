"""A model that was trained before learns on, for the same classes or others."""

import dataclasses
import logging
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from cryojax_seg.core import Chain, MissingWedge, normalize
from cryojax_seg.errors import ParameterError
from cryojax_seg.io import ModelCard
from cryojax_seg.restore import Gaussian
from cryojax_seg.segmenters import ConvNet, LinearVote, UNet, fit_normalization
from cryojax_seg.training import Example, Examples, fit_model, fitting, methods, starting
from tests.training.test_stream import stream

VOLUME = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
SIZE = (10.0, 10.0, 10.0)
CARD = ModelCard(voxel_size=SIZE, provenance={"method": "vote"})


def net(*classes):
    stem = {"width": 2, "depth": 1, "stem": "space_to_depth", "deep_supervision": True}
    built = UNet(**stem, classes=classes, rngs=nnx.Rngs(0))
    for head in built.heads:
        head.bias[...] = np.arange(head.bias.size, dtype=np.float32)  # so that no two are equal
    return fit_normalization(built, VOLUME)


def logits(segmenter):
    return np.asarray(fit_normalization(segmenter, VOLUME)(VOLUME))


def test_the_same_classes_keep_every_parameter():
    model = net("background", "membrane", "actin")
    begun: Any = starting.begin(model, model.classes)
    assert begun.norm == "instance" and model.norm == "frozen"
    np.testing.assert_array_equal(logits(begun), logits(model))


def test_classes_are_matched_by_name(caplog):
    model = net("background", "membrane", "actin")
    with caplog.at_level(logging.INFO, "cryojax_seg.training"):
        begun = starting.begin(model, ("background", "actin", "ribosome", "membrane"), seed=3)
    old, new = logits(model), logits(begun)
    np.testing.assert_allclose(new[..., [0, 1, 3]], old[..., [0, 2, 1]], atol=1e-5)
    assert not np.allclose(new[..., 2], 0)
    assert "keeps what it knows of actin, membrane; new is ribosome" in caplog.text
    other = starting.begin(model, ("background", "actin", "ribosome", "membrane"), seed=4)
    assert not np.allclose(logits(other)[..., 2], new[..., 2])


def test_one_class_of_several_keeps_its_odds_against_the_background():
    model = net("background", "membrane", "actin")
    alone, old = logits(starting.begin(model, ("actin",))), logits(model)
    np.testing.assert_allclose(alone[..., 0], old[..., 2] - old[..., 0], atol=1e-4)


def test_several_classes_of_one_keep_its_probability():
    """The sigmoid of a logit is the softmax beside a background of logit 0."""
    model = net("actin")
    several = logits(starting.begin(model, ("background", "membrane", "actin")))
    np.testing.assert_allclose(several[..., 0], 0, atol=1e-6)
    np.testing.assert_allclose(several[..., 2], logits(model)[..., 0], atol=1e-5)
    renamed = starting.begin(model, ("membrane",))  # of the same shape, and yet another class
    assert not np.allclose(logits(renamed), logits(model), atol=0.1)


def test_the_method_is_that_of_the_model():
    start = (LinearVote(1), CARD)
    assert starting.method_of(start) == starting.method_of(start, "vote") == "vote"
    own = "vote@cryojax_seg.losses:tversky"
    assert starting.method_of(start, own) == own
    with pytest.raises(ParameterError, match="is a vote, not a unet") as refused:
        starting.method_of(start, "unet")
    assert refused.value.parameters == ("method", "start")
    with pytest.raises(ParameterError, match="LinearVote, does not tell its method; give it"):
        starting.method_of((LinearVote(1), ModelCard()))


def test_labels_without_names_have_those_of_the_model():
    start = (net("background", "membrane", "actin"), CARD)
    data = Examples((), ("background", "class1", "class2"))
    assert starting.named_like(start, data).classes == start[0].classes
    named = Examples((), ("background", "membrane", "ribosome"))
    assert starting.named_like(start, named) is named
    with pytest.raises(ParameterError, match=r"1 class\(es\) without names, .* membrane, actin"):
        starting.named_like(start, Examples((), ("foreground",)))


@pytest.mark.parametrize(
    ("segmenter", "changes", "message", "parameters"),
    [
        (
            LinearVote(1, classes=("membrane",)),
            {"voxel_size": (10.0, 10.0, 21.5)},
            "voxels of 10 x 21.5 angstrom, and the start model learned from 10, more than twofold",
            ("start", "voxel_size"),
        ),
        (
            LinearVote(1),
            {},
            "only a network can learn others, not a LinearVote",
            ("classes", "start"),
        ),
        (
            Chain([Gaussian(1.0), LinearVote(1)]),
            {},
            "restores tomograms before it segments them",
            ("start",),
        ),
    ],
    ids=["voxel size", "classes", "restorer"],
)
def test_a_start_that_does_not_fit_is_refused(segmenter, changes, message, parameters):
    data = dataclasses.replace(Examples((), ("membrane",), SIZE), **changes)
    with pytest.raises(ParameterError, match=message) as refused:
        starting.check_start((segmenter, CARD), data)
    assert refused.value.parameters == parameters


def test_tomograms_of_other_voxels_are_resampled_for_the_model(caplog):
    labels = np.zeros((16, 16, 16), int)
    labels[:, 4:8] = 1
    weights = np.zeros(labels.shape)
    weights[5] = 1  # one annotated slice, of two that become one
    volume = np.random.default_rng(0).normal(size=labels.shape) + 3 * labels
    example = Example(volume.astype(np.float32), labels, weights, name="t.mrc")
    data = Examples((example,), ("membrane",), (5.0, 5.0, 5.0))
    with caplog.at_level("INFO"):
        found = starting.sized_like((LinearVote(1), CARD), data)
    assert "t.mrc: has voxels of 5 A; it is resampled to 10 A with its labels" in caplog.text
    (one,) = found.examples
    assert found.voxel_size == SIZE and one.volume.shape == (8, 8, 8)
    assert one.weights[2].all() and one.weights.sum() == 64
    np.testing.assert_array_equal(one.labels[2], np.arange(8)[:, None].repeat(8, 1) // 2 == 1)
    assert one.volume[2][one.labels[2] == 1].mean() > one.volume[2][one.labels[2] == 0].mean() + 2
    near = dataclasses.replace(data, voxel_size=(9.7, 10.0, 10.0))
    assert starting.sized_like((LinearVote(1), CARD), near) is near


def test_what_may_be_a_mistake_is_warned_of(caplog):
    data = Examples((), ("membrane",), contrast="bright")
    starting.check_start((ConvNet(1, 2, classes=("membrane",), rngs=nnx.Rngs(0)), CARD), data)
    assert "the tomograms lack a voxel size" in caplog.text
    assert "learned from tomograms of dark structure" in caplog.text
    caplog.clear()
    starting.check_start((ConvNet(1, 2, rngs=nnx.Rngs(0)), CARD), Examples((), ("a",), SIZE))
    assert not caplog.records


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (Examples((), ("ribosome",), SIZE), "ribosome cannot be simulated; classes of these names"),
        (Examples((), ("membrane",)), "the voxel size is not known"),
        (
            Examples((), ("membrane",), (10.0, 10.0, 20.0)),
            "voxels of 10 x 20 angstrom are no cubes",
        ),
        (Examples((), ("membrane",), (2.0, 2.0, 2.0)), "voxels of 2 angstrom are finer than 2.5"),
    ],
)
def test_what_cannot_be_simulated_is_not_replayed(data, reason, caplog):
    with caplog.at_level(logging.INFO, "cryojax_seg.training"):
        assert starting.replayed_share(data, started=True) == 0
    assert f"no phantoms are replayed: {reason}" in caplog.text
    with pytest.raises(ParameterError, match=reason):
        starting.replayed_share(data, started=True, replay=0.5)


def test_replay_is_on_for_a_start_and_else_on_demand():
    data = Examples((), ("background", "membrane", "lumen"), SIZE)
    share = starting.replayed_share
    assert [share(data, True), share(data, False), share(data, True, 0.0)] == [0.5, 0, 0]
    assert share(data, False, 0.25) == 0.25
    with pytest.raises(ParameterError, match="from 0 to below 1, got 1"):
        share(data, True, 1.0)


@pytest.fixture
def data():
    labels = np.zeros((20, 24, 24), np.int32)
    labels[:, 8:14] = 1
    volume = normalize((VOLUME.std() * labels * 4 + labels * 0.1).astype(np.float32), "bright")
    example = Example(volume, labels, wedge=MissingWedge((-60.0, 60.0)))
    return Examples((example,), ("membrane",), SIZE, "bright", (-60.0, 60.0))


def test_a_model_learns_on_with_phantoms(data, tmp_path, monkeypatch):
    asked = []

    def resembling(*given, cache):
        assert cache.name == "scenes"  # where the next training finds them
        asked.append(given)
        return stream()

    monkeypatch.setattr(fitting, "resembling", resembling)
    quick = {"patch": 12, "progress": False, "seed": 5}
    first = fit_model(data, method="vote", steps=3, **quick)
    assert first.config.phantoms == 0 and not asked
    start = (first.operator, first.card)
    second: Any = fit_model(
        data, tmp_path / "run", start=start, steps=1, learning_rate=1e-6, **quick
    )
    assert asked == [(("membrane",), MissingWedge((-60.0, 60.0)), 10.0, (12, 12, 12), 5)]
    assert second.config.phantoms == second.config.batch == 2
    assert second.card.provenance["method"] == "vote"
    for a, b in zip(jax.tree.leaves(first.operator), jax.tree.leaves(second.operator), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    third = fit_model(data, start=start, replay=0.8, steps=1, **quick)
    assert third.config.phantoms == 8
    assert third.config.learning_rate == methods.defaults("vote").learning_rate
    assert third.config.trunk == pytest.approx(1 / 3) and first.config.trunk == 1.0
    plain = fit_model(data, start=start, replay=0, steps=1, **quick)
    assert plain.config.phantoms == 0 and len(asked) == 2
    resumed: Any = fit_model(
        data, tmp_path / "run", start=start, steps=1, learning_rate=1e-6, resume=True, **quick
    )
    np.testing.assert_array_equal(resumed.operator.kernel, second.operator.kernel)
