"""Completes tubes from the pieces that a segmenter draws: in one line, or by a fainter wall."""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from scipy.spatial import KDTree

from cryojax_seg.measure.centreline import Filament, Points
from cryojax_seg.measure.hollow import fit_tubes, without
from cryojax_seg.measure.local import copied

_ROUNDS = 12  # of growth, each by up to two radii


def collinear(
    tubes: Sequence[Filament], farthest: float | int, aside: float | int, spacing: float | int
) -> list[Points]:
    """Join tubes of which one is the straight continuation of the other, and return their points.

    What a segmenter draws of a stiff tube are pieces in one line. Two pieces belong together if
    their ends face each other, no farther apart than the limit and at most 20 degrees off the line,
    and if the shorter piece lies all along the straight continuation of the longer one. The nearest
    ends are joined first, each end once. Ends where a face cuts a tube are left alone.

    Args:
        tubes: the pieces.
        farthest: the largest gap.
        aside: the largest distance from the straight continuation.
        spacing: the distance between the points that are returned.

    >>> def piece(*x): return Filament.through(np.array([[0.0, 0, v] for v in x]))
    >>> parts = [piece(0, 500, 1000), piece(1300, 1500), piece(1300, 2500)]
    >>> [len(path) for path in collinear(parts[:2], 400.0, 50.0, 100.0)]
    [14]
    >>> [len(path) for path in collinear(parts[::2], 200.0, 50.0, 100.0)]
    [11, 13]
    """
    lines = [tube.at(tube.arc_lengths_angstrom(float(spacing))) for tube in tubes]
    pairs = []
    for i, j in itertools.combinations(range(len(tubes)), 2):
        for a, b in itertools.product((0, 1), repeat=2):
            if tubes[i].at_border[a] or tubes[j].at_border[b]:
                continue
            one, other = lines[i][:: 1 if a else -1], lines[j][:: -1 if b else 1]
            gap = float(np.linalg.norm(other[0] - one[-1]))
            if gap <= farthest and _straight_on(one, other, float(aside)):
                pairs.append((gap, (i, a), (j, b)))
    partner: dict[tuple[int, int], tuple[int, int]] = {}
    chain = list(range(len(tubes)))
    for _, one, other in sorted(pairs):
        if one in partner or other in partner or chain[one[0]] == chain[other[0]]:
            continue
        partner[one], partner[other] = other, one
        old, new = chain[other[0]], chain[one[0]]
        chain = [new if c == old else c for c in chain]
    paths, used = [], set()
    for start in itertools.product(range(len(tubes)), (0, 1)):
        if start in partner or start[0] in used:
            continue
        parts, end = [], start
        while True:
            used.add(end[0])
            parts.append(lines[end[0]][:: -1 if end[1] else 1])
            end = (end[0], 1 - end[1])
            if end not in partner:
                break
            end = partner[end]
        paths.append(np.concatenate(parts))
    return paths


def _straight_on(one: Points, other: Points, aside: float) -> bool:
    """Return whether `other` begins where the straight continuation of `one` goes on.

    The longer of both is continued, so that errors of short pieces do not count.
    """
    if len(one) < len(other):
        one, other = other[::-1], one[::-1]
    way = one[-1] - one[max(0, len(one) - 1 - len(one) // 2)]
    way = way / max(float(np.linalg.norm(way)), 1e-9)
    shift = other - one[-1]
    ahead = shift @ way
    off = np.linalg.norm(shift - ahead[:, None] * way, axis=1)
    along = (other[-1] - other[0]) @ way / max(float(np.linalg.norm(other[-1] - other[0])), 1e-9)
    return bool(ahead[0] > -aside and along > np.cos(np.radians(20)) and off.max() <= aside)


def grown(
    tubes: Sequence[Filament],
    wall: Bool[np.ndarray, "_z _y _x"],
    radius_angstrom: float | int,
    voxel_size: tuple[float, float, float],
    scale: float,
    round_ends: bool = False,
) -> list[Filament]:
    """Continue tubes from their free ends, as long as a fainter wall goes on around them.

    An axis is fitted again to the fainter wall, and again from where it then ends. Tubes that go
    from face to face are left alone, and their walls taken away first. Then comes the longest one.
    A piece that lies on the axis of another is a part of it.

    Args:
        tubes: the tubes, from `fit_tubes`.
        wall: ``(z, y, x)``, True in walls and where they are probable.
        radius_angstrom, voxel_size, scale, round_ends: as in `fit_tubes`.

    Returns:
        the tubes; `covered` is the share of their length with a probable wall.
    """
    kept = [tube for tube in tubes if all(tube.at_border)]
    wall, step = copied(wall), float(np.mean(voxel_size))
    for tube in kept:
        without(tube, wall, voxel_size)
    free = [tube for tube in tubes if not all(tube.at_border)]
    for tube in sorted(free, key=lambda one: -one.length_angstrom):
        if any(_within(tube, other, float(radius_angstrom)) for other in kept):
            continue
        for _ in range(_ROUNDS):
            path = tube.at(tube.arc_lengths_angstrom(2 * step))
            found = fit_tubes([path], wall, radius_angstrom, voxel_size, scale, round_ends)
            if not found or found[0].length_angstrom < tube.length_angstrom + step:
                break
            tube = found[0]
        kept.append(tube)
        without(tube, wall, voxel_size)
    return kept


def _within(tube: Filament, other: Filament, aside: float) -> bool:
    """Return whether most of a tube lies on the axis of another one."""
    spacing = aside / 4
    line = other.at(other.arc_lengths_angstrom(spacing))
    away = np.asarray(KDTree(line).query(tube.at(tube.arc_lengths_angstrom(spacing)))[0])
    return bool((away < aside).mean() > 0.5)
