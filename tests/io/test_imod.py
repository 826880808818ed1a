"""IMOD models that imodmodel wrote become labels where they were drawn."""

import warnings

import numpy as np
import pytest
from imodmodel.models import Contour, ImodModel, ModelHeader, Object, ObjectFlags, ObjectHeader

from cryojax_seg.core import Tomogram
from cryojax_seg.io import FileError, HeaderWarning, read_labels, read_particles, read_tomogram
from cryojax_seg.io.imod import read_imod

SHAPE, VOXEL = (7, 20, 24), 10.0
GRID = Tomogram(np.zeros(SHAPE, np.float32), (VOXEL,) * 3, name="t.mrc")
OPEN, SCATTERED = {"open": True}, {"scattered": True}


def thing(*contours, name="", flags=None, size=0, sizes=None):
    """An object of contours whose points are voxel centres (z, y, x)."""
    drawn = []
    for points in contours:
        stored = np.array(points, float)[:, ::-1] + [0.5, 0.5, 0.0]
        drawn.append(Contour(points=stored))
    header = ObjectHeader(
        name=name, flags=ObjectFlags(**(flags or {})), pdrawsize=size, contsize=len(drawn)
    )
    return Object(contours=drawn, header=header)


def save(path, *objects, shape=(0, 0, 0)):
    z, y, x = shape
    header = ModelHeader(objsize=len(objects), xmax=x, ymax=y, zmax=z)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pydantic within imodmodel
        ImodModel(objects=list(objects), header=header).to_file(path)
    return path


def square(z, low, high):
    (y0, x0), (y1, x1) = low, high
    return [(z, y0, x0), (z, y0, x1), (z, y1, x1), (z, y1, x0)]


def test_closed_contours_are_filled_in_their_slice(tmp_path):
    outer, inner = square(3, (2.5, 4.5), (12.5, 20.5)), square(3, (5.5, 8.5), (9.5, 12.5))
    path = save(tmp_path / "a.mod", thing(outer, inner, square(5, (1.5, 1.5), (4.5, 3.5))))
    expected = np.zeros(SHAPE, int)
    expected[3, 3:13, 5:21] = 1
    expected[3, 6:10, 9:13] = 0  # a contour inside another cuts a hole
    expected[5, 2:5, 2:4] = 1
    np.testing.assert_array_equal(read_imod(path, GRID), expected)


def test_closed_contours_of_other_planes(tmp_path):
    contour = [(0.5, 9, 4.5), (0.5, 9, 15.5), (5.5, 9, 15.5), (5.5, 9, 4.5)]
    found = read_imod(save(tmp_path / "a.mod", thing(contour)), GRID)
    expected = np.zeros(SHAPE, int)
    expected[1:6, 9, 5:16] = 1
    np.testing.assert_array_equal(found, expected)
    tilted = [(0, 2, 2), (0, 12, 2), (6, 12, 20)]
    with pytest.raises(FileError, match="object 1, contour 1: is closed and leaves its slice"):
        read_imod(save(tmp_path / "b.mod", thing(tilted)), GRID)


def test_open_contours_are_tubes_of_a_thickness(tmp_path):
    ends = np.array([(3.0, 4.0, 3.0), (3.0, 12.0, 18.0)])
    path = save(tmp_path / "a.mod", thing(ends, flags=OPEN))
    found = read_imod(path, GRID, thickness=50.0)
    # The distance of every voxel from the piece of a line, by its definition.
    points, along = np.indices(SHAPE).reshape(3, -1).T, ends[1] - ends[0]
    t = np.clip((points - ends[0]) @ along / (along @ along), 0, 1)
    away = np.linalg.norm(points - ends[0] - t[:, None] * along, axis=1).reshape(SHAPE)
    clear = abs(away - 2.5) > 0.02  # balls every 0.25 voxels leave notches of 0.003
    np.testing.assert_array_equal((found == 1)[clear], (away <= 2.5)[clear])
    assert clear.mean() > 0.98
    with pytest.raises(FileError, match="give its thickness in angstrom") as caught:
        read_imod(path, GRID)
    assert caught.value.parameters == ("thickness",)


