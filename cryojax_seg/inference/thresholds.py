"""Chooses the thresholds of labels for a tomogram, from calibrated probabilities."""

import logging
import math
from collections.abc import Sequence

import numpy as np

from cryojax_seg.core.plain import Shape

FEWEST, MOST = 8, 32  # patches that are looked at
LEAST = 200.0  # expected voxels of a class in them, below which they tell too little
WORTH = 0.2  # expected Dice of a class below which its threshold stays
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


def thresholds_for(
    logits: Sequence[np.ndarray], names: Sequence[str], usual: Sequence[float] = ()
) -> tuple[float, ...]:
    """Return the thresholds of a calibrated segmenter for a tomogram, see `core.labels`.

    That of a class has the best expected Dice. A class keeps its usual threshold if the patches
    hold too little of it to tell, or if even the best expected Dice is below 0.2: then most of what
    a low threshold would find is wrong, and the class is probably not there.

    Args:
        logits: ``(z, y, x, class)`` of patches of the tomogram, see `contrast.probes`.
        names: of the classes, without the background.
        usual: thresholds of the model; none for 0.5.

    >>> sure = np.where(np.arange(4096) < 1024, 2.0, -4.0)[:, None]
    >>> few = sure[1024:]
    >>> [round(t, 3) for t in thresholds_for([sure], ["actin"])]  # 1 / (1 + exp(-2))
    [0.881]
    >>> thresholds_for([few], ["actin"], [0.3])
    (0.3,)
    """
    odds = np.concatenate([one.reshape(-1, one.shape[-1]).astype(np.float64) for one in logits])
    if odds.shape[1] == 1:
        probability = np.exp(-np.logaddexp(0, -odds))  # the logistic function
    else:
        probability = np.exp(odds - np.logaddexp.reduce(odds, axis=1, keepdims=True))[:, 1:]
    found = list(usual or [0.5] * len(names))
    for number, (name, p) in enumerate(zip(names, probability.T, strict=True)):
        if p.sum() < LEAST:
            continue
        threshold, dice = expected_threshold(p)
        if dice < WORTH:
            continue
        found[number] = float(np.clip(threshold, *_RANGE))
        log.info(
            f"labels of {name} begin at a probability of {found[number]:.2f}: the expected Dice is "
            f"{dice:.2f}"
        )
    return tuple(found)


def patches_of(shape: Shape, patch: int) -> int:
    """Return how many patches tell the threshold: about a quarter of the volume, from 8 to 32.

    >>> patches_of((64, 96, 96), 32), patches_of((200, 512, 512), 32)
    (8, 32)
    """
    return min(max(math.prod(shape) // (4 * patch**3), FEWEST), MOST)
