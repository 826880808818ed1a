"""Methods that were not trained, fitted to each tomogram, find membranes better than chance."""

import jax
import numpy as np
import pytest

from cryojax_seg import inference, io
from cryojax_seg.core import Tomogram
from cryojax_seg.segmenters import GlobalThreshold
from cryojax_seg.simulate import WedgeImaging, presets, simulate
from cryojax_seg.training.untrained import first_look

# Dice; measured were 0.52, 0.36 and 0.81, where chance gives 0.15 to 0.21.
LEAST = {"threshold": 0.45, "sheet": 0.3, "tensor-voting": 0.7}


@pytest.fixture(scope="module")
def phantom():
    """A dark tomogram with noise of half the signal, and its membranes."""
    scene = presets.vesicles(jax.random.key(1), (32, 48, 48), 10.0)
    found = simulate(scene, WedgeImaging(snr=2.0), jax.random.key(3))
    density = 100.0 - 7.0 * np.asarray(found.density)
    return Tomogram(density, (10.0,) * 3, name="t.mrc"), np.asarray(found.labels) == 1


def dice(one, two):
    return 2 * (one & two).sum() / (one.sum() + two.sum())


@pytest.mark.parametrize("method", LEAST)
def test_membranes_are_found_better_than_by_chance(phantom, method):
    tomogram, membrane = phantom
    found = inference.segment(inference.load(method), tomogram, engine="jax") == 1
    p, q = membrane.mean(), found.mean()
    by_chance = 2 * p * q / (p + q)  # of as many voxels, drawn at random
    assert dice(found, membrane) > max(LEAST[method], 1.5 * by_chance)


def test_the_scales_follow_the_voxel_size(phantom):
    volume = -np.asarray(phantom[0].density)
    volume = (volume - volume.mean()) / volume.std()
    fine, coarse = (first_look("sheet", volume, size) for size in (10.0, 20.0))
    assert [float(s.scales[0]) for s in (fine, coarse)] == pytest.approx([2.0, 1.0])
    assert (fine.halo, fine.classes) == (8, ("membrane",))


def test_tiles_change_nothing(phantom, tmp_path):
    tomogram, _ = phantom
    io.write_mrc(tmp_path / "t.mrc", tomogram.density.astype(np.float32), tomogram)
    model = inference.load("threshold")
    whole = inference.segment(model, tmp_path / "t.mrc", engine="jax", halo="exact")
    done = inference.segment_file(
        model, tmp_path / "t.mrc", tmp_path / "l.mrc", engine="jax", halo="exact", tile=24
    )
    np.testing.assert_array_equal(io.read_tomogram(done.labels).density, whole)
    assert done.shares is not None and done.shares["foreground"] == pytest.approx(whole.mean())


def test_a_voxel_size_is_needed(phantom):
    tomogram = Tomogram(phantom[0].density, None, name="t.mrc")
    with pytest.raises(ValueError, match="t.mrc: has no voxel size, from which sheet takes"):
        inference.plan(inference.load("sheet"), tomogram)


def test_a_folder_with_a_model_comes_before_a_method(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert inference.load("sheet").first_look == "sheet"
    io.save_model("sheet", GlobalThreshold(2.0))
    assert inference.load("sheet").first_look is None
    assert isinstance(inference.load("sheet").segmenter, GlobalThreshold)
    assert inference.untrained_method("unet") is None
