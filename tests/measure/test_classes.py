"""All classes of a label volume measured by one call, from Python."""

import logging

import numpy as np
import pytest

from cryojax_seg import measure
from cryojax_seg.errors import ParameterError

VOXEL = (10.0, 10.0, 10.0)
GRID = np.indices((40, 40, 64)).astype(float)


def away(centre):
    return np.linalg.norm(GRID - np.reshape(centre, (3, 1, 1, 1)), axis=0)


@pytest.fixture(scope="module")
def scene():
    """A vesicle, a granule beside it and a straight filament, with soft probabilities."""
    shell, ball = away((19.6, 19.3, 20.2)), away((19.6, 19.3, 52.2))
    depths = [1.5 - abs(shell - 12), 6.0 - ball]
    labels = np.zeros(GRID.shape[1:], np.int8)
    for label, depth in enumerate(depths, 1):
        labels[depth >= 0] = label
    labels[4:7, 4:7, 4:60] = 3
    soft = [(1 / (1 + np.exp(-4 * depth))).astype(np.float32) for depth in depths]
    return labels, soft


def classes(soft=(None, None)):
    return [
        measure.ObjectClass("membrane", 1, "membrane", probability=soft[0]),
        measure.ObjectClass("granule", 2, "organelle", probability=soft[1]),
        measure.ObjectClass("actin", 3, "filament"),
    ]


def test_membranes_and_organelles_are_measured_by_one_call_each(scene):
    labels, soft = scene
    (row,), summary = measure.measure_membranes(labels == 1, VOXEL, soft[0])
    assert row.area_nm2.value == pytest.approx(4 * np.pi * 12**2, rel=0.03)
    assert row.area_nm2.low < 4 * np.pi * 12**2 < row.area_nm2.high
    assert row.thickness_nm == pytest.approx(3, abs=0.25) and row.closed
    assert row.lumen_nm3 == pytest.approx(4 / 3 * np.pi * 10.5**3, rel=0.03)
    assert row.centre_nm == pytest.approx((19.6, 19.3, 20.2), abs=0.1)
    assert row.sheet.middle.mean(0) == pytest.approx((19.6, 19.3, 20.2), abs=0.1)
    assert summary.count == 1 and summary.area_nm2.value == row.area_nm2.value
    assert summary.count_expected.low <= 1 <= summary.count_expected.high
    assert summary.area_nm2.low < row.area_nm2.value < summary.area_nm2.high
    assert row.openness == pytest.approx(0, abs=0.01)
    numbers = np.where(labels == 2, 7, 0)
    (row,), summary = measure.measure_organelles(numbers, VOXEL, soft[1])
    assert row.instance == 7 and row.voxels == np.count_nonzero(numbers)
    assert row.volume_nm3.value == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.03)
    assert row.volume_nm3.low < row.volume_nm3.value < row.volume_nm3.high
    assert row.surface_nm2.value == pytest.approx(4 * np.pi * 36, rel=0.03)
    assert row.sphericity == pytest.approx(1, abs=0.03)
    assert summary.volume_nm3 == row.volume_nm3 and summary.surface_nm2 == row.surface_nm2


def test_a_piece_of_a_membrane_has_no_interval(scene):
    """The lower half of a shell has an openness of 1/2, a cap of it almost 1."""
    labels, soft = scene
    shell = labels == 1
    widths = []
    for top, openness in ((20, 0.5), (11, 0.9)):
        cap = shell & (np.arange(40) < top)[:, None, None]
        (row,), _ = measure.measure_membranes(cap, VOXEL, soft[0])
        assert row.openness == pytest.approx(openness, abs=0.15)
        widths.append(row.area_nm2.high)
    assert widths[0] > 0 and widths[1] is None
    (row,), summary = measure.measure_membranes(shell, VOXEL)
    assert row.area_nm2.low is row.volume_nm3.low is summary.count_expected is None


def test_units_scale_with_the_voxel_size(scene):
    labels, _ = scene
    for size in (VOXEL, (20.0, 20.0, 20.0)):
        factor = size[0] / 10
        (row,), _ = measure.measure_organelles(labels == 2, size)
        assert row.volume_nm3.value == pytest.approx(np.count_nonzero(labels == 2) * factor**3)
        assert row.centre_nm == pytest.approx([factor * v for v in (19.6, 19.3, 52.2)], rel=0.01)


