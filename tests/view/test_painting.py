"""Labels are painted on any plane, undone and redone by slice, and become an example."""

import numpy as np
import pytest

from cryojax_seg import io, view
from cryojax_seg.core import Tomogram
from cryojax_seg.errors import ParameterError

SHAPE = (6, 20, 24)


@pytest.fixture
def tomogram():
    density = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    return Tomogram(density, voxel_size=(10.0, 10.0, 10.0), name="t.mrc")


@pytest.fixture
def painting(tomogram):
    return view.Painting(tomogram, ("background", "membrane", "actin"))


def whole(painting):
    return np.stack(list(view.painting.sections(painting.slices(), painting.shape)))


def test_a_brush_has_a_radius_in_nm(tomogram):
    fine = Tomogram(tomogram.density, voxel_size=(20.0, 5.0, 10.0))
    painting = view.Painting(fine, ("membrane",))
    painting.stroke((0, 3), [[10, 12]], radius_nm=2.0, value=1)
    found = painting.plane((0, 3)) == 1
    assert found.any(1).sum() == 9 and found.any(0).sum() == 5  # 4.5 nm and 5 nm wide


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_stroke_on_any_plane_shows_in_the_others(painting, axis):
    rows, columns = painting.plane((axis, 4)).shape
    assert painting.stroke((axis, 4), [[2, 3]], radius_nm=0.0, value=2)
    assert painting.plane((axis, 4))[2, 3] == 2
    volume = whole(painting)
    place = {0: (4, 2, 3), 1: (2, 4, 3), 2: (3, 2, 4)}[axis]
    assert np.argwhere(volume == 2).tolist() == [list(place)]
    for other in range(3):
        assert (painting.plane((other, place[other])) == 2).sum() == 1


def test_undo_and_redo_go_slice_by_slice(painting):
    painting.stroke((0, 1), [[5, 5]], 3.0, 1)
    first = painting.plane((0, 1))
    painting.stroke((0, 1), [[5, 8]], 3.0, 2)
    second = painting.plane((0, 1))
    painting.stroke((0, 2), [[5, 5]], 3.0, 1)
    assert painting.steps((0, 1)) == (2, 0)
    assert painting.undo((0, 1)) and (painting.plane((0, 1)) == first).all()
    assert painting.undo((0, 1)) and painting.annotated() == (2,)
    assert not painting.undo((0, 1))
    assert painting.redo((0, 1)) and painting.redo((0, 1)) and not painting.redo((0, 1))
    assert (painting.plane((0, 1)) == second).all()
    painting.undo((0, 1))
    painting.stroke((0, 1), [[15, 15]], 1.0, 1)  # what was undone is forgotten
    assert painting.steps((0, 1)) == (2, 0)
    assert painting.steps((0, 2)) == (1, 0)


def test_undo_leaves_what_another_slice_has_painted_since(painting):
    painting.stroke((0, 3), [[10, 10]], 3.0, 1)
    painting.stroke((1, 10), [[3, 10]], 0.0, 2)  # z = 3, x = 10
    painting.undo((0, 3))
    assert np.argwhere(whole(painting) >= 0).tolist() == [[3, 10, 10]]
    painting.redo((0, 3))
    assert painting.plane((0, 3))[10, 10] == 2 and (painting.plane((0, 3)) == 1).sum() == 28


def test_what_changes_nothing_is_no_step(painting):
    assert painting.stroke((0, 1), [[5, 5]], 2.0, 1)
    assert not painting.stroke((0, 1), [[5, 5]], 1.0, 1)
    assert not painting.stroke((0, 1), [[-50, 5]], 1.0, 1)
    assert painting.steps((0, 1)) == (1, 0)


def test_erasing_everything_frees_the_slice(painting):
    painting.stroke((0, 1), [[5, 5]], 2.0, 1)
    painting.stroke((0, 1), [[5, 5]], 5.0, view.UNKNOWN)
    assert painting.slices() == {} and painting.undo((0, 1)) and painting.annotated() == (1,)


