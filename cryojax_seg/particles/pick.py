"""Picks particles from maps of scores or probabilities, and selects them by compartment."""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.spatial import KDTree

from cryojax_seg.core.masks import (
    depth_basins,
    depth_in_mask,
    distances_to_mask,
    points_in_mask,
)
from cryojax_seg.core.particles import Particles
from cryojax_seg.core.types import Array


def pick_peaks(
    scores: Float[Array, "z y x"],
    diameter: float | int,
    threshold: float | int,
    mask: Bool[Array, "z y x"] | None = None,
) -> Particles:
    """Pick the highest peaks that are at least a diameter apart, by non-maximum suppression.

    The peaks are local maxima above the threshold, by descending score; each suppresses those
    within a diameter of it. A higher threshold gives the same picks without the lower ones, so that
    one run at a low threshold suffices to choose one. A maximum of one voxel is refined to a
    fraction of a voxel by a parabola through the neighbours along each axis; a plateau of equal
    values counts once, at its middle.

    Args:
        scores: probabilities of one class, or the scores of `match_template`.
        diameter: diameter of the particle, in voxels.
        threshold: lowest score.
        mask: where the peaks may be; everywhere by default.

        Returns:
            particles by descending score; none if there is no peak.

    Raises:
        ValueError: if the diameter is not positive, or the threshold is not a number.

    >>> scores = np.zeros((5, 5, 9), np.float32); scores[2, 2, [2, 4, 7]] = 0.6, 0.9, 0.8
    >>> pick_peaks(scores, 2.5, 0.5).coordinates.tolist()
    [[2.0, 2.0, 4.0], [2.0, 2.0, 7.0]]
    """
    check_size(diameter, threshold)
    values = finite(scores)
    voxels, middles = tops(values, threshold, mask)
    kept = separated(middles, diameter)
    voxels, middles = voxels[kept], middles[kept]
    return Particles(refined(values, voxels, middles), scores=values[tuple(voxels.T)])


