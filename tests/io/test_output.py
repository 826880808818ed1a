"""Volumes written part by part: whole or not there, and gone on with where they were left."""

import json

import filelock
import nibabel
import nrrd
import numpy as np
import pytest

from cryojax_seg import io
from cryojax_seg.core import Tiling, Tomogram

SHAPE = (5, 7, 9)
LIKE = Tomogram(np.zeros(SHAPE), (8.0, 8.0, 8.0), (1.0, 2.0, 3.0), start=(4, 5, 6))
TILES = list(Tiling(SHAPE, (2, 4, 9), 0))
VALUES = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.int8)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float16, np.float32])
def test_parts_make_the_file_that_writing_at_once_makes(tmp_path, dtype):
    output = io.FileOutput(tmp_path / "parts.mrc", SHAPE, dtype, LIKE)
    for where in TILES:
        output.write(where, VALUES[where])
    assert not (tmp_path / "parts.mrc").exists()
    output.finish()
    io.write_mrc(tmp_path / "once.mrc", VALUES.astype(dtype), LIKE)
    assert (tmp_path / "parts.mrc").read_bytes() == (tmp_path / "once.mrc").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("suffix", [".nii", ".nrrd"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.float32])
def test_parts_make_a_file_that_its_library_reads(tmp_path, suffix, dtype):
    path = tmp_path / f"parts{suffix}"
    output = io.FileOutput(path, SHAPE, dtype, LIKE)
    for where in TILES[:3]:
        output.write(where, VALUES[where])
    output.flush()
    output = io.FileOutput(path, SHAPE, dtype, LIKE, resume=True)
    for where in TILES[3:]:
        output.write(where, VALUES[where])
    output.finish()
    if suffix == ".nii":
        image = nibabel.load(path)
        found, kind = np.asarray(image.dataobj).transpose(2, 1, 0), image.get_data_dtype()
        np.testing.assert_allclose(image.affine.diagonal()[:3] * 1e4, 8.0, rtol=1e-6)
    else:
        found, fields = nrrd.read(str(path), index_order="C")
        kind = found.dtype
        np.testing.assert_array_equal(fields["space origin"], [3.0, 2.0, 1.0])
    np.testing.assert_array_equal(found, VALUES)
    assert kind == dtype
    read = io.read_tomogram(path)
    assert (read.voxel_size, read.origin) == (LIKE.voxel_size, LIKE.origin)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_labels_in_ome_zarr_have_names_and_colours(tmp_path):
    volumes = [(tmp_path / "a.zarr", np.int8), (tmp_path / "map.zarr", np.float32)]
    card = io.LabelCard(("membrane", "actin"))
    with io.TileJob({}, volumes, SHAPE, LIKE, card=card) as one:
        for where in TILES:
            one.write(where, (VALUES[where], VALUES[where]))
    stated = [json.loads((path / "zarr.json").read_text()) for path, _ in volumes]
    first, second = (content["attributes"]["ome"] for content in stated)
    assert "image-label" not in second
    entry = first["image-label"]
    assert [one["label-value"] for one in entry["colors"]] == [1, 2]
    assert len({tuple(one["rgba"]) for one in entry["colors"]}) == 2
    assert all(one["rgba"][3] == 255 for one in entry["colors"])
    assert {p["label-value"]: p["name"] for p in entry["properties"]} == {1: "membrane", 2: "actin"}
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "a.zarr").density[:, :, :], VALUES)


def job(folder, description="a", overwrite=False):
    volumes = [(folder / "labels.mrc", np.int8), (folder / "map.mrc", np.float16)]
    return io.TileJob({"job": description}, volumes, SHAPE, LIKE, overwrite)


def run(folder, description="a", stop=None, overwrite=False):
    """Tiles that were already there; stops after so many with an exception."""
    with job(folder, description, overwrite) as one:
        first = one.done
        for number, where in enumerate(TILES[first:], first):
            if number == stop:
                raise KeyboardInterrupt
            one.write(where, (VALUES[where], VALUES[where] / 4))
    return first


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_interrupted_job_goes_on_where_it_was(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop=3)
    assert names(tmp_path) == [
        ".labels.mrc.partial", ".labels.mrc.partial.json", ".map.mrc.partial"
    ]  # fmt: skip
    assert run(tmp_path) == 3
    assert names(tmp_path) == ["labels.mrc", "map.mrc"]
    np.testing.assert_array_equal(io.read_mrc(tmp_path / "labels.mrc").density, VALUES)
    np.testing.assert_array_equal(io.read_mrc(tmp_path / "map.mrc").density, VALUES / 4)


def test_what_another_job_left_is_not_used(tmp_path):
    for stop, damage in ((0, None), (3, "b"), (3, "gone"), (3, "{"), (3, "short")):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, stop=stop)
        if damage == "gone":
            (tmp_path / ".map.mrc.partial").unlink()
        if damage == "{":
            (tmp_path / ".labels.mrc.partial.json").write_text("{")
        if damage == "short":
            with (tmp_path / ".map.mrc.partial").open("r+b") as file:
                file.truncate(1030)
            with pytest.raises(io.FileError, match="not what was being written; remove it"):
                run(tmp_path)
            (tmp_path / ".map.mrc.partial").unlink()
        assert run(tmp_path, "b" if damage == "b" else "a") == 0
        assert names(tmp_path) == ["labels.mrc", "map.mrc"]
        for path in tmp_path.iterdir():
            path.unlink()


def test_a_killed_process_leaves_what_it_recorded(tmp_path, monkeypatch):
    """As after SIGKILL: nothing is cleaned up, and a tile was begun after the last record."""
    monkeypatch.setattr("cryojax_seg.io.output._EVERY", 0.0)
    one = job(tmp_path).__enter__()
    for where in TILES[:2]:
        one.write(where, (VALUES[where], VALUES[where] / 4))
    one._outputs[0].write(TILES[2], VALUES[TILES[2]] + 1)
    for lock in one._set._locks:
        lock._lock.release()  # as the system does
    assert run(tmp_path) == 2
    np.testing.assert_array_equal(io.read_mrc(tmp_path / "labels.mrc").density, VALUES)


def test_two_processes_do_not_write_one_file(tmp_path):
    with filelock.FileLock(tmp_path / ".labels.mrc.partial.lock"):
        with pytest.raises(io.FileError, match=r"labels\.mrc: another process is writing"):
            run(tmp_path)
    assert run(tmp_path) == 0


def test_an_existing_file_is_kept_until_the_new_one_is_complete(tmp_path):
    (tmp_path / "labels.mrc").write_text("old")
    with pytest.raises(io.FileError, match="exists already"):
        run(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop=2, overwrite=True)
    assert (tmp_path / "labels.mrc").read_text() == "old"
    assert run(tmp_path, overwrite=True) == 2
    np.testing.assert_array_equal(io.read_mrc(tmp_path / "labels.mrc").density, VALUES)


def test_a_full_disk_is_found_before_work_starts(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match=r"cannot write .*labels\.mrc.* free"):
        run(tmp_path)
    assert names(tmp_path) == []
