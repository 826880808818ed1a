"""Ranks slices, and boxes of them, by how much their annotation would tell."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

_FEWEST = 200  # held-out voxels of each label from which calibration is fitted
_REACH_NM = 20.0  # distance at which a slice tells little about another


def uncertainty(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy of the label of each voxel, from 0 to 1.

    Args:
        probabilities: ``(..., class)``, of one class or of several.

    >>> uncertainty(np.array([[0.5], [1.0], [0.0]])).round(3).tolist()
    [1.0, 0.0, 0.0]
    >>> uncertainty(np.array([[0.25, 0.25, 0.5]])).round(3).tolist()
    [0.946]
    """
    p = np.asarray(probabilities, np.float64)
    if p.shape[-1] == 1:
        p = np.concatenate([1 - p, p], -1)
    p = np.clip(p, 1e-12, 1.0)
    return -(p * np.log(p)).sum(-1) / math.log(p.shape[-1])


def ranked(
    gains: Mapping[int, float],
    annotated: Iterable[int],
    spacing_nm: float | int,
    reach_nm: float | int = _REACH_NM,
    most: int = 8,
) -> list[tuple[int, float]]:
    """Return slices in the order in which they should be annotated, each with its gain.

    Neighbouring slices show much the same, so what a slice would tell is its gain times ``1 -
    exp(-d / reach)``, where d is the distance to the nearest slice that is annotated or ranks
    before it. The best one is taken first, and the others are then weighed again.

    Args:
        gains: of each slice, by its index.
        annotated: indices of the slices that are annotated.
        spacing_nm: distance between two slices.
        reach_nm: distance over which slices resemble each other.
        most: number of slices.

    >>> ranked({0: 1.0, 1: 0.9, 50: 0.5}, annotated=(), spacing_nm=1.0)[:2]
    [(0, 1.0), (50, 0.4589575006880506)]
    >>> [z for z, _ in ranked({0: 1.0, 1: 0.9, 50: 0.5}, annotated=(0,), spacing_nm=1.0)]
    [50, 1]
    """
    taken, rest, found = list(annotated), dict(gains), []
    for z in taken:
        rest.pop(z, None)

    def worth(z: int) -> float:
        nearest = min((abs(z - other) for other in taken), default=math.inf)
        return rest[z] * (1 - math.exp(-nearest * spacing_nm / reach_nm))

    while rest and len(found) < most:
        best = max(rest, key=worth)
        found.append((best, worth(best)))
        taken.append(best)
        del rest[best]
    return found


def visible_share(probability: np.ndarray, wedge: Any) -> np.ndarray:
    """Return how much of a local surface the tilt range lets through, at each voxel.

    The normal of the surface is the gradient of the smoothed probability of anything but the
    background.

    Args:
        probability: ``(z, y, x)``, two slices or more.
        wedge: the `core.MissingWedge`.

    Returns:
        ``(z, y, x)``, from 0 to 1; 1 where there is no gradient.

    >>> from cryojax_seg.core import MissingWedge
    >>> ramp = np.broadcast_to(np.arange(9.0), (3, 9, 9)) / 9  # a surface whose normal is x
    >>> wedge = MissingWedge((-60.0, 60.0))
    >>> round(float(visible_share(ramp, wedge)[1, 4, 4]), 2)
    0.91
    >>> flat = ramp.transpose(2, 0, 1)[3:6]  # whose normal is the beam
    >>> round(float(visible_share(flat, wedge)[1, 1, 4]), 2)
    0.26
    """
    from scipy.ndimage import gaussian_filter  # slow to load

    smooth = gaussian_filter(np.asarray(probability, np.float32), (0, 1.0, 1.0))
    slopes = np.stack([*np.gradient(smooth)], -1)
    length = np.linalg.norm(slopes, axis=-1, keepdims=True)
    normals = slopes / np.maximum(length, 1e-9)
    share = np.asarray(wedge.visibility(normals))
    return np.where(length[..., 0] > 1e-6, share, 1.0)


