"""Restoration from Python: in memory and from file to file the same, resumable, refused clearly."""

import json
import signal

import numpy as np
import pytest

from cryojax_seg import core, inference, io, restore, training
from cryojax_seg.core.ctf import ContrastTransfer

SIZES = (10.0, 10.0, 10.0)
WEDGE = core.MissingWedge((-60.0, 60.0))
SMALL = {"method": "equivariant", "steps": 2, "patch": 16, "width": 2}


@pytest.fixture
def series(tmp_path):
    """A dark ball with noise, and its halves; the tomogram is their mean."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:20, :24, :28]
    ball = ((z - 10) ** 2 + (y - 12) ** 2 + (x - 14) ** 2 < 36).astype(np.float32)
    even, odd = (
        (5.0 - ball + rng.normal(0.0, 0.5, ball.shape)).astype(np.float32) for _ in range(2)
    )
    like = core.Tomogram((even + odd) / 2, SIZES, origin=(1.0, 2.0, 3.0))
    for name, density in (("t", like.density), ("even", even), ("odd", odd)):
        io.write_mrc(tmp_path / f"{name}.mrc", density, like)
    return tmp_path


def test_in_memory_it_is_the_filter_on_the_scale_of_the_tomogram(series):
    given = io.read_mrc(series / "t.mrc").density[:]
    found = inference.restore(restore.Gaussian(1.5), series / "t.mrc")
    expected = core.apply(restore.Gaussian(1.5), given)[..., 0]
    np.testing.assert_allclose(found, expected, atol=1e-4 * given.std())
    halves = [series / "even.mrc", series / "odd.mrc"]
    mean = inference.restore(restore.Gaussian(1.5), series / "t.mrc", halves=halves)
    np.testing.assert_allclose(mean, expected, atol=1e-3 * given.std())  # it is linear


def test_from_file_to_file_it_is_the_same_and_the_model_is_kept(series):
    steps = []
    done = inference.restore_file(
        series / "t.mrc", series / "r.mrc", WEDGE, method=restore.Gaussian(1.5),
        progress=lambda done, count: steps.append((done, count)),
    )  # fmt: skip
    written, (restorer, card) = io.read_mrc(done.volume), inference.load_restorer(done.run)
    expected = inference.restore(restore.Gaussian(1.5), series / "t.mrc")
    np.testing.assert_allclose(written.density, expected, atol=1e-6)
    assert written.voxel_size == pytest.approx(SIZES) and written.origin == (1.0, 2.0, 3.0)
    assert isinstance(restorer, restore.Gaussian) and steps == [(0, 1), (1, 1)]
    assert card.tilt_range == (-60.0, 60.0) and card.provenance == {"method": "Gaussian"}
    assert done.audit is not None and done.audit.kept_overall is not None
    assert done.audit.kept_overall < 0.6 and done.seconds > 0
    audit = json.loads((done.run / "audit.json").read_text())
    assert audit["kept_overall"] == done.audit.kept_overall
    with pytest.raises(io.FileError, match="exists already"):
        inference.restore_file(series / "t.mrc", done.volume, WEDGE, method="wiener")


@pytest.mark.parametrize("method", ["noise2clean", "n2n"])
def test_what_was_trained_before_needs_no_tilt_range(series, method):
    """One that learned from whole tomograms restores the whole, and others each half."""
    card = io.ModelCard(SIZES, patch=16, provenance={"method": method})
    io.save_model(series / "smooth", restore.LocalContrast(2.0), card)
    smooth = inference.load_pretrained(series / "smooth")
    halves = (series / "even.mrc", series / "odd.mrc")
    done = inference.restore_file(series / "t.mrc", series / "r.mrc", method=smooth, halves=halves)
    given = None if method == "noise2clean" else halves
    expected = inference.restore(smooth.restorer, series / "t.mrc", halves=given)
    np.testing.assert_allclose(io.read_mrc(done.volume).density, expected, atol=1e-6)
    whole = inference.restore(smooth.restorer, series / "t.mrc")
    assert np.allclose(expected, whole, atol=1e-3) == (given is None)  # it is not linear
    card = inference.load_restorer(done.run)[1]
    assert card.tilt_range is None and card.provenance == {"method": str(series / "smooth")}
    assert done.audit is not None and done.audit.filled_overall is None


@pytest.mark.parametrize(
    ("size", "known"), [(4.0, False), (7.0, True), (13.0, True), (25.0, False)]
)
def test_voxels_that_a_restorer_never_saw(series, size, known, caplog):
    """Up to twofold off a warning says so, and beyond it is refused."""
    card = io.ModelCard(SIZES, voxel_sizes=(9.0, 12.0))
    smooth = inference.Pretrained("smooth", restore.Gaussian(1.0), card)
    words = (series / "t.mrc", series / "r.mrc")
    if known:
        inference.restore_file(*words, method=smooth, voxel_size=size)
        assert "smooth learned from 9 to 12 A; compare" in caplog.text
        return
    with pytest.raises(io.FileError, match="more than twofold off. Use wiener"):
        inference.restore_file(*words, method=smooth, voxel_size=size)
    assert not (series / "r.mrc").exists()


def test_filters_are_fitted_to_the_tomogram(series):
    halves = (series / "even.mrc", series / "odd.mrc")
    done = inference.restore_file(
        series / "t.mrc", series / "w.mrc", WEDGE, method="wiener", halves=halves
    )
    even, odd = (io.read_mrc(path).density[:] for path in halves)
    found = inference.load_restorer(done.run)[0]
    assert isinstance(found, restore.RadialFilter)
    expected = restore.fit_wiener(even, odd).gain[...]
    np.testing.assert_allclose(found.gain[...], expected, atol=1e-4)
    method = inference.Deconvolution(ContrastTransfer(3e4), strength=2.0)
    done = inference.restore_file(series / "t.mrc", series / "d.mrc", WEDGE, method=method)
    found = inference.load_restorer(done.run)[0]
    assert isinstance(found, restore.RadialFilter)
    expected = restore.ctf_deconvolution(ContrastTransfer(3e4), 10.0, strength=2.0).gain[...]
    np.testing.assert_allclose(found.gain[...], expected, atol=1e-5)


@pytest.mark.slow
def test_energy_writes_the_spread_of_its_samples(series):
    done = inference.restore_file(
        series / "t.mrc", series / "r.mrc", WEDGE, samples=2, **SMALL | {"method": "energy"}
    )
    spread = io.read_mrc(done.run / "spread.mrc").density
    assert spread.shape == (20, 24, 28) and (spread >= 0).all() and spread.max() > 0


@pytest.mark.slow
def test_a_training_that_was_interrupted_goes_on(series, monkeypatch):
    """The result is that of a training that was not, bit for bit."""
    call = (series / "t.mrc", series / "r.mrc", WEDGE)
    monkeypatch.setattr("cryojax_seg.training.loop.Interrupts.agreed", lambda _: signal.SIGTERM)
    with pytest.raises(training.Interrupted) as caught:
        inference.restore_file(*call, **SMALL)
    assert caught.value.signal == signal.SIGTERM and not (series / "r.mrc").exists()
    monkeypatch.undo()
    done = inference.restore_file(*call, resume=True, **SMALL)
    other = inference.restore_file(series / "t.mrc", series / "whole.mrc", WEDGE, **SMALL)
    restored = [io.read_mrc(one.volume).density for one in (done, other)]
    np.testing.assert_array_equal(*restored)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "n2n"}, "'n2n' needs halves"),
        ({"method": "isonet", "patch": 18}, "patch must be a multiple of 4"),
        ({"method": "simulated", "phantoms": 0}, "phantoms must be 1 or more"),
        ({"method": "energy", "samples": 1}, "samples must be 2 or more"),
        ({"memory": 0.5}, "memory must be above 0.9 GiB"),
        ({"method": "equivariant", "wedge": None}, "give the tilt range, -90 to 90 if nothing"),
        ({"resume": True}, "r.run: there is no run to resume"),
        ({"resume": True, "overwrite": True}, "exclude each other"),
        ({"halves": ("even.mrc", "even.mrc")}, "hold the same values"),
    ],
)
def test_settings_without_meaning_are_refused(series, monkeypatch, settings, message):
    monkeypatch.chdir(series)
    before = sorted(series.iterdir())
    with pytest.raises(ValueError, match=message):
        inference.restore_file("t.mrc", "r.mrc", **{"wedge": WEDGE} | settings)
    with pytest.raises(ValueError, match="ends in .mrc or .zarr"):
        inference.restore_file("t.mrc", "r.tif", WEDGE)
    assert sorted(series.iterdir()) == before


def test_a_segmenter_restores_nothing(series):
    from cryojax_seg.segmenters import GlobalThreshold

    io.save_model(series / "model", GlobalThreshold(1.0))
    with pytest.raises(io.FileError, match="is a GlobalThreshold, not a restorer"):
        inference.load_restorer(series / "model")
