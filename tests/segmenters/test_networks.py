"""The networks: their size, their reach, and normalisation that can be tiled."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cryojax_seg.core import Chain, MissingWedge, Stacked, Symmetrized, apply, hyperparameters
from cryojax_seg.segmenters import (
    ConvNet,
    GlobalThreshold,
    Tomoseg,
    UNet,
    fit_normalization,
    thaw_normalization,
)
from cryojax_seg.segmenters.blocks import unet_halo
from cryojax_seg.segmenters.normalization import Normalization, standardized

LOCAL = ("none", "rms", "frozen", "weight")
CLASSES = ("background", "membrane", "filament")


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# These functions are compiled for a few calls on small volumes.
QUICK = {"xla_backend_optimization_level": 0}


@functools.partial(jax.jit, compiler_options=QUICK)
def run(segmenter, volume):
    return segmenter(volume)


def parameters(module):
    return sum(p.size for p in jax.tree.leaves(nnx.state(module, nnx.Param)))


def reach(segmenter, edge):
    """Largest distance over which an input voxel changes the output, over all phases.

    A NaN spreads over every voxel that reads it, and over no other.
    """
    volume, largest = noise(edge, edge, edge), 0
    for phase in range(segmenter.stride):
        at = edge // 2 // segmenter.stride * segmenter.stride + phase
        marked = volume.copy()
        marked[at, at, at] = np.nan
        support = np.argwhere(np.isnan(np.asarray(run(segmenter, jnp.asarray(marked)))))[:, :3]
        assert support.min() > 0 and support.max() < edge - 1, "the volume is too small"
        largest = max(largest, np.abs(support - at).max())
    return largest


def test_tomoseg_is_the_published_network():
    net = Tomoseg(rngs=nnx.Rngs(0))
    assert parameters(net) == 378_081
    kernels = [np.asarray(layer.kernel[...]) for layer in (net.first, net.second, net.last)]
    assert [k.shape for k in kernels] == [(15, 15, 1, 40), (15, 15, 40, 40), (15, 15, 40, 1)]
    for kernel in kernels:  # normal of deviation 0.01 cut at two deviations
        assert np.abs(kernel).max() <= 0.02
        assert kernel.std() == pytest.approx(0.0088, rel=0.05)
    assert all(float(jnp.abs(layer.bias[...]).max()) == 0 for layer in (net.first, net.last))


def test_tomoseg_sees_72_pixels_of_one_slice():
    net = Tomoseg("sigmoid_bce", rngs=nnx.Rngs(1))
    volume = jnp.asarray(noise(2, 80, 80))
    pull = jax.jit(jax.grad(lambda v, y, x: net(v)[0, y, x].sum()))
    widths, largest = [], 0
    for y, x in ((40, 41), (41, 40)):
        support = np.argwhere(np.asarray(pull(volume, y, x)) != 0)
        assert set(support[:, 0]) == {0}
        widths.append(np.ptp(support[:, 1:], axis=0) + 1)
        largest = max(largest, np.abs(support[:, 1:] - (y, x)).max())
    np.testing.assert_array_equal(widths, 72)
    assert largest == net.halo == 36


def test_tomoseg_heads_differ_by_the_half_that_moves_the_decision():
    volume = jnp.asarray(noise(2, 16, 16))
    sigmoid = run(Tomoseg("sigmoid_bce", rngs=nnx.Rngs(0)), volume)
    linear = run(Tomoseg("linear_logmse", rngs=nnx.Rngs(0)), volume)
    np.testing.assert_allclose(linear, sigmoid - 0.5, atol=1e-7)
    # Half resolution, repeated: blocks of 2x2 pixels agree.
    blocks = np.asarray(sigmoid)[..., 0].reshape(2, 8, 2, 8, 2)
    np.testing.assert_array_equal(blocks, np.broadcast_to(blocks[:, :, :1, :, :1], blocks.shape))


def test_tomoseg_slices_are_independent():
    net = Tomoseg(rngs=nnx.Rngs(0))
    volume = noise(4, 16, 16)
    one = run(net, jnp.asarray(volume[1:3]))
    np.testing.assert_allclose(run(net, jnp.asarray(volume))[1:3], one, atol=1e-7)


@pytest.mark.parametrize("layers, kernel", [(1, 3), (3, 3), (2, 5)])
def test_convnet_reach(layers, kernel):
    net = ConvNet(layers=layers, width=3, kernel=kernel, rngs=nnx.Rngs(0))
    assert net.halo == layers * (kernel // 2)
    assert reach(net, 2 * net.halo + 5) == net.halo


@pytest.mark.parametrize(
    "depth, stem, size",
    [(0, "none", 10), (1, "none", 24), (2, "none", 52), (1, "space_to_depth", 44)],
)
def test_unet_reach_is_the_declared_halo(depth, stem, size):
    net = UNet(width=2, depth=depth, stem=stem, norm="none", rngs=nnx.Rngs(3))
    assert net.stride == 2 ** (depth + (stem != "none"))
    assert reach(net, size) == net.halo


def test_halo_of_deep_unets_grows_by_doubling():
    halos = [unet_halo(depth, stem=False) for depth in range(1, 6)]
    assert halos == [9, 23, 51, 107, 219]


@pytest.mark.parametrize("norm", LOCAL)
def test_tiles_equal_the_whole(norm):
    net = UNet(width=2, depth=1, norm=norm, classes=CLASSES, rngs=nnx.Rngs(0))
    volume = noise(20, 18, 22)
    if norm == "frozen":
        net = fit_normalization(net, volume, patch=16, count=3)
    whole = apply(net, volume)
    np.testing.assert_allclose(apply(net, volume, tile=8), whole, rtol=1e-4, atol=1e-4)
    assert np.abs(whole).max() > 0.1


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_unfitted_statistics_refuse_to_be_tiled(norm):
    net = UNet(width=2, depth=1, norm=norm, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="fit_normalization"):
        apply(net, noise(8, 8, 8))
    assert run(net, jnp.asarray(noise(8, 8, 8))).shape == (8, 8, 8, 1)  # but it trains


def test_fitted_on_the_whole_volume_is_instance_norm_exactly():
    net = UNet(width=3, depth=1, norm="instance", rngs=nnx.Rngs(0))
    volume = noise(12, 16, 14)
    fitted = fit_normalization(net, volume, patch=16, count=1)
    assert (net.norm, fitted.norm, fitted.halo) == ("instance", "frozen", 9)
    expected = run(net, jnp.asarray(volume))
    np.testing.assert_allclose(run(fitted, jnp.asarray(volume)), expected, atol=2e-5)


def test_fitted_statistics_are_the_pooled_mean_and_variance():
    net = ConvNet(layers=1, width=2, norm="instance", rngs=nnx.Rngs(0))
    volume = 3 + 2 * noise(8, 8, 16)
    fitted = fit_normalization(net, volume, patch=8, count=9)  # every patch there is, once
    bare = ConvNet(layers=1, width=2, norm="none", rngs=nnx.Rngs(0)).convolutions[0]
    patches = np.stack([volume[..., i : i + 8] for i in range(9)])
    features = np.asarray(jax.vmap(lambda p: bare(p[..., None]))(jnp.asarray(patches)))
    norm = fitted.convolutions[0].norm
    np.testing.assert_allclose(norm.mean[...], features.mean((0, 1, 2, 3)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(norm.variance[...], features.var((0, 1, 2, 3)), rtol=1e-5)
    x = features[0]
    expected = (x - features.mean((0, 1, 2, 3))) / np.sqrt(features.var((0, 1, 2, 3)) + 1e-5)
    np.testing.assert_allclose(norm(jnp.asarray(x)), expected, atol=1e-5)
    # A frozen network refits, whatever its statistics were.
    again = fit_normalization(fit_normalization(net, volume - 3), volume, patch=8, count=9)
    np.testing.assert_allclose(again.convolutions[0].norm.mean[...], norm.mean[...], atol=1e-5)


def test_batch_statistics_are_pooled_over_the_named_axis():
    norm = Normalization(2, "batch")
    x = jnp.asarray(noise(3, 4, 4, 4, 2)) * jnp.arange(1.0, 4.0)[:, None, None, None, None]
    pooled = jax.vmap(norm, axis_name="batch")(x)
    np.testing.assert_allclose(pooled.std((0, 1, 2, 3)), 1, rtol=1e-4)
    assert pooled[2].std() > 2 * pooled[0].std()
    single = jax.vmap(norm)(x)
    np.testing.assert_allclose(single.std((1, 2, 3)), 1, rtol=1e-4)


def test_a_mean_over_flips_is_fitted_as_its_network():
    volume = noise(8, 8, 8)
    net = ConvNet(layers=1, width=2, norm="instance", rngs=nnx.Rngs(0))
    flips = fit_normalization(Symmetrized(net, MissingWedge((-60.0, 60.0))), volume)
    expected = fit_normalization(net, volume).convolutions[0].norm.mean[...]
    np.testing.assert_array_equal(flips.segmenter.convolutions[0].norm.mean[...], expected)
    mirrored = run(flips, volume[::-1])[::-1]
    np.testing.assert_allclose(run(flips, volume), mirrored, atol=1e-5)


def test_fit_changes_nothing_without_statistics_and_reaches_into_combinators():
    volume = noise(8, 8, 8)
    threshold = GlobalThreshold(1.0)
    assert fit_normalization(threshold, volume) is threshold
    net = ConvNet(layers=1, width=2, norm="instance", rngs=nnx.Rngs(0))
    stacked = Chain([Stacked([threshold, net], ("foreground",))])
    fitted = fit_normalization(stacked, volume)
    assert fitted.halo == 1
    np.testing.assert_allclose(fitted(jnp.asarray(volume)), stacked(jnp.asarray(volume)), atol=1e-5)
    assert net.norm == "instance"  # the original is untouched


def test_rms_and_weight_formulas():
    x = jnp.asarray(noise(2, 3, 4, 5))
    expected = x / np.sqrt(np.mean(np.square(x), -1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(Normalization(5, "rms")(x), expected, rtol=1e-5)
    kernel = standardized(jnp.asarray(3 + noise(3, 3, 3, 4, 6)))
    np.testing.assert_allclose(kernel.mean((0, 1, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(kernel.var((0, 1, 2, 3)) * 27 * 4, 2, rtol=1e-3)


def test_large_offset_does_not_cost_the_variance():
    x = 1e4 + jnp.asarray(noise(8, 8, 8, 1))
    np.testing.assert_allclose(Normalization(1, "instance")(x).std(), 1, rtol=1e-3)


@pytest.mark.parametrize("stem, sizes", [("none", (16, 8)), ("space_to_depth", (16, 8))])
def test_deep_supervision_scales(stem, sizes):
    net = UNet(
        width=2,
        depth=2,
        stem=stem,
        deep_supervision=True,
        norm="none",
        classes=CLASSES,
        rngs=nnx.Rngs(0),
    )
    volume = jnp.asarray(noise(16, 16, 16))
    scales, finest = jax.jit(lambda n, v: (n.logits_at_scales(v), n(v)), compiler_options=QUICK)(
        net, volume
    )
    assert [s.shape for s in scales] == [(n, n, n, 3) for n in sizes]
    np.testing.assert_allclose(scales[0], finest, atol=1e-6)
    plain = UNet(width=2, depth=2, norm="none", rngs=nnx.Rngs(0))
    shapes = jax.eval_shape(UNet.logits_at_scales, plain, volume)
    assert [s.shape for s in shapes] == [(16, 16, 16, 1)]


@pytest.mark.parametrize("norm", [*LOCAL, "instance", "batch"])
def test_gradients_are_finite(norm):
    net = UNet(width=2, depth=1, norm=norm, rngs=nnx.Rngs(0))
    gradient = jax.jit(jax.grad(lambda n, v: jnp.mean(jnp.square(n(v)))), compiler_options=QUICK)
    for volume in (np.zeros((8, 8, 8)), np.full((8, 8, 8), 1e4), noise(8, 8, 8)):
        leaves = jax.tree.leaves(gradient(net, jnp.asarray(volume, jnp.float32)))
        assert all(np.isfinite(leaf).all() for leaf in leaves)


@pytest.mark.parametrize(
    "build",
    [
        lambda: UNet(width=3, depth=1, stem="space_to_depth", norm="frozen", rngs=nnx.Rngs(0)),
        lambda: ConvNet(layers=2, width=3, kernel=5, norm="weight", rngs=nnx.Rngs(0)),
        lambda: Tomoseg("sigmoid_bce", CLASSES, rngs=nnx.Rngs(0)),
    ],
)
def test_hyperparameters_rebuild_the_structure(build):
    net = build()
    again = type(net)(**hyperparameters(net), rngs=nnx.Rngs(1))
    assert jax.tree.structure(again) == jax.tree.structure(net)
    assert again.classes == net.classes and again.halo == net.halo


def test_frozen_network_is_rebuilt_by_its_hyperparameters():
    net = UNet(width=2, depth=1, norm="instance", rngs=nnx.Rngs(0))
    fitted = fit_normalization(net, noise(8, 8, 8))
    again = UNet(**hyperparameters(fitted), rngs=nnx.Rngs(1))
    assert jax.tree.structure(again) == jax.tree.structure(fitted)


def test_a_thawed_network_is_the_one_that_was_frozen():
    net = UNet(width=2, depth=1, norm="instance", rngs=nnx.Rngs(0))
    fitted = fit_normalization(net, noise(8, 8, 8))
    thawed = thaw_normalization(fitted)
    assert fitted.norm == "frozen" and nnx.graphdef(thawed) == nnx.graphdef(net)
    assert jax.tree.structure(thawed) == jax.tree.structure(net)
    for a, b in zip(jax.tree.leaves(thawed), jax.tree.leaves(net), strict=True):
        np.testing.assert_array_equal(a, b)
    plain = UNet(width=2, depth=1, norm="rms", rngs=nnx.Rngs(0))
    assert thaw_normalization(plain).norm == "rms"


def test_wrong_arguments_and_shapes():
    with pytest.raises(ValueError, match="norm 'layer' is not one of"):
        UNet(norm="layer", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="stem"):
        UNet(stem="patch", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="width"):
        UNet(width=0, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="odd"):
        ConvNet(kernel=4, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="head"):
        Tomoseg("softmax", rngs=nnx.Rngs(0))
    net = UNet(width=2, depth=2, norm="none", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="multiple of the stride 4"):
        net(jnp.zeros((8, 8, 6)))


def test_statistics_of_a_thin_volume_are_those_of_its_mirror_image():
    net, thin = UNet(width=2, norm="instance", rngs=nnx.Rngs(0)), np.asarray(noise(8, 8, 3))
    mirrored = np.pad(thin, ((0, 0), (0, 0), (0, 1)), "symmetric")
    fitted, expected = (nnx.state(fit_normalization(net, v)) for v in (thin, mirrored))
    assert jax.tree.all(jax.tree.map(np.array_equal, fitted, expected))
