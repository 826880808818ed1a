"""Scores objects that are numbered: which of them were found, and how well their voxels agree."""

import dataclasses

import numpy as np
from jaxtyping import Array, Int, Real
from scipy.optimize import linear_sum_assignment

Numbers = Int[np.ndarray, "..."] | Int[Array, "..."]
Weights = Real[np.ndarray, "..."] | Real[Array, "..."]


@dataclasses.dataclass(frozen=True)
class Panoptic:
    """Counts the objects of one class that were found; the counts of tomograms add.

    Returned by `panoptic`. A ratio is None where its denominator is zero.

    Attributes:
        matched: number of pairs of a predicted and a true object.
        predicted: number of predicted objects.
        true: number of true objects.
        agreement: sum of the intersections over unions of the pairs.

    >>> total = Panoptic(1, 2, 1, 0.8) + Panoptic(1, 1, 2, 0.6)
    >>> total.recognition, round(total.segmentation, 2), total.count_error
    (0.6666666666666666, 0.7, 0.0)
    """

    matched: int
    predicted: int
    true: int
    agreement: float

    def __add__(self, other: "Panoptic") -> "Panoptic":
        return Panoptic(
            self.matched + other.matched,
            self.predicted + other.predicted,
            self.true + other.true,
            self.agreement + other.agreement,
        )

    @property
    def quality(self) -> float | None:
        """Return the panoptic quality, `segmentation` times `recognition`."""
        return self._shared(self.agreement)

    @property
    def segmentation(self) -> float | None:
        """Return the mean intersection over union of the pairs."""
        return self.agreement / self.matched if self.matched else None

    @property
    def recognition(self) -> float | None:
        """Return the F1 score of the objects, ``TP / (TP + FP / 2 + FN / 2)``."""
        return self._shared(self.matched)

    @property
    def count_error(self) -> float | None:
        """Return the relative error of the number of objects, ``(predicted - true) / true``.

        False and missed objects cancel in it, so that `recognition` belongs beside it.
        """
        return (self.predicted - self.true) / self.true if self.true else None

    def _shared(self, value: float | int) -> float | None:
        objects = (self.predicted + self.true) / 2
        return value / objects if objects else None


def panoptic(
    predicted: Numbers, truth: Numbers, weights: Weights | None = None, least: float | int = 0.5
) -> Panoptic:
    """Match predicted objects with true ones, as for the panoptic quality (Kirillov et al. 2019).

    A pair matches if its intersection over union (IoU) is more than `least`. From 1/2 upwards each
    object matches at most one other one. Below, the pairs of the largest total IoU are taken, as
    suits objects as thin as membranes, whose IoU falls by a fifth for a tenth of a thickness. The
    quality is ``sum IoU / (TP + FP / 2 + FN / 2)`` over the pairs. A predicted object that is not
    annotated by more than half counts as neither right nor wrong.

    Args:
        predicted: numbers of the predicted objects; 0 is background. The numbers need not be
            consecutive, nor those of `truth`.
        truth: numbers of the true objects.
        weights: 0 where nobody annotated; such voxels belong to no object.
        least: the IoU that a pair must exceed, from 0 to 1.

    Raises:
        ValueError: for shapes that differ, or a `least` outside 0 to 1.

    >>> import numpy as np
    >>> truth = np.array([1, 1, 1, 1, 0, 2, 2, 0])
    >>> found = panoptic(np.array([5, 5, 5, 0, 0, 7, 8, 9]), truth)
    >>> found.matched, found.quality, found.count_error
    (1, 0.25, 1.0)
    """
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape:
        raise ValueError(
            f"predicted objects have shape {predicted.shape}, true ones {truth.shape}: they must "
            "be of one volume"
        )
    if not 0 <= least <= 1:
        raise ValueError(f"least must be within 0 to 1, got {least}")
    _, mine = np.unique(predicted, return_inverse=True)
    _, other = np.unique(truth, return_inverse=True)
    # The background gets the number 0 even where there is none of it.
    mine = mine.ravel() + int(not (predicted == 0).any())
    other = other.ravel() + int(not (truth == 0).any())
    void = np.zeros(mine.max(initial=0) + 1)
    if weights is not None:
        known = np.asarray(weights).ravel() > 0
        size = np.bincount(mine, minlength=len(void))
        void = 1 - np.bincount(mine, known, len(void)) / np.maximum(size, 1)
        mine, other = mine[known], other[known]
    shape = len(void), int(other.max(initial=0)) + 1
    shared = np.bincount(mine * shape[1] + other, minlength=shape[0] * shape[1]).reshape(shape)
    sizes, true_sizes = shared.sum(1), shared.sum(0)
    union = sizes[1:, None] + true_sizes[None, 1:] - shared[1:, 1:]
    iou = shared[1:, 1:] / np.maximum(union, 1)
    iou = np.where(iou > least, iou, 0.0)
    rows, columns = linear_sum_assignment(-iou)
    pairs = iou[rows, columns]
    hit = pairs > 0
    free = np.ones(len(iou), bool)
    free[rows[hit]] = False
    left_out = free & ((void[1:] > 0.5) | (sizes[1:] == 0))
    return Panoptic(
        matched=int(hit.sum()),
        predicted=int(len(iou) - left_out.sum()),
        true=int((true_sizes[1:] > 0).sum()),
        agreement=float(pairs.sum()),
    )
