"""Fits the axes of filaments to the middle of a mask, from end to end."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from cryojax_seg.measure.centreline import Filament, Points, smoothing_spline

_VOXELS = 2**18  # whose nearest curve is looked for at a time


def fit(
    curves: Sequence[Filament],
    index: Int[np.ndarray, "_n 3"],
    weights: Float[np.ndarray, "_n"],
    voxel_size: tuple[float, float, float],
    shape: tuple[int, ...],
    scales: Sequence[float],
    round_ends: bool = False,
) -> list[Filament | None]:
    """Move curves into the middle of a mask and to its ends.

    Every voxel belongs to the nearest curve unless it is far outside its tube. Along a curve the
    voxels are averaged in pieces about a voxel long, as for principal curves (Hastie & Stuetzle,
    JASA 84, 502, 1989); a smoothing spline goes through the averages. Where the axis bends, the
    outer half of the tube has more voxels than the inner one: each is weighted by
    ``1 / (1 - bend . offset)``, without which a bent tube is measured a part
    ``(curvature * radius)^2 / 4`` too long. The axis ends where the cross-section of the mask falls
    to half of its value nearby, or where it leaves the volume. A cross-section that a face of the
    volume cuts says too little about the axis, and the spline goes straight on from where it is
    whole; its area is compared with the part that is in the volume. Where a filament runs through
    the tube of another, voxels say nothing about its axis either.

    Args:
        curves: for each filament a curve near its axis.
        index: ``(n, 3)`` indices of the voxels of the mask, of which voxel i is at
            ``i * voxel_size``.
        weights: ``(n,)`` weights of the voxels, 1 or their probabilities.
        voxel_size: voxel size along z, y, x, in angstrom.
        shape: shape of the volume.
        scales: for each curve the shortest wave that is kept, in angstrom.
        round_ends: whether the mask contains all points within a radius of the axis, so that the
            half ball at each end is not part of the length.

        Returns:
            the fitted axes; None for a curve with too few voxels.
    """
    if not curves or not len(index):
        return [None for _ in curves]
    step = float(np.mean(voxel_size))
    places = [c.arc_lengths_angstrom(step / 2) for c in curves]
    owner = np.repeat(np.arange(len(curves), dtype=np.int32), [len(p) for p in places])
    rank = np.concatenate([np.arange(len(p)) for p in places])
    tree = KDTree(np.concatenate([c.at(p) for c, p in zip(curves, places, strict=True)]))
    distance, nearest = np.empty(len(index)), np.empty(len(index), np.int32)
    for begin in range(0, len(index), _VOXELS):
        part = slice(begin, begin + _VOXELS)
        distance[part], nearest[part] = tree.query(index[part] * np.asarray(voxel_size))
    crossed = _crossed(curves, step)
    order = np.argsort(owner[nearest], kind="stable")
    bounds = np.searchsorted(owner[nearest][order], np.arange(len(curves) + 1))
    found = []
    for number, curve in enumerate(curves):
        mine = order[bounds[number] : bounds[number + 1]]
        mine = mine[distance[mine] <= _outer_radius(curve, distance[mine], step)]
        where = rank[nearest[mine]]
        if len(mine) < 4:
            found.append(None)
            continue
        points = index[mine] * np.asarray(voxel_size)
        line = _profile(curve, places[number], where, points, weights[mine], voxel_size)
        scale = scales[number]
        seen = _seen(curve, line, voxel_size, shape)
        found.append(_moved(line, seen, crossed[number], voxel_size, shape, scale, round_ends))
    return found


def _crossed(curves: Sequence[Filament], step: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each curve positions along it, and 1 where it runs through the tube of another."""
    places = [c.arc_lengths_angstrom(max(c.radius_angstrom, step)) for c in curves]
    samples = np.concatenate([c.at(p) for c, p in zip(curves, places, strict=True)])
    owner = np.repeat(np.arange(len(curves)), [len(p) for p in places])
    radius = np.array([max(c.radius_angstrom, step) for c in curves])
    distance, nearest = KDTree(samples).query(samples, min(8, len(samples)))
    distance, nearest = np.atleast_2d(distance.T).T, np.atleast_2d(nearest.T).T
    other = owner[nearest] != owner[:, None]
    size = np.maximum(radius[owner[nearest]], radius[owner][:, None])
    close = (other & (distance < 1.2 * size)).any(1)
    return [(p, close[owner == n].astype(float)) for n, p in enumerate(places)]


