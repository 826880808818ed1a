"""Read and write NRRD volumes (.nrrd, .nhdr), of 3D Slicer and others; pynrrd reads the header."""

import bz2
import dataclasses
import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np

from cryojax_seg.core.plain import Shape
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.block import (
    Block,
    Mmap,
    check_real,
    explained,
    library,
    read_block,
    read_stream,
    volume_shape,
)
from cryojax_seg.io.files import FileError, PathLike, check_memory, existing_file
from cryojax_seg.io.label_card import LabelCard
from cryojax_seg.io.oriented import orientation
from cryojax_seg.io.voxel_size import VoxelSize

MAGIC = b"NRRD"
_LONGEST = 2**20  # bytes of the header
_STREAMS: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(("gzip", "gz"), (gzip.open, "gzip")),
    **dict.fromkeys(("bzip2", "bz2"), (bz2.open, "bzip2")),
}
_TEXT = ("ascii", "text", "txt")
_TYPES = {"i1": "int8", "u1": "uint8", "i2": "int16", "u2": "uint16", "i4": "int32", "f4": "float"}


def read_nrrd(path: PathLike, voxel_size: VoxelSize | None = None, mmap: Mmap = "auto") -> Tomogram:
    """Read a NRRD volume, attached or detached, raw, as text, by gzip or bzip2; it needs pynrrd.

    The directions of its axes give the order, the voxel size and the origin; see
    `oriented.orientation` for what is reversed, and `oriented.angstrom` for units. The file of a
    detached header must lie beside it.

    Args:
        path: the file.
        voxel_size: angstrom, one number or (z, y, x); wins over the header.
        mmap: memory-map what is raw; "auto" does so above 256 MiB.

    Raises:
        FileError: if it is damaged or no volume of real numbers, or pynrrd is missing.

    >>> import tempfile, nrrd
    >>> file = Path(tempfile.mkdtemp()) / "a.nrrd"
    >>> nrrd.write(str(file), np.ones((4, 3, 2), np.int16))
    >>> read_nrrd(file, voxel_size=13.0).density.shape
    (2, 3, 4)
    """
    path = existing_file(path)
    header, offset = _header(path)
    try:
        sizes = [int(n) for n in header["sizes"]]
        shape = tuple(sizes[::-1])
        dtype = _dtype(header)
        affine = _affine(header, sizes)
        place = orientation(affine, shape[-3:])
        unit = ([*header.get("space units", header.get("units", ())), ""])[0]
        skip = int(header.get("byte skip", header.get("byteskip", 0)))
        lines = int(header.get("line skip", header.get("lineskip", 0)))
    except FileError:
        raise
    except Exception as error:  # a damaged header can surface as almost anything
        raise FileError(f"{path}: not a readable NRRD file ({error}); copy it again") from None
    check_real(dtype, path)
    source = _data_file(header, path)
    if lines or skip < -1:
        raise FileError(f"{path}: leaves out {lines} lines and {skip} bytes; save it without")
    block = Block(volume_shape(shape, path), dtype, 0 if source != path else offset)
    data = _voxels(source, block, str(header["encoding"]).lower(), skip, mmap)
    return place.tomogram(path, data, unit if _has_size(header) else None, voxel_size)


