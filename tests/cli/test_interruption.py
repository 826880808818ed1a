"""Ctrl-C and SIGTERM end every command within seconds, with one line that says how to go on."""

import os
import signal
import subprocess
import sys
import time
import warnings

import pytest

from cryojax_seg import cli, io
from cryojax_seg.cli import (
    compare,
    console,
    evaluate,
    export,
    segment,
    simulate,
    train,
)
from cryojax_seg.runtime import signals

STUBBORN = """
import os, signal, sys, time
from cryojax_seg import cli
from cryojax_seg.cli import info
from cryojax_seg.runtime import signals

def run(options):
    os.kill(os.getpid(), signal.{signal})
    while True:  # as a compiled program, to which no exception gets through
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass

signals.SECONDS = 0.3
cli._COMMANDS["info"] = (info.Info, run)
sys.exit(cli.main())
"""


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_process_that_no_exception_reaches_ends_all_the_same(name, status):
    words = [sys.executable, "-c", STUBBORN.format(signal=name), "info", "x.mrc"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    word = {"SIGINT": "interrupted", "SIGTERM": "terminated"}[name]
    line = f"cryojax-seg: error: {word}; nothing was written; run the same command again\n"
    assert (done.returncode, done.stderr) == (status, line)


ENDING = """
import atexit
from cryojax_seg import cli
atexit.register(print, "registered")
cli.program()
"""


def test_the_program_ends_with_its_status_and_all_that_it_said():
    """Also where it does not wait for Python's own end."""
    words = [sys.executable, "-c", ENDING]
    done = subprocess.run([*words, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("usage: cryojax-seg") and done.stdout.endswith("registered\n")
    done = subprocess.run([*words, "info", "no.mrc"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "no.mrc" in done.stderr and done.stdout == "registered\n"


def test_a_reader_that_has_had_enough_is_no_error():
    words = [sys.executable, "-c", ENDING, "--help"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


def test_the_end_waits_for_nothing():
    """Python waits at its end for what runs, such as a step of a training on a CPU."""
    code = STUBBORN.format(signal="SIGINT").replace("0.3", "50").replace("pass", "raise")
    code = code.replace("import os,", "import threading, os,")
    other = "    threading.Thread(target=time.sleep, args=[60]).start()\n    while"
    words = [sys.executable, "-c", code.replace("    while", other), "info", "x.mrc"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=40)
    assert done.returncode == 130


def test_a_signal_that_was_obeyed_ends_nothing_later(monkeypatch, run, tmp_path):
    """A caller of main goes on after it, and gets its handlers back."""
    former = signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1)

    def work(_):
        signal.raise_signal(signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(signals, "SECONDS", 0.1)
    monkeypatch.setitem(cli._COMMANDS, "evaluate", (evaluate.Evaluate, work))
    status, _, errors = run("evaluate", tmp_path / "a.mrc", tmp_path / "b.mrc")
    assert status == 143
    assert errors.startswith("cryojax-seg: error: terminated; nothing was written")
    time.sleep(0.3)  # past the time in which the process would have been ended
    assert (signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1)) == former


def test_the_advice_is_what_goes_on(tmp_path):
    """With --resume where a command has it and something is there to resume."""
    out = tmp_path / "out"
    options = train.Train(tomograms=(), labels=(), output=out)
    assert "the same command goes on with it, or begins it again" in console.advice(
        "train", options
    )
    out.mkdir()
    assert "is not finished" in console.advice("train", options)  # nothing to resume yet
    (out / "config.yaml").touch()
    kept = f"what {out} holds is kept; the same command with --resume"
    assert console.advice("train", options) == f"{kept} goes on"
    again = train.Train(tomograms=(), labels=(), output=out, overwrite=True)
    assert console.advice("train", again) == f"{kept} instead of --overwrite goes on"
    for command, others in (
        ("segment", segment.Segment(out, (), output=out)),
        ("simulate", simulate.Simulate("vesicles", output=out)),
        ("compare", compare.Compare(out, labels=out, output=out)),
    ):
        assert console.advice(command, others) == f"{kept} goes on"
    once = export.Export(out, openvino=out / "config.yaml")
    assert "the same command with --overwrite" in console.advice("export", once)


def test_training_that_is_interrupted_neither_measures_nor_scores(
    files, tmp_path, monkeypatch, run
):
    """It saves and ends: its halo and its scores took minutes, in silence."""
    from cryojax_seg.training import calibrating, fitted, validate

    def interrupted(*_):
        signal.raise_signal(signal.SIGINT)
        return validate.Scores(0.5, 0.5)

    def never(*_, **__):
        raise AssertionError("this takes time")

    monkeypatch.setattr(validate, "scores", interrupted)
    words = ["train", files / "tomogram.mrc", "--labels", files / "sparse.mrc", "--method"]
    words += ["vote", "--patch", "16", "--steps", "100", "-o", tmp_path / "run"]
    with monkeypatch.context() as patch:
        patch.setattr(calibrating, "known", never)
        patch.setattr(fitted, "_halo", never)
        status, printed, errors = run(*words)
    assert status == 130
    assert "SIGINT, step 66 of 100" in printed
    assert errors.splitlines()[-1] == (
        f"interrupted; {tmp_path / 'run'} is kept; the same command with --resume goes on"
    )
    assert io.load_model(tmp_path / "run" / "model")[0].classes == ("foreground",)
    assert "step-00000066" in os.listdir(tmp_path / "run" / "checkpoints")


@pytest.mark.filterwarnings("default")
def test_messages_of_the_compiler_are_not_for_the_user(capsys, monkeypatch):
    with console.warnings_as_lines():
        for kind in ("reading", "writing"):
            warnings.warn(f"Error {kind} persistent compilation cache entry for 'f'", stacklevel=1)
        warnings.warn("the voxel size is odd", stacklevel=1)
    assert capsys.readouterr().err == "cryojax-seg: warning: the voxel size is odd\n"
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    console.silence_compiler()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    console.silence_compiler()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
