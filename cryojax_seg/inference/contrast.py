"""Finds whether structure is dark or bright in a tomogram, from what a network finds in it."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flax import nnx

from cryojax_seg.core import Normalized, Resampled, Segmenter, Symmetrized, measured_box
from cryojax_seg.core.blocks import random_starts, read
from cryojax_seg.core.plain import Contrast
from cryojax_seg.segmenters.precision import NETWORKS

COUNT = 8  # probe patches
CERTAIN = 2.2  # log-odds from which a voxel counts, a probability of 0.9
HIGHEST = 6.0  # log-odds above which a voxel counts no more than with these
MARGIN = 1.1  # ratio of the evidence from which the other contrast may be the right one
LEAST = 1e-3  # evidence below which a patch tells nothing
FEWEST = 4  # patches that must tell something
SHARE = 0.85  # of those patches that must agree
log = logging.getLogger(__name__)

Run = Callable[[np.ndarray], Any]


def is_network(segmenter: Segmenter) -> bool:
    """Return whether a segmenter is or wraps a network, whose certainty tells something.

    Filters are as certain of the flanks of a structure as of the structure.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> is_network(GlobalThreshold(1.0))
    False
    """
    return any(isinstance(module, NETWORKS) for _, module in nnx.iter_modules(segmenter))


def without_flips(segmenter: Segmenter) -> Segmenter:
    """Return the segmenter inside a `Symmetrized`, which is as certain in a fraction of the time.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> without_flips(GlobalThreshold(1.0)).halo
    0
    """
    return segmenter.segmenter if isinstance(segmenter, Symmetrized) else segmenter


def opposite(contrast: Contrast) -> Contrast:
    """Return the other contrast.

    >>> opposite("dark")
    'bright'
    """
    return "bright" if contrast == "dark" else "dark"


def turned(seen: Normalized | Resampled) -> Any:
    """Return a normalized volume with the opposite contrast.

    >>> from cryojax_seg.core import Intensity
    >>> turned(Normalized(np.ones((1, 1, 1)), Intensity(0.0, 2.0)))[:].tolist()
    [[[-2.0]]]
    """
    if isinstance(seen, Resampled):
        return dataclasses.replace(seen, gain=-seen.gain)
    intensity = dataclasses.replace(seen.intensity, gain=-seen.intensity.gain)
    return dataclasses.replace(seen, intensity=intensity)


def probes(
    seen: Normalized | Resampled, patch: int, stride: int, count: int = COUNT
) -> list[np.ndarray]:
    """Return at most so many patches of a volume at random places with data, always the same ones.

    >>> from cryojax_seg.core import Intensity
    >>> volume = Normalized(np.zeros((8, 8, 8), np.float32), Intensity(0.0, 1.0))
    >>> {block.shape for block in probes(volume, 6, 4)}
    {(4, 4, 4)}
    """
    box = measured_box(seen)
    edges = [max(min(patch, s.stop - s.start) // stride, 1) * stride for s in box]
    starts = random_starts(box, edges, count, distinct=True)
    return [read(seen, a, [i + e for i, e in zip(a, edges, strict=True)]) for a in starts]


def evidence(logits: Any) -> float:
    """Return the mean log-odds of structure, where voxels count only if they are certain.

    >>> logits = np.array([3.0, -3.0, 1.0, 9.0], np.float32).reshape(1, 2, 2, 1)
    >>> evidence(logits)  # (3 + 6) / 4
    2.25
    """
    logits = np.asarray(logits, np.float32)
    odds = logits[..., 0]
    if logits.shape[-1] > 1:
        odds = np.logaddexp.reduce(logits[..., 1:], axis=-1) - odds
    return float(np.where(odds > CERTAIN, np.minimum(odds, HIGHEST), 0.0).mean())


def prefers(other: Sequence[float], expected: Sequence[float]) -> bool:
    """Return whether the evidence of patches with the other contrast is clearly the better.

    It must be larger by a tenth on the whole, and in nearly all patches that tell something.

    Args:
        other: evidence of each patch with the contrast that is not expected.
        expected: the same with the expected contrast.

    >>> prefers([0.3] * 8, [0.2] * 8), prefers([0.2] * 8, [0.2] * 8), prefers([0.3] * 3, [0.2] * 3)
    (True, False, False)
    """
    pairs = [(a, b) for a, b in zip(other, expected, strict=True) if max(a, b) >= LEAST]
    if len(pairs) < FEWEST or sum(other) < MARGIN * sum(expected):
        return False
    return sum(a > b for a, b in pairs) >= SHARE * len(pairs)
