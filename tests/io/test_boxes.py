"""Stacks of boxes: complete or absent, and readable by other programs."""

import mrcfile
import numpy as np
import pytest

from cryojax_seg import io


def boxes(count, edge=6):
    return np.random.default_rng(0).normal(size=(count, edge, edge, edge)).astype(np.float32)


def test_a_stack_is_what_mrcfile_reads(tmp_path):
    path, data = tmp_path / "boxes.mrcs", boxes(3)
    io.write_boxes(path, iter(data), 3, 6, 13.48)
    np.testing.assert_array_equal(io.read_boxes(path), data)
    with mrcfile.open(path) as file:
        assert file.is_volume_stack()
        np.testing.assert_array_equal(file.data, data)
        assert float(file.voxel_size.x) == pytest.approx(13.48, rel=1e-6)
        assert float(file.voxel_size.z) == pytest.approx(13.48, rel=1e-6)
        head = [float(file.header[name]) for name in ("dmin", "dmax", "dmean", "rms")]
    np.testing.assert_allclose(head, [data.min(), data.max(), data.mean(), data.std()], rtol=1e-4)
    with pytest.raises(io.FileError, match="exists"):
        io.write_boxes(path, iter(data), 3, 6)


def test_a_folder_has_a_file_for_each(tmp_path):
    data = boxes(3)
    io.write_boxes(tmp_path / "boxes", iter(data), 3, 6, 10.0)
    assert sorted(p.name for p in (tmp_path / "boxes").iterdir())[-1] == "000003.mrc"
    np.testing.assert_array_equal(io.read_boxes(tmp_path / "boxes"), data)
    assert io.read_mrc(tmp_path / "boxes" / "000002.mrc").voxel_size == (10.0, 10.0, 10.0)


@pytest.mark.parametrize("name", ["boxes.mrcs", "boxes"])
def test_what_fails_leaves_nothing(tmp_path, name):
    def failing():
        yield boxes(1)[0]
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        io.write_boxes(tmp_path / name, failing(), 3, 6)
    with pytest.raises(io.FileError, match="2 boxes came where 3 were announced"):
        io.write_boxes(tmp_path / name, iter(boxes(2)), 3, 6)
    with pytest.raises(io.FileError, match="no particle to write"):
        io.write_boxes(tmp_path / name, iter(()), 0, 6)
    assert list(tmp_path.iterdir()) == []


def test_boxes_are_found_by_the_names_in_a_table(tmp_path):
    """In a folder 2.mrc comes before 10.mrc, and a table may name them in any order."""
    data = boxes(11)
    io.write_boxes(tmp_path / "b.mrcs", iter(data), 11, 6, 10.0)
    names = ["11@b.mrcs", "000002@b.mrcs", "11@b.mrcs"]
    assert io.box_numbers(tmp_path / "b.mrcs", names, "t.star").tolist() == [10, 1, 10]
    (tmp_path / "f").mkdir()
    for i, box in enumerate(data, 1):
        io.write_mrc(tmp_path / "f" / f"{i}_data.mrc", box, voxel_size=10.0)
    np.testing.assert_array_equal(io.read_boxes(tmp_path / "f"), data)
    named = io.box_numbers(tmp_path / "f", ["Extract/f/10_data.mrc", "Extract/f/2_data.mrc"], "t")
    assert named.tolist() == [9, 1]
    assert io.boxes_voxel_size(tmp_path / "f") == io.boxes_voxel_size(tmp_path / "b.mrcs") == 10.0


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["1@b.mrcs", "4@b.mrcs"], "t.star: row 2 names the box 4@b.mrcs, which .*b.mrcs does not"),
        (["0@b.mrcs"], "row 1 names the box 0@b.mrcs"),
        (["1@other.mrcs"], "row 1 names the box 1@other.mrcs"),
        (["b.mrcs"], "row 1 names the box b.mrcs"),
        (["1@x/b.mrcs", "1@y/b.mrcs"], "in several places .x/b.mrcs, y/b.mrcs.; split it"),
    ],
)
def test_boxes_that_are_not_there_are_named(tmp_path, names, complaint):
    io.write_boxes(tmp_path / "b.mrcs", iter(boxes(3)), 3, 6, 10.0)
    with pytest.raises(io.FileError, match=complaint):
        io.box_numbers(tmp_path / "b.mrcs", names, "t.star")


def test_stacks_of_images_are_told_from_boxes(tmp_path):
    with mrcfile.new(tmp_path / "stack2d.mrcs") as file:
        file.set_data(np.zeros((3, 8, 8), np.float32))
        file.set_image_stack()
    with pytest.raises(io.FileError, match="stack of 3 images of 8 x 8 .* 2D-stack particles"):
        io.read_boxes(tmp_path / "stack2d.mrcs")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.mrcs").write_text("no stack")
    with pytest.raises(io.FileError, match="text.mrcs: not an MRC stack"):
        io.read_boxes(tmp_path / "text.mrcs")
    (tmp_path / "empty").mkdir()
    with pytest.raises(io.FileError, match="holds no .mrc file"):
        io.read_boxes(tmp_path / "empty")
    path = tmp_path / "short.mrcs"
    io.write_boxes(path, iter(boxes(2)), 2, 6)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(io.FileError, match="truncated"):
        io.read_boxes(path)