def tops(
    values: np.ndarray, threshold: float | int, mask: Bool[Array, "_z _y _x"] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the local maxima of float32 ``(z, y, x)``, with connected voxels of one value as one.

    Returns:
        for each maximum the voxel nearest to its middle, and its middle, ``(n, 3)`` both; by
        descending value, and in the order of the volume for equal values.
    """
    from skimage.morphology import local_maxima

    # The faces of the volume are lower than anything: a constant volume is one top.
    padded = np.pad(values, 1, constant_values=-np.inf)
    found = np.asarray(local_maxima(padded, connectivity=3))[1:-1, 1:-1, 1:-1]
    found = found & (values >= threshold)
    if mask is not None:
        found &= np.asarray(mask)
    numbers, count = ndimage.label(found, np.ones((3, 3, 3)))  # pyright: ignore

    where = np.argwhere(found)
    owner = numbers[found].astype(int) - 1
    size = np.bincount(owner, minlength=count)
    sums = [np.bincount(owner, where[:, axis], count) for axis in range(3)]
    middles = np.stack(sums, -1) / np.maximum(size, 1)[:, None]
    away = np.square(where - middles[owner]).sum(1)
    nearest = np.lexsort((away, owner))[np.cumsum(size) - size]
    voxels = where[nearest]
    order = np.argsort(-values[tuple(voxels.T)], kind="stable")
    return voxels[order], middles[order]


def refined(values: np.ndarray, voxels: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """Return the middles of maxima, with those of one voxel moved to the top of a parabola."""
    single = np.all(voxels == middles, 1)[:, None]
    return middles + np.where(single, _fractions(values, voxels), 0.0)


def separated(points: np.ndarray, diameter: float | int) -> np.ndarray:
    """Return the indices of points to keep, each at least a diameter from all kept before it."""
    if not len(points):
        return np.zeros(0, int)
    tree = KDTree(points)
    gone = np.zeros(len(points), bool)
    kept = []
    for number, point in enumerate(points):
        if not gone[number]:
            kept.append(number)
            gone[tree.query_ball_point(point, diameter * (1 - 1e-9))] = True
    return np.array(kept)


def _fractions(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return the top of the parabola through three neighbours, within half a voxel."""
    result = np.zeros(where.shape)
    for axis in range(3):
        low, high = where.copy(), where.copy()
        low[:, axis] -= 1
        high[:, axis] += 1
        inside = (low[:, axis] >= 0) & (high[:, axis] < values.shape[axis])
        a, c = (values[tuple(np.where(inside[:, None], w, where).T)] for w in (low, high))
        bend = (2 * values[tuple(where.T)] - a - c).astype(float)
        top = (c - a) / 2 / np.where(bend > 1e-12, bend, 1.0)
        result[:, axis] = np.where(inside & (bend > 1e-12), np.clip(top, -0.5, 0.5), 0.0)
    return result


def pick_regions(
    probabilities: Float[Array, "z y x"],
    diameter: float | int,
    threshold: float | int,
    mask: Bool[Array, "z y x"] | None = None,
    smallest: float = 0.1,
) -> Particles:
    """Pick the centres of regions above a threshold, with touching ones split by a watershed.

    The region is flooded from the tops of its distance to the outside, at least half a diameter
    apart (Beucher and Lantuejoul 1979), and each basin is a particle: at its centre of mass,
    weighted by the probability, with its highest probability as the score.

    Args:
        probabilities: ``(z, y, x)`` map of one class, 0 to 1.
        diameter: diameter of the particle, in voxels.
        threshold: lowest probability in a region.
        mask: where the centres may be; everywhere by default.
        smallest: basins with a smaller share of the volume of a ball of this diameter are left out.

        Returns:
            particles by descending score; none if nothing is above the threshold.

    Raises:
        ValueError: if the diameter is not positive, or the threshold is not a number.

    >>> ball = np.square(np.indices((15, 15, 15)) - 7).sum(0) < 16
    >>> pick_regions(ball.astype(np.float32), 8.0, 0.5).coordinates.round(3).tolist()
    [[7.0, 7.0, 7.0]]
    """
    check_size(diameter, threshold)
    values = finite(probabilities)
    inside = values >= threshold
    if mask is not None:
        inside &= np.asarray(mask)
    if not inside.any():
        return Particles(np.zeros((0, 3)), scores=np.zeros(0))
    depth = depth_in_mask(inside)
    depth = np.asarray(ndimage.gaussian_filter(depth, min(diameter / 8, 2.0)))
    voxels, middles = tops(np.where(inside, depth, 0).astype(np.float32), 1e-3)
    voxels = voxels[separated(middles, diameter / 2)]
    seeds = np.zeros(values.shape, np.int32)
    seeds[tuple(voxels.T)] = 1 + np.arange(len(voxels))
    basins = depth_basins(depth, inside, seeds, connectivity=1)
    numbers = np.arange(1, len(voxels) + 1)
    sizes = np.bincount(basins.ravel(), minlength=len(voxels) + 1)[1:]
    numbers = numbers[sizes >= max(1.0, smallest * np.pi / 6 * float(diameter) ** 3)]
    if not numbers.size:
        return Particles(np.zeros((0, 3)), scores=np.zeros(0))
    weights = np.maximum(values, 1e-6)
    centres = np.array(ndimage.center_of_mass(weights, basins, numbers))
    scores = np.array(ndimage.maximum(values, basins, numbers))
    order = np.argsort(-scores, kind="stable")
    return Particles(centres[order], scores=scores[order])


def inside_mask(particles: Particles, mask: Bool[Array, "_z _y _x"]) -> Bool[np.ndarray, " n"]:
    """Return which particles are in a compartment, by the voxel of each; False outside the volume.

    >>> inside_mask(Particles([[0.0, 0, 1], [0, 0, 5]]), np.array([[[False, True]]])).tolist()
    [True, False]
    """
    return points_in_mask(particles.coordinates, np.asarray(mask))


def distances_to(particles: Particles, mask: Bool[Array, "_z _y _x"]) -> Float[np.ndarray, " n"]:
    """Return the distance of each particle to the nearest voxel of a membrane, in voxels.

    It is the distance to the centre of that voxel, 0 in the membrane, and infinite for an empty
    mask.

    >>> wall = np.zeros((9, 9, 9), bool); wall[2] = True
    >>> distances_to(Particles([[6.5, 4, 4]]), wall).tolist()
    [4.5]
    """
    return distances_to_mask(particles.coordinates, np.asarray(mask))


def finite(values: Array) -> np.ndarray:
    """Return the values as float32, with values that are not finite below all others."""
    values = np.asarray(values, np.float32)
    finite = np.isfinite(values)
    return values if finite.all() else np.where(finite, values, -np.inf)


def check_size(diameter: float | int, threshold: float | int) -> None:
    """Raise a ValueError unless the diameter is positive and the threshold a number."""
    if not diameter > 0:
        raise ValueError(f"diameter must be positive, got {diameter} voxels")
    if not np.isfinite(threshold):
        raise ValueError(f"threshold must be a number, got {threshold}")
