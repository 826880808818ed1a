"""Scores the voxel overlap of a predicted and a true label volume."""

import dataclasses

import numpy as np

from cryojax_seg.core.types import LabelArray, WeightArray

# Names with an underscore are not compared: unequal shapes get the error of `same_shape`.


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Counts the weighted voxels of one class, with ratios derived from them.

    A ratio is None where its denominator is zero: precision if the class was never predicted,
    recall if it is not in the truth, Dice and IoU if neither. A class that is absent from the
    truth and predicted somewhere has a Dice of 0. Counts of several volumes add.

    >>> total = Overlap(3.0, 1.0, 1.0) + Overlap(1.0, 0.0, 0.0)
    >>> total.dice, total.iou, total.recall
    (0.8, 0.6666666666666666, 0.8)
    >>> Overlap(0.0, 0.0, 2.0).precision is None
    True
    """

    true_positive: float
    false_positive: float
    false_negative: float

    def __add__(self, other: "Overlap") -> "Overlap":
        return Overlap(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
        )

    def _ratio(self, false: float, repeats: float = 1.0) -> float | None:
        hits = repeats * self.true_positive
        return hits / (hits + false) if hits + false > 0 else None

    @property
    def dice(self) -> float | None:
        """Return ``2 TP / (2 TP + FP + FN)`` (Dice 1945)."""
        return self._ratio(self.false_positive + self.false_negative, 2.0)

    @property
    def iou(self) -> float | None:
        """Return ``TP / (TP + FP + FN)`` (Jaccard 1901)."""
        return self._ratio(self.false_positive + self.false_negative)

    @property
    def precision(self) -> float | None:
        """Return ``TP / (TP + FP)``."""
        return self._ratio(self.false_positive)

    @property
    def recall(self) -> float | None:
        """Return ``TP / (TP + FN)``."""
        return self._ratio(self.false_negative)


def annotated(shape: tuple[int, ...], weights: WeightArray | None) -> np.ndarray:
    """Return float64 weights of a volume of this shape, all 1 for None.

    Raises:
        ValueError: for another shape, or a negative or non-finite weight.
    """
    if weights is None:
        return np.ones(shape)
    weights = np.asarray(weights, np.float64)
    if weights.shape != shape:
        raise ValueError(f"weights have shape {weights.shape}, the volume {shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("weights must be finite and not negative; 0 means not annotated")
    return weights


def same_shape(prediction: np.ndarray, truth: np.ndarray) -> None:
    """Refuse a prediction and a truth of different shapes.

    Raises:
        ValueError: if the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(
            f"the prediction has shape {prediction.shape} and the truth {truth.shape}; "
            "they must be the same volume on the same grid"
        )


def overlap(
    prediction: LabelArray,
    truth: LabelArray,
    weights: WeightArray | None = None,
    classes: tuple[str, ...] = ("foreground",),
) -> dict[str, Overlap]:
    """Return the overlap of each class except the background.

    Args:
        prediction: labels; 0 is the background.
        truth: labels of the same shape.
        weights: 0 where not annotated; None if every voxel is annotated.
        classes: names as a segmenter has them: one foreground class, or all with the
            background first. Label values beyond them are an error.

    Raises:
        ValueError: for unequal shapes, bad weights, or an annotated label outside the classes.

    >>> import numpy as np
    >>> truth = np.zeros((2, 2, 2), np.int32); truth[0] = 1
    >>> prediction = np.zeros((2, 2, 2), np.int32); prediction[:, 0] = 1
    >>> score = overlap(prediction, truth, classes=("membrane",))["membrane"]
    >>> score.dice, score.precision
    (0.5, 0.5)
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    same_shape(prediction, truth)
    weights = annotated(truth.shape, weights)
    names = ("background", *classes) if len(classes) == 1 else classes
    kept = weights > 0
    prediction, truth, weights = prediction[kept], truth[kept], weights[kept]
    for what, values in (("prediction", prediction), ("truth", truth)):
        if values.size and (values.min() < 0 or values.max() >= len(names)):
            raise ValueError(
                f"the {what} has labels from {values.min()} to {values.max()}, but the classes "
                f"{', '.join(names)} allow 0 to {len(names) - 1}"
            )
    pairs = np.bincount(
        truth.astype(np.int64) * len(names) + prediction, weights, minlength=len(names) ** 2
    ).reshape(len(names), len(names))
    return {
        name: Overlap(
            float(pairs[c, c]),
            float(pairs[:, c].sum() - pairs[c, c]),
            float(pairs[c].sum() - pairs[c, c]),
        )
        for c, name in enumerate(names)
        if c > 0
    }
