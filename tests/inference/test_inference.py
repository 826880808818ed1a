"""Models applied to tomograms from Python: in memory and from file to file the same."""

import jax
import numpy as np
import pytest
from flax import nnx

from cryojax_seg import inference, io
from cryojax_seg.core import MissingWedge, Tomogram, apply, labels, normalize, probabilities
from cryojax_seg.segmenters import GlobalThreshold, LinearVote, unet_preset

SIZES = (10.0, 10.0, 10.0)


@pytest.fixture
def tomogram():
    noise = np.random.default_rng(0).normal(4.0, 2.0, (20, 24, 28)).astype(np.float32)
    return Tomogram(noise, SIZES, origin=(1.0, 2.0, 3.0), name="t.mrc")


@pytest.fixture
def model():
    card = io.ModelCard(SIZES, "dark", halo=2)
    return inference.Model(LinearVote(2, threshold=0.2, classes=("membrane",)), card)


@pytest.fixture
def saved(model, tmp_path):
    (tmp_path / "run").mkdir()
    io.save_model(tmp_path / "run" / "model", model.segmenter, model.card)
    return tmp_path / "run"


def test_labels_are_those_of_the_segmenter_on_the_normalized_volume(model, tomogram):
    logits = apply(model.segmenter, normalize(tomogram.density, "dark"))
    found, maps = inference.segment(model, tomogram, probabilities=True, engine="jax")
    np.testing.assert_array_equal(found, labels(logits))
    assert found.dtype == np.int8 and 0.01 < found.mean() < 0.99
    np.testing.assert_allclose(maps["membrane"], probabilities(logits)[..., 0], atol=1e-3)
    assert inference.segment(model, tomogram, threshold=0.9, engine="jax").mean() < found.mean()


def test_from_file_to_file_it_is_the_same_as_in_memory(saved, tomogram, tmp_path):
    io.write_mrc(tmp_path / "t.mrc", tomogram.density, tomogram)
    model = inference.load(saved)
    steps = []
    done = inference.segment_file(
        model, tmp_path / "t.mrc", tmp_path / "labels.mrc", probabilities=True, tile=16,
        engine="jax", progress=lambda done, count: steps.append((done, count)),
    )  # fmt: skip
    expected = inference.segment(model, tomogram, tile=16, engine="jax")
    written = io.read_mrc(done.labels)
    np.testing.assert_array_equal(written.density, expected)
    assert written.voxel_size == pytest.approx(SIZES) and written.origin == (1.0, 2.0, 3.0)
    assert done.shares is not None and done.shares["membrane"] == pytest.approx(expected.mean())
    assert done.maps["membrane"].name == "labels.membrane.probability.mrc"
    assert done.maps["membrane"].exists()
    assert steps == [(n, 8) for n in range(9)]
    with pytest.raises(io.FileError, match="exists already"):
        inference.segment_file(model, tmp_path / "t.mrc", done.labels, engine="jax")


def test_a_plan_says_what_will_be_done(model, tomogram):
    plan = inference.plan(model, tomogram, tile=16, engine="jax")
    assert (plan.tiling.count, plan.tiling.halo) == (8, 2)
    assert "20 x 24 x 28 voxels in 8 tiles of 16 x 16 x 16 with a halo of 2 voxels" in str(plan)
    assert plan.memory > 0.9


def test_flips_average_over_what_the_wedge_allows(model, tomogram):
    flipped = model.with_flips(MissingWedge((-60.0, 60.0)))
    kernel = np.asarray(model.segmenter.kernel[...])
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1, ::-1], atol=1e-6)  # so nothing changes
    expected = inference.segment(model, tomogram, engine="jax")
    np.testing.assert_array_equal(inference.segment(flipped, tomogram, engine="jax"), expected)
    assert flipped.digest() != model.digest()


def test_a_small_unet_is_told_from_a_large_one_and_from_others(model):
    sizes = {"fast": True, "standard": False}
    for name, small in sizes.items():
        net = unet_preset(name, ("membrane",), rngs=nnx.Rngs(0))
        assert inference.Model(net).is_small_unet is small
    assert not model.is_small_unet


def test_the_digest_tells_models_apart(model, saved):
    assert inference.load(saved).digest() == model.digest()
    moved = jax.tree.map(lambda leaf: leaf + 1e-3, model.segmenter)
    assert inference.Model(moved, model.card).digest() != model.digest()
    assert inference.Model(model.segmenter).digest() != model.digest()  # its card decides as well


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"threshold": 1.5}, "threshold must lie between 0 and 1"),
        ({"memory": 0.1}, "memory must be above 0.9 GiB"),
        ({"tile": 0}, "tile is a number of voxels"),
        ({"halo": "wide"}, "halo is a number of voxels"),
    ],
)
def test_settings_without_meaning_are_refused(model, tomogram, how, message):
    with pytest.raises(ValueError, match=message):
        inference.plan(model, tomogram, **how)


def test_a_threshold_is_for_one_class(tomogram):
    two = inference.Model(GlobalThreshold(1.0, classes=("background", "membrane")))
    with pytest.raises(ValueError, match="membrane and a threshold of its own for each"):
        inference.segment(two, tomogram, threshold=0.3)


def test_a_restorer_gives_no_labels(tmp_path):
    from cryojax_seg.restore import Gaussian

    io.save_model(tmp_path / "model", Gaussian(1.0))
    with pytest.raises(io.FileError, match="is a Gaussian, which gives no labels"):
        inference.load(tmp_path / "model")


@pytest.mark.parametrize("suffix", [".mrc", ".zarr", ".nii", ".nrrd"])
def test_every_format_holds_the_same_labels_and_maps(tmp_path, write, suffix):
    noise = np.random.default_rng(0).normal(size=(6, 8, 10)).astype(np.float32)
    model = inference.Model(GlobalThreshold(1.0, classes=("membrane",)))
    source = write("t.mrc", noise)
    labels, maps = inference.segment(model, source, probabilities=True)
    done = inference.segment_file(
        model, source, tmp_path / f"o{suffix}", probabilities=True, map_type="float32"
    )
    read, found = io.read_tomogram(done.labels), io.read_tomogram(done.maps["membrane"])
    np.testing.assert_array_equal(np.asarray(read.density), labels)
    assert read.voxel_size == (10.0, 10.0, 10.0)
    np.testing.assert_array_equal(np.asarray(found.density), maps["membrane"].astype(np.float32))
    assert (read.density.dtype, found.density.dtype) == (np.int8, np.float32)
