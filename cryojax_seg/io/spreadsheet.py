"""Read and write particles in CSV files of spreadsheets, napari and scripts."""

import csv
from pathlib import Path

import numpy as np

from cryojax_seg.core.particles import Particles, Table
from cryojax_seg.io.columns import numbers, take_integers, take_numbers, words
from cryojax_seg.io.delimited import coordinate_labels, with_decimal_points
from cryojax_seg.io.delimited import read_columns as read_delimited
from cryojax_seg.io.euler import euler_angles, euler_matrices
from cryojax_seg.io.files import atomic_write
from cryojax_seg.io.pixel_size import PixelSize, sizes_in, voxels
from cryojax_seg.io.text import read_text

_ANGLES, _SIZE = ("rot", "tilt", "psi"), "voxel_size_angstrom"


def read_columns(path: Path) -> dict[str, list[str]]:
    """Return the columns of a file, with decimal points in those that are numbers."""
    table = read_delimited(read_text(path), path)
    labels = (*(coordinate_labels(table) or ()), *_ANGLES, "score", "class", _SIZE)
    return with_decimal_points(table, labels, path)


def pixel_size(table: Table, path: Path) -> PixelSize | None:
    """Return the column voxel_size_angstrom."""
    return sizes_in(numbers(table, (_SIZE,), path)[:, 0], _SIZE) if _SIZE in table else None


def parse(
    words_of: Table, path: Path, voxel_size: float | None, stated: PixelSize | None
) -> Particles:
    """Return the particles in the columns of a file; see `io.read_particles`."""
    table = {name: list(column) for name, column in words_of.items()}
    axes = coordinate_labels(table) or ("z", "y", "x")
    where, size = voxels(take_numbers(table, axes, path), stated, voxel_size, path)
    turned = set(_ANGLES) <= set(table)
    rotations = euler_matrices(take_numbers(table, _ANGLES, path)) if turned else None
    scores = take_numbers(table, ("score",), path)[:, 0] if "score" in table else None
    classes = take_integers(table, "class", path) if "class" in table else None
    table.pop(_SIZE, None)
    columns: Table = {name: tuple(column) for name, column in table.items()}
    return Particles(where, rotations, scores, classes, columns, size)


def write(path: Path, particles: Particles, overwrite: bool) -> None:
    """Write a file; see `io.write_particles`."""
    table = {name: words(particles.coordinates[:, i]) for i, name in enumerate("zyx")}
    angles = euler_angles(particles.rotations)
    table |= {name: words(angles[:, i]) for i, name in enumerate(_ANGLES)}
    if particles.scores is not None:
        table["score"] = words(particles.scores)
    if particles.classes is not None:
        table["class"] = words(particles.classes)
    if particles.voxel_size is not None:
        table[_SIZE] = words(np.full(len(particles), particles.voxel_size))
    table |= {name: list(column) for name, column in particles.columns.items()}
    with atomic_write(path, overwrite) as file, file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
