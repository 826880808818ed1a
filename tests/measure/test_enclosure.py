"""What encloses an object, and how much of its surface is in contact."""

import numpy as np
import pytest
from scipy import ndimage

from cryojax_seg import measure
from cryojax_seg.measure import enclosed
from cryojax_seg.measure.enclosed import bridged_lumen, lumen
from cryojax_seg.measure.enclosure import Body

GRID = np.indices((44, 44, 72)).astype(float)
VOXEL = (10.0, 10.0, 10.0)


def away(centre):
    return np.linalg.norm(GRID - np.reshape(centre, (3, 1, 1, 1)), axis=0)


def rows(labels, classes, **options):
    return measure.measure_classes(labels, VOXEL, classes, smallest=20, **options).rows()


@pytest.fixture(scope="module")
def scene():
    """Two membranes, one in the other, granules in, between and outside, and a filament."""
    middle = away((22, 22, 22))
    labels = np.zeros(GRID.shape[1:], np.int8)
    labels[abs(middle - 18) < 1.5] = labels[abs(middle - 9) < 1.5] = 1
    for x in (22, 36, 62):
        labels[away((22, 22, x)) < 3] = 2
    labels[21:24, 8:11, 22:70] = 3  # leaves the outer membrane
    return labels


CLASSES = [
    measure.ObjectClass("membrane", 1, "membrane"),
    measure.ObjectClass("granule", 2, "organelle"),
    measure.ObjectClass("actin", 3, "filament"),
]


def test_the_innermost_membrane_encloses(scene):
    found = rows(scene, CLASSES)
    outer, inner = (row for row in found if row["class"] == "membrane")
    assert outer["area_nm2"].value > inner["area_nm2"].value
    assert (outer["inside_class"], outer["inside_instance"], outer["side"]) == ("", None, "outside")
    assert (inner["inside_class"], inner["inside_instance"]) == ("membrane", outer["instance"])
    granules = sorted((row for row in found if row["class"] == "granule"), key=lambda r: r["x_nm"])
    hosts = [row["inside_instance"] for row in granules]
    assert hosts == [inner["instance"], outer["instance"], None]
    assert [row["side"] for row in granules] == ["inside", "inside", "outside"]
    (tube,) = (row for row in found if row["class"] == "actin")
    assert tube["side"] == "across" and 0.1 < tube["inside_share"] < 0.5
    assert tube["inside_instance"] == outer["instance"]


def test_an_organelle_encloses_what_it_holds_and_not_the_reverse():
    large, small = (
        Body((2, 2, 2), np.ones((8, 8, 8), bool)),
        Body((3, 3, 3), np.ones((2,) * 3, bool)),
    )
    large.mask[1:3, 1:3, 1:3] = False  # where the small one is
    hosts = [(large, "organelle", 0), (small, "organelle", 1)]
    first, second = measure.enclosures([large, small], hosts)
    assert first.host is None and first.share == 0
    assert second.host == 0 and second.share == 1


def test_contact_of_slabs_is_the_area_that_faces_the_other():
    labels = np.zeros((30, 40, 40), np.int8)
    labels[5:10], labels[12:17] = 1, 2  # 2 nm apart
    classes = [measure.ObjectClass(name, n, "organelle") for n, name in ((1, "one"), (2, "two"))]
    one, _ = rows(labels, classes)
    assert one["contact_with_two_nm2"] == pytest.approx(1600, rel=0.02)
    apart, _ = rows(labels, classes, touching_angstrom=10.0)
    assert apart["contact_with_two_nm2"] == 0


def test_contact_of_a_filament_is_a_length(scene):
    labels = np.zeros((24, 24, 60), np.int8)
    labels[10:13, 10:13] = 3
    labels[15:19, :, 20:40] = 2  # two voxels above
    tube = rows(labels, CLASSES[1:])[-1]
    assert tube["contact_with_granule_nm"] == pytest.approx(20, abs=4)


def test_without_membranes_nothing_is_said_of_sides():
    labels = np.zeros((24, 24, 60), np.int8)
    labels[10:13, 10:13] = 3
    (row,) = rows(labels, CLASSES[2:])
    assert "side" not in row and "inside_class" not in row


@pytest.mark.parametrize("opened", [False, True])
def test_what_is_known_of_a_membrane_changes_nothing(opened):
    shell = abs(np.linalg.norm(np.indices((30, 30, 30)) - 14.5, axis=0) - 10) < 1.5
    shell[:, 13:16, 20:] &= not opened
    shell[:8] &= not opened
    closed = lumen(shell).closed
    assert closed == (not opened)
    found = bridged_lumen(shell, 5.0, closed)
    np.testing.assert_array_equal(found, bridged_lumen(shell, 5.0))
    np.testing.assert_array_equal(found, lumen(shell, 5.0).mask)
    assert found[14, 14, 14]


@pytest.mark.parametrize(("gap", "large"), [(1.0, 16), (4.5, 16), (6.0, 16), (6.0, 2)])
def test_gaps_are_bridged_as_distances_say(gap, large, monkeypatch):
    """A ring with random holes encloses what no disc reaches that is as wide as the gap."""
    monkeypatch.setattr(enclosed, "_LARGE", large)
    y, x = np.indices((40, 44)) - 20.0
    ring = np.tile(abs(np.hypot(y, x) - 12) < 1.2, (6, 1, 1))
    ring[np.random.default_rng(3).random(ring.shape) < 0.4] = False
    ring[2] = False
    expected = np.zeros(ring.shape, bool)
    for section, own in zip(ring, expected, strict=True):
        if section.any():
            near = np.asarray(ndimage.distance_transform_edt(~section)) <= gap / 2
            inside = ndimage.binary_fill_holes(near) & ~near
            own[:] = np.asarray(ndimage.distance_transform_edt(~inside)) < gap / 2
            own[section | ~inside.any()] = False
    assert expected.any()
    np.testing.assert_array_equal(lumen(ring, gap).mask, expected)


@pytest.mark.parametrize("radius", [7.0, 8.5, 8.6])
def test_a_label_that_fills_a_vesicle_lies_in_it(radius):
    """The lumen itself is as large as what the membrane encloses, or a little larger."""
    away = np.linalg.norm(np.indices((30, 30, 30)) - 14.5, axis=0)
    shell = Body((0, 0, 0), (away >= 8.5) & (away < 11))
    lumen = Body((0, 0, 0), away < radius)
    hosts = [(shell, "membrane", 0), (lumen, "organelle", 1)]
    assert [one.host for one in measure.enclosures([shell, lumen], hosts)] == [None, 0]
