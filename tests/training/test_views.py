"""Normals, halves, keys and unannotated patches travel with the patches as they should."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg import losses
from cryojax_seg.core import MissingWedge
from cryojax_seg.core.rotation import cube_rotations
from cryojax_seg.segmenters import LinearVote
from cryojax_seg.training import Augmentation, Batch, Example, TrainConfig, sampling, train
from cryojax_seg.training import augment as A
from cryojax_seg.training.samples import canonical, prepare

SHAPE, EDGE = (14, 12, 13), (6, 6, 6)
draw = jax.jit(sampling.draw, static_argnums=(2, 3, 4, 5))
visibility = jax.jit(MissingWedge.visibility)
QUICK = {"xla_backend_optimization_level": 0}  # compiles in half the time


def example(seed=0, **changes):
    """Normals and halves say where they come from: both are functions of the volume's values."""
    rng = np.random.default_rng(seed)
    volume = rng.normal(size=SHAPE).astype(np.float32)
    normals = np.zeros((*SHAPE, 3), np.float32)
    normals[..., 0], normals[..., 2] = np.cos(volume), np.sin(volume)
    halves = np.stack([volume + 1, volume - 1])
    weights = np.zeros(SHAPE, np.float32)
    weights[3] = 1
    arguments = {"wedge": MissingWedge((-60.0, 50.0)), "normals": normals, "halves": halves}
    arguments["truth"] = 2 * volume
    labels = (volume > 0).astype(int)
    return Example(volume, labels, weights, **{**arguments, **changes})


def test_normals_halves_and_truth_are_cut_with_the_volume():
    samples = prepare([example(0), example(1)], ("thing",), EDGE)
    batch, _ = draw(samples, jax.random.key(0), 20, EDGE)
    np.testing.assert_array_equal(batch.halves[:, 0], batch.volume + 1)
    np.testing.assert_array_equal(batch.halves[:, 1], batch.volume - 1)
    np.testing.assert_array_equal(batch.truth, 2 * batch.volume)
    # Kept in units of 1/127.
    np.testing.assert_allclose(batch.normals[..., 2], np.sin(batch.volume), atol=0.5 / 127 + 1e-6)
    assert not np.asarray(batch.normals[..., 1]).any()


def test_an_example_without_normals_has_none_and_halves_need_all():
    samples = prepare([example(0), example(1, normals=None, halves=None)], ("thing",), EDGE)
    assert "halves" not in samples.arrays[0] and "truth" in samples.arrays[0]
    batch, _ = draw(samples, jax.random.key(0), 30, EDGE)
    lengths = np.linalg.norm(batch.normals, axis=-1).reshape(30, -1)
    has = lengths.min(1) > 0.9
    assert has.any() and not has.all() and (lengths[~has] == 0).all()
    bare = prepare([example(0, normals=None, halves=None, wedge=None)], ("thing",), EDGE)
    plain, _ = draw(bare, jax.random.key(0), 2, EDGE)
    assert plain.normals is None and plain.halves is None and plain.wedge is None


def test_unannotated_patches_come_from_everywhere():
    one = example(0)
    samples = prepare([one], ("thing",), EDGE, everywhere=True)
    batch, flips = draw(samples, jax.random.key(0), 2, EDGE, 0, 300)
    assert batch.volume.shape[0] == flips.shape[0] == 302
    assert np.asarray(batch.weights[:2]).any((1, 2, 3)).all()
    corner = np.asarray(batch.volume[2:, 0, 0, 0])
    origins = {int(np.flatnonzero(one.volume.ravel() == c)[0]) for c in corner}
    z = {o // (SHAPE[1] * SHAPE[2]) for o in origins}
    assert z == set(range(SHAPE[0] - EDGE[0] + 1))  # every plane a patch can start at
    assert (np.asarray(batch.weights[2:]).sum((1, 2, 3)) == 0).any()


def test_wrong_normals_and_halves_are_refused_by_name():
    for name, value, problem in (
        ("normals", np.zeros((*SHAPE, 2), np.float32), "normals have shape"),
        ("halves", np.full((2, *SHAPE), np.nan, np.float32), "halves must be finite"),
    ):
        with pytest.raises(ValueError, match=problem):
            example(0, **{name: value})


def patch(seed=0):
    rng = np.random.default_rng(seed)
    volume = jnp.asarray(rng.normal(size=(8, 8, 8)), jnp.float32)
    normals = jnp.zeros((8, 8, 8, 3)).at[1, 2, 3].set(jnp.asarray([0.6, 0.0, 0.8]))
    halves = jnp.stack([volume + 0.5, volume - 0.5])
    labels, weights = (volume > 0).astype(jnp.int32), jnp.ones(volume.shape)
    wedge = canonical(MissingWedge((-60.0, 50.0)))
    return Batch(volume, labels, weights, wedge, normals, halves, truth=2 * volume)


def test_normals_turn_with_the_sample_and_keep_their_visibility():
    before = patch()
    seen = visibility(before.wedge, before.normals)[1, 2, 3]
    turned = jax.jit(A.rotate_by)
    for m in cube_rotations((8, 8, 8)):
        after = turned(before, jnp.asarray(m))
        there = tuple(np.round(m @ (np.array([1, 2, 3]) - 3.5) + 3.5).astype(int).tolist())
        np.testing.assert_allclose(after.normals[there], m @ np.array([0.6, 0.0, 0.8]), atol=1e-6)
        np.testing.assert_allclose(visibility(after.wedge, after.normals)[there], seen, atol=1e-5)
        np.testing.assert_allclose(after.halves.mean(0), after.volume, atol=1e-6)
        np.testing.assert_array_equal(after.truth, 2 * after.volume)


@pytest.mark.parametrize("name", ["rotate", "noise", "narrow", "amplitude", "intensity", "blank"])
def test_the_volume_stays_the_mean_of_its_halves(name):
    """Whatever changes the volume changes both halves with it; all changes are affine."""
    config = Augmentation(**{"intensity": 0.0, name: 1.0})
    batch = jax.tree.map(lambda a: a[None], patch())
    flips = jnp.zeros((1, 8, 3), bool)
    run = jax.jit(A.augment, static_argnums=3, compiler_options=QUICK)
    after = run(batch, jax.random.key(1), flips, config)
    assert not np.allclose(after.volume, batch.volume, atol=1e-3)
    np.testing.assert_allclose(after.halves.mean(1), after.volume, atol=2e-5)
    # The truth moves with the volume, and is not spoiled with it.
    truth = 2 * (after.volume if name == "rotate" else batch.volume)
    np.testing.assert_allclose(after.truth, truth, atol=2e-5)
    difference = np.asarray(after.halves[0, 0] - after.halves[0, 1])
    if name == "noise":  # independent in the halves
        assert difference.std() > 0.01


def test_training_with_every_objective_that_needs_more_than_labels():
    """One run in which the step gives what each asks for; the loss falls."""
    objective = losses.add(
        losses.visibility_weighted(losses.supervised(losses.cross_entropy), 1.0),
        losses.equivariant(halves=True),
        factors=(1.0, 0.1),
    )
    config = TrainConfig(steps=40, patch=8, unannotated=1, learning_rate=0.05, ema=0.5)
    one = dataclasses.replace(example(0), name="a")
    vote = LinearVote(0, classes=("thing",))
    result = train(vote, [one], config, objective=objective, progress=False)
    loss = [record["loss"] for record in result.history]
    assert np.mean(loss[-5:]) < 0.8 * np.mean(loss[:5])
