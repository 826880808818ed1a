"""Read Amira and Avizo lattices (.am): tomograms and label fields.

The header is text, which ends where the data of ``@1`` begin. Voxels are binary in either byte
order, ASCII, or compressed by ``HxZip`` (zlib) or ``HxByteRLE``: a byte N below 128 says that the
next byte comes N times, one of 128 + N that N bytes follow as they are.
"""

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.block import Block, Mmap, as_tomogram, check_block, check_memory, read_block
from cryojax_seg.io.files import FileError, PathLike, existing_file
from cryojax_seg.io.nrrd import read_text
from cryojax_seg.io.oriented import angstrom, scaled
from cryojax_seg.io.voxel_size import VoxelSize

MAGIC = (b"# AmiraMesh", b"# Avizo", b"# HyperMesh")
_LONGEST = 2**22  # bytes of the header, which holds a log of all that was done
_TYPES = {
    **{"byte": "u1", "sbyte": "i1", "short": "i2", "ushort": "u2"},
    **{"int": "i4", "int32": "i4", "uint": "u4", "float": "f4", "double": "f8"},
}
_NUMBER = r"[-+0-9.eE]+"


def read_amira(
    path: PathLike, voxel_size: VoxelSize | None = None, mmap: Mmap = "auto"
) -> Tomogram:
    """Read a lattice of one number a voxel; in label fields 0 is the exterior.

    The bounding box reaches from the centre of the first voxel to that of the last, and gives voxel
    size and origin; see `oriented.angstrom` for its unit.

    Args:
        path: the file.
        voxel_size: angstrom, one number or (z, y, x); wins over the header.
        mmap: memory-map what is neither compressed nor ASCII; "auto" does so above 256 MiB.

    Raises:
        FileError: if it is damaged, or holds something else, such as a surface.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "labels.am"
    >>> text = ["# AmiraMesh BINARY-LITTLE-ENDIAN 2.1", "define Lattice 4 3 2"]
    >>> text += ["Parameters { CoordType \\"uniform\\", BoundingBox 0 30 0 20 0 10 }"]
    >>> text += ["Lattice { byte Labels } @1(HxByteRLE,4)", "@1", ""]
    >>> _ = file.write_bytes(chr(10).join(text).encode() + bytes([20, 0, 4, 1]))
    >>> read_amira(file, voxel_size=10.0).density[1, 2].tolist()
    [1, 1, 1, 1]
    """
    path = existing_file(path)
    header, offset = _header(path)
    kind = header.split("\n", 1)[0]
    sizes = _found(
        r"define\s+Lattice\s+(\d{1,9})\s+(\d{1,9})\s+(\d{1,9})\s", header, path, "lattice"
    )
    word, packing, length = _found(
        r"Lattice\s*\{\s*([a-z0-9]+)\s+\w+\s*\}\s*=?\s*@1(?:\(\s*(\w+)\s*,\s*(\d+)\s*\))?",
        header,
        path,
        "lattice of one number a voxel",
    )
    if word not in _TYPES:
        raise FileError(f"{path}: holds {word}; real numbers are read, convert it")
    order = "<" if "LITTLE" in kind else ">"
    x, y, z = map(int, sizes)
    check_block(path, Block((z, y, x), np.dtype("V0"), offset))
    block = Block((z, y, x), np.dtype(order + _TYPES[word]), offset)
    if "ASCII" in kind:
        check_block(path, Block(block.shape, np.dtype("u1"), offset))
        text = path.read_bytes()[offset:]
        data = read_text(text.split(b"@", 1)[0], block, path)
    elif packing is None:
        data = read_block(path, block, mmap)
    else:
        data = _unpacked(path, block, packing, int(length))
    place = _box(header, (z, y, x))
    if place is None:
        return as_tomogram(path, data, voxel_size, None)
    size, origin = place
    unit = re.search(r'Coordinates\s+"([^"]{1,20})"', header)
    factor, notes = angstrom(size, unit[1] if unit else "")
    if factor is None:
        return as_tomogram(path, data, voxel_size, None, notes=notes)
    return as_tomogram(path, data, voxel_size, scaled(size, factor), scaled(origin, factor), notes)


