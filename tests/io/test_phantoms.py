"""Phantoms as folders of files, written from Python."""

import json

import jax
import numpy as np
import pytest

from cryojax_seg import io
from cryojax_seg.errors import ParameterError
from cryojax_seg.simulate import Scene, WedgeImaging, simulate

IMAGING = WedgeImaging(sigma=1.0)


def make(number):
    return simulate(Scene((), (8, 9, 10), 10.0), IMAGING, jax.random.key(number))


def test_a_phantom_is_written_dark_with_its_truth(tmp_path):
    phantom = make(3)
    io.write_phantom(tmp_path / "one", phantom, imaging=IMAGING, facts={"number": 3})
    written = io.read_mrc(tmp_path / "one" / "tomogram.mrc")
    np.testing.assert_array_equal(written.density, -np.asarray(phantom.density))
    assert written.voxel_size == (10.0, 10.0, 10.0)
    truth = json.loads((tmp_path / "one" / "truth.json").read_text())
    assert truth["number"] == 3 and truth["imaging"]["kind"] == "WedgeImaging"
    assert truth["objects"] == [] and truth["wedge"]["tilt_range"] == [-60, 60]
    with pytest.raises(io.FileError, match="exists already"):
        io.write_phantom(tmp_path / "one", phantom)
    io.write_phantom(tmp_path / "one", make(4), overwrite=True)
    other = io.read_mrc(tmp_path / "one" / "tomogram.mrc").density
    assert not np.array_equal(other, written.density)


def test_a_series_goes_on_where_it_was_interrupted(tmp_path):
    asked, seen = [], []

    def interrupted(number):
        asked.append(number)
        if number == 2 and asked.count(2) == 1:
            raise KeyboardInterrupt
        return make(number)

    config = {"seed": 1, "shape": (8, 9, 10)}
    with pytest.raises(KeyboardInterrupt):
        io.write_phantoms(tmp_path, "empty", 3, interrupted, config=config)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/tomogram.mrc")}
    assert len(before) == 2
    made = io.write_phantoms(
        tmp_path, "empty", 3, interrupted, config=config, progress=lambda *steps: seen.append(steps)
    )
    assert made == 1 and asked == [0, 1, 2, 2] and seen == [(0, 1), (1, 1)]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    with pytest.raises(io.FileError, match="not made with these options"):
        io.write_phantoms(tmp_path, "empty", 3, make, config={"seed": 2}, resume=True)
    with pytest.raises(io.FileError, match="exists already"):
        io.write_phantoms(tmp_path, "empty", 3, make, config=config)
    assert io.write_phantoms(tmp_path, "empty", 3, make, config={"seed": 2}, overwrite=True) == 3


def test_files_that_are_read_count_by_their_content(tmp_path):
    ball = np.square(np.indices((9, 9, 9)) - 4).sum(0) < 9
    for name, factor in (("a", 1.0), ("b", 2.0)):
        (tmp_path / name).mkdir()
        io.write_mrc(tmp_path / name / "ball.mrc", ball * np.float32(factor), voxel_size=10.0)
    first, other = (tmp_path / name / "ball.mrc" for name in "ab")
    assert list(io.read_density_maps([first])) == ["ball"]
    out = tmp_path / "out"
    assert io.write_phantoms(out, "empty", 1, make, inputs=[first]) == 1
    moved = first.rename(first.parent.parent / "ball.mrc")
    assert io.write_phantoms(out, "empty", 2, make, inputs=[moved]) == 1
    with pytest.raises(io.FileError, match="not made with these options"):
        io.write_phantoms(out, "empty", 2, make, inputs=[other], resume=True)


def test_no_phantom_is_no_series(tmp_path):
    with pytest.raises(ParameterError) as refused:
        io.write_phantoms(tmp_path / "out", "empty", 0, make)
    assert refused.value.parameters == ("count",) and not (tmp_path / "out").exists()
