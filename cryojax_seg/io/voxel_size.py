"""Voxel sizes in angstrom: one number or three, and which of them look wrong."""

import math

from cryojax_seg.io.files import FileError

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
    """One length or three as (z, y, x) in angstrom; refuses what is not a length.

    >>> voxel_size_zyx(13.48)
    (13.48, 13.48, 13.48)
    """
    values = [voxel_size] * 3 if isinstance(voxel_size, (float, int)) else list(voxel_size)
    if len(values) != 3 or not all(math.isfinite(v) and v > 0 for v in values):
        raise FileError(f"voxel size {voxel_size}: one positive number, or three (z, y, x), needed")
    z, y, x = map(float, values)
    return z, y, x


def voxel_size_warnings(voxel_size: tuple[float, float, float]) -> list[str]:
    """What is suspicious about a voxel size in angstrom.

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
            "give the right one with --voxel-size ANGSTROM"
        )
    if voxel_size == (1.0, 1.0, 1.0):
        found.append(
            "voxel size is exactly 1 A, which programs write when they do not know it; "
            "give the right one with --voxel-size ANGSTROM"
        )
    if high > 1.01 * low:
        found.append("voxel size differs between axes: " + ", ".join(f"{v:g}" for v in voxel_size))
    return found
