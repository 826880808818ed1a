import itertools
import math
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cryojax_seg.core import (
    MissingWedge,
    Normalized,
    Segmenter,
    Symmetrized,
    Tomogram,
    apply,
    apply_tiles,
    convolution,
    measure_intensity,
    normalize,
    plan_tiles,
    tiling,
)
from cryojax_seg.core import intensity as intensity_module
from cryojax_seg.segmenters import UNet


class Blocks(Segmenter):
    """A stride-2 local function: sums of 3x3x3 convolutions, then of 2x2x2 blocks of them.

    On whole numbers its arithmetic is exact, so that any difference is one of the tiling.
    """

    def __init__(self):
        self.kernel = nnx.Param(jnp.ones((3, 3, 3, 1, 1), jnp.float32))

    halo = property(lambda self: 2)
    stride = property(lambda self: 2)
    classes = property(lambda self: ("a", "b"))

    def __call__(self, volume):
        fine = convolution.conv3d(volume[..., None], self.kernel[...])
        coarse = convolution.space_to_depth(fine).sum(-1, keepdims=True)
        spread = convolution.depth_to_space(jnp.repeat(coarse, 8, -1))
        return jnp.concatenate([fine, spread], -1)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (7, 9, 12), (17, 4, 6)])
@pytest.mark.parametrize("tile", [1, 3, 4, (2, 6, 40)])
def test_tiles_of_any_size_fit_exactly(shape, tile):
    volume = np.random.default_rng(0).integers(-9, 9, shape).astype(np.float32)
    np.testing.assert_array_equal(apply(Blocks(), volume, tile), apply(Blocks(), volume))


def test_every_voxel_is_covered_once():
    volume = np.zeros((7, 9, 5), np.float32)
    seen = np.zeros(volume.shape, int)
    tiles = list(tiling.apply_tiles(Blocks(), volume, 4))
    for where, logits in tiles:
        seen[where] += 1
        assert logits.shape == (*seen[where].shape, 2)
    assert (seen == 1).all()
    assert len(tiles) == tiling.tiling_of(Blocks(), volume.shape, 4).count


def test_one_compilation_serves_ragged_tiles():
    volume = np.zeros((10, 13, 11), np.float32)
    apply(Blocks(), volume, 4)
    before = tiling._run._cache_size()
    apply(Blocks(), np.zeros((9, 15, 6), np.float32), 4)
    assert tiling._run._cache_size() == before


def test_a_constant_volume_has_no_seams_or_borders():
    out = apply(Blocks(), np.ones((6, 7, 8), np.float32), 4)
    assert (out[..., 0] == 27).all() and (out[..., 1] == 27 * 8).all()


def test_refusals():
    with pytest.raises(ValueError, match="volume"):
        apply(Blocks(), np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match="non-empty"):
        apply(Blocks(), np.zeros((3, 0, 4), np.float32))


def test_planned_tiles_respect_memory_and_stride():
    """And are the best of all that do, in steps of 8 voxels: no other tiling computes less."""
    assert plan_tiles(Blocks(), (16, 16, 16), 1e9).count == 1
    shape, memory = (70, 300, 200), 6e7
    plan = plan_tiles(Blocks(), shape, memory)
    most = memory / tiling.bytes_per_voxel(Blocks())
    assert all(t % 2 == 0 for t in plan.tile) and math.prod(plan.padded) <= most
    assert sum(math.prod(s.stop - s.start for s in where) for where in plan) == math.prod(shape)
    for tile in itertools.product(range(16, 80, 8), range(16, 312, 8), range(16, 208, 8)):
        other = tiling.Tiling(shape, tile, plan.halo)
        assert math.prod(other.padded) > most or other.waste >= plan.waste
    assert plan_tiles(Blocks(), shape, 1.0).tile == (16, 16, 16)  # what cannot be has to be


