"""The restoration loss against the published formulas, written out in NumPy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cryojax_seg import losses
from cryojax_seg.core import Chain, LocalOperator, MissingWedge
from cryojax_seg.core.rotation import rotate_by_transposing
from cryojax_seg.losses import self_supervised as under_test
from cryojax_seg.losses.consistency import random_rotation
from cryojax_seg.segmenters import GlobalThreshold
from cryojax_seg.training import Batch
from cryojax_seg.training.samples import canonical

EDGE = 12
SHAPE = (EDGE,) * 3
WEDGE = MissingWedge((-60.0, 50.0))
KEY = jax.random.key(3)
MATRIX = np.asarray(random_rotation(canonical(WEDGE), SHAPE, jax.random.split(KEY, 4)[2]))
M = np.asarray(WEDGE.transfer(SHAPE), np.float64)
MR = np.asarray(WEDGE.rotate(jnp.asarray(MATRIX, jnp.float32)).transfer(SHAPE), np.float64)
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Bent(LocalOperator):
    """Not linear, so that no order of operations can be exchanged unnoticed."""

    halo, stride = 0, 1

    def __init__(self, gain=0.7):
        self.gain = nnx.Param(jnp.asarray(gain))

    def __call__(self, volume):
        return jnp.tanh(self.gain[...] * volume)[..., None]


def f(v):
    return np.tanh(0.7 * v)


def masked(v, mask):
    return np.fft.irfftn(np.fft.rfftn(v) * mask, s=SHAPE, axes=(0, 1, 2))


def turned(v):
    return np.asarray(rotate_by_transposing(MATRIX, v), np.float64)


def like(v, reference):
    return (v - v.mean()) / v.std() * reference.std() + reference.mean()


def power(v):
    return np.mean(v**2)


def halves(seed=0):
    """Half tomograms as they are measured: nothing in the wedge."""
    rng = np.random.default_rng(seed)
    both = np.stack([masked(v, M) for v in rng.normal(size=(2, *SHAPE)) + rng.normal(size=SHAPE)])
    return both.astype(np.float32)


def batch(both, with_halves=True, wedge=WEDGE):
    one = Batch(
        volume=jnp.asarray(both.mean(0)),
        labels=jnp.zeros(SHAPE, jnp.int32),
        weights=jnp.ones(SHAPE, jnp.float32),
        wedge=canonical(wedge),
        halves=jnp.asarray(both) if with_halves else None,
        key=KEY,
    )
    return jax.tree.map(lambda leaf: leaf[None], one)


def value(recipe, both, **keywords):
    return float(quick(losses.restoration(recipe))(Bent(), batch(both, **keywords)))


def both_ways(term, both):
    a, b = both.astype(np.float64)
    return 0.5 * (term(a, b) + term(b, a))


def noise2noise(a, b):
    """|f(even) - odd|^2."""
    return power(f(a) - b)


def deepdewedge(a, b):
    """|A_(M_R M)(R b - f(A_M R a'))|^2 + 2 |A_(M_R (1 - M)) ...|^2 with the refilled a'."""
    filled = masked(a, M) + masked(f(a), 1 - M)
    inputs = like(masked(turned(filled), M), turned(filled))
    left = turned(b) - f(inputs)
    return power(masked(left, MR * M)) + 2 * power(masked(left, MR * (1 - M)))


def isonet2(a, b):
    """Both are refilled, and only what was measured before the rotation counts."""
    a, b = (masked(v, M) + masked(f(v), 1 - M) for v in (a, b))
    left = turned(b) - f(like(masked(turned(a), M), turned(a)))
    return power(masked(left, MR * M)) + 20 * power(masked(left, MR * (1 - M)))


def equivariant(a, b):
    """|A_M(b - f(a))|^2 + 2 |A_(M_R)(R f(b) - f(A_M R f(a)))|^2."""
    again = turned(f(b)) - f(masked(turned(f(a)), M))
    return power(masked(b - f(a), M)) + 2 * power(masked(again, MR))


@pytest.mark.parametrize(
    "recipe, formula",
    [
        (losses.NOISE2NOISE, noise2noise),
        (losses.DEEPDEWEDGE, deepdewedge),
        (dataclasses.replace(losses.ISONET2, reinject=False), isonet2),
        (losses.EQUIVARIANT, equivariant),
    ],
)
def test_the_loss_is_the_published_formula(recipe, formula):
    both = halves()
    np.testing.assert_allclose(value(recipe, both), both_ways(formula, both), rtol=2e-4)


def test_isonet_compares_everything_with_its_own_answer():
    """|R x' - f(A_M R x')|, x' the tomogram with its wedge filled by the network."""
    both = halves()
    x = both.mean(0).astype(np.float64)
    filled = turned(masked(x, M) + masked(f(x), 1 - M))
    expected = np.abs(filled - f(like(masked(filled, M), filled))).mean()
    recipe = dataclasses.replace(losses.ISONET, noise=0.0)
    np.testing.assert_allclose(value(recipe, both), expected, rtol=2e-4)


def test_what_fills_the_wedge_gets_the_noise_that_was_removed():
    """IsoNet2: of variance |s^2 - s'^2|, with the deviations of the differences of halves."""
    both = halves()
    answers = np.stack([f(v) for v in both])
    before, after = (np.std(p[0] - p[1]) / np.sqrt(2) for p in (both, answers))
    with_noise, without = (
        np.asarray(under_test._refilled(both, answers, jnp.asarray(M, jnp.float32), KEY, flag))
        for flag in (True, False)
    )
    added = with_noise - without
    expected = abs(before**2 - after**2) * (1 - M[..., 1:-1]).mean()
    assert np.var(added) == pytest.approx(expected, rel=0.2)
    assert np.abs(masked(added[0], M)).max() < 1e-5  # none where the data are


def test_splitting_gives_halves_of_independent_noise():
    shape = (32, 32, 32)
    transfer = np.asarray(WEDGE.transfer(shape))
    rng = np.random.default_rng(0)
    noise = np.asarray(WEDGE.apply(jnp.asarray(rng.normal(size=shape), jnp.float32)))
    first, second = np.asarray(quick(under_test.split)(noise, jnp.asarray(transfer), KEY))
    correlation = np.corrcoef(first.ravel(), second.ravel())[0, 1]
    assert abs(correlation) < 0.03
    np.testing.assert_allclose((first + second) / 2, noise, atol=1e-5)
    outside = np.abs(np.fft.rfftn(first)) * (1 - transfer)
    assert outside.max() < 1e-3 * np.abs(np.fft.rfftn(first)).max()


def test_what_is_stronger_than_white_noise_stays_in_both_halves():
    """Without a share; with one of 1 halves are independent of each other with all they hold."""
    shape = (32, 32, 32)
    everything = jnp.ones((32, 32, 17))
    wave = 2 * np.cos(2 * np.pi * 3 * np.arange(32) / 32).astype(np.float32)
    volume = np.random.default_rng(0).normal(size=shape).astype(np.float32) + wave[:, None, None]
    for share, kept in ((None, 1.0), (1.0, 0.0)):
        run = functools.partial(under_test.split, share=share)
        many = quick(jax.vmap(lambda key, run=run: run(volume, everything, key)))
        first, second = np.moveaxis(np.asarray(many(jax.random.split(KEY, 16))), 1, 0)
        assert np.mean(first * second) == pytest.approx(kept * np.mean(wave**2), abs=0.25)


def test_a_tomogram_without_halves_is_split():
    both = halves()
    found = value(losses.NOISE2NOISE, both, with_halves=False)
    mean = both.mean(0)
    key = jax.random.split(KEY, 4)[0]
    pair = np.asarray(quick(under_test.split)(mean, jnp.asarray(M, jnp.float32), key))
    np.testing.assert_allclose(found, both_ways(noise2noise, pair), rtol=2e-4)


def test_masks_may_be_real():
    """An anisotropic resolution in the place of a wedge; the formula with M between 0 and 1."""
    both = halves()

    def soft(wedge, shape):
        return 0.2 + 0.8 * wedge.transfer(shape)

    objective = losses.restoration(losses.EQUIVARIANT, transfer=soft)
    found = float(quick(objective)(Bent(), batch(both)))
    m, mr = 0.2 + 0.8 * M, 0.2 + 0.8 * MR

    def formula(a, b):
        again = turned(f(b)) - f(masked(turned(f(a)), m))
        return power(masked(b - f(a), m)) + 2 * power(masked(again, np.sqrt(mr)))

    np.testing.assert_allclose(found, both_ways(formula, both), rtol=2e-4)


def test_gradients_pass_through_restorer_and_segmenter():
    module = Chain([Bent(), GlobalThreshold(0.5)])
    b = batch(halves())
    joint = losses.add(
        losses.supervised(losses.cross_entropy), losses.restoration(), factors=(1.0, 0.3)
    )
    graph, params, rest = nnx.split(module, nnx.Param, ...)

    def loss(params):
        return joint(nnx.merge(graph, params, rest), b)

    gradient = quick(jax.grad(loss))(params)
    gains = [jnp.asarray(leaf) for leaf in jax.tree.leaves(gradient)]
    assert len(gains) == 3 and all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in gains)


