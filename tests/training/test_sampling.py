"""Annotated examples, splits of them, and the patches that are drawn around their voxels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cryojax_seg.core import MissingWedge, Segmenter
from cryojax_seg.losses import dice, supervised
from cryojax_seg.segmenters import ConvNet, GlobalThreshold
from cryojax_seg.training import Batch, Example, sampling, split_annotation
from cryojax_seg.training.companions import COMPANIONS
from cryojax_seg.training.samples import canonical, exact_margin, prepare

draw = jax.jit(sampling.draw, static_argnums=(2, 3, 4))
places = jax.jit(sampling.places, static_argnums=(2, 3, 4))


def coded(shape, name="a", offset=0, seed=0):
    """A volume whose value names its voxel, with one annotated slice and one annotated box."""
    volume = (np.arange(np.prod(shape)).reshape(shape) + offset).astype(np.float32)
    labels = np.random.default_rng(seed).integers(0, 2, shape)
    weights = np.zeros(shape, np.float32)
    weights[shape[0] // 2] = 1.0
    weights[-3:, -4:, -5:] = 0.5
    labels[weights == 0] = -7  # must never be looked at
    return Example(volume, labels, weights, name=name)


SHAPE = (12, 10, 14)


@pytest.fixture(scope="module")
def drawn():
    first, second = coded(SHAPE), coded((8, 9, 7), "b", offset=10_000, seed=1)
    samples = prepare([first, second], ("thing",), (6, 6, 6))
    batch, flips = draw(samples, jax.random.key(0), 200, (6, 6, 6), 0)
    return (first, second), samples, jax.device_get(batch), flips


def test_patches_are_cut_from_the_examples_with_their_annotation(drawn):
    examples, _, batch, _ = drawn
    for volume, labels, weights in zip(batch.volume, batch.labels, batch.weights, strict=True):
        example = examples[int(volume[0, 0, 0] >= 10_000)]
        code = int(volume[0, 0, 0]) % 10_000
        origin = np.unravel_index(code, example.volume.shape)
        box = tuple(slice(o, o + 6) for o in origin)
        np.testing.assert_array_equal(volume, example.volume[box])
        np.testing.assert_array_equal(weights, example.weights[box])
        known = weights > 0
        assert known.any()
        np.testing.assert_array_equal(labels[known], example.labels[box][known])
        assert (labels[~known] == 0).all()


def test_patches_reach_every_annotated_voxel_and_every_position(drawn):
    (first, _), _, batch, _ = drawn
    inside = batch.volume[batch.volume[:, 0, 0, 0] < 10_000]
    seen = np.isin(first.volume, inside)
    assert seen[first.weights > 0].all()
    origins = {tuple(np.unravel_index(int(v[0, 0, 0]), SHAPE)) for v in inside}
    z, y, x = zip(*origins, strict=True)
    assert (min(y), max(y)) == (0, SHAPE[1] - 6)
    assert (min(x), max(x)) == (0, SHAPE[2] - 6)
    assert (min(z), max(z)) == (1, SHAPE[0] - 6)  # slice 6 is in patches from 1 on


def test_tomograms_are_drawn_evenly(drawn):
    _, _, batch, _ = drawn
    share = (batch.volume[:, 0, 0, 0] >= 10_000).mean()
    assert 0.35 < share < 0.65


def test_a_rare_class_is_in_half_of_the_patches():
    labels = np.zeros((16, 16, 16), int)
    labels[3, 4, 5] = 1
    ones = np.ones(labels.shape, np.float32)
    samples = prepare([Example(ones, labels, ones)], ("rare",), (4, 4, 4))
    batch, _ = draw(samples, jax.random.key(1), 200, (4, 4, 4), 0)
    share = float((batch.labels.reshape(200, -1) > 0).any(1).mean())
    assert 0.4 < share < 0.65
    where = np.argwhere(np.asarray(batch.labels))[:, 1:]
    assert (where.min(0) == 0).all()
    assert (where.max(0) == 3).all()


def test_only_annotated_classes_are_asked_for():
    labels = np.full((8, 8, 8), 2)
    ones = np.ones(labels.shape, np.float32)
    samples = prepare([Example(ones, labels, ones)], ("none", "a", "b"), (4, 4, 4))
    batch, _ = draw(samples, jax.random.key(1), 20, (4, 4, 4), 0)
    assert (np.asarray(batch.labels) == 2).all()


def test_a_margin_keeps_the_loss_away_from_the_border_yet_reaches_the_faces():
    example = coded(SHAPE)
    samples = prepare([example], ("thing",), (8, 8, 8), margin=2)
    batch, _ = draw(samples, jax.random.key(2), 300, (8, 8, 8), 2)
    weights = np.asarray(batch.weights)
    inner = weights[:, 2:-2, 2:-2, 2:-2]
    assert weights.sum() == inner.sum()
    assert (inner.reshape(300, -1) > 0).any(1).all()
    seen = np.unique(np.asarray(batch.volume)[weights > 0])
    np.testing.assert_array_equal(seen, np.sort(example.volume[example.weights > 0]))


def test_a_volume_smaller_than_the_patch_is_mirrored_with_weight_zero():
    example = coded((3, 5, 4))
    samples = prepare([example], ("thing",), (8, 8, 8))
    batch, _ = draw(samples, jax.random.key(3), 1, (8, 8, 8), 0)
    z, y, x = (slice(2, 5), slice(1, 6), slice(2, 6))
    np.testing.assert_array_equal(batch.volume[0, z, y, x], example.volume)
    expected = np.pad(example.volume, ((2, 3), (1, 2), (2, 2)), mode="symmetric")
    np.testing.assert_array_equal(batch.volume[0], expected)
    assert float(batch.weights.sum()) == example.weights.sum()


def test_drawing_is_a_pure_function_of_the_key(drawn):
    _, samples, _, _ = drawn
    one, _ = draw(samples, jax.random.key(5), 4, (6, 6, 6), 0)
    two, _ = draw(samples, jax.random.key(5), 4, (6, 6, 6), 0)
    np.testing.assert_array_equal(one.volume, two.volume)
    other, _ = draw(samples, jax.random.key(6), 4, (6, 6, 6), 0)
    assert not np.array_equal(one.volume, other.volume)


def test_places_say_where_a_patch_was_in_the_tomogram(drawn):
    examples, samples, _, _ = drawn
    batch, _ = draw(samples, jax.random.key(7), 5, (6, 6, 6), 0)
    numbers, origins = places(samples, jax.random.key(7), 5, (6, 6, 6), 0)
    origins = origins + samples.offsets[numbers]
    for number, origin, volume in zip(numbers, origins, batch.volume, strict=True):
        assert examples[number].volume[tuple(origin)] == volume[0, 0, 0]


@pytest.mark.parametrize("axis", ["x", "y"])
def test_the_common_form_of_a_wedge_has_the_same_transfer(axis):
    wedge = MissingWedge((-50.0, 62.0), axis, softness=0.01)
    for original in (wedge, wedge.rotate(jnp.asarray([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]))):
        np.testing.assert_allclose(
            canonical(original).transfer((9, 8, 10)), original.transfer((9, 8, 10)), atol=1e-6
        )
    np.testing.assert_array_equal(canonical(None).transfer((6, 5, 6)), 1.0)


def test_examples_with_different_wedges_share_a_batch():
    wedges = (MissingWedge((-60.0, 60.0)), MissingWedge((-40.0, 60.0), "x"), None)
    examples = []
    for i, wedge in enumerate(wedges):
        a = coded((8, 8, 8), str(i), offset=10_000 * i)
        examples.append(Example(a.volume, a.labels, a.weights, wedge, name=a.name))
    samples = prepare(examples, ("thing",), (4, 4, 4))
    batch, flips = draw(samples, jax.random.key(0), 12, (4, 4, 4), 0)
    assert flips.shape == (12, 8, 3)
    for i in range(12):
        number = int(batch.volume[i, 0, 0, 0] // 10_000)
        angles = (-90, 90) if wedges[number] is None else wedges[number].tilt_range
        np.testing.assert_allclose(batch.wedge.tilt_range[i], angles)
        allowed = {tuple(f) for f in np.asarray(flips[i]).tolist()}
        assert len(allowed) == (4 if number == 1 else 8)  # an asymmetric range has fewer


def test_exact_margin():
    class Local(Segmenter):
        stride, classes = 1, ("a",)

        halo = 3

        def __call__(self, volume): ...

    assert exact_margin(Local(), (12, 16, 16)) == 3
    assert exact_margin(Local(), (11, 16, 16)) == 0
    unfitted = ConvNet(layers=1, width=2, norm="instance", rngs=nnx.Rngs(0))
    assert exact_margin(unfitted, (64, 64, 64)) == 0  # it depends on its whole input


def bad(**changes):
    a = coded((4, 4, 4))
    fields = {"volume": a.volume, "labels": a.labels, "weights": a.weights, "name": "x.mrc"}
    return lambda: Example(**(fields | changes))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (bad(volume=np.zeros((4, 4), np.float32)), "x.mrc: a volume"),
        (bad(labels=np.zeros((4, 4, 5), int)), "x.mrc: labels have shape"),
        (bad(labels=np.zeros((4, 4, 4))), "x.mrc: labels must be integers"),
        (bad(weights=np.full((4, 4, 4), np.nan)), "x.mrc: weights must be finite"),
        (bad(weights=np.zeros((4, 4, 4))), "x.mrc: no voxel is annotated"),
        (bad(volume=np.full((4, 4, 4), np.nan)), "x.mrc: volume must be finite"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_label_without_a_class_is_refused_by_name():
    volume = np.zeros((4, 4, 4), np.float32)
    labels = np.zeros(volume.shape, int)
    labels[0, 0, :2] = 2, -1
    example = Example(volume, labels, np.ones(volume.shape), name="x.mrc")
    with pytest.raises(ValueError, match=r"x.mrc: annotated voxels have the label \[-1, 2\]"):
        prepare([example], ("thing",), (2, 2, 2))
    with pytest.raises(ValueError, match="at least one example"):
        prepare([], ("thing",), (2, 2, 2))


def test_split_holds_out_one_block_and_keeps_every_voxel_once():
    example = coded((20, 8, 8))
    labels = np.where(np.arange(20)[:, None, None] % 2, 1, 0) * np.ones((20, 8, 8), int)
    example = Example(example.volume, labels, np.ones((20, 8, 8)), name="a")
    for seed in range(3):
        train, held = split_annotation(example, 0.3, seed)
        np.testing.assert_array_equal(train.weights + held.weights, example.weights)
        planes = np.flatnonzero(held.weights.any((1, 2)))
        assert len(planes) == 6
        assert (np.diff(planes) == 1).all()
    assert held.name == "a (held out)"


def test_split_divides_a_single_slice_and_prefers_blocks_with_all_classes():
    volume = np.zeros((5, 12, 6), np.float32)
    weights, labels = np.zeros_like(volume), np.zeros(volume.shape, int)
    weights[2] = 1
    labels[2, 0] = 1
    labels[2, 11] = 1  # rows 1 to 10 lack the class
    for seed in range(4):
        train, held = split_annotation(Example(volume, labels, weights), 0.25, seed)
        rows = np.flatnonzero(held.weights.any((0, 2)))
        assert len(rows) == 3
        assert rows[0] == 0 or rows[-1] == 11
        assert (labels * (train.weights > 0)).any()


def test_split_refuses_what_cannot_be_divided():
    weights = np.zeros((3, 3, 3))
    weights[1, 1, 1] = 1
    example = Example(np.zeros((3, 3, 3), np.float32), np.zeros((3, 3, 3), int), weights)
    with pytest.raises(ValueError, match="too little is annotated"):
        split_annotation(example)
    with pytest.raises(ValueError, match="between 0 and 1"):
        split_annotation(example, 1.0)


def test_unlabelled_examples_are_drawn_from_all_that_is_measured():
    volume = np.arange(16**3, dtype=np.float32).reshape(16, 16, 16)
    missing = np.zeros(volume.shape, bool)
    missing[:8] = True
    samples = prepare([Example(volume, missing=missing)], (), (4, 4, 4))
    assert list(samples.arrays[0]) == ["volume"]
    np.testing.assert_array_equal(samples.counts, [[8 * 16 * 16, 0]])
    batch, _ = draw(samples, jax.random.key(0), 300, (4, 4, 4), 1)
    assert batch.labels is None and batch.weights is None
    measured = np.isin(np.asarray(batch.volume)[:, 1:-1, 1:-1, 1:-1], volume[~missing])
    assert measured.any((1, 2, 3)).all()  # inside the margin, as around annotated voxels
    assert np.asarray(batch.volume).min() < 8 * 256


def test_labelled_and_unlabelled_examples_share_a_batch():
    labelled, other = coded(SHAPE), Example(coded(SHAPE, offset=10_000).volume, name="b.mrc")
    with pytest.raises(ValueError, match=r"b.mrc: is not labelled .* `unannotated` patches"):
        prepare([labelled, other], ("thing",), (6, 6, 6))
    samples = prepare([labelled, other], ("thing",), (6, 6, 6), everywhere=True)
    assert samples.counts[1].sum() == 0
    batch, _ = jax.jit(sampling.draw, static_argnums=(2, 3, 4, 5))(
        samples, jax.random.key(0), 20, (6, 6, 6), 0, 40
    )
    second = np.asarray(batch.volume[:, 0, 0, 0]) >= 10_000
    assert not second[:20].any() and second[20:].any()
    assert not np.asarray(batch.weights)[second].any()


def test_replayed_patches_have_their_own_examples_number_and_share_of_the_weights():
    ones = np.ones((8, 9, 7), np.float32)
    phantom = Example(ones + 10_000, ones.astype(int), ones, name="phantom")
    samples = prepare([coded(SHAPE)], ("thing",), (6, 6, 6), everywhere=True, replayed=[phantom])
    np.testing.assert_array_equal(samples.replayed, [False, True])
    batch, _ = jax.jit(sampling.draw, static_argnums=(2, 3, 4, 5, 6))(
        samples, jax.random.key(0), 40, (6, 6, 6), 1, 10, 20
    )
    of_phantom = np.asarray(batch.volume[:, 0, 0, 0]) >= 10_000
    assert not of_phantom[:50].any() and of_phantom[50:].all()
    # The phantom is labelled everywhere, and yet one of its patches counts as an annotated one.
    total = np.asarray(batch.weights).sum((1, 2, 3))
    assert total[50:].mean() == pytest.approx(total[:40].mean(), rel=1e-5)
    # What is drawn of the tomogram is what would be drawn without a phantom.
    alone, _ = draw(prepare([coded(SHAPE)], ("thing",), (6, 6, 6), everywhere=True),
                    jax.random.key(0), 40, (6, 6, 6), 1)  # fmt: skip
    np.testing.assert_array_equal(alone.volume, batch.volume[:40])
    np.testing.assert_array_equal(alone.weights, batch.weights[:40])


def test_an_example_and_a_batch_have_a_field_for_each_companion():
    for value in (Example, Batch):
        assert set(COMPANIONS) <= {field.name for field in dataclasses.fields(value)}


def test_what_needs_labels_says_so():
    plain = Example(np.zeros((8, 8, 8), np.float32), name="a.mrc")
    with pytest.raises(ValueError, match=r"a.mrc: has no labels, which a split"):
        split_annotation(plain)
    with pytest.raises(ValueError, match=r"a.mrc: has weights but no labels"):
        dataclasses.replace(plain, weights=np.ones((8, 8, 8)))
    with pytest.raises(ValueError, match=r"a supervised loss needs labels"):
        supervised(dice)(GlobalThreshold(0.5), Batch(jnp.zeros((1, 8, 8, 8))))
