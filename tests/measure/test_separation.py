"""Membranes that touch are counted as a person would count them."""

import numpy as np
import pytest

from cryojax_seg.evaluate import panoptic
from cryojax_seg.measure import components, lumens, measure_classes, separate_membranes
from cryojax_seg.measure.scene import ObjectClass
from cryojax_seg.measure.tiled import numbered, tiles

SHAPE = (32, 56, 56)
CENTRES = ((16, 15, 15), (16, 15, 39), (16, 36, 27))
RADII = (10.0, 11.0, 11.0)


def away(centre):
    return np.linalg.norm(np.indices(SHAPE).T - centre, axis=-1).T


@pytest.fixture(scope="module")
def vesicles():
    """Three vesicles whose walls touch, and which of them is nearest to each voxel."""
    height = [abs(away(c) - r) for c, r in zip(CENTRES, RADII, strict=True)]
    mask = np.min(height, axis=0) < 2.0
    mask[14:19, 24:32, 18:22] |= True  # a bridge
    return mask, np.argmin(height, axis=0)


def test_each_lumen_makes_a_membrane(vesicles):
    mask, nearest = vesicles
    assert components(mask).max() == 1
    numbers = separate_membranes(mask)
    assert numbers.max() == 3 and ((numbers > 0) == mask).all()
    for number in (1, 2, 3):
        of = nearest[numbers == number]
        assert (of == np.bincount(of).argmax()).mean() > 0.97
    assert (np.diff(np.bincount(numbers.ravel())[1:]) <= 0).all()  # the largest first


def test_tiles_give_what_the_whole_gives(vesicles):
    mask = np.tile(vesicles[0], (1, 1, 3))
    whole, tiled = separate_membranes(mask), separate_membranes(mask, most=250_000)
    assert len(list(tiles(mask.shape, 250_000, 40))) == 4
    assert whole.max() == tiled.max() == 9
    found = panoptic(tiled, whole)
    assert found.matched == 9 and found.agreement > 9 * 0.98


def test_a_pocket_between_vesicles_is_no_lumen(vesicles):
    mask, _ = vesicles
    found = lumens(mask)
    inside = np.min([away(c) - r for c, r in zip(CENTRES, RADII, strict=True)], axis=0) <= -2.0
    assert not found[~inside].any()
    assert all(found[centre] > 0 for centre in CENTRES)
    assert len({int(found[centre]) for centre in CENTRES}) == 3


def test_caps_that_the_wedge_hides_leave_one_vesicle():
    mask = abs(away((16, 28, 28)) - 12) < 2.0
    mask[:9] = mask[24:] = False
    assert separate_membranes(mask).max() == 1


def test_a_faint_wall_closes_a_lumen(vesicles):
    mask, _ = vesicles
    gap = mask & (np.indices(SHAPE)[0] > 17)
    p = np.where(mask, np.where(gap, 0.2, 0.9), 0.0).astype(np.float32)
    assert separate_membranes(mask & ~gap, p).max() == 3


def test_a_sheet_beside_a_vesicle_is_an_object_and_a_speck_is_none():
    mask = abs(away((16, 20, 28)) - 12) < 2.0
    mask[:, 33:37] = True  # touches the vesicle
    mask[1:4, 50:53, 4:7] = True
    assert components(mask).max() == 2
    numbers = separate_membranes(mask)
    assert numbers.max() == 2 and numbers[2, 51, 5] == 0
    assert numbers[16, 35, 2] == numbers[16, 35, 53] != numbers[16, 9, 28]
    assert separate_membranes(mask, smallest=10)[2, 51, 5] == 3


def test_the_matrix_and_the_outer_membrane_are_two_membranes():
    radius = away((16, 28, 28))
    mask = (abs(radius - 13) < 1.0) | (abs(radius - 7) < 1.0)
    mask[16, 28, 35:42] = True  # a bridge
    numbers = separate_membranes(mask)
    assert numbers.max() == 2
    assert numbers[16, 28, 21] == numbers[16, 35, 28] == 2
    assert numbers[16, 28, 15] == numbers[16, 15, 28] == 1


def test_measured_objects_are_the_separate_ones(vesicles):
    mask, _ = vesicles
    found = measure_classes(
        mask.astype(np.int8), (10.0, 10.0, 10.0), [ObjectClass("membrane", 1, "membrane")]
    ).classes["membrane"]
    assert (found.numbers(mask.shape) == separate_membranes(mask)).all()
    areas = sorted(row["area_nm2"].value for row in found.rows)
    assert areas == pytest.approx([4 * np.pi * r**2 for r in RADII], rel=0.1)
    assert [row["lumen_within"] for row in found.rows] == ["space"] * 3


def test_nothing_gives_nothing():
    assert separate_membranes(np.zeros((4, 5, 6), bool)).max() == 0
    assert numbered(np.zeros((4, 5, 6), np.int32), lambda box: np.zeros((4, 5, 6), int)) == 0
