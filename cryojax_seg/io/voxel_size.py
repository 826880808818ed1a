"""Check voxel sizes in angstrom, given as one number or three."""

import math
import warnings
from collections.abc import Sequence

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.files import FileError, HeaderWarning

# As ImageJ, OME-TIFF and OME-Zarr write units, in lower case.
ANGSTROM_PER_UNIT = {
    **dict.fromkeys(("pm", "picometer", "picometre"), 0.01),
    **dict.fromkeys(("a", "å", "ang", "angstrom", "angstroms", "ångström"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 10.0),
    **dict.fromkeys(("um", "µm", "μm", "\\u00b5m", "micron", "microns"), 1e4),
    **dict.fromkeys(("micrometer", "micrometers", "micrometre", "micrometres"), 1e4),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e7),
    **dict.fromkeys(("meter", "metre"), 1e10),
}

VoxelSize = float | int | tuple[float | int, float | int, float | int]


def voxel_size_zyx(voxel_size: VoxelSize) -> tuple[float, float, float]:
    """Return one length or three as (z, y, x) in angstrom; refuse what is not a length.

    >>> voxel_size_zyx(13.48)
    (13.48, 13.48, 13.48)
    """
    values = [voxel_size] * 3 if isinstance(voxel_size, (float, int)) else list(voxel_size)
    if len(values) != 3 or not all(math.isfinite(v) and v > 0 for v in values):
        raise FileError(
            f"voxel size must be one positive number or three (z, y, x), got {voxel_size}"
        )
    z, y, x = map(float, values)
    return z, y, x


def common_voxel_size(tomograms: Sequence[Tomogram]) -> tuple[float, float, float] | None:
    """Return the mean of the known voxel sizes, which must agree to 5 %; None if none is known.

    Warns with a `HeaderWarning` where some are known and others are not.

    Raises:
        FileError: naming two files and their voxel sizes, if those differ by more.

    >>> import numpy as np
    >>> common_voxel_size([Tomogram(np.zeros((1, 1, 1)), (v, v, v)) for v in (10.0, 10.1)])
    (10.05, 10.05, 10.05)
    """
    known = [t for t in tomograms if t.voxel_size is not None]
    if not known:
        return None
    sizes = [t.require_voxel_size() for t in known]
    for axis in range(3):
        order = sorted(range(len(known)), key=lambda i: sizes[i][axis])
        small, large = order[0], order[-1]
        if sizes[large][axis] > 1.05 * sizes[small][axis]:
            raise FileError(
                f"{known[small].name}: has voxels of {_text(sizes[small])} A (z, y, x), and "
                f"{known[large].name} of {_text(sizes[large])} A; they are to be used together, so "
                "bin or rescale them to one voxel size, or give the right one",
                "voxel_size",
            )
    if len(known) < len(tomograms):
        unknown = next(t for t in tomograms if t.voxel_size is None)
        warnings.warn(
            f"{unknown.name}: its voxel size is unknown, and {known[0].name} has voxels of "
            f"{_text(sizes[0])} A (z, y, x); if they are not the same, rescale one of them",
            HeaderWarning,
            stacklevel=2,
        )
    z, y, x = (math.fsum(values) / len(values) for values in zip(*sizes, strict=True))
    return z, y, x


def _text(size: tuple[float, float, float]) -> str:
    return ", ".join(f"{v:g}" for v in size)


def voxel_size_warnings(voxel_size: tuple[float, float, float]) -> list[str]:
    """Return warnings about a suspicious voxel size in angstrom.

    >>> voxel_size_warnings((10.0, 10.0, 10.0))
    []
    >>> voxel_size_warnings((0.0134, 0.0134, 0.0134))[0][:32]
    'voxel size 0.0134 A is outside 0'
    """
    low, high = min(voxel_size), max(voxel_size)
    found = []
    if low < 0.5 or high > 100:
        worst = low if low < 0.5 else high
        found.append(
            f"voxel size {worst:g} A is outside 0.5 to 100 A (nanometres taken for angstrom?); "
            "give the right voxel_size in angstrom"
        )
    if voxel_size == (1.0, 1.0, 1.0):
        found.append(
            "voxel size is exactly 1 A, which programs write when they do not know it; "
            "give the right voxel_size in angstrom"
        )
    if high > 1.01 * low:
        found.append("voxel size differs between axes: " + ", ".join(f"{v:g}" for v in voxel_size))
    return found
