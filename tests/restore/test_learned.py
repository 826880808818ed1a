"""Restorers that learn, the energy they learn against, and the audit of what they made."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cryojax_seg import core, evaluate, losses, restore, training
from cryojax_seg.core import MissingWedge
from cryojax_seg.segmenters import GlobalThreshold
from cryojax_seg.training.samples import canonical

WEDGE = MissingWedge((-60.0, 60.0))
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
apply_wedge = quick(lambda v: WEDGE.apply(v))


class Halved(core.LocalOperator):
    """Half of the density."""

    halo, stride = 0, 1

    def __init__(self):
        self.gain = nnx.Param(jnp.asarray(0.5))

    def __call__(self, volume):
        return (self.gain[...] * volume)[..., None]


def noise(shape=(16, 16, 16), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def batch(seed=0):
    halves = np.stack([np.asarray(apply_wedge(noise(seed=s))) for s in (seed, seed + 1)])
    one = training.Batch(
        volume=jnp.asarray(halves.mean(0)),
        labels=jnp.zeros(halves.shape[1:], jnp.int32),
        weights=jnp.ones(halves.shape[1:], jnp.float32),
        wedge=canonical(WEDGE),
        halves=jnp.asarray(halves),
        key=jax.random.key(0),
    )
    return jax.tree.map(lambda leaf: leaf[None], one)


def gradient(objective, module, b):
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    found = quick(jax.grad(lambda p: objective(nnx.merge(graph, p, rest), b)))(params)
    return {
        "/".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(found)
    }


def test_restorer_and_energy_learn_against_each_other():
    """What one gains is not what the other pays: each takes the other as constant."""
    pair = losses.EnergyTrained(Halved(), GlobalThreshold(0.2, 1.0))
    b = batch()
    plain = losses.adversarial(consistency=0.0, energy=0.0, penalty=0.0)
    alone, both = (gradient(losses.adversarial(0.0, factor, 0.0), pair, b) for factor in (0.0, 1.0))
    # The energy learns from real and restored views only, whatever weight it has for the restorer;
    # with the threshold t its mean logit is v - t: both views have the same derivative -1 and 1.
    assert alone["energy/threshold"] == pytest.approx(0.0, abs=1e-5)
    assert both["energy/threshold"] == pytest.approx(alone["energy/threshold"], abs=1e-5)
    # The restorer pays the energy only with its factor.
    assert alone["restorer/gain"] != 0
    assert both["restorer/gain"] != alone["restorer/gain"]
    assert np.isfinite(float(quick(plain)(pair, b)))


def test_the_data_term_asks_for_the_other_half():
    """|A_M (v_2 - x_1)|^2 with x = v / 2, whose noise in the wedge the mask takes out again."""
    b = batch()
    pair = losses.EnergyTrained(Halved(), GlobalThreshold(0.0, 1.0))
    found = float(quick(losses.adversarial(0.0, 0.0, 0.0))(pair, b))
    first, second = np.asarray(b.halves[0])
    wanted = [np.mean((y - 0.5 * x) ** 2) for x, y in ((first, second), (second, first))]
    # E(R y) - E(view): means, of which only that of the volume is left, 0 but for rounding.
    assert min(abs(found - w) for w in wanted) < 0.02


def test_the_penalty_is_the_squared_gradient():
    """Of a linear energy v - t the gradient per voxel is 1 / n: penalty n |dE/dy|^2 = 1."""
    pair, b = losses.EnergyTrained(Halved(), GlobalThreshold(0.0, 1.0)), batch()
    values = []
    for key in range(24):
        keyed = dataclasses.replace(b, key=jax.random.split(jax.random.key(key), 1))
        run = _penalised, _plain
        values.append(float(run[0](pair, keyed)) - float(run[1](pair, keyed)))
    assert np.mean(values) == pytest.approx(1.0, abs=0.9)  # the square of one normal variate


_penalised = quick(losses.adversarial(0.0, 0.0, 1.0))
_plain = quick(losses.adversarial(0.0, 0.0, 0.0))


def test_an_energy_is_needed():
    with pytest.raises(ValueError, match="needs a losses.EnergyTrained, not a GlobalThreshold"):
        losses.adversarial()(GlobalThreshold(0.5), batch())


def test_answers_differ_where_the_data_do_not_tell():
    """Of the restorer that changes nothing, the spread is the noise in the wedge."""

    class Same(core.LocalOperator):
        halo, stride = 0, 1

        def __call__(self, volume):
            return volume[..., None]

    v = np.asarray(apply_wedge(noise((24, 24, 24))))
    mean, deviation = restore.sample_statistics(Same(), v, WEDGE, count=6)
    assert deviation.mean() > 0.3 * v.std()
    np.testing.assert_allclose(np.asarray(apply_wedge(mean)), v, atol=1e-4)
    with pytest.raises(ValueError, match="count of 2 or more"):
        restore.sample_statistics(Same(), v, WEDGE, count=1)


def test_a_large_tomogram_is_learned_from_in_blocks():
    v = noise((20, 24, 40))
    halves = np.stack([noise(v.shape, 1), noise(v.shape, 2)])
    (whole,) = training.unlabelled(v, WEDGE, halves)
    assert whole.volume.shape == v.shape and whole.halves.shape == halves.shape
    blocks = training.unlabelled(v, WEDGE, halves, edge=8, count=5)
    assert [b.volume.shape for b in blocks] == [(8, 8, 8)] * 5
    assert len({b.volume.tobytes() for b in blocks}) == 5
    assert all(b.labels is None and b.drawn.all() for b in blocks)  # patches may lie anywhere


def test_training_a_restorer_removes_noise():
    """A gain that noise2noise learns: signal over signal plus noise, here 1 / 2."""
    signal, shape = noise((24, 24, 24), 9), (24, 24, 24)
    halves = np.stack([signal + noise(shape, s) for s in (1, 2)])
    full = MissingWedge((-90.0, 90.0))
    examples = training.unlabelled(halves.mean(0), full, halves)
    config = training.TrainConfig(
        steps=60, patch=16, learning_rate=0.05, ema=0.9,
        augmentation=training.Augmentation(intensity=0.0),
    )  # fmt: skip
    start = Halved()
    start.gain[...] = jnp.asarray(1.0)
    result = training.train(
        start, examples, config, objective=losses.restoration(losses.NOISE2NOISE),
        progress=False,
    )  # fmt: skip
    assert float(result.operator.gain[...]) == pytest.approx(0.5, abs=0.05)
    with pytest.raises(ValueError, match="needs a restorer.*GlobalThreshold"):
        training.train(GlobalThreshold(0.5), examples, config, objective=losses.restoration())
    with pytest.raises(ValueError, match="Halved has no default loss; give an objective"):
        training.train(start, examples, config)


def test_the_audit_tells_what_was_put_into_the_wedge():
    full = noise((48, 48, 48))
    measured = np.asarray(apply_wedge(full))
    honest = evaluate.audit(measured, measured, WEDGE)
    assert honest.agreement_overall == pytest.approx(1.0, abs=1e-3)
    assert honest.kept_overall == pytest.approx(1.0, abs=1e-3)
    # The window spreads what lies beside the edge of the wedge.
    assert honest.filled_overall < 0.15
    filled = evaluate.audit(measured, full, WEDGE)
    assert filled.filled_overall == pytest.approx(1.0, abs=0.2)
    assert filled.agreement_overall > 0.95
    other = evaluate.audit(measured, noise(full.shape, 5), WEDGE)
    assert abs(other.agreement_overall) < 0.1
    with pytest.raises(ValueError, match="has shape"):
        evaluate.audit(measured, full[1:], WEDGE)


def test_invented_density_is_counted_by_visibility():
    truth = np.zeros((32, 32, 32), bool)
    truth[:, :, 8] = True  # faces x: visible
    seen = np.where(truth, 0.95, 0.0)
    restored = truth.astype(np.float32)
    assert evaluate.invention(restored, truth, seen, WEDGE).share == 0.0
    restored[24, :, 16:] = 1.0  # faces the beam, and is not there
    found = evaluate.invention(restored, truth, seen, WEDGE)
    assert found.level == pytest.approx(0.5, abs=0.05)
    assert found.share == pytest.approx(32 * 16 / truth.sum(), rel=0.05)
    low = sum(b.invented for b in found.by_visibility if b.high <= 0.6)
    assert low > 0.8 * 32 * 16


def test_a_network_restores_nothing_before_it_has_learned():
    net = restore.unet_restorer(2, 1, norm="none", rngs=nnx.Rngs(0))
    assert float(np.abs(np.asarray(net(noise()))).max()) == 0.0
    start = restore.RadialFilter([1.0, 0.5], radius=3)
    started = restore.unet_restorer(2, 1, norm="none", start=start, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(started(noise()), start(noise()))
    assert (started.halo, started.stride) == (net.halo + 3, net.stride)
    with pytest.raises(ValueError, match="one class, not 3"):
        restore.Learned(GlobalThreshold([0.5, 1.0], 0.5, ("a", "b", "c")))
