"""Writes are all or nothing, whatever happens in between."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cryojax_seg.io import FileError, atomic_folder, atomic_write, files

# Loads the one file without the package, so that the child starts at once.
CHILD = """
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location("files", sys.argv[1])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
own = [["part"]] if sys.argv[3] == "atomic_folder" else []
with getattr(files, sys.argv[3])(sys.argv[2], True, *own) as temporary:
    target = temporary if sys.argv[3] == "atomic_write" else temporary / "part"
    target.write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""


def kill_while_writing(target: Path, kind: str) -> None:
    command = [sys.executable, "-c", CHILD, files.__file__, str(target), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGKILL)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_kill_leaves_the_former_file_and_the_next_write_tidies_up(tmp_path):
    target = tmp_path / "result.bin"
    target.write_bytes(b"former")
    kill_while_writing(target, "atomic_write")
    assert target.read_bytes() == b"former"
    assert len(names(tmp_path)) == 2  # the temporary of the dead process
    with atomic_write(target) as temporary:
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["result.bin"]


def test_kill_leaves_the_former_folder(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "part").write_bytes(b"former")
    kill_while_writing(target, "atomic_folder")
    assert (target / "part").read_bytes() == b"former"
    with atomic_folder(target, overwrite=True, own=["part"]) as temporary:
        (temporary / "part").write_bytes(b"new")
    assert (target / "part").read_bytes() == b"new"
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("writer", [atomic_write, atomic_folder])
def test_an_error_leaves_nothing(tmp_path, error, writer):
    with pytest.raises(error), writer(tmp_path / "a.bin") as temporary:
        (temporary if writer is atomic_write else temporary / "x").write_bytes(b"half")
        raise error
    assert names(tmp_path) == []


def test_the_temporary_of_a_living_process_is_left_alone(tmp_path):
    other = tmp_path / files._temporary(tmp_path / "a.bin").name.replace(
        f"-{os.getpid()}-", f"-{os.getppid()}-"
    )
    other.write_bytes(b"being written")
    with atomic_write(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"mine")
    assert names(tmp_path) == sorted([other.name, "a.bin"])


def test_refusals_before_any_work(tmp_path):
    (tmp_path / "there").write_bytes(b"1")
    (tmp_path / "folder").mkdir()
    for path, overwrite, words in [
        (tmp_path / "there", False, "exists already"),
        (tmp_path / "absent" / "x", True, "there is no folder"),
        (tmp_path / "folder", True, "is not a file"),
    ]:
        with pytest.raises(FileError, match=words) as caught, atomic_write(path, overwrite):
            pytest.fail("the block must not run")
        assert str(path) in str(caught.value)
    with (
        pytest.raises(FileError, match="not a folder"),
        atomic_folder(tmp_path / "there", overwrite=True),
    ):
        pytest.fail("the block must not run")
    assert (tmp_path / "there").read_bytes() == b"1"


def test_two_writers_of_one_output(tmp_path):
    """The second to finish is refused; the file of the first stays."""
    target = tmp_path / "a.bin"
    with (
        pytest.raises(FileError, match="exists already"),
        atomic_write(target, overwrite=False) as temporary,
    ):
        temporary.write_bytes(b"second")
        target.write_bytes(b"first")
    assert target.read_bytes() == b"first"
    assert names(tmp_path) == ["a.bin"]


def test_writing_nothing_is_an_error(tmp_path):
    with pytest.raises(FileError, match="nothing was written"), atomic_write(tmp_path / "a"):
        pass


def test_links_are_written_through_and_odd_names_kept(tmp_path):
    (tmp_path / "inner").mkdir()
    target = tmp_path / "inner" / " -odd\nname é.mrc"
    target.write_bytes(b"old")
    (tmp_path / "link").symlink_to(target)
    with atomic_write(tmp_path / "link") as temporary:
        assert temporary.parent == target.parent and temporary.suffix == ".mrc"
        temporary.write_bytes(b"new")
    assert (tmp_path / "link").is_symlink() and target.read_bytes() == b"new"
    assert names(target.parent) == [target.name]


def test_long_names(tmp_path):
    with atomic_write(tmp_path / ("n" * 240 + ".mrc")) as temporary:
        temporary.write_bytes(b"x")
    assert len(names(tmp_path)) == 1


def test_read_only_folder(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match="no permission"), atomic_write(tmp_path / "a"):
        pytest.fail("the block must not run")
