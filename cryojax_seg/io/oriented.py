"""Bring stored axes into the order z, y, x, and lengths into angstrom, as affines describe them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.block import as_tomogram
from cryojax_seg.io.voxel_size import ANGSTROM_PER_UNIT, VoxelSize

_PLAUSIBLE = (0.5, 100.0)  # angstrom
_STRAIGHT = 0.999  # cosine of the angle up to which an axis counts as one of the three


@dataclasses.dataclass(frozen=True)
class Orientation:
    """How stored voxels lie in space.

    Attributes:
        axes: permutation that brings the stored axes into the order z, y, x.
        flips: the axes z, y, x that are reversed afterwards.
        voxel_size: of the file along z, y, x, in its own unit.
        origin: of voxel (0, 0, 0) along z, y, x, in the unit of the file.
        notes: what is suspicious.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    voxel_size: tuple[float, float, float]
    origin: tuple[float, float, float]
    notes: tuple[str, ...] = ()

    def apply(self, data: Any) -> Any:
        """Return a view of stored voxels as ``(z, y, x)``."""
        steps = tuple(slice(None, None, -1 if flip else None) for flip in self.flips)
        return data.transpose(self.axes)[steps]

    def tomogram(
        self, path: Path, data: Any, unit: str | None, given: VoxelSize | None = None
    ) -> Tomogram:
        """Return stored voxels in the order z, y, x, with voxel size and origin in angstrom.

        Args:
            path: the file, for messages.
            data: the voxels as they are stored.
            unit: of the voxel size and origin; None if the file states neither.
            given: angstrom, wins over the file.
        """
        factor, notes = (None, ()) if unit is None else angstrom(self.voxel_size, unit)
        size = scaled(self.voxel_size, factor) if factor else None
        origin = scaled(self.origin, factor) if factor else (0.0, 0.0, 0.0)
        return as_tomogram(path, self.apply(data), given, size, origin, (*self.notes, *notes))


def orientation(affine: np.ndarray, shape: Sequence[int]) -> Orientation:
    """Read an affine that maps stored indices (i, j, k) to positions (x, y, z).

    Medical formats count x and y to the right and front (RAS, as NIfTI) or to the left and back
    (LPS, as ITK writes them into NIfTI), so both negative are taken as they are. What is
    mirrored besides is brought back, with a note.

    Args:
        affine: ``(3, 4)`` or ``(4, 4)``; i is the fastest axis.
        shape: of the stored array, slowest axis first.

    Raises:
        ValueError: if it is not finite, or axes have no length or no direction of their own.

    >>> orientation(np.diag([2.0, 2.0, 3.0, 1.0]), (5, 6, 7)).voxel_size
    (3.0, 2.0, 2.0)
    """
    matrix, shift = np.asarray(affine, float)[:3, :3], np.asarray(affine, float)[:3, 3]
    lengths = np.linalg.norm(matrix, axis=0)
    if not (np.isfinite(affine).all() and (lengths > 0).all()):
        raise ValueError(f"the axes of its affine have the lengths {lengths.tolist()}")
    directions = matrix / lengths
    nearest = np.abs(directions).argmax(0)  # of x, y, z for each of i, j, k
    if sorted(nearest) != [0, 1, 2]:
        raise ValueError("two axes of its affine have the same direction")
    notes = []
    if np.abs(directions).max(0).min() < _STRAIGHT:
        notes.append("its affine turns the axes by an angle, which is not carried")
    stored = [2 - int(np.flatnonzero(nearest == axis)[0]) for axis in (2, 1, 0)]
    if stored != [0, 1, 2]:
        notes.append("its affine exchanges axes; they are brought into the order z, y, x")
    pairs = zip((2, 1, 0), stored, strict=True)
    negative = [bool(directions[axis, 2 - s] < 0) for axis, s in pairs]
    turned = negative[1] and negative[2]  # about z, as between RAS and LPS
    flips = (negative[0], negative[1] and not turned, negative[2] and not turned)
    if any(flips):
        names = ", ".join(name for name, flip in zip("zyx", flips, strict=True) if flip)
        notes.append(f"its affine reverses {names}; the voxels are brought back into order")
    first = np.array([shape[s] - 1 if flip else 0 for s, flip in zip(stored, flips, strict=True)])
    index = np.zeros(3)  # stored index (i, j, k) of what becomes voxel (0, 0, 0)
    index[[2 - s for s in stored]] = first
    position = matrix @ index + shift
    if turned:
        position[:2] *= -1
    z, y, x = (float(lengths[2 - s]) for s in stored)
    oz, oy, ox = (float(p) + 0.0 for p in position[::-1])
    a, b, c = stored
    return Orientation((a, b, c), flips, (z, y, x), (oz, oy, ox), tuple(notes))


def angstrom(
    voxel_size: tuple[float, float, float], unit: str
) -> tuple[float | None, tuple[str, ...]]:
    """Return how many angstrom a unit of a file has, and notes; None if it is unknown.

    Formats of medicine write millimetres where none was meant, and a voxel of 1 where no size was
    known. So a unit counts where it gives a size that voxels of tomograms have; otherwise the
    number is taken as angstrom if that is one.

    >>> angstrom((0.001, 0.001, 0.001), "micron")
    (10000.0, ())
    >>> angstrom((13.48, 13.48, 13.48), "mm")[0]
    1.0
    >>> angstrom((1.0, 1.0, 1.0), "mm")[0] is None
    True
    """
    known = ANGSTROM_PER_UNIT.get(unit.strip().lower())
    low, high = min(voxel_size), max(voxel_size)

    def plausible(factor: float) -> bool:
        return _PLAUSIBLE[0] <= low * factor and high * factor <= _PLAUSIBLE[1]

    if known is not None and (plausible(known) or known == 1.0):
        return known, ()
    if voxel_size == (1.0, 1.0, 1.0):
        return None, ("voxel size is 1, as where it is not known; give voxel_size in angstrom",)
    if plausible(1.0):
        said = f"{unit}, which no tomogram has" if known else "no unit of length"
        return 1.0, (
            f"voxel size {low:g} has {said}; it is read as angstrom, give voxel_size if that is "
            "wrong",
        )
    if known is not None:
        return known, ()
    return None, (f"voxel size {low:g} has no unit; give voxel_size in angstrom",)


def scaled(values: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    """Return lengths in angstrom, with the six digits that float32 holds.

    >>> scaled((0.001348, 0.001348, 0.001348), 1e4)
    (13.48, 13.48, 13.48)
    """
    z, y, x = (float(f"{value * factor:.6g}") for value in values)
    return z, y, x
