"""Tables that other programs wrote, in ``extract`` and ``average``: right, or refused in a line."""

import json

import numpy as np
import pytest

from cryojax_seg import io
from cryojax_seg.core import Particles

SHAPE, EDGE, VOXEL = (20, 40, 40), 8, 10.0
MINE, OTHERS = [[10.0, 12, 13], [9, 20, 30]], [[10.0, 30, 11], [8, 33, 33], [11, 8, 33]]


@pytest.fixture(scope="module")
def tomogram(tmp_path_factory):
    """Noise with a dark voxel at each of two particles."""
    path = tmp_path_factory.mktemp("tables") / "TS_1.mrc"
    density = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    for z, y, x in MINE:
        density[int(z), int(y), int(x)] = -50
    io.write_mrc(path, density, voxel_size=VOXEL)
    return path


def middles(path):
    """The voxel of each box that its particle is at, the brightest if the place is right."""
    return io.read_boxes(path)[:, EDGE // 2, EDGE // 2, EDGE // 2]


def star(path, optics, labels, rows):
    """A STAR file of these rows of numbers and words."""
    columns = zip(*[[str(word) for word in row] for row in rows], strict=True)
    blocks = {"optics": {k: (str(v),) for k, v in optics.items()}} if optics else {}
    io.write_star(path, {**blocks, "particles": dict(zip(labels, columns, strict=True))})
    return path


XYZ = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")


@pytest.mark.parametrize("label", ["rlnMicrographName", "rlnTomoName"])
@pytest.mark.parametrize("form", ["{}.tomostar", "{}.mrc.tomostar", "rec_{}.mrc", "{}_10.00Apx"])
def test_only_particles_of_this_tomogram_are_cut_out(run, tomogram, tmp_path, label, form):
    rows = [[x, y, z, form.format("TS_1")] for z, y, x in MINE]
    rows += [[x, y, z, form.format("TS_10")] for z, y, x in OTHERS]
    table = star(tmp_path / "all.star", {}, (*XYZ, label), rows)
    out = tmp_path / "b.mrcs"
    status, printed, said = run("extract", tomogram, table, "--edge", EDGE, "-o", out)
    assert status == 0 and "extracted: 2 boxes" in printed and "2 of 5 particles" in said
    assert (middles(out) > 10).all()


def test_names_that_match_nothing_are_listed_and_chosen_by_option(run, tomogram, tmp_path):
    rows = ["0 " * 19 + f"7 0 0 0 {x + 1} {y + 1} {z + 1}\n" for z, y, x in MINE]
    rows += ["0 " * 19 + f"8 0 0 0 {x + 1} {y + 1} {z + 1}\n" for z, y, x in OTHERS]
    (tmp_path / "crop.tbl").write_text("".join(rows))
    words = ("extract", tomogram, tmp_path / "crop.tbl", "--edge", EDGE, "-o", tmp_path / "b.mrcs")
    status, _, said = run(*words)
    assert status == 2 and "none of which is called TS_1 (7, 8)" in said and "--name" in said
    assert not (tmp_path / "b.mrcs").exists()
    assert run(*words, "--name", "7")[0] == 0
    assert len(middles(tmp_path / "b.mrcs")) == 2 and (middles(tmp_path / "b.mrcs") > 10).all()


def test_picks_are_found_again_whatever_the_file_is_called(run, tmp_path):
    """Names with dots and spaces went into the table as the part before the first of them."""
    volume = np.zeros((16, 16, 16), np.float32)
    volume[7:10, 7:10, 7:10] = 0.9
    for name in ("a b_10.00Apx.mrc", "a b_10.00Apx.ribosome.probability.mrc"):
        io.write_mrc(tmp_path / name, volume, voxel_size=VOXEL)
        picks = tmp_path / "picks.star"
        words = ("--diameter", "30", "--method", "regions", "--overwrite")
        assert run("pick", tmp_path / name, "-o", picks, *words)[0] == 0
        assert set(io.read_table(picks).columns["rlnTomoName"]) == {"a_b_10.00Apx"}
        picked = io.read_table(picks)
        other = picked.columns | {"rlnTomoName": ("a_b_20.00Apx",)}
        joined = {label: (*word, *other[label]) for label, word in picked.columns.items()}
        (tmp_path / "both.star").unlink(missing_ok=True)
        io.write_star(tmp_path / "both.star", {**picked.tables, "particles": joined})
        words = ("extract", tmp_path / "a b_10.00Apx.mrc", tmp_path / "both.star", "--edge", EDGE)
        status, printed, said = run(*words, "-o", tmp_path / "b.mrcs", "--overwrite")
        assert status == 0 and "extracted: 1 boxes" in printed, said
        assert io.read_table(tmp_path / "b.star").columns["rlnTomoName"] == ("a_b_10.00Apx",)


def test_coordinates_of_the_tilt_series_are_scaled_or_said(run, tomogram, tmp_path):
    out = tmp_path / "b.mrcs"
    rows = [[2 * x, 2 * y, 2 * z] for z, y, x in MINE]
    scaled = star(tmp_path / "s.star", {"rlnTomoTiltSeriesPixelSize": 5.0}, XYZ, rows)
    status, _, said = run("extract", tomogram, scaled, "--edge", EDGE, "-o", out)
    assert status == 0 and "5 A (rlnTomoTiltSeriesPixelSize); scaled to 10 A" in said
    assert (middles(out) > 10).all()
    again = io.read_particles(tmp_path / "b.star", voxel_size=VOXEL)
    np.testing.assert_allclose(again.coordinates, MINE)
    named = [[*row, f"{i}@old.mrcs"] for i, row in enumerate(rows, 1)]
    boxes = star(tmp_path / "o.star", {"rlnImagePixelSize": 5.0}, (*XYZ, "rlnImageName"), named)
    words = ("extract", tomogram, boxes, "--edge", EDGE, "-o", out, "--overwrite")
    status, _, said = run(*words)
    assert status == 2 and "5 A (rlnImagePixelSize)" in said and "10 A" in said
    assert run(*words, "--coordinates-voxel-size", "5")[0] == 0
    assert (middles(out) > 10).all()


def test_boxes_outside_of_the_volume_are_not_written(run, tomogram, tmp_path):
    table = star(tmp_path / "p.star", {}, XYZ, [[13, 12, 10], [26, 24, 20], [-1, 12, 10]])
    words = ("extract", tomogram, table, "--edge", EDGE, "-o", tmp_path / "b.mrcs")
    status, printed, said = run(*words)
    assert status == 0 and "extracted: 1 boxes" in printed
    assert "2 of 3 particles are centred outside" in said and "does not say in which pixels" in said
    out = star(tmp_path / "q.star", {"rlnMicrographPixelSize": 10.0}, XYZ, [[800, 800, 800]])
    status, _, said = run("extract", tomogram, out, *words[3:], "--overwrite")
    assert status == 2 and "1 of 1 particles" in said and "--coordinates-voxel-size" in said
    assert "10 A; the coordinates are in pixels of 10 A (rlnMicrographPixelSize)" in said


def test_a_table_is_not_replaced_by_that_of_its_boxes(run, tomogram, tmp_path):
    table = star(tmp_path / "X.star", {}, XYZ, [[13, 12, 10]])
    before = table.read_bytes()
    words = ("extract", tomogram, table, "--edge", EDGE, "-o", tmp_path / "X.mrcs")
    for more in ((), ("--overwrite",)):
        status, _, said = run(*words, *more)
        assert status == 2 and "X.star: is the table of particles" in said and "X_new.star" in said
    assert table.read_bytes() == before and not (tmp_path / "X.mrcs").exists()


def test_an_average_does_not_replace_the_table_of_its_boxes(run, boxes, tmp_path):
    table = star(tmp_path / "a.star", {}, POSED, rows_for(boxes[1], range(12)))
    words = ("average", boxes[0], "--particles", table, "--tilt-range", "-90", "90", "--overwrite")
    status, _, said = run(*words, "-o", tmp_path / "a.mrc")
    assert status == 2 and "a.star: is the table of particles itself" in said
    assert len(io.read_table(table)) == 12 and not (tmp_path / "a.mrc").exists()


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """Twelve boxes with a blob whose side tells how far it was turned about the beam."""
    path = tmp_path_factory.mktemp("boxes") / "boxes.mrcs"
    grid = np.indices((EDGE,) * 3) - EDGE // 2
    turns = np.arange(12) % 4
    data = []
    for turn in turns:
        y, x = [(0, 2), (2, 0), (0, -2), (-2, 0)][turn]
        place = np.array([0, y, x])[:, None, None, None]
        data.append(np.exp(-np.square(grid - place).sum(0) / 2.0).astype(np.float32))
    io.write_boxes(path, iter(data), 12, EDGE, VOXEL)
    return path, turns


def rows_for(turns, order, name="boxes.mrcs"):
    """Poses that turn each box back: psi turns from x to minus y."""
    return [[20, 20, 20, f"{i + 1:06d}@{name}", 0, 0, -90.0 * turns[i]] for i in order]


POSED = (*XYZ, "rlnImageName", "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")


@pytest.mark.parametrize("order", [range(12), (5, 0, 11, 2, 9, 4, 7, 6, 1, 8, 3, 10), range(1, 11)])
def test_each_row_is_averaged_with_the_box_it_names(run, boxes, tmp_path, order):
    path, turns = boxes
    table = star(tmp_path / "p.star", {}, POSED, rows_for(turns, order))
    words = ("average", path, "--particles", table, "--tilt-range", "-90", "90")
    status, _, said = run(*words, "-o", tmp_path / "a.mrc")
    assert status == 0, said
    found = io.read_mrc(tmp_path / "a.mrc").density
    middle = EDGE // 2
    assert np.unravel_index(found.argmax(), found.shape) == (middle, middle, middle + 2)
    assert found.max() == pytest.approx(1.0, abs=0.05)
    table = star(tmp_path / "q.star", {}, POSED, rows_for(turns, order, "other.mrcs"))
    words = ("average", path, "--particles", table, "--tilt-range", "-90", "90")
    status, _, said = run(*words, "-o", tmp_path / "b.mrc")
    assert status == 2 and "q.star: row 1 names the box" in said


def test_a_table_of_relion_5_needs_no_tomogram_and_keeps_its_places(run, boxes, tmp_path):
    """Shifts move the particle in its box, and those found are written as shifts."""
    path, turns = boxes
    labels = [f"rlnCenteredCoordinate{a}Angst" for a in "XYZ"]
    labels += ["rlnImageName", "rlnOriginXAngst", "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
    rows = [[-55.5, 20, 7.25, f"{i + 1}@boxes.mrcs", -20, 0, 0, 0] for i in range(0, 12, 4)]
    table = star(tmp_path / "p.star", {"rlnTomoTiltSeriesPixelSize": 2.5}, labels, rows)
    words = ("average", path, "--particles", table, "--tilt-range", "-90", "90")
    status, printed, said = run(*words, "-o", tmp_path / "a.mrc")
    assert status == 0 and "too few for a resolution, which needs 10 or more" in printed, said
    assert " A at FSC" not in printed
    assert json.loads((tmp_path / "a.json").read_text())["resolution_angstrom"] is None
    found = io.read_mrc(tmp_path / "a.mrc").density
    assert np.unravel_index(found.argmax(), found.shape) == (EDGE // 2,) * 3
    new = io.read_star(tmp_path / "a.star")
    assert [float(w) for w in new["particles"][labels[0]]] == [-55.5] * 3
    assert [float(w) for w in new["particles"]["rlnOriginXAngst"]] == [-20.0] * 3
    assert new["optics"]["rlnTomoTiltSeriesPixelSize"] == ("2.5",)
    assert new["optics"]["rlnImagePixelSize"] == ("10.0",)


@pytest.mark.parametrize(
    ("optics", "label", "value", "complaint"),
    [
        ({"rlnImageDimensionality": 2}, "myLabel", 0, "are 2D stacks .rlnImageDimensionality 2"),
        ({}, "rlnTomoSubtomogramRot", 30, "its boxes are turned"),
    ],
)
def test_images_that_are_no_boxes_of_the_tomogram_are_named(
    run, boxes, tmp_path, optics, label, value, complaint
):
    path, turns = boxes
    rows = [[*row, value] for row in rows_for(turns, range(12))]
    table = star(tmp_path / "p.star", optics, (*POSED, label), rows)
    words = ("average", path, "--particles", table, "--tilt-range", "-90", "90")
    status, _, said = run(*words, "-o", tmp_path / "a.mrc")
    assert status == 2 and pytest.importorskip("re").search(complaint, said), said
    assert not (tmp_path / "a.mrc").exists()


def test_info_tells_of_several_files_and_goes_on_after_a_bad_one(run, tomogram, boxes, tmp_path):
    table = star(tmp_path / "p.star", {}, XYZ, [[13, 12, 10]])
    status, printed, said = run("info", tomogram, table, boxes[0])
    assert status == 0, said
    assert f"{tomogram}: tomogram" in printed and f"{table}: particles" in printed
    assert f"{boxes[0]}: boxes" in printed
    status, printed, said = run("info", tmp_path / "none.mrc", table, "--json")
    assert status == 2 and "none.mrc: no such file" in said
    assert [one["kind"] for one in json.loads(printed)] == ["particles"]
    assert json.loads(run("info", table, "--json")[1])["facts"]["particles"] == "1"


@pytest.mark.parametrize("form", ["star", "relion5", "tbl", "csv", "mod", "json"])
def test_one_class_of_a_table_is_cut_out(run, tomogram, tmp_path, form):
    where, classes = np.array([[12.0, 14, 16], [14, 16, 12], [16, 12, 14]]), [2, 1, 2]
    picks = Particles(where, classes=classes, voxel_size=VOXEL)
    table = tmp_path / f"p.{'star' if form == 'relion5' else form}"
    shape = io.read_tomogram(tomogram).density.shape
    if form == "json":  # of EMAN2, which counts from the middle
        middle = np.array(shape) // 2
        boxes = [
            [*(int(v) for v in (place - middle)[::-1]), "manual", 0.5, kind]
            for place, kind in zip(where, classes, strict=True)
        ]
        table.write_text(json.dumps({"apix_unbin": VOXEL, "boxes_3d": boxes}))
    else:
        io.write_particles(table, picks, "relion5" if form == "relion5" else None, shape)
    words = ("extract", tomogram, table, "--edge", EDGE, "-o", tmp_path / "b.mrcs")
    status, printed, said = run(*words, "--class", 2)
    assert status == 0 and "extracted: 2 boxes" in printed, said
    found = io.read_particles(tmp_path / "b.star", VOXEL, shape)
    order = np.argsort(found.coordinates[:, 0])
    np.testing.assert_allclose(found.coordinates[order], where[[0, 2]], atol=1e-4)
    status, _, said = run(*words, "--class", 3, "--overwrite")
    assert status == 2 and "has no particle of the class 3; it has 1 (1), 2 (2)" in said


def test_a_class_of_a_table_without_classes_is_refused(run, tomogram, tmp_path):
    point = {"type": "point", "location": {"x": 12.0, "y": 13.0, "z": 14.0}}
    (tmp_path / "p.ndjson").write_text(json.dumps(point) + "\n")
    words = ("extract", tomogram, tmp_path / "p.ndjson", "--edge", EDGE, "-o", tmp_path / "b.mrcs")
    status, _, said = run(*words, "--class", 1)
    assert status == 2 and "has no column of classes; leave the class out (--class)" in said
    status, printed, said = run(*words)
    assert status == 0 and "extracted: 1 boxes" in printed, said
