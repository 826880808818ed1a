"""``cryojax-seg restore``: what it writes, and what it refuses."""

import json
import shutil

import numpy as np
import pytest

from cryojax_seg import core, io, restore
from cryojax_seg.cli import main
from cryojax_seg.core.ctf import ContrastTransfer

TILTS = ("--tilt-range", "-60", "60")
SMALL = ("--steps", "4", "--patch", "16", "--width", "2")


def test_a_restored_tomogram_lies_on_its_grid_with_its_audit(run, files, tmp_path):
    out = tmp_path / "restored.mrc"
    halves = ("--halves", files / "even.mrc", files / "odd.mrc")
    words = ("restore", files / "tomogram.mrc", "-o", out, *TILTS, *SMALL)
    status, printed, said = run(*words, *halves, "--method", "n2n")
    assert status == 0, said
    given, restored = io.read_mrc(files / "tomogram.mrc"), io.read_mrc(out)
    assert restored.density.shape == given.density.shape and restored.density.dtype == np.float32
    assert (restored.voxel_size, restored.origin) == (given.voxel_size, given.origin)
    assert np.isfinite(restored.density).all()
    assert "agreement of the restored volume with the data" in printed
    audit = json.loads((tmp_path / "restored.run" / "audit.json").read_text())
    assert {"agreement", "kept", "filled", "filled_overall"} <= set(audit)
    restorer, card = io.load_model(tmp_path / "restored.run" / "model")
    assert type(restorer).__name__ == "Learned" and card.tilt_range == (-60.0, 60.0)
    assert run(*words, *halves, "--method", "n2n")[0] == 2  # it is there already
    out.unlink()
    status, _, said = run(*words, *halves, "--method", "n2n")
    assert status == 2 and "holds a run" in said
    status, printed, _ = run(*words, *halves, "--method", "n2n", "--resume")
    assert status == 0 and out.exists()  # all steps are done: it is applied again
    np.testing.assert_array_equal(io.read_mrc(out).density, restored.density)


@pytest.mark.filterwarnings("ignore:.*cell is 0")
def test_phantoms_teach_a_restorer(run, files, tmp_path):
    """Halves are for the filter that it starts from: what is restored is the tomogram."""
    words = (*TILTS, *SMALL, "--method", "simulated", "--phantoms", "1")
    out = tmp_path / "restored.mrc"
    status, _, said = run("restore", files / "tomogram.mrc", "-o", out, *words)
    assert status == 0, said
    restorer, card = io.load_model(tmp_path / "restored.run" / "model")
    assert card.provenance["method"] == "simulated" and restorer.start is not None
    assert np.isfinite(io.read_mrc(out).density).all()
    nameless = tmp_path / "nameless.mrc"
    io.write_mrc(nameless, io.read_mrc(files / "tomogram.mrc").density)
    status, _, said = run("restore", nameless, "-o", tmp_path / "r.mrc", *words)
    assert (
        status == 2
        and "nameless.mrc: has no voxel size, which phantoms need; give voxel_size" in said
    )


@pytest.fixture(scope="module")
def filtered(files, tmp_path_factory):
    """The folder of a run with Wiener's filter, from halves."""
    out = tmp_path_factory.mktemp("filtered") / "wiener.mrc"
    words = ("--halves", files / "even.mrc", files / "odd.mrc", *TILTS, "--method", "wiener")
    words = map(str, ("restore", files / "tomogram.mrc", "-o", out, *words))
    assert main(list(words)) == 0
    return out.with_suffix(".run")


def test_a_filter_is_applied_without_training(filtered, files):
    """That of the mean of both halves, to the tomogram, on its own scale."""
    restorer, card = io.load_model(filtered / "model")
    even, odd = (io.read_mrc(files / f"{n}.mrc").density[:] for n in ("even", "odd"))
    wanted = restore.fit_wiener(even, odd)
    np.testing.assert_allclose(restorer.gain[...], wanted.gain[...], atol=1e-4)
    given = io.read_mrc(files / "tomogram.mrc").density[:].astype(np.float32)
    centre = np.median(given)
    expected = core.apply(wanted, given - centre)[..., 0] + centre
    found = io.read_mrc(filtered.with_suffix(".mrc")).density
    np.testing.assert_allclose(found, expected, atol=1e-3 * given.std())
    assert card.provenance["method"] == "wiener" and (filtered / "audit.json").exists()


def test_deconvolution_is_that_of_the_microscope(run, files, tmp_path):
    words = ("restore", files / "tomogram.mrc", "-o", tmp_path / "r.mrc", *TILTS)
    words += ("--method", "deconvolution", "--defocus", "3", "--voltage", "200")
    status, _, said = run(*words)
    assert status == 0, said
    restorer, _ = io.load_model(tmp_path / "r.run" / "model")
    (size,) = set(io.read_mrc(files / "tomogram.mrc").voxel_size)
    wanted = restore.ctf_deconvolution(ContrastTransfer(3e4, voltage=200.0), size)
    np.testing.assert_allclose(restorer.gain[...], wanted.gain[...], atol=1e-5)


