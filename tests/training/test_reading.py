"""Annotated tomograms are read as examples, and what is unlikely of them is logged."""

import logging

import numpy as np
import pytest

from cryojax_seg import io
from cryojax_seg.errors import ParameterError
from cryojax_seg.training import Example, read_examples
from cryojax_seg.training.reading import check_held_out, divided

SHAPE = (16, 40, 40)


@pytest.mark.filterwarnings("ignore:.*cell is 0")
def test_tomograms_of_several_voxel_sizes_are_brought_to_the_coarsest(write, balls, caplog):
    volume, labels = balls
    a, b = write("a.mrc", volume, 10.0), write("b.mrc", volume, 5.0)
    c, d = write("c.mrc", volume, 10.4), write("d.mrc", volume, None)
    marks = [write("l.mrc", labels, None)] * 2
    with caplog.at_level(logging.INFO):
        found = read_examples((a, b), marks)
    assert "b.mrc: has voxels of 5 A; it is resampled to 10 A with its labels" in caplog.text
    assert found.voxel_size == (10.0, 10.0, 10.0)
    coarse, fine = found.examples
    assert coarse.volume.shape == SHAPE and fine.volume.shape == (8, 20, 20)
    assert fine.labels.mean() == pytest.approx(coarse.labels.mean(), rel=0.25)
    inside = fine.labels > 0
    assert fine.volume[inside].mean() > fine.volume[~inside].mean() + 1
    assert abs(np.median(fine.volume)) < 1e-3  # normalized again
    with pytest.raises(io.FileError, match="d.mrc|b.mrc"):
        with pytest.warns(io.HeaderWarning):
            read_examples((a, b, d), [*marks, marks[0]])
    size = read_examples((a, c), marks).voxel_size
    assert size == pytest.approx((10.2, 10.2, 10.2))
    with pytest.warns(io.HeaderWarning, match="d.mrc: its voxel size is unknown, and .*a.mrc"):
        size = read_examples((a, d), marks).voxel_size
    assert size == (10.0, 10.0, 10.0)
    size = read_examples((a, b), marks, voxel_size=8.0).voxel_size
    assert size == (8.0, 8.0, 8.0)


@pytest.mark.filterwarnings("ignore:.*counts as not annotated")
def test_an_annotation_of_0_and_the_ignore_value_names_the_parameter(write, balls):
    volume, labels = balls
    a, marks = write("a.mrc", volume), write("m.mrc", 255 * labels.astype(np.int16))
    with pytest.raises(ParameterError, match="255 counts as not annotated") as refused:
        read_examples([a], [marks])
    assert refused.value.parameters == ("ignore",)


def test_classes_without_voxels_are_named(write, balls, caplog):
    volume, labels = balls
    a, marks = write("a.mrc", volume), write("l.mrc", labels)
    with pytest.raises(io.FileError, match=r"l.mrc: .* label 2 \(tube\); annotate some"):
        read_examples([a], [marks], classes=("ball", "tube"))
    gap = write("gap.mrc", 2 * labels)
    classes = read_examples([a], [gap]).classes
    assert classes == ("background", "class1", "class2")
    assert "label 1 (class1); nothing can be learned" in caplog.text
    stray = np.where(np.arange(labels.size).reshape(SHAPE) < 3, 30, labels).astype(np.int8)
    with pytest.raises(io.FileError, match="value 30: 3 voxels"):
        read_examples([a], [write("stray.mrc", stray)])
    stray = np.where(stray == 30, 200, stray.astype(np.int16))
    with pytest.raises(io.FileError, match="value 200: 3 voxels"):
        read_examples([a], [write("stray.mrc", stray)])


def test_classes_are_called_as_the_label_files_say(write, balls, tmp_path):
    """Unless they are named; files that contradict each other are refused."""
    tomogram = write("tomogram.mrc", balls[0])
    paths = [tmp_path / name for name in ("a.mrc", "b.mrc", "c.mrc")]
    stated = (("vesicle", "actin"), ("vesicle", "actin"), ("microtubule",))
    for path, names in zip(paths, stated, strict=True):
        io.write_mrc(path, balls[1], voxel_size=10.0, card=io.LabelCard(names))
    both, mixed = ([paths[a], paths[b]] for a, b in ((0, 1), (0, 2)))
    assert read_examples([tomogram] * 2, both).classes == ("vesicle",)
    assert read_examples([tomogram] * 2, both, classes=("mine",)).classes == ("mine",)
    with pytest.raises(io.FileError, match="label 1 is vesicle in .*a.mrc and microtubule in .*c"):
        read_examples([tomogram] * 2, mixed)
    assert read_examples([tomogram] * 2, mixed, classes=("tube",)).classes == ("tube",)
    bare = write("bare.mrc", balls[1])
    assert read_examples([tomogram] * 2, [paths[0], bare]).classes == ("foreground",)


