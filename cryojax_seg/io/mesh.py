"""Write triangle meshes as OBJ, PLY, STL, GLB and Amira surface files."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cryojax_seg.io.files import FileError, PathLike, atomic_write

MESH_SUFFIXES = (".obj", ".ply", ".stl", ".glb", ".surf")


def write_mesh(
    path: PathLike,
    vertices: np.ndarray,
    faces: np.ndarray,
    values: Mapping[str, np.ndarray] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a triangle mesh in the format of the suffix.

    OBJ and the surfaces of Amira (.surf) are text; PLY, STL and GLB, as copick has it, are binary.

    Coordinates become (x, y, z), and each triangle is turned so that it faces as before.

    Args:
        path: ending in .obj, .ply, .stl, .glb or .surf.
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
        elif suffix == ".surf":
            file.write_text(_surf(points, triangles, Path(path).stem))
        elif suffix == ".ply":
            file.write_bytes(_ply(points, triangles, values or {}))
        else:
            file.write_bytes((_glb if suffix == ".glb" else _stl)(points, triangles))


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


def _glb(points: np.ndarray, triangles: np.ndarray) -> bytes:
    """Return a binary file of glTF 2.0 with one mesh: a header, a chunk of JSON, one of bytes."""
    parts = (points.astype("<f4").tobytes(), triangles.astype("<u4").tobytes())
    first, second = map(len, parts)
    bounds = {"min": points.min(0).tolist(), "max": points.max(0).tolist()} if len(points) else {}
    content = {
        "asset": {"version": "2.0", "generator": "cryojax_seg"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "buffers": [{"byteLength": first + second}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": first, "target": 34962},
            {"buffer": 0, "byteOffset": first, "byteLength": second, "target": 34963},
        ],
        "accessors": [
            {
                "bufferView": 0,
                "componentType": 5126,
                "count": len(points),
                "type": "VEC3",
                **bounds,
            },
            {"bufferView": 1, "componentType": 5125, "count": triangles.size, "type": "SCALAR"},
        ],
    }
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    chunks = b""
    for kind, data in ((b"JSON", text), (b"BIN\0", b"".join(parts))):
        chunks += np.array(len(data), "<u4").tobytes() + kind + data
    return b"glTF" + np.array([2, 12 + len(chunks)], "<u4").tobytes() + chunks


def _surf(points: np.ndarray, triangles: np.ndarray, name: str) -> str:
    """Return a HyperSurface of Amira with one patch, between a material and the exterior."""
    material = re.sub(r"\W", "_", name) or "surface"
    lines = ["# HyperSurface 0.1 ASCII", "", "Parameters {", "    Materials {"]
    lines += ["        Exterior { Id 1 }", f"        {material} {{ Id 2 }}", "    }", "}", ""]
    lines += [f"Vertices {len(points)}"]
    lines += [f"{x:.7g} {y:.7g} {z:.7g}" for x, y, z in points.tolist()]
    lines += ["NBranchingPoints 0", "NVerticesOnCurves 0", "BoundaryCurves 0", "Patches 1", "{"]
    lines += [f"InnerRegion {material}", "OuterRegion Exterior", "BoundaryID 0"]
    lines += ["BranchingPoints 0", " ", f"Triangles {len(triangles)}"]  # ahds needs the blank line
    lines += [f"{a} {b} {c}" for a, b, c in (triangles + 1).tolist()]
    return "\n".join([*lines, "}", ""])
