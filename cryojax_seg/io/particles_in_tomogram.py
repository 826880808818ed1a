"""Read the particles of a table that lie in a tomogram, and the compartments around them."""

import logging

import numpy as np
from jaxtyping import Bool

from cryojax_seg.core.particles import Particles
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.errors import ParameterError
from cryojax_seg.io.annotation import read_labels
from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.io.particles import particles_of, read_table, rows_of_tomogram
from cryojax_seg.io.tomogram_names import tomogram_name
from cryojax_seg.particles import Surroundings

_log = logging.getLogger("cryojax_seg.io")


def cubic_voxel_size(tomogram: Tomogram) -> float:
    """Return the edge of the voxels of a tomogram, in angstrom.

    Raises:
        ValueError: if it is unknown, or differs by axis.

    >>> cubic_voxel_size(Tomogram(np.zeros((2, 2, 2), np.float32), (10.0, 10.0, 10.0)))
    10.0
    """
    size = tomogram.require_voxel_size()
    if max(size) > 1.01 * min(size):
        raise ValueError(
            f"{tomogram.name}: has voxels of {size[0]:g} x {size[1]:g} x {size[2]:g} A (z, y, x); "
            "particles need cubic ones, so resample it first"
        )
    return float(sum(size) / 3)


def read_particles_in(
    path: PathLike,
    tomogram: Tomogram,
    name: str | None = None,
    coordinates_voxel_size: float | None = None,
    of_class: int | None = None,
) -> tuple[Particles, list[int]]:
    """Read the particles of a table that lie in a tomogram, in its voxels.

    What became of others is logged.

    Args:
        path: the table.
        tomogram: of which its particles are taken.
        name: that of the tomogram in the table, where its file is called otherwise.
        coordinates_voxel_size: of the coordinates, angstrom; None for what the table says.
        of_class: the class of the particles that are taken; None for all.

    Returns:
        the particles, and the row of each in the table, from 0.

    Raises:
        FileError: if it is not clear which particles are of the tomogram, none lies in it, or none
            is of the class.
        ParameterError: for a coordinates_voxel_size that is not positive.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from cryojax_seg.io.particles import write_particles
    >>> file = Path(tempfile.mkdtemp()) / "particles.star"
    >>> listed = Particles(np.array([[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]]), voxel_size=10.0)
    >>> write_particles(file, listed)
    >>> cell = Tomogram(np.zeros((4, 4, 4), np.float32), (10.0, 10.0, 10.0))
    >>> particles, rows = read_particles_in(file, cell)
    >>> particles.coordinates.tolist(), rows
    ([[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]], [0, 1])
    """
    given, voxel_size = coordinates_voxel_size, cubic_voxel_size(tomogram)
    if given is not None and not given > 0:
        raise ParameterError(
            f"coordinates_voxel_size must be above 0 angstrom, got {given:g}",
            "coordinates_voxel_size",
        )
    whole = read_table(path)
    rows, found = rows_of_tomogram(whole, tomogram.name, name)
    table = whole.take(rows)
    if len(table) < len(whole):
        _log.info(f"{len(table)} of {len(whole)} particles of {path} are in {tomogram.name}")
    if found is not None and tomogram_name(found) != tomogram_name(tomogram.name):
        _log.info(f"{tomogram.name} is taken to be the tomogram {found} of {path}")
    shape = tomogram.density.shape
    particles = particles_of(table, voxel_size, shape, given)
    if of_class is not None:
        kept = _of_class(particles, of_class, path)
        rows = [row for row, keep in zip(rows, kept, strict=True) if keep]
        table, particles = whole.take(rows), particles.take(kept)
    stated = table.pixel_size()
    if table.centred:
        unit = "coordinates are angstrom from the middle"
    elif given is not None:
        unit = f"coordinates are in pixels of {given:.5g} A (coordinates_voxel_size)"
    elif stated is None:
        unit = "table does not say in which pixels its coordinates are"
    else:
        unit = f"coordinates are in pixels of {stated}"
        if stated.differs_from(voxel_size).any():
            _log.info(f"{path}: its {unit}; scaled to {voxel_size:.5g} A of {tomogram.name}")
    where = particles.coordinates
    inside = np.all((where >= -0.5) & (where <= np.array(shape) - 0.5), 1)
    if inside.all():
        return particles, rows
    missed = (
        f"{path}: {int((~inside).sum())} of {len(particles)} particles are centred outside "
        f"{tomogram.name} of {tuple(shape)} voxels (z, y, x) of {voxel_size:.5g} A; the {unit}"
    )
    if not inside.any():
        raise FileError(
            f"{missed}; give the tomogram they belong to, or the size of the pixels they count",
            "coordinates_voxel_size",
        )
    _log.warning(f"{missed}; left out")
    return particles.take(inside), [row for row, keep in zip(rows, inside, strict=True) if keep]


