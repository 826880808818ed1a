"""Read and write boxes of particles, in one stack of volumes or in one file each."""

import math
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from cryojax_seg.io import header as headers
from cryojax_seg.io.block import warn
from cryojax_seg.io.disk import disk_full_explained, sync
from cryojax_seg.io.files import (
    FileError,
    PathLike,
    atomic_folder,
    existing_file,
    open_fresh,
    partial_path,
    publish_file,
    target_path,
)
from cryojax_seg.io.mrc import mrc_header, read_mrc, write_mrc
from cryojax_seg.io.voxel_size import VoxelSize
from cryojax_seg.text import shortened

_FLUSH = 2**26  # bytes between flushes beside the work, so that the disk is busy from the start
BOX_FILES = ("[0-9]" * 6 + ".mrc",)  # files of a folder of boxes
_VOLUMES = 401  # the space group of a stack of volumes, MRC2014


def write_boxes(
    path: PathLike,
    boxes: Iterable[np.ndarray],
    count: int,
    edge: int,
    voxel_size: VoxelSize | None = None,
    overwrite: bool = False,
) -> None:
    """Write boxes from an iterator with one box in memory; the finished files appear together.

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
    with atomic_folder(path, overwrite, BOX_FILES) as folder:
        written = 0
        for written, box in enumerate(boxes, 1):  # noqa: B007
            write_mrc(folder / f"{written:06d}.mrc", np.float32(box), voxel_size=voxel_size)
        _check_count(path, written, count)


def _check_count(path: Path, written: int, count: int) -> None:
    if written != count:
        raise FileError(f"{path}: {written} boxes came where {count} were announced")


def _write_stack(
    path: Path,
    boxes: Iterable[np.ndarray],
    count: int,
    edge: int,
    voxel_size: VoxelSize | None,
    overwrite: bool,
) -> None:
    target = target_path(path, overwrite)
    partial = partial_path(target)
    size = headers.LENGTH + 4 * count * edge**3
    written, low, high, total, squares, odd = 0, math.inf, -math.inf, 0.0, 0.0, 0
    try:
        with (
            disk_full_explained(target),
            open_fresh(partial) as file,
            ThreadPoolExecutor(1) as flusher,
        ):
            flushed, flushing = 0, None
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            file.seek(headers.LENGTH)
            for written, box in enumerate(boxes, 1):  # noqa: B007
                values = np.ascontiguousarray(box, "<f4")
                file.write(values.data)
                finite = np.isfinite(values)
                odd += int(values.size - finite.sum())
                low = min(low, float(values.min(initial=math.inf, where=finite)))
                high = max(high, float(values.max(initial=-math.inf, where=finite)))
                values = np.where(finite, values, np.float32(0))
                total += float(values.sum(dtype=np.float64))
                squares += float(np.vdot(values, values))
                if file.tell() - flushed > _FLUSH and (flushing is None or flushing.done()):
                    flushed, flushing = file.tell(), flusher.submit(os.fsync, file.fileno())
            _check_count(path, written, count)
            if odd:
                warn(path, [f"{odd} of {count * edge**3} voxels are NaN or infinite"])
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
    """Return memory-mapped boxes that `write_boxes` wrote, as float32 ``(n, z, y, x)``.

    Also stacks of volumes of other programs, in 32-bit floats; and folders of MRC files of one
    shape, which are read, in the order of their names, where 2 comes before 10.

    Raises:
        FileError: if this is no stack of cubes.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "boxes.mrcs"
    >>> write_boxes(file, np.ones((2, 4, 4, 4), np.float32), 2, 4, voxel_size=10.0)
    >>> read_boxes(file).shape
    (2, 4, 4, 4)
    """
    path = Path(path)
    if path.is_dir():
        volumes = [np.asarray(read_mrc(file).density, np.float32) for file in box_files(path)]
        if len({v.shape for v in volumes}) > 1:
            raise FileError(f"{path}: its boxes differ in shape; they must be of one size")
        return np.stack(volumes)
    fields, offset = _stack_header(existing_file(path))
    nx, ny, nz, mz = (int(fields[n]) for n in ("nx", "ny", "nz", "mz"))
    return np.memmap(path, "<f4", "r", offset, (nz // mz, mz, ny, nx))


def boxes_voxel_size(path: PathLike) -> float | None:
    """Return the voxel size of boxes in angstrom, or None if their header does not state it.

    Raises:
        FileError: if this is no stack of cubes.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "boxes.mrcs"
    >>> write_boxes(file, np.zeros((2, 4, 4, 4), np.float32), 2, 4, voxel_size=10.0)
    >>> boxes_voxel_size(file)
    10.0
    """
    path = Path(path)
    if path.is_dir():
        size = read_mrc(box_files(path)[0], mmap=True).voxel_size
        return None if size is None else float(np.mean(size))
    fields, _ = _stack_header(existing_file(path))
    size = float(fields["cella"]["x"]) / max(int(fields["mx"]), 1)
    return float(f"{size:.6g}") if size > 0 else None


def box_files(folder: Path) -> list[Path]:
    """Return the MRC files of a folder of boxes in numerical order (2.mrc before 10.mrc).

    Raises:
        FileError: if there is none.
    """
    files = sorted(folder.glob("*.mrc"), key=_natural)
    if not files:
        flat = next(folder.glob("*.mrcs"), None)
        more = f" but stacks such as {flat.name}, which may be 2D ones of RELION 5" if flat else ""
        raise FileError(f"{folder}: the folder holds no .mrc file{more}")
    return files


def box_numbers(path: PathLike, names: Sequence[str], table: PathLike) -> np.ndarray:
    """Return for each row of a table the index of its box in the result of `read_boxes`, from 0.

    Args:
        path: the stack or the folder.
        names: one for each row: ``k@stack`` counts from 1, or the path of a file in the folder.
        table: where they stand, for messages.

    Raises:
        FileError: for a box that is not there.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "two.mrcs"
    >>> write_boxes(path, [np.zeros((4, 4, 4)), np.ones((4, 4, 4))], 2, 4, 10.0)
    >>> box_numbers(path, ["2@a/two.mrcs", "000001@a/two.mrcs"], "t.star").tolist()
    [1, 0]
    """
    path = Path(path)
    if path.is_dir():
        place = {file.name: i for i, file in enumerate(box_files(path))}
        named = [(Path(name).name, Path(name).parent) for name in names]
        found = [place.get(name, -1) for name, _ in named]
        folders = {str(folder) for _, folder in named}
    else:
        count = len(read_boxes(path))
        named = [(number, Path(file)) for number, _, file in (n.partition("@") for n in names)]
        found = [
            int(number) - 1 if number.isdecimal() and file.name == path.name else -1
            for number, file in named
        ]
        found = [number if number < count else -1 for number in found]
        folders = {str(file) for _, file in named}
    missing = [row for row, number in enumerate(found) if number < 0]
    if missing:
        first = missing[0]
        raise FileError(
            f"{table}: row {first + 1} names the box {shortened(names[first], 60)}, which {path} "
            f"does not hold ({len(missing)} of {len(names)} rows); give the boxes that belong to it"
        )
    if len(folders) > 1:
        some = ", ".join(shortened(f, 60) for f in sorted(folders)[:3])
        raise FileError(
            f"{table}: names boxes of the same name in several places ({some}); split it, so that "
            f"it lists those of {path} alone"
        )
    return np.array(found, np.int64)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a sort key that compares numbers within names as numbers."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _stack_header(path: Path) -> tuple[Any, int]:
    """Read the header of a stack of volumes, check it, and find where the voxels begin."""
    with open(path, "rb") as file:
        raw = file.read(headers.LENGTH)
    if len(raw) < headers.LENGTH or raw[208:211] != b"MAP":
        raise FileError(f"{path}: not an MRC stack of volumes")
    fields: Any = np.frombuffer(raw, HEADER_DTYPE.newbyteorder("<"))[0]
    nx, ny, nz, mz = (int(fields[n]) for n in ("nx", "ny", "nz", "mz"))
    if int(fields["ispg"]) == 0 and min(nx, ny, nz) > 1 and not nx == ny == mz:
        raise FileError(
            f"{path}: is a stack of {nz} images of {ny} x {nx} pixels, not of volumes, such as the "
            "2D-stack particles of RELION 5; extract boxes from the tomogram instead"
        )
    if int(fields["mode"]) != 2 or min(nx, ny, nz, mz) < 1 or nz % mz:
        raise FileError(
            f"{path}: not a stack of volumes of 32-bit floats (mode 2, space group 401)"
        )
    extended = int(fields["nsymbt"])
    if extended < 0:
        raise FileError(f"{path}: header field nsymbt is {extended}; the header is damaged")
    if path.stat().st_size < headers.LENGTH + extended + 4 * nx * ny * nz:
        raise FileError(f"{path}: truncated; copy it again")
    return fields, headers.LENGTH + extended
