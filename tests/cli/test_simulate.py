"""``cryojax-seg simulate``: the files it writes say the same as the library."""

import json

import jax
import numpy as np
import pytest

from cryojax_seg import io
from cryojax_seg.core import MissingWedge
from cryojax_seg.simulate import WedgeImaging, presets, simulate

SMALL = ("--shape", "24", "28", "32", "--voxel-size", "12", "--snr", "0.5", "--crowding", "0.04")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from cryojax_seg.cli import main

    out = tmp_path_factory.mktemp("simulated")
    words = ["simulate", "vesicles", "-o", str(out), *SMALL, "--tilt-range", "-50", "60"]
    assert main([*words, "--seed", "5", "--count", "2"]) == 0
    return out


def library(number):
    scene_key, noise_key = jax.random.split(jax.random.fold_in(jax.random.key(5), number))
    scene = presets.vesicles(scene_key, (24, 28, 32), 12.0, crowding=0.04)
    return simulate(scene, WedgeImaging(0.5, wedge=MissingWedge((-50.0, 60.0))), noise_key)


def test_volumes_are_those_of_the_library_dark_on_disk(folder):
    phantom, one = library(1), folder / "vesicles-001"
    for name, volume in (
        ("tomogram", -phantom.density),
        ("even", -phantom.imaged.even),
        ("odd", -phantom.imaged.odd),
        ("labels", phantom.labels),
        ("instances", phantom.truth.instances),
    ):
        read = io.read_mrc(one / f"{name}.mrc")
        assert np.array_equal(read.density, volume), name
        assert read.voxel_size == pytest.approx((12, 12, 12))
    assert io.read_mrc(one / "labels.mrc").density.dtype == np.int8
    other = io.read_mrc(folder / "vesicles-000" / "tomogram.mrc").density
    assert not np.array_equal(other, -phantom.density)


def test_the_truth_says_what_is_there(folder):
    phantom, one = library(0), folder / "vesicles-000"
    truth = json.loads((one / "truth.json").read_text())
    assert truth["snr"] == pytest.approx(0.5, rel=1e-3)
    assert truth["wedge"]["tilt_range"] == [-50, 60]
    assert truth["config"]["seed"] == 5 and truth["config"]["preset"] == "vesicles"
    assert truth["imaging"]["kind"] == "WedgeImaging"
    assert len(truth["objects"]) == len(phantom.scene.objects)
    vesicle = next(row for row in truth["objects"] if row["name"] == "vesicle")
    assert vesicle["area"] > 0 and vesicle["volume"] > 0
    instances = np.asarray(io.read_mrc(one / "instances.mrc").density)
    z, y, x = (round(c / 12) for c in vesicle["centre"])
    assert instances[z, y, x] == vesicle["instance"]


def test_particles_are_where_macromolecules_are(folder):
    one = folder / "vesicles-000"
    found = io.read_particles(one / "particles.star")
    assert len(found) and found.voxel_size == 12
    assert set(found.columns["rlnTomoName"]) == {"vesicles-000"}
    labels = np.asarray(io.read_mrc(one / "labels.mrc").density)
    index = np.clip(np.rint(found.coordinates).astype(int), 0, np.array(labels.shape) - 1)
    assert (labels[tuple(index.T)] == 5).all()


def test_what_is_there_stays_unless_told_otherwise(folder, run):
    same = (*SMALL, "--tilt-range", "-50", "60", "--seed", "5")
    before = (folder / "vesicles-000" / "tomogram.mrc").stat().st_mtime_ns
    status, _, err = run("simulate", "vesicles", "-o", folder, *same)
    assert status == 2 and "vesicles-000: exists already" in err and "--resume" in err
    status, _, err = run("simulate", "vesicles", "-o", folder, *same, "--count", "2", "--resume")
    assert status == 0 and "0 tomograms" in err
    status, _, err = run("simulate", "vesicles", "-o", folder, *same[:-1], "6", "--resume")
    assert status == 2 and "not made with these options" in err
    assert (folder / "vesicles-000" / "tomogram.mrc").stat().st_mtime_ns == before


def test_the_contrast_is_the_root_of_the_ratio(run, tmp_path):
    words = ("--shape", "24", "28", "32", "--voxel-size", "12", "--crowding", "0.04")
    for name, more, contrast in (("given", ("--contrast-sigma", "0.5"), 0.5), ("default", (), 1.0)):
        status, _, err = run("simulate", "vesicles", "-o", tmp_path / name, *words, *more)
        assert status == 0 and f"contrast {contrast:g} sigma" in err
        truth = json.loads((tmp_path / name / "vesicles-000" / "truth.json").read_text())
        assert truth["snr"] == pytest.approx(contrast**2, rel=0.02)
        assert truth["contrast_sigma"] == pytest.approx(contrast, rel=0.01)


@pytest.mark.parametrize("content", ["[]", "5", "[" * 10**5, "{", ""])
def test_a_damaged_truth_is_named(folder, run, tmp_path, content):
    (tmp_path / "vesicles-000").mkdir()
    truth = tmp_path / "vesicles-000" / "truth.json"
    truth.write_text(content)
    status, _, err = run("simulate", "vesicles", "-o", tmp_path, "--resume")
    assert status == 2 and str(truth) in err and err.count("\n") == 1


def test_a_tilt_series_of_ones_own_map(tmp_path, run):
    axis = np.arange(12) - 5.5
    ball = np.exp(-np.square(np.stack(np.meshgrid(axis, axis, axis))).sum(0) / 18)
    io.write_mrc(tmp_path / "ball.mrc", ball.astype(np.float32) * 7, voxel_size=10.0)
    words = ("--tier", "tilt_series", "--tilt-step", "10", "--maps", tmp_path / "ball.mrc")
    status, _, err = run("simulate", "vesicles", "-o", tmp_path / "out", *SMALL, *words)
    assert status == 0, err
    truth = json.loads((tmp_path / "out" / "vesicles-000" / "truth.json").read_text())
    assert "ball" in {row["name"] for row in truth["objects"]}
    assert truth["snr"] == pytest.approx(0.5, rel=0.2)
    assert len(truth["imaging"]["acquisition"]["scheme"]["order"]) == 13


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("vesicles", "--snr", "0"), "snr must be above 0"),
        (("vesicles", "--contrast-sigma", "0"), "contrast_sigma must be above 0"),
        (("vesicles", "--contrast-sigma", "1", "--snr", "1"), "either contrast_sigma or snr"),
        (("vesicles", "--voxel-size", "-1"), "voxel_size must be above 0"),
        (("vesicles", "--tilt-range", "-95", "60"), "within -90 to 90"),
        (("vesicles", "--tilt-range", "60", "-60"), "lowest first"),
        (("vesicles", "--crowding", "0.5"), "crowding must be within 0 to 0.3"),
        (("flat_bilayers", "--crowding", "0.1"), "has no macromolecules"),
        (("vesicles", "--shape", "8", "64", "64"), "80 angstrom thin"),
        (("vesicles", "--shape", "0", "64", "64"), "shape must be"),
        (("vesicles", "--count", "0"), "count must be 1"),
        (("vesicles", "--maps", "nowhere.mrc"), "nowhere.mrc"),
        (("virus",), "virus"),
    ],
)
def test_impossible_requests_leave_nothing_behind(words, message, tmp_path, run):
    out = tmp_path / "out"
    status, _, err = run("simulate", *words, "-o", out)
    assert status == 2 and message in err and len(err.splitlines()) == 1
    assert not out.exists()
