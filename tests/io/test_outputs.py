"""Outputs of one command: held by one process, published as one, at the cost of nobody else."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from cryojax_seg import io
from cryojax_seg.io import disk, files, locks


def write(folder, text, **options):
    paths = [folder / "a.txt", folder / "b.txt"]
    with io.OutputSet("job", paths, **options) as outputs:
        if not outputs.finished:
            for path in paths:
                outputs.place(path).write_text(text)
    return outputs


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_nothing_appears_before_all_of_it_is_written(tmp_path):
    with pytest.raises(io.FileError, match=r"b\.txt: nothing was written"):
        with io.OutputSet("job", [tmp_path / "a.txt", tmp_path / "b.txt"]) as outputs:
            outputs.place(tmp_path / "a.txt").write_text("1")
    with pytest.raises(KeyError), io.OutputSet("job", [tmp_path / "a.txt"]) as outputs:
        outputs.place(tmp_path / "a.txt").write_text("1")
        raise KeyError
    assert names(tmp_path) == []


def test_the_second_process_is_refused_at_once_with_who_holds_the_output(tmp_path):
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    with io.OutputSet("job", paths) as outputs:
        for other in ([paths[0]], [tmp_path / "c.txt", paths[1]]):
            with pytest.raises(io.BusyError, match=rf"another process .*pid {os.getpid()} host"):
                with io.OutputSet("other", other, overwrite=True):
                    pytest.fail("the block must not run")
        for path in paths:
            outputs.place(path).write_text("1")
    assert names(tmp_path) == ["a.txt", "b.txt"]


def test_what_was_being_published_is_finished_by_whoever_comes_next(tmp_path, monkeypatch):
    """A kill after the journal and one of two names; then another job, which has no right to it."""

    class Killed(BaseException):
        pass

    def publish(staged, target, overwrite):
        if target.name == "a.txt":
            raise Killed
        files.publish_file(staged, target, overwrite)

    with monkeypatch.context() as patch:
        patch.setattr("cryojax_seg.io.outputs.publish_file", publish)
        with pytest.raises(Killed):
            write(tmp_path, "first")
    assert [n for n in names(tmp_path) if n[0] != "."] == ["b.txt"]
    assert io.is_half_published(tmp_path / "a.txt")
    with pytest.raises(io.FileError, match=r"a\.txt: exists already"):
        with io.OutputSet("other", [tmp_path / "a.txt"]):
            pytest.fail("the block must not run")
    assert names(tmp_path) == ["a.txt", "b.txt"]
    assert {(tmp_path / name).read_text() for name in names(tmp_path)} == {"first"}


def test_two_names_of_one_file_are_never_written_through(tmp_path):
    """As after a kill between link and unlink: the finished file is a partial too."""
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    io.write_mrc(tmp_path / "a.mrc", values)
    before = (tmp_path / "a.mrc").read_bytes()
    os.link(tmp_path / "a.mrc", tmp_path / ".a.mrc.partial")
    io.FileOutput(tmp_path / "a.mrc", values.shape, np.float32, overwrite=True)
    assert (tmp_path / "a.mrc").read_bytes() == before
    os.remove(tmp_path / ".a.mrc.partial")
    os.link(tmp_path / "a.mrc", tmp_path / ".a.mrc.partial")
    with pytest.raises(io.FileError, match="0 boxes came"):
        io.write_boxes(tmp_path / "a.mrc", [], 1, 4, overwrite=True)
    assert (tmp_path / "a.mrc").read_bytes() == before
    own = files._temporary(tmp_path / "a.mrc")  # of a dead process that had our number
    os.link(tmp_path / "a.mrc", own)
    with pytest.raises(KeyError), io.atomic_write(tmp_path / "a.mrc") as temporary:
        temporary.write_bytes(b"half")
        raise KeyError
    assert (tmp_path / "a.mrc").read_bytes() == before
    assert names(tmp_path) == ["a.mrc"]


def test_publishing_over_the_same_file_takes_the_first_name_away(tmp_path):
    for overwrite in (False, True):
        (tmp_path / "a").write_text("1")
        os.link(tmp_path / "a", tmp_path / "partial")
        files.publish_file(tmp_path / "partial", tmp_path / "a", overwrite)
        assert names(tmp_path) == ["a"]
        assert (tmp_path / "a").read_text() == "1"


def test_folders_with_files_of_others_are_not_replaced(tmp_path):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "1.txt").touch()
    (folder / "sub" / "thesis.txt").write_text("precious")
    for own in (["1.txt"], ["*.txt"], ["*.txt", "sub/*.tex"]):
        with pytest.raises(io.FileError, match=r"model: holds sub/thesis\.txt, which was not"):
            with io.atomic_folder(folder, True, own):
                pytest.fail("the block must not run")
    assert (folder / "sub" / "thesis.txt").read_text() == "precious"
    with io.atomic_folder(folder, True, ["*.txt", "sub/*.txt"]) as temporary:
        (temporary / "2.txt").touch()
    assert names(folder) == ["2.txt"]


def test_a_zarr_volume_with_files_of_others_is_not_replaced(tmp_path):
    path, volume = tmp_path / "a.zarr", np.zeros((2, 3, 4), np.int8)
    io.write_zarr(path, volume, voxel_size=10.0)
    io.write_zarr(path, volume + 1, voxel_size=10.0, overwrite=True)
    (path / "0" / "notes.txt").write_text("precious")
    with pytest.raises(io.FileError, match=r"a\.zarr: holds 0/notes\.txt"):
        io.write_zarr(path, volume, voxel_size=10.0, overwrite=True)
    assert (path / "0" / "notes.txt").read_text() == "precious"
    assert np.asarray(io.read_zarr(path).density).all()


@pytest.mark.parametrize("output", [".", "..", "in", "in/a.mrc", "link"])
def test_outputs_that_would_cost_an_input_or_the_current_folder(tmp_path, monkeypatch, output):
    (tmp_path / "work" / "in").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    given = tmp_path / "work" / "in" / "a.mrc"
    given.write_text("precious")
    (tmp_path / "work" / "link").symlink_to(given)
    with pytest.raises(io.FileError, match="is the current folder|contains|is the input itself"):
        with io.OutputSet("job", [output], [given], True, {output: ["*"]}):
            pytest.fail("the block must not run")
    assert given.read_text() == "precious"
    io.check_places(["out", "in/b.mrc"], [given])


def test_a_link_to_itself_is_refused_in_one_line(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for act in (
        lambda: io.check_places([tmp_path / "loop"]),
        lambda: io.check_places([tmp_path / "a"], [tmp_path / "loop"]),
        lambda: io.write_mrc(tmp_path / "loop", np.zeros((2, 2, 2), np.int8)),
        lambda: io.write_zarr(tmp_path / "loop", np.zeros((2, 2, 2), np.int8)),
        lambda: io.read_tomogram(tmp_path / "loop"),
    ):
        with pytest.raises(io.FileError, match="loop: is a .*link that leads"):
            act()


def test_a_full_disk_is_said_once_with_the_name_of_the_output(tmp_path):
    with pytest.raises(OSError, match="free") as caught:
        with io.OutputSet("job", [tmp_path / "b"], folders={tmp_path / "b": ["*"]}) as outputs:
            with io.atomic_folder(outputs.place(tmp_path / "b")) as folder:
                with io.atomic_write(folder / "1.mrc"):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    message = str(caught.value)
    assert message.count("cannot write") == message.count("free") == 1
    assert f"cannot write {tmp_path / 'b'}: No space" in message
    assert isinstance(caught.value, disk.DiskFullError)
    assert names(tmp_path) == []


def test_zarr_leaves_nothing_on_a_full_disk(tmp_path, monkeypatch):
    def full(*_, **__):
        (tmp_path / ".a.zarr.partial" / "0").mkdir()
        (tmp_path / ".a.zarr.partial" / "0" / "zarr.json").touch()
        raise ValueError("No space left on device [source locations]")

    monkeypatch.setattr("cryojax_seg.io.zarr_writing.open_store", full)
    with pytest.raises(OSError, match=r"cannot write .*a\.zarr: No space left on device \("):
        io.ZarrOutput(tmp_path / "a.zarr", (2, 3, 4), np.int8)
    assert names(tmp_path) == []


def test_locks_are_taken_over_from_the_dead_and_never_removed_for_the_living(tmp_path):
    path = tmp_path / "lock"
    path.write_text("pid 999999 host here")
    first = locks.Lock(path, "output")
    assert first.former == "pid 999999 host here"
    first.remove()  # now another process may take the name
    second = locks.Lock(path, "output")
    assert second.former == ""
    first.release()
    assert path.read_text().startswith(f"pid {os.getpid()} ")
    second.release()
    assert names(tmp_path) == []


def test_training_needs_no_fcntl():
    """Where there is none, as on Windows; filelock has its own way there."""
    script = (
        "import sys, filelock\n"
        "sys.modules['fcntl'] = None\n"
        "import cryojax_seg.training.rundir as r, pathlib, tempfile\n"
        "with r.exclusive(pathlib.Path(tempfile.mkdtemp()) / 'run') as run: print(run.folder.name)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "run\n", done.stderr
