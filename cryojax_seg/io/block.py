"""Read the block of voxels that a header describes: mapped, plain or compressed.

Every reader checks what a header claims against the size of the file here, before it allocates.
"""

import bz2
import contextlib
import dataclasses
import gzip
import importlib
import lzma
import math
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cryojax_seg.core.blocks import release
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.files import FileError, HeaderWarning, PathLike, check_memory
from cryojax_seg.io.voxel_size import VoxelSize, voxel_size_warnings, voxel_size_zyx
from cryojax_seg.text import size_text

MAP_ABOVE = 2**28  # bytes; smaller volumes are read, larger ones memory-mapped
MOST_EXPANSION = {"gzip": 1040, "bzip2": 2**21}  # deflate cannot expand more than 1032 times
Mmap = bool | Literal["auto"]
_BLOCK = 2**22
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)


@dataclasses.dataclass(frozen=True)
class Block:
    """Place and type of voxels that lie one after another in a file.

    Attributes:
        shape: slowest axis first, as they are stored.
        dtype: with its byte order.
        offset: byte at which they start, in the decompressed file if it is compressed.

    >>> Block((2, 3, 4), np.dtype("<f4"), 352).nbytes
    96
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize


def compression(path: Path) -> Literal["gzip", "bzip2"] | None:
    """Return by what the first bytes say that a file is compressed."""
    with open(path, "rb") as file:
        magic = file.read(3)
    return "gzip" if magic[:2] == b"\x1f\x8b" else "bzip2" if magic == b"BZh" else None


def first_bytes(path: Path, count: int) -> bytes:
    """Return the first bytes of a file, decompressed; fewer if its compression is damaged."""
    found = b""
    with contextlib.suppress(*_DAMAGE), opened(path) as file:
        while len(found) < count and (more := file.read(count - len(found))):
            found += more
    return found


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file to read its bytes, decompressed if it is compressed."""
    opener: Any = {"gzip": gzip.open, "bzip2": bz2.open, None: open}[compression(path)]
    with opener(path, "rb") as file:
        yield file


def check_block(path: Path, block: Block) -> None:
    """Refuse a block that has no voxel, or does not fit the file; allocate nothing.

    Raises:
        FileError: naming the file, with the bytes that it claims and has.
    """
    if block.offset < 0 or min(block.shape) <= 0:
        raise FileError(
            f"{path}: its header says {block.shape} voxels from byte {block.offset}; the header "
            "is damaged, copy the file again"
        )
    if compression(path) is None:
        size = path.stat().st_size
        if block.offset + block.nbytes > size:
            raise FileError(
                f"{path}: truncated or damaged: the header says {block.shape} voxels of "
                f"{block.dtype.itemsize} bytes, so {block.offset + block.nbytes} bytes "
                f"({size_text(block.offset + block.nbytes)}); the file has {size}. Copy it again"
            )


def read_block(path: Path, block: Block, mmap: Mmap = "auto") -> np.ndarray:
    """Read a block in native byte order, or map it where that is asked for and possible.

    Args:
        path: the file; gzip and bzip2 are recognised by content.
        block: what to read.
        mmap: map it read-only; "auto" does so above 256 MiB. Compressed and foreign-endian files
            are read.

    Raises:
        FileError: as `check_block`; if it is larger than memory, or its compression is damaged.
    """
    check_block(path, block)
    kind = compression(path)
    native = block.dtype.newbyteorder("=")
    large = block.nbytes > MAP_ABOVE if mmap == "auto" else mmap
    if large and block.dtype == native and kind is None:
        return np.memmap(path, block.dtype, "r", block.offset, block.shape)
    if kind is None:
        check_memory(path, block.nbytes)
        data = np.fromfile(path, block.dtype, block.count, offset=block.offset)
        if data.size != block.count:
            raise FileError(f"{path}: shrank while it was read; copy it again")
        return data.reshape(block.shape).astype(native, copy=False)
    with explained(path), opened(path) as file:
        skip(file, block.offset, path)
        return read_stream(file, block, path, kind)


