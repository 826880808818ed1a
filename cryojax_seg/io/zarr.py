"""Open volumes in OME-Zarr, whose voxels are read when they are needed."""

import contextlib
from pathlib import Path
from typing import Literal

import numpy as np

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io import ome
from cryojax_seg.io.block import non_finite_warnings, warn
from cryojax_seg.io.chunked import open_volume
from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.io.voxel_size import VoxelSize, voxel_size_warnings, voxel_size_zyx


def is_zarr(path: PathLike) -> bool:
    """Return whether this is the folder of an OME-Zarr volume (NGFF 0.4 or 0.5).

    >>> import tempfile
    >>> is_zarr(Path(tempfile.mkdtemp()))
    False
    """
    with contextlib.suppress(FileError):
        ome.read_multiscale(Path(path))
        return True
    return False


def read_zarr(
    path: PathLike,
    voxel_size: VoxelSize | None = None,
    mmap: bool | Literal["auto"] = "auto",
    level: int = 0,
) -> Tomogram:
    """Open an OME-Zarr volume, NGFF 0.5 (Zarr 3) or 0.4 (Zarr 2), without reading voxels.

    Voxel size and origin are those of the scale and translation, converted from the unit of the
    axes. Axes of length 1 before z, y, x are dropped.

    Args:
        path: the folder.
        voxel_size: angstrom, one number or (z, y, x); wins over the metadata.
        mmap: False reads the whole volume into memory.
        level: 0 for the finest resolution.

    Returns:
        the tomogram: density ``(z, y, x)`` of the stored type, a `Chunked` unless `mmap` is False.

    Raises:
        FileError: if the folder is no volume of real numbers with the axes z, y, x, or damaged; it
            names the file and what to do.

    >>> import tempfile
    >>> from cryojax_seg.io import write_zarr
    >>> path = Path(tempfile.mkdtemp()) / "a.zarr"
    >>> write_zarr(path, np.arange(24, dtype=np.int16).reshape(2, 3, 4), voxel_size=10.0)
    >>> tomogram = read_zarr(path)
    >>> tomogram.density.shape, tomogram.voxel_size, tomogram.density[1:, :2, 3:].tolist()
    ((2, 3, 4), (10.0, 10.0, 10.0), [[[15], [19]]])
    """
    path = Path(path)
    described = ome.read_multiscale(path)
    if not 0 <= level < len(described.levels):
        raise FileError(f"{path}: has the levels 0 to {len(described.levels) - 1}, not {level}")
    found = described.levels[level]
    volume, odd = open_volume(described, found)
    density = volume if mmap else np.asarray(volume)
    notes = odd + (list(described.warnings) if voxel_size is None else [])
    if voxel_size is None and found.voxel_size is not None:
        notes += voxel_size_warnings(found.voxel_size)
    if isinstance(density, np.ndarray):
        notes += non_finite_warnings(density)
    warn(path, notes)
    return Tomogram(
        density=density,
        voxel_size=found.voxel_size if voxel_size is None else voxel_size_zyx(voxel_size),
        origin=found.origin,
        name=str(path),
    )
