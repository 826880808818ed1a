"""Filaments are the same whether their volume is taken as a whole or in tiles, on disk or not."""

import numpy as np
import pytest
from scipy import ndimage

from cryojax_seg import measure
from cryojax_seg.measure.boxes import ObjectBoxes
from cryojax_seg.measure.local import values_of, voxels_near
from cryojax_seg.measure.skeleton import branches, closed
from cryojax_seg.measure.tiled import on_disk
from cryojax_seg.measure.tube_axes import tube_axes, walls

VOXEL = (10.0, 10.0, 8.0)
SHAPE = (40, 56, 80)


def away_from(start, stop):
    """The distance of each voxel to a line in angstrom, and whether it is beside it."""
    shift = np.moveaxis(np.indices(SHAPE), 0, -1) * VOXEL - np.asarray(start, float)
    way = np.subtract(stop, start) / np.linalg.norm(np.subtract(stop, start))
    along = shift @ way
    beside = (along >= 0) & (along <= np.linalg.norm(np.subtract(stop, start)))
    return np.linalg.norm(shift - along[..., None] * way, axis=-1), beside


@pytest.fixture(scope="module")
def labels():
    """A tube that a face cuts, a filled one, and rods that cross: of 3 and of 4 voxels."""
    found = np.zeros(SHAPE, np.int8)
    for label, start, stop, low, high in (
        (1, (190, 160, -60), (230, 190, 560), 90, 130),
        (1, (200, 420, 60), (180, 400, 600), 0, 110),
        (2, (40, 40, 20), (360, 300, 600), 0, 16),
        (2, (350, 30, 40), (340, 520, 560), 0, 20),
    ):
        away, beside = away_from(start, stop)
        found[(away >= low) & (away <= high) & beside & (found == 0)] = label
    return found


@pytest.fixture
def small_tiles(monkeypatch):
    for name, value in (
        ("local.TILE", 60_000),
        ("local._PIECE", 5),
        ("skeleton._VOXELS", 100),
        ("skeleton._SECTIONS", 3),
        ("fitting._VOXELS", 100),
        ("classes._PER_VOXEL", 2**20),
    ):
        monkeypatch.setattr(f"cryojax_seg.measure.{name}", value)
    monkeypatch.setattr("cryojax_seg.measure.slabs.depth_of", lambda _: 3)


def measured(labels, soft):
    classes = [
        measure.ObjectClass("microtubule", 1, "filament", probability=soft),
        measure.ObjectClass("actin", 2, "filament", probability=soft),
    ]
    return measure.measure_classes(labels, VOXEL, classes, memory_gib=1)


def on_file(mask):
    found = on_disk(mask.shape, dtype=mask.dtype.type)
    found[:] = mask
    return found


def test_filaments_are_the_same_in_tiles(labels, request):
    soft = ndimage.gaussian_filter((labels > 0).astype(np.float32), 0.7).astype(np.float16)
    whole = measured(labels, soft)
    request.getfixturevalue("small_tiles")
    parts = measured(labels, soft)
    assert [len(one.rows) for one in whole.classes.values()] == [2, 2]
    assert parts.rows() == whole.rows() and parts.totals() == whole.totals()


def test_masks_are_the_same_in_tiles(labels, request):
    def found(mask):
        yield tube_axes(mask, 110.0, VOXEL)
        yield walls(mask, VOXEL)
        yield closed(mask, 25.0, VOXEL)
        yield closed(mask, 0.0, VOXEL)

    whole = list(found(labels == 1))
    request.getfixturevalue("small_tiles")
    for expected, one in zip(whole, found(on_file(labels == 1)), strict=True):
        assert isinstance(one, np.memmap) and expected.any()
        np.testing.assert_array_equal(one, expected)


def test_walls_are_what_is_near_the_outside(labels):
    filled = labels == 1
    filled[:, 44:] = True  # to the faces
    away = np.asarray(ndimage.distance_transform_edt(filled, sampling=VOXEL))
    np.testing.assert_array_equal(walls(filled, VOXEL), filled & (away <= 40))


def test_branches_of_components_are_those_of_all(labels, request):
    mask = labels == 2
    mask[0, 0, 0] = mask[-1, -1, -1] = True  # components of one voxel
    whole = branches(mask, VOXEL)
    request.getfixturevalue("small_tiles")
    parts = branches(on_file(mask), VOXEL)
    assert len(whole) == len(parts) > 1
    for one, expected in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(one.points, expected.points)
        assert (one.radius, one.slack, one.junction) == (
            expected.radius,
            expected.slack,
            expected.junction,
        )
    assert branches(np.zeros(SHAPE, bool), VOXEL) == []


def test_voxels_near_a_line_are_all_within_the_distance(labels, small_tiles):
    line = np.linspace((0, 0, 0), (390, 550, 632), 40)
    index, points, nearest = voxels_near(labels > 0, line, 55.0, VOXEL)
    every = np.argwhere(labels > 0)
    away = np.linalg.norm((every * VOXEL)[:, None] - line, axis=2)
    np.testing.assert_array_equal(index, every[away.min(1) < 55])
    np.testing.assert_array_equal(points, index * VOXEL)
    np.testing.assert_array_equal(nearest, away.argmin(1)[away.min(1) < 55])
    box = np.s_[10:30, 5:50, 7:70]
    own = values_of(labels, labels[box] > 0, (10, 5, 7))
    np.testing.assert_array_equal(own, labels[box][labels[box] > 0])


def test_a_map_with_other_numbers_stays_on_disk():
    numbers = on_file(np.array([[[0, 1, 2, 2]]], np.int32))
    named = ObjectBoxes(numbers, names=[9, 4]).renamed()
    assert isinstance(named, np.memmap) and named.dtype == np.int32
    assert named.tolist() == [[[0, 9, 4, 4]]]
    large = ObjectBoxes(np.asarray(numbers), names=[2**40, 4]).renamed()
    assert large.tolist() == [[[0, 2**40, 4, 4]]]
