"""Whatever is killed, and when: nothing is lost, nothing is torn, and the same command ends well.

A command that is killed leaves the files as they are at that moment, and the system gives up its
locks. So one run of a command, of which the folder is copied before every file event, shows what a
kill at any of them leaves. From each of these states the same command is given again.
"""

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cryojax_seg import export, io, segmenters
from cryojax_seg.core import Particles, Tomogram
from cryojax_seg.io import outputs
from cryojax_seg.io.output import TileJob

TILTS = ("--tilt-range", "-60", "60")
EVENTS = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
WATCHED = []  # functions that are told the path of every file event


def hook(event, arguments):
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & 3
    if WATCHED and (writes or event in EVENTS):
        WATCHED[-1](arguments[0])


sys.addaudithook(hook)


def copy(source, target):
    """With times and hard links, as the files were."""
    first = {}

    def one(path, other):
        number = os.stat(path).st_ino
        if number in first:
            return os.link(first[number], other)
        first[number] = other
        return shutil.copy2(path, other)

    shutil.copytree(source, target, copy_function=one, dirs_exist_ok=True)


class States:
    """The states of a folder before every file event in it."""

    def __init__(self, folder, kept):
        self.folder, self.kept, self.count, self.busy = folder, kept, 0, False

    def __call__(self, path):
        inside = isinstance(path, (str, os.PathLike)) and str(path).startswith(str(self.folder))
        if self.busy or not (inside or isinstance(path, int)):
            return
        self.busy = True
        copy(self.folder, self.kept / str(self.count))
        self.count += 1
        self.busy = False


@contextlib.contextmanager
def watched(folder, kept, monkeypatch):
    states = States(folder, kept)
    flush, write = os.fsync, TileJob.write

    def fsync(handle):
        states(0)
        flush(handle)

    def tile(self, *arguments):
        write(self, *arguments)
        self.keep()
        states(0)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(TileJob, "write", tile)
        WATCHED.append(states)
        try:
            yield states
        finally:
            WATCHED.pop()


def plain(values):
    """Without what tells one run from another: times of day and durations."""
    if isinstance(values, dict):
        left_out = {"created", "sha256", "data"}
        kept = {k: v for k, v in values.items() if k not in left_out and "second" not in k}
        return {k: plain(v) for k, v in kept.items()}
    return [plain(v) for v in values] if isinstance(values, list) else values


def content(path):
    if path.suffix == ".json":
        return plain(json.loads(path.read_text()))
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: arrays[name].tobytes() for name in arrays if name != "seconds"}
    if path.suffix == ".html":  # durations are in the middle of it
        return path.read_bytes()[-20:]
    if path.suffix == ".xml":  # OpenVINO numbers the parts of a graph through all of a process
        return re.sub(rb'(name|id|[a-z]*-layer)="[^"]*"', b"", path.read_bytes())
    if path.suffix == ".jsonl":
        return [plain(json.loads(line)) for line in path.read_text().splitlines()]
    return path.read_bytes()


def contents(folder):
    """What is in the files that have their names: neither hidden nor a checkpoint or lock."""
    found = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.is_file() and not hidden and "checkpoints" not in inside.parts:
            if path.name not in ("lock", "run.json", "config.yaml"):
                found[inside.as_posix()] = content(path)
    return found


def leftovers(folder):
    return sorted(p.name for p in folder.rglob("*") if outputs.is_leftover(p) or p.name == "lock")


def needs_openvino():
    if not export.installed():
        pytest.skip("needs the extra cryojax-seg[openvino]")


