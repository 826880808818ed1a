"""Picks particles as balls of a known diameter, from maps of one or several classes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.signal import oaconvolve

from cryojax_seg.core.particles import Particles
from cryojax_seg.core.types import Array
from cryojax_seg.particles.pick import check_size, finite, refined, separated, tops

BALL = 0.9  # of the diameter: a little less than the particle, so that neighbours stay out of it
APART = 0.6  # of the diameter: bodies that are longer than wide lie side by side
TYPICAL = 0.25  # share of the usual mass below which a pick is a speck


def pick_balls(
    probabilities: Float[Array, "z y x"],
    diameter: float | int,
    threshold: float | int,
    mask: Bool[Array, "z y x"] | None = None,
    smallest: float = 0.15,
) -> Particles:
    """Pick the positions where a ball of the particle's size contains the most probability.

    The map, set to 0 below the threshold, is averaged over a ball of 0.9 diameters, which turns
    each particle into one peak, however flat, hollow or torn its map is. The picks are the peaks
    that are at least 0.6 diameters apart. Specks are left out: those that fill less than `smallest`
    of their ball, or less than a quarter of what is typical (the median, weighted by mass). At the
    faces of the volume only the part of the ball that is inside counts.

    Args:
        probabilities: ``(z, y, x)`` map of one class, 0 to 1.
        diameter: diameter of the particle, in voxels.
        threshold: lowest probability of a voxel that counts.
        mask: where the centres may be; everywhere by default.
        smallest: lowest mean probability in the ball.

    Returns:
        particles by descending score, which is the mean probability in the ball.

    Raises:
        ValueError: if the diameter is not positive, or the threshold is not a number.

    >>> torn = np.zeros((15, 15, 15), np.float32); torn[5:10, 5:10, 5:10] = 1.0
    >>> torn[7, 7, 7] = 0.0; torn[1, 1, 1] = 1.0  # a hole and a speck
    >>> pick_balls(torn, 6.0, 0.5).coordinates.round(3).tolist()
    [[7.0, 7.0, 7.0]]
    """
    check_size(diameter, threshold)
    values = np.clip(finite(probabilities), 0, 1)
    counted = np.where(values >= threshold, values, 0)
    ball = _ball(BALL * float(diameter) / 2)
    # Rounded, as the errors of the Fourier transform would tell equal values apart.
    filled = np.round(mean_in_ball(counted, ball), 4)
    voxels, middles = tops(filled, 1e-4, mask)
    kept = separated(middles, APART * diameter)
    voxels, middles = voxels[kept], middles[kept]
    scores = filled[tuple(voxels.T)] / _share_inside(voxels, ball, values.shape)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= max(smallest, TYPICAL * typical(scores))]
    places = refined(filled, voxels[order], middles[order])
    return Particles(places, scores=scores[order])


def pick_classes(
    maps: Sequence[Float[Array, "z y x"]],
    diameters: Sequence[float | int],
    threshold: float | int,
    mask: Bool[Array, "z y x"] | None = None,
    smallest: float = 0.15,
) -> Particles:
    """Pick particles of several classes, and keep the more probable one where two overlap.

    Each class is picked by `pick_balls`. Of two picks nearer to each other than 0.6 of their mean
    diameter, the one is kept whose map has the higher mean probability around it, in a ball of the
    smallest diameter. Maps whose sum never exceeds 1 are assumed to come from one model: then the
    sum of all classes is compared with the threshold and with `smallest`.

    Args:
        maps: probabilities of each class, 0 to 1, on one grid.
        diameters: diameter of the particles of each class, in voxels.
        threshold, mask, smallest: as for `pick_balls`.

    Returns:
        particles with their classes, 1 for the first map, by descending score.

    Raises:
        ValueError: if the numbers of maps and diameters, or the shapes of the maps, differ.

    >>> one = np.zeros((9, 9, 20), np.float32); one[2:7, 2:7, 2:7] = 0.8; two = one[..., ::-1] * 0.9
    >>> one[2:7, 2:7, 13:18] = 0.6
    >>> pick_classes([one, two], [5, 5], 0.5).classes.tolist()
    [1, 2]
    """
    if len(maps) != len(diameters) or len({m.shape for m in maps}) != 1:
        raise ValueError(
            f"{len(maps)} maps of shapes {sorted({m.shape for m in maps})} and {len(diameters)} "
            "diameters: give one diameter for each map, and maps of one shape"
        )
    values = [np.clip(finite(m), 0, 1) for m in maps]
    total, least = np.sum(values, 0), smallest
    one_model = total.max(initial=0) <= 1.01  # float16 rounds
    if one_model:
        total = np.where(total >= threshold, total, 0)
        values = [np.where(total > 0, v, 0) for v in values]
        threshold, least = min(float(threshold), 1e-4), smallest / len(maps)
    ball = _ball(BALL * float(min(diameters)) / 2)
    places, scores, yardstick, classes, sizes = [], [], [], [], []
    for number, (map_, diameter) in enumerate(zip(values, diameters, strict=True), 1):
        found = pick_balls(map_, diameter, threshold, mask, least)
        if one_model:
            found = found.take(_share(total, found, diameter) >= smallest)
        around = np.round(mean_in_ball(map_, ball), 4)
        places.append(found.coordinates)
        scores.append(found.scores)
        yardstick.append(around[tuple(np.rint(found.coordinates).astype(int).T)])
        classes.append(np.full(len(found), number))
        sizes.append(np.full(len(found), float(diameter)))
    where, score, around, kind, size = map(
        np.concatenate, (places, scores, yardstick, classes, sizes)
    )
    kept = np.zeros(0, int)
    for number in np.lexsort((-score, -around)):
        away = np.linalg.norm(where[kept] - where[number], axis=1)
        if (away >= APART * (size[kept] + size[number]) / 2).all():
            kept = np.append(kept, number)
    kept = kept[np.argsort(-score[kept], kind="stable")]
    return Particles(where[kept], scores=score[kept], classes=kind[kept])


def _share(values: np.ndarray, found: Particles, diameter: float | int) -> np.ndarray:
    """Return the mean of values in the part of the ball of each pick that is inside."""
    ball = _ball(BALL * float(diameter) / 2)
    voxels = np.rint(found.coordinates).astype(int)
    return mean_in_ball(values, ball)[tuple(voxels.T)] / _share_inside(voxels, ball, values.shape)


def mean_in_ball(values: np.ndarray, ball: np.ndarray) -> np.ndarray:
    """Return the mean of float32 ``(z, y, x)`` over a ball about each voxel, with zeros outside."""
    return np.maximum(oaconvolve(values, ball / ball.sum(), mode="same"), 0).astype(np.float32)


def _ball(radius: float) -> np.ndarray:
    """Return a ball in an odd cube of float32, with antialiased surface."""
    edge = int(np.ceil(radius))
    away = np.linalg.norm(np.indices((2 * edge + 1,) * 3) - edge, axis=0)
    return np.clip(radius + 0.5 - away, 0, 1).astype(np.float32)


def _share_inside(voxels: np.ndarray, ball: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the share of the ball about each voxel that is inside the volume."""
    edge = ball.shape[0] // 2
    low = np.maximum(edge - voxels, 0)
    high = np.minimum(ball.shape[0], np.array(shape) - voxels + edge)
    parts = [ball[tuple(map(slice, a, b))].sum() for a, b in zip(low, high, strict=True)]
    return np.array(parts, np.float64) / ball.sum()


def typical(masses: np.ndarray) -> float:
    """Return the median weighted by the masses themselves, which many specks do not change."""
    if not len(masses):
        return 0.0
    ordered = np.sort(masses)
    total = np.cumsum(ordered)
    return float(ordered[np.searchsorted(total, total[-1] / 2)])
