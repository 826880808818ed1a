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


def test_labels_are_found_again(tomogram, tmp_path):
    path = tmp_path / "labels.mrc"
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
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.mrc", "t.mrc"]


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


def test_many_names_of_classes_are_kept(tomogram, tmp_path):
    names = tuple(f"structure number {n}" for n in range(12))
    first = view.LabelFile(tmp_path / "labels.mrc", tomogram, ("background", *names))
    assert not (tmp_path / "labels.mrc").exists()  # before anything is painted
    first.write({}, first.classes)
    first.close()
    again = view.LabelFile(tmp_path / "labels.mrc", tomogram)
    assert again.classes == ("background", *names)
    again.close()


def test_labels_of_another_grid_are_refused(tomogram, write):
    other = write("other.mrc", np.zeros((6, 20, 25), np.int8), 12.5)
    with pytest.raises(io.FileError, match=r"shape \(6, 20, 25\).*the tomogram \(6, 20, 24\)"):
        view.LabelFile(other, tomogram)
    other = write("other.mrc", np.zeros(SHAPE, np.int8), 10.0)
    with pytest.raises(io.FileError, match="voxel size 10, 10, 10 A, the tomogram 12.5"):
        view.LabelFile(other, tomogram)
    other = write("other.mrc", np.full(SHAPE, 3, np.int8), 12.5)
    with pytest.raises(io.FileError, match="has the label 3, and the classes membrane end at 1"):
        view.LabelFile(other, tomogram, ("membrane",))
    other = write("other.mrc", np.zeros(SHAPE, np.float32), 12.5)
    with pytest.raises(io.FileError, match="labels are integers"):
        view.LabelFile(other, tomogram)
    view.LabelFile(write("other.mrc", np.zeros(SHAPE, np.int8), 12.5), tomogram).close()


def test_a_disk_without_room_is_found_at_once(tomogram, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    with pytest.raises(io.FileError, match="needs 2880 bytes, and the disk has 1000 bytes free"):
        view.LabelFile(tmp_path / "labels.mrc", tomogram)


def test_names_that_cannot_hold_labels_are_refused(tomogram, tmp_path):
    with pytest.raises(io.FileError, match="is the input itself"):
        view.LabelFile(tomogram.name, tomogram)
    with pytest.raises(io.FileError, match="ends in .mrc"):
        view.LabelFile(tmp_path / "labels.tif", tomogram)
    with pytest.raises(io.FileError, match="no folder"):
        view.LabelFile(tmp_path / "none" / "labels.mrc", tomogram)


def test_a_second_session_is_told_who_holds_the_file(tomogram, tmp_path):
    path = tmp_path / "labels.mrc"
    first = view.LabelFile(path, tomogram)
    with pytest.raises(io.BusyError, match=f"pid {os.getpid()} host"):
        view.LabelFile(path, tomogram)
    first.close()
    view.LabelFile(path, tomogram).close()


def test_labels_survive_a_killed_process(tomogram, tmp_path):
    """The file is whole after each save, and the lock of a dead process is taken over."""
    path = tmp_path / "labels.mrc"
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


def test_a_full_disk_keeps_the_strokes_in_memory(tomogram, tmp_path, monkeypatch):
    monkeypatch.setattr(view.saving, "_AGAIN", 0.05)
    path = tmp_path / "labels.mrc"
    session = opened(path, tomogram, ("membrane",))
    session.file.write({}, session.file.classes)
    before = path.read_bytes()
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
    send(session, type="stroke", axis=0, index=3, points=[[8, 8]], radius_nm=4, value=1)

    def until(condition):
        for _ in range(400):
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError(told)

    until(lambda: any("No space left" in m.get("problem", "") for m in told))
    assert path.read_bytes() == before and session.painting.annotated() == (3,)
    assert not session.state()["saved"]["complete"]
    full.clear()  # somebody makes room
    until(lambda: session.state()["saved"]["complete"])
    assert path.read_bytes() != before
    assert session.close().complete


def test_a_session_that_cannot_save_says_so_at_its_end(tomogram, tmp_path, monkeypatch):
    session = opened(tmp_path / "labels.mrc", tomogram, ("membrane",))
    monkeypatch.setattr(session.file, "write", lambda *_: (_ for _ in ()).throw(OSError("gone")))
    send(session, type="stroke", axis=0, index=3, points=[[8, 8]], radius_nm=4, value=1)
    saved = session.close()
    assert not saved.complete and saved.problem == "gone"


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
