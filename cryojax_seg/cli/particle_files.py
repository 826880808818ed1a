"""What the commands for particles share: their tomogram, their table, and where they may be."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryojax_seg.cli import console

if TYPE_CHECKING:
    from cryojax_seg.core import Particles, Tomogram

TABLES = (".star", ".tbl", ".csv")


def one_voxel_size(tomogram: "Tomogram") -> float:
    """The edge of its voxels in angstrom; a ValueError if it is unknown or differs by axis."""
    size = tomogram.require_voxel_size()
    if max(size) > 1.01 * min(size):
        raise ValueError(
            f"{tomogram.name}: has voxels of {size[0]:g} x {size[1]:g} x {size[2]:g} A (z, y, x); "
            "particles need cubic ones, so resample it first"
        )
    return float(sum(size) / 3)


def check_table(path: Path, option: str) -> None:
    """Raises a ValueError unless this is the name of a table of particles."""
    if path.suffix.lower() not in TABLES:
        raise ValueError(
            f"{path}: {option} is a table that ends in .star (RELION), .tbl (Dynamo) or .csv"
        )


def check_not_input(output: Path, particles: Path, option: str) -> None:
    """Raises a ValueError if a table would be written where that of the particles is."""
    from cryojax_seg.io import real_path

    if real_path(output) == real_path(particles):
        other = output.with_name(f"{output.stem}_new{output.suffix}")
        raise ValueError(
            f"{output}: is the table of particles itself, and the new table would be written "
            f"there; choose another {option}, such as one whose table is {other.name}"
        )


def read_table(
    path: Path,
    tomogram: "Tomogram",
    voxel_size: float,
    name: str | None = None,
    coordinates_voxel_size: float | None = None,
) -> tuple["Particles", list[int]]:
    """The particles of a table that lie in a tomogram, in its voxels; says what became of others.

    Args:
        path: the table.
        tomogram: of which its particles are taken.
        voxel_size: of the tomogram, angstrom.
        name: that of the tomogram in the table, where its file is called otherwise.
        coordinates_voxel_size: of the coordinates, angstrom; None for what the table says.

    Returns:
        the particles, and the row of each in the table, from 0.

    Raises:
        FileError: if it is not clear which particles are of the tomogram, or none lies in it.
    """
    import numpy as np

    from cryojax_seg import io

    given = coordinates_voxel_size
    if given is not None and not given > 0:
        raise ValueError(f"--coordinates-voxel-size must be above 0 angstrom, got {given:g}")
    whole = io.read_table(path)
    rows, found = io.rows_of_tomogram(whole, tomogram.name, name)
    table = whole.take(rows)
    if len(table) < len(whole):
        console.say(f"{len(table)} of {len(whole)} particles of {path} are in {tomogram.name}")
    if found is not None and io.tomogram_name(found) != io.tomogram_name(tomogram.name):
        console.say(f"{tomogram.name} is taken to be the tomogram {found} of {path}")
    shape = tomogram.density.shape
    particles = io.particles_of(table, voxel_size, shape, given)
    stated = table.pixel_size()
    if table.centred:
        unit = "coordinates are angstrom from the middle"
    elif given is not None:
        unit = f"coordinates are in pixels of {given:.5g} A (--coordinates-voxel-size)"
    elif stated is None:
        unit = "table does not say in which pixels its coordinates are"
    else:
        unit = f"coordinates are in pixels of {stated}"
        if stated.differs_from(voxel_size).any():
            console.say(f"{path}: its {unit}; scaled to {voxel_size:.5g} A of {tomogram.name}")
    where = particles.coordinates
    inside = np.all((where >= -0.5) & (where <= np.array(shape) - 0.5), 1)
    if inside.all():
        return particles, rows
    missed = (
        f"{path}: {int((~inside).sum())} of {len(particles)} particles are centred outside "
        f"{tomogram.name} of {tuple(shape)} voxels (z, y, x) of {voxel_size:.5g} A; the {unit}"
    )
    if not inside.any():
        raise io.FileError(
            f"{missed}; give the size of the pixels they count with --coordinates-voxel-size "
            "ANGSTROM, or the tomogram they belong to"
        )
    console.warn(f"{missed}; left out")
    return particles.take(inside), [row for row, keep in zip(rows, inside, strict=True) if keep]


def read_mask(path: Path, label: int, tomogram: "Tomogram") -> Any:
    """Where a label volume on the grid of the tomogram has this value; bool ``(z, y, x)``."""
    from cryojax_seg import io

    labels = io.read_labels(path, tomogram, ignore=None, highest=None).labels
    mask = labels == label
    if not mask.any():
        console.warn(f"{path}: no voxel has the label {label}")
    return mask
