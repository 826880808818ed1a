"""Ranks slices by how much their annotation would tell."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

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


def visible_share(probability: np.ndarray, wedge: Any, voxel_nm: float) -> np.ndarray:
    """Return how much of a local surface the tilt range lets through, for the middle slice.

    The normal of the surface is the gradient of the smoothed probability of anything but the
    background.

    Args:
        probability: ``(z, y, x)`` of three slices or more.
        wedge: the `core.MissingWedge`.
        voxel_nm: size of a voxel.

    Returns:
        ``(y, x)``, from 0 to 1; 1 where there is no gradient.

    >>> from cryojax_seg.core import MissingWedge
    >>> ramp = np.broadcast_to(np.arange(9.0), (3, 9, 9)) / 9  # a surface whose normal is x
    >>> wedge = MissingWedge((-60.0, 60.0))
    >>> round(float(visible_share(ramp, wedge, 1.0)[4, 4]), 2)
    0.91
    >>> flat = ramp.transpose(2, 0, 1)[3:6]  # whose normal is the beam
    >>> round(float(visible_share(flat, wedge, 1.0)[1, 4]), 2)
    0.26
    """
    from scipy.ndimage import gaussian_filter  # slow to load

    smooth = gaussian_filter(np.asarray(probability, np.float32), (0, 1.0, 1.0))
    middle = len(smooth) // 2
    slopes = np.stack([*np.gradient(smooth)], -1)[middle]
    length = np.linalg.norm(slopes, axis=-1, keepdims=True)
    normals = slopes / np.maximum(length, 1e-9)
    # A patch of membrane: 6 nm in its plane and 1.5 nm across, as standard deviations.
    share = np.asarray(wedge.visibility(normals, 6.0 / voxel_nm, 1.5 / voxel_nm))
    return np.where(length[..., 0] > 1e-6, share, 1.0)
