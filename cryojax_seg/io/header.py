"""Read the 1024-byte header of an MRC file in Python integers, and check every field.

Field positions, modes and space groups: MRC2014 (Cheng et al. 2015, J. Struct. Biol. 192:146).
The IMOD stamp and flags (bytes 152 to 160): IMOD's description of its MRC files.
"""

import dataclasses
import math
from typing import Any, Literal

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from cryojax_seg.io.block import Block
from cryojax_seg.io.files import FileError
from cryojax_seg.io.voxel_size import voxel_size_warnings
from cryojax_seg.text import size_text

LENGTH = 1024
Order = Literal["<", ">"]
IMOD_STAMP = 1146047817
DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_REFUSED = {
    3: "complex 16-bit integers (a Fourier transform)",
    4: "complex floats (a Fourier transform)",
    16: "RGB colours",
    101: "4-bit integers",
}
_MAGIC = (
    (b"\x89HDF", "an HDF5 file"),
    (b"<!DOCTYPE", "an HTML page, so the download failed"),
    (b"<!doctype", "an HTML page, so the download failed"),
    (b"<html", "an HTML page, so the download failed"),
    (b"<HTML", "an HTML page, so the download failed"),
    (b"<?xml", "an XML file"),
    (b"II*\0", "a TIFF file"),
    (b"MM\0*", "a TIFF file"),
    (b"data_", "a STAR file, so a table"),
    (b"# version", "a STAR file, so a table"),
    (b"PK\x03\x04", "a zip archive; extract it first"),
    (b"\x89PNG", "a PNG picture"),
    (b"version https://git-lfs", "a Git LFS pointer; run `git lfs pull`"),
)


@dataclasses.dataclass(frozen=True)
class Header:
    """Fields of a checked header.

    Attributes:
        stored: shape of the data block, slowest axis first (sections, rows, columns).
        dtype: of the data block, with its byte order.
        offset: byte at which the data block starts.
        axes: permutation that brings the stored axes into the order z, y, x.
        voxel_size: angstrom (z, y, x); None if the header does not say.
        origin: angstrom (z, y, x).
        start: index of the first voxel (z, y, x), the nstart fields.
        warnings: what is suspicious, a sentence each.
    """

    stored: tuple[int, int, int]
    dtype: np.dtype
    offset: int
    axes: tuple[int, int, int]
    voxel_size: tuple[float, float, float] | None
    origin: tuple[float, float, float]
    start: tuple[int, int, int]
    warnings: tuple[str, ...]

    @property
    def block(self) -> Block:
        return Block(self.stored, self.dtype, self.offset)


def parse(raw: bytes, name: str, size: int | None, stack_as_volume: bool = False) -> Header:
    """Read and check a header.

    Args:
        raw: the first 1024 bytes of the file, or as many as there are.
        name: the file, for messages.
        size: bytes in the file; None for a compressed stream, whose length is not known.
        stack_as_volume: read what is declared a stack of images as a volume.

    Raises:
        FileError: if this is not an MRC volume of real numbers that fits the file.
    """
    if len(raw) < LENGTH:
        raise FileError(
            f"{name}: not an MRC file{_looks_like(raw)}; it has {len(raw)} bytes and an MRC header "
            f"has {LENGTH}. If it should be one, copy it again"
        )
    warnings: list[str] = []
    order = _byte_order(raw, warnings)
    fields: Any = np.frombuffer(raw[:LENGTH], HEADER_DTYPE.newbyteorder(order))[0]
    stamped = raw[208:211] == b"MAP"
    if not stamped and (size is None or not _consistent(fields, size)):
        raise FileError(
            f"{name}: not an MRC file{_looks_like(raw)}: no MAP identifier at byte 208, and the "
            "sizes in the header do not fit the file. Check what it is, or download it again"
        )
    if not stamped:
        warnings.append("no MAP identifier; read because header and file size agree")

    nx, ny, nz = (_positive(fields, name, axis) for axis in ("nx", "ny", "nz"))
    dtype = _dtype(fields, raw, name, order, warnings)
    nsymbt = int(fields["nsymbt"])
    if nsymbt < 0:
        raise FileError(f"{name}: header field nsymbt is {nsymbt}; the header is damaged")
    axes = _axes(fields, warnings)
    header = Header(
        stored=(nz, ny, nx),
        dtype=dtype,
        offset=LENGTH + nsymbt,
        axes=axes,
        voxel_size=_voxel_size(fields, warnings),
        origin=_origin(fields, raw, order, warnings),
        start=_start(fields, axes),
        warnings=(),
    )
    if size is not None:
        _check_size(header, nsymbt, name, size, warnings)
    _check_volume(fields, header, name, stack_as_volume)
    return dataclasses.replace(header, warnings=tuple(warnings))


