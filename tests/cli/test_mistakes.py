"""What a user's mistake gets: status 2, one line, no traceback, and nothing left behind."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cryojax_seg import io
from cryojax_seg.cli import arguments, main, train
from cryojax_seg.core import Tomogram

SCRIPT = "import sys; from cryojax_seg.cli import main; sys.exit(main())"


def program(*words, **options):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, words)], capture_output=True, text=True, **options
    )


TRAIN = ("train", "T", "--labels", "L", "-o", "O")


@pytest.mark.parametrize("words", [(), ("--help",), ("train", "--help"), ("demo", "--help")])
def test_help_does_not_import_jax(words):
    check = (
        "import sys\n"
        "from cryojax_seg.cli import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "print({'jax', 'flax', 'scipy', 'matplotlib'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", check, *words], capture_output=True, text=True)
    assert done.returncode == 0 and "usage: cryojax-seg" in done.stdout
    assert done.stderr.strip() == "set()"  # those alone would take seconds


@pytest.mark.parametrize(
    "command",
    [
        *("demo", "train", "segment", "evaluate", "export", "info", "pick", "extract", "average"),
    ],
)
def test_every_option_tells_its_default(capsys, command):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    options = re.findall(r"^\S? *(--[a-z]|-o PATH)", text, re.MULTILINE)
    assert len(options) >= 2 and text.count("(default:") + text.count("(required)") >= len(options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("trian",), "trian"),
        (("train", "T", "--labels", "L", "-o", "O", "--stesp", "4"), "perhaps you meant --steps"),
        (("train", "T"), "--labels"),
        (("train", "T", "--labels", "L", "-o", "O", "--steps", "many"), "--steps"),
        (("train", "--labels", "L", "-o", "O"), "no tomogram"),
        (("train", "T", "U", "--labels", "L", "-o", "O"), "one for each tomogram"),
        (("train", "T", "--labels", "L", "-o", "O"), "T: no such file"),
        (
            ("train", "T", "--labels", "L", "-o", "O", "--resume"),
            "no run to resume (--resume)",
        ),
        (("train", "T", "--labels", "L", "-o", "O", "--validation", "1"), "--validation"),
        ((*TRAIN, "--minutes", "0"), "minutes must be positive, got 0.0 (--minutes)"),
        ((*TRAIN, "--until-converged", "--validation", "0"), "--until-converged needs held-out"),
        ((*TRAIN, "--method", "vote", "--width", "4"), "a U-Net; the method vote is none (--meth"),
        ((*TRAIN, "--augment", "nois=0.1"), "no augmentation is called 'nois'; there are flip,"),
        ((*TRAIN, "--augment", "noise=often"), "--augment needs probabilities: NAME=P"),
        ((*TRAIN, "--augment", "noise"), "--augment noise: give NAME=P, such as noise=0.3"),
        ((*TRAIN, "--hold-out", "U"), "--hold-out U: name one of the tomograms"),
        ((*TRAIN, "--hold-out", "T"), "--hold-out leaves no tomogram to learn from"),
        ((*TRAIN, "--ema", "2"), "ema must be at least 0 and below 1, got 2.0 (--ema)"),
        (("train", "T", "--labels", "L", "-o", "O", "--config", "C"), "C: no such configuration"),
        (("segment", "M", "T", "-o", "O"), "M: no such model"),
        (("segment", "M", "T", "-o", "O", "--tile", "0"), "--tile"),
        (("segment", "M", "T", "U", "-o", "O.mrc"), "one file for 2 tomograms"),
        (("segment", "M", "a/T.mrc", "a/T.rec", "-o", "O"), "same name"),
        (("segment", "M", "T", "-o", "O", "--threshold", "2"), "--threshold"),
        (("evaluate", "P", "Q"), "no such file"),
        (("info", "F"), "F: no such file"),
        (("demo", "--size", "8"), "--size"),
        (("export", "M", "--openvino", "g.xml"), "M: no such model"),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(run, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    status, printed, errors = run(*words)
    assert status == 2 and printed == ""
    assert errors.count("\n") == 1 and errors.startswith("cryojax-seg: error: ")
    assert message in errors and "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz: 4", "unknown option 'stepz'"),
        ("- 1", "one option a line"),
        ("a: !!python/object/apply:os.system [ls]", "is not plain YAML"),
    ],
)
def test_a_configuration_file_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as refusal:
        arguments.read_config(path, train.Train)
    assert str(path) in str(refusal.value)


def test_existing_outputs_are_kept_without_overwrite(run, files, trained, tmp_path):
    out = tmp_path / "labels.mrc"
    out.write_text("precious")
    status, _, errors = run("segment", trained, files / "tomogram.mrc", "-o", out)
    assert status == 2 and "exists already" in errors and out.read_text() == "precious"
    assert run("segment", trained, files / "tomogram.mrc", "-o", out, "--overwrite")[0] == 0
    assert io.read_mrc(out).density.shape == (24, 32, 32)
    before = sorted(p.name for p in trained.iterdir())
    words = ("train", files / "tomogram.mrc", "--labels", files / "sparse.mrc", "-o", trained)
    status, _, errors = run(*words)
    assert status == 2 and "--resume" in errors
    assert sorted(p.name for p in trained.iterdir()) == before
    status, _, errors = run("segment", trained, out, "-o", out, "--overwrite")
    assert status == 2 and "is the input itself" in errors


def test_files_that_do_not_fit_each_other_are_named(run, files, trained, tmp_path):
    small = tmp_path / "small.mrc"
    io.write_mrc(small, np.eye(8, dtype=np.int8)[None].repeat(8, 0), voxel_size=10.0)
    status, _, errors = run("evaluate", small, files / "membrane.mrc")
    assert status == 2 and "small.mrc" in errors and "membrane.mrc" in errors
    words = ("train", files / "tomogram.mrc", "--labels", small, "-o", tmp_path / "run")
    status, _, errors = run(*words)
    assert status == 2 and "small.mrc" in errors and not (tmp_path / "run").exists()
    words = ("evaluate", files / "classes.mrc", files / "membrane.mrc", "--classes", "membrane")
    status, _, errors = run(*words)
    assert status == 2 and "--classes" in errors
    words = ("evaluate", files / "membrane.mrc", files / "membrane.mrc")
    status, _, errors = run(*words, "--probabilities", files / "tomogram.mrc")
    assert status == 2 and "outside 0 to 1" in errors
    words = ("segment", trained, files / "tomogram.mrc", "-o", tmp_path, "--flips", "on")
    status, _, errors = run(*words)
    assert status == 2 and "--tilt-range" in errors


def test_warnings_are_lines_too(run, files, trained, tmp_path):
    tomogram = io.read_mrc(files / "tomogram.mrc")
    coarse = tmp_path / "coarse.mrc"
    io.write_mrc(coarse, -tomogram.density, Tomogram(tomogram.density, (20.0, 20.0, 20.0)))
    status, _, errors = run("segment", trained, coarse, "-o", tmp_path / "out")
    assert status == 0
    assert "has voxels of 20 A, and the model is for voxels of 10 A" in errors
    far = tmp_path / "far.mrc"
    io.write_mrc(far, -tomogram.density, Tomogram(tomogram.density, (30.0, 30.0, 30.0)))
    status, _, errors = run("segment", trained, far, "-o", tmp_path / "far")
    assert status != 0 and "(--voxel-size, --force)" in errors
    words = ("train", files / "tomogram.mrc", "--labels", files / "sparse.mrc", "--steps", "1")
    words += ("--method", "threshold", "--contrast", "bright", "--patch", "16")
    status, _, errors = run(*words, "-o", tmp_path / "run")
    assert status == 0 and "is it dark? (--contrast)" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_training_that_is_stopped_keeps_what_it_has(files, tmp_path, number):
    words = ["train", files / "tomogram.mrc", "--labels", files / "sparse.mrc", "-o", "run"]
    words += ["--method", "threshold", "--steps", "200000", "--patch", "16"]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, words)], cwd=tmp_path, stderr=subprocess.PIPE
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    for _ in range(600):
        if metrics.exists() and metrics.stat().st_size:
            break
        time.sleep(0.1)
    process.send_signal(number)
    errors = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 128 + number
    assert "--resume" in errors and "Traceback" not in errors
    assert io.load_model(tmp_path / "run" / "model")[0].classes == ("foreground",)


def killed(signal, tiles, *words):
    """The command in a process of its own that gets a signal after so many tiles."""
    code = (
        "import os, signal, sys\n"
        "from cryojax_seg import cli, io\n"
        "from cryojax_seg.io import output\n"
        "output._EVERY, write = 0.0, io.TileJob.write\n"
        "def last(job, where, blocks):\n"
        f"    if job.done == {tiles}:\n"
        f"        os.kill(os.getpid(), signal.{signal})\n"
        "    write(job, where, blocks)\n"
        "io.TileJob.write = last\n"
        "sys.exit(cli.main())"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True
    )


def test_a_kill_leaves_no_half_written_labels(files, trained, tmp_path):
    """SIGTERM in the first tile: no file at the final path, nothing beside it."""
    words = ("segment", trained, files / "tomogram.mrc", "-o", tmp_path / "labels.mrc")
    done = killed("SIGTERM", 0, *words)
    assert done.returncode == 143
    (line,) = done.stderr.splitlines()[1:]  # after the engine
    assert line.startswith(f"cryojax-seg: error: terminated; {tmp_path / 'labels.mrc'} is not")
    assert os.listdir(tmp_path) == []


def test_a_process_that_was_shot_is_gone_on_with(run, files, trained, tmp_path):
    words = ("segment", trained, files / "tomogram.mrc", "--tile", "10", "-o")
    assert run(*words, tmp_path / "whole.mrc")[0] == 0
    target = tmp_path / "shot.mrc"
    assert killed("SIGKILL", 5, *words, target).returncode == -9
    assert not target.exists()
    status, _, said = run(*words, target)
    assert status == 0 and "going on after 5 of 48 tiles" in said
    assert target.read_bytes() == (tmp_path / "whole.mrc").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["shot.mrc", "whole.mrc"]
