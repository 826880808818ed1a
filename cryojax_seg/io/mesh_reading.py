"""Read triangle meshes: OBJ, PLY, STL and GLB with the package trimesh, and surfaces of Amira.

A HyperSurface of Amira (.surf) consists of patches, each between an inner and an outer region.
"""

import dataclasses
import io
import re
from pathlib import Path

import numpy as np

from cryojax_seg.io.block import library
from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.io.plain import read_bytes
from cryojax_seg.text import shortened

_MAGIC = {b"ply": ".ply", b"glTF": ".glb", b"# HyperSurface": ".surf"}
_PLAIN = (".stl", ".obj")  # whose content does not tell them
_LARGEST = 2**31  # bytes
_OUTSIDE = b"Exterior"
_VERTICES = re.compile(rb"\n\s*Vertices\s+(\d{1,9})[ \t]*\r?\n")
_PATCH = re.compile(
    rb"\{?\s*InnerRegion\s+(\S{1,200})\s+OuterRegion\s+(\S{1,200})"
    rb"[^{}]{0,4000}?Triangles\s+(\d{1,9})[ \t]*\r?\n"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Surface:
    """Holds a triangle mesh.

    Attributes:
        name: of the object or material; empty if it has none.
        vertices: ``(n, 3)`` angstrom, zyx.
        faces: ``(m, 3)`` indices of vertices.

    >>> square = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 1], [0, 1, 0]])
    >>> Surface("", square, np.array([[0, 1, 2], [0, 2, 3]])).closed
    False
    """

    name: str
    vertices: np.ndarray
    faces: np.ndarray

    @property
    def closed(self) -> bool:
        """Return whether it has an inside: each edge belongs to an even number of triangles."""
        _, same = np.unique(self.vertices, axis=0, return_inverse=True)
        corners = same.ravel()[self.faces]
        edges = np.sort(
            np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
        )
        edges = edges[edges[:, 0] != edges[:, 1]]
        _, counts = np.unique(edges, axis=0, return_counts=True)
        return len(counts) > 0 and bool((counts % 2 == 0).all())


def is_mesh(path: PathLike) -> bool:
    """Return whether a file is a triangle mesh.

    >>> is_mesh("missing.ply")
    False
    """
    return _form(Path(path)) is not None


def form_of(start: bytes) -> str | None:
    """Return the format of a mesh that begins like this, by its suffix; None for anything else.

    >>> form_of(b"ply\\nformat ascii 1.0"), form_of(b"# AmiraMesh")
    ('.ply', None)
    """
    return next((form for magic, form in _MAGIC.items() if start.startswith(magic)), None)


def read_meshes(path: PathLike) -> list[Surface]:
    """Read a mesh, or the boundary of each material of an Amira surface.

    The first bytes of a file tell its format; STL and OBJ have no such bytes, so that the name
    does. What an OBJ or glTF file refers to besides itself is not read.

    Raises:
        FileError: if it is damaged or empty, or the package trimesh is missing.

    >>> import tempfile
    >>> from cryojax_seg.io import write_mesh
    >>> file = Path(tempfile.mkdtemp()) / "a.surf"
    >>> write_mesh(file, np.array([[0, 0, 1], [0, 2, 0], [3, 0, 0]]), np.array([[0, 1, 2]]))
    >>> read_meshes(file)[0].vertices.tolist()
    [[0.0, 0.0, 1.0], [0.0, 2.0, 0.0], [3.0, 0.0, 0.0]]
    """
    path = Path(path)
    form = _form(path)
    if form is None:
        raise FileError(f"{path}: is no mesh; meshes are .obj, .ply, .stl, .glb or .surf (Amira)")
    content = read_bytes(path, _LARGEST)
    found = _amira(content, path) if form == ".surf" else [_by_trimesh(content, form, path)]
    kept = []
    for one in found:
        with np.errstate(invalid="ignore"):  # damaged numbers are refused below
            points = np.asarray(one.vertices, float)
        faces = np.asarray(one.faces, np.int64)
        if not points.size or not faces.size:
            continue
        if not np.isfinite(points).all() or faces.min() < 0 or faces.max() >= len(points):
            raise _damaged(path, "a vertex is not finite, or a triangle has no vertex")
        used, corners = np.unique(faces, return_inverse=True)  # surfaces of a file share vertices
        faces = corners.reshape(faces.shape)
        kept.append(Surface(one.name, points[used, ::-1], faces[:, ::-1]))  # x, y, z in files
    if not kept:
        raise FileError(f"{path}: holds no triangle; name another file")
    return kept


def describe_mesh(path: PathLike) -> dict[str, str]:
    """Return what a mesh holds, by name, ready to print.

    Raises:
        FileError: as `read_meshes`.
    """
    facts = {}
    for number, one in enumerate(read_meshes(path), 1):
        kind = "closed" if one.closed else "open"
        low, high = one.vertices.min(0), one.vertices.max(0)
        extent = " x ".join(f"{length:.4g}" for length in high - low)
        facts[f"surface {number}" + f" ({one.name})" * bool(one.name)] = (
            f"{kind}, {len(one.faces)} triangles, {extent} A (z, y, x)"
        )
    return facts


def _form(path: Path) -> str | None:
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        return None
    suffix = path.suffix.lower()
    return form_of(start) or (suffix if suffix in _PLAIN else None)


def _by_trimesh(content: bytes, form: str, path: Path) -> Surface:
    trimesh = library("trimesh", path, "a mesh")
    try:
        scene = trimesh.load_scene(io.BytesIO(content), file_type=form[1:], process=False)
        mesh = scene.to_mesh()
        return Surface("", np.asarray(mesh.vertices), np.asarray(mesh.faces))
    except Exception as error:  # whatever a damaged file makes its readers raise
        raise _damaged(path, f"{type(error).__name__}: {error}") from None


def _amira(content: bytes, path: Path) -> list[Surface]:
    """Return the boundaries of the materials, x, y, z."""
    first = content[:64].split(b"\n")[0]
    binary, order = b"BINARY" in first, "<" if b"LITTLE" in first else ">"
    match = _VERTICES.search(content)
    if match is None:
        raise _damaged(path, "it has no vertices")

    def numbers(start: int, count: int, kind: str) -> tuple[np.ndarray, int]:
        """Return rows of three numbers, and where they end."""
        if 3 * count * (4 if binary else 2) > len(content) - start + 1:
            raise _damaged(path, f"it claims {count} rows at byte {start}")
        if binary:
            return np.frombuffer(content, f"{order}{kind}4", 3 * count, start).reshape(-1, 3), (
                start + 12 * count
            )
        lines = re.compile(rb"(?:[^\n]*\n){%d}" % count).match(content, start)
        if lines is None:
            raise _damaged(path, f"it claims {count} rows at byte {start}")
        try:
            return np.array(lines[0].split(), float).reshape(count, 3), lines.end()
        except ValueError:
            raise _damaged(path, f"a row after byte {start} is not three numbers") from None

    points, place = numbers(match.end(), int(match[1]), "f")
    parts: dict[bytes, list[np.ndarray]] = {}
    while (patch := _PATCH.search(content, place)) is not None:
        triangles, place = numbers(patch.end(), int(patch[3]), "i")
        for region in {patch[1], patch[2]} - {_OUTSIDE}:
            parts.setdefault(region, []).append(triangles - 1)
    names = {region: region.decode("latin-1").replace("_", " ") for region in parts}
    return [
        Surface(names[region], points, np.concatenate(faces)) for region, faces in parts.items()
    ]


def _damaged(path: Path, why: str) -> FileError:
    return FileError(f"{path}: damaged mesh ({shortened(why, 160)}); save it again")
