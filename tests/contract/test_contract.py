"""Every operator keeps the contract: a pure, local, differentiable, storable function."""

import functools
import inspect
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import TypeCheckError

import cryojax_seg.restore
import cryojax_seg.segmenters
from cryojax_seg import core
from cryojax_seg.core import Chain, LocalOperator, Segmenter, apply, hyperparameters
from cryojax_seg.core.operator import is_local, operator_name
from cryojax_seg.io import ModelCard, load_model, save_model
from cryojax_seg.io.modules import rebuild
from cryojax_seg.losses import cross_entropy
from cryojax_seg.segmenters import Bfloat16

# Compiled for a few calls on small volumes: quick to compile matters, quick to run does not.
QUICK = {"xla_backend_optimization_level": 0}
run = jax.jit(lambda segmenter, volume: segmenter(volume), compiler_options=QUICK)


def objective(structure, leaves, labels, mix):
    """A mixture of a linear functional of the logits and a loss."""
    segmenter, volume = jax.tree.unflatten(structure, leaves)
    logits = segmenter(volume)
    pattern = jnp.cos(jnp.arange(logits.size).astype(logits.dtype)).reshape(logits.shape)
    loss = cross_entropy(logits, labels, jnp.ones_like(volume))
    return mix[0] * jnp.mean(logits * pattern) + mix[1] * loss


differentiate = jax.jit(
    jax.value_and_grad(objective, argnums=1), static_argnums=0, compiler_options=QUICK
)


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def forward(structure, leaves, directions, labels, mix):
    """The derivative along a direction, in forward mode."""
    return jax.jvp(lambda leaves: objective(structure, leaves, labels, mix), [leaves], [directions])


