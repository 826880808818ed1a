"""Read EM volumes (.em), of TOM, PyTom, Dynamo and emClarity.

The 512 bytes of the header are described in the TOM toolbox (Nickell et al. 2005, J. Struct. Biol.
149:227, `tom_emread`): machine, data type, three sizes, a comment and 40 parameters.
"""

from typing import Any

import numpy as np

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.block import Block, Mmap, as_tomogram, first_bytes, read_block
from cryojax_seg.io.files import FileError, PathLike, existing_file
from cryojax_seg.io.voxel_size import VoxelSize

LENGTH = 512
_TYPES = {1: "i1", 2: "i2", 4: "i4", 5: "f4", 9: "f8"}
_REFUSED = {8: "complex numbers (a Fourier transform)", 10: "complex numbers of 128 bits"}
_BIG_ENDIAN = (0, 3, 5)  # OS-9, SGI and Macintosh; 6 is a PC


def is_em(start: bytes) -> bool:
    """Return whether these are the first bytes of an EM file.

    As an MRC file it would have 16 million columns or more.

    >>> is_em(bytes([6, 0, 0, 5]) + bytes(508))
    True
    """
    known = len(start) >= 4 and start[3] in (*_TYPES, *_REFUSED) and start[0] <= 6
    return known and start[1:3] == b"\0\0" and start[208:211] != b"MAP"


def read_em(path: PathLike, voxel_size: VoxelSize | None = None, mmap: Mmap = "auto") -> Tomogram:
    """Read an EM volume, whose voxel size is unknown: programs leave it out or disagree on it.

    Args:
        path: the file.
        voxel_size: angstrom, one number or (z, y, x).
        mmap: memory-map it; "auto" does so above 256 MiB.

    Raises:
        FileError: if it is damaged or no volume of real numbers.

    >>> import tempfile, emfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "a.em"
    >>> emfile.write(file, np.ones((2, 3, 4), np.float32))
    >>> read_em(file, voxel_size=10.0).density.shape
    (2, 3, 4)
    """
    path = existing_file(path)
    raw = first_bytes(path, LENGTH)
    if len(raw) < LENGTH:
        raise FileError(
            f"{path}: truncated: it has {len(raw)} bytes, and an EM header {LENGTH}; copy it again"
        )
    if raw[3] in _REFUSED:
        raise FileError(f"{path}: holds {_REFUSED[raw[3]]}; real numbers are read, convert it")
    order = ">" if raw[0] in _BIG_ENDIAN else "<"
    sizes: Any = np.frombuffer(raw[4:16], f"{order}i4")
    x, y, z = map(int, sizes)
    if z == 1:
        raise FileError(f"{path}: is a 2D image of {y} x {x} pixels; a volume is needed")
    block = Block((z, y, x), np.dtype(f"{order}{_TYPES[raw[3]]}"), LENGTH)
    return as_tomogram(path, read_block(path, block, mmap), voxel_size, None)
