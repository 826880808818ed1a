"""Many tomograms on several workers: workers that are killed, errors that pass, jobs of SLURM."""

import functools
import os
import signal
import subprocess
import sys

import cloudpickle
import numpy as np
import psutil
import pytest

from cryojax_seg import io
from cryojax_seg.cli import console, segment, segment_options
from cryojax_seg.inference import many, workers

pytestmark = pytest.mark.slow
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests


@pytest.fixture
def series(files, tmp_path):
    """A folder of four tomograms that differ."""
    folder = tmp_path / "series"
    folder.mkdir()
    tomogram = io.read_mrc(files / "tomogram.mrc")
    for number, name in enumerate("abcd"):
        io.write_mrc(folder / f"{name}.mrc", np.roll(tomogram.density, 3 * number, 2), tomogram)
    return folder


@pytest.fixture(autouse=True)
def no_process_is_left():
    before = set(psutil.Process().children(recursive=True))
    yield
    after = set(psutil.Process().children(recursive=True)) - before
    assert not [p for p in after if "resource_tracker" not in " ".join(p.cmdline())]


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "README.txt")


def note(folder, word):
    """A line in a file that all workers share."""
    with (folder / "notes").open("a") as file:
        file.write(f"{word}\n")


def notes(folder):
    return (folder / "notes").read_text().split()


def killed_twice(folder, options):
    """Prepares a worker that is killed in the middle of b, and at the end of c; once each."""
    from cryojax_seg.inference import segmentation
    from cryojax_seg.io import output

    output._EVERY, write, write_all = 0.0, io.TileJob.write, segmentation._write

    def kill(name):
        if not (folder / name).exists():
            (folder / name).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def writes(job, where, blocks):
        name = job._volumes[0][0].name
        if name == "b.labels.mrc" and job.done == 5:
            kill("middle")
        note(folder, f"{name}:{job.done}")
        write(job, where, blocks)

    def writes_all(work, outputs, *rest):
        shares = write_all(work, outputs, *rest)
        if outputs[0].name == "c.labels.mrc":  # all its tiles are there, and no name yet
            kill("end")
        return shares

    io.TileJob.write, segmentation._write = writes, writes_all
    return segment._prepare(options)


