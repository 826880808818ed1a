"""Read and write NIfTI volumes (.nii, .nii.gz), of ITK-SNAP, nnU-Net and others, by nibabel."""

from pathlib import Path
from typing import Any

import numpy as np

from cryojax_seg.core.plain import Shape
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.block import (
    Block,
    Mmap,
    check_memory,
    check_real,
    first_bytes,
    library,
    read_block,
    volume_shape,
)
from cryojax_seg.io.files import FileError, PathLike, existing_file
from cryojax_seg.io.label_card import LabelCard, nifti_extension
from cryojax_seg.io.oriented import Orientation, orientation
from cryojax_seg.io.voxel_size import VoxelSize

LENGTH = 540  # bytes of the longer of the two headers
_UNITS = {1: "meter", 2: "mm", 3: "micron"}  # codes of the format
_MICRON = 1e4  # angstrom


def is_nifti(start: bytes) -> bool:
    """Return whether these are the first bytes of a NIfTI-1 or NIfTI-2 file.

    >>> is_nifti(bytes(344) + b"n+1" + bytes(1))
    True
    """
    return start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0")


def read_nifti(
    path: PathLike, voxel_size: VoxelSize | None = None, mmap: Mmap = "auto"
) -> Tomogram:
    """Read a NIfTI volume, also compressed by gzip; it needs nibabel.

    The affine gives axes, voxel size and origin: exchanged axes are brought into the order z, y, x.
    See `oriented.orientation` for what is reversed, and `oriented.angstrom` for units. Voxels with
    a slope or an intercept become float32.

    Args:
        path: the file.
        voxel_size: angstrom, one number or (z, y, x); wins over the header.
        mmap: memory-map it; "auto" does so above 256 MiB.

    Raises:
        FileError: if it is damaged or no volume of real numbers, or nibabel is missing.

    >>> import tempfile, nibabel
    >>> file = Path(tempfile.mkdtemp()) / "a.nii"
    >>> image = nibabel.Nifti1Image(np.ones((4, 3, 2), np.int16), np.diag([13, 13, 13, 1.0]))
    >>> nibabel.save(image, file)
    >>> read_nifti(file, voxel_size=13.0).density.shape
    (2, 3, 4)
    """
    path = existing_file(path)
    raw = first_bytes(path, LENGTH)
    header = _parsed(raw, path)
    try:
        shape = tuple(int(n) for n in header.get_data_shape())[::-1]
        dtype, offset = np.dtype(header.get_data_dtype()), int(header.get_data_offset())
        slope, inter = header.get_slope_inter()
        place = _placed(header, shape)
        unit = _UNITS.get(int(header["xyzt_units"]) & 7, "")
    except Exception as error:  # a damaged header can surface as almost anything
        raise FileError(f"{path}: not a readable NIfTI file ({error}); copy it again") from None
    check_real(dtype, path)
    block = Block(volume_shape(shape, path), dtype, offset)
    if offset < (352 if len(raw) < LENGTH or raw[4:8] != b"n+2\0" else 544):
        raise FileError(f"{path}: its voxels start at byte {offset}, within the header; copy it")
    data: Any = read_block(path, block, mmap)
    if (slope, inter) not in ((None, None), (1.0, 0.0)):
        check_memory(path, 4 * block.count)
        with np.errstate(over="ignore", invalid="ignore"):  # counted below
            data = data.astype(np.float32) * np.float32(slope) + np.float32(inter)
    return place.tomogram(path, data, unit, voxel_size)


def nifti_header(
    shape: Shape, dtype: Any, like: Tomogram | None = None, card: LabelCard | None = None
) -> bytes:
    """Return the header of a volume ``(z, y, x)``, with lengths in micrometres.

    What the labels of the card mean stands in an extension.

    >>> len(nifti_header((2, 3, 4), np.int8))
    352
    """
    nibabel = library("nibabel", Path("volume"), "NIfTI")
    header = nibabel.Nifti1Header(endianness="<")
    header.set_data_shape(tuple(shape)[::-1])
    header.set_data_dtype(np.dtype(dtype))
    extension = nifti_extension(card)
    header["magic"], header["vox_offset"] = b"n+1", 348 + len(extension)
    if like is not None and like.voxel_size is not None:
        affine = np.diag([v / _MICRON for v in like.voxel_size[::-1]] + [1.0])
        affine[:3, 3] = [o / _MICRON for o in like.corner()[::-1]]
        header.set_xyzt_units("micron")
        header.set_sform(affine, 1)
        header.set_qform(affine, 1)
    return header.binaryblock + extension


def _parsed(raw: bytes, path: Path) -> Any:
    nibabel = library("nibabel", path, "NIfTI")
    if raw[344:348] == b"ni1\0" or raw[4:8] == b"ni2\0":
        raise FileError(f"{path}: is one file of a pair (.hdr and .img); save it as one .nii file")
    second = raw[4:8] == b"n+2\0"
    kind = nibabel.Nifti2Header if second else nibabel.Nifti1Header
    try:
        return kind(raw[: 540 if second else 348], check=False)
    except Exception as error:
        raise FileError(f"{path}: not a readable NIfTI file ({error}); copy it again") from None


def _placed(header: Any, shape: tuple[int, ...]) -> Orientation:
    """Return the orientation by the s-form, else the q-form, else the lengths of voxels alone."""
    if header["sform_code"] > 0:
        affine = header.get_sform()
    elif header["qform_code"] > 0:
        affine = header.get_qform()
    else:
        affine = np.diag([*np.abs(header["pixdim"][1:4]).astype(float), 1.0])
    return orientation(affine, shape[-3:])
