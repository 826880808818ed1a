"""Computes all scores of a label volume against the truth in one call."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from cryojax_seg.core import MissingWedge, class_names, label_names
from cryojax_seg.errors import ParameterError
from cryojax_seg.evaluate.calibration import (
    brier_score,
    expected_calibration_error,
    foreground_band,
)
from cryojax_seg.evaluate.normals import mask_normals
from cryojax_seg.evaluate.overlap import Overlap, annotated, overlap, same_shape
from cryojax_seg.evaluate.surface import boundary_iou, hausdorff95, surface_dice
from cryojax_seg.evaluate.topology import betti_error
from cryojax_seg.evaluate.visibility import (
    PredictedBin,
    VisibilityBin,
    precision_by_visibility,
    recall_by_visibility,
)

VISIBILITY_BINS = (0.0, 0.3, 0.5, 0.7, 0.85, 1.0)
RATIOS = ("dice", "iou", "precision", "recall")
SURFACES = ("surface_dice", "boundary_iou", "hausdorff95")
_NEAR = 3.0  # voxels, of the band around the foreground in which calibration is measured too
_VOXELS_PER_SAMPLE = 50.0  # that neighbouring voxels count as one independent sample


@dataclasses.dataclass(frozen=True)
class ClassScores:
    """Holds the scores of one class; a score that is not defined is None.

    Attributes:
        overlap: correct, invented and missed voxels, with Dice, IoU, precision and recall.
        surface_dice: share of both surfaces that lie within the tolerance of the other.
        boundary_iou: IoU of the voxels within the tolerance of the surfaces.
        hausdorff95: 95th percentile of the distances between the surfaces, in units of the
            tolerance.
        betti_error: differences in the numbers of pieces, tunnels and cavities; None if a part of
            the volume is not annotated, because the cut would change these numbers.
        recall_bins: recall against visibility; empty without a wedge.
        precision_bins: precision and invented voxels in the same bins.

    >>> true = np.zeros((8, 8, 8), int)
    >>> true[2:6, 2:6, 2:6] = 1
    >>> one = score(np.roll(true, 1, 0), true).classes["foreground"]
    >>> one.overlap.recall, one.surface_dice, one.as_dict()["betti_error"]
    (0.75, 1.0, (0.0, 0.0, 0.0))
    """

    overlap: Overlap
    surface_dice: float | None
    boundary_iou: float | None
    hausdorff95: float | None
    betti_error: tuple[float, float, float] | None
    recall_bins: tuple[VisibilityBin, ...] = ()
    precision_bins: tuple[PredictedBin, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as plain values, for JSON."""
        values = {name: getattr(self.overlap, name) for name in RATIOS}
        values |= {name: getattr(self, name) for name in (*SURFACES, "betti_error")}
        values |= dataclasses.asdict(self.overlap)
        if self.recall_bins:
            values["by_visibility"] = [
                {
                    "low": r.low,
                    "high": r.high,
                    "recall": r.recall,
                    "recall_interval": r.interval,
                    "precision": p.precision,
                    "invented": p.invented,
                }
                for r, p in zip(self.recall_bins, self.precision_bins, strict=True)
            ]
        return values


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Holds errors of probabilities relative to frequencies (see `expected_calibration_error`).

    Attributes:
        error: expected calibration error over all annotated voxels.
        error_near_foreground: the same within 3 voxels of the true foreground.
        brier: Brier score.
        recalibrated: both errors after the probabilities were recalibrated on other voxels, see
            `inference.recalibrated_errors`; None if that was not done.

    >>> true = np.zeros((8, 8, 8), int)
    >>> true[:4] = 1
    >>> found = score(true, true, probabilities=np.full((8, 8, 8, 1), 0.5))
    >>> found.calibration.error, found.calibration.brier
    (0.0, 0.25)
    """

    error: float | None
    error_near_foreground: float | None
    brier: float | None
    recalibrated: tuple[float | None, float | None] | None = None


@dataclasses.dataclass(frozen=True)
class Scores:
    """Holds the scores of a label volume.

    Attributes:
        tolerance: distance within which surfaces agree.
        unit: unit of the tolerance and of all distances.
        classes: the scores of each class except the background, by name.
        foreground: overlap of all these classes together.
        calibration: None without probabilities.

    >>> true = np.zeros((8, 8, 8), int)
    >>> true[2:6, 2:6, 2:6] = 1
    >>> found = score(true, true, classes=["membrane"])
    >>> list(found.classes), found.mean["dice"], found.as_dict()["tolerance_unit"]
    (['membrane'], 1.0, 'voxels')
    """

    tolerance: float
    unit: Literal["angstrom", "voxels"]
    classes: dict[str, ClassScores]
    foreground: Overlap
    calibration: Calibration | None = None

    @property
    def mean(self) -> dict[str, float | None]:
        """Return the mean of each score over the classes for which it is defined."""
        rows = [one.as_dict() for one in self.classes.values()]
        return {name: _mean([row[name] for row in rows]) for name in (*RATIOS, *SURFACES)}

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as plain values, for JSON."""
        values = {
            "tolerance": self.tolerance,
            "tolerance_unit": self.unit,
            "classes": {name: one.as_dict() for name, one in self.classes.items()},
            "mean": self.mean,
            "foreground": {name: getattr(self.foreground, name) for name in RATIOS},
        }
        if self.calibration is not None:
            values["calibration"] = {
                "ECE": self.calibration.error,
                "ECE near foreground": self.calibration.error_near_foreground,
                "Brier": self.calibration.brier,
            }
            if self.calibration.recalibrated is not None:
                names = ("ECE recalibrated", "ECE near foreground recalibrated")
                values["calibration"] |= zip(names, self.calibration.recalibrated, strict=True)
        return values


