"""Read volumes in HDF5 files: those of EMAN2 with their header, and others with a single volume.

EMAN2 keeps image 0 at ``/MDF/images/0/image`` and its header as attributes of that group, whose
names begin with ``EMAN.`` (`libEM/io/hdfio2.cpp` of EMAN2). Images that it compressed hold whole
numbers from 0 to ``2^bits - 1``, which stand for values from ``stored_rendermin`` to
``stored_rendermax``. IMOD writes the same layout, with its pixel spacing at ``/MDF/images``.
"""

import math
from pathlib import Path
from typing import Any, final

import numpy as np

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.block import (
    MAP_ABOVE,
    Block,
    Mmap,
    as_tomogram,
    check_block,
    check_real,
    library,
    read_block,
    volume_shape,
)
from cryojax_seg.io.files import FileError, PathLike, check_memory, existing_file
from cryojax_seg.io.oriented import angstrom, scaled
from cryojax_seg.io.voxel_size import VoxelSize
from cryojax_seg.text import size_text

MAGIC = b"\x89HDF\r\n\x1a\n"
_IMAGES = "MDF/images"
_IMOD = "IMOD.PixelSpacing"  # as EMAN2 reads it, one number
_SIZE = ("element_size_um", 1e4)  # as ilastik and ImageJ write it, micrometres (z, y, x)
_EXPANSION = 1040  # by which deflate can expand at most
_MOST = 1000  # objects that are looked at for a volume


@final
class H5Volume:
    """Reads the parts of a volume ``(z, y, x)`` in an HDF5 file when they are indexed.

    Slices along the axes give NumPy arrays; `np.asarray` reads it whole. The file is open only
    while it is read, so that the volume can be handed to other processes.

    Args:
        path: the file.
        name: of the data set.
        shape: of the volume; leading axes of length 1 of the data set are left out.
        dtype: of the stored voxels.
        scale: factor and offset of stored voxels that become float32; None leaves them as stored.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        shape: tuple[int, int, int],
        dtype: np.dtype,
        scale: tuple[float, float] | None,
    ):
        self._path, self._name, self._scale = path, name, scale
        self.shape, self.ndim = shape, 3
        self.dtype = np.dtype(np.float32) if scale else dtype.newbyteorder("=")
        self.size = math.prod(shape)
        self.nbytes = self.size * self.dtype.itemsize

    def __getitem__(self, where: Any, /) -> np.ndarray:
        import h5py

        given = where if isinstance(where, tuple) else (where,)
        try:
            with h5py.File(self._path, "r") as file:
                stored: Any = file[self._name]
                part = np.asarray(stored[(0,) * (stored.ndim - 3) + given])
        except (OSError, KeyError, RuntimeError) as error:
            raise FileError(
                f"{self._path}: voxels cannot be read ({error}); copy it again"
            ) from None
        if self._scale is None:
            return part.astype(self.dtype, copy=False)
        factor, offset = map(np.float32, self._scale)
        with np.errstate(over="ignore", invalid="ignore"):
            return part.astype(np.float32) * factor + offset

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        check_memory(self._path, self.nbytes, "read it in parts")
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)


def read_hdf(path: PathLike, voxel_size: VoxelSize | None = None, mmap: Mmap = "auto") -> Tomogram:
    """Read a volume of an HDF5 file; it needs h5py.

    Voxel size and origin are those of EMAN2's header (``apix_x``, ``origin_x`` and so on), or the
    attribute ``element_size_um`` of the data set. Files of other programs must hold one volume.

    Args:
        path: the file.
        voxel_size: angstrom, one number or (z, y, x); wins over the header.
        mmap: leave it on disk: mapped, or an `H5Volume` where it is in chunks; "auto" does so
            above 256 MiB.

    Raises:
        FileError: if it is damaged, holds no volume or several, or h5py is missing.

    >>> import tempfile, h5py
    >>> name = Path(tempfile.mkdtemp()) / "a.hdf"
    >>> with h5py.File(name, "w") as file:
    ...     group = file.create_group("MDF/images/0")
    ...     group["image"] = np.ones((2, 3, 4), np.float32)
    ...     group.attrs["EMAN.apix_x"] = group.attrs["EMAN.apix_y"] = 10.0
    ...     group.attrs["EMAN.apix_z"] = 10.0
    >>> read_hdf(name).voxel_size
    (10.0, 10.0, 10.0)
    """
    path = existing_file(path)
    h5py = library("h5py", path, "HDF5")
    try:
        with h5py.File(path, "r") as file:
            stored, header = _volume(file, h5py, path)
            name, shape = stored.name, tuple(map(int, stored.shape))
            dtype, scale = stored.dtype, _scale(header)
            place, held = stored.id.get_offset(), int(stored.id.get_storage_size())
            packed = stored.chunks is not None
            size, origin, notes = _lengths(stored, header)
    except FileError:
        raise
    except Exception as error:  # a damaged file can surface as almost anything
        raise FileError(f"{path}: not a readable HDF5 file ({error}); copy it again") from None
    check_real(dtype, path)
    block = Block(volume_shape(shape, path), dtype, 0 if place is None else int(place))
    if place is not None and not packed and scale is None:
        data: Any = read_block(path, block, mmap)
    else:
        check_block(path, Block(block.shape, np.dtype("V0"), 0))
        if block.nbytes > _EXPANSION * max(held, 0) or held > path.stat().st_size:
            raise FileError(
                f"{path}: truncated or damaged: it claims {size_text(block.nbytes)} of voxels and "
                f"holds {size_text(held)}. Copy it again"
            )
        z, y, x = block.shape
        data = H5Volume(path, name, (z, y, x), dtype, scale)
        if not (data.nbytes > MAP_ABOVE if mmap == "auto" else mmap):
            data = np.asarray(data)
    return as_tomogram(path, data, voxel_size, size, origin, notes)


def _volume(file: Any, h5py: Any, path: Path) -> tuple[Any, dict[str, Any]]:
    """Return the data set of the volume, and EMAN2's header."""
    if _IMAGES in file:
        names = [name for name in file[_IMAGES] if name.isdecimal()]
        if len(names) != 1:
            raise FileError(
                f"{path}: is an EMAN2 stack of {len(names)} images; write the one volume to a file "
                "of its own (e2proc3d.py)"
            )
        found = _own(file, f"{_IMAGES}/{names[0]}", h5py, path)
        stored = _own(file, f"{_IMAGES}/{names[0]}/image", h5py, path)
        header = {key.removeprefix("EMAN."): value for key, value in found.attrs.items()}
        spacing = _number(dict(file[_IMAGES].attrs), _IMOD)
        if spacing > 0 and max(_number(header, f"apix_{axis}") for axis in "xyz") in (0.0, 1.0):
            header |= {f"apix_{axis}": spacing for axis in "xyz"}
        return _checked(stored, h5py, path), header
    seen: list[str] = []
    count = 0

    def look(name: str, item: Any) -> Any:
        nonlocal count
        count += 1
        axes = [n for n in item.shape if n != 1] if isinstance(item, h5py.Dataset) else []
        if len(axes) == 3 or (len(axes) < 3 and isinstance(item, h5py.Dataset) and item.ndim == 3):
            seen.append(name)
        return True if count > _MOST else None

    file.visititems(look)  # which follows no link out of the file
    if len(seen) != 1:
        named = ": " + ", ".join(seen[:5]) if seen else ""
        raise FileError(
            f"{path}: holds {len(seen)} data sets that are volumes{named}; write the one volume to "
            "a file of its own"
        )
    return _checked(file[seen[0]], h5py, path), {}