def _looks_like(raw: bytes) -> str:
    start = raw.lstrip()[:64]
    for magic, what in _MAGIC:
        if start.startswith(magic):
            return f" but {what}"
    return ""


def _byte_order(raw: bytes, warnings: list[str]) -> Order:
    stamps: dict[bytes, Order] = {b"DD": "<", b"DA": "<", b"\x11\x11": ">"}
    stamp = stamps.get(raw[212:214])
    orders: tuple[Order, ...] = ("<", ">")
    plausible: list[Order] = [
        o for o in orders if 0 <= int(np.frombuffer(raw[12:16], f"{o}i4")[0]) <= 127
    ]
    if stamp in plausible or (stamp and not plausible):
        return stamp
    if len(plausible) == 2:  # mode 0 reads the same in both orders: the smaller sizes are right
        order: Order = min(plausible, key=lambda o: np.frombuffer(raw[:12], f"{o}u4").max())
    else:
        order = plausible[0] if plausible else "<"
    endian = "little" if order == "<" else "big"
    warnings.append(f"wrong machine stamp {raw[212:216].hex()}; read as {endian}-endian")
    return order


def _positive(fields, name: str, field: str) -> int:
    value = int(fields[field])
    if value <= 0:
        raise FileError(
            f"{name}: header field {field} is {value}; the header is damaged, copy the file again"
        )
    return value


def _consistent(fields, size: int) -> bool:
    """Return whether sizes, mode and extended header add up to the size of this file."""
    counts = [int(fields[n]) for n in ("nx", "ny", "nz")]
    kind = DTYPES.get(int(fields["mode"]))
    if kind is None or min(counts) <= 0:
        return False
    return LENGTH + int(fields["nsymbt"]) + math.prod(counts) * np.dtype(kind).itemsize == size


def _imod_flags(raw: bytes, order: str) -> int | None:
    stamp, flags = np.frombuffer(raw[152:160], f"{order}i4")
    return int(flags) if stamp == IMOD_STAMP else None


def _dtype(fields, raw: bytes, name: str, order: str, warnings: list[str]) -> np.dtype:
    mode = int(fields["mode"])
    if mode not in DTYPES:
        what = _REFUSED.get(mode, "not a mode of the format")
        raise FileError(
            f"{name}: mode {mode} is {what}; only real-space volumes in modes 0, 1, 2, 6 and 12 "
            "are read. Convert it (IMOD: newstack -mode 2)"
        )
    if mode == 0:
        flags = _imod_flags(raw, order)
        if flags is not None:
            return np.dtype("i1" if flags & 1 else "u1")
        low, high = float(fields["dmin"]), float(fields["dmax"])
        if low >= 0 and 127 < high <= 255:
            warnings.append(f"mode 0 with a maximum of {high:g}: read as unsigned bytes")
            return np.dtype("u1")
    return np.dtype(f"{order}{DTYPES[mode]}")


def _axes(fields, warnings: list[str]) -> tuple[int, int, int]:
    """Return the stored axes in the order z, y, x; maps, mapr, mapc count x, y, z from 1."""
    stored = [int(fields[name]) for name in ("maps", "mapr", "mapc")]
    if sorted(stored) != [1, 2, 3]:
        order = ", ".join(map(str, reversed(stored)))
        warnings.append(f"axis order mapc, mapr, maps is {order}; taken as 1, 2, 3")
        return (0, 1, 2)
    axes = (stored.index(3), stored.index(2), stored.index(1))
    if axes != (0, 1, 2):
        order = ", ".join(map(str, reversed(stored)))
        warnings.append(f"axis order mapc, mapr, maps is {order}; brought into the order z, y, x")
    return axes


