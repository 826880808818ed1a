"""Write triangle meshes as OBJ, PLY and STL files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cryojax_seg.io.files import FileError, PathLike, atomic_write

MESH_SUFFIXES = (".obj", ".ply", ".stl")


def write_mesh(
    path: PathLike,
    vertices: np.ndarray,
    faces: np.ndarray,
    values: Mapping[str, np.ndarray] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a triangle mesh in the format of the suffix: OBJ (text), PLY or STL (binary).

    Coordinates become (x, y, z), and each triangle is turned so that it faces as before.

    Args:
        path: ending in .obj, .ply or .stl.
        vertices: ``(n, 3)`` in angstrom, (z, y, x).
        faces: ``(m, 3)`` indices of vertices.
        values: numbers for each vertex, by name, such as curvatures: vertex properties of a PLY
            file. The other formats have no place for them.
        overwrite: replace an existing file.

    Raises:
        FileError: for another suffix, or as `atomic_write`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "triangle.obj"
    >>> write_mesh(path, np.array([[0, 0, 1], [0, 2, 0], [3, 0, 0]]), np.array([[0, 1, 2]]))
    >>> path.read_text().split()
    ['v', '1', '0', '0', 'v', '0', '2', '0', 'v', '0', '0', '3', 'f', '3', '2', '1']
    """
    suffix = Path(path).suffix.lower()
    if suffix not in MESH_SUFFIXES:
        raise FileError(f"{path}: meshes are written as {', '.join(MESH_SUFFIXES)}")
    points = np.asarray(vertices, np.float32).reshape(-1, 3)[:, ::-1]
    triangles = np.asarray(faces, np.int32).reshape(-1, 3)[:, ::-1]
    with atomic_write(path, overwrite) as file:
        if suffix == ".obj":
            file.write_text(_obj(points, triangles))
        elif suffix == ".ply":
            file.write_bytes(_ply(points, triangles, values or {}))
        else:
            file.write_bytes(_stl(points, triangles))


def _obj(points: np.ndarray, triangles: np.ndarray) -> str:
    lines = [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in points.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (triangles + 1).tolist()]
    return "\n".join(lines) + "\n"


def _ply(points: np.ndarray, triangles: np.ndarray, values: Mapping[str, np.ndarray]) -> bytes:
    columns = [(name, "<f4") for name in ("x", "y", "z", *values)]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header += [f"property float {name}" for name, _ in columns]
    header += [f"element face {len(triangles)}", "property list uchar int vertex_indices"]
    table = np.zeros(len(points), columns)
    for axis, name in enumerate("xyz"):
        table[name] = points[:, axis]
    for name, numbers in values.items():
        table[name] = numbers
    listed = np.zeros(len(triangles), [("count", "u1"), ("index", "<i4", 3)])
    listed["count"], listed["index"] = 3, triangles
    text = "\n".join([*header, "end_header", ""])
    return text.encode("ascii") + table.tobytes() + listed.tobytes()


def _stl(points: np.ndarray, triangles: np.ndarray) -> bytes:
    records = np.zeros(
        len(triangles), [("normal", "<f4", 3), ("corner", "<f4", (3, 3)), ("", "<u2")]
    )
    corners = points[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    records["normal"] = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    records["corner"] = corners
    count = np.array(len(triangles), "<u4")
    return b"cryojax_seg".ljust(80, b" ") + count.tobytes() + records.tobytes()
