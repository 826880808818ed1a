"""Which voxels belong to one object: components, touching vesicles, apposed membranes."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label

from cryojax_seg import measure


def balls(radii, centres, shape):
    points = np.indices(shape)
    away = [np.linalg.norm(points - np.reshape(c, (3, 1, 1, 1)), axis=0) for c in centres]
    return [a < r for a, r in zip(away, radii, strict=True)]


def sheets(gap, tilt=0.0, shape=(32, 28, 28), wave=0.0):
    """Two soft sheets, 3 voxels thick, their middles a gap apart; probability, and which is it."""
    z, y, x = np.indices(shape).astype(np.float32)
    height = (z - shape[0] / 2 - tilt * (x - shape[2] / 2)) / np.hypot(1, tilt)
    height = height - wave * np.sin(2 * np.pi * y / 20)
    one, two = (1 / (1 + np.exp((np.abs(height + s) - 1.5) / 0.4)) for s in (-gap / 2, gap / 2))
    return np.maximum(one, two).astype(np.float32), height > 0


def test_components_are_those_of_scikit_image():
    mask = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(20, 24, 22)), 1) > 0.2
    ours, theirs = measure.components(mask), label(mask, connectivity=3)
    sizes = np.bincount(ours.ravel())[1:]
    assert ours.max() == theirs.max() and (np.diff(sizes) <= 0).all()
    pairs = np.unique(np.stack([ours.ravel(), theirs.ravel()]), axis=1)
    assert pairs.shape[1] == ours.max() + 1  # one to one
    kept = measure.components(mask, smallest=10)
    assert kept.max() == (sizes >= 10).sum()
    assert (kept > 0).sum() == sizes[sizes >= 10].sum()


def test_instances_come_in_their_boxes():
    numbers = np.zeros((6, 8, 10), np.int32)
    numbers[1:3, 2:4, 3:9] = 4
    (one,) = measure.instances(numbers, margin=2)
    assert one.number == 4 and one.box == (slice(0, 5), slice(0, 6), slice(1, 10))
    np.testing.assert_array_equal(one.mask, numbers[one.box] == 4)
    assert measure.instances(np.zeros((3, 3, 3), int)) == []


@pytest.mark.parametrize("voxel_size", [(1.0, 1.0, 1.0), (10.0, 10.0, 10.0)])
def test_touching_vesicles_of_unequal_size_are_cut_at_their_neck(voxel_size):
    a, b = balls((10, 6), ([12, 12, 12], [12, 12, 26]), (24, 24, 36))
    assert measure.components(a | b).max() == 1
    parts = measure.split_touching(a | b, voxel_size)
    assert parts.max() == 2
    only = a & ~b
    assert (parts[only] == 1).mean() > 0.98 and (parts[b & ~a] == 2).mean() > 0.98
    assert measure.split_touching(a | b, voxel_size, neck=0).max() == 1


def test_one_body_stays_one():
    """An ellipsoid, a rough ball and a bent tube have no neck; cut by a face neither."""
    z, y, x = np.indices((24, 24, 50)) - np.array([12, 12, 25]).reshape(3, 1, 1, 1)
    ellipsoid = (z / 8) ** 2 + (y / 10) ** 2 + (x / 22) ** 2 < 1
    rough = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=z.shape), 1.5) * 8
    ball = np.sqrt(z**2 + y**2 + x**2) + rough < 10
    tube = np.hypot(z, y - 0.01 * x**2 + 3) < 4
    for mask in (ellipsoid, measure.components(ball) == 1, tube, ellipsoid[:14]):
        assert measure.split_touching(mask).max() == 1


@pytest.mark.parametrize("tilt", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("wave", [0.0, 1.5])
def test_apposed_membranes_stay_apart(tilt, wave):
    """Their masks at 0.2 touch everywhere; the valley between them is a quarter as high."""
    p, above = sheets(4.0, tilt, wave=wave)
    assert measure.components(p > 0.2).max() == 1
    parts = measure.split_membranes(p, level=0.2)
    assert parts.max() == 2
    upper = parts == parts[p > 0.9][above[p > 0.9]][0]
    sure = p > 0.5
    assert (upper[sure] == above[sure]).mean() > 0.99
    assert ((parts > 0) == (p > 0.2)).all()


def test_one_membrane_of_uneven_thickness_and_strength_stays_one():
    z, y, x = np.indices((24, 40, 40)).astype(np.float32)
    thickness = 3 + 1.5 * np.sin(x / 4) * np.sin(y / 5)
    p = 1 / (1 + np.exp((np.abs(z - 12) - thickness / 2) / 0.5))
    assert measure.split_membranes(p.astype(np.float32)).max() == 1
    weak = np.where(np.abs(x - 20) < 2, 0.6, 1.0) * p  # a stripe that is hard to see
    assert measure.components(weak > 0.4).max() == 1
    assert measure.split_membranes(weak.astype(np.float32), level=0.4).max() == 1
    rng = np.random.default_rng(0)
    noisy = np.clip(p + 0.05 * rng.normal(size=p.shape), 0, 1).astype(np.float32)
    assert measure.split_membranes(noisy, smallest=50).max() == 1


def test_nothing_has_no_instances():
    nothing = np.zeros((5, 6, 7), bool)
    assert measure.components(nothing).max() == 0
    assert measure.split_touching(nothing).max() == 0
    assert measure.split_membranes(nothing.astype(np.float32)).max() == 0
    with pytest.raises(ValueError, match="neck"):
        measure.split_touching(nothing, neck=2.0)
    with pytest.raises(ValueError, match="valley"):
        measure.split_membranes(nothing.astype(np.float32), valley=-1.0)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.int64, np.uint64, np.float32])
def test_instance_maps_of_every_type_are_renumbered_without_gaps(kind):
    """Objects that touch stay apart, and the 255th is one as well."""
    labels = np.zeros((3, 4, 6), kind)
    largest = min(65535, 255 if kind is np.uint8 else 65535)
    labels[1, :, 0], labels[1, :, 1], labels[2, 0, 5] = 255, 3, largest
    numbers, ids = measure.renumber(labels)
    assert ids == sorted({3, 255, largest}) and numbers.dtype == np.int32
    np.testing.assert_array_equal(np.array([0, *ids])[numbers], labels.astype(int))


@pytest.mark.parametrize("value", [1e30, 2.0**25, 0.5, np.inf, np.nan, -2.0])
def test_what_is_no_object_number_is_refused(value):
    labels = np.zeros((2, 2, 2), np.float32)
    labels[0, 0, 0] = value
    with pytest.raises(ValueError, match="integers|negative"):
        measure.renumber(labels)
