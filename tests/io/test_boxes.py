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
