"""Scores the calibration of probabilities."""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Array, Float
from scipy import ndimage

from cryojax_seg.core.types import LabelArray, WeightArray
from cryojax_seg.evaluate.overlap import annotated, same_shape

Binning = Literal["width", "mass"]
ProbabilityArray = Float[np.ndarray, "_z _y _x class"] | Float[Array, "_z _y _x class"]


def _selected(probabilities, truth, weights):
    """Return class probabilities (background first), labels and weights of annotated voxels."""
    probabilities, truth = np.asarray(probabilities), np.asarray(truth)
    same_shape(probabilities[..., 0], truth)
    weights = annotated(truth.shape, weights)
    kept = weights > 0
    # Select first, so that values of unannotated voxels have no effect.
    p = probabilities[kept].astype(np.float64)
    if p.shape[-1] == 1:
        p = np.concatenate([1 - p, p], axis=-1)
    if p.size and not ((p >= 0) & (p <= 1)).all():
        raise ValueError("probabilities must lie between 0 and 1; were these logits?")
    labels = truth[kept].astype(np.int64)
    if labels.size and not 0 <= labels.min() <= labels.max() < p.shape[-1]:
        raise ValueError(
            f"the truth has labels from {labels.min()} to {labels.max()}, but there are "
            f"probabilities of {p.shape[-1]} classes, the background included"
        )
    return p, labels, weights[kept]


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Holds a reliability diagram: weight, mean confidence and accuracy per bin of confidence.

    Attributes:
        edges: bin edges of the confidence.
        weight: total weight of the voxels in each bin.
        confidence: mean probability of the most probable label; 0 in an empty bin.
        accuracy: share of voxels with the correct label; 0 in an empty bin.

    >>> import numpy as np
    >>> p, truth = np.full((1, 1, 4, 1), 0.75), np.array([[[1, 1, 1, 0]]])
    >>> diagram = reliability(p, truth, bins=2)
    >>> diagram.edges.tolist(), diagram.weight.tolist()
    ([0.0, 0.5, 1.0], [0.0, 4.0])
    """

    edges: np.ndarray
    weight: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def _edges(confidence: np.ndarray, weights: np.ndarray, bins: int, binning: Binning) -> np.ndarray:
    if binning == "width" or confidence.size == 0:
        return np.linspace(0, 1, bins + 1)
    order = np.argsort(confidence)
    mass = np.cumsum(weights[order])
    inner = np.searchsorted(mass, mass[-1] * np.arange(1, bins) / bins)
    return np.concatenate([[0.0], confidence[order][inner], [1.0]])


def reliability(
    probabilities: ProbabilityArray,
    truth: LabelArray,
    weights: WeightArray | None = None,
    bins: int = 15,
    binning: Binning = "width",
) -> Reliability:
    """Return the accuracy of the most probable label in bins of its probability.

    Args:
        probabilities: ``(z, y, x, class)`` of one sigmoid class, or of all classes with the
            background first.
        truth: labels ``(z, y, x)``.
        weights: 0 where not annotated.
        bins: number of bins between 0 and 1.
        binning: "width" for bins of equal width, "mass" for bins of equal weight, which adapt
            to the distribution of probabilities (Nixon et al. 2019); equal values share a bin.

    Raises:
        ValueError: for unequal shapes, or invalid weights, labels or probabilities.

    >>> import numpy as np
    >>> p, truth = np.full((1, 1, 4, 1), 0.75), np.array([[[1, 1, 0, 0]]])
    >>> diagram = reliability(p, truth, bins=2)
    >>> diagram.confidence.tolist(), diagram.accuracy.tolist()
    ([0.0, 0.75], [0.0, 0.5])
    """
    p, labels, weights = _selected(probabilities, truth, weights)
    confidence = p.max(axis=-1, initial=0.0)
    correct = p.argmax(axis=-1) == labels
    edges = _edges(confidence, weights, bins, binning)
    if binning == "width":
        index = np.minimum((confidence * bins).astype(int), bins - 1)
    else:
        index = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, bins - 1)
    total = np.bincount(index, weights, bins)
    some = np.where(total > 0, total, 1.0)
    return Reliability(
        edges,
        total,
        np.bincount(index, weights * confidence, bins) / some,
        np.bincount(index, weights * correct, bins) / some,
    )


def expected_calibration_error(
    probabilities: ProbabilityArray,
    truth: LabelArray,
    weights: WeightArray | None = None,
    bins: int = 15,
    binning: Binning = "width",
) -> float | None:
    """Return the expected calibration error ``sum_b (n_b / N) |accuracy_b - confidence_b|``.

    Guo et al. 2017 (arXiv:1706.04599, equation 3). Over all voxels it is dominated by the
    background; multiply the weights by `foreground_band(truth)` to score the foreground region.

    The arguments are those of `reliability`. The result is None if no voxel is annotated.

    >>> import numpy as np
    >>> p = np.full((1, 1, 4, 1), 0.75); truth = np.array([[[1, 1, 1, 0]]])
    >>> expected_calibration_error(p, truth)
    0.0
    """
    bins_ = reliability(probabilities, truth, weights, bins, binning)
    total = bins_.weight.sum()
    if total == 0:
        return None
    return float((bins_.weight * np.abs(bins_.accuracy - bins_.confidence)).sum() / total)


def brier_score(
    probabilities: ProbabilityArray, truth: LabelArray, weights: WeightArray | None = None
) -> float | None:
    """Return the mean squared error of probabilities, between 0 and 1 (Brier 1950, halved).

    ``1/2 sum_c (p_c - [label = c])^2`` averaged over voxels, which for one sigmoid class is
    ``(p - y)^2``. None if no voxel is annotated.

    >>> import numpy as np
    >>> brier_score(np.full((1, 1, 2, 1), 0.5), np.array([[[0, 1]]]))
    0.25
    """
    p, labels, weights = _selected(probabilities, truth, weights)
    if labels.size == 0:
        return None
    errors = 0.5 * np.square(p - np.eye(p.shape[-1])[labels]).sum(-1)
    return float(np.average(errors, weights=weights))


def foreground_band(truth: LabelArray, width: float = 3.0) -> np.ndarray:
    """Return weights that are 1 within `width` voxels of the true foreground, and 0 elsewhere.

    >>> import numpy as np
    >>> foreground_band(np.array([[[0, 0, 0, 1]]]), width=1.0)[0, 0].tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    truth = np.asarray(truth)
    if not (truth > 0).any():
        return np.zeros(truth.shape)
    return (np.asarray(ndimage.distance_transform_edt(truth <= 0)) <= width).astype(np.float64)
