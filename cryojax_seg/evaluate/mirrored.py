"""Detects labels that are mirrored relative to their tomogram."""

import itertools

import numpy as np
from jaxtyping import Float, Int

_VOXELS = 100_000  # sampled voxels per label
_SHIFTS = 16  # random shifts of the labels, which measure the fit by chance
_DEVIATIONS = 6.0  # standard deviations above chance that a fit needs
_TIMES = 2.0  # factor by which mirrored labels must fit better than the given ones


def mirrored_axes(
    volume: Float[np.ndarray, "_z _y _x"],
    labels: Int[np.ndarray, "_z _y _x"],
    weights: Float[np.ndarray, "_z _y _x"],
    seed: int = 0,
) -> tuple[int, ...]:
    """Return the axes along which the labels are clearly mirrored, or () if there are none.

    The fit of labels is the standard deviation of the mean densities of the labels divided by the
    standard deviation within labels. Mirrored labels must fit twice as well as the given ones, and
    better than randomly shifted labels by six standard deviations, which accounts for correlated
    noise. Symmetric structures fit equally well both ways.

    Args:
        volume: densities ``(z, y, x)``, of any scale.
        labels: integers from 0, of the same shape.
        weights: 0 where volume or labels are unknown.
        seed: seed of the sampled voxels and of the shifts.

    >>> rng = np.random.default_rng(0)
    >>> labels = np.zeros((16, 32, 32), int)
    >>> labels[3:9, 4:12, 20:25] = 1
    >>> volume = rng.normal(size=labels.shape) + 2 * labels
    >>> mirrored_axes(volume, labels, np.ones(labels.shape))
    ()
    >>> mirrored_axes(volume, labels[:, ::-1], np.ones(labels.shape))
    (1,)
    """
    rng = np.random.default_rng(seed)
    shape = np.asarray(labels.shape)
    known = weights > 0
    values = np.unique(labels[known])
    if values.size < 2:
        return ()
    places, groups = [], []
    for group, value in enumerate(values):
        found = np.flatnonzero(known & (labels == value))
        if found.size > _VOXELS:
            found = rng.choice(found, _VOXELS, replace=False)
        places.append(np.stack(np.unravel_index(found, labels.shape), -1))
        groups.append(np.full(found.size, group))
    where, group = np.concatenate(places), np.concatenate(groups)

    def fit(moved: np.ndarray) -> float:
        return _separation(volume[tuple(moved.T)], group)

    flips = [
        axes
        for count in (1, 2, 3)
        for axes in itertools.combinations(range(3), count)
        if all(shape[a] > 1 for a in axes)
    ]
    if not flips:
        return ()
    fits = {axes: fit(_flipped(where, shape, axes)) for axes in flips}
    best = max(fits, key=lambda axes: fits[axes])
    if fits[best] <= _TIMES * fit(where):
        return ()
    by_chance = [fit((where + rng.integers(shape)) % shape) for _ in range(_SHIFTS)]
    clear = fits[best] > np.mean(by_chance) + _DEVIATIONS * np.std(by_chance)
    return best if clear else ()


def _flipped(where: np.ndarray, shape: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    moved = where.copy()
    for axis in axes:
        moved[:, axis] = shape[axis] - 1 - moved[:, axis]
    return moved


def _separation(values: np.ndarray, group: np.ndarray) -> float:
    """Return the deviation of group means divided by that within groups, equally weighted."""
    counts = np.maximum(np.bincount(group), 1)
    values = values.astype(np.float64)
    means = np.bincount(group, values) / counts
    within = np.bincount(group, np.square(values - means[group])) / counts
    return float(means.std() / np.sqrt(within.mean() + 1e-12))
