"""Slices with outlines and numbers, surfaces, units, and the pages that show them."""

import base64
import json
import re

import numpy as np
import pytest

from cryojax_seg import io, measure, report
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.report import slices, surfaces, units
from cryojax_seg.report.planes import LabelPlanes, MeasuredPlanes

GRID = np.indices((24, 30, 40)).astype(float)


@pytest.fixture(scope="module")
def scene():
    """Two vesicles, one with a granule, on a noisy tomogram."""
    labels = np.zeros(GRID.shape[1:], np.int8)
    for x in (10, 29):
        away = np.linalg.norm(GRID - np.reshape((12, 14, x), (3, 1, 1, 1)), axis=0)
        labels[abs(away - 7) < 1.3] = 1
        if x == 10:
            labels[away < 3] = 2
    noise = np.random.default_rng(0).normal(size=labels.shape)
    volume = Tomogram(labels, (10.0, 10.0, 10.0), name="l.mrc")
    classes = [
        measure.ObjectClass("membrane", 1, "membrane"),
        measure.ObjectClass("granule", 2, "organelle"),
    ]
    found = measure.measure_classes(labels, (10.0,) * 3, classes, smallest=20)
    return found, volume, Tomogram((noise - 2.0 * (labels > 0)).astype(np.float32), (10.0,) * 3)


def test_outlines_and_numbers_lie_where_the_objects_are(scene):
    found, volume, tomogram = scene
    planes = MeasuredPlanes(found, volume.density.shape)
    pictures = slices.slices_of(slices.Picture.of(tomogram.density), planes)
    middle = next(p for p in pictures["z"] if p["at"] == 12)
    marks = {(text, hue): (x, y) for text, hue, x, y in middle["marks"]}
    assert set(marks) == {("1", 1), ("2", 1), ("1", 2)}
    x, y = marks["1", 2]
    assert x == pytest.approx(100 * 10.5 / 40, abs=2) and y == pytest.approx(100 * 14.5 / 30, abs=2)
    assert not pictures["z"][0]["marks"]
    assert len(pictures["zp"][0]["marks"]) == 3
    hues, owns = planes.plane(1, 14)
    np.testing.assert_array_equal(hues > 0, volume.density[:, 14] > 0)
    assert len(np.unique(owns)) == 4


def test_filaments_have_their_numbers_where_their_axes_are():
    labels = np.zeros(GRID.shape[1:], np.int8)
    labels[5:8, 8:11, :], labels[14:17, :, 20:23] = 1, 1
    actin = measure.ObjectClass("actin", 1, "filament")
    found = measure.measure_classes(labels, (10.0,) * 3, [actin])
    pictures = slices.slices_of(None, MeasuredPlanes(found, labels.shape))
    assert [row["at_border"] for row in found.rows()] == [True, True]
    (along_x,) = next(p for p in pictures["z"] if p["at"] == 6)["marks"]
    assert along_x[:2] == ["1", 1] and along_x[2] == pytest.approx(50, abs=4)
    assert along_x[3] == pytest.approx(100 * 9.5 / 30, abs=2)
    crossed = next(p for p in pictures["x"] if p["at"] == 7)["marks"]
    assert [text for text, *_ in crossed] == ["1"]  # the other lies in other slices along x
    assert {text for text, *_ in pictures["zp"][0]["marks"]} == {"1", "2"}


def test_surfaces_have_the_size_of_the_objects():
    ball = np.linalg.norm(GRID[:, :20, :20, :20] - 9.5, axis=0) < 8
    for most in (10**6, 500):
        found = surfaces.surfaces(lambda: [(1, "a", (4, 10, 20), ball)], (24, 30, 40), most)
        points = np.frombuffer(base64.b64decode(found["vertices"]), "<u2").reshape(-1, 3)
        points = points[:, ::-1] * (40 / 65535)
        middle = (points.max(0) + points.min(0)) / 2
        assert middle == pytest.approx((13.5, 19.5, 29.5), abs=0.5)
        assert points.max(0) - points.min(0) == pytest.approx(16, abs=1.5)
        triangles = np.frombuffer(base64.b64decode(found["triangles"]), "<u4")
        assert triangles.max() < len(points) and found["parts"][0]["count"] == len(triangles)
    assert len(triangles) / 3 < 1000
    assert surfaces.surfaces(list, (4, 4, 4)) is None


