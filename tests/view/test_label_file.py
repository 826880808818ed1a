"""Labels survive in their file, whole or not at all, and one session holds it."""

import errno
import os
import shutil
import subprocess
import sys
import threading
import time

import mrcfile
import numpy as np
import pytest

from cryojax_seg import io, view
from cryojax_seg.core import Tomogram
from cryojax_seg.view.saving import Saver

SHAPE = (6, 20, 24)


@pytest.fixture
def tomogram(write):
    density = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    return io.read_tomogram(write("t.mrc", density, 12.5))


def opened(path, tomogram, classes=()):
    """A session that paints into a file."""
    file = view.LabelFile(path, tomogram, classes)
    painting = view.Painting(tomogram, file.classes, file.slices)
    return view.Session(tomogram, painting=painting, file=file)


def send(session, **message):
    told = []
    receive = session.connect(lambda answer, data: told.append(answer))
    receive(message)
    return told


@pytest.fixture(params=["labels.mrc", "labels.zarr"])
def path(request, tmp_path):
    """Where labels are kept."""
    return tmp_path / request.param


def content(path):
    """Everything that is at a path, by name."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {str(file): file.read_bytes() for file in files if file.is_file()}


def test_labels_are_found_again(tomogram, path):
    session = opened(path, tomogram, ("background", "membrane", "actin"))
    send(session, type="stroke", axis=0, index=2, points=[[5, 5]], radius_nm=3, value=2)
    send(session, type="complete", axis=0, index=2)
    send(session, type="stroke", axis=0, index=4, points=[[9, 9]], radius_nm=3, value=1)
    expected = session.painting.slices()
    assert session.close().complete
    again = opened(path, tomogram)
    assert again.classes == ("background", "membrane", "actin")
    assert again.painting.slices().keys() == {2, 4}
    for z, labels in expected.items():
        np.testing.assert_array_equal(again.painting.slices()[z], labels)
    again.close()
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, "t.mrc"]


def test_ignore_strokes_are_found_again(tomogram, path):
    """They are not annotated for other readers, and a complete slice still leaves them out."""
    session = opened(path, tomogram, ("membrane",))
    send(session, type="stroke", axis=0, index=2, points=[[5, 5]], radius_nm=3, value=1)
    for axis, index, point in ((0, 2, [14, 14]), (1, 3, [5, 20]), (2, 23, [19, 3])):
        send(session, type="stroke", axis=axis, index=index, points=[point], radius_nm=3, value=-2)
    expected = session.painting.slices()
    count = sum(int((labels == view.EXCLUDED).sum()) for labels in expected.values())
    assert session.close().complete and count == 47
    read = io.read_labels(path, tomogram, ("membrane",))
    assert read.slices == (2,) and read.weights.sum() == read.labels.sum() == 21
    again = opened(path, tomogram)
    assert again.painting.slices().keys() == expected.keys()
    for z, labels in expected.items():
        np.testing.assert_array_equal(again.painting.slices()[z], labels)
    again.painting.complete((0, 2))
    rest = 20 * 24 - 21 - int((expected[2] == view.EXCLUDED).sum())
    assert again.painting.counts() == {"background": rest, "membrane": 21}
    again.painting.stroke((0, 2), [[10, 10]], 100.0, view.UNKNOWN)  # erases it all
    again.file.write(again.painting.slices(), again.classes)
    again.close()
    last = view.LabelFile(path, tomogram)
    assert 2 not in last.slices
    last.close()


def test_labels_that_other_programs_wrote_are_painted_on(tomogram, tmp_path):
    """Their version of OME-Zarr stays, and what they call not annotated does."""
    path = tmp_path / "labels.zarr"
    values = np.full(SHAPE, 255, np.int16)
    values[3, :10], values[3, 10:] = 1, 0
    io.write_zarr(path, values, tomogram, version="0.4")
    session = opened(path, tomogram)
    assert session.painting.counts() == {"background": 240, "foreground": 240}
    send(session, type="stroke", axis=0, index=1, points=[[5, 5]], radius_nm=0, value=-2)
    send(session, type="stroke", axis=0, index=1, points=[[9, 9]], radius_nm=0, value=1)
    session.close()
    assert (path / ".zattrs").exists() and not (path / "zarr.json").exists()
    again = view.LabelFile(path, tomogram)
    assert np.argwhere(again.slices[1] == view.EXCLUDED).tolist() == [[5, 5]]
    assert np.argwhere(again.slices[1] == 1).tolist() == [[9, 9]]
    again.close()


def test_labels_of_several_chunks_are_found_again(path):
    """OME-Zarr is written in blocks of 128 voxels, and read in slabs of as many slices."""
    shape = (131, 5, 140)
    volume = Tomogram(np.broadcast_to(np.float32(0), shape), voxel_size=(10.0,) * 3, name="t.mrc")
    values = np.random.default_rng(0).integers(-2, 3, (4, *shape[1:])).astype(np.int8)
    slices = dict(zip((0, 127, 128, 130), values, strict=True))
    file = view.LabelFile(path, volume, ("background", "membrane", "actin"))
    file.write(slices, file.classes)
    file.close()
    again = view.LabelFile(path, volume)
    assert again.slices.keys() == slices.keys()
    for z, labels in slices.items():
        np.testing.assert_array_equal(again.slices[z], labels)
    again.close()


def test_labels_to_begin_with_keep_their_ignore_strokes(tomogram, path):
    found = path.with_name("found.mrc")
    file = view.LabelFile(found, tomogram, ("membrane",))
    values = np.full(SHAPE[1:], view.EXCLUDED, np.int8)
    values[:5], values[5:9] = 1, view.UNKNOWN
    file.write({2: values}, file.classes)
    file.close()
    view.begin_labels(path, found, tomogram.name)
    again = view.LabelFile(path, tomogram)
    assert again.classes == ("membrane",) and again.slices.keys() == {2}
    np.testing.assert_array_equal(again.slices[2], values)
    again.close()


def test_a_damaged_list_of_ignored_voxels_is_refused(tomogram, path):
    file = view.LabelFile(path, tomogram)
    file.write({2: np.full(SHAPE[1:], view.EXCLUDED, np.int8)}, file.classes)
    file.close()
    if path.is_dir():
        (path / "excluded" / "c" / "0" / "0").write_bytes(b"0")
    else:
        data = bytearray(path.read_bytes())
        data[1024:1032] = (-1).to_bytes(8, "little", signed=True)
        path.write_bytes(data)
    with pytest.raises(io.FileError, match="its list of ignored voxels is damaged"):
        view.LabelFile(path, tomogram)


def test_what_a_kill_left_between_two_renames_is_found(tomogram, tmp_path):
    path = tmp_path / "labels.zarr"
    file = view.LabelFile(path, tomogram)
    file.write({2: np.ones(SHAPE[1:], np.int8)}, file.classes)
    file.close()
    path.rename(io.files.former_folder(path))
    again = view.LabelFile(path, tomogram)
    assert (again.slices[2] == 1).all()
    again.close()


def test_a_folder_with_other_files_is_not_replaced(tomogram, tmp_path):
    path = tmp_path / "labels.zarr"
    io.write_zarr(path, np.zeros(SHAPE, np.int8), tomogram)
    (path / "thesis.txt").touch()
    with pytest.raises(io.FileError, match="holds thesis.txt"):
        view.LabelFile(path, tomogram)
    (tmp_path / "file.zarr").touch()
    with pytest.raises(io.FileError, match="is not an OME-Zarr folder"):
        view.LabelFile(tmp_path / "file.zarr", tomogram)


def test_other_programs_read_the_file(tomogram, tmp_path):
    path = tmp_path / "labels.mrc"
    session = opened(path, tomogram, ("membrane",))
    send(session, type="stroke", axis=0, index=2, points=[[5, 5]], radius_nm=3, value=1)
    session.close()
    with mrcfile.open(path) as found:
        assert mrcfile.validate(str(path))
        assert found.data.dtype == np.int8 and found.voxel_size.x == np.float32(12.5)
        values = found.data.astype(float)
        header = found.header
        assert (header.dmin, header.dmax) == (-1, 1)
        np.testing.assert_allclose([header.dmean, header.rms], [values.mean(), values.std()], 1e-6)
    read = io.read_labels(path, tomogram, ("membrane",))
    assert read.slices == (2,)
    assert read.labels.sum() == read.weights.sum() == session.painting.counts()["membrane"]
    session = opened(path, tomogram)
    send(session, type="stroke", axis=0, index=2, points=[[15, 15]], radius_nm=3, value=-2)
    session.close()
    with mrcfile.open(path) as again:  # the list of ignored voxels is skipped
        np.testing.assert_array_equal(again.data, values)


def test_many_names_of_classes_are_kept(tomogram, path):
    names = tuple(f"structure number {n}" for n in range(12))
    first = view.LabelFile(path, tomogram, ("background", *names))
    assert not path.exists()  # before anything is painted
    first.write({}, first.classes)
    first.close()
    again = view.LabelFile(path, tomogram)
    assert again.classes == ("background", *names)
    again.close()


@pytest.mark.parametrize("form", ["mrc", "zarr"])
def test_labels_of_another_grid_are_refused(tomogram, tmp_path, form):
    other = tmp_path / f"other.{form}"
    write = io.write_mrc if form == "mrc" else io.write_zarr

    def refused(values, voxel_size, match, classes=()):
        write(other, values, voxel_size=voxel_size, overwrite=True)
        with pytest.raises(io.FileError, match=match):
            view.LabelFile(other, tomogram, classes)

    wrong = np.zeros((6, 20, 25), np.int8)
    refused(wrong, 12.5, r"shape \(6, 20, 25\).*the tomogram \(6, 20, 24\)")
    zeros = np.zeros(SHAPE, np.int8)
    refused(zeros, 10.0, "voxel size 10, 10, 10 A, the tomogram 12.5")
    many = "has the label 3, and the classes membrane end at 1"
    refused(zeros + 3, 12.5, many, ("membrane",))
    refused(zeros.astype(np.float32), 12.5, "labels are integers")
    write(other, zeros, voxel_size=12.5, overwrite=True)
    view.LabelFile(other, tomogram).close()


def test_a_disk_without_room_is_found_at_once(tomogram, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    with pytest.raises(io.FileError, match="needs 2880 bytes, and the disk has 1000 bytes free"):
        view.LabelFile(tmp_path / "labels.mrc", tomogram)


def test_names_that_cannot_hold_labels_are_refused(tomogram, tmp_path):
    with pytest.raises(io.FileError, match="is the input itself"):
        view.LabelFile(tomogram.name, tomogram)
    with pytest.raises(io.FileError, match="ends in .mrc or .zarr"):
        view.LabelFile(tmp_path / "labels.tif", tomogram)
    with pytest.raises(io.FileError, match="no folder"):
        view.LabelFile(tmp_path / "none" / "labels.mrc", tomogram)


def test_a_second_session_is_told_who_holds_the_file(tomogram, path):
    first = view.LabelFile(path, tomogram)
    with pytest.raises(io.BusyError, match=f"pid {os.getpid()} host"):
        view.LabelFile(path, tomogram)
    first.close()
    view.LabelFile(path, tomogram).close()


def test_labels_survive_a_killed_process(tomogram, path):
    """The file is whole after each save, and the lock of a dead process is taken over."""
    code = f"""