@pytest.mark.parametrize("shape", [(7, 9, 12), (16, 30, 17), (5, 40, 41)])
@pytest.mark.parametrize("halo", [0, 1, 2, 4, 6])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_plan_wastes_no_more_than_it_must(shape, halo, stride, monkeypatch):
    """At most 2 wherever any tiling in the memory has that, and as little as any tiling has.

    Where it is more, the memory that would cure it is named, and less of it would not.
    """

    class Any(Segmenter):
        classes = property(lambda self: ("a",))
        halo = property(lambda self: wide)
        stride = property(lambda self: step)

        def __call__(self, volume):
            raise AssertionError("a plan needs no segmentation")

    wide, step = halo, stride
    monkeypatch.setattr(tiling, "bytes_per_voxel", lambda *_: 1.0)
    edges = [range(stride, n + stride, stride) for n in shape]
    reach = -(-halo // stride) * stride
    every = [tiling.Tiling(shape, tile, reach) for tile in itertools.product(*edges)]
    sizes = np.array([math.prod(t.padded) for t in every])
    wastes = np.array([t.waste for t in every])
    cure, cured = tiling.memory_for(Any(), shape)
    assert cured.waste <= max(2.0, wastes.min() + 1e-9)
    assert not (wastes[sizes < 0.999 * cure] <= max(2.0, wastes.min())).any()
    for memory in (300.0, 1000.0, 3000.0, 10_000.0, 1e6, cure):
        plan = plan_tiles(Any(), shape, memory)
        fits = sizes <= memory
        if fits.any():
            assert math.prod(plan.padded) <= memory
            assert plan.waste == pytest.approx(wastes[fits].min())
        if plan.waste > 2 and wastes.min() <= 2:
            assert cure > memory and cured.waste <= 2


def test_flips_take_the_memory_and_the_program_of_one_view():
    """One after another: eight at once took six times the memory, and so tiles of 24 voxels."""
    net = UNet(4, 1, norm="none", rngs=nnx.Rngs(0))
    flips = Symmetrized(net, MissingWedge((-60.0, 60.0)))
    assert tiling.bytes_per_voxel(flips) < 1.3 * tiling.bytes_per_voxel(net)
    volume = np.random.default_rng(0).normal(size=(16, 20, 24)).astype(np.float32)
    views = [
        np.flip(np.asarray(net(np.flip(volume, axes).copy())), axes)
        for axes in MissingWedge((-60.0, 60.0)).symmetries()
    ]
    assert len(views) == 8
    np.testing.assert_allclose(flips(volume), np.mean(views, 0), atol=2e-5)


def test_a_part_is_segmented_as_within_the_whole():
    volume = np.random.default_rng(0).integers(-9, 9, (12, 14, 11)).astype(np.float32)
    whole = apply(Blocks(), volume)
    part = tiling.Tiling((5, 6, 9), (4, 4, 10), 2, origin=(4, 6, 2))
    np.testing.assert_array_equal(apply(Blocks(), volume, part), whole[4:9, 6:12, 2:11])


def test_answers_are_computed_where_the_logits_are():
    volume = np.random.default_rng(0).integers(-9, 9, (7, 9, 12)).astype(np.float32)
    whole = apply(Blocks(), volume)
    found = np.zeros(volume.shape, np.int8)
    for where, answer in apply_tiles(Blocks(), volume, 4, positive):
        assert answer.dtype == np.int8
        found[where] = answer
    np.testing.assert_array_equal(found, whole[..., 0] > 0)
    rest = list(apply_tiles(Blocks(), volume, 4, positive, first=5))
    every = list(apply_tiles(Blocks(), volume, 4, positive))
    assert [w for w, _ in rest] == [w for w, _ in every[5:]]


def test_another_program_may_compute_the_tiles():
    volume = np.random.default_rng(0).integers(-9, 9, (7, 9, 12)).astype(np.float32)
    plan, shapes, threads = tiling.tiling_of(Blocks(), volume.shape, 4), [], set()

    def program(block):
        shapes.append(block.shape)
        threads.add(threading.get_ident())
        return np.asarray(Blocks()(block))

    found = list(apply_tiles(Blocks(), volume, plan, positive, 3, program))
    expected = list(apply_tiles(Blocks(), volume, plan, positive, 3))
    for (where, answer), (there, exact) in zip(found, expected, strict=True):
        assert where == there
        np.testing.assert_array_equal(answer, exact)
    assert set(shapes) == {plan.padded} and len(shapes) == plan.count - 3
    assert len(threads) == 1 and threading.get_ident() not in threads

    def broken(block):
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        list(apply_tiles(Blocks(), volume, plan, program=broken))


def positive(logits):
    return (logits[..., 0] > 0).astype(jnp.int8)


def test_a_volume_on_disk_is_read_as_one_in_memory(tmp_path):
    """Normalized as it is read, in any order of axes, and the pages of the map are given back."""
    rng = np.random.default_rng(0)
    values = rng.normal(100, 5, (9, 20, 24)).astype(np.float32)
    values[2, 3, 4] = np.nan
    values.tofile(tmp_path / "raw")
    mapped = np.memmap(tmp_path / "raw", np.float32, "r", shape=values.shape).transpose(2, 0, 1)
    whole = normalize(values.transpose(2, 0, 1), "dark")
    intensity = measure_intensity(mapped, "dark")
    assert intensity.damaged == pytest.approx(1 / values.size)
    np.testing.assert_array_equal(
        apply(Blocks(), Normalized(mapped, intensity), 8), apply(Blocks(), whole, 8)
    )


def test_statistics_of_a_large_volume_come_from_all_of_it(monkeypatch):
    """A sample of every block: a gradient across the volume does not mislead."""
    values = np.random.default_rng(0).normal(size=(40, 150, 260)) + np.linspace(0, 3, 260)
    exact = measure_intensity(values, "bright")
    monkeypatch.setattr(intensity_module, "_MOST", 2**16)
    sampled = measure_intensity(values, "bright")
    assert sampled.centre == pytest.approx(exact.centre, abs=0.02)
    assert sampled.gain == pytest.approx(exact.gain, rel=0.02)


def test_normalize_is_robust_and_honest():
    rng = np.random.default_rng(0)
    noise = rng.normal(10_000.0, 3.0, (20, 20, 20))
    noise[:2] += 300  # outliers: a gold bead
    z = normalize(noise, "bright")
    assert z.dtype == np.float32
    assert abs(z[4:].std() - 1) < 0.15 and abs(np.median(z)) < 1e-3
    np.testing.assert_allclose(normalize(noise, "dark"), -z)
    holes = noise.copy()
    holes[3, 3, 3], holes[4, 4, 4] = np.nan, np.inf
    filled = normalize(holes, "bright")
    assert np.isfinite(filled).all() and filled[3, 3, 3] == 0
    with pytest.raises(ValueError, match="constant"):
        normalize(np.ones((3, 3, 3)), "bright")
    with pytest.raises(ValueError, match="finite"):
        normalize(np.full((3, 3, 3), np.nan), "bright")
    mostly_flat = np.zeros((4, 4, 4))
    mostly_flat[0] = 1.0
    assert np.isfinite(normalize(mostly_flat, "bright")).all()
    bytes_ = rng.integers(0, 255, (5, 5, 5)).astype(np.uint8)
    assert normalize(bytes_, "dark").dtype == np.float32


def test_tomogram_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"cell\.mrc.*three axes"):
        Tomogram(np.zeros((3, 3)), name="cell.mrc")
    with pytest.raises(ValueError, match="voxel_size"):
        Tomogram(np.zeros((3, 3, 3))).require_voxel_size()
    assert Tomogram(np.zeros((3, 3, 3)), (8.0, 8.0, 8.0)).require_voxel_size() == (8.0, 8.0, 8.0)


def test_whole_volume_gradient_is_that_of_the_function():
    volume = jnp.ones((4, 4, 4))
    gradient = jax.grad(lambda s: s(volume).sum())(Blocks())
    assert float(gradient.kernel[...].sum()) != 0