def test_the_page_links_each_object_and_mixes_no_units(scene, tmp_path):
    found, volume, tomogram = scene
    report.write_measurements(tmp_path / "m", found, volume, tomogram=tomogram)
    page = (tmp_path / "m" / "report.html").read_text()
    assert not re.search(r"https?://(?!www\.w3\.org)", page) and page.count("data:image/jpeg") > 50
    assert page.count('<a href="#slices"') == 6 and 'data-name="granule 1"' in page
    assert page.count('<img src="data:image/jpeg') == 3  # thumbnails
    data = json.loads(re.search(r"const SCENE = (.*?);</script>", page)[1])
    assert [p["name"] for p in data["surfaces"]["parts"]] == [
        "membrane 1",
        "membrane 2",
        "granule 1",
    ]
    tables = page.partition("<script>")[0]
    assert not re.search(
        r"\d[eE][-+]\d\d", re.sub(r'"data:[^"]*"|<svg.*?</svg>', "", tables, flags=re.S)
    )
    assert (
        "area (nm²)" in tables
        and "membrane 1" in tables
        and "um" not in re.findall(r">([^<]*)<", tables)
    )


def test_a_page_of_a_segmentation_names_the_model(scene, tmp_path):
    _, volume, tomogram = scene
    card = io.LabelCard(("membrane", "granule"), model="cell-fast", thresholds=(0.6, 0.5))
    io.write_mrc(tmp_path / "l.mrc", volume.density, volume, card=card)
    io.write_mrc(tmp_path / "t.mrc", tomogram.density, volume)
    report.write_segmentation_page(tmp_path / "r.html", tmp_path / "l.mrc", tmp_path / "t.mrc")
    page = (tmp_path / "r.html").read_text()
    assert "model cell-fast, threshold 0.6, 0.5" in page and "<script>const SCENE" in page
    share = 100 * np.mean(volume.density == 1)
    assert f"{units.number(float(share))} %" in page
    with pytest.raises(io.FileError, match="exists"):
        report.write_segmentation_page(tmp_path / "r.html", tmp_path / "l.mrc", tmp_path / "t.mrc")


def test_an_average_as_a_page(tmp_path):
    blob = np.exp(-(np.square(np.indices((16, 16, 16)) - 7.5).sum(0)) / 20).astype(np.float32)
    for name in ("a", "h1", "h2"):
        io.write_mrc(tmp_path / f"{name}.mrc", blob, voxel_size=8.0)
    fsc = {f"fsc_{name}": [1.0, 0.5, None] for name in ("unmasked", "masked", "corrected")}
    scores = {
        "particles": 1234,
        "resolution_angstrom": 21.5,
        "frequency_per_angstrom": [0, 0.02, 0.04],
    }
    (tmp_path / "a.json").write_text(json.dumps(scores | fsc))
    halves = (tmp_path / "h1.mrc", tmp_path / "h2.mrc")
    report.write_average_page(tmp_path / "r.html", tmp_path / "a.mrc", halves, tmp_path / "a.json")
    page = (tmp_path / "r.html").read_text()
    assert "1,234 particles, 16 voxels of 0.8 nm; 2.15 nm at an FSC of 0.143" in page
    assert 'aria-label="Fourier shell correlation of the halves"' in page


def test_projections_of_labels_leave_out_what_hides_the_others():
    labels = np.zeros((8, 20, 20), np.int8)
    labels[0] = 3  # covers all in z, and little along y
    labels[2:4, 4:8, 4:8], labels[5, 5, :] = 1, 2
    planes = LabelPlanes(labels)
    along_z, _ = planes.projection(0)
    assert np.unique(along_z).tolist() == [0, 1, 2] and (along_z[5] == 2).sum() == 20 - 4
    assert (along_z == 1).sum() == 4 * 4  # the smaller class lies on top
    along_y, _ = planes.projection(1)
    assert (along_y[0] == 3).all() and (along_y[2:4, 4:8] == 1).all()
    alone, _ = LabelPlanes(np.ones((2, 3, 4), np.int8)).projection(2)
    assert (alone == 1).all()