def up(n, multiple):
    return -(-n // multiple) * multiple


def shape_of(case, edge=8):
    edge = up(edge, case.build().stride)
    return (case.depth or edge, edge, edge)


def noise(shape, seed=0, scale=1.0):
    return jnp.asarray(scale * np.random.default_rng(seed).normal(size=shape), jnp.float32)


def perturbed(segmenter):
    """As if it had been trained a little."""
    return jax.tree.map(lambda leaf: 1.1 * leaf + 0.01, segmenter)


def largest(a, b):
    return float(np.abs(np.asarray(a) - np.asarray(b)).max())


def classes_of(operator):
    """The classes of a segmenter; a restorer has one channel."""
    return operator.classes if isinstance(operator, Segmenter) else ("density",)


def test_it_declares_what_it_is(case):
    segmenter = case.build()
    volume = noise(shape_of(case))
    logits = run(segmenter, volume)
    assert logits.shape == (*volume.shape, len(classes_of(segmenter)))
    assert logits.dtype == jnp.float32 and is_local(segmenter)
    assert segmenter.halo >= 0 and segmenter.stride >= 1
    assert all(isinstance(name, str) for name in classes_of(segmenter))
    assert float(jnp.std(logits)) > 0, "the logits do not depend on the volume"


def test_jit_equals_eager_and_vmap_equals_a_loop(case):
    segmenter, volumes = case.build(), noise((2, *shape_of(case)))
    batch = jax.jit(jax.vmap(lambda v: segmenter(v)), compiler_options=QUICK)(volumes)
    tolerance = case.rounding * float(jnp.abs(batch).max())
    for volume, expected in zip(volumes, batch, strict=True):
        assert largest(run(segmenter, volume), expected) <= tolerance
    assert largest(segmenter(volumes[0]), batch[0]) <= tolerance


def test_nothing_beyond_the_halo_reaches_the_output(case):
    segmenter = case.build()
    halo, stride = segmenter.halo, segmenter.stride
    shape = shape_of(case, 2 * halo + 2 * stride + 2)
    volume = noise(shape)
    expected = run(segmenter, volume)
    for phase in range(stride):
        centre = [n // 2 // stride * stride + phase for n in shape]
        centre = [min(c, n - 1) for c, n in zip(centre, shape, strict=True)]
        near = [abs(np.arange(n) - c) <= halo for n, c in zip(shape, centre, strict=True)]
        inside = np.einsum("i,j,k->ijk", *near)
        assert not inside[:, 0].any() and not inside[:, -1].any()
        others = (jnp.full(shape, jnp.nan), noise(shape, 1, 100.0))
        tolerance = 0.0
        if case.transforms:
            others, tolerance = (noise(shape, 1),), case.rounding
        for outside in others:
            got = run(segmenter, jnp.where(inside, volume, outside))
            np.testing.assert_allclose(got[tuple(centre)], expected[tuple(centre)], 0, tolerance)


def test_a_shift_by_the_stride_shifts_the_output(case):
    segmenter = case.build()
    halo, stride = segmenter.halo, segmenter.stride
    shape = shape_of(case, 2 * halo + 2 * stride + 2)
    steps = [0 if case.depth else stride, stride, stride]
    margins = [0 if case.depth else halo, halo, halo]
    volume = noise(np.add(shape, steps))
    moved = volume[tuple(slice(s, None) for s in steps)]
    first = run(segmenter, volume[tuple(slice(n) for n in shape)])
    second = run(segmenter, moved)
    dims = list(zip(shape, steps, margins, strict=True))
    a = first[tuple(slice(m + s, n - m) for n, s, m in dims)]
    b = second[tuple(slice(m, n - m - s) for n, s, m in dims)]
    assert a.size > 0
    tolerance = case.rounding if case.transforms else 2e-6
    assert largest(a, b) <= tolerance * float(jnp.abs(first).max())


def test_tiles_equal_the_whole(case):
    segmenter = case.build()
    volume = np.asarray(noise((case.depth or 9, 10, 11)))
    whole = apply(segmenter, volume)
    tiled = apply(segmenter, volume, tile=6)
    assert whole.shape == (*volume.shape, len(classes_of(segmenter)))
    assert largest(tiled, whole) <= case.tiling * np.abs(whole).max()


def flat(segmenter, volume):
    """The leaves of both, and how to put them together again."""
    return jax.tree.flatten((segmenter, volume))


def test_gradients_are_finite_everywhere_and_reach_every_parameter(case):
    segmenter, shape = case.build(), shape_of(case)
    random, labels = noise(shape), jnp.zeros(shape, jnp.int32)
    inputs = {
        "random": random,
        "zero": jnp.zeros(shape),
        "constant": jnp.full(shape, 3.0),
        "saturated": 1e4 * random,
        "constant and saturated": jnp.full(shape, 1e4),
    }
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(segmenter)]
    for kind, volume in inputs.items():
        leaves, structure = flat(segmenter, volume)
        _, gradient = differentiate(structure, leaves, labels, (1.0, 0.0))
        for name, g in zip([*names, "volume"], gradient, strict=True):
            assert bool(jnp.isfinite(g).all()), f"gradient of {name} at {kind} input"
            if kind == "random":
                assert bool((g != 0).any()), f"{name} has no influence"


def test_gradients_agree_with_differences(case, x64):
    """In float64, along one random direction for each parameter and one for the volume."""
    shape = shape_of(case)
    segmenter = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), case.build())
    leaves, structure = flat(segmenter, jnp.asarray(noise(shape), jnp.float64))
    labels, mix = jnp.zeros(shape, jnp.int32), (1.0, 0.5)
    _, gradient = differentiate(structure, leaves, labels, mix)
    rng = np.random.default_rng(2)
    steps = [
        jnp.asarray(rng.normal(size=leaf.shape) * 1e-7 * max(float(jnp.std(leaf)), 1e-2))
        for leaf in leaves
    ]
    for i, (leaf, step) in enumerate(zip(leaves, steps, strict=True)):
        ahead, behind = (
            float(differentiate(structure, moved, labels, mix)[0])
            for moved in ([*leaves[:i], leaf + s * step, *leaves[i + 1 :]] for s in (1, -1))
        )
        slope = float(jnp.vdot(gradient[i], step))
        assert slope == pytest.approx((ahead - behind) / 2, rel=1e-4, abs=1e-14)
    if not case.products:
        _, tangent = forward(structure, leaves, steps, labels, mix)
        total = sum(float(jnp.vdot(g, d)) for g, d in zip(gradient, steps, strict=True))
        assert float(tangent) == pytest.approx(total, rel=1e-8)


