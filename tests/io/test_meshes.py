"""Meshes that trimesh or Amira wrote become labels where they lie, and what we write is read."""

import tracemalloc
import warnings

import numpy as np
import pytest
import trimesh
from skimage.measure import marching_cubes

from cryojax_seg import cli
from cryojax_seg.core import Tomogram
from cryojax_seg.io import (
    FileError,
    HeaderWarning,
    read_labels,
    read_mesh_labels,
    read_meshes,
    read_tomogram,
    write_mesh,
)

SHAPE, SIZE, ORIGIN = (12, 20, 26), (12.0, 11.0, 10.0), (-70.0, 40.0, 25.0)
GRID = Tomogram(np.zeros(SHAPE, np.float32), SIZE, ORIGIN, name="t.mrc")
FORMS = ("obj", "ply", "stl", "glb", "surf")


def body():
    """An asymmetric body: a box, and a smaller one on one of its faces."""
    inside = np.zeros(SHAPE, bool)
    inside[2:8, 3:15, 4:18] = True
    inside[8:10, 5:9, 12:22] = True
    return inside


@pytest.fixture(scope="module")
def mesh():
    """Vertices in angstrom, zyx, of the boundary of the body, and its triangles."""
    places, faces, *_ = marching_cubes(np.pad(body(), 1).astype(np.float32), 0.5)
    return (places - 1) * SIZE + ORIGIN, faces.astype(np.int64)


def by_trimesh(path, vertices, faces):
    trimesh.Trimesh(vertices[:, ::-1], faces[:, ::-1], process=False).export(path)


def amira(vertices, patches, binary=False):
    """The bytes of a surface as Amira writes it; patches are (inner, outer, triangles)."""
    points = vertices[:, ::-1]
    head = (
        f"# HyperSurface 0.1 {'BINARY' if binary else 'ASCII'}\n\nParameters {{\n    Materials {{\n"
    )
    head += "        Exterior { Id 1 }\n        er { Id 2 }\n        mito { Id 3 }\n    }\n}\n\n"
    found = head.encode() + f"Vertices {len(points)}\n".encode()
    found += points.astype(">f4").tobytes() + b"\n" if binary else rows(points)
    found += b"NBranchingPoints 0\nNVerticesOnCurves 0\nBoundaryCurves 0\n"
    found += f"Patches {len(patches)}\n".encode()
    for inner, outer, triangles in patches:
        found += f"{{\nInnerRegion {inner}\nOuterRegion {outer}\nBoundaryID 0\n".encode()
        found += f"BranchingPoints 0\n\nTriangles {len(triangles)}\n".encode()
        found += (triangles + 1).astype(">i4").tobytes() if binary else rows(triangles + 1)
        found += b"}\n"
    return found


def rows(values):
    return "".join(" ".join(f"{v:.9g}" for v in row) + "\n" for row in values.tolist()).encode()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("writer", ["ours", "theirs"])
def test_closed_meshes_are_filled(tmp_path, mesh, form, writer):
    vertices, faces = mesh
    path = tmp_path / f"a.{form}"
    if writer == "ours":
        write_mesh(path, vertices, faces)
    elif form == "surf":
        path.write_bytes(amira(vertices, [("er", "Exterior", faces[:, ::-1])]))
    else:
        by_trimesh(path, vertices, faces)
    (one,) = read_meshes(path)
    assert one.closed
    read = one.vertices[one.faces]
    np.testing.assert_allclose(read, vertices[faces], atol=1e-3)  # each triangle, facing as before
    np.testing.assert_array_equal(read_mesh_labels(path, GRID), body())
    if form not in ("obj", "stl"):  # which their content does not tell
        other = path.rename(tmp_path / "a.labels")
        labels = read_labels(other, GRID, classes=("er",), annotated=[3]).labels
        np.testing.assert_array_equal(labels[3], body()[3])
        with pytest.raises(FileError, match="is a mesh.*labels of the tomogram"):
            read_tomogram(other)


def test_what_we_write_trimesh_reads(tmp_path, mesh):
    for form in ("obj", "ply", "stl", "glb"):
        write_mesh(tmp_path / f"a.{form}", *mesh)
        found = trimesh.load_scene(tmp_path / f"a.{form}").to_mesh()
        found.merge_vertices()
        assert found.is_watertight
        volume = trimesh.Trimesh(*mesh).volume  # its sign tells which way triangles face
        assert found.volume == pytest.approx(volume, rel=1e-3)
        low, high = found.bounds[:, ::-1]
        np.testing.assert_allclose([low, high], [mesh[0].min(0), mesh[0].max(0)], atol=1e-3)


@pytest.mark.parametrize("binary", [False, True])
def test_materials_of_amira_share_their_patches(tmp_path, binary):
    """Two bodies with a wall between them, which is a patch of both."""
    at = np.array([[z, y, x] for z in (0.5, 6.5) for y in (1.5, 9.5) for x in (2.5, 10.5, 20.5)])
    outer = [[0, 1, 4, 3], [6, 7, 10, 9], [0, 1, 7, 6], [3, 4, 10, 9], [0, 3, 9, 6]]
    quads = {("er", "Exterior"): outer, ("er", "mito"): [[1, 4, 10, 7]]}
    other = [[n + 1 for n in quad] for quad in outer[:4]]
    quads["mito", "Exterior"] = [*other, [2, 5, 11, 8]]
    patches = [
        (*names, np.array([t for a, b, c, d in some for t in ((a, b, c), (a, c, d))]))
        for names, some in quads.items()
    ]
    path = tmp_path / "a.surf"
    path.write_bytes(amira(at * SIZE + ORIGIN, patches, binary))
    expected = np.zeros(SHAPE, int)
    expected[1:7, 2:10, 3:11], expected[1:7, 2:10, 11:21] = 1, 2
    found = {one.name: one for one in read_meshes(path)}
    assert set(found) == {"er", "mito"} and all(one.closed for one in found.values())
    sizes = [(one.vertices.max(0) - one.vertices.min(0)) / SIZE for one in found.values()]
    np.testing.assert_allclose(sizes, [[6, 8, 8], [6, 8, 10]], atol=1e-3)  # of their own corners
    painted = read_mesh_labels(path, GRID, ("background", "er", "mito"))
    np.testing.assert_array_equal(painted, expected)
    swapped = read_mesh_labels(path, GRID, ("background", "mito", "er"))
    np.testing.assert_array_equal(swapped, np.choose(expected, [0, 2, 1]))


