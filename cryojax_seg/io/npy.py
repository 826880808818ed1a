"""Read NumPy arrays (.npy) as volumes."""

from typing import Any

import numpy as np

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.block import (
    Block,
    Mmap,
    as_tomogram,
    check_real,
    explained,
    opened,
    read_block,
    volume_shape,
)
from cryojax_seg.io.files import FileError, PathLike, existing_file
from cryojax_seg.io.voxel_size import VoxelSize

MAGIC = b"\x93NUMPY"
_LONGEST = 2**16  # bytes of the header


def read_npy(path: PathLike, voxel_size: VoxelSize | None = None, mmap: Mmap = "auto") -> Tomogram:
    """Read an array ``(z, y, x)`` that `numpy.save` wrote, whose voxel size is unknown.

    Args:
        path: the file.
        voxel_size: angstrom, one number or (z, y, x).
        mmap: memory-map it; "auto" does so above 256 MiB.

    Raises:
        FileError: if it is damaged, holds Python objects, or is no volume of real numbers.

    >>> import tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "a.npy"
    >>> np.save(file, np.ones((2, 3, 4), np.int64))
    >>> read = read_npy(file, voxel_size=10.0)
    >>> read.density.shape, read.density.dtype
    ((2, 3, 4), dtype('int32'))
    """
    path = existing_file(path)
    with explained(path), opened(path) as file:
        try:
            version = np.lib.format.read_magic(file)
            reader: Any = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, fortran, dtype = reader(file, max_header_size=_LONGEST)
            offset = file.tell()
        except OSError:
            raise
        except Exception as error:  # a damaged header can surface as almost anything
            raise FileError(f"{path}: not a readable NumPy file ({error}); copy it again") from None
    check_real(dtype, path)
    kept = volume_shape(shape, path)  # what is dropped has length 1, in either order
    block = Block(kept[::-1] if fortran else kept, dtype, offset)
    data = read_block(path, block, mmap)
    return as_tomogram(path, data.transpose(2, 1, 0) if fortran else data, voxel_size, None)
