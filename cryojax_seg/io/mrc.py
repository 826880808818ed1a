"""Read and write MRC volumes; check headers before allocating, and never leave half a file."""

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from cryojax_seg.core.blocks import release
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io import header as headers
from cryojax_seg.io.block import (
    compression,
    explained,
    non_finite_warnings,
    opened,
    read_block,
    read_stream,
    skip,
    warn,
)
from cryojax_seg.io.files import FileError, PathLike, atomic_write, existing_file
from cryojax_seg.io.label_card import LabelCard
from cryojax_seg.io.voxel_size import VoxelSize, voxel_size_zyx


def read_mrc(
    path: PathLike,
    voxel_size: VoxelSize | None = None,
    mmap: bool | Literal["auto"] = "auto",
    stack_as_volume: bool = False,
) -> Tomogram:
    """Read an MRC volume (also .rec, .map, .st; gzip and bzip2 are recognised by content).

    The header is checked against the size of the file before anything is allocated. Modes 0, 1,
    2, 6 and 12 are read, in either byte order and any axis order; bytes are unsigned where IMOD's
    flags say so. Suspicious headers give a `HeaderWarning` that names the file.

    Args:
        path: the file.
        voxel_size: angstrom, one number or (z, y, x); wins over the header.
        mmap: memory-map the data read-only instead of reading it; "auto" does so above 256 MiB.
            Compressed and foreign-endian files cannot be mapped.
        stack_as_volume: read a file that declares itself a stack of images as a volume.

    Returns:
        the tomogram: density ``(z, y, x)`` in native byte order and the file's own type.

    Raises:
        FileError: if the file is not a complete volume of real numbers; it names the file and
            what to do.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.mrc"
    >>> write_mrc(path, np.arange(24, dtype=np.float32).reshape(2, 3, 4), voxel_size=10.0)
    >>> tomogram = read_mrc(path)
    >>> tomogram.density.shape, tomogram.voxel_size
    ((2, 3, 4), (10.0, 10.0, 10.0))
    """
    path = existing_file(path)
    kind = compression(path)
    if kind is None:
        size = path.stat().st_size
        with open(path, "rb") as file:
            header = headers.parse(file.read(headers.LENGTH), str(path), size, stack_as_volume)
        data, notes = read_block(path, header.block, mmap), []
    else:
        header, data, notes = _read_stream(path, kind, stack_as_volume)
    notes = [*header.warnings, *notes]
    if voxel_size is not None:
        notes = [note for note in notes if "voxel size" not in note]
    if not isinstance(data, np.memmap):
        notes += non_finite_warnings(data)
    warn(path, notes)
    return Tomogram(
        density=data.transpose(header.axes),
        voxel_size=header.voxel_size if voxel_size is None else voxel_size_zyx(voxel_size),
        origin=header.origin,
        start=header.start,
        name=str(path),
    )


def write_mrc(
    path: PathLike,
    array,
    like: Tomogram | None = None,
    voxel_size: VoxelSize | None = None,
    overwrite: bool = False,
    card: LabelCard | None = None,
) -> None:
    """Write a volume as MRC2014, completely or not at all.

    Floats become mode 2 (float16: mode 12), integers the smallest of modes 0, 1 and 6 that holds
    them (16-bit types keep theirs). NaN and infinite voxels are written, with a `HeaderWarning`.
    The file carries the voxel size, origin and nstart of `like`, and no extended header.

    Args:
        path: the file; see `atomic_write` for how it comes into being.
        array: ``(z, y, x)``, real; NumPy or JAX.
        like: the tomogram this belongs to.
        voxel_size: angstrom, one number or (z, y, x); wins over `like`. Unknown is written as 0.
        overwrite: replace an existing file.
        card: what the labels mean, if they are labels; it goes into the lines of the header.

    Raises:
        FileError: if the file exists, or the array is not a real volume MRC can hold.
        OSError: if the disk is full.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "t.mrc"
    >>> write_mrc(file, np.ones((2, 3, 4), np.float32), voxel_size=10.0)
    >>> read_mrc(file).voxel_size
    (10.0, 10.0, 10.0)
    """
    array = np.asarray(array)
    if array.ndim != 3 or 0 in array.shape:
        raise FileError(f"{path}: a volume (z, y, x) is needed, this array is {array.shape}")
    dtype = _storage_type(array, path)
    warn(path, non_finite_warnings(array))
    fields = mrc_header(array, dtype, like, voxel_size, card)
    with atomic_write(path, overwrite) as temporary, open(temporary, "wb") as file:
        file.write(fields.tobytes())
        for section in array:  # one at a time: a memory-mapped input stays on disk
            file.write(np.ascontiguousarray(section, dtype).data)


