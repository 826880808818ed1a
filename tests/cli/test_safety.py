"""The files of users and of other processes are safe from every command."""

import shutil

import pytest

from cryojax_seg import export, io
from cryojax_seg.cli import console
from cryojax_seg.training import rundir

TILTS = ("--tilt-range", "-60", "60")
FEW = ("--labels", "sparse.mrc", "--steps", "1", "--patch", "8")
FOLDERS = {
    "measure": ("measure", "membrane.mrc", "-o"),
    "extract": ("extract", "tomogram.mrc", "p.star", "--edge", "8", "-o"),
    "train": ("train", "tomogram.mrc", *FEW, "--method", "threshold", "-o"),
    "compare": ("compare", "tomogram.mrc", *FEW, "--methods", "threshold", "-o"),
    "demo": ("demo", "-o"),
}
OUTPUTS = FOLDERS | {
    "segment": ("segment", "model", "tomogram.mrc", "-o"),
    "restore": ("restore", "tomogram.mrc", *TILTS, "--method", "wiener", "-o"),
    "average": ("average", "boxes.mrcs", *TILTS, "-o"),
    "pick": ("pick", "membrane.mrc", "--diameter", "50", "-o"),
    "export": ("export", "model", "--openvino"),
    "simulate": ("simulate", "vesicles", "--shape", "8", "8", "8", "-o"),
}
SUFFIXES = {"segment": ".mrc", "restore": ".mrc", "average": ".mrc", "pick": ".star"}


def needs_openvino():
    if not export.installed():
        pytest.skip("needs the extra cryojax-seg[openvino]")


@pytest.fixture
def place(files, tmp_path, monkeypatch):
    folder = tmp_path / "work"
    folder.mkdir()
    for name in ("tomogram", "membrane", "sparse"):
        shutil.copy(files / f"{name}.mrc", folder)
    (folder / "thesis.txt").write_text("precious")
    monkeypatch.chdir(folder)
    return folder


def everything(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("command", FOLDERS)
@pytest.mark.parametrize("output", [".", "..", "../work"])
def test_the_current_folder_is_never_an_output(run, place, command, output):
    before = everything(place)
    status, _, said = run(*FOLDERS[command], output, "--overwrite")
    assert status == 2 and "is the current folder or contains it" in said
    assert everything(place) == before


@pytest.mark.parametrize("command", ["measure", "extract", "train", "compare"])
def test_an_output_that_holds_an_input_is_refused(run, place, command):
    (place / "sub").mkdir()
    for name in ("tomogram", "membrane", "sparse"):
        (place / f"{name}.mrc").rename(place / "sub" / f"{name}.mrc")
    words = [f"sub/{w}" if w.endswith(".mrc") else w for w in FOLDERS[command]]
    before = everything(place)
    status, _, said = run(*words, "sub", "--overwrite")
    assert status == 2 and "contains sub/" in said
    assert everything(place) == before


@pytest.mark.parametrize("command", ["measure", "extract"])
def test_a_folder_with_other_files_is_not_replaced(run, place, command):
    (place / "results").mkdir()
    (place / "results" / "notes.txt").write_text("precious")
    before = everything(place)
    status, _, said = run(*FOLDERS[command], "results", "--overwrite")
    assert status == 2 and "results: holds notes.txt, which was not written by this command" in said
    assert everything(place) == before


def test_a_run_that_is_replaced_keeps_what_others_put_there(place):
    run_folder = place / "run"
    (run_folder / "checkpoints" / "step-00000001").mkdir(parents=True)
    for name in ("run.json", "metrics.jsonl", "config.yaml", "notes.txt", "checkpoints/why.txt"):
        (run_folder / name).write_text(name)
    with rundir.exclusive(run_folder):
        rundir.clear(run_folder)
    assert everything(run_folder) == {
        "notes.txt": b"notes.txt", "checkpoints/why.txt": b"checkpoints/why.txt"
    }  # fmt: skip


@pytest.mark.parametrize("command", OUTPUTS)
def test_a_second_process_is_refused_before_it_touches_anything(run, place, command, tmp_path):
    """Also with --overwrite, and before inputs are read."""
    if command in ("segment", "export"):
        from cryojax_seg import segmenters

        io.save_model(place / "model", segmenters.LinearVote(radius=1))
    if command == "export":
        needs_openvino()
    name = "out" + (".xml" if command == "export" else SUFFIXES.get(command, ""))
    if command in ("train", "compare", "demo", "simulate"):
        (place / "out").mkdir()
        (place / "out" / "config.yaml").write_text("of the first")
    held = {
        "train": place / "out" / "lock",
        "restore": place / "out.run" / "lock",
        "compare": io.lock_path(place / "out" / "report.html"),
        "simulate": io.lock_path(place / "out" / "vesicles"),
    }.get(command, io.lock_path(place / name))
    held.parent.mkdir(exist_ok=True)
    with io.held(held, "first"):
        before = everything(place)
        status, _, said = run(*OUTPUTS[command], name, "--overwrite")
        assert status == 2 and "another process is writing it (pid " in said
        assert everything(place) == before


def test_a_run_goes_on_with_the_same_data_by_another_path(place):
    folder = place / "run"
    folder.mkdir()
    data = {"name": "a.mrc", "sha256": "1"}
    rundir.write_json(folder / "run.json", {"data": [data]})
    rundir.check_same(folder, {"data": [data | {"name": "/abs/a.mrc"}]})
    with pytest.raises(rundir.TrainingError, match=r"data\[0\]\.sha256 was '?1'?, is now '?2'?"):
        rundir.check_same(folder, {"data": [{"name": "a.mrc", "sha256": "2"}]})


def test_a_failure_names_the_file_once(capsys):
    with pytest.raises(ValueError, match="1 of 2"):
        console.each(["a.mrc", "b.mrc"], _fail_at_b)
    assert capsys.readouterr().err.splitlines()[-1].split() == ["b.mrc:", "is", "empty"]


def _fail_at_b(name):
    if name == "b.mrc":
        raise io.FileError("b.mrc: is empty")