def test_the_gradient_is_that_of_finite_differences():
    both = halves()
    objective = quick(losses.restoration(losses.EQUIVARIANT))
    b = batch(both)
    slope = quick(jax.grad(lambda g: losses.restoration()(Bent(g), b)))(jnp.asarray(0.7))
    step = 1e-2
    up, down = (float(objective(Bent(0.7 + s), b)) for s in (step, -step))
    assert float(slope) == pytest.approx((up - down) / (2 * step), rel=1e-2)


@pytest.mark.parametrize("missing", ["wedge", "key"])
def test_what_is_missing_is_named(missing):
    b = dataclasses.replace(batch(halves()), **{missing: None})
    with pytest.raises(ValueError, match=f"losses.restoration needs .*{missing}"):
        losses.restoration()(Bent(), b)


def test_something_must_restore():
    with pytest.raises(ValueError, match="needs a restorer.*GlobalThreshold"):
        losses.restoration()(GlobalThreshold(0.5), batch(halves()))


def test_the_truth_is_what_phantoms_ask_for():
    volume, truth = np.random.default_rng(0).normal(size=(2, 1, *SHAPE)).astype(np.float32)
    known = Batch(jnp.asarray(volume), None, None, truth=jnp.asarray(truth))
    found = quick(losses.noise2clean)(Bent(), known)
    assert float(found) == pytest.approx(np.square(truth - f(volume)).mean(), rel=1e-5)
    with pytest.raises(ValueError, match="losses.noise2clean needs the density without noise"):
        losses.noise2clean(Bent(), batch(halves()))
