"""Merges the basins of a watershed between which the pass is high."""

import numpy as np


def merged(basins: np.ndarray, values: np.ndarray, share: float | int) -> np.ndarray:
    """Merge basins if the pass between them is nearly as high as the lower of both.

    Args:
        basins: number of the basin of each voxel; 0 outside.
        values: heights of the voxels, highest at the peak of each basin.
        share: two basins are merged if the pass is at least this share of the lower peak.

    Returns:
        the map of basins, numbered from 0 without gaps; 0 is the outside, if there is any.

    >>> basins = np.array([[[0, 1, 1, 2, 2, 3, 3]]])
    >>> merged(basins, np.array([[[0.0, 1.0, 0.9, 0.8, 1.0, 0.1, 0.9]]]), 0.7).tolist()
    [[[0, 1, 1, 1, 1, 2, 2]]]
    """
    peaks = _peaks(basins, values)
    a, b, height = _passes(basins, values)
    parent = np.arange(len(peaks))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    for i in np.argsort(-height, kind="stable"):  # from the highest pass
        first, second = root(int(a[i])), root(int(b[i]))
        if first != second and height[i] >= share * min(peaks[first], peaks[second]):
            keep, lose = sorted((first, second), key=lambda k: -peaks[k])
            parent[lose] = keep
    roots = np.array([root(i) for i in range(len(peaks))])
    used = np.unique(roots[np.isfinite(peaks)])  # 0 need not occur
    return np.searchsorted(used, roots).astype(np.int32)[basins]


def _peaks(basins: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the highest value in each basin, -inf where there is none."""
    peaks = np.full(int(basins.max()) + 1, -np.inf, values.dtype)
    some = (slice(None, None, 3),) * 3  # which leaves few voxels that are higher
    np.maximum.at(peaks, basins[some].ravel(), values[some].ravel())
    higher = values > peaks[basins]
    np.maximum.at(peaks, basins[higher], values[higher])
    return peaks


def _passes(basins: np.ndarray, values: np.ndarray):
    """Return pairs of touching basins, and the highest value at which they touch."""
    pairs, heights = [], []
    for axis in range(3):
        one = tuple(slice(None, -1) if i == axis else slice(None) for i in range(3))
        two = tuple(slice(1, None) if i == axis else slice(None) for i in range(3))
        border = (basins[one] != basins[two]) & (basins[one] > 0) & (basins[two] > 0)
        pairs.append(np.stack([basins[one][border], basins[two][border]], 1))
        heights.append(np.minimum(values[one][border], values[two][border]))
    pair = np.sort(np.concatenate(pairs), axis=1)
    height = np.concatenate(heights)
    if not len(pair):
        return np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    count = int(pair.max()) + 1
    key, where = np.unique(pair[:, 0].astype(np.int64) * count + pair[:, 1], return_inverse=True)
    best = np.full(len(key), -np.inf)
    np.maximum.at(best, where, height)
    return key // count, key % count, best
