"""Traces filaments in a mask: joins branches of its skeleton across junctions and gaps."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cryojax_seg.core.blocks import Readable, release
from cryojax_seg.core.types import MaskArray, ProbabilityArray
from cryojax_seg.measure.centreline import Filament
from cryojax_seg.measure.fitting import fit
from cryojax_seg.measure.hollow import fit_tubes, stiff_parts
from cryojax_seg.measure.joining import angle, joined
from cryojax_seg.measure.local import bounds, empty_like, values_of, voxels
from cryojax_seg.measure.pieces import collinear, grown
from cryojax_seg.measure.region import check_voxel_size
from cryojax_seg.measure.skeleton import branches, closed
from cryojax_seg.measure.slabs import components
from cryojax_seg.measure.tiled import sections
from cryojax_seg.measure.tracing_limits import TracingLimits
from cryojax_seg.measure.tube_axes import tube_axes, walls

_FARTHEST = 600.0  # angstrom between pieces of a tube
_FAINT = 0.2  # of the median probability in the mask, where a tube may go on


def trace_filaments(
    mask: MaskArray,
    voxel_size_angstrom: tuple[float, float, float],
    limits: TracingLimits | None = None,
    probability: ProbabilityArray | Readable | None = None,
) -> list[Filament]:
    """Trace the filaments of a mask, and return them longest first.

    The branches of the skeleton are joined where two ends face each other, across a junction or a
    gap, the straightest and nearest first. The axis is then fitted to all voxels around it
    (`fitting.fit`), cut where it bends too much, and kept if it is long enough. For tubes the
    skeleton is that of the voxels near their axes, and `hollow.fit_tubes` fits the axis. Free ends
    of tubes go on where walls have a fifth of the usual probability (`pieces.grown`), and tubes
    that no face of the volume cuts are kept from twice the smallest length on.

    Args:
        mask: ``(z, y, x)``, True in filaments; of a `numpy.memmap`, what is as large is on disk.
        voxel_size_angstrom: voxel size along z, y, x.
        limits: limits of a filament; None for the default.
        probability: ``(z, y, x)`` weights of the voxels of the mask, for axes of subvoxel
            precision, and for tubes that go on outside it, which may stay on disk; None for equal
            weights.

    Returns:
        the axes, with voxel i at ``i * voxel_size``; none for an empty mask.

    Raises:
        ValueError: for shapes that differ or a voxel size that is not positive.

    >>> mask = np.zeros((9, 9, 60), bool); mask[3:6, 3:6, 5:55] = True
    >>> [round(f.length_angstrom, -1) for f in trace_filaments(mask, (10.0, 10.0, 10.0))]
    [500.0]
    """
    limits = limits or TracingLimits()
    mask, voxel_size = np.asanyarray(mask), check_voxel_size(voxel_size_angstrom)
    if probability is not None and np.shape(probability) != mask.shape:
        raise ValueError(
            f"probability has shape {np.shape(probability)}, the mask {mask.shape}: they must be "
            "of the same volume"
        )
    if not any(section.any() for section in sections(mask)):
        return []
    if limits.wall_radius_angstrom and (tubes := _tubes(mask, voxel_size, limits, probability)):
        return _long(tubes, limits)
    shape = mask.shape
    box, mask = _cropped(mask, limits.lumen_radius_angstrom, voxel_size)
    raw, mask = mask, closed(mask, limits.lumen_radius_angstrom, voxel_size)
    mask = _large_parts(mask, limits, voxel_size)
    paths = joined(
        branches(mask, voxel_size),
        mask,
        voxel_size,
        float(limits.maximum_gap_angstrom),
        float(limits.maximum_angle_degrees),
    )
    start, step = np.array([b.start for b in box], np.int32), float(np.mean(voxel_size))
    solid = _voxels(mask, probability, start)
    curves = [
        Filament.through(p + start * voxel_size, _scale(r, step, limits), radius_angstrom=r)
        for p, r in paths
    ]

    def fitted(curves: list[Filament], voxels: tuple[np.ndarray, np.ndarray]) -> list[Filament]:
        scales = [_scale(c.radius_angstrom, step, limits) for c in curves]
        found = fit(curves, *voxels, voxel_size, shape, scales, limits.round_ends)
        return [f for f in found if f is not None]

    for _ in range(2):
        curves = fitted(curves, solid)
    if any(any(c.at_border) for c in curves):  # at a face the first axes are aside
        for _ in range(2):
            curves = fitted(curves, solid)
    pieces = [_cut(c, _scale(c.radius_angstrom, step, limits), step, limits) for c in curves]
    if any(len(p) != 1 for p in pieces):
        curves = [p for part in pieces for p in part]
        for _ in range(2):
            curves = fitted(curves, solid)
    if limits.lumen_radius_angstrom > 0:  # what fills a lumen has hollow ends
        walls = fitted(curves, _voxels(_both(raw, mask), probability, start))
        if len(walls) == len(curves):
            sizes = [c.radius_angstrom for c in curves]
            pairs = zip(walls, sizes, strict=True)
            curves = [dataclasses.replace(w, radius_angstrom=r) for w, r in pairs]
    return _long(curves, limits)


def refit(
    filaments: Sequence[Filament],
    mask: MaskArray,
    voxel_size_angstrom: tuple[float, float, float],
    limits: TracingLimits | None = None,
) -> list[Filament | None]:
    """Fit the axes and ends of filaments again, to another mask of the same volume.

    Args:
        filaments: the filaments, from `trace_filaments`.
        mask: ``(z, y, x)``, True in filaments.
        voxel_size_angstrom: voxel size along z, y, x.
        limits: the limits with which they were traced.

    Returns:
        the fitted axes; None for a filament with almost no voxels in the mask.

    >>> mask = np.zeros((9, 9, 60), bool); mask[3:6, 3:6, 5:55] = True
    >>> found = trace_filaments(mask, (10.0, 10.0, 10.0))
    >>> mask[:, :, :15] = False
    >>> [round(f.length_angstrom, -1) for f in refit(found, mask, (10.0, 10.0, 10.0)) if f]
    [400.0]
    """
    limits, mask = limits or TracingLimits(), np.asarray(mask)
    voxel_size = check_voxel_size(voxel_size_angstrom)
    if limits.wall_radius_angstrom and all(f.hollow for f in filaments):
        wall = walls(mask, voxel_size)
        fitted = [_fit_tubes([f.at(f.arc_lengths_angstrom(20.0))], wall, voxel_size, limits)
                  for f in filaments]  # fmt: skip
        return [next(iter(f), None) for f in fitted]
    step, found = float(np.mean(voxel_size)), list(filaments)
    solid = _voxels(mask, None, np.zeros(3, np.int32))
    scales = [_scale(f.radius_angstrom, step, limits) for f in filaments]
    return fit(found, *solid, voxel_size, mask.shape, scales, limits.round_ends)


def _tubes(
    mask: np.ndarray,
    voxel_size: tuple,
    limits: TracingLimits,
    probability: ProbabilityArray | Readable | None,
) -> list[Filament]:
    """Return the axes of the tubes of a mask, of any length."""
    radius = float(limits.wall_radius_angstrom)
    box, near = _cropped(mask, 1.5 * radius, voxel_size)
    axes = tube_axes(near, radius, voxel_size)
    gap, largest = float(limits.maximum_gap_angstrom), float(limits.maximum_angle_degrees)
    paths = joined(branches(axes, voxel_size), axes, voxel_size, gap, largest)
    start = np.array([b.start for b in box]) * voxel_size
    parts = [
        part + start
        for path, _ in paths
        for part in stiff_parts(path, limits.scale_angstrom, 0.4 * radius)
    ]
    wall = walls(mask, voxel_size)
    found = _fit_tubes(parts, wall, voxel_size, limits)
    whole = collinear(found, _FARTHEST, radius / 2, 20.0)
    found = found if len(whole) == len(found) else _fit_tubes(whole, wall, voxel_size, limits)
    if probability is None or all(all(tube.at_border) for tube in found):
        return found
    level = _FAINT * np.median(values_of(probability, mask))
    faint = empty_like(mask)
    for z, (own, section) in enumerate(zip(sections(faint), sections(mask), strict=True)):
        own[:] = section | (np.asarray(probability[z : z + 1])[0] > level)
    scale, round_ends = limits.scale_angstrom, limits.round_ends
    return grown(found, walls(faint, voxel_size), radius, voxel_size, scale, round_ends)


def _fit_tubes(paths, wall, voxel_size, limits: TracingLimits) -> list[Filament]:
    radius, scale = limits.wall_radius_angstrom, limits.scale_angstrom
    return fit_tubes(paths, wall, radius, voxel_size, scale, limits.round_ends)


def _long(curves: list[Filament], limits: TracingLimits) -> list[Filament]:
    """Return the filaments that are long enough, longest first.

    A short tube that no face of the volume cuts is hardly one, since tubes are long.
    """
    least = limits.minimum_length_angstrom
    kept = [
        c
        for c in curves
        if c.length_angstrom >= (2 * least if c.hollow and not any(c.at_border) else least)
    ]
    return sorted(kept, key=lambda c: -c.length_angstrom)


def _voxels(
    mask: np.ndarray, probability: ProbabilityArray | Readable | None, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the voxels of a mask of a box, and their weights."""
    index = voxels(sections(mask))
    if probability is None:
        return index + start, np.ones(len(index), np.float32)
    return index + start, values_of(probability, mask, start.tolist())


