"""What the `info` command will say about a file."""

import mrcfile
import numpy as np
import pytest

from cryojax_seg.io import FileError, ModelCard, describe, save_model, write_boxes, write_mrc
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
        "cell is 0: voxel size unknown",
        "all voxels have the same value",
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
    assert found.facts["class"] == "segmenters.GlobalThreshold"
    assert found.facts["parameters"] == "2"
    assert found.facts["training steps"] == "7"
    assert "threshold=2.0" in found.facts["arguments"]


def test_neither(tmp_path):
    with pytest.raises(FileError, match="folder without model.json"):
        describe(tmp_path)
    with pytest.raises(FileError, match="no such file"):
        describe(tmp_path / "absent")


def test_boxes_and_images(tmp_path):
    cubes = np.zeros((3, 6, 6, 6), np.float32)
    write_boxes(tmp_path / "b.mrcs", iter(cubes), 3, 6, 13.48)
    write_boxes(tmp_path / "f", iter(cubes), 3, 6, 13.48)
    for name in ("b.mrcs", "f"):
        found = describe(tmp_path / name)
        assert found.kind == "boxes" and found.warnings == ()
        assert found.facts["boxes"] == "3" and found.facts["size (z, y, x)"] == "6 x 6 x 6 voxels"
        assert found.facts["voxel size"] == "13.48 A" and found.facts["table"] == "none"
    with mrcfile.new(tmp_path / "s.mrcs") as file:
        file.set_data(np.zeros((3, 8, 9), np.float32))
        file.set_image_stack()
    found = describe(tmp_path / "s.mrcs")
    assert found.kind == "2D stack" and found.facts["size (y, x)"] == "8 x 9 pixels"
    assert "2D-stack particle of RELION 5" in found.warnings[0]


def test_tables_of_particles(tmp_path):
    text = "data_\nloop_\n" + "".join(f"_rlnCoordinate{axis}\n" for axis in "XYZ")
    text += "_rlnMicrographName\n_rlnDetectorPixelSize\n1 2 3 TS_1 5\n4 5 6 TS_2 5\n7 8 9 TS_2 5\n"
    (tmp_path / "p.star").write_text(text)
    found = describe(tmp_path / "p.star")
    assert found.kind == "particles" and found.warnings == ()
    assert found.facts["form"] == "RELION, pixels from a corner"
    assert found.facts["particles"] == "3"
    assert found.facts["tomograms"] == "2 in rlnMicrographName: TS_2 (2), TS_1 (1)"
    assert found.facts["pixels"] == "5 A (rlnDetectorPixelSize)"
    assert found.facts["coordinates (z, y, x)"] == "3 to 9, 2 to 8, 1 to 7"
    (tmp_path / "p.csv").write_text("z;y;x;run\n1,5;2;3;a\n")
    found = describe(tmp_path / "p.csv")
    assert found.facts["coordinates (z, y, x)"] == "1.5 to 1.5, 2 to 2, 3 to 3"
    assert found.facts["tomograms"] == "1 in run: a (1)" and found.facts["form"].startswith("CSV")
    (tmp_path / "tomograms.star").write_text("data_global\nloop_\n_rlnTomoName\nTS_1\nTS_2\n")
    found = describe(tmp_path / "tomograms.star")
    assert found.kind == "table" and "no coordinates" in found.warnings[0]
    assert found.facts["table"] == "2 rows: rlnTomoName"


def test_a_table_that_is_taken_for_a_volume_is_named(tmp_path):
    (tmp_path / "t.mrc").write_text("\ndata_particles\n")
    with pytest.raises(FileError, match="t.mrc: not an MRC file but a STAR file"):
        describe(tmp_path / "t.mrc")