def _outer_radius(curve: Filament, distance: np.ndarray, step: float) -> float:
    """Return the largest distance from its axis at which voxels belong to a filament."""
    if curve.radius_angstrom:
        return 1.5 * curve.radius_angstrom + step
    return 1.5 * float(np.median(distance)) / 0.7 + step if len(distance) else step


class _Profile(NamedTuple):
    """Describes a mask along a curve, in consecutive pieces a voxel long."""

    low: float  # the middle of the first piece
    area: np.ndarray  # of the cross-section, angstrom squared, of all pieces
    filled: np.ndarray  # which pieces have any of the mask
    centres: Points  # of those: the average of their voxels
    middle: np.ndarray  # of those: their average place along the curve, which may tie

    @property
    def typical(self) -> float:
        return float(np.median(self.area[self.filled]))


def _profile(curve, places, where, points, weights, voxel_size) -> _Profile:
    step = float(np.mean(voxel_size))
    offset = points - curve.at(places[where])
    along = places[where] + (offset * curve.tangents(places[where])).sum(1)
    stretch = 1 - (offset * curve.curvature_vectors_per_angstrom(places[where])).sum(1)
    weights = weights / np.clip(stretch, 0.3, 3.0)
    low = float(along.min())
    piece = np.floor((along - low) / step).astype(int)
    part = (along - low) / step - piece  # a voxel is shared by the two nearest pieces
    pieces, shares = np.concatenate([piece, piece + 1]), np.concatenate([1 - part, part])
    shares = shares * np.tile(weights, 2)
    total = np.bincount(pieces, shares)
    filled = np.flatnonzero(total > 1e-9)
    sums = [
        np.bincount(pieces, shares * np.tile(v, 2))[filled] / total[filled]
        for v in (*points.T, along)
    ]
    area = total * float(np.prod(voxel_size)) / step
    return _Profile(low, area, filled, np.stack(sums[:3], 1), sums[3])


def _seen(curve: Filament, profile: _Profile, voxel_size, shape) -> np.ndarray:
    """Return for each piece the part of its cross-section in the volume, 0 if its axis is not."""
    step, length = float(np.mean(voxel_size)), curve.length_angstrom
    places = profile.low + step * np.arange(len(profile.area))
    on = np.clip(places, 0.0, length)
    along = curve.tangents(on)
    axis = curve.at(on) + (places - on)[:, None] * along
    side = np.cross(along, np.eye(3)[np.argmin(np.abs(along.mean(0)))])
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    sides = np.stack([side, np.cross(along, side)], 1)
    angle = np.arange(24) * np.pi * (3 - np.sqrt(5))  # a sunflower covers a disc evenly
    spread = np.sqrt((np.arange(24) + 0.5) / 24) * np.sqrt(profile.typical / np.pi)
    disc = (spread * np.stack([np.cos(angle), np.sin(angle)])).T @ sides
    limit = np.asarray(shape) - 0.5

    def inside(points: np.ndarray):
        grid = points / np.asarray(voxel_size)
        return np.all((grid >= -0.5) & (grid <= limit), axis=-1)

    return inside(axis[:, None] + disc).mean(1) * inside(axis)


