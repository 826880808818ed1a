"""Boxes of particles on disk: one stack of volumes, or a file for each."""

import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from cryojax_seg.core.types import Volume
from cryojax_seg.io import header as headers
from cryojax_seg.io.files import (
    FileError,
    PathLike,
    atomic_folder,
    disk_full_explained,
    existing_file,
    partial_path,
    publish_file,
    sync,
    target_path,
)
from cryojax_seg.io.mrc import mrc_header, read_mrc, write_mrc
from cryojax_seg.io.voxel_size import VoxelSize

_FLUSH = 2**26  # bytes between flushes beside the work, so that the disk is busy from the start
_VOLUMES = 401  # the space group of a stack of volumes, MRC2014


def write_boxes(
    path: PathLike,
    boxes: Iterable[Volume],
    count: int,
    edge: int,
    voxel_size: VoxelSize | None = None,
    overwrite: bool = False,
) -> None:
    """Writes boxes as they come: never more than one is in memory, and all appear at once.

    Args:
        path: a name that ends in .mrcs or .mrc becomes one stack of volumes (MRC2014, space group
            401); any other becomes a folder with 000001.mrc, 000002.mrc, ...
        boxes: `count` cubes of this edge.
        count: of boxes, 1 or more.
        edge: voxels.
        voxel_size: angstrom.
        overwrite: replace what is there.

    Raises:
        FileError: if something is there, there is no box, or boxes are missing.
        OSError: if the disk is full; for a stack that is found before work starts.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "two.mrcs"
    >>> write_boxes(path, [np.zeros((4, 4, 4)), np.ones((4, 4, 4))], 2, 4, 10.0)
    >>> read_boxes(path).shape
    (2, 4, 4, 4)
    """
    path = Path(path)
    if count < 1:
        raise FileError(f"{path}: there is no particle to write")
    if path.suffix in (".mrcs", ".mrc"):
        _write_stack(path, boxes, count, edge, voxel_size, overwrite)
        return
    with atomic_folder(path, overwrite) as folder:
        written = 0
        for written, box in enumerate(boxes, 1):  # noqa: B007
            write_mrc(folder / f"{written:06d}.mrc", np.float32(box), voxel_size=voxel_size)
        _check_count(path, written, count)


def _check_count(path: Path, written: int, count: int) -> None:
    if written != count:
        raise FileError(f"{path}: {written} boxes came where {count} were announced")


def _write_stack(
    path: Path,
    boxes: Iterable[Volume],
    count: int,
    edge: int,
    voxel_size: VoxelSize | None,
    overwrite: bool,
) -> None:
    target = target_path(path, overwrite)
    partial = partial_path(target)
    size = headers.LENGTH + 4 * count * edge**3
    written, low, high, total, squares = 0, math.inf, -math.inf, 0.0, 0.0
    try:
        with (
            disk_full_explained(target),
            open(partial, "wb") as file,
            ThreadPoolExecutor(1) as flusher,
        ):
            flushed, flushing = 0, None
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            file.seek(headers.LENGTH)
            for written, box in enumerate(boxes, 1):  # noqa: B007
                values = np.ascontiguousarray(box, "<f4")
                file.write(values.data)
                low, high = min(low, float(values.min())), max(high, float(values.max()))
                total += float(values.sum(dtype=np.float64))
                squares += float(np.vdot(values, values))
                if file.tell() - flushed > _FLUSH and (flushing is None or flushing.done()):
                    flushed, flushing = file.tell(), flusher.submit(os.fsync, file.fileno())
            _check_count(path, written, count)
            one = np.broadcast_to(np.float32(0), (edge, edge, edge))
            fields = mrc_header(one, np.dtype("<f4"), None, voxel_size)
            fields["nz"], fields["mz"], fields["ispg"] = count * edge, edge, _VOLUMES
            mean = total / (count * edge**3)
            deviation = math.sqrt(max(squares / (count * edge**3) - mean * mean, 0.0))
            names = ("dmin", "dmax", "dmean", "rms")
            for name, value in zip(names, (low, high, mean, deviation), strict=True):
                fields[name] = value
            if flushing is not None:
                flushing.result()  # a full disk shows here
            file.seek(0)
            file.write(fields.tobytes())
        sync(partial)
        publish_file(partial, target, overwrite)
        sync(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def read_boxes(path: PathLike) -> np.ndarray:
    """The boxes that `write_boxes` wrote, memory-mapped: ``(n, z, y, x)`` float32.

    Also stacks of volumes of other programs, in 32-bit floats; and folders of MRC files of one
    shape, which are read, in the order of their names.

    Raises:
        FileError: if this is no stack of cubes.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.mrc"))
        if not files:
            raise FileError(f"{path}: the folder holds no .mrc file")
        volumes = [np.asarray(read_mrc(file).density, np.float32) for file in files]
        if len({v.shape for v in volumes}) > 1:
            raise FileError(f"{path}: its boxes differ in shape; they must be of one size")
        return np.stack(volumes)
    path = existing_file(path)
    with open(path, "rb") as file:
        raw = file.read(headers.LENGTH)
    if len(raw) < headers.LENGTH or raw[208:211] != b"MAP":
        raise FileError(f"{path}: not an MRC stack of volumes")
    fields: Any = np.frombuffer(raw, HEADER_DTYPE.newbyteorder("<"))[0]
    nx, ny, nz, mz = (int(fields[n]) for n in ("nx", "ny", "nz", "mz"))
    if int(fields["mode"]) != 2 or min(nx, ny, nz, mz) < 1 or nz % mz:
        raise FileError(
            f"{path}: not a stack of volumes of 32-bit floats (mode 2, space group 401)"
        )
    offset = headers.LENGTH + int(fields["nsymbt"])
    if path.stat().st_size < offset + 4 * nx * ny * nz:
        raise FileError(f"{path}: truncated; copy it again")
    return np.memmap(path, "<f4", "r", offset, (nz // mz, mz, ny, nx))