def test_scattered_points_are_balls(tmp_path):
    points = [(3, 5, 6), (2, 14, 17)]
    path = save(tmp_path / "a.mod", thing(points, flags=SCATTERED, size=2))
    place = np.indices(SHAPE)

    def balls(radius):
        away = [sum((g - c) ** 2 for g, c in zip(place, p, strict=True)) for p in points]
        return (np.minimum(*away) <= radius**2).astype(int)

    np.testing.assert_array_equal(read_imod(path, GRID), balls(2))  # as the model says
    np.testing.assert_array_equal(read_imod(path, GRID, thickness=60.0), balls(3))
    grid = Tomogram(np.zeros(SHAPE), (20.0, 10.0, 10.0))  # voxels of other depth
    assert read_imod(path, grid, thickness=60.0)[:, 5, 6].tolist() == [0, 0, 1, 1, 1, 0, 0]


def test_names_of_objects_decide_the_labels(tmp_path):
    one, two, three = (square(z, (2.5, 2.5), (6.5, 6.5)) for z in (1, 3, 5))
    path = save(tmp_path / "a.mod", thing(one, name="er"), thing(two), thing(three, name="er"))

    def labels(**options):
        return [int(read_imod(path, GRID, **options)[z].max()) for z in (1, 3, 5)]

    assert labels() == [1, 2, 1]
    assert labels(classes=("background", "membrane")) == [1, 1, 1]
    path = save(path, thing(one, name="er"), thing(two, name="mito"), thing(three, name="er"))
    assert labels(classes=("background", "mito", "er")) == [2, 1, 2]


def test_models_are_labels_of_a_tomogram(tmp_path):
    path = save(tmp_path / "a.labels", thing(square(3, (2.5, 4.5), (12.5, 20.5))), shape=SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeaderWarning)
        read = read_labels(path, GRID, classes=("membrane",), annotated=[3])
    assert read.slices == (3,)
    assert int(read.labels.sum()) == 160
    with pytest.raises(FileError, match="is an IMOD model.*give it as labels of a tomogram"):
        read_tomogram(path)
    with pytest.raises(FileError, match="is an IMOD model.*tomogram"):
        read_labels(path)


def test_points_are_particles(tmp_path):
    points, more = [(3, 5.25, 6), (2, 14, 17)], [(1, 2, 3.5)]
    path = save(tmp_path / "a.mod", thing(points, flags=SCATTERED), thing(more, flags=SCATTERED))
    found = read_particles(path, VOXEL)
    np.testing.assert_allclose(found.coordinates, points + more, atol=1e-5)
    assert found.classes is not None and found.classes.tolist() == [1, 1, 2]
    assert read_particles(save(path, thing(points, flags=SCATTERED)), VOXEL).classes is None
    with pytest.raises(FileError, match="holds no point"):
        read_particles(save(path), VOXEL)


@pytest.mark.parametrize(
    ("objects", "shape", "words"),
    [
        ([], SHAPE, "holds no contour or point"),
        ([thing([(3, 5, 60)], flags=SCATTERED, size=2)], SHAPE, "is outside the tomogram"),
        ([thing([(3, 5, 6)], flags=SCATTERED)], (14, 40, 48), "drawn on a volume of"),
    ],
)
def test_models_of_another_volume_are_refused(tmp_path, objects, shape, words):
    path = save(tmp_path / "a.mod", *objects, shape=shape)
    with pytest.raises(FileError, match=words) as caught:
        read_imod(path, GRID)
    assert str(path) in str(caught.value)


def test_random_damage(tmp_path):
    """Whatever the bytes: labels or a FileError that names the file."""
    path = save(
        tmp_path / "a.mod",
        thing([(3, 5, 6), (2, 14, 17)], flags=SCATTERED, size=2),
        thing(square(3, (2.5, 4.5), (12.5, 20.5)), name="er"),
    )
    raw = path.read_bytes()
    rng, seen = np.random.default_rng(3), set()
    for _ in range(200):
        damaged = bytearray(raw)
        for place in rng.integers(8, len(raw), rng.integers(1, 5)):
            damaged[place] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(256)]))
        if rng.random() < 0.1:
            damaged = damaged[: rng.integers(1, len(damaged))]
        path.write_bytes(damaged)
        try:
            seen.add(type(read_imod(path, GRID, thickness=30.0)))
        except FileError as error:
            assert str(path) in str(error)
            seen.add(FileError)
    assert seen == {np.ndarray, FileError}