def test_all_classes_with_distances_origin_and_progress(scene, caplog):
    labels, soft = scene
    seen = []
    with caplog.at_level(logging.INFO, "cryojax_seg.measure"):
        found = measure.measure_classes(
            labels, VOXEL, classes(soft), origin_angstrom=(100.0, -50.0, 20.0),
            progress=lambda *step: seen.append(step),
        )  # fmt: skip
    assert [name for name, done, count in seen if done == count] == [
        "membrane", "granule", "distances",
    ]  # fmt: skip
    said = [record.getMessage() for record in caplog.records]
    assert said[:2] == ["measuring membrane", "membrane: membrane, 1 objects"]
    rows = {row["class"]: row for row in found.rows()}
    vesicle, granule, actin = rows["membrane"], rows["granule"], rows["actin"]
    assert (vesicle["kind"], granule["label"], actin["instance"]) == ("membrane", 2, 1)
    place = [granule[f"{axis}_nm"] for axis in "zyx"]
    assert place == pytest.approx([29.6, 14.3, 54.2], abs=0.05)
    assert granule["distance_to_membrane_min_nm"] == pytest.approx(32 - 6 - 13.5, abs=0.4)
    assert granule["distance_to_membrane_centre_nm"] == pytest.approx(32 - 13.5, abs=0.4)
    assert actin["length_nm"].value == pytest.approx(56, rel=0.03)
    assert actin["start_z_nm"] == pytest.approx(15, abs=0.2) and "axis" not in actin
    totals = found.totals()
    assert list(totals) == ["membrane", "granule", "actin"]
    assert totals["membrane"]["area_nm2"].value == vesicle["area_nm2"].value
    assert totals["actin"]["count"] == 1 and totals["actin"]["spacing_nm"] is None


def test_meshes_lie_in_the_volume(scene):
    labels, _ = scene
    found = measure.measure_classes(labels, VOXEL, classes())
    ((number, mesh),) = found.classes["granule"].meshes()
    assert number == 1
    assert mesh.vertices.mean(0) == pytest.approx((19.6, 19.3, 52.2), abs=0.15)
    ((_, mesh),) = found.classes["membrane"].meshes()
    radius = np.linalg.norm(mesh.vertices - (19.6, 19.3, 20.2), axis=1)
    assert radius.mean() == pytest.approx(12, abs=0.1)
    ((number, mesh),) = found.classes["actin"].meshes()
    assert number == 1 and len(mesh.faces) > 100


def test_numbers_replace_labels_and_keep_their_names():
    labels = np.zeros((24, 24, 60), np.int8)
    labels[3:6], labels[15:18] = 1, 2
    numbers = np.zeros(labels.shape, np.int32)
    numbers[12:20, 8:16, 8:20], numbers[12:20, 8:16, 20:32] = 2, 1  # they touch
    found = measure.measure_classes(
        labels, VOXEL,
        [
            measure.ObjectClass("upper", 1, "membrane"),
            measure.ObjectClass("lower", 2, "membrane"),
            measure.ObjectClass("ribosome", 3, "complex", numbers=numbers, identifiers=[40, 77]),
        ],
        farthest_angstrom=200.0, contact_angstrom=120.0,
    )  # fmt: skip
    first, second = found.classes["ribosome"].rows
    assert (first["instance"], second["instance"]) == (40, 77)
    assert first["volume_nm3"].value == second["volume_nm3"].value == 8 * 8 * 12
    assert first["membrane_distance_nm"] == 0  # its centre lies in the lower membrane
    assert found.classes["ribosome"].totals["count_expected"].value == 2
    there = found.distances["upper", "lower"]
    assert there.mean_nm == pytest.approx(12, abs=0.2) and there.area_share_within == 1
    assert there.contact_area_nm2 < there.area_within_nm2 == pytest.approx(24 * 60, rel=0.03)
    assert sum(there.histogram["area_nm2"]) == pytest.approx(there.area_within_nm2)


def test_nothing_is_measured_as_nothing():
    labels = np.zeros((8, 8, 8), np.int8)
    found = measure.measure_classes(labels, VOXEL, classes())
    assert found.rows() == [] and found.distances == {}
    assert found.totals()["membrane"]["area_nm2"] == (0, None, None)
    assert found.totals()["granule"]["count"] == 0


def test_bad_input_names_the_argument():
    labels = np.zeros((8, 8, 8), np.int8)
    with pytest.raises(ValueError, match="voxel_size_angstrom must be three positive"):
        measure.measure_classes(labels, (10.0, 10.0, 0.0), classes())
    with pytest.raises(ValueError, match="probability has shape"):
        measure.measure_membranes(labels == 1, VOXEL, np.zeros((7, 8, 8), np.float32))


def test_objects_on_disk_are_measured_alike(scene, monkeypatch):
    labels, soft = scene
    whole = measure.measure_classes(labels, VOXEL, classes(soft)[:2])
    monkeypatch.setattr("cryojax_seg.measure.classes._PER_VOXEL", 2**20)  # so that nothing fits
    parts = measure.measure_classes(labels, VOXEL, classes(soft)[:2], memory_gib=1)
    assert parts.rows() == whole.rows()
    for name, one in parts.classes.items():
        assert isinstance(one.boxes.numbers, np.memmap)
        assert not isinstance(whole.classes[name].boxes.numbers, np.memmap)
        np.testing.assert_array_equal(one.numbers(labels.shape), whole.classes[name].boxes.numbers)


