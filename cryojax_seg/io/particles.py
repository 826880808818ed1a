"""Tables of particles as RELION, Dynamo and spreadsheets have them."""

import csv
import warnings
from pathlib import Path
from typing import Literal

import numpy as np

from cryojax_seg.core.particles import Particles, Table
from cryojax_seg.core.types import Shape
from cryojax_seg.io import relion
from cryojax_seg.io.columns import numbers, take_numbers, words
from cryojax_seg.io.euler import euler_angles, euler_matrices
from cryojax_seg.io.files import (
    FileError,
    HeaderWarning,
    PathLike,
    atomic_write,
    existing_file,
)
from cryojax_seg.io.star import read_star, write_star

Dialect = Literal["relion3", "relion5", "dynamo", "csv"]
_BY_SUFFIX: dict[str, Dialect] = {".star": "relion3", ".tbl": "dynamo", ".csv": "csv"}

# The columns of a Dynamo table, by Dynamo's names; those without one have their number.
DYNAMO = (
    *("tag", "aligned", "averaged", "dx", "dy", "dz", "tdrot", "tilt", "narot", "cc", "cc2"),
    *("cpu", "ftype", "ymintilt", "ymaxtilt", "xmintilt", "xmaxtilt", "fs1", "fs2", "tomo"),
    *("reg", "class", "annotation", "x", "y", "z", "dshift", "daxis", "dnarot", "dcc", "otag"),
    *("npar", "col33", "ref", "sref", "apix", "def", "col38", "col39", "col40", "eig1", "eig2"),
)


def read_particles(
    path: PathLike, voxel_size: float | int | None = None, shape: Shape | None = None
) -> Particles:
    """Reads a table of particles: RELION (.star), Dynamo (.tbl) or CSV (.csv).

    - RELION 3.1 and its forerunners: ``rlnCoordinateX`` are voxels of the tomogram from its first
      voxel. RELION 5: ``rlnCenteredCoordinateXAngst`` are angstrom from the point at half the
      size of the tomogram. Shifts (``rlnOriginXAngst``) and the turns of pseudo-subtomograms are
      applied and no longer stand apart.
    - Dynamo counts voxels from 1; its shifts ``dx`` are added.
    - CSV: columns ``z``, ``y``, ``x`` (voxels from the first), and if they are there ``rot``,
      ``tilt``, ``psi`` (degrees, as RELION's), ``score``, ``class``, ``voxel_size_angstrom``.

    All other columns, and other tables of the file, are kept as they are.

    Args:
        path: the table.
        voxel_size: of the tomogram, angstrom; wins over what the file says.
        shape: of the tomogram, ``(z, y, x)``; needed for centred coordinates only.

    Raises:
        FileError: naming the file and what it lacks, or what is missing to read it.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = path.write_text("z,y,x,note\\n1.5,2,3,good one\\n")
    >>> read_particles(path).columns
    {'note': ('good one',)}
    """
    path = existing_file(path)
    suffix = path.suffix.lower()
    if suffix == ".star":
        return relion.parse(read_star(path), path, voxel_size, shape)
    if suffix == ".tbl":
        return _read_dynamo(path, voxel_size)
    if suffix == ".csv":
        return _read_csv(path, voxel_size)
    raise FileError(f"{path}: tables of particles end in .star, .tbl (Dynamo) or .csv")


def write_particles(
    path: PathLike,
    particles: Particles,
    dialect: Dialect | None = None,
    shape: Shape | None = None,
    overwrite: bool = False,
) -> None:
    """Writes a table of particles that `read_particles` reads back exactly.

    Coordinates come back bit for bit (for RELION 5 where they exceed 1e-30 voxels), rotations to
    1e-9. A Dynamo table has no place for columns
    of other programs; those are left out, with a warning that names them.

    Args:
        path: the file.
        particles: what to write.
        dialect: by default what the suffix says: .star is "relion3", .tbl "dynamo", .csv "csv".
        shape: of the tomogram, ``(z, y, x)``; needed for "relion5" only.
        overwrite: replace an existing file.

    Raises:
        FileError: if the file exists, or the voxel size, or for "relion5" the shape, is unknown.
    """
    path = Path(path)
    dialect = _BY_SUFFIX.get(path.suffix.lower()) if dialect is None else dialect
    if dialect is None:
        raise FileError(f"{path}: tables of particles end in .star, .tbl (Dynamo) or .csv")
    if dialect in ("relion3", "relion5"):
        centre = shape if dialect == "relion5" else None
        if dialect == "relion5" and shape is None:
            raise FileError(f"{path}: RELION 5 counts from the middle; give the tomogram's shape")
        write_star(path, relion.tables(particles, path, centre), overwrite)
    elif dialect == "dynamo":
        _write_dynamo(path, particles, overwrite)
    else:
        _write_csv(path, particles, overwrite)