def _both(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return where both masks are."""
    found = empty_like(one)
    for own, *parts in zip(sections(found), sections(one), sections(other), strict=True):
        own[:] = np.logical_and(*parts)
    return found


def _scale(radius: float, step: float, limits: TracingLimits) -> float:
    """Return the shortest wave of an axis that a tube can show and that its curvature allows.

    A bump smaller than a voxel, as noise and crossings make them, does not count as a bend.
    """
    return max(4 * radius, 8 * step, limits.scale_angstrom)


def _cut(curve: Filament, scale: float, step: float, limits: TracingLimits) -> list[Filament]:
    """Return the parts of a curve between sharp bends, without the bends themselves.

    A bend is the angle between the tangents at both ends of a stretch of this scale, to which noise
    does not add.
    """
    places = curve.arc_lengths_angstrom(step)
    before = np.maximum(places - scale / 2, 0.0)
    after = np.minimum(places + scale / 2, curve.length_angstrom)
    bend = np.radians(angle(curve.tangents(before), curve.tangents(after)))
    bent = 10 * bend / (after - before) > limits.maximum_curvature_per_nm
    if not bent.any():
        return [curve]
    number = np.cumsum(np.diff(bent.astype(int), prepend=int(bent[0])) != 0)
    parts = [places[(number == n) & ~bent] for n in np.unique(number[~bent])]
    return [
        Filament.through(curve.at(p), radius_angstrom=curve.radius_angstrom)
        for p in parts
        if len(p) > 3
    ]


def _cropped(mask: np.ndarray, lumen: float | int, voxel_size: tuple[float, float, float]):
    """Return the box around the mask with a margin, and the mask in it."""
    box = tuple(
        slice(max(s.start - margin, 0), min(s.stop + margin, size))
        for s, size, margin in (
            (s, size, int(np.ceil(lumen / v)) + 2)
            for s, size, v in zip(bounds(mask), mask.shape, voxel_size, strict=True)
        )
    )
    return box, mask[box]


def _large_parts(mask: np.ndarray, limits: TracingLimits, voxel_size: tuple) -> np.ndarray:
    """Return the mask without components of noise, too small to be a part of a filament."""
    shortest = limits.minimum_length_angstrom
    if limits.maximum_gap_angstrom:  # a part may be one of several
        shortest = min(shortest / 4, 4 * max(voxel_size))
    found = components(lambda z: np.asarray(mask[z]), (len(mask), *mask.shape[1:]))
    large = found.sizes * min(voxel_size) >= shortest
    large[0] = False
    kept = empty_like(mask)
    for z, part in found.mapped(large):
        kept[z] = part
        release(kept)
    return kept
