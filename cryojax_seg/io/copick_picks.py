"""Read and write picks of copick (.json) and of the CryoET Data Portal (.ndjson).

copick places a particle at its location plus the shift in its transformation, both in angstrom from
the first voxel; the transformation turns the object into the tomogram. The portal counts voxels and
writes one particle a line.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cryojax_seg.core.particles import Particles
from cryojax_seg.io.columns import words
from cryojax_seg.io.copick_reading import parsed
from cryojax_seg.io.euler import euler_angles
from cryojax_seg.io.files import FileError, atomic_write
from cryojax_seg.io.plain import parse_json, read_bytes, read_json_object
from cryojax_seg.text import shown

PICKS = (".json", ".ndjson")
_LARGEST = 2**28  # bytes
_ANGLES = ("rot", "tilt", "psi")


def is_picks(path: Path) -> bool:
    """Return whether this is a file of picks of copick or of the portal.

    >>> is_picks(Path("labels.mrc"))
    False
    """
    if path.suffix.lower() == ".ndjson":
        return path.is_file()
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    try:
        return "pickable_object_name" in read_json_object(path, _LARGEST)
    except FileError:
        return False


def read_columns(path: Path) -> dict[str, list[str]]:
    """Return picks as the columns of a table; see `io.spreadsheet` for their names.

    Coordinates are in voxels where the file says of what size, else in angstrom.

    Raises:
        FileError: naming the file, and the point that is not as copick or the portal writes it.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "me_1_ribosome.json"
    >>> point = {"location": {"x": 60.0, "y": 40.0, "z": 20.0}}
    >>> _ = file.write_text(json.dumps({"pickable_object_name": "ribosome", "voxel_spacing": 10.0,
    ...                                 "points": [point]}))
    >>> columns = read_columns(file)
    >>> columns["z"], columns["y"], columns["x"], columns["voxel_size_angstrom"]
    (['2.0'], ['4.0'], ['6.0'], ['10.0'])
    """
    if path.suffix.lower() == ".ndjson":
        where, turns = _arrays(_lines(path), path, "xyz_rotation_matrix")
        return _columns(where, turns)
    content = read_json_object(path, _LARGEST)
    points, size = content.get("points"), content.get("voxel_spacing")
    points = [] if points is None else points
    if not isinstance(points, list):
        raise FileError(f"{path}: points is {shown(points, 60)}, a list is needed; copy it again")
    if content.get("unit", "angstrom") != "angstrom":
        raise FileError(
            f"{path}: its unit is {shown(content['unit'], 60)}; copick writes angstrom, convert it"
        )
    if size is not None and not (isinstance(size, (int, float)) and 0 < size < 1e6):
        raise FileError(f"{path}: its voxel_spacing is {shown(size, 60)}; give angstrom above 0")
    where, turns = _arrays(points, path, "transformation_")
    where = where + turns[:, :3, 3]
    if content.get("trust_orientation") is False:
        turns = np.broadcast_to(np.eye(4), turns.shape)
    size = float(size or 1.0)
    columns = _columns(where / size, turns) | {"voxel_size_angstrom": [repr(size)] * len(where)}
    for key, label in (("score", "score"), ("instance_id", "instance_id")):
        values = [one.get(key) for one in points]
        if values and all(isinstance(value, (int, float)) for value in values):
            columns[label] = [repr(value) for value in values]
    for key, label in (("run_name", "rlnTomoName"), ("pickable_object_name", "rlnParticleName")):
        name = content.get(key)
        if isinstance(name, str) and name:
            columns[label] = [name] * len(where)
    return columns


def write(path: Path, particles: Particles, overwrite: bool) -> None:
    """Write picks as copick reads them; their user, session and object are in the name.

    Args:
        path: ending in USER_SESSION_OBJECT.json.
        particles: with their voxel size; the run is their column rlnTomoName, else the folder.
        overwrite: replace an existing file.

    Raises:
        FileError: for another name, or an unknown voxel size.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "me_1_ribosome.json"
    >>> write(file, Particles([[2.0, 4.0, 6.0]], voxel_size=10.0), overwrite=False)
    >>> read_json_object(file)["points"][0]["location"]
    {'x': 60.0, 'y': 40.0, 'z': 20.0}
    """
    names = parsed("picks", "", path)
    if names is None:
        raise FileError(f"{path}: picks of copick are called USER_SESSION_OBJECT.json; rename it")
    size = particles.voxel_size
    if size is None:
        raise FileError(
            f"{path}: copick counts in angstrom, and the voxel size is unknown; give voxel_size",
            "voxel_size",
        )
    matrices = np.zeros((len(particles), 4, 4))
    matrices[:, :3, :3], matrices[:, 3, 3] = particles.rotations[:, ::-1, ::-1], 1.0
    scores = np.ones(len(particles)) if particles.scores is None else particles.scores
    numbers = particles.columns.get("instance_id", ["0"] * len(particles))
    runs = particles.columns.get("rlnTomoName") or [path.absolute().parent.parent.name]
    where = (particles.coordinates * size).tolist()
    rows = zip(where, matrices.tolist(), scores, numbers, strict=True)
    points = [
        {
            "location": {"x": x, "y": y, "z": z},
            "transformation_": matrix,
            "instance_id": int(float(number)),
            "score": float(score),
        }
        for (z, y, x), matrix, score, number in rows
    ]
    content = {
        "pickable_object_name": names.name,
        "user_id": names.user,
        "session_id": names.session,
        "run_name": runs[0],
        "voxel_spacing": size,
        "unit": "angstrom",
        "points": points,
        "trust_orientation": bool(len(points) and (matrices != np.eye(4)).any()),
    }
    with atomic_write(path, overwrite) as file:
        file.write_text(json.dumps(content, indent=4))


def _columns(where: np.ndarray, turns: np.ndarray) -> dict[str, list[str]]:
    """Return coordinates (x, y, z) and turns as columns of words."""
    columns = {axis: words(where[:, i]) for axis, i in (("z", 2), ("y", 1), ("x", 0))}
    if len(turns) and (turns[:, :3, :3] != np.eye(3)).any():
        angles = euler_angles(turns[:, 2::-1, 2::-1])
        columns |= {name: words(angles[:, i]) for i, name in enumerate(_ANGLES)}
    return columns


def _arrays(points: list[Any], path: Path, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return locations ``(n, 3)`` and transformations ``(n, 4, 4)``, in the order x, y, z."""
    where, turns = np.zeros((len(points), 3)), np.zeros((len(points), 4, 4))
    turns[:] = np.eye(4)
    for row, one in enumerate(points):
        try:
            where[row] = [float(one["location"][axis]) for axis in "xyz"]
            matrix = np.asarray(one.get(key) or np.eye(3), np.float64)
            turns[row, : len(matrix), : len(matrix)] = matrix
            right = matrix.shape in ((3, 3), (4, 4)) and np.isfinite([*where[row], *matrix.flat])
            rotation = turns[row, :3, :3]
            if not np.all(right) or abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3:
                raise ValueError("its transformation is no rotation")
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise FileError(
                f"{path}: point {row + 1} is not as copick writes it ({error}); correct it"
            ) from None
    return where, turns


def _lines(path: Path) -> list[Any]:
    """Return the value of each line."""

    def values() -> Iterator[Any]:
        for number, line in enumerate(read_bytes(path, _LARGEST).splitlines(), 1):
            if line.strip():
                try:
                    yield parse_json(line)
                except ValueError as error:
                    raise FileError(f"{path}: line {number} {error}; copy it again") from None

    return list(values())
