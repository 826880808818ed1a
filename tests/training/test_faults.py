"""What can happen to a run: kills, signals, damaged checkpoints, a full disk, a second process."""

import contextlib
import fcntl
import json
import os
import platform
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg import losses
from cryojax_seg.runtime.interrupts import Interrupts
from cryojax_seg.segmenters import LinearVote
from cryojax_seg.training import Augmentation, Example, TrainingError, checkpoint, rundir, train

sys.path.insert(0, str(Path(__file__).parent))
import worker  # noqa: E402

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TREE = {"kernel": jnp.arange(6.0).reshape(2, 3), "step": jnp.int32(7)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, worker.digest(worker.run(folder))


@pytest.fixture
def copy(whole, tmp_path):
    """The same run after step 39, as if the process had ended there."""
    shutil.copytree(whole[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000040")
    return tmp_path / "run"


def launch(folder):
    environment = dict(os.environ, PYTHONPATH=str(ROOT), JAX_PLATFORMS="cpu")
    command = [sys.executable, "-W", "ignore", str(Path(worker.__file__)), str(folder)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def lines(folder):
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def wait_for(folder, count, process):
    limit = time.monotonic() + 60
    while lines(folder) < count and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.005)


def test_kills_and_signals_leave_a_run_that_ends_like_an_uninterrupted_one(whole, tmp_path):
    folder, dice = tmp_path / "run", random.Random(0)
    for number, until in ((signal.SIGKILL, 8), (signal.SIGTERM, 18), (signal.SIGKILL, 30)):
        process = launch(folder)
        wait_for(folder, until, process)
        time.sleep(dice.uniform(0, 0.1))
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
        if number == signal.SIGTERM and process.returncode == 0:
            part = json.loads(output)
            assert part["stopped"] in ("SIGTERM", "finished"), errors
            newest = checkpoint.checkpoints(folder / "checkpoints")[0]
            assert newest.name == f"step-{part['steps'][-1]:08d}"
            assert part["losses"] == whole[1]["losses"][: len(part["losses"])]
    output, errors = launch(folder).communicate(timeout=60)
    assert json.loads(output) == whole[1], errors
    assert [line["step"] for line in rundir.read_metrics(folder)] == list(range(1, 41))
    assert not (folder / "lock").exists()


def test_the_first_signal_is_remembered_and_the_second_ends_the_process():
    former = signal.getsignal(signal.SIGUSR1)
    with Interrupts() as interrupts:
        assert interrupts.received is None
        signal.raise_signal(signal.SIGUSR1)
        assert interrupts.received == signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) == former
    script = (
        "import os, signal\n"
        "from cryojax_seg.runtime.interrupts import Interrupts\n"
        "with Interrupts():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('alive', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('never')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "alive\n"
    assert done.returncode == -signal.SIGTERM


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def largest(folder):
    return max(
        (p for p in (folder / "arrays").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def other_shape(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["leaves"][0]["shape"] = [9]
    manifest["sha256"] = checkpoint._seal(manifest)
    path.write_text(json.dumps(manifest))


def sealed(change):
    def act(folder):
        path = folder / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        manifest["sha256"] = checkpoint._seal(manifest)
        path.write_text(json.dumps(manifest))

    return act


DAMAGE = {
    "deep manifest": (lambda f: (f / "manifest.json").write_text("[" * 10**5), "cannot be read"),
    "list as manifest": (lambda f: (f / "manifest.json").write_text("[]"), "cannot be read"),
    "sealed without meta": (sealed(lambda m: m.pop("meta")), "lacks what it should say"),
    "sealed with odd meta": (sealed(lambda m: m.update(meta=5)), "lacks what it should say"),
    "sealed without leaves": (sealed(lambda m: m.pop("leaves")), "lacks what it should say"),
    "sealed with odd leaves": (sealed(lambda m: m.update(leaves=[5])), "lacks what it should say"),
    "sealed with odd shape": (
        sealed(lambda m: m["leaves"][0].update(shape=5)),
        "lacks what it should say",
    ),
    "bit flip": (lambda f: flip_bit(largest(f)), "checksum|cannot be read"),
    "truncated": (lambda f: os.truncate(largest(f), 10), "checksum|cannot be read"),
    "no arrays": (lambda f: shutil.rmtree(f / "arrays"), "arrays cannot be read"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "no manifest.json"),
    "torn manifest": (lambda f: os.truncate(f / "manifest.json", 99), "cannot be read"),
    "changed manifest": (lambda f: flip_bit(f / "manifest.json"), "damaged|cannot be read"),
    "empty folder": (empty, "no manifest.json"),
    "other shape": (other_shape, "this run needs"),
}


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    checkpoint.save(folder, 1, TREE, {"score": 1})
    checkpoint.save(folder, 2, jax.tree.map(lambda a: 2 * a, TREE), {"score": 2})
    return folder


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(
    two_checkpoints, tmp_path, damage
):
    folder = tmp_path / "store"
    shutil.copytree(two_checkpoints, folder)
    act, reason = DAMAGE[damage]
    act(folder / "step-00000002")
    restored = checkpoint.restore(folder, TREE)
    assert restored.path.name == "step-00000001"
    assert restored.meta == {"score": 1}
    np.testing.assert_array_equal(restored.tree["kernel"], TREE["kernel"])
    (skipped,) = restored.skipped
    assert "step-00000002: " in skipped
    assert any(text in skipped for text in reason.split("|"))
    shutil.rmtree(folder / "step-00000001")
    with pytest.raises(TrainingError, match="no checkpoint can be used. .*step-00000002"):
        checkpoint.restore(folder, TREE)


def test_every_bit_counts(two_checkpoints, tmp_path):
    folder = tmp_path / "store"
    shutil.copytree(two_checkpoints, folder)
    shutil.rmtree(folder / "step-00000001")
    data = largest(folder / "step-00000002")
    content, rng = data.read_bytes(), np.random.default_rng(0)
    silent = 0
    for _ in range(15):
        changed = bytearray(content)
        position = int(rng.integers(len(content) * 8))
        changed[position // 8] ^= 1 << position % 8
        data.write_bytes(changed)
        with contextlib.suppress(TrainingError):
            restored = checkpoint.restore(folder, TREE)  # a bit that is not part of any array
            silent += not np.array_equal(restored.tree["kernel"], 2 * TREE["kernel"])
    assert silent == 0


def test_a_checkpoint_comes_back_bit_for_bit_with_its_types(two_checkpoints):
    restored = checkpoint.restore(two_checkpoints, TREE)
    assert restored.skipped == ()
    assert restored.tree["step"].dtype == jnp.int32
    assert int(restored.tree["step"]) == 14
    wrong = {**TREE, "kernel": TREE["kernel"].astype(jnp.bfloat16)}
    with pytest.raises(TrainingError, match="is <f4.*this run needs"):
        checkpoint.restore(two_checkpoints, wrong)
    with pytest.raises(TrainingError, match="holds other arrays"):
        checkpoint.restore(two_checkpoints, {"kernel": TREE["kernel"]})


def test_no_checkpoint_at_all_is_none_and_only_the_latest_are_kept(tmp_path):
    assert checkpoint.restore(tmp_path, TREE) is None
    (tmp_path / ".tmp-step-00000003").mkdir()  # left over by a kill
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, TREE, {}, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_a_run_continues_from_the_checkpoint_before_a_damaged_one(whole, copy):
    flip_bit(largest(copy / "checkpoints" / "step-00000039"))
    with pytest.warns(UserWarning, match="skipped checkpoint .*step-00000039"):
        result = worker.run(copy, resume=True)
    assert worker.digest(result) == whole[1]


def test_a_run_without_a_sound_checkpoint_never_restarts_by_itself(copy):
    for folder in checkpoint.checkpoints(copy / "checkpoints"):
        (folder / "manifest.json").unlink()
    with pytest.raises(TrainingError, match="no checkpoint can be used"):
        worker.run(copy, resume=True)


def test_a_run_killed_before_its_first_checkpoint_says_that_it_starts_again(whole, copy):
    shutil.rmtree(copy / "checkpoints")
    with pytest.warns(UserWarning, match="no checkpoint yet, starting at step 0"):
        result = worker.run(copy, resume=True)
    assert worker.digest(result) == whole[1]


def test_a_torn_last_line_of_the_metrics_is_replaced(whole, copy):
    path = copy / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert worker.digest(worker.run(copy, resume=True)) == whole[1]
    assert [line["step"] for line in rundir.read_metrics(copy)] == list(range(1, 41))


@contextlib.contextmanager
def file_size_limit(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_full_disk_is_reported_with_the_path_and_spares_earlier_checkpoints(tmp_path):
    big = {"kernel": jnp.asarray(np.random.default_rng(0).normal(size=40_000))}
    checkpoint.save(tmp_path, 1, big, {})
    before = contents(tmp_path)
    with file_size_limit(50_000), pytest.raises(OSError, match="step-00000002.*free"):
        checkpoint.save(tmp_path, 2, big, {})
    assert contents(tmp_path) == before
    assert checkpoint.restore(tmp_path, big).path.name == "step-00000001"


def test_a_full_disk_at_a_metrics_line_leaves_a_run_that_can_go_on(whole, copy):
    size = (whole[0] / "metrics.jsonl").stat().st_size
    before = contents(copy / "checkpoints")
    with file_size_limit(size - 20), pytest.raises(OSError, match="metrics.jsonl.*free"):
        worker.run(copy, resume=True)
    assert contents(copy / "checkpoints") == before
    assert worker.digest(worker.run(copy, resume=True)) == whole[1]


def test_two_processes_never_train_in_one_folder(tmp_path):
    with rundir.exclusive(tmp_path):
        with pytest.raises(TrainingError, match=rf"another process .*pid {os.getpid()} host"):
            with rundir.exclusive(tmp_path):
                pass
    assert not (tmp_path / "lock").exists()


def test_the_lock_of_a_dead_process_is_taken_over_with_a_warning(tmp_path):
    lock = tmp_path / "lock"
    lock.write_text(f"pid 999999 host {platform.node()}")
    with pytest.warns(UserWarning, match="took over .*pid 999999"):
        with rundir.exclusive(tmp_path):
            assert f"pid {os.getpid()} " in lock.read_text()
    lock.write_text("pid 1 host elsewhere")
    with pytest.raises(TrainingError, match="another machine .*remove"):
        with rundir.exclusive(tmp_path):
            pass
    assert lock.exists()


def test_the_lock_is_released_when_training_fails(tmp_path):
    with contextlib.suppress(KeyError), rundir.exclusive(tmp_path):
        raise KeyError
    with open(tmp_path / "lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_loss_that_is_not_finite_stops_with_the_last_finite_state(tmp_path):
    given = worker.example("bad.mrc")
    volume = given.volume.copy()
    volume[10, 3, 3] = 1000.0
    example = Example(volume, given.labels, given.weights, given.wedge, name=given.name)

    def objective(segmenter, batch):
        value = losses.supervised(losses.cross_entropy)(segmenter, batch)
        return jnp.where((batch.volume > 500).any(), jnp.nan, value)

    plain = Augmentation(flip=False, intensity=0.0)
    config = worker.config(batch=1, checkpoint_every=2, augmentation=plain)
    message = r"step (\d+): the loss is nan .*bad.mrc at zyx \(.*kept in "
    with pytest.raises(TrainingError, match=message) as caught:
        train(
            LinearVote(radius=1),
            [example],
            config,
            objective=objective,
            run=tmp_path,
            progress=False,
        )
    step = int(str(caught.value).split()[1].rstrip(":"))
    newest = checkpoint.checkpoints(tmp_path / "checkpoints")[0]
    assert newest.name == f"step-{step - 1:08d}"
    assert [line["step"] for line in rundir.read_metrics(tmp_path)] == list(range(1, step))
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    # The origin it names is that of a patch with the voxel in it.
    place = re.search(r"at zyx \((-?\d+), (-?\d+), (-?\d+)\)", str(caught.value))
    assert all(int(o) <= p < int(o) + 8 for o, p in zip(place.groups(), (10, 3, 3), strict=True))
    # Resuming meets the same patch and stops in the same way; nothing is overwritten.
    before = contents(tmp_path / "checkpoints")
    with pytest.raises(TrainingError, match=rf"step {step}: the loss is nan"):
        train(
            LinearVote(radius=1),
            [example],
            config,
            objective=objective,
            run=tmp_path,
            resume=True,
            progress=False,
        )
    assert contents(tmp_path / "checkpoints") == before


def test_training_configs_load_without_jax():
    script = "import sys, cryojax_seg.training.config; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_damaged_newer_checkpoints_do_not_push_out_the_sound_ones(tmp_path):
    for step in (5, 6, 7):
        (tmp_path / f"step-{step:08d}").mkdir()
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, TREE, {}, keep=2)
    restored = checkpoint.restore(tmp_path, TREE)
    assert restored.path.name == "step-00000003"
    assert len(restored.skipped) == 3
    assert (tmp_path / "step-00000002").exists()
    assert not (tmp_path / "step-00000001").exists()