def nrrd_header(
    shape: Shape, dtype: Any, like: Tomogram | None = None, card: LabelCard | None = None
) -> bytes:
    """Return the header of a raw volume ``(z, y, x)``, with lengths in angstrom.

    What the labels of the card mean stands in pairs of a key and a text.

    >>> nrrd_header((2, 3, 4), np.int8).decode().splitlines()[:2]
    ['NRRD0004', 'type: int8']
    """
    dtype = np.dtype(dtype)
    lines = [
        "NRRD0004",
        f"type: {_TYPES[dtype.str[1:]]}",
        "dimension: 3",
        f"sizes: {' '.join(str(n) for n in shape[::-1])}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: raw",
    ]
    if like is not None and like.voxel_size is not None:
        z, y, x = like.voxel_size
        origin = ",".join(repr(float(o)) for o in like.corner()[::-1])
        lines[3:3] = ["space: left-posterior-superior"]
        lines += [
            f"space directions: ({x!r},0,0) (0,{y!r},0) (0,0,{z!r})",
            f"space origin: ({origin})",
            'space units: "angstrom" "angstrom" "angstrom"',
        ]
    lines += [f"{key}:={text}" for key, text in (card.entries() if card else {}).items()]
    text = "\n".join(lines) + "\n"
    space = " " * (-(len(text) + 3) % 16)  # so that voxels begin at a multiple of 16 bytes
    return f"{text}#{space}\n\n".encode()


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the fields, and the byte at which the header ends."""
    with open(path, "rb") as file:
        start = file.read(_LONGEST)
    ends = [(start.find(end), len(end)) for end in (b"\n\n", b"\r\n\r\n")]
    ends = [(place, length) for place, length in ends if place >= 0]
    place, length = min(ends, default=(len(start), 0))  # a detached header may have no empty line
    lines = start[:place].split(b"\n")
    reader = library("nrrd", path, "NRRD")
    try:
        header = dict(reader.read_header(lines))
    except Exception as error:
        raise FileError(f"{path}: not a readable NRRD header ({error}); copy it again") from None
    for field in ("type", "dimension", "sizes", "encoding"):
        if field not in header:
            raise FileError(f"{path}: its NRRD header has no {field}; copy it again")
    if header["dimension"] != len(header["sizes"]):
        raise FileError(
            f"{path}: its NRRD header has {len(header['sizes'])} sizes and "
            f"{header['dimension']} dimensions; the header is damaged"
        )
    return header, place + length


def _dtype(header: dict[str, Any]) -> np.dtype:
    """Return the type of the voxels, as pynrrd reads one of them."""
    import nrrd

    text = str(header["encoding"]).lower() in _TEXT
    endian = {"endian": header["endian"]} if "endian" in header else {}
    one: Any = {"type": header["type"], "dimension": 1, "sizes": np.ones(1, int)}
    one |= {"encoding": "raw", **({"endian": "little"} if text else {}), **endian}
    return nrrd.read_data(one, io.BytesIO(bytes(8))).dtype


def _affine(header: dict[str, Any], sizes: list[int]) -> np.ndarray:
    """Return the affine of the three fastest axes, of ones where the header has none."""
    directions = header.get("space directions")
    if directions is not None:
        rows = np.asarray(directions, float)
        rows = rows[np.isfinite(rows).all(1)][-3:] if len(rows) > 3 else rows
        origin = np.asarray(header.get("space origin", np.zeros(3)), float)
        if rows.shape != (3, 3) or origin.shape != (3,):
            raise ValueError("its space directions are not three vectors of three numbers")
        return np.concatenate([rows.T, origin[:, None]], axis=1)
    spacings = np.asarray(header.get("spacings", np.full(len(sizes), np.nan)), float)[:3]
    return np.diag([*np.where(np.isfinite(spacings), np.abs(spacings), 1.0), 1.0])[:3]


def _has_size(header: dict[str, Any]) -> bool:
    if "space directions" in header:
        return True
    spacings = header.get("spacings")
    return spacings is not None and bool(np.isfinite(np.asarray(spacings, float)[:3]).all())


def _data_file(header: dict[str, Any], path: Path) -> Path:
    """Return the file with the voxels, which must lie beside a detached header."""
    name = header.get("data file", header.get("datafile"))
    if name is None:
        return path
    if not name or Path(name).name != name or name.startswith("LIST") or "%" in name:
        raise FileError(
            f"{path}: its voxels are in {name[:200]!r}, which is not one file beside it; save it "
            "as one .nrrd file"
        )
    return existing_file(path.with_name(name))


def _voxels(source: Path, block: Block, encoding: str, skip: int, mmap: Mmap) -> np.ndarray:
    size = source.stat().st_size
    if encoding == "raw":
        offset = size - block.nbytes if skip == -1 else block.offset + skip
        return read_block(source, dataclasses.replace(block, offset=offset), mmap)
    with open(source, "rb") as file:
        file.seek(block.offset + max(skip, 0))
        if encoding in _STREAMS:
            opener, kind = _STREAMS[encoding]
            with explained(source), opener(file) as stream:
                return read_stream(stream, block, source, kind)
        if encoding not in _TEXT:
            raise FileError(f"{source}: is encoded as {encoding[:40]}; save it raw or by gzip")
        return read_text(file.read(), block, source)


def read_text(text: bytes, block: Block, path: Path) -> np.ndarray:
    """Read voxels that are written as decimal numbers.

    Raises:
        FileError: unless there is a number for each voxel.

    >>> read_text(b"1 2 3", Block((1, 1, 3), np.dtype("i2"), 0), Path("a.nrrd")).tolist()
    [[[1, 2, 3]]]
    """
    check_memory(path, block.nbytes)
    words = text.split()
    if len(words) != block.count:
        raise FileError(
            f"{path}: truncated or damaged: the header says {block.shape} voxels, the file has "
            f"{len(words)} numbers. Copy it again"
        )
    try:
        return np.array(words).astype(block.dtype.newbyteorder("=")).reshape(block.shape)
    except (ValueError, OverflowError) as error:
        raise FileError(f"{path}: a voxel is no number ({error}); copy it again") from None