def read_stream(file: Any, block: Block, path: Path, kind: str, check: bool = True) -> np.ndarray:
    """Read a block from where a decompressed stream stands; keep at most what it declares."""
    check_memory(path, block.nbytes)
    if block.nbytes > MOST_EXPANSION[kind] * path.stat().st_size:
        raise FileError(_short(path, block.nbytes, "cannot hold as much"))
    found = bytearray()  # which grows as data arrive, since a damaged header may declare anything
    while len(found) < block.nbytes:
        more = file.read(min(_BLOCK, block.nbytes - len(found)))
        if not more:
            raise FileError(_short(path, block.nbytes, f"ends after {len(found)}"))
        found += more
    if check:
        file.read(1)  # at the end this verifies the checksum
    return (
        np.frombuffer(found, block.dtype)
        .reshape(block.shape)
        .astype(block.dtype.newbyteorder("="), copy=False)
    )


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what damaged compression raises into a FileError that names the file."""
    try:
        yield
    except _DAMAGE as error:
        raise FileError(f"{path}: damaged compression ({error}); copy it again") from error


def skip(file: Any, count: int, path: Path) -> None:
    """Read on in a decompressed stream by this many bytes."""
    while count:
        block = file.read(min(count, _BLOCK))
        if not block:
            raise FileError(f"{path}: ends inside its header; copy it again")
        count -= len(block)


def _short(path: Path, expected: int, found: str) -> str:
    return (
        f"{path}: truncated or damaged: the header says {expected} bytes of data, the compressed "
        f"file {found}. Copy it again"
    )


def as_tomogram(
    path: Path,
    data: Any,
    given: VoxelSize | None,
    stated: tuple[float, float, float] | None,
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    notes: tuple[str, ...] = (),
) -> Tomogram:
    """Return voxels with what their file says of them, after warnings of what is suspicious.

    Integers of 64 bits in memory come as 32.

    Args:
        path: the file, for messages and as the name.
        data: ``(z, y, x)``, real.
        given: voxel size in angstrom that wins over the file.
        stated: voxel size of the file; None if it has none.
        origin: angstrom (z, y, x).
        notes: further warnings.

    Raises:
        FileError: for integers that do not fit.
    """
    found = list(notes)
    if stated is not None:
        found += voxel_size_warnings(stated)
    elif not any("voxel size" in note for note in found):
        found.append("voxel size unknown; give voxel_size in angstrom")
    if given is not None:
        found = [note for note in found if "voxel size" not in note]
    if isinstance(data, np.ndarray) and not isinstance(data, np.memmap):
        data = narrowed(data, path)
        found += non_finite_warnings(data)
    warn(path, found)
    size = stated if given is None else voxel_size_zyx(given)
    return Tomogram(density=data, voxel_size=size, origin=origin, name=str(path))


def narrowed(data: np.ndarray, path: Path) -> np.ndarray:
    """Return 64-bit numbers in 32 bits; napari and NumPy write labels as int64.

    Raises:
        FileError: for integers that do not fit.

    >>> narrowed(np.array([3]), Path("labels.npy")).dtype
    dtype('int32')
    """
    if data.dtype.itemsize <= 4:
        return data
    check_memory(path, data.nbytes // 2)
    if data.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):  # counted as infinite by the caller
            return data.astype(np.float32)
    low, high = int(data.min()), int(data.max())
    if low < -(2**31) or high >= 2**31:
        raise FileError(f"{path}: holds integers from {low} to {high}; those of 32 bit are read")
    return data.astype(np.int32)


def warn(path: PathLike, notes: list[str]) -> None:
    """Give one HeaderWarning for each note, each naming the file."""
    for note in notes:
        parameters = ("voxel_size",) if "voxel_size" in note else ()
        warnings.warn(HeaderWarning(f"{path}: {note}", *parameters), stacklevel=3)


def non_finite_warnings(data: np.ndarray) -> list[str]:
    """Return a warning with the number of NaN and infinite voxels, if there are any."""
    if data.dtype.kind != "f":
        return []
    bad = 0
    for section in data:
        bad += int(section.size - np.isfinite(section).sum())
        release(data)
    return [f"{bad} of {data.size} voxels are NaN or infinite"] if bad else []


def check_real(dtype: np.dtype, path: Path) -> None:
    """Refuse voxels that are no real numbers of at most 64 bits."""
    if dtype.kind not in "iufb" or dtype.itemsize > 8:
        raise FileError(f"{path}: holds {dtype}; real numbers are read, convert it")


def volume_shape(shape: tuple[int, ...], path: Path) -> tuple[int, int, int]:
    """Return ``(z, y, x)`` of a shape, slowest axis first, whose further axes have length 1.

    Raises:
        FileError: if it is no single volume.

    >>> volume_shape((1, 2, 3, 4), Path("a.nii"))
    (2, 3, 4)
    """
    inner, extra = shape[-3:], shape[:-3]
    if len(inner) < 3 or any(n != 1 for n in extra):
        raise FileError(
            f"{path}: has the shape {shape}, slowest axis first, and is no single volume; save "
            "one channel and one time point with three axes"
        )
    z, y, x = map(int, inner)
    return z, y, x


def library(module: str, path: Path, what: str, extra: str = "formats") -> Any:
    """Import the package that reads or writes a format.

    Raises:
        FileError: naming the file and the extra that has it.

    >>> library("nrrd", Path("a.nrrd"), "NRRD").__name__
    'nrrd'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise FileError(
            f"{path}: is {what}, which needs the package {error.name or module}; "
            f"pip install 'cryojax-seg[{extra}]'"
        ) from None
