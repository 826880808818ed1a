"""Read TIFF stacks as volumes, with pages along z and ImageJ's or OME's voxel size."""

import contextlib
import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.block import MAP_ABOVE, narrowed, non_finite_warnings, warn
from cryojax_seg.io.files import FileError, PathLike, check_memory, existing_file
from cryojax_seg.io.ome_tiff import check_ome
from cryojax_seg.io.voxel_size import (
    ANGSTROM_PER_UNIT,
    VoxelSize,
    voxel_size_warnings,
    voxel_size_zyx,
)
from cryojax_seg.text import size_text

# What is read, and how far each can expand: LZMA more than others.
_MOST_EXPANSION = {1: 1, 5: 4096, 8: 1040, 32946: 1040, 32773: 128, 34925: 2**16}
_LZW = 5
# The layouts of microscope vendors rest on words of their own; their pages are read as any others.
_KINDS = {"ome", "imagej", "shaped", "uniform", "multipage", "frame", "subifd", "virtual"}
_ONLY: dict[str, Any] = {
    f"is_{name}": False for name in tifffile.TIFF.FILE_FLAGS if name not in _KINDS
}


def read_tiff(
    path: PathLike,
    voxel_size: VoxelSize | None = None,
    mmap: bool | Literal["auto"] = "auto",
) -> Tomogram:
    """Read a TIFF stack of real numbers as a volume, with pages along z.

    Numbers of 64 bit come as 32, and integers must fit.

    The voxel size comes from the calibration of ImageJ or OME-TIFF when its unit is a length;
    otherwise it is unknown. All sizes are checked against the file before anything is allocated.

    Args:
        path: the file.
        voxel_size: angstrom, one number or (z, y, x); wins over the file.
        mmap: memory-map uncompressed contiguous data; "auto" does so above 256 MiB.

    Raises:
        FileError: if the file is damaged or is not one volume of real numbers.

    >>> import tempfile, tifffile
    >>> file = Path(tempfile.mkdtemp()) / "t.tif"
    >>> tifffile.imwrite(file, np.ones((2, 3, 4), np.float32), photometric="minisblack")
    >>> read_tiff(file, voxel_size=10.0).density.shape
    (2, 3, 4)
    """
    path = existing_file(path)
    try:
        with _complaints() as complaints, tifffile.TiffFile(path, **_ONLY) as file:
            _check_description(file, path)
            series = _volume_series(file, path)
            _check_size(file, series, path)
            stated = _voxel_size(file)
            data = narrowed(_read(file, series, path, mmap), path)
        if complaints:  # tifffile then returns the pages it could find, and says nothing else
            raise FileError(f"{path}: damaged TIFF file ({complaints[0]}); copy it again")
    except (FileError, MemoryError):
        raise
    except Exception as error:  # a damaged file can surface as almost anything
        cure = "save it without compression" if "imagecodecs" in str(error) else "copy it again"
        raise FileError(f"{path}: not a readable TIFF file ({error}); {cure}") from error
    notes = [] if isinstance(data, np.memmap) else non_finite_warnings(data)
    if voxel_size is None and stated is not None:
        notes = voxel_size_warnings(stated) + notes
    warn(path, notes)
    size = stated if voxel_size is None else voxel_size_zyx(voxel_size)
    return Tomogram(density=data, voxel_size=size, name=str(path))


def _check_description(file: tifffile.TiffFile, path: Path) -> None:
    """Check OME's XML before tifffile uses it."""
    first: Any = file.pages.first
    if file.is_ome:
        shape = (first.imagelength, first.imagewidth)
        check_ome(file.ome_metadata or "", shape, len(file.pages), path)
    elif "<OME" in first.description[:4096]:  # which would be read as if there were no set
        raise FileError(f"{path}: its OME-XML is damaged; copy it again")


