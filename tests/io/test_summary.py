"""What the `info` command will say about a file."""

import numpy as np
import pytest

from cryojax_seg.io import FileError, ModelCard, describe, save_model, write_mrc
from cryojax_seg.segmenters import GlobalThreshold


def test_tomogram(mrc_bytes, put, phantom):
    phantom[0, 0, 0] = np.nan
    path = put("t.mrc", mrc_bytes(phantom, nxstart=4, origin=(1, 2, 3), cella=(5, 4, 3)))
    found = describe(path)
    assert found.kind == "tomogram" and found.path == str(path)
    assert found.facts["shape (z, y, x)"] == "3 x 4 x 5"
    assert found.facts["voxel size (z, y, x)"] == "1, 1, 1 A"
    assert found.facts["start (z, y, x)"] == "0, 0, 4 voxels"
    assert found.facts["origin (z, y, x)"] == "3, 2, 1 A"
    assert found.facts["extent (z, y, x)"] == "0.3, 0.4, 0.5 nm"
    assert found.facts["range"] == "-39 to 47"
    assert len(found.warnings) == 2
    assert found.warnings[0].startswith("voxel size is exactly 1 A")
    assert found.warnings[1] == "1 of 60 voxels are NaN or infinite"


def test_given_voxel_size(mrc_bytes, put, phantom):
    found = describe(put("t.mrc", mrc_bytes(phantom, cella=(5, 4, 3))), voxel_size=20.0)
    assert found.facts["voxel size (z, y, x)"] == "20, 20, 20 A" and found.warnings == ()


def test_constant_volume(mrc_bytes, put):
    path = put("t.mrc", mrc_bytes(np.ones((3, 4, 5), np.float32), cella=(0, 0, 0)))
    assert [w.split(";")[0] for w in describe(path).warnings] == [
        "all voxels have the same value",
        "voxel size unknown",
    ]


def test_labels(tmp_path):
    values = np.zeros((2, 2, 5), np.uint8)
    values[0, 0], values[0, 1, 0] = 255, 1
    write_mrc(tmp_path / "l.mrc", values, voxel_size=10.0)
    found = describe(tmp_path / "l.mrc")
    assert found.kind == "labels"
    assert found.facts["values"] == "0 (70.00 %), 1 (5.00 %), 255 (25.00 %)"


def test_model(tmp_path):
    card = ModelCard(voxel_size=(10.0, 10.0, 10.0), provenance={"steps": 7})
    save_model(tmp_path / "m", GlobalThreshold(2.0), card)
    found = describe(tmp_path / "m")
    assert found.kind == "model" and found.warnings == ()
    assert found.facts["class"] == "GlobalThreshold"
    assert found.facts["parameters"] == "2"
    assert found.facts["training steps"] == "7"
    assert "threshold=2.0" in found.facts["arguments"]


def test_neither(tmp_path):
    with pytest.raises(FileError, match="folder without model.json"):
        describe(tmp_path)
    with pytest.raises(FileError, match="no such file"):
        describe(tmp_path / "absent")
