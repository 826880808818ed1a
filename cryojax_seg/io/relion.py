"""Read RELION's tables of particles: coordinates, shifts, rotations and pixel sizes."""

import decimal
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cryojax_seg.core.particles import Particles, Table
from cryojax_seg.core.plain import Shape
from cryojax_seg.io.columns import numbers, take_integers, take_numbers
from cryojax_seg.io.euler import euler_matrices
from cryojax_seg.io.files import FileError
from cryojax_seg.io.pixel_size import PixelSize, sizes_in, voxels

CORNER = tuple(f"rlnCoordinate{a}" for a in "ZYX")
CENTRED = tuple(f"rlnCenteredCoordinate{a}Angst" for a in "ZYX")
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
SCORE, CLASS, GROUP = "rlnAutopickFigureOfMerit", "rlnClassNumber", "rlnOpticsGroup"
IMAGE, IMAGE_SIZE = "rlnImageName", "rlnImagePixelSize"
SERIES, BINNING = "rlnTomoTiltSeriesPixelSize", "rlnTomoSubtomogramBinning"
MICROGRAPH = "rlnMicrographPixelSize"
# What says how large pixels are, in former versions too.
SIZES = (SERIES, BINNING, MICROGRAPH, "rlnPixelSize", "rlnDetectorPixelSize", "rlnMagnification")
SIZES = (*SIZES, IMAGE_SIZE)
_SHIFT = tuple(f"rlnOrigin{a}Angst" for a in "ZYX")
_SHIFT_PIXELS = tuple(f"rlnOrigin{a}" for a in "ZYX")
SHIFTS = (*_SHIFT, *_SHIFT_PIXELS)
_BOX_ANGLES = tuple(f"rlnTomoSubtomogram{a}" for a in ("Rot", "Tilt", "Psi"))
_EXACT = decimal.Context(prec=60)


def from_m(table: Table) -> Table:
    """Return a table of M in RELION's columns; other tables as they are.

    M counts angstrom from the corner, which are pixels of 1 angstrom. Of the poses along the
    exposure the first is taken.

    >>> from_m({"wrpCoordinateX1": ("30",), "wrpCoordinateX2": ("31",), "wrpSourceName": ("a",)})
    {'rlnCoordinateX': ('30',), 'wrpSourceName': ('a',), 'rlnTomoTiltSeriesPixelSize': ('1',)}
    """
    poses = re.compile(r"wrp(Coordinate|Angle)(X|Y|Z|Rot|Tilt|Psi)(\d*)")
    found = {label: poses.fullmatch(label) for label in table}
    if not any(match and match[1] == "Coordinate" for match in found.values()):
        return table
    renamed = {}
    for label, match in found.items():
        if match is None:
            renamed[label] = table[label]
        elif match[3] in ("", "1"):
            renamed[f"rln{match[1]}{match[2]}"] = table[label]
    return renamed | {SERIES: ("1",) * len(next(iter(table.values())))}


def of_particles(label: str, table: Table, optics: Table, path: Path) -> np.ndarray | None:
    """Return numbers ``(n,)`` from a table or its optics groups; None if neither has them.

    Raises:
        FileError: if the groups differ and a particle is of none of them.
    """
    if label in table:
        return numbers(table, (label,), path)[:, 0]
    if label not in optics:
        return None
    values = numbers(optics, (label,), path)[:, 0]
    count = len(next(iter(table.values()), ()))
    if len(np.unique(values)) == 1:
        return np.full(count, values[0])
    by_group = dict(zip(optics.get(GROUP, ()), values.tolist(), strict=False))
    groups = table.get(GROUP, ("",) * count)
    row = next((i for i, group in enumerate(groups, 1) if group not in by_group), None)
    if row is not None:
        raise FileError(
            f"{path}: its optics groups differ in {label}, and row {row} is of none of them "
            f"({GROUP}); add that group"
        )
    return np.array([by_group[group] for group in groups], np.float64)


def image_size(table: Table, optics: Table, path: Path) -> PixelSize | None:
    """Return the pixel size of the particles' images.

    Magnified pixels of the detector are micrometres; without a magnification they are angstrom, as
    programs of today write them.
    """
    made = IMAGE in table
    for label in ("rlnPixelSize", "rlnDetectorPixelSize", IMAGE_SIZE):
        values = of_particles(label, table, optics, path)
        magnification = of_particles("rlnMagnification", table, optics, path)
        if label == "rlnDetectorPixelSize" and values is not None and magnification is not None:
            values = values * 1e4 / np.where(magnification > 0, magnification, np.inf)
            label = "rlnDetectorPixelSize / rlnMagnification"
        found = None if values is None else sizes_in(values, label, of_images=made)
        if found is not None:
            return found
    return None


