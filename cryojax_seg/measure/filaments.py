"""Measures filaments in physical units, one by one and as a network."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from cryojax_seg.core.blocks import Readable, release
from cryojax_seg.core.types import MaskArray, ProbabilityArray
from cryojax_seg.measure import network
from cryojax_seg.measure.centreline import Filament
from cryojax_seg.measure.complexes import is_background
from cryojax_seg.measure.errors import SizeErrors, filament_doubt
from cryojax_seg.measure.measured import Measured
from cryojax_seg.measure.objects import places
from cryojax_seg.measure.tracing import refit, trace_filaments
from cryojax_seg.measure.tracing_limits import TracingLimits
from cryojax_seg.measure.uncertainty import interval, sample_masks

_MARGIN = 12  # voxels around an object, so that only faces of the volume cut it


@dataclasses.dataclass(frozen=True)
class FilamentRow:
    """Describes one filament.

    Returned by `measure_filaments`.

    Attributes:
        instance: its number, from 1, longest first; or that in the instance map.
        length_nm: the length along the axis. Its interval is that of the true length of the
            filament that it is a prediction of, or without known errors that of the axis fitted to
            sampled masks.
        end_to_end_nm: the distance between its ends.
        tortuosity: the length over the distance between its ends, 1 if straight; None if it is more
            than the largest curvature allows (`TracingLimits`), which is an error of the tracing,
            so that the filament is in no total.
        mean_curvature_per_nm: the mean curvature over its length, of the waves that tracing keeps.
            The noise of a mask of 10 angstrom voxels bends even straight axes by some 0.002 per
            nanometre.
        radius_nm: the radius of a tube with the cross-section of the mask.
        spacing_nm: the median distance to the nearest other axis; None without a neighbour.
        covered: the fraction of the length with mask around it; the rest is bridged gaps.
        at_border: whether an end lies at a face of the volume, so that the filament may go on.
        start_nm, stop_nm: its ends, zyx, with voxel i at ``i * voxel_size``.
        axis: the curve itself.
    """

    instance: int
    length_nm: Measured
    end_to_end_nm: float
    tortuosity: float | None
    mean_curvature_per_nm: float
    radius_nm: float
    spacing_nm: float | None
    covered: float
    at_border: bool
    start_nm: tuple[float, float, float]
    stop_nm: tuple[float, float, float]
    axis: Filament = dataclasses.field(repr=False, compare=False)


@dataclasses.dataclass(frozen=True)
class FilamentSummary:
    """Describes the filaments of a volume together, without those of an impossible tortuosity.

    Returned by `measure_filaments`.

    Where the errors of the segmenter are known, intervals of the count, the total length, the
    densities and the spacing are those of the true values. Else those of counts, lengths and
    densities are over masks sampled from the probabilities and traced again, widened to contain the
    value, without samples that are mostly background (`complexes.is_background`), and that of the
    spacing is over whole filaments sampled with replacement, as are those of order and persistence
    length. There are none of the former without probabilities.

    Attributes:
        count: the number of filaments.
        total_length_um: the length of all filaments.
        region_um3: the volume of the region.
        length_density_um_per_um3: the total length over that volume.
        number_density_per_um3: the count over that volume.
        order_parameter: the nematic order parameter, see `Orientation`; None without filaments.
        order_if_random: the order parameter that random directions exceed in one case of 20.
        director_zyx: the common direction.
        spacing_nm: the median distance to the nearest other axis; None without neighbours.
        ends: the number of ends of filaments that are not cut by a face of the volume.
        persistence_length_um: the persistence length of the filaments that no face of the volume
            cuts, see `persistence_length_angstrom`; None if these are too few, too short or too
            straight for an interval with an upper end.
        persistence_length_at_least_um: the smallest persistence length that their straightness
            allows, see `least_persistence_length_angstrom`; None if all are too short.
    """

    count: Measured
    total_length_um: Measured
    region_um3: float
    length_density_um_per_um3: Measured
    number_density_per_um3: Measured
    order_parameter: Measured | None
    order_if_random: float | None
    director_zyx: tuple[float, float, float] | None
    spacing_nm: Measured | None
    ends: int
    persistence_length_um: Measured | None
    persistence_length_at_least_um: float | None


def measure_filaments(
    mask: MaskArray | Int[np.ndarray, "_z _y _x"],
    voxel_size_angstrom: tuple[float, float, float],
    probability: ProbabilityArray | Readable | None = None,
    limits: TracingLimits | None = None,
    region: MaskArray | None = None,
    samples: int = 16,
    correlation: float | int = math.inf,
    seed: int = 0,
    errors: Mapping[str, SizeErrors] | None = None,
) -> tuple[list[FilamentRow], FilamentSummary]:
    """Trace and measure the filaments of a mask.

    Args:
        mask: ``(z, y, x)``, True in filaments; or integers, of which each number except 0 is one
            filament, traced by itself, and counted even if it is short.
        voxel_size_angstrom: voxel size along z, y, x.
        probability: calibrated probability of each voxel, for axes of subvoxel precision and for
            intervals.
        limits: see `TracingLimits`; None for the default.
        region: ``(z, y, x)``, the voxels over whose volume densities are taken; None for all.
        samples: the number of sampled masks, each traced again, that give the intervals if `errors`
            are not known; 0 for none.
        correlation: the correlation length in voxels, see `uncertainty.sample_masks`.
        seed: the seed of all random numbers.
        errors: the errors of the segmenter in any of "length", "total length", "count" and
            "spacing", from `fit_size_errors` with `filament_doubt`; those of the built-in model are
            `known_errors.MICROTUBULE`. None if they are not known.

    Returns:
        a row for each filament, longest first or by number, and the summary; no rows for an empty
        mask.

    Raises:
        ValueError: for shapes that differ, an empty region or a voxel size that is not positive.

    >>> mask = np.zeros((9, 9, 60), bool); mask[3:6, 3:6, 5:55] = True
    >>> rows, summary = measure_filaments(mask, (10.0, 10.0, 10.0))
    >>> round(rows[0].length_nm.value, 1), rows[0].tortuosity, summary.count.value
    (50.0, 1.0, 1.0)
    """
    limits, mask, voxel_size = limits or TracingLimits(), np.asanyarray(mask), voxel_size_angstrom
    looked_at = mask.size if region is None else int(np.asarray(region).sum())
    if region is not None and np.shape(region) != mask.shape:
        raise ValueError(f"region has shape {np.shape(region)}, the mask {mask.shape}")
    if not looked_at:
        raise ValueError("region is empty: there is no volume to measure a density in")
    names: Sequence[int] = ()
    if mask.dtype == bool:
        found = trace_filaments(mask, voxel_size, limits, probability)
    else:
        names, found = _each(mask, voxel_size, limits, probability)
        samples = 0  # sampled masks do not tell objects apart
    volume = looked_at * math.prod(voxel_size) * 1e-12  # cubic micrometres
    counts, totals, lengths = [], [], [[] for _ in found]

    def possible(filament: Filament) -> bool:
        return _possible(filament, limits.maximum_curvature_per_nm)

    sound = [f for f in found if possible(f)]
    if probability is not None and samples > 0 and errors is None:
        for sampled in sample_masks(np.asarray(probability), seed, samples, correlation):
            if is_background(sampled, int(mask.sum())):
                continue
            again = [f for f in trace_filaments(sampled, voxel_size, limits) if possible(f)]
            counts.append(len(again))
            totals.append(1e-4 * sum(f.length_angstrom for f in again))
            for own, fitted in zip(lengths, refit(found, sampled, voxel_size, limits), strict=True):
                own.append(0.1 * fitted.length_angstrom if fitted else 0.0)
    count = _measured(len(sound), counts)
    total = _measured(1e-4 * sum(f.length_angstrom for f in sound), totals)
    each = [_measured(0.1 * f.length_angstrom, own) for f, own in zip(found, lengths, strict=True)]
    spacings = network.neighbour_spacing_angstrom(found)
    order = network.orientation(sound, seed)
    spacing = network.median_spacing_angstrom(spacings, seed)
    if probability is not None and errors is not None and found:
        doubts = [filament_doubt(f.at_border, f.covered, f.hollow) for f in found]
        weights = [f.length_angstrom * possible(f) for f in found]
        mean = float(np.average(doubts, weights=weights)) if sound else math.inf
        if "count" in errors:
            count = errors["count"].counted(len(sound), mean)
        if "total length" in errors:
            total = errors["total length"].measured(total.value, mean)
        if "length" in errors:
            pairs = zip(each, doubts, strict=True)
            each = [errors["length"].measured(one.value, doubt) for one, doubt in pairs]
        if "spacing" in errors and spacing is not None:
            spacing = errors["spacing"].measured(spacing.value, mean)
    shortest = max(10 / limits.maximum_curvature_per_nm, 200.0)
    whole = [f for f in sound if not any(f.at_border)]
    persistence = network.persistence_length_angstrom(whole, shortest_angstrom=shortest, seed=seed)
    least = network.least_persistence_length_angstrom(sound)
    if persistence and not math.isfinite(persistence.high or math.inf):
        persistence = None  # no number, but a bound
    if persistence and least and persistence.value < least:
        persistence = None
    most = limits.maximum_curvature_per_nm
    rows = [
        _row(i, f, length, s, most)
        for i, f, length, s in zip(
            names or range(1, len(found) + 1), found, each, spacings, strict=True
        )
    ]
    return rows, FilamentSummary(
        count=count,
        total_length_um=total,
        region_um3=volume,
        length_density_um_per_um3=total.scaled(1 / volume),
        number_density_per_um3=count.scaled(1 / volume),
        order_parameter=order.order_parameter if order else None,
        order_if_random=order.order_if_random if order else None,
        director_zyx=order.director_zyx if order else None,
        spacing_nm=spacing.scaled(0.1) if spacing else None,
        ends=sum(not cut for f in sound for cut in f.at_border),
        persistence_length_um=persistence.scaled(1e-4) if persistence else None,
        persistence_length_at_least_um=1e-4 * least if least else None,
    )


def _each(numbers: np.ndarray, voxel_size, limits: TracingLimits, probability):
    """Return the longest filament of each object of an instance map, and the objects' numbers."""
    limits = dataclasses.replace(limits, minimum_length_angstrom=0.0)
    names, found = [], []
    for number, box in places(numbers, _MARGIN):
        near = None if probability is None else np.asarray(probability[box])
        traced = trace_filaments(np.asarray(numbers[box]) == number, voxel_size, limits, near)[:1]
        start = np.array([s.start for s in box]) * voxel_size
        found += [f.shifted(start) for f in traced]
        names += [number] * len(traced)
        release(numbers)
    return names, found