def _own(file: Any, name: str, h5py: Any, path: Path) -> Any:
    """Return an object of this file; a link to another file is not followed."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise FileError(f"{path}: {name} is missing or leads to another file; copy it again")
    return file[name]


def _checked(stored: Any, h5py: Any, path: Path) -> Any:
    if not isinstance(stored, h5py.Dataset):
        raise FileError(f"{path}: {stored.name} is no data set; copy it again")
    if stored.is_virtual or stored.external:
        raise FileError(f"{path}: its voxels lie in other files; write it as one file")
    return stored


def _number(header: dict[str, Any], key: str) -> float:
    """Return a number of EMAN2's header, which is an array of one; 0 where it has none."""
    values = np.asarray(header.get(key, 0.0)).ravel()
    known = len(values) == 1 and values.dtype.kind in "iuf" and np.isfinite(values[0])
    return float(values[0]) if known else 0.0


def _scale(header: dict[str, Any]) -> tuple[float, float] | None:
    bits = int(_number(header, "stored_renderbits"))
    low, high = (_number(header, f"stored_render{name}") for name in ("min", "max"))
    if not 0 < bits <= 24 or not {"stored_rendermin", "stored_rendermax"} <= set(header):
        return None
    return (high - low) / (2**bits - 1), low


def _lengths(stored: Any, header: dict[str, Any]) -> tuple[Any, Any, tuple[str, ...]]:
    """Return voxel size (None if unknown) and origin in angstrom, and notes."""
    none = (0.0, 0.0, 0.0)
    if header:
        z, y, x = (_number(header, f"apix_{axis}") for axis in "zyx")
        if min(z, y, x) <= 0:
            return None, none, ()
        if (z, y, x) == (1.0, 1.0, 1.0):  # what EMAN2 writes when it does not know
            return angstrom((z, y, x), "")[0], none, angstrom((z, y, x), "")[1]
        origin = tuple(_number(header, f"origin_{axis}") for axis in "zyx")
        return scaled((z, y, x), 1.0), scaled((origin[0], origin[1], origin[2]), 1.0), ()
    name, factor = _SIZE
    values = np.asarray(stored.attrs.get(name, ())).ravel()
    if len(values) != 3 or values.dtype.kind not in "iuf" or not (values > 0).all():
        return None, none, ()
    return scaled((float(values[0]), float(values[1]), float(values[2])), factor), none, ()
