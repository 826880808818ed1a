"""TIFF stacks as volumes: pages are z, and ImageJ's or OME's calibration is the voxel size."""

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import tifffile

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.files import FileError, PathLike, check_memory, existing_file, size_text
from cryojax_seg.io.mrc import MAP_ABOVE, non_finite_warnings, warn
from cryojax_seg.io.voxel_size import (
    ANGSTROM_PER_UNIT,
    VoxelSize,
    voxel_size_warnings,
    voxel_size_zyx,
)

_MOST_EXPANSION = 4096  # LZW and Deflate cannot expand more than this
_LZW = 5


def is_tiff(path: PathLike) -> bool:
    """Whether the first bytes are those of a TIFF or BigTIFF file."""
    with open(path, "rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_tiff(
    path: PathLike,
    voxel_size: VoxelSize | None = None,
    mmap: bool | Literal["auto"] = "auto",
) -> Tomogram:
    """Reads a TIFF stack of 8-, 16- or 32-bit pages as a volume, page by page along z.

    The voxel size comes from the calibration of ImageJ or OME-TIFF when its unit is a length;
    otherwise it is unknown. All sizes are checked against the file before anything is allocated.

    Args:
        path: the file.
        voxel_size: angstrom, one number or (z, y, x); wins over the file.
        mmap: memory-map uncompressed contiguous data; "auto" does so above 256 MiB.

    Raises:
        FileError: if the file is damaged or is not one volume of real numbers.
    """
    path = existing_file(path)
    try:
        with _complaints() as complaints, tifffile.TiffFile(path) as file:
            series = _volume_series(file, path)
            _check_size(file, series, path)
            stated = _voxel_size(file)
            data = _read(file, series, path, mmap)
        if complaints:  # tifffile then returns the pages it could find, and says nothing else
            raise FileError(f"{path}: damaged TIFF file ({complaints[0]}); copy it again")
    except (FileError, MemoryError):
        raise
    except Exception as error:  # a damaged file can surface as almost anything
        raise FileError(f"{path}: not a readable TIFF file ({error}); copy it again") from error
    notes = [] if isinstance(data, np.memmap) else non_finite_warnings(data)
    if voxel_size is None and stated is not None:
        notes = voxel_size_warnings(stated) + notes
    warn(path, notes)
    size = stated if voxel_size is None else voxel_size_zyx(voxel_size)
    return Tomogram(density=data, voxel_size=size, name=str(path))


@contextlib.contextmanager
def _complaints() -> Iterator[list[str]]:
    """What tifffile finds wrong with the structure of a file, kept instead of printed."""
    found: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        # An odd tag is none of our business: what we need from tags is checked.
        if record.levelno >= logging.ERROR and "<TiffTag" not in message:
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
    if series.dtype is None or series.dtype.kind not in "iufb" or series.dtype.itemsize > 4:
        raise FileError(
            f"{path}: holds {series.dtype}; 8-, 16- and 32-bit real numbers are read, convert it"
        )
    return series


def _check_size(file: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path) -> None:
    size = path.stat().st_size
    expected = int(np.prod([int(n) for n in series.shape], dtype=object)) * series.dtype.itemsize
    compressed = int(series.keyframe.compression) != 1
    if expected > size * (_MOST_EXPANSION if compressed else 1):
        raise FileError(
            f"{path}: truncated or damaged: its pages claim {size_text(expected)}, the file has "
            f"{size} bytes. Copy it again"
        )
    for number, page in enumerate(series.pages):
        if page is None:  # of a contiguous stack only the first page is described
            continue
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
            if offset + count > size:
                raise FileError(
                    f"{path}: truncated: page {number} ends at byte {offset + count}, the file "
                    f"has {size}. Copy it again"
                )
    if series.dataoffset is not None and series.dataoffset + expected > size:
        raise FileError(
            f"{path}: truncated: {series.dataoffset + expected} bytes are needed, the file has "
            f"{size}. Copy it again"
        )


def _read(file, series, path: Path, mmap: bool | str) -> np.ndarray:
    shape = (1, 1, *series.shape)[-3:] if len(series.shape) < 3 else series.shape
    if len(shape) > 3:  # drop axes of length one, keeping at least z, y, x
        shape = (int(np.prod(shape[:-2])), *shape[-2:])
    stored = np.dtype(series.dtype).newbyteorder(file.byteorder)
    native = stored.newbyteorder("=")
    nbytes = int(np.prod(shape, dtype=np.int64)) * native.itemsize
    large = nbytes > MAP_ABOVE if mmap == "auto" else mmap
    if large and series.dataoffset is not None and stored == native:
        return np.memmap(path, stored, "r", series.dataoffset, shape)
    check_memory(path, nbytes)
    if int(series.keyframe.compression) == _LZW:
        return _read_lzw(path, shape, native)
    return np.ascontiguousarray(series.asarray(), native).reshape(shape)


def _read_lzw(path: Path, shape, dtype: np.dtype) -> np.ndarray:
    """LZW pages through Pillow, because tifffile needs a further package for them."""
    from PIL import Image

    data = np.empty(shape, dtype)
    with Image.open(path) as image:
        for z in range(shape[0]):
            image.seek(z)
            page = np.asarray(image)
            if page.shape != shape[1:] or not np.can_cast(page.dtype, dtype, "same_kind"):
                raise FileError(
                    f"{path}: page {z} is {page.shape} {page.dtype}, {shape[1:]} {dtype} was "
                    "expected; save it without compression"
                )
            data[z] = page
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
    """PhysicalSizeX and its siblings; by pattern, since parsing a stranger's XML is a risk."""
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