def test_classes_that_would_all_be_held_out_are_named(balls, caplog):
    volume, labels = balls
    whole = Example(volume, labels.astype(np.int32), np.ones(SHAPE, np.float32))
    none = Example(volume, 0 * labels.astype(np.int32), np.ones(SHAPE, np.float32))
    with pytest.raises(ValueError, match="class ball would be held out"):
        check_held_out([none], [whole], ("ball",))
    check_held_out([whole], [none], ("ball",))
    assert "no voxel of the class ball is held out" in caplog.text


@pytest.mark.parametrize(("axis", "name"), [(1, "y"), (0, "z")])
def test_mirrored_labels_are_noticed(write, balls, caplog, axis, name):
    volume, labels = balls
    a = write("a.mrc", volume)
    read_examples([a], [write("l.mrc", labels)])
    assert "mirrored" not in caplog.text
    read_examples([a], [write("l.mrc", np.flip(labels, axis))])
    assert f"l.mrc: mirrored along {name}, these labels would fit" in caplog.text


def test_blank_parts_are_not_learned_from(write, balls, caplog):
    caplog.set_level(logging.INFO, "cryojax_seg")
    volume, labels = balls
    around = ((0, 4), (8, 0), (0, 20))
    whole, marks = np.pad(volume + 30, around), np.pad(labels, around)
    marks[0, 0, 0] = 1
    a, marked = write("a.mrc", whole), write("l.mrc", marks)
    (example,) = read_examples([a], [marked]).examples
    (alone,) = read_examples([write("b.mrc", volume + 30)], [write("m.mrc", labels)]).examples
    inside = np.s_[:-4, 8:, :-20]
    blank = np.pad(np.zeros(SHAPE, bool), around, constant_values=True)
    assert np.array_equal(example.volume[inside], alone.volume)
    assert np.array_equal(example.measured, alone.volume)
    assert np.array_equal(example.weights == 0, blank) and not example.volume[blank].any()
    said = caplog.text
    share = f"{100 * blank.mean():.0f} % of the volume is blank (one value repeated exactly)"
    assert share in said and "1 labelled voxels lie where" in said


def test_files_must_come_in_pairs(write, balls):
    a = write("a.mrc", balls[0])
    for labels in ((), (a, a)):
        with pytest.raises(ParameterError, match="as many labels in the same order"):
            read_examples([a], labels)


def annotated(name, slices, label=1):
    labels = np.zeros((12, 6, 6), np.int32)
    labels[:, 2:4] = label
    weights = np.zeros(labels.shape, np.float32)
    weights[:slices] = 1
    return Example(labels.astype(np.float32), labels, weights, name=name)


def names(parts):
    return [[example.name for example in part] for part in parts]


def test_one_of_three_tomograms_is_held_out(caplog):
    three = [annotated("a", 6), annotated("b", 4), annotated("c", 5)]
    with caplog.at_level("INFO"):
        assert names(divided(three, ("one",))) == [["a", "c"], ["b"]]
    assert "b is held out to validate" in caplog.text
    assert names(divided(three, ("one",), whole=2)) == [["a", "b"], ["c"]]
    assert names(divided(three, ("one",), validation=0)) == [["a", "b", "c"], []]
    learned, held_out = divided(three, ("one",), validation=0.5)
    assert [int(e.weights.any((1, 2)).sum()) for e in (*learned, *held_out)] == [3, 2, 3, 3, 2, 2]
    assert [len(part) for part in divided(three[:2], ("one",))] == [2, 2]


def test_no_tomogram_is_held_out_whose_classes_the_others_lack():
    mixed = [annotated("a", 6), annotated("b", 4, 2), annotated("c", 10, 2)]
    learned, held_out = divided(mixed, ("background", "one", "two"))
    assert [len(learned), len(held_out)] == [3, 3]
    with pytest.raises(ParameterError, match="all annotated voxels of the class one would be held"):
        divided(mixed, ("background", "one", "two"), whole=0)


@pytest.mark.parametrize(
    ("given", "parameters"),
    [
        ({"validation": 1.0}, ("validation",)),
        ({"whole": 3}, ("hold_out",)),
        ({"whole": 0, "validation": 0.2}, ("validation", "hold_out")),
    ],
)
def test_what_cannot_be_held_out_is_refused(given, parameters):
    with pytest.raises(ParameterError) as refused:
        divided([annotated(name, 6) for name in "abc"], ("one",), **given)
    assert refused.value.parameters == parameters
