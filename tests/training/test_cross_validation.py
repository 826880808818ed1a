"""Cross-validation from Python: every score is of a slice that was not learned from."""

import dataclasses

import numpy as np
import pytest

from cryojax_seg import evaluate, io
from cryojax_seg.errors import ParameterError
from cryojax_seg.training import Example, comparison, cross_validation, folds_of

SHAPE = (16, 24, 24)


@pytest.fixture(scope="module")
def example():
    rng = np.random.default_rng(0)
    labels = np.zeros(SHAPE, np.int32)
    labels[:, 8:14] = 1
    volume = (rng.normal(size=SHAPE) + 3 * labels).astype(np.float32)
    weights = np.zeros(SHAPE, np.float32)
    weights[[2, 6, 10, 14]] = 1
    return Example(volume, labels, weights, name="a.mrc")


def compared(example, folder=None, **changes):
    options = {"folds": 2, "steps": 3, "patch": 12, "progress": False, "folder": folder, **changes}
    return cross_validation(example, ["threshold"], **options)


def test_it_goes_on_with_the_folds_that_are_kept(example, tmp_path, monkeypatch):
    fresh, first = compared(example), compared(example, tmp_path)
    names = ["threshold-0.npz", "threshold-1.npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    monkeypatch.setattr(comparison, "train", None)  # nothing is trained again
    again = compared(example, tmp_path)
    for other in (first, again):
        held = other.methods["threshold"]
        np.testing.assert_array_equal(held.probabilities, fresh.methods["threshold"].probabilities)
        assert held.scores["dice"] == fresh.methods["threshold"].scores["dice"] > 0.8
    for changes in ({"seed": 1}, {"steps": 4}, {"gap": 4}):
        with pytest.raises(io.FileError, match=r"threshold-0.npz: .* of another comparison"):
            compared(example, tmp_path, **changes)
    other = dataclasses.replace(example, volume=example.volume + 1)
    with pytest.raises(io.FileError, match="of another comparison"):
        compared(other, tmp_path)


def test_the_scores_are_those_of_the_predictions(example):
    found = compared(example)
    held = found.methods["threshold"]
    assert held.predicted.shape == SHAPE and held.probabilities.dtype == np.float16
    own = evaluate.overlap(held.predicted, example.labels, example.weights)["foreground"]
    assert held.scores["dice"] == held.scores["classes"]["foreground"]["dice"] == own.dice
    assert len(held.scores["dice_by_group"]) == len(found.folds) == 2
    for fold, dice in zip(found.folds, held.scores["dice_by_group"], strict=True):
        weights = np.zeros(SHAPE)
        weights[list(fold.scored)] = 1
        own = evaluate.overlap(held.predicted, example.labels, weights)["foreground"]
        assert dice == own.dice


def test_an_annotation_that_cannot_be_divided_names_the_parameter(example):
    one = dataclasses.replace(example, weights=(np.arange(16) == 3)[:, None, None] * np.ones(SHAPE))
    empty = dataclasses.replace(example, labels=example.labels * (np.arange(16) > 8)[:, None, None])
    for given, gap, parameter in ((one, 2, "slices"), (example, 20, "gap"), (empty, 2, "folds")):
        with pytest.raises(ParameterError, match=r"^a.mrc: ") as refused:
            folds_of(given, 2, gap)
        assert refused.value.parameters == (parameter,)
    with pytest.raises(ValueError, match="unknown method 'sheets'"):
        cross_validation(example, ["sheets"])
    with pytest.raises(ValueError, match=r"a.mrc: has no labels, which cross-validation"):
        folds_of(Example(example.volume, name="a.mrc"))
