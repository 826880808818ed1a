"""The segmenter that is given the wedge: it turns with the data, and keeps the contract."""

import dataclasses
import doctest
import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cryojax_seg import core, io, losses
from cryojax_seg.core import MissingWedge
from cryojax_seg.core.rotation import cube_rotations, rotate_on_grid
from cryojax_seg.segmenters import LinearVote
from cryojax_seg.training import Batch, Example
from cryojax_seg.training.samples import canonical
from experiments import conditioned as module
from experiments.conditioned import WedgeConditioned, given_wedge

WEDGE, NARROW = MissingWedge((-60.0, 60.0)), MissingWedge((-40.0, 40.0))
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture
def conditioned():
    return WedgeConditioned(LinearVote(1), WEDGE, 0.7, (0.3, -0.2), radius=2)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def batch_with(wedge):
    wedges = jax.tree.map(lambda leaf: leaf[None], canonical(wedge))
    volume = jnp.asarray(noise(1, 8, 8, 8))
    return Batch(volume, (volume > 0.5).astype(int), jnp.ones_like(volume), wedge=wedges)


def test_the_examples_run():
    failed, tried = doctest.testmod(module)
    assert tried > 0 and failed == 0


def test_moments_are_means_over_directions_and_turn_with_the_wedge():
    """Against a mean over 200 000 random directions, whose standard error is below 0.004."""
    rng = np.random.default_rng(0)
    k = rng.normal(size=(200_000, 3))
    k /= np.linalg.norm(k, axis=1, keepdims=True)
    moments = jax.jit(module.moments)
    for wedge in (MissingWedge((-60.0, 40.0)), MissingWedge((-50.0, 60.0), "x")):
        seen = np.asarray(jax.jit(MissingWedge._measured)(wedge, *k.T.astype(np.float32)))
        expected = 3 * np.einsum("n,ni,nj->ij", seen, k, k) / len(k)
        np.testing.assert_allclose(moments(wedge), expected, atol=0.015)
        turn = cube_rotations((2, 2, 2))[7].astype(np.float32)
        turned = moments(wedge.rotate(jnp.asarray(turn)))
        np.testing.assert_allclose(turned, turn @ moments(wedge) @ turn.T, atol=1e-6)


@pytest.mark.parametrize("tilt_axis", ["y", "x"])
def test_turning_data_and_wedge_turns_the_answer(tilt_axis):
    """For all 24 rotations of the cube, and a kernel and wedge without any symmetry."""
    vote = LinearVote(1)
    vote.kernel[...] = jnp.asarray(noise(*vote.kernel.shape))
    wedge = MissingWedge((-60.0, 40.0), tilt_axis)
    conditioned = WedgeConditioned(vote, wedge, 0.7, (0.3, -0.2), radius=2)
    volume = jnp.asarray(noise(9, 9, 9, seed=1))
    run, turn = jax.jit(conditioned.logits_given_wedge), jax.jit(rotate_on_grid)
    upright = run(volume, canonical(wedge))
    np.testing.assert_allclose(jax.jit(conditioned)(volume), upright, atol=1e-5)
    changed = 0
    for matrix in cube_rotations(volume.shape):
        turned, expected = turn(matrix, volume, upright)
        its_wedge = canonical(wedge).rotate(jnp.asarray(matrix, jnp.float32))
        np.testing.assert_allclose(run(turned, its_wedge), expected, atol=1e-5)
        changed += not np.allclose(run(turned, canonical(wedge)), expected, atol=1e-2)
    assert changed >= 20  # and not if the wedge stays behind


def test_a_batch_tells_the_segmenter_its_wedge(conditioned):
    objective = quick(given_wedge(losses.cross_entropy))
    wide, narrow = (float(objective(conditioned, batch_with(w))) for w in (WEDGE, NARROW))
    assert wide != narrow
    plain = quick(losses.supervised(losses.cross_entropy))
    told = conditioned.with_wedge(NARROW)
    assert float(plain(told, batch_with(WEDGE))) == pytest.approx(narrow, 1e-5)


def test_its_gains_learn_also_from_a_flat_patch(conditioned):
    gradient = quick(jax.grad(given_wedge(losses.cross_entropy)))
    found = gradient(conditioned, batch_with(WEDGE)).gains[...]
    assert np.isfinite(found).all() and np.abs(found).min() > 0
    flat = dataclasses.replace(batch_with(WEDGE), volume=jnp.full((1, 8, 8, 8), 3.0))
    for leaf in jax.tree.leaves(gradient(conditioned, flat)):
        assert np.isfinite(leaf).all()


def test_it_is_local_and_can_be_saved(conditioned, tmp_path):
    """Nothing beyond the halo reaches the output; tiles equal the whole; a file gives it back."""
    assert conditioned.halo == 3
    volume = noise(9, 10, 11)
    spoiled = np.where(np.pad(np.ones((7, 7, 7), bool), ((1, 1), (1, 2), (2, 2))), volume, np.nan)
    whole = core.apply(conditioned, volume)
    np.testing.assert_allclose(conditioned(jnp.asarray(spoiled))[4, 4, 5], whole[4, 4, 5], 1e-5)
    np.testing.assert_allclose(core.apply(conditioned, volume, tile=6), whole, atol=1e-5)
    io.save_model(tmp_path / "model", conditioned, io.ModelCard(contrast="bright"))
    again, _ = io.load_model(tmp_path / "model", allow=("experiments.conditioned",))
    np.testing.assert_array_equal(core.apply(again, volume), whole)


def test_the_variant_of_the_experiment_is_given_the_wedge(monkeypatch):
    from experiments import wedge_losses

    monkeypatch.setattr(wedge_losses.networks, "train", lambda net, *_, objective: (net, objective))
    start = wedge_losses.Trained(LinearVote(1), [], 0.0, "")
    one = Example(noise(8, 8, 8), np.zeros((8, 8, 8), np.int32), wedge=WEDGE)
    net, objective = wedge_losses.go_on(start, "conditioned", [one], wedge_losses.Config(), 0)
    assert isinstance(net, WedgeConditioned) and net.wedge == WEDGE
    wide, narrow = (float(quick(objective)(net, batch_with(w))) for w in (WEDGE, NARROW))
    assert wide == narrow  # until its gains have learned