@contextlib.contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect the messages of tifffile about the structure of a file."""
    found: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        # An odd tag is none of our business: what we need from tags is checked. What is only a
        # warning counts where pages were left out, or replaced by zeros.
        serious = record.levelno >= logging.ERROR or " series " in message
        if serious and "<TiffTag" not in message:
            found.append(message)
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(keep)
    try:
        yield found
    finally:
        logger.removeFilter(keep)


def _volume_series(file: tifffile.TiffFile, path: Path) -> tifffile.TiffPageSeries:
    if not file.series:
        raise FileError(f"{path}: holds no image; copy it again")
    if len(file.series) > 1:
        shapes = ", ".join(str(s.shape) for s in file.series)
        raise FileError(
            f"{path}: holds {len(file.series)} image series {shapes}; save the one volume alone"
        )
    series = file.series[0]
    if series.keyframe.samplesperpixel != 1:
        raise FileError(
            f"{path}: is a colour image; convert it to greyscale (ImageJ: Image > Type)"
        )
    shape = tuple(n for n in series.shape if n != 1)
    if len(series.shape) == 2 or (len(shape) == 2 and len(file.pages) == 1):
        raise FileError(f"{path}: is a 2D image of shape {series.shape}; a stack is needed")
    if len(shape) > 3:
        raise FileError(
            f"{path}: has axes {series.axes} of shape {series.shape}; save one channel and one "
            "time point, so that three axes (z, y, x) remain"
        )
    bits = series.keyframe.bitspersample
    if bits % 8:
        raise FileError(
            f"{path}: holds {bits}-bit pixels; 8-, 16- and 32-bit real numbers are read, convert "
            "it (ImageJ: Image > Type > 8-bit)"
        )
    if series.dtype is None or series.dtype.kind not in "iufb" or series.dtype.itemsize > 8:
        raise FileError(f"{path}: holds {series.dtype}; real numbers are read, convert it")
    return series


def _check_size(file: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path) -> None:
    key = series.keyframe
    compression = int(key.compression)
    if compression not in _MOST_EXPANSION:
        name = getattr(key.compression, "name", compression)
        raise FileError(f"{path}: is compressed by {name}, which is not read; save it uncompressed")
    expected = math.prod(map(int, series.shape)) * series.dtype.itemsize
    pages = _pages(file, series)
    missing = [number for number, page in enumerate(pages) if page is None]
    if missing:
        raise FileError(
            f"{path}: {len(missing)} of its {len(pages)} planes are missing, the first is "
            f"{missing[0]}; copy it again, with all files of its set"
        )
    size = sum(source.filehandle.size for source in {page.parent for page in pages})
    if expected > size * _MOST_EXPANSION[compression]:
        raise FileError(
            f"{path}: truncated or damaged: its pages claim {size_text(expected)}, the file has "
            f"{size} bytes. Copy it again"
        )
    planes = expected // max(math.prod(map(int, key.shape)) * series.dtype.itemsize, 1)
    if len(pages) != (1 if _contiguous(file, series) else planes):
        raise FileError(
            f"{path}: says that it has {planes} planes, and has {len(pages)}; copy it again"
        )
    for number, page in enumerate(pages):
        size = page.parent.filehandle.size
        if page.shape != key.shape or page.dtype != key.dtype:
            raise FileError(
                f"{path}: plane {number} is {page.shape} {page.dtype}, the first is {key.shape} "
                f"{key.dtype}; save planes of one shape and type"
            )
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
            if offset + count > size:
                raise FileError(
                    f"{path}: truncated: page {number} ends at byte {offset + count}, the file "
                    f"has {size}. Copy it again"
                )
    end = (series.dataoffset or 0) + expected
    if _contiguous(file, series) and end > size:
        raise FileError(
            f"{path}: truncated: {end} bytes are needed, the file has {size}. Copy it again"
        )


def _contiguous(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> bool:
    """Return whether the voxels are one block of bytes in this file, not in another of its set."""
    return series.dataoffset is not None and series.keyframe.parent is file


def _pages(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> list[Any]:
    """Return the page of each plane (None if missing), or only the first of one block of bytes."""
    return [series.keyframe] if _contiguous(file, series) else list(series)


def _read(file, series, path: Path, mmap: bool | str) -> np.ndarray:
    shape = (1, 1, *series.shape)[-3:] if len(series.shape) < 3 else series.shape
    if len(shape) > 3:  # drop axes of length one, keeping at least z, y, x
        shape = (math.prod(shape[:-2]), *shape[-2:])
    stored = np.dtype(series.dtype).newbyteorder(file.byteorder)
    native = stored.newbyteorder("=")
    nbytes = math.prod(shape) * native.itemsize
    large = nbytes > MAP_ABOVE if mmap == "auto" else mmap
    if large and _contiguous(file, series) and stored == native:
        return np.memmap(path, stored, "r", series.dataoffset, shape)
    check_memory(path, nbytes)
    pages = _pages(file, series)
    if int(series.keyframe.compression) == _LZW:
        return _read_lzw(path, shape, native, pages)
    if all(page.parent is file for page in pages):
        return np.ascontiguousarray(series.asarray(), native).reshape(shape)
    data = np.empty((len(pages), *series.keyframe.shape), native)
    for z, page in enumerate(pages):
        with _opened(page.parent.filehandle):
            data[z] = page.asarray()
    return data.reshape(shape)


@contextlib.contextmanager
def _opened(handle: tifffile.FileHandle) -> Iterator[None]:
    """Open a file of a set, which tifffile closes when it knows its pages."""
    closed = handle.closed
    if closed:
        handle.open()
    try:
        yield
    finally:
        if closed:
            handle.close()


def _read_lzw(path: Path, shape, dtype: np.dtype, pages: list[Any]) -> np.ndarray:
    """Read LZW pages through Pillow, as tifffile needs a further package for them."""
    from PIL import Image

    data = np.empty(shape, dtype)
    with Image.open(path) as image:
        for z, page in enumerate(pages):
            if page.parent.filehandle.name != path.name:
                raise FileError(f"{path}: is a set of files with LZW; save it without compression")
            image.seek(page.index)
            found = np.asarray(image)
            if found.shape != shape[1:] or not np.can_cast(found.dtype, dtype, "same_kind"):
                raise FileError(
                    f"{path}: page {z} is {found.shape} {found.dtype}, {shape[1:]} {dtype} was "
                    "expected; save it without compression"
                )
            data[z] = found
    return data


def _voxel_size(file: tifffile.TiffFile) -> tuple[float, float, float] | None:
    if file.is_ome:
        return _ome_voxel_size(file.ome_metadata or "")
    metadata = file.imagej_metadata or {}
    unit = ANGSTROM_PER_UNIT.get(str(metadata.get("unit", "")).strip().lower())
    tags = file.pages.first.tags
    if unit is None or "XResolution" not in tags:
        return None
    lengths = [float(metadata.get("spacing", 1.0))]  # ImageJ leaves a spacing of 1 out
    for name in ("YResolution", "XResolution"):
        pixels, per = tags[name].value if name in tags else tags["XResolution"].value
        lengths.append(per / pixels if pixels else 0.0)
    return _rounded(lengths, [unit] * 3)


def _ome_voxel_size(xml: str) -> tuple[float, float, float] | None:
    """Return PhysicalSizeX, Y and Z, found by pattern, as parsing untrusted XML is a risk."""
    lengths, units = [], []
    for axis in "ZYX":
        length = re.search(rf'PhysicalSize{axis}="([-+0-9.eE]+)"', xml)
        unit = re.search(rf'PhysicalSize{axis}Unit="([^"]*)"', xml)
        lengths.append(float(length[1]) if length else 0.0)
        name = unit[1].lower() if unit else "um"  # micrometres by default
        units.append(ANGSTROM_PER_UNIT.get(name, 0.0))
    return _rounded(lengths, units)


def _rounded(lengths, units) -> tuple[float, float, float] | None:
    z, y, x = (float(f"{a * b:.6g}") for a, b in zip(lengths, units, strict=True))
    return (z, y, x) if min(z, y, x) > 0 and np.isfinite((z, y, x)).all() else None
