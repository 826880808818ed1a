"""Painted coordinates, compared with distances computed directly."""

import json

import numpy as np
import pytest

from cryojax_seg.io import (
    FileError,
    offset_from_path,
    paint_path,
    paint_points,
    read_points,
    sample_path,
)

SHAPE = (14, 15, 16)
GRID = np.stack(np.indices(SHAPE), -1).astype(float)


def test_balls():
    points = np.array([[4.0, 5.0, 6.0], [10.5, 9.0, 3.25]])
    painted = paint_points(SHAPE, points, 3.0, label=2)
    distance = np.linalg.norm(GRID[..., None, :] - points, axis=-1).min(-1)
    assert np.array_equal(painted.labels, 2 * (distance <= 3.0))
    assert painted.weights.all()


def test_bands_are_painted_in_order_and_255_is_not_annotated():
    painted = paint_points(SHAPE, [[7, 7, 7]], [(0, 6, 255), (2, 4, 1), (5, 5.5, 0)])
    distance = np.linalg.norm(GRID - 7, axis=-1)
    wall = (distance >= 2) & (distance <= 4)
    known = wall | (distance > 6) | ((distance >= 5) & (distance <= 5.5))
    assert np.array_equal(painted.labels, wall)
    assert np.array_equal(painted.weights, known)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_straight_path(count):
    """Points on a line give the line, wherever they lie on it."""
    start, end = np.array([2.0, 3.0, 4.0]), np.array([11.0, 10.0, 8.0])
    positions = np.linspace(0, 1, count)[:, None] ** 1.5
    painted = paint_path(SHAPE, start + positions * (end - start), 2.5)
    along = np.clip((GRID - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
    distance = np.linalg.norm(GRID - start - along[..., None] * (end - start), axis=-1)
    assert np.array_equal(painted.labels[distance < 2.49], np.ones((distance < 2.49).sum()))
    assert not painted.labels[distance > 2.51].any()


def test_extended_path_reaches_the_borders():
    painted = paint_path(SHAPE, [[6, 7, 8], [8, 7, 8]], 2.0, extend=20)
    distance = np.hypot(GRID[..., 1] - 7, GRID[..., 2] - 8)
    assert np.array_equal(painted.labels, distance <= 2.0)


def test_curved_path_stays_on_its_circle():
    """A spline through ten points of a circle of radius 40 leaves it by less than 0.01."""
    angles = np.linspace(0, np.pi / 2, 10)
    points = np.stack([0 * angles, 40 * np.sin(angles), 40 * np.cos(angles)], -1)
    samples = sample_path(points)
    assert np.abs(np.linalg.norm(samples, axis=1) - 40).max() < 0.01
    assert np.linalg.norm(np.diff(samples, axis=0), axis=1).max() < 0.11


def test_offsets_are_normals_times_distances():
    offsets = offset_from_path(SHAPE, [[2, 7, 8], [11, 7, 8]], extend=10)
    expected = GRID - (0, 7, 8)
    assert np.abs(offsets[..., 1:] - expected[..., 1:]).max() < 1e-5
    assert np.abs(offsets[..., 0]).max() <= 0.051
    near = offset_from_path(SHAPE, [[2, 7, 8], [11, 7, 8]], within=3)
    distance = np.linalg.norm(near, axis=-1)
    assert np.isinf(distance[7, 0, 0]) and distance[7, 7, 10] == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize(
    ("points", "radius", "words"),
    [
        ([], 1.0, "at least 1 points"),
        ([[1, 2]], 1.0, "three coordinates"),
        ([[1, 2, 30]], 1.0, "point 0 at .* is outside the volume"),
        ([[1, 2, 3], [1, np.nan, 3]], 1.0, "point 1 is not finite"),
        ([["a", 2, 3]], 1.0, "must be numbers"),
        ([[1, 2, 3]], 0.0, "inner radius below the outer"),
        ([[1, 2, 3]], [(3, 2, 1)], "inner radius below the outer"),
        ([[1, 2, 3]], [(0, 20, 255), (0, 20, 255)], None),
        ([[1, 2, 3]], [(0, 99, 255)], "every voxel is marked"),
    ],
)
def test_refusals(points, radius, words):
    if words is None:
        assert paint_points(SHAPE, points, [(0, 5, 255)]).weights.min() == 0
        return
    with pytest.raises(FileError, match=words) as caught:
        paint_points(SHAPE, points, radius, name="picks.csv")
    assert "picks.csv" in str(caught.value)


def test_repeated_point_in_a_path():
    with pytest.raises(FileError, match="point 1 is given twice"):
        paint_path(SHAPE, [[1, 2, 3], [4, 5, 6], [4, 5, 6]], 1.0)


@pytest.mark.parametrize(
    "text",
    [
        "z,y,x\n1,2,3\n4,5,6.5\n",
        "name,x,y,z\na,3,2,1\nb,6.5,5,4\n",
        "# picked by hand\n1,2,3\n\n4,5,6.5\n",
        "\ufeffZ, Y, X\r\n1, 2, 3\r\n4, 5, 6.5\r\n",
        "[[1, 2, 3], [4, 5, 6.5]]",
        "z;y;x\n1;2;3\n4;5;6,5\n;;\n",
        "1\t2\t3\n4\t5\t6.5\n",
        "index,axis-0,axis-1,axis-2\n0,1,2,3\n1,4,5,6.5\n",
    ],
)
def test_read_points(tmp_path, text):
    path = tmp_path / "points"
    path.write_text(text, "utf-8")
    assert read_points(path).tolist() == [[1, 2, 3], [4, 5, 6.5]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2\n", "three coordinates"),
        ("1,2,here\n", "must be numbers"),
        ("1,2,3\n4,5\n", "must be numbers"),
        ("1,2,inf\n", "not finite"),
        ("[[1,2,3]", "no coordinates"),
        ('{"a": [[1,2,3]]}', "give the key of a list, one of: a"),
        ("[" * 100000, "no coordinates"),
        ("\n", "no rows"),
        ("z,y,x,x\n1,2,3,4\n", "column x occurs twice"),
        ("z,y,x,note\n1,2,3," + "n" * 200_000 + "\n", "field larger than"),
        ("z;y;x\n1,500;2,250;3,125\n", "1,500 may be a decimal comma"),
    ],
)
def test_bad_points(tmp_path, text, words):
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(FileError, match=words) as caught:
        read_points(path)
    assert "points.csv" in str(caught.value)


def test_real_centre_line(real_data):
    """The published centre-line runs through the hollow of the real microtubule."""
    from cryojax_seg.io import read_tomogram

    folder = real_data / "cylindra_mt"
    tomogram = read_tomogram(folder / "13pf_MT.tif")
    voxel_nm = json.loads((folder / "centreline_nm_zyx.json").read_text())["voxel_nm"]
    points = read_points(folder / "centreline_nm_zyx.json", key="13pf") / voxel_nm
    wall = paint_path(
        tomogram.density.shape, points, [(0, 16 / 1.052, 255), (8 / 1.052, 13 / 1.052, 1)]
    )
    inside = paint_path(tomogram.density.shape, points, 5 / 1.052).labels == 1
    density = tomogram.density.astype(float)
    assert density[wall.labels == 1].mean() > density[inside].mean() + 5
    assert 0.05 < (wall.labels == 1).mean() < 0.2