@pytest.fixture(scope="module")
def ground(files, tmp_path_factory):
    """Inputs of all commands."""
    folder = tmp_path_factory.mktemp("ground")
    for name in ("tomogram", "even", "odd", "membrane", "sparse"):
        part = io.read_mrc(files / f"{name}.mrc").density[4:20, :16]
        io.write_mrc(folder / f"{name}.mrc", part, voxel_size=10.0)
    io.save_model(folder / "model", segmenters.GlobalThreshold(1.0))
    io.save_model(folder / "network", segmenters.LinearVote(radius=1, classes=("membrane",)))
    places = np.random.default_rng(0).uniform(6, 10, (3, 3))
    table = Particles(places, np.tile(np.eye(3), (3, 1, 1)), voxel_size=10.0)
    io.write_particles(folder / "p.star", table)
    boxes = np.random.default_rng(1).normal(size=(3, 8, 8, 8))
    io.write_boxes(folder / "boxes.mrcs", boxes, 3, 8, 10.0)
    io.write_particles(folder / "boxes.star", table)
    peaks = np.zeros((16, 16, 16), np.float32)
    peaks[4, 4, 4] = peaks[11, 10, 9] = 1.0
    io.write_mrc(folder / "map.mrc", peaks, Tomogram(peaks, (10.0,) * 3))
    ball = (np.indices((8, 8, 8)) - 3.5) ** 2
    io.write_mrc(folder / "template.mrc", np.exp(-ball.sum(0) / 4).astype(np.float32), None, 10.0)
    return folder


SEGMENT = ("segment", "model", "tomogram.mrc", "--halo", "exact", "--tile", "16")
FEW = ("--labels", "sparse.mrc", "--steps", "2", "--patch", "8")
COMMANDS = {
    "segment": (*SEGMENT, "-o", "out/l.mrc"),
    "segment zarr": (*SEGMENT, "-o", "out/l.zarr"),
    "segment probabilities": (*SEGMENT, "--probabilities", "-o", "out/l.mrc"),
    "restore": ("restore", "tomogram.mrc", "--halves", "even.mrc", "odd.mrc", *TILTS,
                "--method", "wiener", "-o", "out/r.mrc"),
    "measure": ("measure", "membrane.mrc", "--kind", "1=organelle", "--meshes", "ply",
                "-o", "out/m"),
    "extract": ("extract", "tomogram.mrc", "p.star", "--edge", "8", *TILTS, "-o", "out/b.mrcs"),
    "extract folder": ("extract", "tomogram.mrc", "p.star", "--edge", "8", *TILTS, "-o", "out/b"),
    "average": ("average", "boxes.mrcs", *TILTS, "-o", "out/a.mrc"),
    "pick": ("pick", "map.mrc", "--diameter", "40", "--method", "peaks", "-o", "out/p.star"),
    "pick scores": ("pick", "map.mrc", "--template", "template.mrc", "--angle", "90",
                    "--diameter", "40", "--scores", "out/s.mrc", "-o", "out/p.star"),
    "simulate": ("simulate", "flat_bilayers", "--shape", "20", "20", "20", "--count", "2",
                 "-o", "out/s"),
    "export": ("export", "network", "--openvino", "out/g.xml"),
    "compare": ("compare", "tomogram.mrc", *FEW, "--methods", "threshold", "--folds", "2",
                "-o", "out/c"),
    "train": ("train", "tomogram.mrc", *FEW, "--method", "threshold", "--validation", "0",
              "-o", "out/t"),
}  # fmt: skip
LONG = ("train", "compare", "simulate")  # where a run takes more than a second


@pytest.fixture
def place(ground, tmp_path, monkeypatch):
    """A working folder with the inputs; commands are given in it."""
    folder = tmp_path / "work"
    shutil.copytree(ground, folder)
    (folder / "out").mkdir()
    monkeypatch.chdir(folder)
    return folder


def go_on(run, words):
    """The same command; a run of `train` is resumed, as its message says."""
    status, _, said = run(*words)
    if words[0] == "train" and status == 2 and "resume that run" in said:
        status, _, said = run(*words, "--resume")
    return status, said


def set_back(folder, state):
    for path in folder.iterdir():
        outputs.remove(path)
    copy(state, folder)


