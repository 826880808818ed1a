"""Models on tomograms whose voxels are not those of the training data."""

import logging

import numpy as np
import pytest
from scipy import ndimage

from cryojax_seg import export, inference, io
from cryojax_seg.core import Rescaled, Tomogram
from cryojax_seg.errors import ParameterError
from cryojax_seg.segmenters import LinearVote, Truncated

EXTENT = 480.0  # angstrom


@pytest.fixture(scope="module")
def model():
    """It averages over a neighbourhood of 70 A."""
    vote = LinearVote(3, threshold=2.5, softness=0.5, classes=("ball",))
    return inference.Model(vote, io.ModelCard((10.0, 10.0, 10.0), "dark", patch=16))


def balls(size, name="t.mrc"):
    """Dark balls with a radius of 40 A in noise, in voxels of this size, and where they are."""
    n = int(EXTENT / size)
    places = (np.indices((n,) * 3) + 0.5) * size
    centres = np.random.default_rng(1).uniform(80, EXTENT - 80, (12, 3))
    distance = np.min([np.linalg.norm(places.T - c, axis=-1).T for c in centres], axis=0)
    noise = np.random.default_rng(2).normal(size=(20,) * 3)  # the same in all voxels
    noise = ndimage.zoom(noise, n / 20, order=3, mode="grid-wrap", grid_mode=True)
    density = 5.0 - 2.0 / (1 + np.exp((distance - 40.0) / 6.0)) + 0.3 * noise / noise.std()
    return Tomogram(density.astype(np.float32), (size,) * 3, name=name), distance < 40.0


def dice(found, truth):
    return 2 * ((found > 0) & truth).sum() / ((found > 0).sum() + truth.sum())


def test_labels_are_as_good_at_other_voxel_sizes(model):
    tomogram, truth = balls(10.0)
    known = dice(inference.segment(model, tomogram, engine="jax"), truth)
    assert known > 0.9
    for size in (6.0, 7.0, 15.0, 20.0):
        tomogram, truth = balls(size)
        found = inference.segment(model, tomogram, engine="jax")
        assert found.shape == truth.shape
        assert abs(dice(found, truth) - known) < 0.02, size
    unaware = inference.segment(inference.Model(model.segmenter), tomogram, engine="jax")
    assert dice(unaware, truth) < 0.5


@pytest.mark.parametrize("engine", ["jax", "openvino"])
def test_tiles_and_maps_lie_on_the_grid_of_the_tomogram(model, engine):
    if engine == "openvino" and not export.installed():
        pytest.skip("needs the extra cryojax-seg[openvino]")
    tomogram, _ = balls(7.0)
    how = {"probabilities": True, "halo": "exact", "precision": "f32"}
    whole, maps = inference.segment(model, tomogram, engine="jax", **how)
    found, parts = inference.segment(model, tomogram, engine=engine, tile=30, **how)
    assert maps["ball"].shape == tomogram.density.shape
    apart = np.abs(maps["ball"].astype(float) - parts["ball"])
    assert apart.max() < 2e-3 and (found != whole).mean() < 1e-4


def test_the_plan_says_what_it_does(model, caplog):
    tomogram, _ = balls(7.0)
    with caplog.at_level(logging.INFO):
        plan = inference.plan(model, tomogram, tile=20, engine="jax")
    assert "has voxels of 7 A, and the model is for voxels of 10 A" in caplog.text
    assert "resampled to voxels of 10 A" in str(plan)
    assert isinstance(plan.segmenter, Rescaled) and plan.bytes_per_voxel > 24
    near = inference.plan(model, Tomogram(tomogram.density, (9.6,) * 3), engine="jax")
    assert isinstance(near.segmenter, LinearVote) and "resampled" not in str(near)


def test_a_measured_halo_is_one_of_the_voxels_of_the_model(model):
    tomogram, _ = balls(6.0)
    card = io.ModelCard((10.0, 10.0, 10.0), "dark", halo=1)
    plan = inference.plan(inference.Model(model.segmenter, card), tomogram, tile=20, engine="jax")
    assert 0 < plan.segmenter.halo < plan.segmenter.around(model.segmenter).halo
    assert isinstance(plan.segmenter, Rescaled)
    assert isinstance(plan.segmenter.segmenter, Truncated)
    assert plan.segmenter.segmenter.halo == 1
    assert f"of {plan.segmenter.around(model.segmenter).halo}: " in str(plan)


def test_axes_may_differ(model):
    tomogram, truth = balls(10.0)
    fine = ndimage.zoom(tomogram.density, (1, 2, 1), order=1)
    found = inference.segment(model, Tomogram(fine, (10.0, 5.0, 10.0)), engine="jax")
    assert dice(found, np.repeat(truth, 2, 1)) > 0.88


def test_a_blank_margin_changes_no_label(model):
    tomogram, truth = balls(7.0)
    bare = inference.segment(model, tomogram, engine="jax")
    padded = np.pad(tomogram.density, ((8, 8), (20, 20), (20, 20)))
    found = inference.segment(model, Tomogram(padded, (7.0,) * 3), engine="jax")
    inner = found[8:-8, 20:-20, 20:-20]
    assert found.sum() == inner.sum()  # nothing where nothing is
    assert abs(dice(inner, truth) - dice(bare, truth)) < 0.02


def test_what_cannot_be_right_is_refused(model):
    tomogram, _ = balls(10.0)
    unknown = Tomogram(tomogram.density, name="u.mrc")
    plan = inference.plan(model, unknown, engine="jax")
    assert isinstance(plan.segmenter, LinearVote)
    card = io.ModelCard((10.0,) * 3, provenance={"built_in": True})
    with pytest.raises(io.FileError, match="give the voxel size") as refused:
        inference.plan(inference.Model(model.segmenter, card), unknown, engine="jax")
    assert refused.value.parameters == ("voxel_size",)
    far = Tomogram(tomogram.density, (21.0,) * 3, name="far.mrc")
    with pytest.raises(
        ParameterError, match="more than twofold off the 10 A that it saw"
    ) as refused:
        inference.plan(model, far, engine="jax")
    assert "force" in refused.value.parameters
    card = io.ModelCard((10.0,) * 3, voxel_sizes=(8.0, 11.0))
    inference.plan(inference.Model(model.segmenter, card), far, engine="jax")
    forced = inference.plan(model, far, engine="jax", force=True)
    assert isinstance(forced.segmenter, Rescaled)
    padding = Tomogram(np.zeros((16, 16, 16), np.float32), (7.0,) * 3, name="p.mrc")
    with pytest.raises(io.FileError, match="p.mrc: the volume is constant"):
        inference.plan(model, padding, engine="jax")
