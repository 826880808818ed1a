"""``cryojax-seg pick`` on label volumes, and on the maps of several classes at once."""

import re

import numpy as np
import pytest

from cryojax_seg import io
from cryojax_seg.core import Particles

SHAPE, VOXEL = (32, 44, 52), 10.0
GRID = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
FIRST = np.array([[10.0, 10, 10], [20, 30, 12], [20, 30, 40]])
SECOND = np.array([[10.0, 12, 30], [22, 12, 12]])


def bodies(middles, radius=5.5):
    return np.any([np.linalg.norm(GRID - m, axis=-1) <= radius for m in middles], 0)


def picked(run, path, *words):
    status, printed, said = run("pick", *words, "--diameter", "110", "-o", path)
    assert status == 0, said
    found = io.read_particles(path)
    assert f"picked: {len(found)} particles" in printed
    return found, said


def distance(found, middles):
    return np.linalg.norm(np.asarray(middles)[:, None] - found.coordinates[None], axis=-1)


@pytest.mark.parametrize("method", [(), ("--method", "peaks"), ("--method", "regions")])
@pytest.mark.parametrize("kind, value", [(np.int8, 1), (np.uint8, 255), (np.float32, 3)])
def test_objects_of_a_mask_count_once(run, tmp_path, method, kind, value):
    values = (bodies(FIRST) * np.float32(value)).astype(kind)
    if kind is np.uint8:  # as bytes of MRC files are signed, in a TIFF
        import tifffile

        path = tmp_path / "mask.tif"
        tifffile.imwrite(path, values, photometric="minisblack")
    else:
        path = tmp_path / "mask.mrc"
        io.write_mrc(path, values, voxel_size=VOXEL)
    found, said = picked(run, tmp_path / "p.csv", path, *method, "--voxel-size", "10")
    assert len(found) == 3 and distance(found, FIRST).min(1).max() < 0.1
    assert f"holds labels ({value})" in said and found.classes is None


def test_labels_are_classes_and_one_can_be_chosen(run, tmp_path):
    labels = np.where(bodies(FIRST), 1, np.where(bodies(SECOND), 4, 0)).astype(np.int16)
    path = tmp_path / "labels.mrc"
    io.write_mrc(path, labels, voxel_size=VOXEL)
    found, said = picked(run, tmp_path / "all.star", path)
    assert sorted(found.classes) == [1, 1, 1, 4, 4] and "holds labels (1 4)" in said
    one, _ = picked(run, tmp_path / "one.star", path, "--label", "4")
    assert len(one) == 2 and distance(one, SECOND).min(1).max() < 0.1 and one.classes is None
    status, _, said = run(
        "pick", path, "--diameter", "110", "--label", "3", "-o", tmp_path / "none.star"
    )
    assert status == 2 and "labels.mrc: no voxel has the label 3" in said
    assert "1 4" in said and "--label" in said


@pytest.fixture
def maps(tmp_path):
    """Softmax maps of two classes, and places where the other one is a little probable too."""
    one, two = 0.9 * bodies(FIRST), 0.9 * bodies(SECOND)
    one, two = one + 0.1 * bodies(SECOND), two + 0.1 * bodies(FIRST)
    unsure = bodies([[22, 12, 42]])
    one, two = one + 0.3 * unsure, two + 0.4 * unsure
    paths = [tmp_path / f"cell.{name}.probability.mrc" for name in ("ribosome", "proteasome")]
    for path, values in zip(paths, (one, two), strict=True):
        io.write_mrc(path, values.astype(np.float16), voxel_size=VOXEL)
    return paths


@pytest.mark.parametrize("suffix", [".star", ".csv", ".tbl"])
def test_classes_compete_in_one_command(run, tmp_path, maps, suffix):
    found, said = picked(run, tmp_path / f"p{suffix}", *maps)
    truth = np.concatenate([FIRST, SECOND, [[22, 12, 42]]])
    away = distance(found, truth)
    assert len(found) == 6 and away.min(1).max() < 0.3, said
    assert found.classes[away.argmin(1)].tolist() == [1, 1, 1, 2, 2, 2]
    if suffix != ".tbl":
        assert set(found.columns["rlnTomoName"]) == {"cell"}
        names = np.array(found.columns["rlnParticleName"])
        assert set(names[found.classes == 2]) == {"proteasome"}


def test_the_threshold_of_a_voxel_is_chosen_on_an_annotation(run, tmp_path):
    """At a low one the two particles that haze joins are one hill, at a high one they fade."""
    p = np.zeros(SHAPE, np.float32)
    p[bodies(FIRST)] = 0.35
    p[bodies(SECOND, 5.0)] = 0.15  # nothing true
    io.write_mrc(tmp_path / "map.mrc", p + 0.01 * (GRID[..., 0] == 0), voxel_size=VOXEL)
    io.write_particles(tmp_path / "truth.csv", Particles(FIRST, voxel_size=VOXEL))
    words = (tmp_path / "map.mrc", "--annotated", tmp_path / "truth.csv")
    for beta in ("1", "4"):
        found, _ = picked(run, tmp_path / f"p{beta}.csv", *words, "--beta", beta)
        assert len(found) == 3 and distance(found, FIRST).min(1).max() < 0.3
    none, said = picked(run, tmp_path / "none.csv", tmp_path / "map.mrc")
    assert len(none) == 0 and "lower --threshold" in said


@pytest.mark.parametrize(
    "words, complaint",
    [
        (("a.mrc", "b.mrc", "--diameter", "1", "2", "3"), "3 diameters for 2 maps"),
        (("a.mrc", "b.mrc", "--diameter", "90", "--method", "peaks"), "as balls only"),
        (("a.mrc", "x/a.mrc", "--diameter", "90"), "--classes"),
        (("a.mrc", "b.mrc", "--diameter", "90", "--classes", "one"), "1 names for 2 maps"),
        (("a.mrc", "small.mrc", "--diameter", "90"), "small.mrc: has shape"),
        (("a.mrc", "coarse.mrc", "--diameter", "90"), "coarse.mrc: has voxels"),
        (("a.mrc", "--diameter", "90", "--label", "2"), "holds no labels"),
        (("a.mrc", "--diameter", "-5"), "--diameter ANGSTROM"),
        (("a.mrc", "--diameter", "90", "--smallest", "2"), "--smallest"),
    ],
)
def test_mistakes_are_named(run, tmp_path, words, complaint):
    haze = np.linspace(0, 0.9, 6 * 7 * 8, dtype=np.float32).reshape(6, 7, 8)
    for name, values, size in (
        ("a.mrc", haze, VOXEL),
        ("b.mrc", haze, VOXEL),
        ("small.mrc", haze[1:], VOXEL),
        ("coarse.mrc", haze, 14.0),
    ):
        io.write_mrc(tmp_path / name, values, voxel_size=size)
    given = [tmp_path / w if w.endswith(".mrc") else w for w in words]
    status, _, said = run("pick", *given, "-o", tmp_path / "p.csv")
    assert status == 2 and re.search(re.escape(complaint), said), said
    assert not (tmp_path / "p.csv").exists()
