"""Labels that are mirrored against their tomogram are noticed, and no others."""

import numpy as np
import pytest
from scipy import ndimage

from cryojax_seg.evaluate import mirrored_axes

SHAPE = (24, 40, 44)


@pytest.fixture(scope="module")
def labels():
    found = np.zeros(SHAPE, np.int32)
    for number, (z, y, x) in enumerate([(5, 8, 30), (8, 30, 12), (15, 12, 35), (18, 33, 38)]):
        grid = np.indices(SHAPE)
        near = (grid[0] - z) ** 2 + (grid[1] - y) ** 2 + (grid[2] - x) ** 2 < 16
        found[near] = 1 + number % 2
    return found


def volume_of(labels, contrast, seed=0, smooth=0.0):
    noise = np.random.default_rng(seed).normal(size=SHAPE)
    if smooth:
        noise = ndimage.gaussian_filter(noise, smooth)
        noise /= noise.std()
    return noise + contrast * (labels > 0)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("contrast", [1.0, -1.0])
def test_every_flip_is_named(labels, axes, contrast):
    volume = volume_of(labels, contrast)
    assert mirrored_axes(volume, np.flip(labels, axes), np.ones(SHAPE)) == axes


def test_of_sparse_annotation(labels):
    weights = np.zeros(SHAPE)
    weights[[5, 8, 15]] = 1
    volume = volume_of(labels, 1.5)
    assert mirrored_axes(volume, labels, weights) == ()
    assert mirrored_axes(volume, labels[:, ::-1], weights) == (1,)
    assert mirrored_axes(volume, labels[::-1], weights[::-1]) == (0,)


def test_no_false_alarm(labels):
    everywhere = np.ones(SHAPE)
    both = np.maximum(labels, labels[:, ::-1])
    assert mirrored_axes(volume_of(both, 1.0), both, everywhere) == ()  # symmetric
    assert mirrored_axes(volume_of(both, 1.0), both[:, ::-1], everywhere) == ()
    for seed in range(20):
        for smooth in (0.0, 2.0):
            noise = volume_of(labels, 0.0, seed, smooth)
            assert mirrored_axes(noise, labels, everywhere) == ()  # labels that fit nothing
            faint = volume_of(labels, 0.3, seed, smooth)
            assert mirrored_axes(faint, labels, everywhere) == ()
    assert mirrored_axes(noise, 0 * labels, everywhere) == ()