def pixel_size(table: Table, optics: Table, path: Path) -> PixelSize | None:
    """Return the pixel size of corner coordinates, ``rlnCoordinateX``.

    From version 4 on they are those of the tilt series, before that those of the micrograph (the
    tomogram). Where neither is known they are taken to be those of the images.
    """
    series = of_particles(SERIES, table, optics, path)
    image, binning = (of_particles(label, table, optics, path) for label in (IMAGE_SIZE, BINNING))
    label = SERIES
    if series is None and image is not None and binning is not None and (binning > 0).all():
        series, label = image / binning, f"{IMAGE_SIZE} / {BINNING}"
    found = None if series is None else sizes_in(series, label)
    if found is None:
        micrograph = of_particles(MICROGRAPH, table, optics, path)
        found = None if micrograph is None else sizes_in(micrograph, MICROGRAPH)
    return found or image_size(table, optics, path)


def parse(
    words_of: Table,
    others: Mapping[str, Table],
    path: Path,
    voxel_size: float | None,
    shape: Shape | None,
    stated: PixelSize | None,
) -> Particles:
    """Return the particles in the tables of a STAR file; see `io.read_particles`.

    A shift is taken away as RELION does it, ``x - A_box @ origin / voxel size``.

    Args:
        words_of: the columns of the table of particles.
        others: the other tables of the file, of which that of optics is looked at.
        path: for messages.
        voxel_size: of the tomogram, angstrom.
        shape: of the tomogram.
        stated: the pixels of corner coordinates.
    """
    table = {label: list(column) for label, column in words_of.items()}
    images = image_size(table, others.get("optics", {}), path)
    count = len(next(iter(table.values()), []))
    if set(CENTRED) <= set(table):
        if voxel_size is None and stated is not None and len(np.unique(stated.sizes)) == 1:
            voxel_size = float(stated.sizes[0])
        if voxel_size is None or shape is None:
            raise FileError(
                f"{path}: has centred coordinates in angstrom (RELION 5), which need the voxel "
                "size and the shape of their tomogram; name the tomogram"
            )
        numbers(table, CENTRED, path)  # refuses what is not a number
        axes = zip(CENTRED, shape, strict=True)
        size = voxel_size
        where = np.stack([decentred(table.pop(label), size, n) for label, n in axes], -1)
        for label in CORNER:
            table.pop(label, None)
    else:
        where, size = voxels(take_numbers(table, CORNER, path), stated, voxel_size, path)
    rotations = np.broadcast_to(np.eye(3), (count, 3, 3))
    if set(_BOX_ANGLES) & set(table):
        rotations = euler_matrices(_taken_or_zero(table, _BOX_ANGLES, path))
    shift = _shift(table, images, size, path)
    if shift is not None:
        where = where - np.einsum("nij,nj->ni", rotations, shift)
    if set(ANGLES) & set(table):
        rotations = rotations @ euler_matrices(_taken_or_zero(table, ANGLES, path))
    for label in SIZES:  # they are of the former pixels
        table.pop(label, None)
    scores = take_numbers(table, (SCORE,), path)[:, 0] if SCORE in table else None
    classes = take_integers(table, CLASS, path) if CLASS in table else None
    columns = {label: tuple(column) for label, column in table.items()}
    return Particles(where, rotations, scores, classes, columns, size, others)


def _shift(
    table: dict[str, list[str]], images: PixelSize | None, size: float | None, path: Path
) -> np.ndarray | None:
    """Return shifts in voxels ``(n, 3)`` and remove their columns, in angstrom or pixels."""
    former = {label: table.pop(label) for label in _SHIFT_PIXELS if label in table}
    if set(_SHIFT) & set(table):
        shift = _taken_or_zero(table, _SHIFT, path)
        if size is None and np.any(shift != 0):
            raise FileError(
                f"{path}: has shifts in angstrom (rlnOriginXAngst) but no voxel size; give "
                "voxel_size in angstrom",
                "voxel_size",
            )
        return shift / (size or 1.0)
    if not former:
        return None
    pixels = _taken_or_zero(former, _SHIFT_PIXELS, path)
    if images is None or size is None:
        return pixels
    return pixels * (images.sizes / size)[:, None]


def _taken_or_zero(table: dict[str, list[str]], labels: tuple[str, ...], path: Path) -> np.ndarray:
    """Return columns and remove them from the table; missing ones are 0, as for RELION."""
    count = len(next(iter(table.values()), []))
    missing = {label: ["0"] * count for label in labels if label not in table}
    table.update(missing)
    return take_numbers(table, labels, path)


def decentred(column: list[str], size: float, length: int) -> np.ndarray:
    """Return ``x / size + length / 2`` in decimals, so that it inverts `centred` exactly."""
    voxel = decimal.Decimal(size)
    half = decimal.Decimal(length) / 2
    values = [_EXACT.add(_EXACT.divide(decimal.Decimal(w), voxel), half) for w in column]
    return np.array([float(v) for v in values], np.float64)


def centred(value: float, size: float, length: int) -> str:
    """Return ``(value - length / 2) * size`` in the fewest digits that read back exactly."""
    offset = _EXACT.subtract(decimal.Decimal(value), decimal.Decimal(length) / 2)
    exact = _EXACT.multiply(offset, decimal.Decimal(size))
    for digits in range(15, 60):
        word = f"{decimal.Context(prec=digits).plus(exact):f}"
        if decentred([word], size, length)[0] == value:
            return word
    return f"{exact:f}"