@pytest.mark.parametrize("sections", [3, 7])
def test_complexes_and_split_objects_in_little_memory_are_the_same(sections, monkeypatch):
    """Balls that touch, and a membrane: in slabs, on disk, as in memory, intervals included."""
    labels, soft = np.zeros((24, 40, 40), np.int8), np.zeros((24, 40, 40), np.float32)
    grid = np.indices(labels.shape)
    centres = [(6, 8, 8), (6, 8, 17), (16, 20, 12), (17, 30, 30), (5, 30, 10), (18, 8, 30)]
    for number, centre in enumerate(centres):
        away = np.linalg.norm(grid.T - centre, axis=-1).T
        radius = 5 - 0.15 * number  # as equal sizes are in the order of the tiles
        labels[away < radius] = 1
        soft = np.maximum(soft, (0.95 - 0.05 * number) / (1 + np.exp(2 * (away - radius))))
    labels[10:12] = 2
    drop = measure.ObjectClass("ribosome", 1, "complex", probability=soft.astype(np.float32))
    granule = measure.ObjectClass("granule", 1, "organelle", probability=drop.probability)
    wall = measure.ObjectClass("membrane", 2, "membrane")
    for one in (drop, granule):
        for split in (False, True):
            whole = measure.measure_classes(labels, VOXEL, [one, wall], split=split)
            with monkeypatch.context() as patch:
                patch.setattr("cryojax_seg.measure.classes._PER_VOXEL", 2**20)
                patch.setattr("cryojax_seg.measure.slabs.depth_of", lambda _: sections)
                parts = measure.measure_classes(
                    labels, VOXEL, [one, wall], split=split, memory_gib=1
                )
            assert len(whole.classes[one.name].rows) == (6 if split else 5)
            assert parts.rows() == whole.rows() and parts.totals() == whole.totals()
            found, expected = (each.classes[one.name].boxes for each in (parts, whole))
            assert found and expected and isinstance(found.numbers, np.memmap)
            np.testing.assert_array_equal(found.numbers, expected.numbers)


def test_memory_that_holds_no_tile_is_refused(scene):
    with pytest.raises(ParameterError, match="1 or more.*got 0.5"):
        measure.measure_classes(scene[0], VOXEL, classes(), memory_gib=0.5)


def test_what_has_no_interval_says_why(scene):
    labels, soft = scene
    membrane, granule, _ = classes(soft)
    actin = measure.ObjectClass("actin", 3, "filament", probability=(labels == 3) * np.float32(0.9))
    cap = np.where((labels == 1) & (np.arange(40) > 10)[:, None, None], 0, labels)
    for volume, reason in ((labels, ""), (cap, "too open")):
        found = measure.measure_classes(volume, VOXEL, [membrane, granule, actin])
        rows = {row["class"]: row for row in found.rows()}
        assert rows["membrane"]["no_interval"].startswith(reason)
        assert (rows["membrane"]["area_nm2"].low is None) == bool(rows["membrane"]["no_interval"])
        assert rows["granule"]["no_interval"] == "" and rows["granule"]["volume_nm3"].low > 0
        assert (
            "filaments" in rows["actin"]["no_interval"] and rows["actin"]["length_nm"].low is None
        )
        assert "filaments" in found.totals()["actin"]["no_interval"]
    plain = measure.measure_classes(labels, VOXEL, classes())
    assert {row["no_interval"] for row in plain.rows()} == {"no probabilities"}


def measured_microtubule(labels):
    one = measure.ObjectClass("microtubule", 1, "filament", probability=labels * np.float32(0.9))
    found = measure.measure_classes(labels, VOXEL, [one])
    (row,) = found.rows()
    return row, found.totals()["microtubule"]


def test_predicted_microtubules_have_intervals_and_doubtful_ones_say_why():
    """A tube from face to face, and a wire without a wall that touches no face."""
    away = np.hypot(GRID[0] - 20, GRID[1] - 19.5)
    row, totals = measured_microtubule((abs(away - 11) < 1.2).astype(np.int8))
    length = row["length_nm"]
    assert length.value == pytest.approx(64, rel=0.02) and 40 < length.low < 64 < length.high < 90
    assert totals["count"] == 1 and totals["total_length_um"].low is None
    assert row["no_interval"] == totals["no_interval"] == ""
    wire = np.zeros(GRID.shape[1:], np.int8)
    wire[19:22, 18:21, 8:56] = 1
    row, _ = measured_microtubule(wire)
    assert row["length_nm"].low is None and "fragment" in row["no_interval"]
