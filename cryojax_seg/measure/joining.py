"""Joins branches of a skeleton to filaments, across junctions and gaps."""

import numpy as np
from jaxtyping import Bool
from scipy.spatial import KDTree

from cryojax_seg.measure.skeleton import Branch


def joined(
    parts: list[Branch],
    mask: Bool[np.ndarray, "_z _y _x"],
    voxel_size: tuple[float, float, float],
    maximum_gap: float,
    maximum_angle: float,
) -> list[tuple[np.ndarray, float]]:
    """Join branches end to end, and return the points of each path and its radius.

    The cost of a pair of ends has two terms: the square of its angle over the largest allowed
    angle, and the length of the line between the ends outside the mask over the largest allowed
    gap. The angle is the largest between the two ends and that line. The cheapest pairs are joined
    first, each end once, and no path to itself. At a junction, where no gap is crossed, the
    straightest pairs are joined whatever their angle: the curvature of the axis decides later where
    a filament is cut.

    Args:
        parts: the branches, from `skeleton.branches`.
        mask: the mask whose skeleton they are.
        voxel_size: voxel size along z, y, x.
        maximum_gap: the largest length outside the mask that is bridged, in the unit of
            `voxel_size`.
        maximum_angle: the largest angle at which a gap is bridged, in degrees.

    >>> from cryojax_seg.measure.skeleton import branches
    >>> mask = np.zeros((3, 3, 30), bool); mask[1, 1, :12] = mask[1, 1, 16:] = True
    >>> parts = branches(mask, (1.0, 1.0, 1.0))
    >>> [len(joined(parts, mask, (1.0, 1.0, 1.0), gap, 40.0)) for gap in (2.0, 6.0)]
    [2, 1]
    """
    if not parts:
        return []
    ends = np.array([p.points[i] for p in parts for i in (0, -1)])
    slack = np.array([s for p in parts for s in p.slack])
    junction = np.array([j for p in parts for j in p.junction])
    radius = np.repeat([p.radius for p in parts], 2)
    outward = np.array([_outward(p, last) for p in parts for last in (False, True)])
    # Filaments that cross at 20 degrees share their mask for some six radii.
    farthest = maximum_gap + 2 * slack.max() + 6 * radius.max()
    pairs = KDTree(ends).query_pairs(farthest, output_type="ndarray")
    pairs = pairs[pairs[:, 0] // 2 != pairs[:, 1] // 2]
    a, b = pairs[:, 0], pairs[:, 1]
    line = ends[b] - ends[a]
    bend = angle(outward[a], -outward[b])
    for end, shift in ((a, line), (b, -line)):
        along = (shift * outward[end]).sum(1)
        aside = np.linalg.norm(shift - along[:, None] * outward[end], axis=1)
        # An end is as exact as the skeleton: within half the radius it may be aside.
        aside = np.maximum(aside - 0.5 * np.maximum(radius[a], radius[b]), 0.0)
        bend = np.maximum(bend, np.degrees(np.arctan2(aside, np.maximum(along, 0.0))))
    distance = np.linalg.norm(line, axis=1)
    gap = distance * _outside(ends[a], ends[b], mask, voxel_size)
    met = junction[a] & junction[b] & (distance <= slack[a] + slack[b] + max(voxel_size))
    allowed = bend <= np.where(met, 90.0, maximum_angle)
    allowed &= gap <= np.where(met, np.inf, maximum_gap)
    cost = (bend / maximum_angle) ** 2 + distance / farthest
    cost = cost + gap / max(maximum_gap, 1e-9)
    partner: dict[int, int] = {}
    path_of = list(range(len(parts)))
    for k in np.argsort(cost, kind="stable"):
        i, j = int(a[k]), int(b[k])
        one, other = path_of[i // 2], path_of[j // 2]
        if not allowed[k] or i in partner or j in partner or one == other:
            continue
        partner[i], partner[j] = j, i
        path_of = [one if p == other else p for p in path_of]
    return _chains(parts, partner)


def _outside(one: np.ndarray, other: np.ndarray, mask: np.ndarray, voxel_size) -> np.ndarray:
    """Return for pairs of points the share of the line between them that is outside the mask."""
    inside = np.zeros(len(one))
    shares = np.linspace(0, 1, 33)
    for share in shares:
        index = np.rint(((1 - share) * one + share * other) / voxel_size).astype(int)
        inside += mask[tuple(index.T)]
    return 1 - inside / len(shares)


def _chains(parts: list[Branch], partner: dict[int, int]) -> list[tuple[np.ndarray, float]]:
    chains, used = [], set()
    for start in range(2 * len(parts)):
        if start in partner or start // 2 in used:
            continue
        points, end, sizes = [], start, []
        while True:
            branch = parts[end // 2]
            used.add(end // 2)
            points.append(branch.points[::-1] if end % 2 else branch.points)
            sizes.append((branch.radius, len(branch.points)))
            if end ^ 1 not in partner:
                break
            end = partner[end ^ 1]
        radius = np.average([r for r, _ in sizes], weights=[n for _, n in sizes])
        chains.append((np.concatenate(points), float(radius)))
    return chains


def _outward(branch: Branch, last: bool) -> np.ndarray:
    """Return the outward direction of a branch at one end, from about two radii of its length."""
    points = branch.points if last else branch.points[::-1]
    away = np.linalg.norm(points - points[-1], axis=1)
    far = np.flatnonzero(away > 2 * branch.radius)
    near = points[far[-1] if len(far) else 0 :]
    near = near if len(near) > 2 else points[-3:]
    x = np.linspace(-1, 1, len(near))
    slope = (x[:, None] * (near - near.mean(0))).sum(0)
    return slope / max(np.linalg.norm(slope), 1e-12)


def angle(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the angle between unit vectors, in degrees."""
    return np.degrees(np.arccos(np.clip((one * other).sum(1), -1, 1)))