@pytest.mark.parametrize("joint", [0.0, 0.5])
def test_a_segmenter_learns_behind_a_restorer(run, files, filtered, tmp_path, joint):
    words = ("--method", "threshold", "--steps", "3", "--patch", "16", "--validation", "0")
    words += ("--restorer", filtered, "--joint", joint, *TILTS, "-o", tmp_path / "run")
    labels = ("--labels", files / "sparse.mrc")
    status, _, said = run("train", files / "tomogram.mrc", *labels, *words)
    assert status == 0, said
    trained, _ = io.load_model(tmp_path / "run" / "model")
    before = np.asarray(io.load_model(filtered / "model")[0].gain[...])
    after = np.asarray(trained.restorers[0].gain[...])
    assert np.array_equal(before, after) == (joint == 0)
    assert type(trained.segmenter).__name__ == "GlobalThreshold"


@pytest.mark.parametrize(
    "words, complaint",
    [
        (("--restorer", "RUN", "--joint", "1"), "--tilt-range LO HI is needed"),
        (("--joint", "1", *TILTS), "give one (--restorer)"),
        (("--restorer", "RUN", "--joint", "-1", *TILTS), "joint is a factor"),
        (
            (
                "--restorer",
                "nowhere",
            ),
            "nowhere: no such model folder",
        ),
    ],
)
def test_a_restorer_that_cannot_stand_in_front_is_refused(
    run, files, filtered, tmp_path, words, complaint
):
    words = [filtered if w == "RUN" else w for w in words]
    base = ("train", files / "tomogram.mrc", "--labels", files / "sparse.mrc", "-o", tmp_path / "r")
    status, _, said = run(*base, *words)
    assert status == 2 and complaint in said, said
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "words, complaint",
    [
        (("-o", "OUT/r.mrc", *TILTS, "--method", "deconvolution"), "needs --defocus"),
        (("-o", "OUT/r.mrc", "--method", "isonet"), "--tilt-range LO HI is needed"),
        (("-o", "OUT/r.mrc", "--method", "wiener", "--model", "r.run"), "leave --method out"),
        (("-o", "OUT/r.mrc", "--model", "membrane"), "is a UNet, not a restorer"),
        (("-o", "OUT/r.mrc", "--model", "nowhere.run"), "nowhere.run: no such model folder"),
        (("-o", "OUT/r.mrc", *TILTS, "--method", "n2n"), "'n2n' needs halves"),
        (("-o", "OUT/r.tif", *TILTS), "ends in .mrc or .zarr"),
        (
            ("-o", "OUT/r.mrc", *TILTS, "--method", "isonet", "--patch", "18"),
            "patch must be a multiple of 4",
        ),
        (("-o", "OUT/r.mrc", *TILTS, "--resume"), "no run to resume"),
        (
            ("-o", "OUT/r.mrc", *TILTS, "--halves", "even.mrc", "even.mrc"),
            "even.mrc and .*even.mrc: hold the same values",
        ),
        (
            ("-o", "OUT/r.mrc", *TILTS, "--halves", "even.mrc", "OUT/short.mrc"),
            "short.mrc: has shape .* halves lie on the grid",
        ),
        (
            ("-o", "OUT/r.mrc", *TILTS, "--halves", "even.mrc", "OUT/coarse.mrc"),
            "coarse.mrc: has voxels of 20 A",
        ),
        (
            ("-o", "OUT/r.mrc", *TILTS, "--halves", "even.mrc", "OUT/nowhere.mrc"),
            "nowhere.mrc: no such file",
        ),
    ],
)
def test_mistakes_are_named_before_work_starts(run, files, tmp_path, words, complaint):
    odd = io.read_mrc(files / "odd.mrc").density
    io.write_mrc(tmp_path / "short.mrc", odd[:-1], voxel_size=10.0)
    io.write_mrc(tmp_path / "coarse.mrc", odd, voxel_size=20.0)
    given = [
        tmp_path / w[4:] if w.startswith("OUT/") else files / w if w == "even.mrc" else w
        for w in words
    ]
    status, _, said = run("restore", files / "tomogram.mrc", *given)
    assert status == 2
    assert pytest.importorskip("re").search(complaint, said), said
    assert {p.name for p in tmp_path.iterdir()} == {"short.mrc", "coarse.mrc"}


def test_by_default_it_is_the_wiener_filter_and_what_was_fitted_restores_again(
    run, files, filtered, tmp_path
):
    """Neither needs a tilt range, without which nothing is said of the wedge."""
    halves = ("--halves", files / "even.mrc", files / "odd.mrc")
    words = ("restore", files / "tomogram.mrc", *halves, "-o", tmp_path / "r.mrc")
    status, _, said = run(*words)
    assert status == 0, said
    expected = io.read_mrc(filtered.with_suffix(".mrc")).density
    np.testing.assert_array_equal(io.read_mrc(tmp_path / "r.mrc").density, expected)
    audit = json.loads((tmp_path / "r.run" / "audit.json").read_text())
    assert audit["filled_overall"] is None and audit["agreement_overall"] > 0.5
    words = ("restore", files / "tomogram.mrc", "--model", filtered, "-o", tmp_path / "again.mrc")
    status, _, said = run(*words)
    assert status == 0, said
    np.testing.assert_array_equal(io.read_mrc(tmp_path / "again.mrc").density, expected)


def test_a_constant_volume_is_refused(run, files, tmp_path):
    io.write_mrc(tmp_path / "flat.mrc", np.ones((16, 16, 16), np.float32), voxel_size=10.0)
    status, _, said = run("restore", tmp_path / "flat.mrc", "-o", tmp_path / "r.mrc", *TILTS)
    assert status == 2 and "flat.mrc: the volume is constant" in said
    shutil.rmtree(tmp_path)
