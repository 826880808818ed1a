"""Compares restored volumes with their input and with the truth of phantoms."""

import dataclasses

import numpy as np
from jaxtyping import Array, Bool, Float
from scipy import ndimage

from cryojax_seg.core import fourier, measured_box
from cryojax_seg.core.blocks import Readable, random_starts, read
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.evaluate.visibility import PredictedBin, precision_by_visibility


@dataclasses.dataclass(frozen=True)
class Audit:
    """Holds the comparison of a restored volume with its input, by shells of frequency.

    Attributes:
        frequency: centre of each shell, cycles per voxel.
        agreement: Fourier shell correlation of both volumes inside the measured region, -1 to 1.
            Denoising lowers it where there is noise.
        kept: power of the restored volume divided by that of the input, inside the measured region.
        filled: power per coefficient of the restored volume in the missing wedge divided by that in
            the measured region; 0 for an empty wedge, 1 for as much power as was measured.
        agreement_overall, kept_overall, filled_overall: the same values over all shells.

    >>> volume = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    >>> same = audit(volume, 0.5 * volume, MissingWedge((-60.0, 60.0)), count=1, shells=2)
    >>> same.frequency, round(same.kept_overall, 2)
    ((0.125, 0.375), 0.25)
    """

    frequency: tuple[float, ...]
    agreement: tuple[float | None, ...]
    kept: tuple[float | None, ...]
    filled: tuple[float | None, ...]
    agreement_overall: float | None
    kept_overall: float | None
    filled_overall: float | None


def _ratio(a: float, b: float) -> float | None:
    return float(a / b) if b > 0 else None


def audit(
    given: Readable | Array,
    restored: Readable | Array,
    wedge: MissingWedge,
    *,
    edge: int = 96,
    count: int = 8,
    shells: int = 12,
    seed: int = 0,
) -> Audit:
    """Compare a restored volume with its input, on random blocks under a cosine window.

    Args:
        given, restored: ``(z, y, x)`` of one shape and scale; blank parts of a given
            `core.Normalized` volume are left out.
        wedge: missing wedge of the given volume.
        edge: edge of the blocks, voxels; reduced to the size of the volume.
        count: number of blocks; the volume need not fit in memory.
        shells: number of shells from 0 to 0.5 cycles per voxel.
        seed: seed of the positions of the blocks.

    Raises:
        ValueError: for volumes of different shapes.

    >>> v = np.random.default_rng(0).normal(size=(32, 32, 32)).astype(np.float32)
    >>> wedge = MissingWedge((-60.0, 60.0))
    >>> found = audit(np.asarray(wedge.apply(v)), v, wedge, count=1)
    >>> round(found.agreement_overall), round(found.filled_overall, 1)
    (1, 1.0)
    """
    if given.shape != restored.shape:
        raise ValueError(
            f"the given volume has shape {given.shape}, the restored one {restored.shape}"
        )
    box = measured_box(given)
    shape = tuple(min(edge, s.stop - s.start) for s in box)
    window = np.ones(shape, np.float32)
    for axis, n in enumerate(shape):
        taper = np.sin(np.pi * (np.arange(n) + 0.5) / n).astype(np.float32)
        window *= taper.reshape([n if a == axis else 1 for a in range(3)])
    transfer = np.asarray(wedge.transfer(shape), np.float64)
    index = np.minimum((np.asarray(fourier.radius(shape)) / 0.5 * shells).astype(int), shells)
    twice = np.where(
        (np.arange(transfer.shape[2]) > 0) & (np.arange(transfer.shape[2]) * 2 != shape[2]),
        2.0,
        1.0,
    )
    sums = np.zeros((6, shells + 1))
    for start in random_starts(box, shape, count, seed):
        stop = [a + e for a, e in zip(start, shape, strict=True)]
        a, b = (np.fft.rfftn(_centred(read(v, start, stop)) * window) for v in (given, restored))
        seen, missing = transfer * twice, (1 - transfer) * twice
        for row, values in enumerate(
            (
                (a * b.conj()).real * seen,
                np.abs(a) ** 2 * seen,
                np.abs(b) ** 2 * seen,
                np.abs(b) ** 2 * missing,
                seen,
                missing,
            )
        ):
            sums[row] += np.bincount(index.ravel(), values.ravel(), shells + 1)
    sums = sums[:, :shells]
    total = sums.sum(1)

    def scores(cross, before, after, beyond, measured, unmeasured):
        per_missing = beyond / unmeasured if unmeasured > 0 else 0.0
        return (
            _ratio(cross, np.sqrt(before * after)),
            _ratio(after, before),
            _ratio(per_missing, after / measured) if measured > 0 and unmeasured > 0 else None,
        )

    each = [scores(*sums[:, i]) for i in range(shells)]
    agreement, kept, filled = zip(*each, strict=True)
    return Audit(
        tuple((0.5 * (np.arange(shells) + 0.5) / shells).tolist()),
        agreement,
        kept,
        filled,
        *scores(*total),
    )