import sys
from cryojax_seg import io, view
tomogram = io.read_tomogram({str(tomogram.name)!r})
file = view.LabelFile({str(path)!r}, tomogram, ("membrane",))
painting = view.Painting(tomogram, file.classes)
told = lambda message, data: message["type"] == "saved" and print("saved", flush=True)
session = view.Session(tomogram, painting=painting, file=file)
session.connect(told)(dict(type="stroke", axis=0, index=3, points=[[8, 8]], radius_nm=4, value=1))
sys.stdin.read()
"""
    run = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert run.stdout.readline() == "saved\n"
    finally:
        run.kill()
        run.communicate()
    again = view.LabelFile(path, tomogram)
    assert list(again.slices) == [3] and (again.slices[3] == 1).sum() > 20
    again.close()


def test_a_full_disk_keeps_the_strokes_in_memory(tomogram, path, monkeypatch):
    monkeypatch.setattr(view.saving, "_AGAIN", 0.05)
    session = opened(path, tomogram, ("membrane",))
    session.file.write({}, session.file.classes)
    before = content(path)
    told, tried = [], threading.Event()
    session.connect(lambda message, data: (told.append(message), tried.set()))
    full = threading.Event()
    full.set()
    write = io.files.sync

    def no_space(place):
        if full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(place)

    monkeypatch.setattr(io.files, "sync", no_space)
    monkeypatch.setattr(io.files, "sync_tree", no_space)
    send(session, type="stroke", axis=0, index=3, points=[[8, 8]], radius_nm=4, value=1)

    def until(condition):
        for _ in range(400):
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError(told)

    until(lambda: any("No space left" in m.get("problem", "") for m in told))
    assert content(path) == before and session.painting.annotated() == (3,)
    saved = session.state()["saved"]
    assert (saved["requested"], saved["written"]) == (1, 0)
    full.clear()  # somebody makes room
    until(lambda: session.state()["saved"]["written"] == 1)
    assert content(path) != before
    assert session.close().complete


def test_a_session_that_cannot_save_says_so_at_its_end(tomogram, tmp_path, monkeypatch):
    session = opened(tmp_path / "labels.mrc", tomogram, ("membrane",))
    monkeypatch.setattr(session.file, "write", lambda *_: (_ for _ in ()).throw(OSError("gone")))
    send(session, type="stroke", axis=0, index=3, points=[[8, 8]], radius_nm=4, value=1)
    saved = session.close()
    assert not saved.complete and saved.problem == "gone"


def test_labels_are_saved_before_a_learner_ends(tomogram, path, monkeypatch):
    """An interrupted command has some seconds to end, and a learner may take all of them."""
    session = opened(path, tomogram, ("membrane",))
    write, found = session.file.write, []
    monkeypatch.setattr(session.file, "write", lambda *a: (time.sleep(0.3), write(*a)))
    session.closing.append(lambda: found.append(path.exists()))
    send(session, type="stroke", axis=0, index=3, points=[[8, 8]], radius_nm=4, value=1)
    assert session.close().complete and found == [True]


def test_saves_are_joined():
    """Requests during a write are served by one more."""
    begun, go, count = threading.Event(), threading.Event(), []

    def write():
        count.append(1)
        begun.set()
        go.wait(5)

    saver = Saver(write)
    saver.request()
    assert begun.wait(5)
    for _ in range(10):
        saver.request()
    go.set()
    assert saver.close().complete and len(count) == 2


def test_painted_slices_of_a_big_volume_need_little_memory(tomogram):
    big = Tomogram(np.broadcast_to(np.float32(0), (500, 1000, 1000)), voxel_size=(10.0,) * 3)
    painting = view.Painting(big, ("membrane",))
    painting.stroke((0, 250), [[500, 500]], 10.0, 1)
    painting.stroke((0, 251), [[500, 500]], 10.0, 1)
    assert sum(labels.nbytes for labels in painting.slices().values()) == 2_000_000
