"""Read and write Dynamo's tables of particles, 26 or more columns without headings."""

import re
import warnings
from pathlib import Path

import numpy as np

from cryojax_seg.core.particles import Particles, Table
from cryojax_seg.io.columns import numbers, take_integers, take_numbers, words
from cryojax_seg.io.euler import euler_angles, euler_matrices
from cryojax_seg.io.files import FileError, HeaderWarning, atomic_write
from cryojax_seg.io.pixel_size import PixelSize, sizes_in, voxels
from cryojax_seg.io.text import read_text
from cryojax_seg.text import shortened

# The columns of a Dynamo table, by Dynamo's names; those without one have their number.
DYNAMO = (
    *("tag", "aligned", "averaged", "dx", "dy", "dz", "tdrot", "tilt", "narot", "cc", "cc2"),
    *("cpu", "ftype", "ymintilt", "ymaxtilt", "xmintilt", "xmaxtilt", "fs1", "fs2", "tomo"),
    *("reg", "class", "annotation", "x", "y", "z", "dshift", "daxis", "dnarot", "dcc", "otag"),
    *("npar", "col33", "ref", "sref", "apix", "def", "col38", "col39", "col40", "eig1", "eig2"),
)


def read_columns(path: Path) -> dict[str, list[str]]:
    """Return the columns of a table by Dynamo's names.

    Raises:
        FileError: if there are fewer than 26, or not as many in each row.
    """
    rows = [line.split() for line in read_text(path).split("\n") if line.strip()]
    widths = {len(row) for row in rows}
    if len(widths) > 1 or min(widths, default=26) < 26:
        raise FileError(
            f"{path}: a Dynamo table has 26 columns or more, the same in each row; this has "
            + ", ".join(map(str, sorted(widths)[:5]))
        )
    width = widths.pop() if widths else len(DYNAMO)
    names = [*DYNAMO, *(f"col{i + 1}" for i in range(len(DYNAMO), width))][:width]
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def tomogram_names(table: Table, path: Path) -> tuple[str, ...]:
    """Return column 20, the number of the tomogram, or its file if an index (.doc) lists files."""
    found = [f"{value:g}" for value in numbers(table, ("tomo",), path)[:, 0].tolist()]
    beside = sorted(path.parent.glob("*.doc"))
    likely = [path.with_suffix(".doc"), path.with_name("indices_column20.doc")]
    index = next((p for p in likely if p in beside), beside[0] if len(beside) == 1 else None)
    files: dict[str, str] = {}
    for line in read_text(index).split("\n") if index else ():
        number, _, file = line.strip().partition(" ")
        if number.isdecimal() and file.strip():
            files[f"{int(number):g}"] = file.strip()
    return tuple(files.get(number, number) for number in found)


def pixel_size(table: Table, path: Path) -> PixelSize | None:
    """Return column 36 unless it is 0; boxes may have been binned after they were cut."""
    if "apix" not in table:
        return None
    return sizes_in(numbers(table, ("apix",), path)[:, 0], "apix, column 36", of_images=True)


def parse(
    words_of: Table, path: Path, voxel_size: float | None, stated: PixelSize | None
) -> Particles:
    """Return the particles in the columns of a table; see `io.read_particles`."""
    table = {name: list(column) for name, column in words_of.items()}
    where = numbers(table, ("z", "y", "x"), path) - 1
    # The shift is kept apart from the voxel when it is written, so that no digit is lost.
    where = where + take_numbers(table, ("dz", "dy", "dx"), path)
    where, size = voxels(where, stated, voxel_size, path)
    tdrot, tilt, narot = take_numbers(table, ("tdrot", "tilt", "narot"), path).T
    for name in ("z", "y", "x", "apix"):
        table.pop(name, None)
    return Particles(
        where,
        euler_matrices(np.stack([narot - 90, tilt, tdrot + 90], -1)),
        take_numbers(table, ("cc",), path)[:, 0],
        take_integers(table, "class", path),
        {name: tuple(column) for name, column in table.items()},
        size,
    )


def write(path: Path, particles: Particles, overwrite: bool) -> None:
    """Write a table; see `io.write_particles`."""
    count = len(particles)
    numbered = [int(n[3:]) for n in particles.columns if re.fullmatch(r"col[1-9]\d{0,2}", n)]
    width = max([len(DYNAMO), *numbered])
    names = [*DYNAMO, *(f"col{i + 1}" for i in range(len(DYNAMO), width))]
    extra = [shortened(name, 60) for name in particles.columns if name not in names]
    if extra:
        message = f"{path}: a Dynamo table has no column for {', '.join(extra)}; left out"
        warnings.warn(message, HeaderWarning, stacklevel=3)
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
