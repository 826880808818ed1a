"""The panoptic quality against values worked out by hand from its definition."""

import numpy as np
import pytest

from cryojax_seg.evaluate import panoptic


def blocks(*sizes):
    """Return a line of voxels with runs of these lengths, numbered 1, 2, ..., one apart."""
    parts = [np.r_[np.full(size, number), 0] for number, size in enumerate(sizes, 1)]
    return np.concatenate(parts)[None, None]


def test_the_same_objects_have_a_quality_of_one_whatever_their_numbers():
    truth = blocks(4, 5, 6)
    found = panoptic(np.where(truth > 0, 100 - 7 * truth, 0), truth)
    assert (found.matched, found.predicted, found.true) == (3, 3, 3)
    assert found.quality == found.recognition == found.segmentation == 1.0
    assert found.count_error == 0.0


def test_an_object_in_two_halves_is_no_match_and_counts_twice():
    truth = blocks(10)
    halves = truth.copy()
    halves[..., 5:10] *= 2
    found = panoptic(halves, truth)  # both halves have an IoU of exactly 1/2
    assert (found.matched, found.predicted, found.true) == (0, 2, 1)
    assert found.quality == 0.0 and found.count_error == 1.0 and found.segmentation is None
    assert panoptic(halves, truth, least=0.4).matched == 1  # each object matches one at most


def test_quality_is_recognition_times_segmentation():
    truth, found = blocks(10, 10, 10), blocks(10, 10, 10)
    found[found == 3] = 0
    found[..., 8:10] = 0  # 8 of 10 voxels of the first
    result = panoptic(found, truth)
    assert result.segmentation == pytest.approx(0.9)
    assert result.recognition == pytest.approx(2 / (2 + 0.5))
    assert result.quality == pytest.approx(0.9 * 0.8)
    assert result.count_error == pytest.approx(-1 / 3)


def test_what_nobody_annotated_is_neither_right_nor_wrong():
    truth, found = blocks(10, 10), blocks(10, 10)
    truth[truth == 2] = 0
    weights = np.ones(truth.shape)
    assert panoptic(found, truth, weights).predicted == 2
    weights[found == 2] = 0
    weights[..., :3] = 0  # the rest of the first object agrees
    result = panoptic(found, truth, weights)
    assert (result.matched, result.predicted, result.true, result.quality) == (1, 1, 1, 1.0)


def test_without_objects_nothing_has_a_quality():
    none = np.zeros((2, 2, 2), int)
    empty = panoptic(none, none)
    assert (empty.quality, empty.recognition, empty.count_error) == (None, None, None)
    assert panoptic(none + 1, none).quality == 0.0
    assert panoptic(none, none + 1).count_error == -1.0


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="one volume"):
        panoptic(np.zeros(3, int), np.zeros(4, int))
    with pytest.raises(ValueError, match="least"):
        panoptic(np.zeros(3, int), np.zeros(3, int), least=2)
