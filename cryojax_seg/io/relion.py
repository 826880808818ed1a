"""RELION's tables of particles: versions 3.1 (voxels from a corner) and 5 (angstrom, centred)."""

import decimal
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cryojax_seg.core.particles import Particles, Table
from cryojax_seg.core.types import Shape
from cryojax_seg.io.columns import numbers, take_numbers, words
from cryojax_seg.io.euler import euler_angles, euler_matrices
from cryojax_seg.io.files import FileError

_CORNER = tuple(f"rlnCoordinate{a}" for a in "ZYX")
_CENTRED = tuple(f"rlnCenteredCoordinate{a}Angst" for a in "ZYX")
_SHIFT = tuple(f"rlnOrigin{a}Angst" for a in "ZYX")
_ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
_BOX_ANGLES = tuple(f"rlnTomoSubtomogram{a}" for a in ("Rot", "Tilt", "Psi"))
_SCORE, _CLASS, _GROUP = "rlnAutopickFigureOfMerit", "rlnClassNumber", "rlnOpticsGroup"
_SIZES = ("rlnImagePixelSize", "rlnTomoTiltSeriesPixelSize")
_EXACT = decimal.Context(prec=60)


def parse(
    blocks: Mapping[str, Table], path: Path, voxel_size: float | int | None, shape: Shape | None
) -> Particles:
    """Particles from the tables of a STAR file; see `io.read_particles`.

    The voxel size comes from ``rlnPixelSize`` of the particles or from the optics table; a shift
    is taken away as RELION does it, ``x - A_box @ origin / voxel size``.
    """
    name = "particles" if "particles" in blocks else list(blocks)[-1]
    others = {key: table for key, table in blocks.items() if key != name}
    table = {label: list(column) for label, column in blocks[name].items()}
    size = _voxel_size(table, others.get("optics", {}), path)
    size = float(voxel_size) if voxel_size is not None else size
    count = len(next(iter(table.values()), []))
    if set(_CENTRED) <= set(table):
        if size is None or shape is None:
            raise FileError(
                f"{path}: has centred coordinates in angstrom (RELION 5), which need the voxel "
                "size and the shape of their tomogram; name the tomogram"
            )
        numbers(table, _CENTRED, path)  # refuses what is not a number
        axes = zip(_CENTRED, shape, strict=True)
        where = np.stack([_decentred(table.pop(label), size, n) for label, n in axes], -1)
        for label in _CORNER:
            table.pop(label, None)
    else:
        where = take_numbers(table, _CORNER, path)
    rotations = np.broadcast_to(np.eye(3), (count, 3, 3))
    if set(_BOX_ANGLES) <= set(table):
        rotations = euler_matrices(take_numbers(table, _BOX_ANGLES, path))
    if set(_SHIFT) <= set(table):
        shift = take_numbers(table, _SHIFT, path)
        if np.any(shift != 0):
            if size is None:
                raise FileError(
                    f"{path}: has shifts in angstrom (rlnOriginXAngst) but no voxel size; give it "
                    "with --voxel-size ANGSTROM"
                )
            where = where - np.einsum("nij,nj->ni", rotations, shift) / size
    if set(_ANGLES) <= set(table):
        rotations = rotations @ euler_matrices(take_numbers(table, _ANGLES, path))
    scores = take_numbers(table, (_SCORE,), path)[:, 0] if _SCORE in table else None
    classes = take_numbers(table, (_CLASS,), path)[:, 0] if _CLASS in table else None
    columns = {label: tuple(column) for label, column in table.items()}
    return Particles(where, rotations, scores, classes, columns, size, others)


def tables(particles: Particles, path: Path, shape: Shape | None) -> dict[str, Table]:
    """The tables of a STAR file, in the form of version 3.1, or of version 5 if `shape` is given.

    Raises:
        FileError: if the voxel size is unknown.
        ValueError: if a column has the label of a number that is written.
    """
    size, count = particles.voxel_size, len(particles)
    if size is None:
        raise FileError(
            f"{path}: RELION's tables need the voxel size of the tomogram; give it with "
            "--voxel-size ANGSTROM (or Particles(voxel_size=...))"
        )
    numbers: dict[str, list[str]] = {}
    for axis in (2, 1, 0):
        column = particles.coordinates[:, axis]
        if shape is None:
            numbers[_CORNER[axis]] = words(column)
        else:
            numbers[_CENTRED[axis]] = [_centred(v, size, shape[axis]) for v in column.tolist()]
    angles = euler_angles(particles.rotations)
    numbers |= {label: words(angles[:, i]) for i, label in enumerate(_ANGLES)}
    if particles.scores is not None:
        numbers[_SCORE] = words(particles.scores)
    if particles.classes is not None:
        numbers[_CLASS] = words(particles.classes)
    twice = sorted(set(numbers) & set(particles.columns))
    if twice:
        raise ValueError(f"{path}: the columns {', '.join(twice)} are written from other values")
    table = dict(particles.columns)
    if _GROUP not in table:
        numbers[_GROUP] = ["1"] * count
    optics = dict[str, Sequence[str]](particles.tables.get("optics", {}))
    rows = len(next(iter(optics.values()), ()))
    if not rows:
        optics |= {_GROUP: ["1"], "rlnOpticsGroupName": ["opticsGroup1"]}
        rows = 1
    for label in _SIZES if shape is not None else _SIZES[:1]:
        optics[label] = [repr(float(size))] * rows
    others = {name: t for name, t in particles.tables.items() if name != "optics"}
    return {"optics": optics, **others, "particles": table | numbers}


def _voxel_size(table: dict[str, list[str]], optics: Table, path: Path) -> float | None:
    found: set[float] = set()
    if "rlnPixelSize" in table:
        found = set(take_numbers(table, ("rlnPixelSize",), path)[:, 0].tolist())
    for label in _SIZES:
        if not found and label in optics:
            found = set(numbers(optics, (label,), path)[:, 0].tolist())
    return found.pop() if len(found) == 1 else None


def _decentred(column: list[str], size: float, length: int) -> np.ndarray:
    """``x / size + length / 2`` in decimals, so that what `_centred` wrote comes back exactly."""
    voxel = decimal.Decimal(size)
    half = decimal.Decimal(length) / 2
    values = [_EXACT.add(_EXACT.divide(decimal.Decimal(w), voxel), half) for w in column]
    return np.array([float(v) for v in values], np.float64)


def _centred(value: float, size: float, length: int) -> str:
    """``(value - length / 2) * size`` in as few digits as bring the value back exactly."""
    offset = _EXACT.subtract(decimal.Decimal(value), decimal.Decimal(length) / 2)
    exact = _EXACT.multiply(offset, decimal.Decimal(size))
    for digits in range(15, 60):
        word = f"{decimal.Context(prec=digits).plus(exact):f}"
        if _decentred([word], size, length)[0] == value:
            return word
    return f"{exact:f}"
