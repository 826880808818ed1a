"""Chooses the threshold of labels for a tomogram, from calibrated probabilities."""

import logging
import math
from collections.abc import Sequence

import numpy as np

from cryojax_seg.core.plain import Shape

FEWEST, MOST = 8, 32  # patches that are looked at
LEAST = 200.0  # expected voxels of structure in them, below which they tell too little
_RANGE = (0.1, 0.9)
log = logging.getLogger(__name__)


def expected_threshold(probability: np.ndarray) -> tuple[float, float]:
    """Return the threshold at which the expected Dice of the labels is best, and that Dice.

    If p is calibrated, voxels of ``p >= t`` are expected to overlap with the truth in their sum of
    p, and the truth to have the sum of all p. So the Dice is about ``2 sum_{p >= t} p / (number of
    p >= t + sum p)``, and t is half of the best one (Lipton et al. 2014, arXiv:1402.1892).

    Args:
        probability: of the class at each voxel of a tomogram or of a sample, any shape.

    Raises:
        ValueError: without any structure.

    >>> expected_threshold(np.array([0.9, 0.8, 0.1, 0.0]))
    (0.8, 0.8947368421052632)
    """
    falling = np.sort(np.ravel(probability).astype(np.float64))[::-1]
    overlap = np.cumsum(falling)
    if not overlap[-1] > 0:
        raise ValueError("no voxel has any probability, so no threshold is better than another")
    dice = 2 * overlap / (np.arange(1, len(falling) + 1) + overlap[-1])
    best = int(dice.argmax())
    return float(falling[best]), float(dice[best])


def threshold_for(logits: Sequence[np.ndarray]) -> float | None:
    """Return the threshold of a calibrated segmenter of one class for a tomogram.

    Args:
        logits: of patches of the tomogram, see `contrast.probes`.

    Returns:
        the threshold; None if the patches hold too little structure to tell.

    >>> sure = np.where(np.arange(4096) < 1024, 2.0, -4.0)
    >>> round(threshold_for([sure]), 6), threshold_for([sure[1024:]])   # 1 / (1 + exp(-2))
    (0.880797, None)
    """
    odds = np.concatenate([np.ravel(one).astype(np.float64) for one in logits])
    probability = np.exp(-np.logaddexp(0, -odds))  # the logistic function
    if probability.sum() < LEAST:
        return None
    threshold, dice = expected_threshold(probability)
    threshold = float(np.clip(threshold, *_RANGE))
    log.info(f"labels begin at a probability of {threshold:.2f}: the expected Dice is {dice:.2f}")
    return threshold


def patches_of(shape: Shape, patch: int) -> int:
    """Return how many patches tell the threshold: about a quarter of the volume, from 8 to 32.

    >>> patches_of((64, 96, 96), 32), patches_of((200, 512, 512), 32)
    (8, 32)
    """
    return min(max(math.prod(shape) // (4 * patch**3), FEWEST), MOST)