def test_it_can_be_rebuilt_from_its_hyperparameters(case):
    segmenter = perturbed(case.build())
    arguments = json.loads(json.dumps(hyperparameters(segmenter)))
    count = sum(leaf.size for leaf in jax.tree.leaves(segmenter))
    rebuilt = rebuild({"class": operator_name(type(segmenter)), "arguments": arguments}, count)
    assert type(rebuilt) is type(segmenter)
    assert jax.tree.structure(rebuilt) == jax.tree.structure(segmenter)
    shapes = [(p, a.shape, a.dtype) for p, a in jax.tree.leaves_with_path(segmenter)]
    assert [(p, a.shape, a.dtype) for p, a in jax.tree.leaves_with_path(rebuilt)] == shapes
    assert (rebuilt.halo, rebuilt.stride) == (segmenter.halo, segmenter.stride)
    assert classes_of(rebuilt) == classes_of(segmenter)


def test_it_survives_a_file(case, tmp_path):
    segmenter, volume = perturbed(case.build()), noise(shape_of(case))
    save_model(tmp_path / "model", segmenter, ModelCard())
    loaded, _ = load_model(tmp_path / "model")
    for before, after in zip(jax.tree.leaves(segmenter), jax.tree.leaves(loaded), strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(run(loaded, volume), run(segmenter, volume))


def test_it_learns(case):
    """Sixty steps on one small volume take at least a fifth off the loss."""
    segmenter, shape = case.build(), shape_of(case)
    count = max(2, len(classes_of(segmenter)))
    labels = np.zeros(shape, np.int32)
    for c in range(1, count):  # a bright wall for every class
        at = shape[1] * c // count
        labels[:, at - 1 : at + 1] = c
    volume = jnp.asarray(labels, jnp.float32) * 2 + noise(shape, scale=0.3)
    leaves, structure = flat(segmenter, volume)
    parameters, losses = leaves[:-1], []
    optimizer = optax.adam(case.rate)
    update = jax.jit(optimizer.update)
    state = optimizer.init(parameters)
    for _ in range(60):
        value, gradient = differentiate(
            structure, [*parameters, volume], jnp.asarray(labels), (0.0, 1.0)
        )
        with jax.numpy_dtype_promotion("standard"):  # optax mixes float and int
            updates, state = update(gradient[:-1], state)
        parameters = optax.apply_updates(parameters, updates)
        losses.append(float(value))
    assert losses[-1] < 0.8 * losses[0], losses[::15]


def test_a_volume_has_three_axes(case):
    segmenter = case.build()
    with pytest.raises(TypeCheckError):
        segmenter(jnp.zeros((12, 12)))
    with pytest.raises(ValueError, match="z, y, x"):
        apply(segmenter, np.zeros((12, 12), np.float32))


def test_it_reads_like_the_others(case):
    cls = type(case.build())
    assert cls.__doc__ and "\n\n" in cls.__doc__
    parameters = dict(inspect.signature(cls.__init__).parameters)
    parameters.pop("self")
    for name, parameter in parameters.items():
        if name != "rngs":
            assert hasattr(case.build(), name), f"{cls.__name__} hides its argument {name}"
        assert parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    if cls.__module__.startswith("cryojax_seg.segmenters"):
        if "segmenter" not in parameters:  # else the classes are those of the one it wraps
            assert parameters["classes"].default == ("foreground",)
        assert ">>>" in cls.__doc__ and "Args:" in cls.__doc__


def concrete(kind, *modules):
    public = [value for module in modules for value in vars(module).values()]
    return {
        value
        for value in public
        if inspect.isclass(value) and issubclass(value, kind) and not inspect.isabstract(value)
    }


def test_the_list_is_complete(every_case):
    operators = [case.build() for case in every_case]
    chains = [operator for operator in operators if isinstance(operator, Chain)]
    found = {type(o) for o in (*operators, *(r for chain in chains for r in chain.restorers))}
    # What computes in 16 bits has no differences to compare with; see segmenters/test_precision.py.
    packages = (cryojax_seg.segmenters, cryojax_seg.restore, core.combinators, core.rescaled)
    assert found == concrete(LocalOperator, *packages) - {Bfloat16}
