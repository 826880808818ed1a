"""Objects found slab by slab are those of the whole volume, whatever the thickness of the slabs."""

import numpy as np
import pytest
from scipy import ndimage

from cryojax_seg.measure import holes as holes_module
from cryojax_seg.measure import slabs
from cryojax_seg.measure.holes import with_filled_holes
from cryojax_seg.measure.runs import EVERY, FACES


def random_labels(seed, shape=(9, 11, 13), classes=2, density=0.4):
    """Noise, a little smoothed for larger objects; every value below `classes` occurs."""
    rng = np.random.default_rng(seed)
    values = ndimage.gaussian_filter(rng.normal(size=shape), 0.7 * (seed % 3))
    edges = np.quantile(values, 1 - density * np.arange(1, classes + 1)[::-1] / classes)
    return np.searchsorted(edges, values).astype(np.int8)


def changed(volume, parts):
    """The volume after the parts were written to it, as they came, in place."""
    for z, block in parts:
        assert block.shape == volume[z].shape
        volume[z] = block
    return volume


def reader(volume):
    return lambda z: volume[z].copy()


CASES = [(seed, depth) for seed in range(6) for depth in (1, 2, 3, 5, 8, 9, 20)]


@pytest.mark.parametrize("structure", [EVERY, FACES], ids=["every", "faces"])
@pytest.mark.parametrize(("seed", "depth"), CASES)
def test_components_are_those_of_scipy_with_their_numbers(seed, depth, structure):
    mask = random_labels(seed, density=0.2 + 0.1 * (seed % 4)) > 0
    expected, count = ndimage.label(mask, structure)
    found = slabs.components(reader(mask), mask.shape, depth, structure)
    numbers = np.concatenate([part for _, part in found.slabs()])
    assert found.count == count and numbers.dtype == np.int32
    np.testing.assert_array_equal(numbers, expected)
    np.testing.assert_array_equal(found.sizes[1:], np.bincount(expected.ravel())[1:])


@pytest.mark.parametrize("depth", [1, 2, 7])
def test_a_spiral_that_joins_only_at_its_end(depth):
    """Two arms in every slab are one object, as the last section says."""
    mask = np.zeros((7, 3, 9), bool)
    mask[:, 1, ::2] = True
    mask[0, 1, 1], mask[-1, 1, 3], mask[0, 1, 5], mask[-1, 1, 7] = True, True, True, True
    found = slabs.components(reader(mask), mask.shape, depth)
    assert found.sizes.tolist() == [0, mask.sum()]


@pytest.mark.parametrize("full", [False, True])
def test_empty_and_full_masks(full):
    mask = np.full((4, 3, 2), full)
    found = slabs.components(reader(mask), mask.shape, 3)
    assert found.sizes.tolist() == [0, 24][: 1 + full]
    assert all((part == full).all() for _, part in found.slabs())


@pytest.mark.parametrize(("seed", "depth"), CASES)
def test_small_objects_of_one_class_go(seed, depth):
    labels = random_labels(seed)
    numbers, count = ndimage.label(labels == 2, EVERY)
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    least = int(np.median(sizes[1:])) + 1
    expected = np.where((numbers > 0) & (sizes[numbers] < least), 0, labels)
    found = changed(
        labels.copy(), slabs.without_small(reader(labels), labels.shape, 2, least, depth)
    )
    np.testing.assert_array_equal(found, expected)
    assert (expected != labels).any() and found.dtype == labels.dtype


def filled_whole(labels, most):
    """The definition, one hole after the other."""
    result = labels.copy()
    padded = np.pad(labels, 1)  # the surroundings are background
    numbers, count = ndimage.label(padded == 0, FACES)
    for number in set(range(1, count + 1)) - {numbers[0, 0, 0]}:
        hole = numbers == number
        around = ndimage.binary_dilation(hole, FACES) & ~hole
        values = np.unique(padded[around])
        if len(values) == 1 and hole.sum() <= most[values[0] - 1]:
            result[hole[1:-1, 1:-1, 1:-1]] = values[0]
    return result


@pytest.mark.parametrize(("seed", "depth"), CASES)
@pytest.mark.parametrize("most", [(3, 3), (0, 100), (2, 0)])
def test_holes_of_one_class_are_filled(seed, depth, most):
    labels = random_labels(seed, density=0.9 - 0.05 * (seed % 3), classes=1 + seed % 2)
    expected = filled_whole(labels, most)
    found = changed(labels.copy(), with_filled_holes(reader(labels), labels.shape, most, depth))
    np.testing.assert_array_equal(found, expected)


def test_some_hole_was_filled():
    assert (filled_whole(random_labels(0, density=0.9, classes=1), (3,)) == 0).sum() < (
        random_labels(0, density=0.9, classes=1) == 0
    ).sum()


@pytest.mark.parametrize("seed", [0, 1, 3, 4])
def test_what_is_not_remembered_is_found_again(seed, monkeypatch):
    """Without memory for what the first pass found, the result is the same."""
    sparse, dense = (random_labels(seed, density=d, classes=1) for d in (0.2, 0.85))
    ways = [
        (sparse, lambda: slabs.without_small(reader(sparse), sparse.shape, 1, 4, 3)),
        (dense, lambda: with_filled_holes(reader(dense), dense.shape, [5], 3)),
    ]
    expected = [changed(labels.copy(), way()) for labels, way in ways]
    for module in (slabs, holes_module):
        monkeypatch.setattr(module, "KEPT", 0)
    for (labels, way), whole in zip(ways, expected, strict=True):
        np.testing.assert_array_equal(changed(labels.copy(), way()), whole)
        assert (whole != labels).any()


def small(volume):
    return slabs.without_small(lambda z: volume[z], volume.shape, 1, 4, 2)


def holes(volume):
    return with_filled_holes(lambda z: volume[z], volume.shape, [40], 2)


@pytest.mark.parametrize(("clean", "density"), [(small, 0.2), (holes, 0.85)])
def test_what_was_cut_short_is_completed_in_place(clean, density):
    """A process that was killed has replaced some slabs; the next one begins again."""
    labels = random_labels(3, density=density, classes=1)
    expected = changed(labels.copy(), list(clean(labels)))
    half = labels.copy()
    z, block = next(clean(half))
    half[z] = block
    assert (half != labels).any() and (half != expected).any()
    np.testing.assert_array_equal(changed(half, clean(half)), expected)


@pytest.mark.parametrize("depth", [1, 4, 9])
def test_objects_are_numbered_class_by_class(depth):
    labels = random_labels(1, classes=3)
    found = slabs.objects(reader(labels), labels.shape, (1, 2, 3), depth)
    expected, before = np.zeros(labels.shape, int), 0
    for value in (1, 2, 3):
        numbers, count = ndimage.label(labels == value, EVERY)
        expected[numbers > 0] = numbers[numbers > 0] + before
        before += count
        assert found.counts[value] == count
    np.testing.assert_array_equal(np.concatenate([n for _, n in found.slabs()]), expected)
