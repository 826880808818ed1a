"""Many tomograms: patterns, shards, restarts and failures."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cryojax_seg import io
from cryojax_seg.cli import many


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


@pytest.mark.parametrize("name", ["[2024] data", "TS_[01]", "a*b?", "[]", "[!a]"])
def test_brackets_in_the_name_of_a_folder_are_taken_as_written(tmp_path, monkeypatch, name):
    inside = tmp_path / name / "x"
    inside.mkdir(parents=True)
    (tmp_path / "TS_0" / "x").mkdir(parents=True)  # what TS_[01] would stand for as a pattern
    for folder in (inside, tmp_path / "TS_0" / "x"):
        (folder / "b.mrc").touch()
        (folder / "a.mrc").touch()
    wanted = (inside / "a.mrc", inside / "b.mrc")
    assert many.expanded([inside / "*.mrc"]) == wanted
    assert many.expanded([tmp_path / name / "*" / "[ab].mrc"]) == wanted
    monkeypatch.chdir(tmp_path)
    assert many.expanded([Path(name) / "x" / "b*"]) == (Path(name) / "x" / "b.mrc",)
    with pytest.raises(ValueError, match="nothing matches"):
        many.expanded([inside / "*.rec"])


def test_patterns_in_every_part_of_a_path(tmp_path):
    for name in ("a-1/t.mrc", "a-0/t.mrc", "[b]/t.mrc", "a-2/u.mrc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = many.expanded([tmp_path / "a-?" / "t.mrc", tmp_path / "*" / "u.mrc"])
    assert [str(p.relative_to(tmp_path)) for p in found] == [
        *("a-0/t.mrc", "a-1/t.mrc", "a-2/u.mrc")
    ]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (("x/TS_1.mrc", "y/TS_2.rec.gz"), ("TS_1", "TS_2")),
        (("x/t.mrc", "y/t.mrc", "z/u.mrc"), ("x", "y", "u")),
        (("1/x/t.mrc", "2/x/t.mrc"), ("1_x", "2_x")),
        (("1/x/t.mrc", "2/y/t.mrc"), ("x", "y")),
        (("x/t.mrc", "y/t.mrc", "z/x.mrc"), ("x_t", "y_t", "x")),
    ],
)
def test_names_of_outputs_differ(paths, names):
    assert many.names(tuple(map(Path, paths))) == names


@pytest.mark.parametrize("second", ["x/t.mrc", "x/t.rec"])
def test_files_that_no_folder_tells_apart_are_refused(second):
    with pytest.raises(ValueError, match=f"x/t.mrc and {second} have the same name"):
        many.names((Path("x/t.mrc"), Path(second)))


def test_equal_names_in_several_folders_get_the_names_of_the_folders(run, trained, files, tmp_path):
    for name in ("p-0", "p-1"):
        (tmp_path / name).mkdir()
        shutil.copy(files / "tomogram.mrc", tmp_path / name)
    words = ("segment", trained, tmp_path / "p-*" / "tomogram.mrc", "-o", tmp_path / "out")
    assert run(*words)[0] == 0
    assert [p.name for p in sorted((tmp_path / "out").iterdir())] == [
        *("p-0.labels.mrc", "p-1.labels.mrc")
    ]


def test_shards_together_are_everything(run, trained, folder):
    shutil.copy(folder / "a.mrc", folder / "b.mrc")
    words = ("segment", trained, folder / "*.mrc", "-o", folder / "out", "--shard")
    assert "b.labels.mrc" in run(*words, "1/2")[1]
    assert len(list((folder / "out").iterdir())) == 1
    assert run(*words, "0/2")[0] == 0
    assert len(list((folder / "out").iterdir())) == 3


def test_mistakes(run, trained, folder):
    words = ("segment", trained, folder / "*.mrc", "-o", folder / "out")
    for shard in ("2/2", "1", "-1/2", "a/b"):
        status, _, said = run(*words, f"--shard={shard}")
        assert status == 2 and "--shard" in said
    status, _, said = run("segment", trained, folder / "*.tiff", "-o", folder / "out")
    assert status == 2 and "*.tiff: nothing matches this pattern" in said
    assert "exclude" in run(*words, "--resume", "--overwrite")[2]
    with pytest.raises(ValueError, match="1 of 2"):
        many.each([1, 0], lambda n: np.empty(-n or 1) and None, str)


def test_programs_can_be_compiled_beforehand(run, trained, folder):
    """Nothing is written, and the run that follows finds them."""
    status, printed, _ = run("segment", trained, folder / "a.mrc", "-o", "x", "--compile-only")
    assert status == 0 and "compiled" in printed
    assert not list(folder.rglob("*.labels.mrc"))
