"""Fits the axes of hollow filaments to their walls, and finds their ends."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from numpy.polynomial import legendre

from cryojax_seg.measure.centreline import Filament, Points
from cryojax_seg.measure.local import copied, voxels_near
from cryojax_seg.measure.tube_axes import WALL

_LEAST = 0.3  # of the ring of a tube
_EMPTY = 0.2  # of what fills the ring may fill the lumen
_AZIMUTHS = np.linspace(0, 2 * np.pi, 24, endpoint=False)


def stiff_parts(path: Points, scale: float, tolerance: float) -> list[Points]:
    """Cut a path into parts that stiff curves fit, each where it turns most.

    Args:
        path: ``(n, 3)`` points in order.
        scale: the length on which a stiff curve may bend once more, see `fit_tubes`.
        tolerance: the largest distance of the path from the curve.

    >>> corner = np.array([[0.0, 0, i] for i in range(50)] + [[0.0, i, 50] for i in range(50)])
    >>> [len(p) for p in stiff_parts(corner, 1000.0, 5.0)]
    [50, 50]
    """
    if len(path) < 6 or np.linalg.norm(path - _stiff(path, scale), axis=1).max() <= tolerance:
        return [path]
    line = path[-1] - path[0]
    line = line / max(float(np.linalg.norm(line)), 1e-12)
    shift = path - path[0]
    away = np.linalg.norm(shift - (shift @ line)[:, None] * line, axis=1)
    turn = int(np.clip(np.argmax(away), 3, len(path) - 3))
    return [p for half in (path[:turn], path[turn:]) for p in stiff_parts(half, scale, tolerance)]


def fit_tubes(
    paths: Sequence[Points],
    mask: Bool[np.ndarray, "_z _y _x"],
    radius_angstrom: float | int,
    voxel_size: tuple[float, float, float],
    scale: float,
    round_ends: bool = False,
) -> list[Filament]:
    """Fit the axes of tubes to the voxels of their walls, and find their ends.

    An axis is a polynomial of the second degree, and of one more for each `scale` of its length.
    It moves until the wall is at one distance from it, in the sense of least squares, for which a
    part of the ring suffices, and never bends more than its class can. The longest path is the
    first, and each tube takes its wall, so that none is made of the walls of others. An axis ends
    where less than half of its usual ring is in the mask, or where it leaves the volume. What has
    no empty lumen is no tube, but lies between the walls of others or beside a bundle.

    Args:
        paths: for each tube points near its axis, in order.
        mask: ``(z, y, x)``, True in walls.
        radius_angstrom: about the radius of the middle of the wall.
        voxel_size: voxel size along z, y, x, in angstrom.
        scale: the smallest radius of curvature, and the length on which an axis may bend once more,
            in angstrom.
        round_ends: whether the mask contains all points within a distance of the middle of the
            wall, so that it extends beyond the ends by that distance.

    Returns:
        the axes, with the outer radius of the tube, without paths that have too little wall or
        something in their lumen.
    """
    left, step = copied(mask) if len(paths) > 1 else mask, float(np.mean(voxel_size))
    found = []
    for path in sorted(paths, key=len, reverse=True):
        axis, size, thickness = _resampled(_stiff(path, scale), step), float(radius_angstrom), 0.0
        for tolerance in (3 * WALL, 2 * WALL, 1.5 * WALL):
            moved = _moved(axis, size, left, tolerance, voxel_size, scale)
            if moved is None or abs(moved[1] / radius_angstrom - 1) > 0.25:
                break
            axis, size, thickness = _possible(moved[0], scale), moved[1], moved[2]
        else:
            tube = _ended(axis, size, thickness, left, voxel_size, round_ends)
            if tube is not None and _empty(tube, size, mask, voxel_size):
                found.append(tube)
                if left is not mask:
                    without(tube, left, voxel_size)
    return found


def without(
    tube: Filament, mask: Bool[np.ndarray, "_z _y _x"], voxel_size: tuple[float, float, float]
) -> None:
    """Remove the wall of a tube from a mask, in place.

    >>> wall = np.ones((3, 9, 9), bool)
    >>> line = np.array([[10.0, 10, 0], [10, 10, 40], [10, 10, 80]])
    >>> without(Filament.through(line, radius_angstrom=15.0), wall, (10.0, 10.0, 10.0))
    >>> wall[1, :, 4].tolist()
    [False, False, False, False, False, True, True, True, True]
    """
    step = float(np.mean(voxel_size))
    line = tube.at(tube.arc_lengths_angstrom(step))
    # A wall is rough by two steps.
    index = voxels_near(mask, line, tube.radius_angstrom + 2 * step, voxel_size)[0]
    mask[tuple(index.T)] = False


def _moved(axis: Points, size: float, mask, tolerance: float, voxel_size, scale: float):
    """Return the axis, radius and thickness that fit the voxels of a wall; None for too few."""
    step = float(np.mean(voxel_size))
    _, points, place = voxels_near(mask, axis, size + tolerance + step, voxel_size)
    along, sides = _frames(axis)
    shift = points - axis[place]
    ahead = (shift * along[place]).sum(1)
    across = (sides[place] * shift[:, None]).sum(2)
    distance = np.linalg.norm(across, axis=1)
    wall = (np.abs(distance - size) <= tolerance) & (np.abs(ahead) <= step)
    if wall.sum() < 50:
        return None
    place, distance, outwards = place[wall], distance[wall], across[wall] / distance[wall, None]
    basis = legendre.legvander(np.linspace(-1, 1, len(axis)), _degree(len(axis) * step, scale))
    design = (basis[place][:, :, None] * outwards[:, None]).reshape(len(place), -1)
    design = np.concatenate([design, np.ones((len(place), 1))], 1)
    change = np.linalg.solve(
        design.T @ design + 1e-6 * len(place) * np.eye(design.shape[1]),
        design.T @ (distance - size),
    )
    left = distance - size - design @ change
    moves = basis @ change[:-1].reshape(-1, 2)
    axis = _resampled(axis + (moves[:, :, None] * sides).sum(1), step)
    return axis, size + float(change[-1]), float(np.sqrt(12) * np.std(left))


def _ended(axis, size, thickness, mask, voxel_size, round_ends) -> Filament | None:
    """Return the part of an axis, or of its straight continuation, with a wall around it."""
    step, more = float(np.mean(voxel_size)), int(2 * size / np.mean(voxel_size))
    along, ahead = _frames(axis)[0], step * np.arange(1, more + 1)[:, None]
    line = np.concatenate([axis[0] - ahead[::-1] * along[0], axis, axis[-1] + ahead * along[-1]])
    ring, inside = _ring(line, _sizes(size), mask, voxel_size)
    core = slice(more, len(line) - more)
    if not (ring[core] * inside[core]).any():
        return None
    half = 0.5 * float(np.median(ring[core][inside[core] & (ring[core] > 0)]))
    if half < _LEAST / 2:
        return None
    full = inside & (ring >= half)
    first = _end(line, ring, full, inside, more, half)
    last = _end(line[::-1], ring[::-1], full[::-1], inside[::-1], more, half)
    if first is None or last is None or first[0] + last[0] > len(line) - 4:
        return None
    kept = slice(first[0], len(line) - last[0])
    found = np.concatenate([first[1][None], line[kept], last[1][None]])
    if round_ends:  # the mask goes on by half of the thickness of the wall
        for end, inner, (_, _, cut) in ((0, 1, first), (-1, -2, last)):
            if not cut:
                way = found[end] - found[min(3, len(found) - 1) if inner > 0 else -4]
                found[end] -= thickness / 2 * way / np.linalg.norm(way)
        away = (found - found[0]) @ (found[-1] - found[0])
        beyond = (away > 0) & (away < away[-1])
        found = np.concatenate([found[:1], found[beyond], found[-1:]])
    grid = found[[0, -1]] / np.asarray(voxel_size)
    near = np.any((grid < 1) | (grid > np.asarray(mask.shape) - 2), axis=1)
    border = bool(near[0] or first[2]), bool(near[1] or last[2])
    covered = float(full[kept].mean())
    outer = size + thickness / 2
    return Filament.through(
        found, radius_angstrom=outer, covered=covered, at_border=border, hollow=True
    )


def _end(line, ring, full, inside, start: int, half: float) -> tuple[int, np.ndarray, bool] | None:
    """Return the first full place of a line, its end, and whether it leaves the volume there."""
    k = start
    while k < len(line) and not full[k]:
        k += 1
    if k == len(line):
        return None
    while k > 0 and full[k - 1]:
        k -= 1
    if k == 0:
        return 0, line[0], False
    if not inside[k - 1]:
        return k, (line[k] + line[k - 1]) / 2, True
    share = (ring[k] - half) / max(ring[k] - ring[k - 1], 1e-9)
    return k, line[k] + min(float(share), 1.0) * (line[k - 1] - line[k]), False


def _empty(tube: Filament, size: float, mask, voxel_size) -> bool:
    """Return whether the middle of the lumen is empty, compared with the wall."""
    line = tube.at(tube.arc_lengths_angstrom(float(np.mean(voxel_size))))
    inner = np.array([0.1, 0.2, 0.3, 0.4]) * size
    filled = [_ring(line, sizes, mask, voxel_size) for sizes in (inner, _sizes(size))]
    lumen, wall = (float(share[inside].mean()) if inside.any() else 0.0 for share, inside in filled)
    return lumen <= _EMPTY * wall


def _sizes(size: float) -> np.ndarray:
    return size + np.array([-0.5, 0.0, 0.5]) * WALL


def _ring(line: Points, sizes: np.ndarray, mask, voxel_size) -> tuple[np.ndarray, np.ndarray]:
    """Return for places of a line the filled part of its rings, and whether they are inside.

    Of the rings only what is in the volume counts.
    """
    sides = _frames(line)[1]
    ways = np.stack([np.cos(_AZIMUTHS), np.sin(_AZIMUTHS)], 1) @ sides  # places, azimuths, 3
    points = line[:, None, None] + sizes[:, None, None] * ways[:, None]
    index = np.rint(points / np.asarray(voxel_size)).astype(int)
    shape = np.asarray(mask.shape)
    there = ((index >= 0) & (index < shape)).all(-1)
    filled = mask[tuple(np.moveaxis(np.clip(index, 0, shape - 1), -1, 0))] & there
    count = there.sum((1, 2))
    grid = line / np.asarray(voxel_size)
    inside = ((grid >= -0.5) & (grid <= shape - 0.5)).all(1)
    return filled.sum((1, 2)) / np.maximum(count, 1), inside & (count > 0)


def _stiff(path: Points, scale: float) -> Points:
    """Return points of the stiff curve that is nearest to the points of a path."""
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    u = np.concatenate([[0.0], np.cumsum(steps)])
    u, length = 2 * u / u[-1] - 1, float(u[-1])
    degree = min(_degree(length, scale), max(len(path) // 3, 1))
    return _possible(legendre.legval(u, legendre.legfit(u, path, degree)).T, scale)


def _possible(line: Points, scale: float) -> Points:
    """Return a line whose bends are reduced to an arc of the smallest radius of curvature.

    The noise of a short piece bends its best curve far more than the tube can.
    """
    if len(line) < 3:
        return line
    along = np.diff(line, axis=0)
    steps = np.linalg.norm(along, axis=1)
    along = along[steps > 0] / steps[steps > 0, None]
    turn = float(np.linalg.norm(np.diff(along, axis=0), axis=1).sum())
    share = min(1.0, float(steps.sum()) / scale / max(turn, 1e-9))
    middle = line.mean(0)
    way = np.linalg.svd(line - middle, full_matrices=False)[2][0]
    straight = middle + ((line - middle) @ way)[:, None] * way
    return straight + share * (line - straight)


def _degree(length: float, scale: float) -> int:
    return 2 + int(length / scale)


def _resampled(line: Points, step: float) -> Points:
    """Return points of a line at equal distances, about a step."""
    curve = Filament.through(line)
    return curve.at(curve.arc_lengths_angstrom(step))


def _frames(line: Points) -> tuple[np.ndarray, np.ndarray]:
    """Return the tangents of a line, and two directions across it at each of its points."""
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = np.cross(along, np.eye(3)[np.argmin(np.abs(along.mean(0)))])
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    return along, np.stack([side, np.cross(along, side)], 1)
