"""Label volumes, maps of objects and probability maps as the classes that are measured."""

import logging

import numpy as np
import pytest

from cryojax_seg import io
from cryojax_seg.errors import ParameterError

SHAPE = (3, 4, 5)


@pytest.fixture
def labels(tmp_path):
    values = np.zeros(SHAPE, np.int8)
    values[0], values[1] = 1, 3
    io.write_mrc(tmp_path / "labels.mrc", values, voxel_size=10.0)
    return tmp_path / "labels.mrc"


def test_names_kinds_and_objects_belong_to_their_labels(labels, tmp_path, caplog):
    numbers = np.zeros(SHAPE, np.int32)
    numbers[0, 0], numbers[2, 0] = 7, 900
    io.write_mrc(tmp_path / "objects.mrc", numbers, voxel_size=10.0)
    probability = np.full(SHAPE, 0.25, np.float32)
    io.write_mrc(tmp_path / "p.mrc", probability, voxel_size=10.0)
    with caplog.at_level(logging.WARNING, "cryojax_seg"):
        volume, found = io.read_object_classes(
            labels,
            instances={"vesicle": tmp_path / "objects.mrc", "1": tmp_path / "objects.mrc"},
            probabilities=[tmp_path / "p.mrc"] * 5,
            classes=("ER membrane", "blob"),
            kind={"blob": "complex", "4": "filament"},
        )
    assert [(one.name, one.label, one.kind) for one in found] == [
        ("ER membrane", 1, "membrane"), ("blob", 2, "complex"), ("label 3", 3, "organelle"),
        ("label 4", 4, "filament"), ("vesicle", 5, "organelle"),
    ]  # fmt: skip
    assert [record.getMessage() for record in caplog.records] == [
        "label 3 has no kind and is measured as an organelle; give its kind"
    ]
    assert volume.voxel_size == (10.0,) * 3 and volume.density[1, 0, 0] == 3
    for one in (found[0], found[4]):
        assert list(one.identifiers) == [7, 900] and one.numbers is not None
        assert one.numbers[2, 0, 0] == 2 and one.numbers.max() == 2
    assert found[1].numbers is None and float(found[1].probability[0, 0, 0]) == 0.25


def test_the_tomogram_gives_the_grid_that_labels_lack(labels, tmp_path):
    bare = tmp_path / "bare.mrc"
    io.write_mrc(bare, io.read_mrc(labels).density)
    with pytest.raises(ValueError, match="voxel size"):
        io.read_object_classes(bare)
    volume, _ = io.read_object_classes(bare, tomogram=labels)
    assert volume.voxel_size == (10.0,) * 3


def test_objects_alone_leave_the_labels_empty(labels):
    volume, found = io.read_object_classes(instances={"vesicle": labels})
    assert not volume.density.any()
    assert [(one.name, one.label, list(one.identifiers)) for one in found] == [
        ("vesicle", 1, [1, 3])
    ]


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({"kind": {"tube": "filament"}}, "kind"),
        ({"probabilities": ["p.mrc"]}, "probabilities"),
    ],
)
def test_refusals_name_the_parameter(labels, given, parameter):
    with pytest.raises(ParameterError) as refused:
        io.read_object_classes(labels, **given)
    assert refused.value.parameters == (parameter,)
    with pytest.raises(ParameterError, match="nothing to measure"):
        io.read_object_classes()