def test_a_complete_slice_is_background_but_for_what_was_excluded(painting):
    painting.stroke((0, 2), [[5, 5]], 2.0, 1)
    painting.stroke((0, 2), [[15, 15]], 2.0, view.EXCLUDED)
    assert painting.complete((0, 2))
    labels = painting.plane((0, 2))
    assert {v: int((labels == v).sum()) for v in (-2, 0, 1)} == {-2: 13, 0: 20 * 24 - 26, 1: 13}
    assert (whole(painting)[2] == -1).sum() == 13  # on disk both are alike
    assert painting.undo((0, 2)) and (painting.plane((0, 2)) == 0).sum() == 0


def test_a_fill_closes_an_outline(painting):
    painting.line((0, 2), [[4, 4], [4, 15], [15, 15], [15, 4], [4, 4]], 1.0, 1)
    outline = (painting.plane((0, 2)) == 1).sum()
    painting.fill((0, 2), [9, 9], 2)
    labels = painting.plane((0, 2))
    assert labels[9, 9] == 2 and labels[0, 0] == -1
    assert (labels == 1).sum() == outline and 80 < (labels == 2).sum() < 180


def test_a_prediction_is_pasted_where_nobody_annotated(painting):
    painting.stroke((0, 2), [[5, 5]], 2.0, 2)
    found = np.zeros(SHAPE[1:], np.uint8)
    found[4:7, 3:10] = 1
    assert painting.paste((0, 2), found)
    labels = painting.plane((0, 2))
    assert (labels == 2).sum() == 13 and labels[6, 9] == 1 and labels[0, 0] == -1
    with pytest.raises(ValueError, match="membrane, actin"):
        painting.paste((0, 2), found * 3)


def test_a_class_can_be_added(tomogram):
    painting = view.Painting(tomogram, ("membrane",))
    painting.add_class("actin")
    assert painting.classes == ("background", "membrane", "actin")
    assert painting.stroke((0, 0), [[5, 5]], 1.0, 2)
    assert painting.counts() == {"background": 0, "membrane": 0, "actin": 5}
    for name in ("", "actin", "a, b", "background"):
        with pytest.raises(ValueError, match="another name"):
            painting.add_class(name)


def test_mistakes_are_refused(painting, tomogram):
    for plane, value, said in (((0, 6), 1, "no slice 6"), ((0, 1), 3, "no label 3")):
        with pytest.raises(ValueError, match=said):
            painting.stroke(plane, [[5, 5]], 1.0, value)
    with pytest.raises(ParameterError, match="voxel size is unknown"):
        view.Painting(Tomogram(tomogram.density))
    assert painting.slices() == {}


def test_slices_do_not_change_while_they_are_written(painting):
    painting.stroke((0, 1), [[5, 5]], 2.0, 1)
    before = painting.slices()
    kept = before[1].copy()
    painting.stroke((0, 1), [[5, 9]], 2.0, 1)
    assert (before[1] == kept).all()


def test_an_example_has_weight_where_somebody_painted(painting, tomogram):
    session = view.Session(tomogram, painting=painting)
    with pytest.raises(ValueError, match="nothing is annotated yet"):
        session.example()
    painting.stroke((0, 2), [[5, 5]], 2.0, 2)
    painting.stroke((0, 2), [[15, 5]], 2.0, 0)
    painting.stroke((0, 3), [[15, 5]], 2.0, view.EXCLUDED)
    example = session.example()
    assert example.volume.shape == SHAPE and example.name == "t.mrc"
    assert (
        int(example.weights.sum()) == 26 and (example.labels[example.weights > 0] == 2).sum() == 13
    )
    volume = io.normalized(tomogram, "dark")
    np.testing.assert_array_equal(example.volume, volume[:])
    part = session.example(around=1)
    np.testing.assert_array_equal(part.labels, example.labels[1:4])
    np.testing.assert_array_equal(part.volume, example.volume[1:4])