def _header(path: Path) -> tuple[str, int]:
    with open(path, "rb") as file:
        start = file.read(_LONGEST)
    end = re.search(rb"\n@1[ \t]*\r?\n", start)
    if end is None:
        raise FileError(f"{path}: its Amira header does not end; copy it again")
    return start[: end.start()].decode("latin-1"), end.end()


def _found(pattern: str, header: str, path: Path, what: str) -> tuple[Any, ...]:
    match = re.search(pattern, header)
    if match is None:
        raise FileError(
            f"{path}: its Amira header has no {what}; save the label field or the image (not a "
            "surface or a table) as .am"
        )
    return match.groups()


def _box(header: str, shape: tuple[int, int, int]) -> Any:
    """Return voxel size and origin, in the unit of the file; None where they are not said."""
    match = re.search(rf"BoundingBox\s+({_NUMBER}(?:\s+{_NUMBER}){{5}})", header)
    try:
        box = np.array(match[1].split(), float) if match else np.zeros(6)
    except ValueError:
        return None
    low, high = box[::2][::-1], box[1::2][::-1]
    steps = np.array(shape) - 1
    known = steps > 0
    if not (np.isfinite(box).all() and known.any() and (high > low)[known].all()):
        return None
    sizes = np.where(known, (high - low) / np.maximum(steps, 1), 0.0)
    sizes[~known] = sizes[known].min()  # an axis of one voxel has no length
    z, y, x = map(float, sizes)
    oz, oy, ox = map(float, low)
    return (z, y, x), (oz, oy, ox)


def _unpacked(path: Path, block: Block, packing: str, length: int) -> np.ndarray:
    """Return voxels that are compressed in this many bytes."""
    check_block(path, Block((max(length, 1),), np.dtype("u1"), block.offset))
    most = {"HxByteRLE": 64, "HxZip": 1040}.get(packing)
    if most is None:
        raise FileError(f"{path}: is compressed by {packing[:40]}; save it without")
    if block.nbytes > most * length:
        raise FileError(
            f"{path}: truncated or damaged: the header says {block.nbytes} bytes of voxels in "
            f"{length}, which cannot hold as much. Copy it again"
        )
    check_memory(path, block.nbytes)
    with open(path, "rb") as file:
        file.seek(block.offset)
        packed = file.read(length)
    if packing == "HxZip":
        unpacker = zlib.decompressobj()
        try:
            raw = unpacker.decompress(packed, block.nbytes + 1)
        except zlib.error as error:
            raise FileError(f"{path}: damaged compression ({error}); copy it again") from None
    else:
        raw = run_lengths(packed, block.nbytes + 1)
    if len(raw) != block.nbytes:
        raise FileError(
            f"{path}: truncated or damaged: the header says {block.nbytes} bytes of voxels, "
            f"{'more' if len(raw) > block.nbytes else len(raw)} are there. Copy it again"
        )
    data = np.frombuffer(raw, block.dtype).reshape(block.shape)
    return data.astype(block.dtype.newbyteorder("="))


def run_lengths(packed: bytes, most: int) -> bytes:
    """Decode HxByteRLE; stop where there are more than `most` bytes.

    >>> run_lengths(bytes([3, 7, 0x82, 1, 2]), 9)
    b'\\x07\\x07\\x07\\x01\\x02'
    """
    found, place, end = bytearray(), 0, len(packed)
    while place + 1 < end and len(found) < most:
        count = packed[place]
        if count < 128:
            found += packed[place + 1 : place + 2] * count
            place += 2
        else:
            found += packed[place + 1 : place + 1 + count - 128]
            place += 1 + count - 128
    return bytes(found)