def _measured(value: float | int, sampled: Sequence[float | int]) -> Measured:
    """Return a value with the interval of the samples, widened to contain the value.

    The number of filaments is no monotonic function of the level of the mask.
    """
    if not sampled:
        return Measured(float(value))
    low, high = interval(sampled)
    return Measured(float(value), min(low, float(value)), max(high, float(value)))


def _row(
    number: int, filament: Filament, length: Measured, spacing: np.ndarray, largest_per_nm: float
) -> FilamentRow:
    places = filament.arc_lengths_angstrom(max(filament.length_angstrom / 200, 1.0))
    start, stop = filament.ends_angstrom
    apart = float(np.linalg.norm(stop - start))
    known = spacing[np.isfinite(spacing)]
    tortuosity = _tortuosity(filament)
    return FilamentRow(
        instance=number,
        length_nm=length,
        end_to_end_nm=0.1 * apart,
        tortuosity=round(tortuosity, 6) if _possible(filament, largest_per_nm) else None,
        mean_curvature_per_nm=10 * float(filament.curvature_per_angstrom(places).mean()),
        radius_nm=0.1 * filament.radius_angstrom,
        spacing_nm=0.1 * float(np.median(known)) if len(known) else None,
        covered=filament.covered,
        at_border=any(filament.at_border),
        start_nm=(0.1 * float(start[0]), 0.1 * float(start[1]), 0.1 * float(start[2])),
        stop_nm=(0.1 * float(stop[0]), 0.1 * float(stop[1]), 0.1 * float(stop[2])),
        axis=filament,
    )


def _tortuosity(filament: Filament) -> float:
    start, stop = filament.ends_angstrom
    return filament.length_angstrom / max(float(np.linalg.norm(stop - start)), 1e-9)


def _possible(filament: Filament, largest_per_nm: float) -> bool:
    """Return whether an arc of the largest curvature is as tortuous, but for noise."""
    half = 0.05 * filament.length_angstrom * largest_per_nm  # of the angle of the most bent arc
    return half >= np.pi / 2 or _tortuosity(filament) <= 1.02 / float(np.sinc(half / np.pi))
