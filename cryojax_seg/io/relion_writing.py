"""Write RELION's tables of particles, in the form of version 3.1 or of version 5."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cryojax_seg.core.particles import Particles, Table
from cryojax_seg.core.plain import Shape
from cryojax_seg.io.columns import numbers, words
from cryojax_seg.io.euler import euler_angles
from cryojax_seg.io.files import FileError
from cryojax_seg.io.pixel_size import PixelSize
from cryojax_seg.io.relion import (
    ANGLES,
    BINNING,
    CENTRED,
    CLASS,
    CORNER,
    GROUP,
    IMAGE,
    IMAGE_SIZE,
    MICROGRAPH,
    SCORE,
    SERIES,
    SIZES,
    centred,
    of_particles,
)

# What a table says of images that were made before, and which new ones have not.
_OF_FORMER_IMAGES = ("rlnCtfImage", "rlnReconstructImageName", "rlnImageOriginalName")
_OF_FORMER_IMAGES = (*_OF_FORMER_IMAGES, "rlnTomoVisibleFrames", "rlnNormCorrection")
_STACKS = "rlnTomoSubTomosAre2DStacks"


def tables(particles: Particles, path: Path, shape: Shape | None) -> dict[str, Table]:
    """Return the tables of a STAR file of version 3.1, or of version 5 if `shape` is given.

    Corner coordinates are in pixels of the tilt series where the optics table knows those, and in
    voxels of the tomogram elsewhere, as the table then says.

    Raises:
        FileError: if the voxel size is unknown.
        ValueError: if a column has the label of a number that is written.
    """
    size, count = particles.voxel_size, len(particles)
    if size is None:
        raise FileError(
            f"{path}: RELION's tables need the voxel size of the tomogram; give "
            "voxel_size in angstrom, as in Particles(voxel_size=...)",
            "voxel_size",
        )
    table = dict(particles.columns)
    optics = _optics(particles, path, size, series=shape is not None)
    series = of_particles(SERIES, {CORNER[0]: ("",) * count, **table}, optics, path)
    factors = np.ones(count)
    if series is not None:
        other = PixelSize(SERIES, series).differs_from(size)  # as it will be read
        factors = np.where(other, size / series, 1.0)
    written: dict[str, list[str]] = {}
    for axis in (2, 1, 0):
        column = particles.coordinates[:, axis]
        if shape is None:
            written[CORNER[axis]] = words(column * factors)
        else:
            written[CENTRED[axis]] = [centred(v, size, shape[axis]) for v in column.tolist()]
    angles = euler_angles(particles.rotations)
    written |= {label: words(angles[:, i]) for i, label in enumerate(ANGLES)}
    if particles.scores is not None:
        written[SCORE] = words(particles.scores)
    if particles.classes is not None:
        written[CLASS] = words(particles.classes)
    twice = sorted(set(written) & set(particles.columns))
    if twice:
        raise ValueError(f"{path}: the columns {', '.join(twice)} are written from other values")
    if GROUP not in table:
        written[GROUP] = ["1"] * count
    others = {name: t for name, t in particles.tables.items() if name != "optics"}
    return {"optics": optics, **others, "particles": table | written}


def _groups(particles: Particles) -> tuple[dict[str, Sequence[str]], int]:
    """Return the optics table of the particles, or a new one, and the number of its groups."""
    optics = dict[str, Sequence[str]](particles.tables.get("optics", {}))
    if not next(iter(optics.values()), ()):
        groups = sorted(set(particles.columns.get(GROUP, ()))) or ["1"]
        optics |= {GROUP: groups, "rlnOpticsGroupName": [f"opticsGroup{g}" for g in groups]}
    return optics, len(next(iter(optics.values())))


def _optics(
    particles: Particles, path: Path, size: float, series: bool
) -> dict[str, Sequence[str]]:
    """Return the optics table for images of this pixel size, also of a tilt `series`."""
    optics, rows = _groups(particles)
    own = [repr(float(size))] * rows
    known = optics.get(SERIES) or (own if series else None)
    if known is not None and not (numbers({SERIES: known}, (SERIES,), path) > 0).all():
        known = None
    for label in SIZES:
        optics.pop(label, None)
    if known is None:
        optics[MICROGRAPH] = own
    else:
        optics[SERIES] = known
        optics[BINNING] = [f"{size / float(word):.9g}" for word in known]
    optics[IMAGE_SIZE] = own
    return optics


def with_boxes(particles: Particles, names: Sequence[str], edge: int) -> Particles:
    """Return the particles with new boxes; leave out columns that describe former images.

    Args:
        particles: those in the boxes.
        names: of the boxes, as ``rlnImageName`` has them.
        edge: of the boxes, voxels.

    >>> old = Particles([[1.0, 2, 3]], columns={"rlnImageName": ["a"], "rlnCtfImage": ["b"]})
    >>> with_boxes(old, ["000001@boxes.mrcs"], 16).columns
    {'rlnImageName': ('000001@boxes.mrcs',)}
    """
    columns = {k: v for k, v in particles.columns.items() if k not in _OF_FORMER_IMAGES}
    others = {name: dict(table) for name, table in particles.tables.items()}
    optics, rows = _groups(particles)
    optics.pop("rlnCtfDataAreCtfPremultiplied", None)
    optics |= {"rlnImageSize": [str(edge)] * rows, "rlnImageDimensionality": ["3"] * rows}
    for table in others.values():
        if _STACKS in table:
            table[_STACKS] = ["0"] * len(table[_STACKS])
    return dataclasses.replace(
        particles,
        columns={**columns, IMAGE: tuple(names)},
        tables={**others, "optics": optics},
    )