def _read_stream(path: Path, kind: str, stack_as_volume: bool):
    """Read header, data and warnings of a compressed file; keep at most the declared block."""
    with explained(path), opened(path) as file:
        raw = file.read(headers.LENGTH)
        header = headers.parse(raw, str(path), None, stack_as_volume)
        skip(file, header.offset - headers.LENGTH, path)
        data = read_stream(file, header.block, path, kind, check=False)
        more = bool(file.read(1))  # at the end this also verifies the checksum
    return header, data, ["more data than the header says; it is ignored"] if more else []


def _storage_type(array: np.ndarray, path: PathLike) -> np.dtype:
    if array.dtype.newbyteorder("=") in (np.int8, np.int16, np.uint16, np.float16):
        return array.dtype.newbyteorder("<")
    if array.dtype == bool:
        return np.dtype("i1")
    if array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        for kind in ("i1", "<i2", "<u2"):
            limits = np.iinfo(kind)
            if limits.min <= low and high <= limits.max:
                return np.dtype(kind)
        raise FileError(
            f"{path}: MRC holds integers of 16 bits, this array goes from {low} to {high}; "
            "convert it to float32"
        )
    if np.can_cast(array.dtype, np.float64, "same_kind"):
        return np.dtype("<f4")
    raise FileError(f"{path}: an array of {array.dtype} is not a volume of real numbers")


def mrc_header(
    array: np.ndarray,
    dtype: np.dtype,
    like: Tomogram | None = None,
    voxel_size: VoxelSize | None = None,
    card: LabelCard | None = None,
) -> Any:
    """Return the header of an array stored as this type; see `write_mrc` for the arguments."""
    if like is not None and voxel_size is None:
        voxel_size = like.voxel_size
    size = (0.0, 0.0, 0.0) if voxel_size is None else voxel_size_zyx(voxel_size)
    fields: Any = np.zeros((), HEADER_DTYPE.newbyteorder("<"))
    modes = {np.dtype(f"<{kind}"): mode for mode, kind in headers.DTYPES.items()}
    fields["mode"] = modes[dtype.newbyteorder("<")]
    for axis, count, length in zip("zyx", array.shape, size, strict=True):
        fields[f"n{axis}"] = fields[f"m{axis}"] = count
        fields["cella"][axis] = count * length
    fields["cellb"] = (90.0, 90.0, 90.0)
    fields["mapc"], fields["mapr"], fields["maps"] = 1, 2, 3
    fields["ispg"], fields["nversion"] = 1, 20141
    fields["map"], fields["machst"] = b"MAP ", (0x44, 0x44, 0, 0)
    fields["dmin"], fields["dmax"], fields["dmean"], fields["rms"] = _statistics(array)
    lines = ["Written by cryojax_seg", *(card.lines() if card else ())]
    for place, line in enumerate(lines):
        fields["label"][place] = line.encode()
    fields["nlabl"] = len(lines)
    if like is not None:
        for name, origin, start in zip("zyx", like.origin, like.start, strict=True):
            fields["origin"][name], fields[f"n{name}start"] = origin, start
    return fields


def _statistics(array: np.ndarray) -> tuple[float, float, float, float]:
    """Return minimum, maximum, mean and standard deviation of the finite voxels."""
    low, high, count, mean, squares = math.inf, -math.inf, 0, 0.0, 0.0
    for section in array:
        values = section.astype(np.float64)
        release(array)
        values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, values.min()), max(high, values.max())
            # Pairwise update of mean and squared deviations (Chan, Golub and LeVeque 1979).
            shift, total = values.mean() - mean, count + values.size
            squares += values.var() * values.size + shift**2 * count * values.size / total
            mean, count = mean + shift * values.size / total, total
    if not count:
        return 0.0, -1.0, -2.0, -1.0  # MRC2014: not determined
    return low, high, mean, math.sqrt(squares / count)
