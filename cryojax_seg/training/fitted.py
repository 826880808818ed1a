"""Finishes a training: the halo that matters, calibration, scores and the saved model."""

import dataclasses
import logging
import signal
from collections.abc import Sequence
from typing import Any

import numpy as np

from cryojax_seg.core import Segmenter
from cryojax_seg.evaluate import Overlap
from cryojax_seg.io import ModelCard, save_model
from cryojax_seg.runtime.processes import on_primary
from cryojax_seg.segmenters import Recalibration, fit_halo
from cryojax_seg.training import calibrating, rundir
from cryojax_seg.training.calibrating import Calibrated
from cryojax_seg.training.config import TrainConfig
from cryojax_seg.training.example import Example
from cryojax_seg.training.loop import Result
from cryojax_seg.training.reading import Examples

WIDE = 16  # voxels; of a smaller halo there is little to save
_log = logging.getLogger("cryojax_seg.training")


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Holds a trained model.

    Returned by `fit_model`.

    Attributes:
        operator: the segmenter, behind its restorer if there is one, with calibrated probabilities.
        card: the facts about the data on which inference depends.
        config: the settings of the training.
        result: the result of `train`.
        scores: overlap of each class except the background on the held-out annotation, at the
            thresholds of the card; None without any, or if the training was interrupted.
        calibration: how probabilities and thresholds were fitted to the held-out annotation; None
            where there are no scores.
    """

    operator: Segmenter
    card: ModelCard
    config: TrainConfig
    result: Result[Segmenter]
    scores: dict[str, Overlap] | None
    calibration: Calibrated | None = None

    @property
    def interrupted(self) -> signal.Signals | None:
        """Return the signal that ended the training; None if it ended by itself."""
        name = self.result.stopped
        return signal.Signals[name] if name in signal.Signals.__members__ else None

    @property
    def dice(self) -> float | None:
        """Return the mean Dice over the classes on the held-out annotation, where it is defined."""
        known = [s.dice for s in (self.scores or {}).values() if s.dice is not None]
        return sum(known) / len(known) if known else None


def finished(
    result: Result[Segmenter],
    data: Examples,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    config: TrainConfig,
    run: rundir.Held | None,
    stated: dict[str, Any],
) -> Fitted:
    """Measure the halo of what was trained, calibrate, score and save it.

    The first process does it for all.

    Args:
        result: of the training.
        data: the annotated tomograms.
        examples: those that were learned from.
        held_out: those that were not.
        config: settings of the training.
        run: folder of the run; None saves nothing.
        stated: provenance of the card.
    """
    interrupted = result.stopped in signal.Signals.__members__
    patch = max(config.patch_shape)

    def card(halo: int | None, found: Calibrated | None) -> ModelCard:
        folded = found and found.recalibration
        return ModelCard(
            voxel_size=data.voxel_size,
            contrast=data.contrast,
            tilt_range=data.tilt_range,
            patch=patch,
            halo=halo,
            temperature=folded and folded.temperature,
            shifts=folded and folded.shifts,
            thresholds=found and found.thresholds,
            provenance=stated,
        )

    def finish() -> dict[str, Any]:
        halo = None if interrupted else _halo(result.operator, examples[0].measured)
        found, scores = None, None
        if held_out and not interrupted:
            _log.info("scoring and calibrating on the annotation that was held out")
            held = calibrating.known(result.operator, held_out, patch, halo)
            found, scores = calibrating.calibrate(result.operator, held)
        if run is not None:
            operator = result.operator if found is None else found.on(result.operator)
            where = run.folder / rundir.MODEL
            save_model(where, operator, card(halo, found), overwrite=True)
        return {
            "halo": halo,
            "scores": scores and {name: dataclasses.astuple(s) for name, s in scores.items()},
            "calibration": found and dataclasses.asdict(found),
        }

    found = on_primary(finish)
    scores = found["scores"] and {n: Overlap(*counts) for n, counts in found["scores"].items()}
    calibration = found["calibration"] and _calibrated(found["calibration"])
    operator = calibration.on(result.operator) if calibration else result.operator
    stating = card(found["halo"], calibration)
    return Fitted(operator, stating, config, result, scores, calibration)


def _calibrated(stated: dict[str, Any]) -> Calibrated:
    """Return the calibration from plain values, in which JSON makes lists of tuples."""
    folded, values = stated["recalibration"], dict(stated)
    if folded is not None:
        shifts = tuple(folded["shifts"])
        values["recalibration"] = Recalibration(folded["temperature"], shifts)
    for name in ("thresholds", "errors", "dice"):
        values[name] = values[name] and tuple(values[name])
    return Calibrated(**values)


def _halo(operator: Segmenter, volume: np.ndarray) -> int | None:
    """Return the part of a wide halo that matters; None for all of it."""
    if operator.halo < WIDE:
        return None
    _log.info("measuring the receptive field that matters")
    fitted, difference = fit_halo(operator, volume)
    _log.info(
        f"halo: {fitted.halo} of {operator.halo} voxels matter, logits differ by {difference:.2g}"
    )
    return fitted.halo
