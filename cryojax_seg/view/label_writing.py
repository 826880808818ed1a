"""Writes painted labels as an MRC file or as OME-Zarr, whole or not at all."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cryojax_seg.core.blocks import blocks
from cryojax_seg.core.names import label_names
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io import FileError, ZarrOutput
from cryojax_seg.io.annotation import IGNORE
from cryojax_seg.io.files import atomic_write, partial_path
from cryojax_seg.io.label_card import LabelCard
from cryojax_seg.io.mrc import mrc_header
from cryojax_seg.io.ome import read_multiscale
from cryojax_seg.io.ome_writing import Version, ZarrForm
from cryojax_seg.view.excluded import EXTENDED, excluded_runs, write_array
from cryojax_seg.view.painting import UNKNOWN, sections


def write_mrc_labels(
    path: Path, slices: Mapping[int, np.ndarray], tomogram: Tomogram, classes: Sequence[str]
) -> None:
    """Write labels as signed bytes, in which -1 (255 in unsigned bytes) is not annotated.

    Args:
        path: the file.
        slices: of a `Painting`.
        tomogram: what they belong to.
        classes: names of the classes, background first if there are several.

    Raises:
        OSError: if the disk is full, or the folder is gone.
    """
    runs = excluded_runs(slices).astype("<i8")
    header = _header(slices, tomogram, classes, runs.nbytes)
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        file.write(header)
        file.write(runs.tobytes())
        for section in sections(slices, tomogram.density.shape):
            file.write(np.ascontiguousarray(section).data)


def write_zarr_labels(
    path: Path, slices: Mapping[int, np.ndarray], tomogram: Tomogram, classes: Sequence[str]
) -> None:
    """Write labels as unsigned bytes, in which 255 is not annotated; else as `write_mrc_labels`.

    What is there is replaced as a whole, and keeps its version of OME-Zarr.
    """
    version, shape = _version(path), tomogram.density.shape
    card = LabelCard(label_names(tuple(classes))[1:])
    output = ZarrOutput(
        path, shape, np.uint8, tomogram, overwrite=True, card=card, form=ZarrForm(version)
    )
    try:
        for where in blocks(shape):
            output.write(where, _block(slices, where))
        if len(runs := excluded_runs(slices)):
            write_array(partial_path(path), runs, version)
        output.finish()
    except BaseException:
        output.discard()
        raise


def _version(path: Path) -> Version:
    with contextlib.suppress(FileError):
        return "0.4" if read_multiscale(path).driver == "zarr" else "0.5"
    return "0.5"


def _block(slices: Mapping[int, np.ndarray], where: tuple[slice, ...]) -> np.ndarray:
    z, y, x = where
    block = np.full([s.stop - s.start for s in where], IGNORE, np.uint8)
    for number, index in enumerate(range(z.start, z.stop)):
        if index in slices:
            block[number] = np.maximum(slices[index][y, x], UNKNOWN).view(np.uint8)
    return block


def _header(
    slices: Mapping[int, np.ndarray], like: Tomogram, classes: Sequence[str], extended: int
) -> bytes:
    """Return the header of a label volume; its statistics need no pass over all of it."""
    shape, card = like.density.shape, LabelCard(label_names(tuple(classes))[1:])
    fields = mrc_header(np.zeros((1, 1, 1), np.int8), np.dtype(np.int8), like, card=card)
    size = like.require_voxel_size()
    for axis, count, length in zip("zyx", shape, size, strict=True):
        fields[f"n{axis}"] = fields[f"m{axis}"] = count
        fields["cella"][axis] = count * length
    if extended:
        fields["exttyp"], fields["nsymbt"] = EXTENDED, extended
    voxels = math.prod(shape)
    counts = sum(
        (np.bincount(np.maximum(s, UNKNOWN).ravel() + 1, minlength=256) for s in slices.values()),
        np.zeros(256, np.int64),
    )
    counts[0] += voxels - counts.sum()
    values = np.arange(256) - 1
    there = values[counts > 0]
    mean = float(values @ counts) / voxels
    deviation = math.sqrt(float((values - mean) ** 2 @ counts) / voxels)
    fields["dmin"], fields["dmax"] = there[0], there[-1]
    fields["dmean"], fields["rms"] = mean, deviation
    return fields.tobytes()