def _zyx(fields, name: str) -> tuple[float, float, float]:
    z, y, x = (float(fields[name][axis]) for axis in "zyx")
    return z, y, x


def _voxel_size(fields, warnings: list[str]) -> tuple[float, float, float] | None:
    cell = _zyx(fields, "cella")
    grid = [int(fields[name]) for name in ("mz", "my", "mx")]
    unknown = "voxel size unknown; give voxel_size in angstrom"
    if cell == (0.0, 0.0, 0.0):
        warnings.append(f"cell is 0: {unknown}")
        return None
    text = ", ".join(f"{c:g}" for c in cell)
    if not all(math.isfinite(c) and c > 0 for c in cell) or min(grid) <= 0:
        warnings.append(f"cell ({text}) A over grid {tuple(grid)} (z, y, x): {unknown}")
        return None
    if grid == [1, 1, 1] and max(int(fields[n]) for n in ("nx", "ny", "nz")) > 1:
        warnings.append(f"cell ({text}) A but mx, my, mz are 1: {unknown}")
        return None
    # The cell is float32: six digits are what it holds after the division.
    z, y, x = (float(f"{c / m:.6g}") for c, m in zip(cell, grid, strict=True))
    warnings.extend(voxel_size_warnings((z, y, x)))
    return z, y, x


def _origin(fields, raw: bytes, order: str, warnings: list[str]) -> tuple[float, float, float]:
    origin = _zyx(fields, "origin")
    if not all(math.isfinite(o) for o in origin):
        warnings.append("origin is not finite; taken as 0")
        return (0.0, 0.0, 0.0)
    if (_imod_flags(raw, order) or 0) & 4:  # stored with the sign inverted
        z, y, x = (0.0 - o for o in origin)
        return z, y, x
    return origin


def _start(fields, axes: tuple[int, int, int]) -> tuple[int, int, int]:
    stored = [int(fields[name]) for name in ("nzstart", "nystart", "nxstart")]
    z, y, x = (stored[axis] for axis in axes)
    return z, y, x


def _check_size(header: Header, nsymbt: int, name: str, size: int, warnings: list[str]) -> None:
    if header.offset > size:
        raise FileError(
            f"{name}: header field nsymbt says {nsymbt} bytes of extended header, the file has "
            f"{size}; the header is damaged or the file truncated, copy it again"
        )
    expected = header.offset + header.block.nbytes
    if expected > size:
        raise FileError(
            f"{name}: truncated or damaged: the header says {header.stored} voxels of "
            f"{header.dtype.itemsize} bytes, so {expected} bytes ({size_text(expected)}); the file "
            f"has {size}. Copy it again"
        )
    if expected < size:
        warnings.append(f"{size - expected} bytes more than the header says; they are ignored")


def _check_volume(fields, header: Header, name: str, stack_as_volume: bool) -> None:
    nz, ny, nx = header.stored
    group, mz = int(fields["ispg"]), int(fields["mz"])
    if group == 0 and nz == 1:
        raise FileError(
            f"{name}: is a 2D image of {ny} x {nx} pixels; a tomogram (volume) is needed"
        )
    if 401 <= group <= 630 and mz != nz:
        count = f"{nz // mz} volumes of {mz} sections" if mz > 0 and nz % mz == 0 else "volumes"
        raise FileError(
            f"{name}: is a 4D stack of {count} (space group {group}, nz {nz}, mz {mz}), such as "
            "boxes of particles; write each volume to its own file first (IMOD: newstack -secs 0-N)"
        )
    # Grids of 1 x 1 x 1 are headers that were never filled in, not stacks.
    unset = int(fields["mx"]) == int(fields["my"]) == 1
    if group == 0 and mz == 1 and nz > 1 and not unset and not stack_as_volume:
        raise FileError(
            f"{name}: is a stack of {nz} 2D images (space group 0, mz 1), such as a tilt series "
            "or a 2D-stack particle of RELION 5; a reconstructed volume is needed. If it is one, "
            f"correct its header (IMOD: alterheader -sam {nx},{ny},{nz}) or read it with "
            "stack_as_volume=True"
        )
