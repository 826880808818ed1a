"""Two joined processes train like one that has the whole batch."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import joined  # noqa: E402
import worker  # noqa: E402

from cryojax_seg import io  # noqa: E402
from cryojax_seg.core import Tomogram  # noqa: E402
from cryojax_seg.runtime import processes  # noqa: E402
from cryojax_seg.training import checkpoint  # noqa: E402
from cryojax_seg.training.rundir import read_metrics  # noqa: E402

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def free_address():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return f"localhost:{probe.getsockname()[1]}"


def run_together(commands, environments=({}, {}), limit=90):
    """Output, errors and status of processes that need each other; none outlives this."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT), JAX_PLATFORMS="cpu")
    started = []
    try:
        for command, more in zip(commands, environments, strict=False):
            started.append(
                subprocess.Popen(
                    [sys.executable, "-W", "ignore", *map(str, command)],
                    env=environment | more,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        return [(*process.communicate(timeout=limit), process.returncode) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes saw, and their folder."""
    folder, address = tmp_path_factory.mktemp("together"), free_address()
    ended = run_together([joined.__file__, address, index, folder] for index in range(2))
    for _, errors, status in ended:
        assert status == 0, errors[-3000:]
    return folder, [json.loads(output.splitlines()[-1]) for output, _, _ in ended]


def test_two_processes_have_the_losses_of_one_and_the_same_parameters(two, tmp_path):
    _, (first, second) = two
    one = worker.digest(worker.run(tmp_path / "run", **joined.SMALL))
    # The gradients of a batch are summed in another order: float32 rounding, over 12 steps.
    np.testing.assert_allclose(first["rest"]["losses"], one["losses"], rtol=2e-5)
    assert first["rest"]["score"] == pytest.approx(one["score"], abs=0.01)
    assert first["rest"] == second["rest"]


def test_a_signal_to_one_process_stops_both_at_the_same_step_and_both_go_on(two):
    folder, (first, second) = two
    assert first["part"] == second["part"]
    assert first["part"]["stopped"] == "SIGTERM"
    assert first["part"]["steps"] == [1, 2, 3, 4, 5, 6]  # it came during step 5
    assert first["rest"]["stopped"] == "finished"
    assert first["rest"]["losses"][:6] == first["part"]["losses"]
    assert [line["step"] for line in read_metrics(folder / "run")] == list(range(1, 13))
    names = [p.name for p in checkpoint.checkpoints(folder / "run" / "checkpoints")]
    assert names == ["step-00000012", "step-00000008", "step-00000006"]


def test_the_first_process_alone_writes(two):
    folder, (first, second) = two
    assert any("metrics.jsonl" in line for line in first["touched"])
    assert any("step-00000012" in line for line in first["touched"])
    assert second["touched"] == []
    assert not (folder / "run" / "lock").exists()


def test_what_fails_in_one_process_ends_both_with_a_message(two):
    _, (first, second) = two
    assert first["again"].startswith("TrainingError: ")
    assert first["again"].count("already holds a run") == 1
    assert second["again"] == first["again"].replace(
        "TrainingError: ", "ProcessError: the first process failed: ", 1
    )
    for seen in (first, second):
        assert seen["odd batch"] == (
            "ValueError: a batch of 3 patches cannot be divided evenly over 2 processes; make it "
            "a multiple of 2"
        )
        assert seen["other data"].startswith("ProcessError: process 1 was given other tomograms")
    assert "no space" in first["unlogged"]
    assert second["unlogged"] == "ProcessError: another process failed; its messages say why"


def test_the_command_line_joins_what_slurm_started(tmp_path):
    given = worker.example()
    like = Tomogram(-given.volume, (10.0, 10.0, 10.0))
    labels = np.where(given.weights > 0, given.labels, 255).astype(np.int16)
    io.write_mrc(tmp_path / "tomogram.mrc", like.density, like)
    io.write_mrc(tmp_path / "labels.mrc", labels, like)
    slurm = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    slurm["JAX_COORDINATOR_PORT"] = free_address().split(":")[1]
    each = [slurm | {"SLURM_PROCID": i, "SLURM_LOCALID": i} for i in "01"]
    command = ["-m", "cryojax_seg", "train", tmp_path / "tomogram.mrc", "--labels"]
    command += [tmp_path / "labels.mrc", "-o", tmp_path / "run", "--method", "threshold"]
    command += ["--steps", 4, "--patch", 16, "--batch", 2, "--distributed"]
    first, second = run_together([command, command], each)
    assert first[2] == 0, first[1][-3000:]
    assert second[2] == 0, second[1][-3000:]
    assert "(finished, step 4 of 4)" in first[0]
    assert "training threshold" in first[1]
    assert "step 4 of 4" not in second[0]
    assert "training threshold" not in second[1]
    assert io.load_model(tmp_path / "run" / "model")[0].classes == ("foreground",)
    assert "distributed" not in (tmp_path / "run" / "config.yaml").read_text()


def test_elsewhere_than_in_a_cluster_one_must_say_whom_to_join():
    program = "from cryojax_seg.runtime import processes; processes.join()"
    ((_, errors, status),) = run_together([["-c", program]])
    assert status != 0
    assert "cannot join other processes" in errors.splitlines()[-1]


def test_a_single_process_needs_no_others():
    assert not processes.several()
    assert processes.is_primary()
    processes.check_same({"a": np.zeros(2)}, None, "text")
    assert processes.arrays_from_primary({"a": 1}) == {"a": 1}
    with pytest.raises(KeyError):
        processes.on_primary(lambda: {}["absent"])
