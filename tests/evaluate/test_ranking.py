"""Average precision is the sum over the voxels of a class, from the most probable on."""

import numpy as np
import pytest

from cryojax_seg.evaluate import rank


def expected(probability, inside, weights):
    order = np.argsort(-probability)
    found, weight = inside[order], weights[order]
    claimed, right = np.cumsum(weight), np.cumsum(weight * found)
    return (right / claimed * weight * found).sum() / (weight * found).sum()


def test_average_precision_is_that_of_the_sorted_voxels():
    rng = np.random.default_rng(0)
    inside = rng.uniform(size=100) < 0.3
    odds = rng.permutation(np.linspace(-6, 6, 100)) + 2.0 * inside  # about two bins apart
    probability, weights = 1 / (1 + np.exp(-odds)), rng.uniform(size=100)
    found = rank(probability, inside, weights)
    assert found.average_precision == pytest.approx(
        expected(probability, inside, weights), abs=0.01
    )
    halves = rank(probability[:40], inside[:40], weights[:40]) + rank(
        probability[40:], inside[40:], weights[40:]
    )
    np.testing.assert_allclose(halves.positive, found.positive)


def test_voxels_without_weight_or_class_have_no_effect():
    probability, inside = np.array([0.9, 0.8]), np.array([True, False])
    assert rank(probability, inside).average_precision == 1
    assert rank(probability, ~inside, np.array([0.0, 1.0])).average_precision == 1
    assert rank(probability, np.zeros(2, bool)).average_precision is None
    assert rank(np.full(4, 0.5), np.array([True, False, False, False])).average_precision == 0.25