def _read_dynamo(path: Path, voxel_size: float | int | None) -> Particles:
    rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    widths = {len(row) for row in rows}
    if len(widths) > 1 or min(widths, default=26) < 26:
        raise FileError(
            f"{path}: a Dynamo table has 26 columns or more, the same in each row; this has "
            + ", ".join(map(str, sorted(widths)))
        )
    width = widths.pop() if widths else len(DYNAMO)
    names = [*DYNAMO, *(f"col{i + 1}" for i in range(len(DYNAMO), width))][:width]
    table = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    where = numbers(table, ("z", "y", "x"), path) - 1
    # The shift is kept apart from the voxel when it is written, so that no digit is lost.
    where = where + take_numbers(table, ("dz", "dy", "dx"), path)
    tdrot, tilt, narot = take_numbers(table, ("tdrot", "tilt", "narot"), path).T
    if voxel_size is None and "apix" in table:
        sizes = set(numbers(table, ("apix",), path)[:, 0].tolist())
        voxel_size = sizes.pop() if len(sizes) == 1 else None
    for name in ("z", "y", "x", "apix"):
        table.pop(name, None)
    return Particles(
        where,
        euler_matrices(np.stack([narot - 90, tilt, tdrot + 90], -1)),
        take_numbers(table, ("cc",), path)[:, 0],
        take_numbers(table, ("class",), path)[:, 0].astype(np.int64),
        {name: tuple(column) for name, column in table.items()},
        float(voxel_size) if voxel_size else None,
    )


def _write_dynamo(path: Path, particles: Particles, overwrite: bool) -> None:
    count = len(particles)
    extra = [name for name in particles.columns if name not in DYNAMO and name[:3] != "col"]
    if extra:
        message = f"{path}: a Dynamo table has no column for {', '.join(extra)}; left out"
        warnings.warn(message, HeaderWarning, stacklevel=3)
    width = max([len(DYNAMO), *(int(n[3:]) for n in particles.columns if n[:3] == "col")])
    names = [*DYNAMO, *(f"col{i + 1}" for i in range(len(DYNAMO), width))]
    voxel = np.rint(particles.coordinates)
    shift = particles.coordinates - voxel  # exact in floating point
    rot, tilt, psi = euler_angles(particles.rotations).T
    table: dict[str, list[str]] = {name: ["0"] * count for name in names}
    table["tag"] = [str(i + 1) for i in range(count)]
    table["aligned"] = table["averaged"] = ["1"] * count
    table |= {name: list(column) for name, column in particles.columns.items() if name in names}
    for i, axis in enumerate("zyx"):
        table[axis], table[f"d{axis}"] = words(voxel[:, i] + 1), words(shift[:, i])
    table["tdrot"], table["tilt"], table["narot"] = words(psi - 90), words(tilt), words(rot + 90)
    if particles.scores is not None:
        table["cc"] = words(particles.scores)
    if particles.classes is not None:
        table["class"] = words(particles.classes)
    if particles.voxel_size is not None:
        table["apix"] = words(np.full(count, particles.voxel_size))
    with atomic_write(path, overwrite) as file:
        file.write_text("".join(" ".join(r) + "\n" for r in zip(*table.values(), strict=True)))


def _read_csv(path: Path, voxel_size: float | int | None) -> Particles:
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    head, body = ([name.strip() for name in rows[0]], rows[1:]) if rows else ([], [])
    for number, row in enumerate(body, 2):
        if len(row) != len(head):
            raise FileError(f"{path}: row {number} has {len(row)} values for {len(head)} columns")
    table = {name: [row[i] for row in body] for i, name in enumerate(head)}
    where = take_numbers(table, ("z", "y", "x"), path)
    turned = {"rot", "tilt", "psi"} <= set(table)
    rotations = (
        euler_matrices(take_numbers(table, ("rot", "tilt", "psi"), path)) if turned else None
    )
    scores = take_numbers(table, ("score",), path)[:, 0] if "score" in table else None
    classes = take_numbers(table, ("class",), path)[:, 0] if "class" in table else None
    if "voxel_size_angstrom" in table:
        sizes = set(take_numbers(table, ("voxel_size_angstrom",), path)[:, 0].tolist())
        voxel_size = sizes.pop() if voxel_size is None and len(sizes) == 1 else voxel_size
    columns: Table = {name: tuple(column) for name, column in table.items()}
    size = None if voxel_size is None else float(voxel_size)
    return Particles(where, rotations, scores, classes, columns, size)


def _write_csv(path: Path, particles: Particles, overwrite: bool) -> None:
    table = {name: words(particles.coordinates[:, i]) for i, name in enumerate("zyx")}
    angles = euler_angles(particles.rotations)
    table |= {name: words(angles[:, i]) for i, name in enumerate(("rot", "tilt", "psi"))}
    if particles.scores is not None:
        table["score"] = words(particles.scores)
    if particles.classes is not None:
        table["class"] = words(particles.classes)
    if particles.voxel_size is not None:
        table["voxel_size_angstrom"] = words(np.full(len(particles), particles.voxel_size))
    table |= {name: list(column) for name, column in particles.columns.items()}
    with atomic_write(path, overwrite) as file, file.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