def _centred(block: np.ndarray) -> np.ndarray:
    return block - block.mean()


@dataclasses.dataclass(frozen=True)
class Invention:
    """Holds the density of a restored phantom at positions where the truth has none.

    Attributes:
        level: density above which a voxel counts as dense, midway between the background and
            visible structure.
        share: number of dense voxels farther than the tolerance from any structure, divided by the
            number of voxels of structure; None without structure.
        by_visibility: counts in bins of the visibility of the restored surface.

    >>> truth = np.zeros((16, 16, 16), bool)
    >>> truth[8] = True
    >>> restored = 1.0 * (truth | np.roll(truth, 5, 0))  # with a second, invented sheet
    >>> invention(restored, truth, 0.9 * truth, MissingWedge((-60.0, 60.0))).share
    1.0
    """

    level: float
    share: float | None
    by_visibility: list[PredictedBin]


def invention(
    restored: Float[np.ndarray, "_z _y _x"],
    structure: Bool[np.ndarray, "_z _y _x"],
    visibility: Float[np.ndarray, "_z _y _x"],
    wedge: MissingWedge,
    *,
    tolerance: float = 2.0,
    bins: int = 5,
) -> Invention:
    """Count the structure that a restorer invented in a phantom, whose truth is known.

    Args:
        restored: restored volume ``(z, y, x)``, structure bright.
        structure: mask of the true structure.
        visibility: visibility of the true voxels, 0 to 1; see `MissingWedge.visibility`.
        wedge: missing wedge of the tomogram.
        tolerance: distance around the structure within which density is not counted, voxels.
        bins: number of bins of visibility.

    >>> truth = np.zeros((16, 16, 16), bool)
    >>> truth[8] = True
    >>> seen = np.where(truth, 0.9, 0.0)
    >>> invention(1.0 * truth, truth, seen, MissingWedge((-60.0, 60.0))).share
    0.0
    """
    level, share = invented(restored, structure, visibility, tolerance)
    return Invention(
        level,
        share,
        precision_by_visibility(
            restored > level, structure, visibility, wedge, tolerance=tolerance, bins=bins
        ),
    )


def invented(
    restored: Float[np.ndarray, "_z _y _x"],
    structure: Bool[np.ndarray, "_z _y _x"],
    visibility: Float[np.ndarray, "_z _y _x"],
    tolerance: float = 2.0,
) -> tuple[float, float | None]:
    """Return the level and the share of an `Invention`, which takes the same arguments.

    >>> truth = np.zeros((16, 16, 16), bool)
    >>> truth[8] = True
    >>> invented(3.0 * truth, truth, 0.9 * truth)
    (1.5, 0.0)
    """
    far = np.asarray(ndimage.distance_transform_edt(~structure)) > tolerance
    clear = structure & (visibility > 0.7)
    clear = clear if clear.any() else structure
    background = float(restored[far].mean()) if far.any() else 0.0
    level = (background + float(restored[clear].mean())) / 2 if clear.any() else background
    return level, _ratio(float(((restored > level) & far).sum()), float(structure.sum()))
