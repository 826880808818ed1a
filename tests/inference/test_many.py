"""Many tomograms from Python: patterns, names, shards, and work of which some fails."""

from pathlib import Path

import pytest

from cryojax_seg import inference
from cryojax_seg.errors import ParameterError
from cryojax_seg.inference import paths
from cryojax_seg.io import FileError


@pytest.mark.parametrize("name", ["[2024] data", "TS_[01]", "a*b?", "[]", "[!a]"])
def test_brackets_in_the_name_of_a_folder_are_taken_as_written(tmp_path, monkeypatch, name):
    inside = tmp_path / name / "x"
    inside.mkdir(parents=True)
    (tmp_path / "TS_0" / "x").mkdir(parents=True)  # what TS_[01] would stand for as a pattern
    for folder in (inside, tmp_path / "TS_0" / "x"):
        (folder / "b.mrc").touch()
        (folder / "a.mrc").touch()
    wanted = (inside / "a.mrc", inside / "b.mrc")
    assert paths.expanded([inside / "*.mrc"]) == wanted
    assert paths.expanded([tmp_path / name / "*" / "[ab].mrc"]) == wanted
    monkeypatch.chdir(tmp_path)
    assert paths.expanded([Path(name) / "x" / "b*"]) == (Path(name) / "x" / "b.mrc",)
    with pytest.raises(ValueError, match="nothing matches"):
        paths.expanded([inside / "*.rec"])


def test_patterns_in_every_part_of_a_path(tmp_path):
    for name in ("a-1/t.mrc", "a-0/t.mrc", "[b]/t.mrc", "a-2/u.mrc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = paths.expanded([tmp_path / "a-?" / "t.mrc", tmp_path / "*" / "u.mrc"])
    assert [str(p.relative_to(tmp_path)) for p in found] == [
        *("a-0/t.mrc", "a-1/t.mrc", "a-2/u.mrc")
    ]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("x/TS_1.mrc", "y/TS_2.rec.gz"), ("TS_1", "TS_2")),
        (("x/t.mrc", "y/t.mrc", "z/u.mrc"), ("x", "y", "u")),
        (("1/x/t.mrc", "2/x/t.mrc"), ("1_x", "2_x")),
        (("1/x/t.mrc", "2/y/t.mrc"), ("x", "y")),
        (("x/t.mrc", "y/t.mrc", "z/x.mrc"), ("x_t", "y_t", "x")),
    ],
)
def test_names_of_outputs_differ(files, expected):
    assert paths.names(tuple(map(Path, files))) == expected


@pytest.mark.parametrize("second", ["x/t.mrc", "x/t.rec"])
def test_files_that_no_folder_tells_apart_are_refused(second):
    with pytest.raises(ValueError, match=f"x/t.mrc and {second} have the same name"):
        paths.names((Path("x/t.mrc"), Path(second)))


def test_shards_together_are_everything():
    shards = [paths.shard(range(7), f"{i}/3") for i in range(3)]
    assert shards[1] == [1, 4] and sorted(sum(shards, [])) == list(range(7))
    with pytest.raises(ParameterError, match="shard must be I/N") as refusal:
        paths.shard(range(7), "3/3")
    assert refusal.value.parameters == ("shard",)


def half(number):
    if number % 2:
        raise FileError(f"{number}: is odd")
    return number // 2


def test_what_fails_does_not_stop_the_others():
    told = []
    with pytest.raises(inference.SomeFailedError, match="1 of 3 failed.*: 3: is odd") as some:
        inference.each([2, 3, 8], half, finished=told.append)
    assert some.value.values == [1, None, 4] and some.value.count == 3
    assert [(one.name, one.number, one.value) for one in told] == [
        ("2", 1, 1),
        ("3", 2, None),
        ("8", 3, 4),
    ]
    assert some.value.failures == (told[1],) and str(told[1].error) == "3: is odd"
    assert inference.each([2, 8], half) == [1, 4]


def test_a_failure_of_one_item_is_that_error():
    with pytest.raises(FileError, match="3: is odd"):
        inference.each([3], half)


def test_what_is_no_failure_of_an_item_ends_it_all():
    with pytest.raises(ZeroDivisionError):
        inference.each([0, 1], lambda number: 1 // number)


def test_what_the_work_needs_is_prepared_once():
    prepared = []

    def prepare():
        prepared.append("model")
        return len(prepared)

    assert inference.each("abc", lambda number, item: (number, item), prepare=prepare) == [
        (1, "a"),
        (1, "b"),
        (1, "c"),
    ]
    assert inference.each([], half, workers=2) == []
    with pytest.raises(ParameterError, match="slurm needs workers"):
        inference.each([1], half, slurm="jobs.yaml")