def test_surfaces_with_a_thickness_are_shells(tmp_path, mesh):
    """Of a sphere the shell is known."""
    sphere = trimesh.creation.icosphere(subdivisions=5, radius=45.0)
    middle = np.array([66.0, 110.0, 130.0])
    path = tmp_path / "sphere.ply"
    write_mesh(path, sphere.vertices[:, ::-1] + middle + ORIGIN, sphere.faces[:, ::-1])
    found = read_mesh_labels(path, GRID, thickness=30.0)
    place = np.indices(SHAPE) * np.reshape(SIZE, (3, 1, 1, 1))
    away = abs(np.linalg.norm(place - middle.reshape(3, 1, 1, 1), axis=0) - 45.0)
    clear = abs(away - 15.0) > 0.3  # angstrom
    np.testing.assert_array_equal(found[clear] == 1, away[clear] <= 15.0)
    assert clear.mean() > 0.97
    vertices, faces = mesh
    write_mesh(tmp_path / "open.stl", vertices, faces[:-1])
    with pytest.raises(FileError, match="is an open surface.*thickness in angstrom") as caught:
        read_mesh_labels(tmp_path / "open.stl", GRID)
    assert caught.value.parameters == ("thickness",)


def test_meshes_of_another_place_are_refused(tmp_path, mesh):
    path = tmp_path / "a.ply"
    write_mesh(path, mesh[0] / 10 - 500, mesh[1])
    with pytest.raises(FileError, match="outside t.mrc.*angstrom from its origin") as caught:
        read_mesh_labels(path, GRID)
    assert str(path) in str(caught.value)
    with pytest.raises(FileError, match="has no voxels"):
        read_labels(path)


def test_info_describes_a_mesh(tmp_path, mesh, capsys):
    write_mesh(tmp_path / "er.surf", *mesh)
    write_mesh(tmp_path / "open.stl", mesh[0], mesh[1][:-1])
    for name, words in (("er.surf", "surface 1 (er)  closed"), ("open.stl", "surface 1  open")):
        assert cli.main(["info", str(tmp_path / name)]) == 0
        out = capsys.readouterr().out
        assert words in out and "triangles, 96 x 132 x 180 A (z, y, x)" in out, out


def damaged(path, tmp_path):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HeaderWarning)
            return type(read_meshes(path))
    except FileError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return FileError


@pytest.mark.parametrize("form", [*FORMS, "binary surf"])
def test_random_damage(tmp_path, form):
    """Whatever the bytes: surfaces or a FileError that names the file, and little memory."""
    sphere = trimesh.creation.icosphere(subdivisions=1, radius=45.0)
    path = tmp_path / f"a.{form.split()[-1]}"
    if "surf" in form:
        patches = [("er", "Exterior", sphere.faces)]
        path.write_bytes(amira(sphere.vertices, patches, binary=form.startswith("binary")))
    else:
        by_trimesh(path, sphere.vertices, sphere.faces)
    raw = path.read_bytes()
    rng, seen = np.random.default_rng(8), set()
    damaged(path, tmp_path)  # so that modules are there
    tracemalloc.start()
    try:
        for _ in range(200):
            changed = bytearray(raw)
            for place in rng.integers(0, min(len(raw), 1500), rng.integers(1, 5)):
                changed[place] = int(rng.choice([0, 1, 57, 127, 128, 255, rng.integers(256)]))
            if rng.random() < 0.1:
                changed = changed[: rng.integers(1, len(changed))]
            path.write_bytes(changed)
            seen.add(damaged(path, tmp_path))
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert seen == {list, FileError}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ply", b"ply\nformat binary_little_endian 1.0\nelement vertex 999999999\n"
                  b"property float x\nproperty float y\nproperty float z\nelement face 1\n"
                  b"property list uchar int vertex_indices\nend_header\n" + bytes(40)),
        ("a.stl", bytes(80) + b"\xff\xff\xff\x7f" + bytes(50)),
        ("a.surf", b"# HyperSurface 0.1 ASCII\n\nVertices 999999999\n0 0 0\n"),
        ("b.surf", b"# HyperSurface 0.1 BINARY\n\nVertices 999999999\n" + bytes(40)),
        ("a.obj", b"v 0 0 0\n"),
        ("a.glb", b"glTF" + bytes(30)),
    ],
)  # fmt: skip
def test_huge_claims_and_empty_meshes_are_refused(put, name, content):
    path = put(name, content)
    with pytest.raises(FileError, match="save it again|holds no triangle"):
        read_meshes(path)
    tracemalloc.start()
    try:
        with pytest.raises(FileError) as caught:
            read_meshes(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)


def test_a_missing_package_is_named(tmp_path, mesh, monkeypatch):
    write_mesh(tmp_path / "a.ply", *mesh)
    monkeypatch.setitem(__import__("sys").modules, "trimesh", None)
    with pytest.raises(FileError, match=r"needs the package trimesh.*'cryojax-seg\[formats\]'"):
        read_meshes(tmp_path / "a.ply")
