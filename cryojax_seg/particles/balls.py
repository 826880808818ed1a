"""Particles picked as balls of a known diameter, from the maps of one class or of several."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.signal import oaconvolve

from cryojax_seg.core.particles import Particles
from cryojax_seg.core.types import Array
from cryojax_seg.particles.pick import apart, check_size, finite, refined, tops

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
    """The places where a ball of the particle's size holds the most probability.

    The map, without what is below the threshold, is averaged over a ball of 0.9 diameters, which
    makes one hill of each particle however flat, hollow or torn its map is. The tops of the hills
    are the picks, at least 0.6 diameters apart. Specks are left out: what fills less than
    `smallest` of its ball, or less than a quarter of what most do (the median, weighted by mass).
    At the faces of the volume only the part of the ball that is inside counts.

    Args:
        probabilities: of one class, 0 to 1.
        diameter: of the particle, voxels.
        threshold: lowest probability of a voxel that counts.
        mask: where the middles may be; everywhere by default.
        smallest: least mean probability in the ball.

    Returns:
        particles from the highest score on, which is the mean probability in the ball.

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
    kept = apart(middles, APART * diameter)
    voxels, middles = voxels[kept], middles[kept]
    scores = filled[tuple(voxels.T)] / _room(voxels, ball, values.shape)
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
    """Particles of several classes, where no two are at one place: the more probable one is kept.

    Each class is picked by `pick_balls`. Of two picks nearer to each other than 0.6 of their mean
    diameter the one is kept whose map has the higher mean probability around it, in a ball of the
    smallest diameter. Maps that never exceed 1 together are taken for those of one model: then a
    voxel counts for all classes if their sum reaches the threshold, and it is their sum of which
    a particle must have `smallest` in its ball.

    Args:
        maps: probabilities of each class, 0 to 1, on one grid.
        diameters: of the particles of each, voxels.
        threshold, mask, smallest: as for `pick_balls`.

    Returns:
        particles with their classes, 1 for the first map, from the highest score on.

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
    """The mean of values in the ball of each pick, of the part that is inside."""
    ball = _ball(BALL * float(diameter) / 2)
    voxels = np.rint(found.coordinates).astype(int)
    return mean_in_ball(values, ball)[tuple(voxels.T)] / _room(voxels, ball, values.shape)


def mean_in_ball(values: np.ndarray, ball: np.ndarray) -> np.ndarray:
    """The mean of float32 ``(z, y, x)`` over a ball about each voxel; outside there are zeros."""
    return np.maximum(oaconvolve(values, ball / ball.sum(), mode="same"), 0).astype(np.float32)


def _ball(radius: float) -> np.ndarray:
    """A ball in an odd cube of float32, whose surface is as smooth as its voxels allow."""
    edge = int(np.ceil(radius))
    away = np.linalg.norm(np.indices((2 * edge + 1,) * 3) - edge, axis=0)
    return np.clip(radius + 0.5 - away, 0, 1).astype(np.float32)


def _room(voxels: np.ndarray, ball: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The share of the ball about each voxel that is inside the volume."""
    edge = ball.shape[0] // 2
    low = np.maximum(edge - voxels, 0)
    high = np.minimum(ball.shape[0], np.array(shape) - voxels + edge)
    parts = [ball[tuple(map(slice, a, b))].sum() for a, b in zip(low, high, strict=True)]
    return np.array(parts, np.float64) / ball.sum()


def typical(masses: np.ndarray) -> float:
    """The median weighted by the masses themselves, which many specks do not move."""
    if not len(masses):
        return 0.0
    ordered = np.sort(masses)
    total = np.cumsum(ordered)
    return float(ordered[np.searchsorted(total, total[-1] / 2)])
