"""Read any volume file; its content decides the format, not its name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io import amira, em, hdf, imod, mesh_reading, nifti, npy, nrrd
from cryojax_seg.io.block import first_bytes
from cryojax_seg.io.files import FileError, PathLike, existing_file
from cryojax_seg.io.mrc import read_mrc
from cryojax_seg.io.voxel_size import VoxelSize
from cryojax_seg.io.zarr import read_zarr

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_tomogram(
    path: PathLike,
    voxel_size: VoxelSize | None = None,
    mmap: bool | Literal["auto"] = "auto",
) -> Tomogram:
    """Read a volume: MRC, TIFF, OME-Zarr, NIfTI, NRRD, EM, HDF5, Amira or NumPy.

    The first bytes of a file decide which it is; OME-Zarr is a folder. See `read_mrc`, `read_tiff`,
    `read_zarr`, and `read_nifti`, `read_nrrd`, `read_em`, `read_hdf`, `read_amira` and `read_npy`,
    each in its own module, for the arguments and for what is refused.

    Raises:
        FileError: if the file is no volume; it names the file and what to do.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from cryojax_seg.io import write_mrc
    >>> file = Path(tempfile.mkdtemp()) / "t.rec"
    >>> write_mrc(file, np.ones((2, 3, 4), np.float32), voxel_size=10.0)
    >>> tomogram = read_tomogram(file)
    >>> tomogram.density.shape, tomogram.voxel_size
    ((2, 3, 4), (10.0, 10.0, 10.0))
    """
    if Path(path).is_dir():
        return read_zarr(path, voxel_size, mmap)
    return _reader(first_bytes(existing_file(path), nifti.LENGTH))(path, voxel_size, mmap)


def _reader(start: bytes) -> Callable[..., Tomogram]:
    """Return the reader of the file that begins like this; some libraries load slowly."""
    if start.startswith(TIFF_MAGIC):
        from cryojax_seg.io.tiff import read_tiff

        return read_tiff
    if start.startswith(npy.MAGIC):
        return npy.read_npy
    if nifti.is_nifti(start):
        return nifti.read_nifti
    if start.startswith(nrrd.MAGIC):
        return nrrd.read_nrrd
    if em.is_em(start):
        return em.read_em
    if start.startswith(hdf.MAGIC):
        return hdf.read_hdf
    if start.startswith(amira.MAGIC):
        return amira.read_amira
    if start.startswith(imod.MAGIC):
        return _refuse_model
    if mesh_reading.form_of(start) is not None:
        return _refuse_mesh
    return read_mrc


def _refuse_model(path: Path, *_: Any) -> Tomogram:
    raise FileError(
        f"{path}: is an IMOD model, which has no voxels; give it as labels of a tomogram that it "
        "was drawn on"
    )


def _refuse_mesh(path: Path, *_: Any) -> Tomogram:
    raise FileError(
        f"{path}: is a mesh, which has no voxels; give it as labels of the tomogram that it "
        "describes"
    )


def read_probabilities(paths: Sequence[PathLike], shape: tuple[int, ...]) -> np.ndarray:
    """Read probability maps ``(z, y, x, class)``, one file for each class but the background.

    Args:
        paths: of the maps, in the order of the labels.
        shape: ``(z, y, x)`` that each must have.

    Raises:
        FileError: naming the file, if it has another shape or values outside 0 to 1.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from cryojax_seg.io import write_mrc
    >>> file = Path(tempfile.mkdtemp()) / "membrane.mrc"
    >>> write_mrc(file, np.full((2, 3, 4), 0.25, np.float32), voxel_size=10.0)
    >>> read_probabilities([file], (2, 3, 4))[0, 0, 0].tolist()
    [0.25]
    """
    maps = [np.asarray(read_tomogram(path).density, np.float32) for path in paths]
    for path, values in zip(paths, maps, strict=True):
        if values.shape != shape:
            raise FileError(f"{path}: has shape {values.shape} (z, y, x), the labels {shape}")
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise FileError(f"{path}: holds values outside 0 to 1; is it a probability map?")
    return np.stack(maps, axis=-1)
