"""The command that measures labels: files, refusals and what the numbers are."""

import csv
import json

import numpy as np
import pytest

from cryojax_seg import io
from cryojax_seg.core import Tomogram

VOXEL = 10.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two concentric vesicles and a ball, as labels, with probabilities and a tomogram."""
    path = tmp_path_factory.mktemp("measure these")
    points = np.indices((40, 40, 64)) - np.array([19.6, 19.3, 20.2]).reshape(3, 1, 1, 1)
    away = np.linalg.norm(points, axis=0)
    ball = np.linalg.norm(points - np.array([0, 0, 32]).reshape(3, 1, 1, 1), axis=0)
    depths = [1.5 - abs(away - 8), 1.5 - abs(away - 15), 7.0 - ball]
    labels = np.zeros(away.shape, np.int8)
    for label, depth in enumerate(depths, 1):
        labels[depth >= 0] = label
        soft = 1 / (1 + np.exp(-4 * depth))
        io.write_mrc(path / f"p{label}.mrc", soft.astype(np.float32), like(soft, VOXEL))
    io.write_mrc(path / "labels.mrc", labels, like(labels, VOXEL))
    io.write_mrc(path / "unknown.mrc", labels, like(labels, None))
    io.write_mrc(path / "other.mrc", away.astype(np.float32), like(away, 13.0))
    io.write_mrc(path / "tomogram.mrc", away.astype(np.float32), like(away, VOXEL))
    io.write_mrc(path / "empty.mrc", 0 * labels, like(labels, VOXEL))
    return path


def like(values, size):
    return Tomogram(values, None if size is None else (size,) * 3)


def results(path):
    rows = list(csv.DictReader((path / "instances.csv").read_text().splitlines()))
    return rows, json.loads((path / "summary.json").read_text()), (path / "report.html").read_text()


def test_areas_volumes_and_distances(run, folder, tmp_path):
    status, printed, _ = run(
        "measure", folder / "labels.mrc", "--tomogram", folder / "tomogram.mrc",
        "--probabilities", *(folder / f"p{i}.mrc" for i in (1, 2, 3)),
        "--classes", "inner membrane", "outer membrane", "body", "--kind", "body=organelle",
        "--meshes", "ply", "-o", tmp_path / "out",
    )  # fmt: skip
    assert status == 0 and "outer membrane" in printed
    rows, summary, page = results(tmp_path / "out")
    assert [row["class"] for row in rows] == ["inner membrane", "outer membrane", "body"]
    for row, radius in zip(rows, (8, 15), strict=False):
        area = 4 * np.pi * radius**2
        assert float(row["area_nm2"]) == pytest.approx(area, rel=0.03)
        assert float(row["area_nm2_low"]) < area < float(row["area_nm2_high"])
        assert float(row["thickness_nm"]) == pytest.approx(3, abs=0.25)
        assert row["closed"] == "True"
        assert float(row["mean_curvature_per_nm"]) == pytest.approx(1 / radius, rel=0.1)
        inside = 4 / 3 * np.pi * (radius - 1.5) ** 3
        assert float(row["lumen_nm3"]) == pytest.approx(inside, rel=0.03)
    body = rows[2]
    assert float(body["volume_nm3"]) == pytest.approx(4 / 3 * np.pi * 7**3, rel=0.02)
    assert float(body["volume_nm3_low"]) < 4 / 3 * np.pi * 7**3 < float(body["volume_nm3_high"])
    assert float(body["surface_nm2"]) == pytest.approx(4 * np.pi * 49, rel=0.03)
    meshes = {path.name: path for path in (tmp_path / "out" / "meshes").iterdir()}
    assert sorted(meshes) == ["body-1.ply", "inner_membrane-1.ply", "outer_membrane-1.ply"]
    header, _, content = meshes["outer_membrane-1.ply"].read_bytes().partition(b"end_header\n")
    count = int(header.split(b"element vertex ")[1].split()[0])
    table = np.frombuffer(content, "<f4", 5 * count).reshape(-1, 5)
    np.testing.assert_allclose(table[:, :3].mean(0), [202, 193, 196], atol=3)  # x, y, z, angstrom
    assert table[:, 3].mean() == pytest.approx(1 / 15, rel=0.05)
    there = summary["distances"][0]
    assert (there["from"], there["to"]) == ("inner membrane", "outer membrane")
    assert there["mean_nm"] == pytest.approx(7, abs=0.25)
    assert there["contact_area_nm2"] == pytest.approx(float(rows[0]["area_nm2"]), rel=0.01)
    assert summary["classes"]["body"]["count"] == 1
    assert page.count("<svg") == 2 and "http" not in page.replace("http://www.w3.org", "")


def test_labels_without_a_name_or_kind(run, folder, tmp_path):
    status, _, complaints = run(
        "measure", folder / "labels.mrc", "--membranes", 1, 2, 5, "-o", tmp_path / "out"
    )
    assert status == 0 and "label 3 has no kind" in complaints
    rows, summary, _ = results(tmp_path / "out")
    assert [(row["class"], row["kind"]) for row in rows] == [
        ("label 1", "membrane"), ("label 2", "membrane"), ("label 3", "organelle"),
    ]  # fmt: skip
    assert rows[0]["area_nm2_low"] == "" and rows[0]["no_interval"] == "no probabilities"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "no intervals of sizes: no probabilities" in page
    assert "carry the bias of the segmenter (for closed membranes of membrane-fast" in page
    assert summary["classes"]["label 5"]["count"] == 0
    assert summary["classes"]["label 5"]["area_nm2"] == {"value": 0.0, "low": None, "high": None}


def test_names_tell_kinds_and_an_option_overrules_them(run, folder, tmp_path):
    words = ["--classes", "membrane_proteins", "vesicle membrane", "macromolecule"]
    status, _, complaints = run(
        "measure", folder / "labels.mrc", *words, "--kind", "membrane_proteins=membrane",
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert status == 0 and "no kind" not in complaints
    kinds = [row["kind"] for row in results(tmp_path / "out")[0]]
    assert kinds == ["membrane", "membrane", "complex"]


def test_empty_labels_give_zeros(run, folder, tmp_path):
    status, *_ = run(
        "measure", folder / "empty.mrc", "--classes", "membrane", "vesicle", "-o", tmp_path / "out"
    )
    assert status == 0
    rows, summary, _ = results(tmp_path / "out")
    assert rows == [] and summary["distances"] == []
    assert summary["classes"]["vesicle"]["surface_nm2"]["value"] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["unknown.mrc"], ["unknown.mrc", "voxel size", "--voxel-size"]),
        (
            ["labels.mrc", "--tomogram", "other.mrc"],
            ["labels.mrc", "other.mrc", "10, 10, 10", "13, 13, 13"],
        ),
        (["p1.mrc"], ["p1.mrc", "no integers"]),
        (["labels.mrc", "--kind", "1=tube"], ["--kind 1=tube", "filament"]),
        (["labels.mrc", "--probabilities", "p1.mrc"], ["1 maps for 3 classes"]),
    ],
)
def test_refusals_name_the_file_and_the_way_out(run, folder, tmp_path, words, says):
    words = [folder / w if str(w).endswith(".mrc") else w for w in words]
    status, _, complaints = run("measure", *words, "-o", tmp_path / "out")
    assert status == 2 and not (tmp_path / "out").exists()
    for word in says:
        assert word in complaints


def test_a_given_voxel_size_and_an_existing_folder(run, folder, tmp_path):
    words = ["measure", folder / "unknown.mrc", "--membranes", 1, 2, "--kind", "3=organelle"]
    assert run(*words, "--voxel-size", VOXEL, "-o", tmp_path / "out")[0] == 0
    status, _, complaints = run(*words, "--voxel-size", VOXEL, "-o", tmp_path / "out")
    assert status == 2 and "--overwrite" in complaints
    assert run(*words, "--voxel-size", 20.0, "-o", tmp_path / "out", "--overwrite")[0] == 0
    rows, *_ = results(tmp_path / "out")
    assert float(rows[0]["area_nm2"]) == pytest.approx(4 * 4 * np.pi * 64, rel=0.03)


def test_filaments_and_complexes(run, tmp_path):
    """Two straight filaments, 24 balls on a lattice, and a membrane below them."""
    labels = np.zeros((48, 64, 64), np.int8)
    z, y, x = np.indices(labels.shape)
    for line in (12, 24):
        labels[np.hypot(z - 8, y - line) < 2.4] = 1
    centres = [(zz, yy, xx) for zz in (22, 32) for yy in (8, 24, 40) for xx in (8, 24, 40, 56)]
    for centre in centres:
        away = np.linalg.norm([z - centre[0], y - centre[1], x - centre[2]], axis=0)
        labels[away < 3] = 2
    labels[44:47] = 3
    io.write_mrc(tmp_path / "labels.mrc", labels, like(labels, VOXEL))
    status, printed, said = run(
        "measure", tmp_path / "labels.mrc", "--classes", "actin", "ribosome", "membrane",
        "--meshes", "ply", "-o", tmp_path / "out",
    )  # fmt: skip
    assert status == 0, said
    rows, summary, page = results(tmp_path / "out")
    actin, ribosome = summary["classes"]["actin"], summary["classes"]["ribosome"]
    lengths = [float(row["length_nm"]) for row in rows if row["class"] == "actin"]
    np.testing.assert_allclose(lengths, 64, rtol=0.03)
    assert actin["count"] == 2 and actin["spacing_nm"]["value"] == pytest.approx(12, rel=0.05)
    volume = 48 * 64 * 64 * 1e-9
    density = actin["length_density_um_per_um3"]["value"]
    assert density == pytest.approx(2 * 0.064 / volume, rel=0.03)
    assert ribosome["count"] == len(centres)
    assert ribosome["concentration_per_um3"]["value"] == pytest.approx(24 / volume)
    own = [row for row in rows if row["class"] == "ribosome"]
    assert {float(row["nearest_neighbour_nm"]) for row in own} == {10.0}
    found = {round(float(row["membrane_distance_nm"])) for row in own}
    assert found == {44 - 22, 44 - 32}
    assert len(ribosome["pair_correlation"]["g"]) > 5
    assert "persistence length" in printed and "micromolar" in printed
    assert "ribosome: pair correlation" in page
    assert [path.name for path in (tmp_path / "out" / "meshes").iterdir()] == ["membrane-1.ply"]
    numbers = io.read_mrc(tmp_path / "out" / "instances" / "actin.mrc").density
    np.testing.assert_array_equal(numbers > 0, labels == 1)
    assert sorted(numbers[8, line, 30] for line in (12, 24)) == [1, 2]


def test_coordinates_and_meshes_lie_in_the_frame_of_the_file(run, tmp_path):
    """A crop of a volume is measured where the volume is."""
    labels = np.zeros((40, 44, 48), np.int8)
    index = np.indices(labels.shape)
    ball = np.linalg.norm(index - np.reshape((20, 26, 30), (3, 1, 1, 1)), axis=0)
    labels[abs(ball - 7) < 1.5] = 1
    labels[:, 4:8, 4:8] = 2
    labels[28:36, 10:18, 10:18] = 3
    start = (6, 3, 2)
    crop = labels[6:, 3:, 2:]
    # A header of one voxel size and origin; the start counts where the origin is 0.
    origins = {
        "whole": Tomogram(labels, (VOXEL,) * 3, (100.0, -50.0, 20.0)),
        "crop": Tomogram(crop, (VOXEL,) * 3, (160.0, -20.0, 40.0)),
        "start": Tomogram(crop, (VOXEL,) * 3, start=start),
    }
    found = {}
    for name, like in origins.items():
        io.write_mrc(tmp_path / f"{name}.mrc", like.density, like)
        status, *_ = run(
            "measure", tmp_path / f"{name}.mrc", "--classes", "membrane", "actin", "vesicle",
            "--meshes", "obj", "-o", tmp_path / name,
        )  # fmt: skip
        assert status == 0
        found[name] = results(tmp_path / name)
    columns = [f"{axis}_nm" for axis in "zyx"] + [f"start_{axis}_nm" for axis in "yx"]
    shift = dict(zip("zyx", (10.0, -5.0, 2.0), strict=True))
    for whole, crop, begun in zip(*(found[name][0] for name in origins), strict=True):
        for key in (key for key in columns if whole[key]):
            assert float(crop[key]) == pytest.approx(float(whole[key]), abs=0.01)
            there = float(whole[key]) - shift[key.split("_")[-2]]
            assert float(begun[key]) == pytest.approx(there, abs=0.01)
    vesicle = found["whole"][0][0]
    place = [float(vesicle[f"{axis}_nm"]) for axis in "zyx"]
    assert place == pytest.approx([20 + 10, 26 - 5, 30 + 2], abs=0.01)
    assert found["crop"][1]["origin_angstrom"] == [160, -20, 40]
    assert found["start"][1]["origin_angstrom"] == [60, 30, 20]
    for name, wanted in (("crop", (320, 210, 300)), ("start", (300, 260, 200))):
        text = (tmp_path / name / "meshes" / "membrane-1.obj").read_text().splitlines()
        corners = np.array([line.split()[1:] for line in text if line[0] == "v"], float)
        np.testing.assert_allclose(corners.mean(0), wanted, atol=2)  # x, y, z


def test_every_number_of_an_instance_map_is_an_object(run, tmp_path):
    """Two vesicles that touch, one complex of its own number, and labels of another class."""
    labels, numbers = np.zeros((32, 32, 60), np.int8), np.zeros((32, 32, 60), np.uint16)
    labels[3:6] = 1
    labels[20:26, 8:24, 8:40] = 2  # replaced by the objects
    numbers[12:24, 10:22, 10:22], numbers[12:24, 10:22, 22:34] = 65535, 255
    single = np.zeros(labels.shape, np.float32)
    single[12:15, 12:15, 50:53] = 40000
    for name, values in (("labels", labels), ("vesicles", numbers), ("single", single)):
        io.write_mrc(tmp_path / f"{name}.mrc", values, like(values, VOXEL))
    status, _, said = run(
        "measure", tmp_path / "labels.mrc", "--classes", "membrane", "vesicle",
        "--instances", f"vesicle={tmp_path / 'vesicles.mrc'}",
        f"ribosome={tmp_path / 'single.mrc'}", "-o", tmp_path / "out",
    )  # fmt: skip
    assert status == 0, said
    lines = said.splitlines()
    for name, kind in (("membrane", "membrane, 1"), ("vesicle", "organelle, 2")):
        assert lines.index(f"measuring {name}") + 1 == lines.index(f"{name}: {kind} objects")
    assert "measuring distances" in lines
    rows, summary, page = results(tmp_path / "out")
    vesicles = [row for row in rows if row["class"] == "vesicle"]
    assert [row["instance"] for row in vesicles] == ["255", "65535"]
    for row, x in zip(vesicles, (27.5, 15.5), strict=True):
        assert float(row["volume_nm3"]) == 12**3 and float(row["x_nm"]) == x
        assert float(row["distance_to_membrane_min_nm"]) == pytest.approx(6, abs=0.35)
        assert float(row["distance_to_membrane_centre_nm"]) == pytest.approx(12, abs=0.35)
        assert float(row["distance_to_membrane_mean_nm"]) == pytest.approx(12, abs=0.6)
    gaps = [float(row["distance_to_ribosome_min_nm"]) for row in vesicles]
    assert gaps == pytest.approx([50 - 34, 50 - 22], abs=0.6)
    (complexes,) = [row for row in rows if row["class"] == "ribosome"]
    assert complexes["instance"] == "40000" and float(complexes["volume_nm3"]) == 27
    assert float(complexes["distance_to_membrane_min_nm"]) == pytest.approx(6, abs=0.6)
    assert float(complexes["distance_to_vesicle_min_nm"]) == pytest.approx(16, abs=0.6)
    assert summary["classes"]["vesicle"]["count"] == 2
    assert summary["classes"]["ribosome"]["label"] == 3
    assert "to membrane: least" in page


def test_objects_need_no_labels_and_filaments_keep_their_numbers(run, tmp_path):
    numbers = np.zeros((20, 30, 70), np.int32)
    numbers[5:8, 5:8, 5:65], numbers[5:8, 8:11, 5:45] = 900, 17
    io.write_mrc(tmp_path / "actin.mrc", numbers, like(numbers, VOXEL))
    path = tmp_path / "actin.mrc"
    status, *_ = run("measure", "--instances", f"actin={path}", "-o", tmp_path / "out")
    assert status == 0
    rows, *_ = results(tmp_path / "out")
    assert [row["instance"] for row in rows] == ["17", "900"]
    lengths = [float(row["length_nm"]) for row in rows]
    assert lengths == pytest.approx([40, 60], rel=0.05)
    written = io.read_mrc(tmp_path / "out" / "instances" / "actin.mrc").density
    np.testing.assert_array_equal(written, numbers)
    status, _, complaints = run("measure", "-o", tmp_path / "nothing")
    assert status == 2 and "--instances" in complaints


@pytest.mark.parametrize("value", [1e30, 2.0**25])
def test_labels_beyond_what_their_type_holds_exactly_are_refused(run, tmp_path, value):
    labels = np.zeros((4, 4, 4), np.float32)
    labels[0] = value
    io.write_mrc(tmp_path / "huge.mrc", labels, like(labels, VOXEL))
    for words in (["huge.mrc"], ["--instances", "vesicle=huge.mrc"]):
        words = [word.replace("huge.mrc", str(tmp_path / "huge.mrc")) for word in words]
        status, _, complaints = run("measure", *words, "-o", tmp_path / "out")
        assert status == 2 and "huge.mrc" in complaints and "no integers" in complaints
        assert not (tmp_path / "out").exists()


def test_objects_that_are_taken_for_classes_are_pointed_out(run, tmp_path):
    labels = np.zeros((4, 16, 16), np.int16)
    labels[1].ravel()[:200] = np.arange(200)
    io.write_mrc(tmp_path / "many.mrc", labels, like(labels, VOXEL))
    status, _, complaints = run("measure", tmp_path / "many.mrc", "-o", tmp_path / "out")
    assert status == 2 and "many.mrc: holds more than" in complaints
    assert "--instances CLASS=PATH" in complaints
    io.write_mrc(tmp_path / "some.mrc", labels % 30, like(labels, VOXEL))
    status, _, complaints = run("measure", tmp_path / "some.mrc", "-o", tmp_path / "out")
    assert status == 0 and "some.mrc: each of its 29 labels" in complaints
    assert "--instances CLASS=PATH" in complaints


@pytest.mark.parametrize(
    ("word", "says"), [("vesicle", "CLASS=PATH"), ("=a.mrc", "CLASS=PATH"), ("a=no.mrc", "no.mrc")]
)
def test_instances_that_are_no_file(run, folder, tmp_path, word, says):
    status, _, complaints = run(
        "measure", folder / "labels.mrc", "--instances", word, "-o", tmp_path / "out"
    )
    assert status == 2 and says in complaints


def test_a_lumen_says_how_it_was_counted_and_a_neighbour_that_it_is_a_limit(run, tmp_path):
    """A closed and an open membrane, and three complexes near the faces of the volume."""
    labels = np.zeros((36, 40, 100), np.int8)
    index = np.indices(labels.shape)
    for centre, keep in (((18, 20, 20), 30), ((18, 20, 60), 7)):
        ball = np.linalg.norm(index - np.reshape(centre, (3, 1, 1, 1)), axis=0)
        labels[(abs(ball - 13) < 1.5) & (abs(index[0] - 18) < keep)] = 1
    for z, y, x in ((3, 3, 90), (30, 34, 92), (30, 4, 94)):
        labels[z : z + 4, y : y + 4, x : x + 4] = 2
    io.write_mrc(tmp_path / "labels.mrc", labels, like(labels, VOXEL))
    status, printed, _ = run(
        "measure", tmp_path / "labels.mrc", "--classes", "membrane", "ribosome",
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert status == 0
    rows, summary, page = results(tmp_path / "out")
    assert {row["closed"]: row["lumen_within"] for row in rows[:2]} == {
        "True": "space", "False": "slices",
    }  # fmt: skip
    assert "lumen (nm³)" in page and "without the membrane itself" in page
    ribosome = summary["classes"]["ribosome"]
    seen = [float(row["nearest_neighbour_nm"]) for row in rows if row["class"] == "ribosome"]
    assert ribosome["nearest_neighbour_nm"] is None
    assert ribosome["nearest_neighbour_seen_nm"] == pytest.approx(np.median(seen), rel=1e-4)
    assert f"at most {np.median(seen):.3g}" in printed and "at most" in page