def _of_class(particles: Particles, number: int, path: PathLike) -> Bool[np.ndarray, "_n"]:
    """Return which particles are of a class."""
    if particles.classes is None:
        raise FileError(f"{path}: has no column of classes; leave the class out", "class")
    kept = particles.classes == number
    if not kept.any():
        found, counts = np.unique(particles.classes, return_counts=True)
        known = ", ".join(f"{n} ({count})" for n, count in zip(found[:20], counts, strict=False))
        raise FileError(f"{path}: has no particle of the class {number}; it has {known}", "class")
    return kept


def read_label_mask(path: PathLike, label: int, tomogram: Tomogram) -> Bool[np.ndarray, "_z _y _x"]:
    """Read where a label volume on the grid of a tomogram has this label.

    Args:
        path: the label volume.
        label: its value in the mask.
        tomogram: on whose grid it lies.

    Returns:
        bool ``(z, y, x)``; a warning is logged if no voxel has the label.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from cryojax_seg.io.mrc import write_mrc
    >>> file = Path(tempfile.mkdtemp()) / "labels.mrc"
    >>> labels = np.zeros((4, 4, 4), np.int8)
    >>> labels[1:3] = 2
    >>> write_mrc(file, labels, voxel_size=10.0)
    >>> cell = Tomogram(np.zeros((4, 4, 4), np.float32), (10.0, 10.0, 10.0))
    >>> read_label_mask(file, 2, cell).any((1, 2)).tolist()
    [False, True, True, False]
    """
    mask = read_labels(path, tomogram, ignore=None, highest=None).labels == label
    if not mask.any():
        _log.warning(f"{path}: no voxel has the label {label}")
    return mask


def read_surroundings(
    tomogram: Tomogram,
    *,
    inside: PathLike | None = None,
    inside_label: int = 1,
    membrane: PathLike | None = None,
    membrane_label: int = 1,
    distance: tuple[float, float] | None = None,
) -> Surroundings:
    """Read where the particles of a tomogram may be, from label volumes on its grid.

    Args:
        tomogram: on whose grid the label volumes lie.
        inside: label volume of the compartment that particles must be in; None for anywhere.
        inside_label: label of the compartment.
        membrane: label volume of a membrane; None for none.
        membrane_label: label of the membrane.
        distance: shortest and longest distance from the membrane in angstrom; None for any.

    Raises:
        FileError: if a label volume does not lie on the grid.
        ParameterError: for a distance without a membrane, or in the wrong order.

    >>> cell = Tomogram(np.zeros((2, 2, 2), np.float32), (10.0, 10.0, 10.0))
    >>> read_surroundings(cell).distance is None
    True
    """
    compartment = wall = None
    if inside is not None:
        compartment = read_label_mask(inside, inside_label, tomogram)
    if membrane is not None:
        wall = read_label_mask(membrane, membrane_label, tomogram)
    if distance is None:
        return Surroundings(compartment, wall)
    size = cubic_voxel_size(tomogram)
    return Surroundings(compartment, wall, (distance[0] / size, distance[1] / size))
