"""What a restored tomogram owes to the data, and what to the restorer."""

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
    """How a restored volume relates to the one it was made from, in shells of frequency.

    Attributes:
        frequency: cycles per voxel, the middle of each shell.
        agreement: correlation of both inside the measured region, -1 to 1 (a Fourier shell
            correlation that leaves the wedge out). Denoising lowers it where there is noise.
        kept: power of the restored volume there over that of the given one.
        filled: power per coefficient of the restored volume in the wedge, over that in the measured
            region: 0 if nothing was put there, 1 if as much as was measured.
        agreement_overall, kept_overall, filled_overall: the same of all shells together.
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
    """Compares a restored volume with the given one, on random blocks under a cosine window.

    Args:
        given, restored: ``(z, y, x)`` of one shape and scale; blank parts of a given
            `core.Normalized` volume are left out.
        wedge: of the given volume.
        edge: of the blocks, voxels; shortened to the volume.
        count: how many blocks; those of a volume of any size fit in memory.
        shells: from frequency 0 to 0.5 cycles per voxel.
        seed: of the places of the blocks.

    Raises:
        ValueError: for volumes of different shapes.

    >>> v = np.random.default_rng(0).normal(size=(32, 32, 32)).astype(np.float32)
    >>> wedge = MissingWedge((-60.0, 60.0))
    >>> found = audit(np.asarray(wedge.apply(v)), v, wedge, count=1)
    >>> round(found.agreement_overall), round(found.filled_overall, 1)
    (1, 1.0)
    """
    if given.shape != restored.shape:
        raise ValueError(f"the given volume has shape {given.shape}, the other {restored.shape}")
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
    """Density that a restored phantom shows where the truth has none.

    Attributes:
        level: above which a voxel counts as dense: halfway from the background to the structure
            that the tilt series shows.
        share: dense voxels farther than the tolerance from any structure, over voxels of structure;
            None without structure.
        by_visibility: the same in bins of the visibility of their own surface.
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
    """Counts what a restorer invented on a phantom, where the truth is known.

    Args:
        restored: structure bright.
        structure: where the truth has any.
        visibility: of its voxels, 0 to 1; see `MissingWedge.visibility`.
        wedge: of the tomogram.
        tolerance: voxels around the structure that are not counted.
        bins: of visibility.

    >>> truth = np.zeros((16, 16, 16), bool)
    >>> truth[8] = True
    >>> seen = np.where(truth, 0.9, 0.0)
    >>> invention(1.0 * truth, truth, seen, MissingWedge((-60.0, 60.0))).share
    0.0
    """
    far = np.asarray(ndimage.distance_transform_edt(~structure)) > tolerance
    clear = structure & (visibility > 0.7)
    clear = clear if clear.any() else structure
    background = float(restored[far].mean()) if far.any() else 0.0
    level = (background + float(restored[clear].mean())) / 2 if clear.any() else background
    dense = restored > level
    return Invention(
        level,
        _ratio(float((dense & far).sum()), float(structure.sum())),
        precision_by_visibility(
            dense, structure, visibility, wedge, tolerance=tolerance, bins=bins
        ),
    )
