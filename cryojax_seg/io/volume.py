"""Any volume file, told apart by its content rather than by its name."""

from pathlib import Path
from typing import Literal

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.files import PathLike, existing_file
from cryojax_seg.io.mrc import read_mrc
from cryojax_seg.io.tiff import is_tiff, read_tiff
from cryojax_seg.io.voxel_size import VoxelSize
from cryojax_seg.io.zarr import read_zarr


def read_tomogram(
    path: PathLike,
    voxel_size: VoxelSize | None = None,
    mmap: bool | Literal["auto"] = "auto",
) -> Tomogram:
    """Reads a volume: MRC (.mrc, .rec, .map, also gzip and bzip2), a TIFF stack or OME-Zarr.

    The first bytes of a file decide which it is; OME-Zarr is a folder. See `read_mrc`, `read_tiff`
    and `read_zarr` for the arguments and for what is refused.

    Raises:
        FileError: if the file is no volume; it names the file and what to do.
    """
    if Path(path).is_dir():
        return read_zarr(path, voxel_size, mmap)
    reader = read_tiff if is_tiff(existing_file(path)) else read_mrc
    return reader(path, voxel_size, mmap)