def score(
    predicted: Any,
    true: Any,
    *,
    weights: Any = None,
    classes: Sequence[str] = (),
    voxel_size: tuple[float, float, float] | None = None,
    tolerance: float | None = None,
    wedge: MissingWedge | None = None,
    probabilities: Any = None,
) -> Scores:
    """Score a predicted label volume against the true one, class by class.

    Args:
        predicted: labels ``(z, y, x)``, integers, 0 is background.
        true: labels of the same shape.
        weights: array of the same shape, 0 where not annotated; None if everything is annotated.
        classes: names of the labels 1, 2, ... in order; by default foreground, or class1, ...
        voxel_size: angstrom per axis (zyx); None for distances in voxels.
        tolerance: distance within which two surfaces agree, in angstrom, or in voxels without a
            voxel size; by default two voxels.
        wedge: missing wedge of the tomogram, which adds recall and precision against visibility.
        probabilities: ``(z, y, x, class)`` of all classes except the background, which add
            calibration.

    Raises:
        ValueError: for arrays of different shapes, probabilities outside 0 to 1, or invalid
            weights.
        ParameterError: if there are more labels than names of classes or probabilities.

    >>> true = np.zeros((8, 8, 8), int)
    >>> true[2:6, 2:6, 2:6] = 1
    >>> found = score(np.roll(true, 1, 0), true, voxel_size=(10.0, 10.0, 10.0))
    >>> found.classes["foreground"].overlap.dice, found.tolerance, found.unit
    (0.75, 20.0, 'angstrom')
    """
    predicted, true = np.asarray(predicted), np.asarray(true)
    same_shape(predicted, true)
    weights = annotated(true.shape, weights)
    highest = max(int(predicted.max(initial=0)), int(true.max(initial=0)))
    names = class_names(classes, highest)
    named = label_names(names)[1:]
    if len(named) < highest:
        raise ParameterError(
            f"there is a label {highest}, but only {len(named)} classes are named", "classes"
        )
    size = (1.0, 1.0, 1.0) if voxel_size is None else voxel_size
    tolerance = 2 * float(np.mean(size)) if tolerance is None else tolerance
    rows = {}
    for label, (name, counts) in enumerate(overlap(predicted, true, weights, names).items(), 1):
        masks = (predicted == label, true == label)
        rows[name] = ClassScores(
            counts,
            surface_dice(*masks, tolerance, size, weights),
            boundary_iou(*masks, tolerance, size, weights),
            hausdorff95(*masks, size, weights),
            betti_error(*masks) if (weights > 0).all() else None,
            *(((), ()) if wedge is None else _by_visibility(*masks, weights, wedge)),
        )
    masks = ((predicted > 0).astype(np.int32), (true > 0).astype(np.int32))
    return Scores(
        tolerance,
        "voxels" if voxel_size is None else "angstrom",
        rows,
        overlap(*masks, weights)["foreground"],
        None if probabilities is None else _calibration(probabilities, true, weights, len(rows)),
    )


def _by_visibility(
    predicted: np.ndarray, true: np.ndarray, weights: np.ndarray, wedge: MissingWedge
) -> tuple[tuple[VisibilityBin, ...], tuple[PredictedBin, ...]]:
    seen = np.asarray(wedge.visibility(mask_normals(true)))
    recall = recall_by_visibility(
        predicted, true, seen, VISIBILITY_BINS, weights, _VOXELS_PER_SAMPLE
    )
    precision = precision_by_visibility(
        predicted, true, seen, wedge, VISIBILITY_BINS, weights=weights
    )
    return tuple(recall), tuple(precision)


def _calibration(
    probabilities: Any, true: np.ndarray, weights: np.ndarray, count: int
) -> Calibration:
    p = np.asarray(probabilities, np.float32)
    if p.shape[:-1] != true.shape:
        raise ValueError(f"probabilities have shape {p.shape}, the labels {true.shape}")
    if p.shape[-1] != count:
        raise ParameterError(
            f"{p.shape[-1]} probabilities for {count} classes; give one for each class but the "
            "background, in the order of the labels",
            "probabilities",
        )
    if not (np.isfinite(p).all() and p.min() >= 0 and p.max() <= 1):
        raise ValueError("probabilities must lie between 0 and 1")
    if count > 1:
        p = np.concatenate([np.clip(1 - p.sum(-1, keepdims=True), 0, 1), p], axis=-1)
    near = weights * foreground_band(true, _NEAR)
    return Calibration(
        expected_calibration_error(p, true, weights),
        expected_calibration_error(p, true, near),
        brier_score(p, true, weights),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [v for v in values if v is not None]
    return sum(defined) / len(defined) if defined else None
