"""Calibrates a trained segmenter on the annotation that was held out, and scores it there."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from cryojax_seg import core
from cryojax_seg.core import Segmenter, apply, label_names, plan_tiles
from cryojax_seg.evaluate import Overlap, expected_calibration_error, overlap
from cryojax_seg.segmenters import (
    Recalibration,
    Truncated,
    fit_normalization,
    fit_recalibration,
    fit_thresholds,
)
from cryojax_seg.training.example import Example
from cryojax_seg.training.validate import annotated

FEWEST = 200  # held-out voxels of each label, with which calibration is fitted


@dataclasses.dataclass(frozen=True)
class Known:
    """Holds the logits, labels and weights of all voxels that were held out.

    Returned by `known`.

    >>> one = Known(np.array([[-1.0], [2.0]]), np.array([0, 1]), np.ones(2), ("membrane",))
    >>> one.overlaps()["membrane"].dice, round(one.calibration_error(), 2)
    (1.0, 0.19)
    """

    logits: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    classes: tuple[str, ...]

    def overlaps(self, thresholds: Sequence[float] = ()) -> dict[str, Overlap]:
        """Return the overlap of each class but the background at these thresholds."""
        found = core.labels(_volume(self.logits), thresholds)
        return overlap(found, _lined(self.labels), _lined(self.weights), self.classes)

    def calibration_error(self) -> float | None:
        """Return the expected calibration error of the probabilities."""
        p = np.asarray(core.probabilities(_volume(self.logits)))
        return expected_calibration_error(p, _lined(self.labels), _lined(self.weights))


def _lined(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, 1, 1)


def _volume(logits: np.ndarray) -> np.ndarray:
    return logits.reshape(-1, 1, 1, logits.shape[-1])


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """Describes how a model was calibrated on held-out annotation.

    Returned by `calibrate`. Probabilities and thresholds are two things: `recalibration` makes the
    probabilities agree with frequencies, and the thresholds make labels agree with annotation.

    Attributes:
        recalibration: to fold into the network; None if its probabilities stay as they are.
        thresholds: of each class but the background, see `core.labels`; None for 0.5.
        errors: expected calibration error before and after.
        dice: mean Dice at 0.5 before, and as the model is used after.
        reason: why nothing was fitted to the probabilities; None if it was.
    """

    recalibration: Recalibration | None
    thresholds: tuple[float, ...] | None
    errors: tuple[float | None, float | None]
    dice: tuple[float | None, float | None]
    reason: str | None

    def on(self, segmenter: Any) -> Any:
        """Return the segmenter with calibrated probabilities."""
        return segmenter if self.recalibration is None else self.recalibration.folded(segmenter)

    def __str__(self) -> str:
        before, after = ("-" if e is None else f"{e:.4f}" for e in self.errors)
        if self.recalibration is None:
            return f"expected calibration error {before}; not calibrated, as {self.reason}"
        return (
            f"temperature {self.recalibration.temperature:.3g}; expected calibration error "
            f"{before} before, {after} after"
        )


def known(
    segmenter: Segmenter, examples: Sequence[Example], patch: int, halo: int | None = None
) -> Known:
    """Compute the logits of all annotated voxels of the examples.

    Args:
        segmenter: any segmenter; statistics are fitted to each volume first.
        examples: the annotated examples.
        patch: as in `segmenters.fit_normalization`.
        halo: context around each tile in voxels; None for the exact halo.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> v = np.zeros((4, 4, 4), np.float32)
    >>> v[1] = 1
    >>> known(GlobalThreshold(0.5), [Example(v, v.astype(int))], 4).overlaps()["foreground"].dice
    1.0
    """
    parts = []
    for example in examples:
        fitted: Any = fit_normalization(segmenter, example.measured, patch=patch)
        fitted = fitted if halo is None else Truncated(fitted, halo)
        where = annotated(example, fitted.stride)
        tile = plan_tiles(fitted, tuple(w.stop - w.start for w in where))
        tile = dataclasses.replace(tile, origin=tuple(w.start for w in where))
        kept = example.weights[where] > 0
        logits = apply(fitted, example.volume, tile)[kept]
        parts.append((logits, example.labels[where][kept], example.weights[where][kept]))
    logits, labels, weights = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Known(logits, labels, weights, segmenter.classes)


def calibrate(segmenter: Segmenter, held: Known) -> tuple[Calibrated, dict[str, Overlap]]:
    """Fit the calibration of a segmenter and the thresholds of its classes to held-out annotation.

    Nothing is fitted where a label has fewer than 200 voxels. The probabilities of methods other
    than networks stay as they are, and their thresholds are fitted.

    Args:
        segmenter: the segmenter.
        held: its logits on the annotation, from `known`.

    Returns:
        the calibration, and the overlap of each class but the background as the model is used.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> held = Known(np.ones((9, 1)), np.ones(9, int), np.ones(9), ("membrane",))
    >>> print(calibrate(GlobalThreshold(0.5), held)[0].reason)
    only 0 held-out voxels are background; 200 of each label are needed
    """
    names = label_names(held.classes)
    counts = np.bincount(held.labels, minlength=len(names)).tolist()
    error, former = held.calibration_error(), held.overlaps()
    dice = _mean(former)
    if min(counts) < FEWEST:
        n, rarest = min(zip(counts, names, strict=True))
        reason = f"only {n} held-out voxels are {rarest}; {FEWEST} of each label are needed"
        return Calibrated(None, None, (error, error), (dice, dice), reason), former
    recalibration = reason = None
    if segmenter.last_layers():
        recalibration = fit_recalibration(held.logits, held.labels, held.weights)
        held = dataclasses.replace(held, logits=recalibration(held.logits))
    else:
        reason = "this method is no network"
    thresholds = fit_thresholds(held.logits, held.labels, held.weights)
    scores = held.overlaps(thresholds)
    errors, both = (error, held.calibration_error()), (dice, _mean(scores))
    return Calibrated(recalibration, thresholds, errors, both, reason), scores


def _mean(scores: dict[str, Overlap]) -> float | None:
    """Return the mean Dice over the classes for which it is defined."""
    defined = [score.dice for score in scores.values() if score.dice is not None]
    return sum(defined) / len(defined) if defined else None
