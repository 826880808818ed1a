"""Measures complexes in physical units, one by one and as a pattern in the volume."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Real
from scipy import stats
from scipy.spatial import KDTree

from cryojax_seg.core.blocks import Readable
from cryojax_seg.core.plain import Shape
from cryojax_seg.core.types import MaskArray, ProbabilityArray
from cryojax_seg.measure import slabs
from cryojax_seg.measure.boxes import Nanometres, ObjectBoxes, voxels_and_volume
from cryojax_seg.measure.measured import Measured
from cryojax_seg.measure.pairs import PairCorrelation, nearest_median_nm, pair_correlation
from cryojax_seg.measure.region import Points, Region
from cryojax_seg.measure.slabs import Part, Read
from cryojax_seg.measure.uncertainty import (
    LEVEL,
    checked,
    interval,
    sample_masks,
    sampled_levels,
)

_AVOGADRO = 6.02214076e23
_RANDOM = 4000  # points that say what chance would give
_SAMPLES = 200


@dataclasses.dataclass(frozen=True)
class ComplexRow:
    """Describes one complex.

    Returned by `measure_complexes`.

    Attributes:
        instance: its number in the volume, or from 1 in the order of the centres.
        centre_nm: its centre, zyx, with voxel i at ``i * voxel_size``.
        nearest_neighbour_nm: the distance to the nearest other centre; None if it is alone.
        border_nm: the distance to the border of the region, beyond which there may be neighbours.
        membrane_distance_nm: the distance to the nearest voxel of the membrane, 0 within; None
            without a membrane.
        in_organelle: whether its centre lies in the organelle; None without an organelle.
        voxels: the number of voxels of its instance; None if measured from a centre.
        volume_nm3: the volume of its instance, with the interval of its level sets if there are
            probabilities; None if measured from a centre.
    """

    instance: int
    centre_nm: tuple[float, float, float]
    nearest_neighbour_nm: float | None
    border_nm: float
    membrane_distance_nm: float | None
    in_organelle: bool | None
    voxels: int | None = None
    volume_nm3: Measured | None = None


@dataclasses.dataclass(frozen=True)
class ComplexSummary:
    """Describes the complexes of a region together, beside the values of a random pattern.

    Returned by `measure_complexes`.

    Attributes:
        count: the number of centres in the region. With probabilities, its interval is over masks
            sampled from them (except those of `is_background`); without, it is that of a Poisson
            process observed in one region (Garwood 1936). The same holds for the concentrations.
        outside_region: the number of centres outside the region, which enter no other number.
        region_um3: the volume of the region.
        concentration_per_um3, concentration_micromolar: the count over the volume.
        nearest_neighbour_nm: the median distance to the nearest other complex, corrected for
            neighbours beyond the border by the estimator of Kaplan and Meier (Baddeley & Gill
            1997). The interval is over complexes sampled with replacement. None where fewer than
            half are known to have a neighbour.
        nearest_neighbour_seen_nm: the median over the rows without that correction, which is an
            upper limit. None for fewer than two complexes.
        nearest_neighbour_if_random_nm: the same median for a Poisson process of this concentration.
        pair_correlation: the pair correlation, with the band of random patterns; None for fewer
            than two complexes.
        membrane_distance_nm: the median distance to the membrane, with an interval over complexes
            sampled with replacement.
        membrane_distance_if_random_nm: the same median for random points of the region.
        organelle_fraction: the fraction of complexes in the organelle, with the interval of Wilson
            (1927).
        organelle_fraction_if_random: the fraction of the region in the organelle.
    """

    count: Measured
    outside_region: int
    region_um3: float
    concentration_per_um3: Measured
    concentration_micromolar: Measured
    nearest_neighbour_nm: Measured | None
    nearest_neighbour_seen_nm: float | None
    nearest_neighbour_if_random_nm: float | None
    pair_correlation: PairCorrelation | None
    membrane_distance_nm: Measured | None
    membrane_distance_if_random_nm: float | None
    organelle_fraction: Measured | None
    organelle_fraction_if_random: float | None


def complex_centres(
    labels: Real[np.ndarray, "_z _y _x"] | MaskArray,
    voxel_size_angstrom: tuple[float, float, float],
    minimum_volume_nm3: float | int = 0.0,
) -> Points:
    """Return the centres of mass of the instances of a volume, or of the components of a mask.

    Args:
        labels: ``(z, y, x)`` the number of the instance of each voxel, 0 for none; or a bool mask,
            whose voxels that touch by a face, an edge or a corner make one instance.
        voxel_size_angstrom: voxel size along z, y, x.
        minimum_volume_nm3: smaller instances are left out.

    Returns:
        ``(n, 3)`` centres in angstrom, zyx.

    >>> mask = np.zeros((4, 4, 9), bool); mask[1, 1, 1:4] = mask[2, 2, 7] = True
    >>> complex_centres(mask, (10.0, 10.0, 10.0)).tolist()
    [[10.0, 10.0, 20.0], [20.0, 20.0, 70.0]]
    """
    return _centres(_parts(np.asarray(labels)), voxel_size_angstrom, minimum_volume_nm3)[1]


def _parts(labels: Real[np.ndarray, "_z _y _x"] | MaskArray) -> Iterator[Part]:
    """Yield the sections of each slab and the numbers of its instances, or those of components."""
    shape = _shape(labels)
    if labels.dtype == bool:
        return slabs.components(lambda z: np.asarray(labels[z]), shape).slabs()
    return ((z, np.asarray(labels[z])) for z in slabs.slabs(shape[0], slabs.depth_of(shape)))


def _shape(volume: Any) -> Shape:
    z, y, x = volume.shape
    return z, y, x


def _centres(
    parts: Iterable[Part], voxel_size: tuple[float, float, float], minimum_volume_nm3: float | int
) -> tuple[np.ndarray, Points]:
    """Return the numbers of the instances that are large enough, and their centres of mass."""
    found, sums = [np.zeros(0)], [np.zeros((0, 4))]
    for z, numbers in parts:
        index = np.nonzero(numbers)
        values, member = np.unique(numbers[index], return_inverse=True)
        columns = [None, index[0] + z.start, *index[1:]]
        found.append(values)
        counts = [np.bincount(member, c, len(values)).astype(float) for c in columns]
        sums.append(np.stack(counts, 1))
    values, member = np.unique(np.concatenate(found), return_inverse=True)
    size, *axes = (np.bincount(member, c, len(values)) for c in np.concatenate(sums).T)
    centres = np.stack(axes, 1) / size[:, None] * voxel_size
    kept = size * math.prod(voxel_size) >= 1000 * minimum_volume_nm3
    return values[kept], centres[kept]


def measure_complexes(
    complexes: Points | Real[np.ndarray, "_z _y _x"] | MaskArray,
    region: Region,
    probability: ProbabilityArray | Readable | None = None,
    minimum_volume_nm3: float | int = 0.0,
    edges_angstrom: Sequence[float | int] | None = None,
    simulations: int = 99,
    samples: int = 16,
    correlation: float | int = math.inf,
    seed: int = 0,
) -> tuple[list[ComplexRow], ComplexSummary]:
    """Measure complexes from their centres, or from instances in a volume.

    Args:
        complexes: centres ``(n, 3)`` in angstrom, zyx, with voxel i at ``i * voxel_size``; or a
            volume whose `complex_centres` are used.
        region: where complexes could have been found, with the membrane to measure distances to
            and the organelle to count complexes in.
        probability: calibrated probability of complexes, for the intervals of their number and
            volumes. It may stay on disk.
        minimum_volume_nm3: smaller instances are left out.
        edges_angstrom: edges of the bins of the pair correlation; None for 20 bins up to half the
            shortest side of the region, at most 1000 angstrom.
        simulations: the number of random patterns that give the band of the pair correlation.
        samples: the number of masks sampled from the probability; 0 for no intervals.
        correlation: the correlation length in voxels, see `uncertainty.sample_masks`.
        seed: the seed of all random numbers.

    Returns:
        a row for each complex in the region, and the summary; no rows where there are none.

    Raises:
        ValueError: for shapes that differ, or bins that do not increase.

    >>> centres = np.array([[50.0, 50, 50], [50, 50, 90], [50, 50, 900]])
    >>> rows, summary = measure_complexes(centres, Region((10, 10, 20), (10.0, 10.0, 10.0)))
    >>> len(rows), rows[0].nearest_neighbour_nm, summary.outside_region
    (2, 4.0, 1)
    """
    complexes = np.asarray(complexes)
    volumes = {"complexes": complexes} if complexes.ndim == 3 else {}
    for name, volume in (volumes | {"probability": probability}).items():
        if volume is not None and tuple(volume.shape) != tuple(region.shape):
            raise ValueError(f"{name} has shape {volume.shape}, the volume {region.shape}")
    sizes: dict[int, dict[str, Any]] = {}
    if volumes:
        numbers = complexes
        if complexes.dtype == bool:
            numbers = np.concatenate([own for _, own in _parts(complexes)])
        names, centres = _centres(_parts(numbers), region.voxel_size_angstrom, minimum_volume_nm3)
        z, y, x = (0.1 * v for v in region.voxel_size_angstrom)
        sizes = _sizes(numbers, probability, (z, y, x))
    else:
        names, centres = np.arange(1, len(complexes) + 1), complexes.astype(float)
    given, kept = len(centres), region.contains(centres)
    names, centres = names[kept], centres[kept]
    rng = np.random.default_rng(seed)
    chance = region.random_points(_RANDOM, rng)
    nearest = np.full(len(centres), np.nan)
    if len(centres) > 1:
        nearest = np.asarray(KDTree(centres).query(centres, 2)[0])[:, 1]
    border = region.border_distance_angstrom(centres)
    away, inside = region.membrane_distance_angstrom(centres), region.in_organelle(centres)
    expected = region.in_organelle(chance)
    voxels = int(np.count_nonzero(complexes)) if volumes else 0
    masks = _sampled(probability, samples, correlation, seed)
    count = _count(len(centres), masks, voxels, region, minimum_volume_nm3)
    volume = 1e-12 * region.volume_angstrom3
    if edges_angstrom is None:
        edges_angstrom = np.linspace(0, min(region.shortest_side_angstrom / 2, 1000.0), 21).tolist()
    edges = np.asarray(edges_angstrom, float)
    density = len(centres) / region.volume_angstrom3
    rows = [
        ComplexRow(
            instance=int(names[i]),
            centre_nm=(0.1 * float(c[0]), 0.1 * float(c[1]), 0.1 * float(c[2])),
            nearest_neighbour_nm=0.1 * float(nearest[i]) if len(centres) > 1 else None,
            border_nm=0.1 * float(border[i]),
            membrane_distance_nm=None if away is None else 0.1 * float(away[i]),
            in_organelle=None if inside is None else bool(inside[i]),
            **sizes.get(int(names[i]), {}),
        )
        for i, c in enumerate(centres)
    ]
    return rows, ComplexSummary(
        count=count,
        outside_region=given - len(centres),
        region_um3=volume,
        concentration_per_um3=count.scaled(1 / volume),
        concentration_micromolar=count.scaled(1e21 / _AVOGADRO / volume),
        nearest_neighbour_nm=nearest_median_nm(nearest, border, rng),
        nearest_neighbour_seen_nm=(
            0.1 * float(np.median(nearest)) if len(centres) > 1 else None
        ),
        nearest_neighbour_if_random_nm=(
            0.1 * (3 * math.log(2) / (4 * math.pi * density)) ** (1 / 3) if density else None
        ),
        pair_correlation=pair_correlation(centres, region, edges, simulations, seed),
        membrane_distance_nm=None if away is None else _median(0.1 * away, rng),
        membrane_distance_if_random_nm=_median_if_any(region.membrane_distance_angstrom(chance)),
        organelle_fraction=None if inside is None else _fraction(inside),
        organelle_fraction_if_random=None if expected is None else float(expected.mean()),
    )  # fmt: skip


def _sizes(
    numbers: np.ndarray, probability: Any, voxel_nm: Nanometres
) -> dict[int, dict[str, Any]]:
    """Return the voxels and the volume of each instance, by its number."""
    boxes = ObjectBoxes(numbers, probability)
    return {box.number: voxels_and_volume(box, voxel_nm) for box in boxes}


def is_background(mask: Bool[np.ndarray, "_z _y _x"], voxels: int) -> bool:
    """Return whether a sampled mask is mostly background, so that its objects run together.

    Such a mask holds more than ten times the voxels of the most likely mask, or most of the volume,
    as happens at low levels where the probability of the background is uncertain.

    >>> is_background(np.ones((20, 20, 20), bool), 50)
    True
    """
    return _too_many(int(mask.sum()), mask.size, voxels)


def _too_many(count: int, size: int, voxels: int) -> bool:
    return count > max(min(10 * max(voxels, 1000), size // 2), voxels)


def _sampled(probability: Any, samples: int, correlation: float | int, seed: int) -> Iterator[Read]:
    """Yield functions that return sections of sampled masks."""
    if probability is None or samples < 1:
        return
    if not math.isinf(correlation):
        for mask in sample_masks(np.asarray(probability[:]), seed, samples, correlation):
            yield mask.__getitem__
        return
    for level in sampled_levels(seed, samples):
        yield lambda z, level=level: checked(np.asarray(probability[z], np.float32)) > level


def _count(
    count: int,
    masks: Iterator[Read],
    voxels: int,
    region: Region,
    minimum_volume: float | int,
) -> Measured:
    numbers, shape = [], (region.shape[0], region.shape[1], region.shape[2])
    for read in masks:
        depth = slabs.depth_of(shape)
        inside = sum(int(np.count_nonzero(read(z))) for z in slabs.slabs(shape[0], depth))
        if _too_many(inside, math.prod(shape), voxels):
            continue
        parts = slabs.components(read, shape).slabs()
        found = _centres(parts, region.voxel_size_angstrom, minimum_volume)[1]
        numbers.append(int(region.contains(found).sum()))
    if numbers:
        low, high = interval(numbers)
        return Measured(float(count), min(low, float(count)), max(high, float(count)))
    tail = (1 - LEVEL) / 2
    low = float(stats.chi2.ppf(tail, 2 * count)) / 2 if count else 0.0
    return Measured(float(count), low, float(stats.chi2.isf(tail, 2 * count + 2)) / 2)


def _median(values: np.ndarray, rng: np.random.Generator) -> Measured | None:
    if not len(values) or not np.isfinite(values).all():
        return None
    sampled = values[rng.integers(0, len(values), (_SAMPLES, len(values)))]
    return Measured(float(np.median(values)), *interval(np.median(sampled, 1).tolist()))


def _median_if_any(distances: np.ndarray | None) -> float | None:
    """Return the median in nanometres of distances in angstrom; None without distances."""
    if distances is None or not np.isfinite(distances).all():
        return None
    return 0.1 * float(np.median(distances))


def _fraction(inside: np.ndarray) -> Measured | None:
    if not len(inside):
        return None
    found = stats.binomtest(int(inside.sum()), len(inside)).proportion_ci(LEVEL, method="wilson")
    return Measured(float(inside.mean()), float(found.low), float(found.high))