def test_workers_that_are_killed_cost_nothing(run, trained, series, tmp_path, capsys, monkeypatch):
    """Every file is made once, from where it was, and as it is made without workers."""
    monkeypatch.setattr(many, "PAUSE", 0.0)
    out, log = tmp_path / "out", tmp_path / "log"
    log.mkdir()
    words = ("segment", trained, series / "*.mrc", "--engine", "jax", "--tile", "16", "-o")
    assert run(*words, tmp_path / "plain")[0] == 0
    pairs = [(series / f"{n}.mrc", out / f"{n}.labels.mrc") for n in "abcd"]
    how = segment_options.RunOptions(tile="16", engine="jax")
    share = segment_options.ManyOptions(workers=2)
    options = segment.Segment(trained, (), out, run=how, many=share)
    prepare = functools.partial(killed_twice, log, options)
    with console.warnings_as_lines():
        console.each(
            pairs, segment._segment, name=lambda pair: pair[0].name, prepare=prepare, workers=2
        )
    printed, said = capsys.readouterr()
    assert [line[:6] for line in printed.splitlines()] == [f"[{i}/4] " for i in range(1, 5)]
    for name in "bc":
        assert said.count(f"{name}.mrc: its worker died, perhaps for lack of memory; it will") == 1
    assert "b.labels.mrc: going on after 5 of 8 tiles" in said
    assert printed.count("membrane") == 4  # c had all its tiles, and no name yet
    expected = [f"{n}.labels.mrc" for n in "abcd"]
    assert sorted(notes(log)) == [f"{name}:{tile}" for name in expected for tile in range(8)]
    assert names(out) == expected
    for name in expected:
        assert (out / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def fails(folder, item):
    """What may happen to an item; each time is noted."""
    note(folder, item)
    first = notes(folder).count(item) == 1
    if item == "wrong":
        raise io.FileError("wrong: is not a tomogram")
    if item == "passing" and first:
        raise OSError(5, "Input/output error")
    if item == "busy" and first:
        raise io.BusyError("busy: another process is writing it")
    if item == "defect":
        raise TypeError("this program")
    if item == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{item} {len(os.sched_getaffinity(0)) if sys.platform == 'linux' else 1}"


def test_what_may_pass_is_tried_again_and_the_rest_is_listed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(many, "PAUSE", 0.0)
    items = ["fine", "wrong", "passing", "busy", "defect", "deadly"]
    with pytest.raises(ValueError, match="3 of 6 tomograms failed"):
        with console.warnings_as_lines():
            console.each(items, functools.partial(fails, tmp_path), workers=2)
    times = {"fine": 1, "wrong": 1, "passing": 2, "busy": 2, "defect": 3, "deadly": 3}
    assert {item: notes(tmp_path).count(item) for item in items} == times
    printed, said = capsys.readouterr()
    done = {line.split()[1]: int(line.split()[2]) for line in printed.splitlines()}
    assert set(done) == {"busy", "fine", "passing"}
    assert all(cores <= max(1, (os.cpu_count() + 1) // 2) for cores in done.values())
    assert "Traceback" in said  # of the defect
    _, listed = said.split("failed:\n")
    assert sorted(line.strip() for line in listed.splitlines()) == [
        "deadly: its worker died, perhaps for lack of memory",
        "defect: TypeError: this program",
        "wrong: is not a tomogram",
    ]


def test_the_command_lists_failures_and_a_restart_does_the_rest(run, trained, series, tmp_path):
    damaged = (series / "b.mrc").read_bytes()
    (series / "b.mrc").write_bytes(damaged[:5000])
    words = ("segment", trained, series / "*.mrc", "-o", tmp_path / "out", "--workers", "2")
    status, printed, said = run(*words)
    assert status == 2 and "1 of 4 tomograms failed" in said
    assert f"failed:\n  {series / 'b.mrc'}: truncated" in said
    assert printed.count("labels.mrc: membrane") == 3 and "[4/4]" in printed + said
    (series / "b.mrc").write_bytes(damaged)
    status, printed, said = run(*words[:-2], "--resume")  # with workers or without
    assert status == 0 and "3 of 4 are done already" in said and printed.count("membrane") == 1
    assert names(tmp_path / "out") == [f"{n}.labels.mrc" for n in "abcd"]


SBATCH = """#!/bin/sh
cp "$1" "$SLURM_FAKE/script"
setsid sh "$SLURM_FAKE/script" > "$SLURM_FAKE/log" 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
echo "$1" >> "$SLURM_FAKE/cancelled"
kill -TERM -- "-$1"
"""
JOB = """
queue: gpu
cores: 2
memory: 4GB
walltime: "00:10:00"
job-extra-directives: ["--gres=gpu:1"]
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands that run a job at once on this machine, and the description of a job."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_FAKE", str(folder))
    (folder / "job.yaml").write_text(JOB)
    return folder


def test_jobs_of_slurm(run, trained, series, tmp_path, slurm):
    words = ("segment", trained, series / "a.mrc", series / "b.mrc", "-o", tmp_path / "out")
    status, printed, said = run(*words, "--workers", "1", "--slurm", slurm / "job.yaml")
    assert status == 0, said + (slurm / "log").read_text()
    assert "1 jobs submitted to SLURM" in said
    assert printed.count("membrane") == 2 and "[2/2]" in printed
    script = (slurm / "script").read_text()
    for line in ("-p gpu", "--cpus-per-task=2", "--mem=4G", "-t 00:10:00", "--gres=gpu:1"):
        assert f"#SBATCH {line}\n" in script
    assert "--nthreads 1 --memory-limit 0" in script
    assert len((slurm / "cancelled").read_text().split()) == 1
    assert names(tmp_path / "out") == ["a.labels.mrc", "b.labels.mrc"]


def test_mistakes(run, trained, files, tmp_path, slurm, monkeypatch):
    words = ("segment", trained, files / "tomogram.mrc", "-o", tmp_path / "out")
    assert "number of processes" in run(*words, "--workers=-1")[2]
    assert "--slurm needs --workers" in run(*words, "--slurm", slurm / "job.yaml")[2]
    words += ("--workers", "1", "--slurm", slurm / "job.yaml")
    for text, message in (
        (JOB + "pocesses: 4", "unknown option 'pocesses'"),
        (JOB.replace('"00:10:00"', "12:00:00"), "walltime must be text in quotes, got 43200"),
        (JOB.replace("cores: 2", "cores: two"), "cores must be a whole number, got 'two'"),
        (JOB.replace("memory: 4GB", ""), "says nothing about memory"),
        (JOB.replace("4GB", "much"), "much"),
    ):
        (slurm / "job.yaml").write_text(text)
        status, _, said = run(*words)
        assert status == 2 and f"{slurm / 'job.yaml'}: " in said and message in said
    (slurm / "job.yaml").write_text(JOB)
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'invalid partition: gpu' >&2\nexit 1")
    status, _, said = run(*words)
    assert status == 2 and "job.yaml: " in said and "invalid partition: gpu" in said
    monkeypatch.setenv("PATH", "")
    assert "there is no sbatch here" in run(*words)[2]
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert 'pip install "cryojax-seg[cluster]"' in run(*words)[2]


def test_each_worker_has_a_gpu(monkeypatch):
    """Named as the environment does, or numbered as the driver lists them."""
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert workers._devices(2) == []  # without JAX's plugin
    plugin = type("Entry", (), {"name": "xla_cuda13"})
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [plugin])
    listed = "GPU 0: NVIDIA H100 (UUID: x)\n  MIG 1g\nGPU 1: NVIDIA H100 (UUID: y)\n"
    done = subprocess.CompletedProcess([], 0, listed)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: done)
    assert workers._devices(2) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-x,5")
    assert workers._devices(2) == ["3", "GPU-x", "5"]
    with pytest.raises(ValueError, match="4 workers take a GPU each, and there are 3"):
        workers._devices(4)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert workers._devices(4) == []
