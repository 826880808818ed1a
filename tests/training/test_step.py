"""The step: pure, compiled once, donating, finite, and the same on several devices."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cryojax_seg import losses
from cryojax_seg.segmenters import ConvNet, GlobalThreshold, LinearVote
from cryojax_seg.training import Augmentation, TrainingError, make_step
from cryojax_seg.training.samples import prepare
from cryojax_seg.training.step import (
    initial_state,
    learnable,
    step_key,
    take_apart,
)

sys.path.insert(0, str(Path(__file__).parent))
import worker  # noqa: E402


def start(segmenter, objective=None, learn=nnx.Param, **changes):
    config = worker.config(**({"augmentation": Augmentation(flip=False, intensity=0.0)} | changes))
    objective = objective or losses.supervised(losses.cross_entropy)
    samples = prepare([worker.example()], segmenter.classes, config.patch_shape)
    parts = take_apart(segmenter, learn)
    return make_step(parts, objective, config), initial_state(parts, config), samples


@pytest.fixture(scope="module")
def compiled():
    return start(LinearVote(radius=1))


def fresh(compiled):
    step, state, samples = compiled
    return step, jax.tree.map(jnp.array, state), samples


def test_one_compilation_donated_state_and_a_falling_loss(compiled):
    step, state, samples = fresh(compiled)
    first = state
    seen = []
    for _ in range(30):
        state, metrics = step(state, samples)
        seen.append(float(metrics["loss"]))
    assert step._cache_size() == 1
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first.params))
    assert int(state.step) == 30
    assert np.mean(seen[-5:]) < 0.75 * np.mean(seen[:5])


def test_a_step_is_a_function_of_its_arguments(compiled):
    step, one, samples = fresh(compiled)
    two = jax.tree.map(jnp.array, one)
    other = jax.tree.map(jnp.array, one)
    one, metrics = step(one, samples)
    two, again = step(two, samples)
    for a, b in zip(jax.tree.leaves((one, metrics)), jax.tree.leaves((two, again)), strict=True):
        np.testing.assert_array_equal(a, b)
    _, different = step(dataclasses.replace(other, seed=jnp.uint32(5)), samples)
    assert different["loss"] != metrics["loss"]
    keys = [step_key(jnp.uint32(0), jnp.int32(s)) for s in range(5)]
    assert len({str(jax.random.key_data(k)) for pair in keys for k in pair}) == 10


def test_the_running_mean_starts_quickly(compiled):
    step, state, samples = fresh(compiled)
    before = np.asarray(state.params["kernel"])
    state, _ = step(state, samples)
    after = np.asarray(state.params["kernel"])
    np.testing.assert_allclose(state.ema["kernel"], 0.1 * before + 0.9 * after, rtol=1e-6)
    mean = np.asarray(state.ema["kernel"])
    state, _ = step(state, samples)
    after = np.asarray(state.params["kernel"])
    np.testing.assert_allclose(state.ema["kernel"], mean + 9 / 11 * (after - mean), rtol=1e-6)


def test_what_is_not_selected_stays():
    step, state, samples = start(GlobalThreshold(0.2), learn=nnx.PathContains("threshold"))
    assert set(state.params) == {"threshold"}
    assert set(state.fixed) == {"log_softness"}
    softness = float(state.fixed["log_softness"])
    state, _ = step(state, samples)
    assert float(state.fixed["log_softness"]) == softness
    assert float(state.params["threshold"]) != np.float32(0.2)


def test_parameters_are_selected_by_name():
    parts = take_apart(GlobalThreshold(0.2), learnable(("softness",)))
    assert set(parts.params) == {"log_softness"}
    assert set(take_apart(GlobalThreshold(0.2), learnable(())).params) == {
        "threshold",
        "log_softness",
    }
    with pytest.raises(TrainingError, match="GlobalThreshold has the parameters log_softness, thr"):
        take_apart(GlobalThreshold(0.2), learnable(("kernel",)))


def test_taking_apart_and_rebuilding_is_the_identity():
    vote = LinearVote(radius=1)
    parts = take_apart(vote, nnx.PathContains("kernel"))
    again = parts.rebuild(parts.params, parts.fixed)
    volume = jax.random.normal(jax.random.key(0), (5, 6, 7))
    np.testing.assert_array_equal(again(volume), vote(volume))


def test_the_trunk_learns_at_its_own_rate():
    net = ConvNet(1, 2, classes=("a",), rngs=nnx.Rngs(0))
    moved = {}
    for trunk in (0.0, 0.5, 1.0):
        step, state, samples = start(net, trunk=trunk, clip=1e9)
        before = {name: np.asarray(value) for name, value in state.params.items()}
        state, _ = step(state, samples)
        moved[trunk] = {name: np.asarray(state.params[name]) - before[name] for name in before}
    ends = {name for name, change in moved[0.0].items() if np.abs(change).max() > 0}
    assert ends == take_apart(net).last and len(ends) == 2 < len(moved[0.0])
    for name, change in moved[1.0].items():
        factor = 1.0 if name in ends else 0.5
        np.testing.assert_allclose(moved[0.5][name], factor * change, rtol=1e-4, atol=1e-8)


def test_the_rate_is_a_number_of_the_state(compiled):
    """The end of a run can be planned at any step, without compiling again."""
    step, state, samples = fresh(compiled)
    rates = []
    for number in range(8):
        if number == 4:
            state = dataclasses.replace(state, phases=jnp.asarray([2, 4, 8], jnp.int32))
        before = np.asarray(state.params["kernel"])
        state, metrics = step(state, samples)
        rates.append(float(metrics["rate"]))
    assert step._cache_size() == 1
    np.testing.assert_allclose(rates[:4], np.array([0.002, 0.101, 0.2, 0.2]), rtol=1e-5)
    falling = 0.002 + 0.198 * (0.5 + 0.5 * np.cos(np.pi * np.arange(4) / 4))
    np.testing.assert_allclose(rates[4:], falling, rtol=1e-5)
    # The updates follow the rate: Adam's are at most about as long as it.
    assert 0 < np.abs(np.asarray(state.params["kernel"]) - before).max() < 2 * rates[-1]


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_the_identity(poison):
    def objective(segmenter, batch):
        value = losses.supervised(losses.cross_entropy)(segmenter, batch)
        if poison == "loss":
            return value * jnp.nan
        return value + jnp.sqrt(0.0 * value)  # finite, with an infinite slope at 0

    step, state, samples = start(GlobalThreshold(0.0), objective)
    before = jax.tree.map(np.array, state)
    for _ in range(2):
        state, metrics = step(state, samples)
        assert not metrics["finite"]
        assert int(metrics["step"]) == 1
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_four_devices_give_the_losses_of_one():
    environment = dict(
        os.environ,
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
        JAX_PLATFORMS="cpu",
        PYTHONPATH=str(Path(__file__).parents[2]),
    )
    script = (
        "import worker, json, jax; r = worker.run(validate=False, steps=8, replay=4);"
        "print(json.dumps([jax.device_count(), worker.digest(r)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    devices, several = json.loads(done.stdout.splitlines()[-1])
    assert devices == 4
    one = worker.digest(worker.run(validate=False, steps=8, replay=4))
    np.testing.assert_allclose(several["losses"], one["losses"], rtol=2e-5)
