"""Read and write tables of particles of RELION, Dynamo and spreadsheets."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from cryojax_seg.core.particles import Particles, Table
from cryojax_seg.core.plain import Shape
from cryojax_seg.io import (
    copick_picks,
    dynamo,
    eman,
    imod,
    imod_writing,
    relion,
    relion_writing,
    spreadsheet,
)
from cryojax_seg.io.files import FileError, PathLike, existing_file, real_path
from cryojax_seg.io.pixel_size import PixelSize
from cryojax_seg.io.star import read_star, write_star
from cryojax_seg.io.tomogram_names import name_column, rows_of

Dialect = Literal["relion3", "relion5", "dynamo", "csv", "copick", "imod"]
_BY_SUFFIX: dict[str, Dialect] = {".star": "relion3", ".tbl": "dynamo", ".csv": "csv"}
TABLES = tuple(_BY_SUFFIX)  # how their names end
_WRITTEN: dict[str, Dialect] = {**_BY_SUFFIX, ".json": "copick", ".mod": "imod"}
_ENDINGS = ".star (RELION), .tbl (Dynamo), .csv, .mod (IMOD) or USER_SESSION_OBJECT.json (copick)"
_PARTICLES_FILE = "rlnTomoParticlesFile"


@dataclasses.dataclass(frozen=True)
class ParticleTable:
    """Holds a table of particles with the words of its file, not yet interpreted.

    Attributes:
        path: the file.
        columns: by their labels; of a Dynamo table by Dynamo's names.
        tables: the other tables of the file, such as "optics".

    >>> table = ParticleTable(Path("a.csv"), {"z": ("2",), "y": ("4",), "x": ("6",)})
    >>> len(table), table.dialect, table.centred
    (1, 'csv', False)
    """

    path: Path
    columns: Table
    tables: Mapping[str, Table] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    @property
    def dialect(self) -> Literal["star", "dynamo", "csv"]:
        suffix = self.path.suffix.lower()
        if suffix == ".tbl":
            return "dynamo"
        relions = (set(relion.CENTRED), set(relion.CORNER))  # which CSV files may have as well
        known = any(labels <= set(self.columns) for labels in relions)
        return "star" if suffix == ".star" or known else "csv"

    @property
    def centred(self) -> bool:
        """True if coordinates are angstrom from the centre of the tomogram (RELION 5)."""
        return self.dialect == "star" and set(relion.CENTRED) <= set(self.columns)

    @property
    def images(self) -> Sequence[str] | None:
        """Box of each particle, such as ``000001@boxes.mrcs``; None if the table has none."""
        return self.columns.get(relion.IMAGE)

    def take(self, rows: Sequence[int]) -> "ParticleTable":
        """Return some of the rows, by their numbers."""
        columns = {k: tuple(column[i] for i in rows) for k, column in self.columns.items()}
        return dataclasses.replace(self, columns=columns)

    def unshifted(self) -> "ParticleTable":
        """Return the particles where their boxes were cut out, without later shifts."""
        kept = {k: column for k, column in self.columns.items() if k not in relion.SHIFTS}
        return dataclasses.replace(self, columns=kept)

    def names(self) -> tuple[str, Sequence[str]] | None:
        """Return the column with names of tomograms and its words, or None if there is none.

        The names of a Dynamo table are in a file of type .doc beside it, else they are numbers.
        """
        label = name_column(self.columns)
        if label is None:
            return None
        if self.dialect == "dynamo":
            return "tomo (20)", dynamo.tomogram_names(self.columns, self.path)
        return label, self.columns[label]

    def pixel_size(self) -> PixelSize | None:
        """Return the pixel size of the coordinates, or None if the table does not state it."""
        if self.dialect == "star":
            return relion.pixel_size(self.columns, self.tables.get("optics", {}), self.path)
        return (dynamo if self.dialect == "dynamo" else spreadsheet).pixel_size(
            self.columns, self.path
        )

    def image_size(self) -> PixelSize | None:
        """Return the pixel size of the boxes, or None if the table does not state it."""
        if self.dialect == "star":
            return relion.image_size(self.columns, self.tables.get("optics", {}), self.path)
        return self.pixel_size()

    def flat_images(self) -> str | None:
        """Return the label that marks the images as 2D stacks (RELION 5), or None."""
        stacks = self.tables.get("general", {}).get("rlnTomoSubTomosAre2DStacks", ())
        dimensions = self.tables.get("optics", {}).get("rlnImageDimensionality", ())
        if self.images is None:
            return None
        if "1" in stacks:
            return "rlnTomoSubTomosAre2DStacks 1"
        return "rlnImageDimensionality 2" if "2" in dimensions else None


def read_table(path: PathLike) -> ParticleTable:
    """Read a table of particles without interpreting it: RELION (.star), Dynamo (.tbl) or CSV.

    The points of an IMOD model are a table too, of voxels, whose classes are the objects.

    A set of RELION (``optimisation_set.star``) stands for the file of particles that it names.

    Raises:
        FileError: naming the file, if it is no table or names a file that is not there.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = path.write_text("z;y;x;tomo\\n1,5;2;3;TS_01\\n")
    >>> table = read_table(path)
    >>> table.columns["z"], table.names()
    (('1.5',), ('tomo', ('TS_01',)))
    """
    path = existing_file(path)
    suffix = path.suffix.lower()
    if imod.is_imod(path):
        columns = imod.read_columns(path)
        return ParticleTable(path, {k: tuple(column) for k, column in columns.items()})
    if suffix in copick_picks.PICKS:
        other = copick_picks if copick_picks.is_picks(path) else eman
        columns = other.read_columns(path)
        return ParticleTable(path, {k: tuple(column) for k, column in columns.items()})
    if suffix not in _BY_SUFFIX:
        raise FileError(
            f"{path}: tables of particles end in .star, .tbl (Dynamo) or .csv, or are IMOD models, "
            "picks of copick (.json) or of the CryoET Data Portal (.ndjson), or of EMAN2 (.json)"
        )
    if suffix != ".star":
        columns = (dynamo if suffix == ".tbl" else spreadsheet).read_columns(path)
        return ParticleTable(path, {k: tuple(column) for k, column in columns.items()})
    blocks = {name: relion.from_m(table) for name, table in read_star(path).items()}
    named = next((t[_PARTICLES_FILE] for t in blocks.values() if _PARTICLES_FILE in t), None)
    if named:
        return read_table(_named_file(path, named[0]))
    placed = [n for n, t in blocks.items() if {relion.CORNER[0], relion.CENTRED[0]} & set(t)]
    name = "particles" if "particles" in blocks else (placed or list(blocks))[-1]
    others = {key: table for key, table in blocks.items() if key != name}
    return ParticleTable(path, blocks[name], others)


def _named_file(path: Path, name: str) -> Path:
    """Return a file that RELION names relative to its project folder, above this file."""
    folder = path.resolve().parent
    found = next((f / name for f in (folder, *folder.parents) if (f / name).is_file()), None)
    if found is None or found.resolve() == path.resolve():
        raise FileError(
            f"{path}: is a set that names {name} as the file of its particles "
            f"({_PARTICLES_FILE}), which is not in this folder nor in one above; give that file"
        )
    return found


def particles_of(
    table: ParticleTable,
    voxel_size: float | int | None = None,
    shape: Shape | None = None,
    coordinates_voxel_size: float | int | None = None,
) -> Particles:
    """Return the particles of a table; arguments and errors are those of `read_particles`.

    >>> table = ParticleTable(Path("a.csv"), {"z": ("2",), "y": ("4",), "x": ("6",)})
    >>> particles_of(table, 10.0, coordinates_voxel_size=5.0).coordinates
    array([[1., 2., 3.]])
    """
    size = None if voxel_size is None else float(voxel_size)
    stated = table.pixel_size()
    if coordinates_voxel_size is not None:
        given = np.full(len(table), float(coordinates_voxel_size))
        stated = PixelSize("coordinates_voxel_size", given)
    if table.dialect == "star":
        return relion.parse(table.columns, table.tables, table.path, size, shape, stated)
    parse = dynamo.parse if table.dialect == "dynamo" else spreadsheet.parse
    return parse(table.columns, table.path, size, stated)


def rows_of_tomogram(
    table: ParticleTable, tomogram: PathLike, name: str | None = None
) -> tuple[list[int], str | None]:
    """Return the rows that belong to a tomogram, and its name in the table.

    Args:
        table: of the particles of any number of tomograms.
        tomogram: its file.
        name: that of the tomogram in the table, where its file is called otherwise.

    Raises:
        FileError: if it is not clear which name of the table is that of the tomogram.

    >>> columns = {"tomogram": ("TS_1", "TS_2"), "z": ("2", "3"), "y": ("4", "5"), "x": ("6", "7")}
    >>> rows_of_tomogram(ParticleTable(Path("a.csv"), columns), "TS_2.mrc")
    ([1], 'TS_2')
    """
    found = table.names()
    if found is None:
        if name is not None:
            raise FileError(f"{table.path}: has no column with names of tomograms", "name")
        return list(range(len(table))), None
    return rows_of(tomogram, found[1], found[0], name, table.path)


def read_particles(
    path: PathLike,
    voxel_size: float | int | None = None,
    shape: Shape | None = None,
    coordinates_voxel_size: float | int | None = None,
) -> Particles:
    """Read a table of particles: RELION (.star), Dynamo (.tbl) or CSV (.csv).

    - RELION 3.1 and its forerunners: ``rlnCoordinateX`` are voxels of the tomogram from its first
      voxel. RELION 4 and 5: they are pixels of the tilt series, and
      ``rlnCenteredCoordinateXAngst`` are angstrom from the point at half the size of the tomogram.
      Shifts (``rlnOriginXAngst``, ``rlnOriginX``) and the turns of pseudo-subtomograms are applied
      and no longer stand apart.
    - Dynamo counts voxels from 1; its shifts ``dx`` are added.
    - CSV: columns ``z``, ``y``, ``x`` (voxels from the first; or napari's ``axis-0``, ...), and if
      they are there ``rot``, ``tilt``, ``psi`` (degrees, as RELION's), ``score``, ``class``,
      ``voxel_size_angstrom``. Semicolons, tabs and decimal commas are understood.

    Where the table says how large the pixels of its coordinates are, and they differ by more than
    1 % from the voxels of the tomogram, coordinates are scaled. All other columns, and other tables
    of the file, are kept as they are.

    Args:
        path: the table.
        voxel_size: of the tomogram, angstrom; by default the pixels of the table.
        shape: of the tomogram, ``(z, y, x)``; needed for centred coordinates only.
        coordinates_voxel_size: of the coordinates, angstrom; wins over what the table says.

    Raises:
        FileError: naming the file and what it lacks, or what is missing to read it; also if the
            table describes boxes with other pixels than the tomogram has, so that it is not sure
            in which of them the coordinates are.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = path.write_text("z,y,x,note\\n1.5,2,3,good one\\n")
    >>> read_particles(path).columns
    {'note': ('good one',)}
    """
    return particles_of(read_table(path), voxel_size, shape, coordinates_voxel_size)


def write_particles(
    path: PathLike,
    particles: Particles,
    dialect: Dialect | None = None,
    shape: Shape | None = None,
    overwrite: bool = False,
) -> None:
    """Write a table of particles that `read_particles` reads back exactly.

    Coordinates come back bit for bit (for RELION 5 where they exceed 1e-30 voxels; to 1e-15 where
    the table is in pixels of a tilt series), rotations to 1e-9. A Dynamo table has no place for
    columns of other programs; those are left out, with a warning that names them. An IMOD model
    holds positions in single precision, and classes; a warning names what else there was.

    Args:
        path: the file.
        particles: what to write.
        dialect: by default what the suffix says: .star is "relion3", .tbl "dynamo", .csv "csv",
            .json "copick", .mod "imod".
        shape: of the tomogram, ``(z, y, x)``; needed for "relion5", and kept in an IMOD model.
        overwrite: replace an existing file.

    Raises:
        FileError: if the file exists, or the voxel size, or for "relion5" the shape, is unknown.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "p.star"
    >>> write_particles(file, Particles(np.array([[2.0, 4, 6]]), voxel_size=10.0))
    >>> read_particles(file).coordinates.tolist()
    [[2.0, 4.0, 6.0]]
    """
    path = Path(path)
    dialect = _WRITTEN.get(path.suffix.lower()) if dialect is None else dialect
    if dialect is None:
        raise FileError(f"{path}: tables of particles end in {_ENDINGS}")
    if dialect in ("relion3", "relion5"):
        centre = shape if dialect == "relion5" else None
        if dialect == "relion5" and shape is None:
            raise FileError(f"{path}: RELION 5 counts from the middle; give the tomogram's shape")
        write_star(path, relion_writing.tables(particles, path, centre), overwrite)
    elif dialect == "imod":
        imod_writing.write(path, particles, overwrite, shape)
    elif dialect in ("dynamo", "copick"):
        (dynamo if dialect == "dynamo" else copick_picks).write(path, particles, overwrite)
    else:
        spreadsheet.write(path, particles, overwrite)


def check_table_name(path: PathLike, particles: PathLike | None = None) -> None:
    """Refuse a name for a table of particles that has no format, or is that of the table read.

    Args:
        path: of the table to write.
        particles: the table that is read; None for none.

    Raises:
        FileError: saying which name serves.

    >>> check_table_name("picks.star")
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITTEN:
        raise FileError(f"{path}: a table ends in {_ENDINGS}", "output")
    if particles is not None and real_path(path) == real_path(particles):
        other = path.with_name(f"{path.stem}_new{path.suffix}")
        raise FileError(
            f"{path}: is the table of particles itself, and the new table would be written there; "
            f"choose another output, such as one whose table is {other.name}",
            "output",
        )
