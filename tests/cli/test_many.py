"""Many tomograms: shards, restarts and failures."""

import shutil

import numpy as np
import pytest

from cryojax_seg import io
from cryojax_seg.cli import console


@pytest.fixture
def folder(files, tmp_path):
    """Three tomograms, the second of which is damaged."""
    folder = tmp_path / "series"
    folder.mkdir()
    for name in ("a", "b", "c"):
        shutil.copy(files / "tomogram.mrc", folder / f"{name}.mrc")
    (folder / "b.mrc").write_bytes((folder / "b.mrc").read_bytes()[:5000])
    return folder


def test_what_fails_does_not_stop_the_others_and_a_restart_does_the_rest(run, trained, folder):
    words = ("segment", trained, folder / "*.mrc", "-o", folder / "out")
    status, printed, said = run(*words)
    assert status == 2 and "1 of 3 tomograms failed" in said
    assert "failed:\n  " in said and f"{folder / 'b.mrc'}: truncated" in said
    assert "a.labels.mrc: membrane" in printed and "c.labels.mrc: membrane" in printed
    before = (folder / "out" / "a.labels.mrc").stat().st_mtime_ns
    shutil.copy(folder / "a.mrc", folder / "b.mrc")
    assert "exists already" in run(*words)[2]
    status, printed, said = run(*words, "--resume")
    assert status == 0 and "2 of 3 are done already" in said
    assert printed.count("membrane") == 1 and "b.labels.mrc" in printed
    assert (folder / "out" / "a.labels.mrc").stat().st_mtime_ns == before
    same = [io.read_mrc(folder / "out" / f"{n}.labels.mrc").density for n in "ab"]
    np.testing.assert_array_equal(*same)


def test_equal_names_in_several_folders_get_the_names_of_the_folders(run, trained, files, tmp_path):
    for name in ("p-0", "p-1"):
        (tmp_path / name).mkdir()
        shutil.copy(files / "tomogram.mrc", tmp_path / name)
    words = ("segment", trained, tmp_path / "p-*" / "tomogram.mrc", "-o", tmp_path / "out")
    assert run(*words)[0] == 0
    assert [p.name for p in sorted((tmp_path / "out").iterdir())] == [
        *("README.txt", "p-0.labels.mrc", "p-1.labels.mrc")
    ]
    said = (tmp_path / "out" / "README.txt").read_text().splitlines()
    assert len(said) == 4 and "1 membrane" in said[0]


def test_shards_together_are_everything(run, trained, folder):
    shutil.copy(folder / "a.mrc", folder / "b.mrc")
    words = ("segment", trained, folder / "*.mrc", "-o", folder / "out", "--shard")
    assert "b.labels.mrc" in run(*words, "1/2")[1]
    assert len(list((folder / "out").glob("*.mrc"))) == 1
    assert run(*words, "0/2")[0] == 0
    assert len(list((folder / "out").glob("*.mrc"))) == 3


def test_mistakes(run, trained, folder):
    words = ("segment", trained, folder / "*.mrc", "-o", folder / "out")
    for shard in ("2/2", "1", "-1/2", "a/b"):
        status, _, said = run(*words, f"--shard={shard}")
        assert status == 2 and "--shard" in said
    status, _, said = run("segment", trained, folder / "*.tiff", "-o", folder / "out")
    assert status == 2 and "*.tiff: nothing matches this pattern" in said
    assert "exclude" in run(*words, "--resume", "--overwrite")[2]
    with pytest.raises(ValueError, match="1 of 2"):
        console.each([1, 0], lambda n: np.empty(-n or 1) and None)


def test_programs_can_be_compiled_beforehand(run, trained, folder):
    """Nothing is written, and the run that follows finds them."""
    status, printed, _ = run("segment", trained, folder / "a.mrc", "-o", "x", "--compile-only")
    assert status == 0 and "compiled" in printed
    assert not list(folder.rglob("*.labels.mrc"))