def gains(
    logits: np.ndarray, edge: tuple[int, int], calibration: Any = None, wedge: Any = None
) -> np.ndarray:
    """Return what the annotation of boxes of slices would tell: mean entropy times visibility.

    Args:
        logits: ``(z, y, x, class)``, of slices one upon the other.
        edge: of a box along y and x, in voxels; those at the end are smaller.
        calibration: function of the logits that makes probabilities agree with frequencies, such as
            a `segmenters.Recalibration`; None to take them as they are.
        wedge: the `core.MissingWedge`; None if unknown, so that all surfaces count alike.

    Returns:
        ``(z, box along y, box along x)``.

    >>> logits = np.zeros((1, 4, 6, 1), np.float32)
    >>> logits[0, :, 4:] = 30.0
    >>> gains(logits, (4, 4)).round(2).tolist()
    [[[1.0, 0.0]]]
    """
    from cryojax_seg.core import probabilities

    logits = logits if calibration is None else calibration(logits)
    p = np.asarray(probabilities(np.asarray(logits, np.float32)))
    worth = uncertainty(p)
    if wedge is not None and len(p) > 1:
        worth = worth * visible_share(p[..., 0] if p.shape[-1] == 1 else 1 - p[..., 0], wedge)
    for axis, size in enumerate(edge, 1):
        starts = np.arange(0, worth.shape[axis], size)
        counts = np.diff(np.append(starts, worth.shape[axis]))
        shape = [1, 1, 1]
        shape[axis] = len(counts)
        worth = np.add.reduceat(worth, starts, axis) / counts.reshape(shape)
    return worth


def ranked_boxes(
    known: Mapping[int, np.ndarray],
    annotated: np.ndarray,
    size_nm: tuple[float, float, float],
    reach_nm: float | int = _REACH_NM,
    most: int = 8,
) -> list[tuple[tuple[int, int, int], float]]:
    """Return boxes in the order in which they should be annotated, each with its gain.

    As in `ranked`, a box tells little near one that is annotated, or that ranks before it.

    Args:
        known: what `gains` tells of each slice z.
        annotated: ``(n, 3)``, slices and boxes along y and x that are annotated.
        size_nm: distance between two slices, and edges of a box.
        reach_nm: distance over which boxes resemble each other.
        most: number of boxes.

    >>> known = {0: np.array([[0.9, 0.8]]), 9: np.array([[0.1, 0.85]])}
    >>> [box for box, _ in ranked_boxes(known, np.array([[0, 0, 0]]), (10.0, 50.0, 50.0), most=2)]
    [(9, 0, 1), (0, 0, 1)]
    """
    places = np.array([(z, *at) for z, worth in known.items() for at in np.ndindex(worth.shape)])
    worth = np.concatenate([one.ravel() for one in known.values()]) if known else np.empty(0)
    scale, found = np.asarray(size_nm), []
    nearest = np.full(len(worth), math.inf)

    def apart(place: np.ndarray) -> np.ndarray:
        return np.linalg.norm((places - place) * scale, axis=1)

    for place in annotated:
        nearest = np.minimum(nearest, apart(place))
    for _ in range(min(most, len(worth))):
        value = worth * -np.expm1(-nearest / reach_nm)
        best = int(value.argmax())
        z, row, column = (int(n) for n in places[best])
        found.append(((z, row, column), float(value[best])))
        nearest = np.minimum(nearest, apart(places[best]))
    return found


def calibration_of(held: Any) -> Any:
    """Return the recalibration that `training.HeldOutVoxels` tell; None where they are too few.

    >>> calibration_of(None) is None
    True
    """
    from cryojax_seg.segmenters import fit_recalibration

    if held is None:
        return None
    counts = np.bincount(held.labels, minlength=max(2, held.logits.shape[-1]))
    if counts.min() < _FEWEST:
        return None
    return fit_recalibration(held.logits, held.labels, held.weights)