@pytest.mark.filterwarnings("ignore:.*took over from a process", "ignore:.*no checkpoint yet")
@pytest.mark.parametrize(
    "overwrite", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["absent", "replaced"]
)
@pytest.mark.parametrize(
    "command", [pytest.param(c, marks=[pytest.mark.slow] * (c in LONG)) for c in COMMANDS]
)
def test_a_kill_at_any_file_event(run, place, tmp_path, monkeypatch, command, overwrite):
    if command == "export":
        needs_openvino()
    words, options = COMMANDS[command], ("--overwrite",) if overwrite else ()
    inputs = contents(place)
    former = {}
    if overwrite:
        status, _, said = run(*words)
        assert status == 0, said
        former = contents(place / "out")
        for path in (place / "out").rglob("*.star"):  # so that the old can be told from the new
            former[path.relative_to(place / "out").as_posix()] += b"# old\n"
            path.write_bytes(path.read_bytes() + b"# old\n")
    with watched(place, tmp_path / "states", monkeypatch) as states:
        status, _, said = run(*words, *options)
    assert status == 0, said
    wanted = contents(place / "out")
    assert wanted and leftovers(place) == []
    assert states.count >= 20 or command in ("pick", "measure"), states.count
    for number in range(states.count):
        set_back(place, tmp_path / "states" / str(number))
        found = contents(place)
        assert {k: found.get(k) for k in inputs} == inputs
        for name, value in contents(place / "out").items():  # whole, whichever it is
            if name.endswith("metrics.jsonl"):  # a log, which grows
                assert value == wanted[name][: len(value)]
                continue
            assert name not in wanted or value in (wanted[name], former.get(name)), (number, name)
        status, said = go_on(run, (*words, *options))
        assert status == 0, (number, said)
        assert contents(place / "out") == wanted, number
        assert leftovers(place) == [], number


# Forks before JAX has started anything, so that a process to be killed is there at once.
ZYGOTE = """
import json, os, signal, sys, time, warnings
warnings.simplefilter("ignore")
import jax, openvino
import cryojax_seg.training.loop, cryojax_seg.export, cryojax_seg.measure, cryojax_seg.particles
from cryojax_seg.cli import main
for line in sys.stdin:
    words, delay = json.loads(line)
    start, child = time.monotonic(), os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        os._exit(main(words))
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if delay is not None and time.monotonic() - start > delay:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.002)
    print(time.monotonic() - start, flush=True)
"""


@pytest.fixture
def killed(place):
    """Gives a command to another process, kills it after so many seconds, says how long it ran."""
    command = [sys.executable, "-c", ZYGOTE]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=place, env=environment, **pipes) as process:

        def call(words, delay=None):
            process.stdin.write(json.dumps([list(words), delay]) + "\n")
            process.stdin.flush()
            return float(process.stdout.readline())

        yield call
        process.stdin.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*took over from a process", "ignore:.*no checkpoint yet")
@pytest.mark.parametrize("command", COMMANDS)
def test_kills_at_random_times(run, place, tmp_path, killed, command):
    """Twenty processes one after another are killed in the same folder, then one ends well."""
    needs_openvino()
    words, dice = COMMANDS[command], random.Random(0)
    inputs, start = contents(place), tmp_path / "start"
    shutil.copytree(place, start)
    assert killed(words) > 0  # what it compiles is kept
    set_back(place, start)
    whole = killed(words)
    wanted = contents(place / "out")
    finished = 0
    set_back(place, start)
    for number in range(20):
        again = (*words, "--resume") if command == "train" and number % 2 else words
        killed(again, dice.uniform(0.1, 1.0) * whole)
        found = contents(place)
        assert {k: found.get(k) for k in inputs} == inputs
        for name, value in contents(place / "out").items():
            assert name not in wanted or command in LONG or value == wanted[name], (number, name)
        if found.keys() - inputs.keys() >= {f"out/{name}" for name in wanted}:
            status, said = go_on(run, words)
            assert status == 0 or "exists already" in said or "holds files already" in said, said
            assert contents(place / "out") == wanted
            set_back(place, start)
            finished += 1
    status, said = go_on(run, words)
    assert status == 0, said
    assert contents(place / "out") == wanted
    assert leftovers(place) == []
    assert finished < 20
