"""``cryojax-seg restore``: what it writes, and what it refuses."""

import json
import shutil

import numpy as np
import pytest

from cryojax_seg import io

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
    assert "what the restored volume owes to the data" in printed
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


@pytest.mark.parametrize(
    "words, complaint",
    [
        (("-o", "OUT/r.mrc"), "--tilt-range LO HI is needed"),
        (("-o", "OUT/r.mrc", *TILTS, "--method", "n2n"), "n2n needs --halves EVEN ODD"),
        (("-o", "OUT/r.tif", *TILTS), "ends in .mrc or .zarr"),
        (("-o", "OUT/r.mrc", *TILTS, "--patch", "18"), "--patch must be a multiple of 4"),
        (("-o", "OUT/r.mrc", *TILTS, "--resume"), "no run to --resume"),
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


def test_a_constant_volume_is_refused(run, files, tmp_path):
    io.write_mrc(tmp_path / "flat.mrc", np.ones((16, 16, 16), np.float32), voxel_size=10.0)
    status, _, said = run("restore", tmp_path / "flat.mrc", "-o", tmp_path / "r.mrc", *TILTS)
    assert status == 2 and "flat.mrc: the volume is constant" in said
    shutil.rmtree(tmp_path)
