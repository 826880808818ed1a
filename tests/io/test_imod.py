"""IMOD models that imodmodel wrote become labels where they were drawn."""

import warnings

import numpy as np
import pytest
from imodmodel.models import Contour, ImodModel, ModelHeader, Object, ObjectFlags, ObjectHeader

from cryojax_seg.core import Particles, Tomogram
from cryojax_seg.io import (
    FileError,
    HeaderWarning,
    ModelObject,
    outlines,
    read_imod,
    read_labels,
    read_particles,
    read_tomogram,
    write_imod,
    write_particles,
)

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


def mask_of_ellipsoids():
    """Two hollow bodies that touch, of other sizes along each axis."""
    place = np.indices(SHAPE)
    bodies = np.zeros(SHAPE, np.int32)
    for number, (centre, axes) in enumerate((((3, 8, 7), (3, 6, 5)), ((3, 9, 17), (2, 5, 6))), 1):
        away = sum(((g - c) / a) ** 2 for g, c, a in zip(place, centre, axes, strict=True))
        bodies[(away <= 1) & (away > 0.35)] = number
    return bodies


def test_what_is_written_is_painted_again_and_imodmodel_reads_it(tmp_path):
    import imodmodel

    path, bodies = tmp_path / "a.mod", mask_of_ellipsoids()
    rims = [(n, rim) for n in (1, 2) for rim in outlines(bodies == n)]
    line = np.array([(1.25, 3.0, 2.5), (4.0, 8.0, 20.0), (5.0, 15.0, 21.0)])
    points = np.array([(3, 5.25, 6), (2, 14, 17)])
    objects = [
        ModelObject("er", "closed", [r for _, r in rims], [n for n, _ in rims], colour="#ff8000"),
        ModelObject("actin", "open", [line, line + 1.0]),
        ModelObject("spots", "points", [points], radius=2.0),
    ]
    write_imod(path, objects[:1], SHAPE, (20.0, VOXEL, VOXEL))
    np.testing.assert_array_equal(read_imod(path, GRID), bodies > 0)  # each voxel of it
    write_imod(path, objects, SHAPE, (20.0, VOXEL, VOXEL), overwrite=True)
    table = imodmodel.read(path)
    for number, contour, expected in ((0, 0, rims[0][1]), (1, 1, line + 1.0), (2, 0, points)):
        rows = table[(table.object_id == number) & (table.contour_id == contour)]
        found = rows[["z", "y", "x"]].to_numpy() - [0.0, 0.5, 0.5]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    model = ImodModel.from_file(path)
    assert (model.header.xmax, model.header.ymax, model.header.zmax) == SHAPE[::-1]
    assert (model.header.pixelsize, model.header.units, model.header.zscale) == (VOXEL, -10, 2.0)
    kinds = [(o.header.name.strip("\0"), o.header.flags.open) for o in model.objects]
    assert kinds == [("er", False), ("actin", True), ("spots", False)]
    assert model.objects[2].header.flags.scattered and model.objects[2].header.pdrawsize == 2
    assert [c.header.surf for c in model.objects[0].contours] == [n for n, _ in rims]
    np.testing.assert_allclose(model.objects[0].color, (1.0, 128 / 255, 0.0), atol=1e-6)
    with pytest.raises(FileError, match="exists"):
        write_imod(path, objects)


def test_a_line_is_painted_where_it_was_written(tmp_path):
    ends = np.array([(3.0, 4.0, 3.0), (3.0, 12.0, 18.0)])
    write_imod(tmp_path / "ours.mod", [ModelObject("", "open", [ends])], SHAPE)
    theirs = save(tmp_path / "theirs.mod", thing(ends, flags=OPEN))
    painted = [read_imod(p, GRID, thickness=50.0) for p in (tmp_path / "ours.mod", theirs)]
    np.testing.assert_array_equal(*painted)
    assert painted[0].any()


def test_particles_are_points_again(tmp_path):
    path = tmp_path / "picks.mod"
    where = np.random.default_rng(2).uniform(1, 6, (5, 3))
    turned = np.tile(np.eye(3)[[1, 2, 0]], (5, 1, 1))
    picks = Particles(where, turned, np.arange(5.0), [3, 1, 3, 1, 3], {"note": "abcde"}, VOXEL)
    with pytest.warns(HeaderWarning, match="left out: orientations, scores, note"):
        write_particles(path, picks, shape=SHAPE)
    found = read_particles(path)
    order = np.argsort(picks.classes, kind="stable")
    np.testing.assert_allclose(found.coordinates, where[order], atol=1e-5)
    assert found.classes.tolist() == [1, 1, 3, 3, 3] and found.voxel_size == VOXEL
    assert read_particles(path, 2 * VOXEL).coordinates == pytest.approx(where[order] / 2, abs=1e-5)
    write_particles(path, Particles(where, voxel_size=VOXEL), overwrite=True)
    assert read_particles(path).classes is None
    with pytest.raises(FileError, match="an object for each class, from 1 to 255"):
        write_particles(tmp_path / "b.mod", Particles(where, classes=[0, 1, 1, 1, 1]))
    assert not (tmp_path / "b.mod").exists()


def test_writing_names_the_package_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "imodmodel.models", None)
    with pytest.raises(FileError, match=r"needs the package imodmodel.*'cryojax-seg\[formats\]'"):
        write_imod(tmp_path / "a.mod", [])
    assert not list(tmp_path.iterdir())
