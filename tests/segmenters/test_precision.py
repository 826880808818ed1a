"""Networks in bfloat16 against the same networks in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cryojax_seg import core, losses, training
from cryojax_seg.core.convolution import conv3d
from cryojax_seg.segmenters import (
    Bfloat16,
    ConvNet,
    GlobalThreshold,
    Tempered,
    Tomoseg,
    Truncated,
    UNet,
    disagreement,
    in_bfloat16,
)

NETWORKS = {
    "u-net": lambda: UNet(2, 1, rngs=nnx.Rngs(0)),
    "u-net, stem": lambda: UNet(4, 0, "space_to_depth", norm="frozen", rngs=nnx.Rngs(0)),
    "convnet": lambda: ConvNet(2, 4, norm="weight", rngs=nnx.Rngs(0)),
    "tomoseg": lambda: Tomoseg("sigmoid_bce", rngs=nnx.Rngs(0)),
}


def volume(shape=(16, 16, 16), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", ("u-net", "convnet", "tomoseg"))
def test_logits_and_gradients_are_those_of_float32_to_rounding(name):
    net, v = NETWORKS[name](), volume((2, 16, 16) if name == "tomoseg" else (16, 16, 16))

    def loss(net, v):
        logits = net(v)
        return jnp.mean(jnp.square(logits)), logits

    run = jax.jit(jax.grad(loss, has_aux=True, allow_int=True))
    exact, expected = run(net, v)
    rounded, found = run(in_bfloat16(net), v)
    assert found.dtype == jnp.float32
    # 2^-9 is the rounding of one number; it grows with the root of the layers.
    assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max()
    assert not np.array_equal(found, expected)
    before, after = (jax.tree.leaves(g) for g in (exact, rounded))
    assert before and all(g.dtype == jnp.float32 for g in after)
    # Through instance norms the gradient of a kernel is a difference of large numbers.
    a, b = (np.concatenate([np.ravel(g) for g in leaves]) for leaves in (before, after))
    assert np.linalg.norm(b - a) < 0.1 * np.linalg.norm(a)
    assert a @ b > 0.99 * np.linalg.norm(a) * np.linalg.norm(b)


def test_the_gradient_of_a_kernel_is_summed_in_float32():
    # 2^15 voxels of 1: a bfloat16 sum would stop at 256.
    v, kernel = jnp.ones((32, 32, 32, 4), jnp.bfloat16), jnp.ones((3, 3, 3, 4, 2), jnp.bfloat16)
    gradient = jax.grad(lambda k: conv3d(v, k).astype(jnp.float32).sum())(kernel)
    assert float(gradient[1, 1, 1, 0, 0]) == 2.0**15


def test_wrappers_stay_in_float32_around_a_network():
    net = NETWORKS["u-net, stem"]()
    lowered = in_bfloat16(Truncated(Tempered(net, 2.0), 2))
    assert isinstance(lowered.segmenter.segmenter, Bfloat16) and lowered.halo == 2
    assert in_bfloat16(lowered)(volume()).dtype == jnp.float32


def test_other_segmenters_are_refused():
    with pytest.raises(ValueError, match="bfloat16 is for networks; GlobalThreshold"):
        in_bfloat16(GlobalThreshold(0.5))


def test_tiles_equal_the_whole_to_rounding():
    net, v = in_bfloat16(NETWORKS["u-net, stem"]()), volume((24, 20, 28))
    whole = core.apply(net, v)
    tiled = core.apply(net, v, 16)
    assert np.abs(whole - tiled).max() < 0.02 * np.abs(whole).max()


def test_labels_disagree_where_logits_are_near_zero_only():
    net = NETWORKS["convnet"]()
    share = disagreement(net, in_bfloat16(net), volume((32, 32, 32)), edge=24, count=1)
    assert 0 < share < 0.01
    assert disagreement(net, net, volume(), count=1) == 0


def test_training_in_bfloat16_learns_as_in_float32():
    v = volume((24, 24, 24))
    labels = (v > 0.5).astype(np.int32)
    example = training.Example(v, labels, np.ones(v.shape, np.float32))
    ends = []
    for precision in ("f32", "bf16"):
        config = training.TrainConfig(
            steps=30, batch=2, patch=16, learning_rate=0.02, precision=precision, ema=0.0
        )
        net = ConvNet(1, 4, rngs=nnx.Rngs(0))
        result = training.train(
            net, [example], config, objective=losses.supervised(losses.dice), progress=False
        )
        assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(nnx.state(result.operator)))
        ends.append(result.history[-1]["loss"])
    assert ends[0] < 0.55
    assert abs(ends[1] - ends[0]) < 0.02