def _moved(
    profile: _Profile, seen, crossed, voxel_size, shape, scale, round_ends
) -> Filament | None:
    """Return the axis that fits a profile."""
    low, area, filled, centres, middle = profile
    step = float(np.mean(voxel_size))
    whole = seen > 0.99
    whole = whole if (whole[filled]).sum() >= 4 else np.ones(len(area), bool)
    typical = float(np.median(area[filled][whole[filled]]))
    radius = float(np.sqrt(typical / np.pi))
    inset = radius / np.sqrt(2) if round_ends else 0.0  # half of the cross-section of a ball
    if not whole.all() and (seen > 0).any():
        area = np.where(seen > 0, area / np.maximum(seen, 0.3), 0.0)
    first, last = (low + e * step for e in _ends(area, typical, radius, step))
    cut = (
        _leaves(seen, (first - low) / step),
        _leaves(seen[::-1], len(seen) - 1 - (last - low) / step),
    )
    first, last = first + inset * (not cut[0]), last - inset * (not cut[1])
    # Pieces that the end cuts, or that only scattered voxels fill, have their average aside.
    inside = np.asarray((middle > first) & (middle < last) & (area[filled] > typical / 3))
    alone = inside & (np.interp(middle, *crossed) < 0.5)
    inside = alone if alone.sum() > max(inside.sum() / 2, 4) else inside
    inside = uncut if (uncut := inside & whole[filled]).sum() > 3 else inside
    centres, middle = centres[inside], middle[inside]
    if len(middle) < 3 or last - first < 2 * step:
        return None
    noise = max(_noise(centres, middle, step), 0.05 * step)
    tips = _tips(centres, middle, (first, last), max(2 * radius, 6 * step))
    inner = (middle > first + 0.2 * step) & (middle < last - 0.2 * step)
    # Straight on over the rest, in which no average holds the spline.
    points = np.concatenate([tips[:1], centres[inner], tips[1:]])
    u = np.concatenate([[first], middle[inner], [last]]) - first
    ahead = np.concatenate([[True], np.diff(np.maximum.accumulate(u)) > 1e-3 * step])
    if ahead.sum() < 3:
        return None
    spline = smoothing_spline(points[ahead], u[ahead], noise, scale)
    at = low + step * np.arange(len(area))
    full = np.asarray((area > typical / 3) | (np.interp(at, *crossed) >= 0.5))
    there = full[np.flatnonzero((at > first) & (at < last))]
    grid = tips / np.asarray(voxel_size)  # half of a tube is cut off where its axis leaves
    edge = np.any((grid < 1) | (grid > np.asarray(shape) - 2), axis=1)
    border = bool(edge.item(0)) or cut[0], bool(edge.item(1)) or cut[1]
    return Filament(spline, radius, float(there.mean()), border)


def _leaves(seen: np.ndarray, end: float) -> bool:
    """Return whether the axis leaves the volume within a piece before its end."""
    before = seen[max(int(np.floor(end)) - 1, 0) : int(np.floor(end)) + 1]
    return bool((before == 0).any() and (seen > 0).any())


def _ends(area: np.ndarray, typical: float, radius: float, step: float) -> tuple[float, float]:
    """Return where the cross-section falls to half of that nearby, in pieces from the first middle.

    The cross-section of a piece is that at its middle, with linear interpolation between middles.
    """
    width, ends = max(round(3 * radius / step), 3), []
    for profile in (area, area[::-1]):
        begin = int(np.argmax(profile >= 0.5 * typical))
        # Nothing but specks there: then the cross-section of the whole filament is what counts.
        plateau = float(np.median(profile[begin : begin + width])) or typical
        k = int(np.argmax(profile >= 0.5 * plateau))
        before, here = (profile[k - 1] if k else 0.0) / plateau, min(profile[k] / plateau, 1.0)
        ends.append(k - 1 + (0.5 - before) / (here - before))
    return ends[0], len(area) - 1 - ends[1]


def _noise(centres: Points, middle: np.ndarray, step: float) -> float:
    """Return the standard deviation of averages in one direction, from third differences."""
    third = np.diff(centres, 3, axis=0)
    whole = middle[3:] - middle[:-3] < 4.5 * step
    if not whole.any():
        return 0.0
    square = (third[whole] ** 2).sum(1)
    # Of independent averages their variance is 20 times as large; neighbours share voxels and have
    # a correlation of 1/4. The median of a chi square of two directions is 2 log 2.
    return float(np.sqrt(np.median(square) / (12.5 * 2 * np.log(2))))


def _tips(
    centres: Points, middle: np.ndarray, ends: tuple[float, float], distance: float
) -> Points:
    """Return the ends of the axis, on lines through the averages near them."""
    found = []
    for end in ends:
        closest = float(np.abs(middle - end).min())
        near = np.abs(middle - end) <= distance + closest
        if near.sum() < 3:
            near = np.argsort(np.abs(middle - end))[:3]
        x, y = middle[near], centres[near]
        slope = ((x - x.mean())[:, None] * (y - y.mean(0))).sum(0) / ((x - x.mean()) ** 2).sum()
        found.append(y.mean(0) + slope * (end - x.mean()))
    return np.array(found)
