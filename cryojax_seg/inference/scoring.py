"""Scores of a label volume against a true one, from files."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from cryojax_seg import evaluate
from cryojax_seg.core import MissingWedge
from cryojax_seg.evaluate.scores import Scores
from cryojax_seg.io import (
    is_imod,
    not_annotated_hint,
    read_labels,
    read_probabilities,
    read_tomogram,
    stated_names,
)
from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.segmenters import fit_recalibration
from cryojax_seg.training.calibrating import FEWEST

_log = logging.getLogger("cryojax_seg.inference")
_LEAST = 1e-6  # smallest probability, whose logarithm is finite


def score_files(
    prediction: PathLike,
    truth: PathLike,
    *,
    classes: Sequence[str] = (),
    slices: Sequence[int] = (),
    ignore: int = 255,
    tolerance: float | None = None,
    wedge: MissingWedge | None = None,
    probabilities: Sequence[PathLike] = (),
    voxel_size: float | None = None,
    thickness: float | None = None,
    values: Sequence[int] = (),
) -> Scores:
    """Score a predicted label volume against a true one on the same grid, class by class.

    Args:
        prediction: labels; 0 is background.
        truth: true labels, or an IMOD model.
        classes: names of the labels 1, 2, ... in order; by default as the truth or else the
            prediction states, see `io.read_label_card`, or foreground, or class1, ... If both
            files state names and number a common class differently, the classes that both name
            are compared, and others count as background.
        slices: z indices that are scored; none for all.
        ignore: label of true voxels that nobody annotated; they do not count.
        tolerance: distance in angstrom within which two surfaces agree; two voxels by default.
        wedge: the missing wedge, for recall and precision against visibility.
        probabilities: a map for each class but the background, for calibration, and for what a
            recalibration would make of it, see `recalibrated_errors`.
        voxel_size: angstrom, instead of what the headers say.
        thickness: of what open contours and points of an IMOD model mark, angstrom.
        values: what stands in both for the labels 1, 2, ...; other values are background.

    Raises:
        FileError: naming a file that does not hold labels, or does not fit the other.

    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from cryojax_seg.io import write_mrc
    >>> file = Path(tempfile.mkdtemp()) / "labels.mrc"
    >>> labels = np.zeros((8, 8, 8), np.int8)
    >>> labels[2:6] = 1
    >>> write_mrc(file, labels, voxel_size=10.0)
    >>> score_files(file, file).as_dict()["classes"]["foreground"]["dice"]
    1.0
    """
    # The truth may have unannotated voxels; a prediction has none.
    volume = read_tomogram(prediction, voxel_size)
    grid = volume if is_imod(truth) else None
    how: Any = {"stored": values, "ignore": ignore, "thickness": thickness}
    known = read_labels(truth, grid, annotated=slices or None, **how)
    if not known.labels.any() and not known.weights.all() and not slices:
        raise FileError(
            f"{truth}: no voxel has a label other than 0, so there is nothing to score; "
            + not_annotated_hint(ignore),
            "ignore",
        )
    given: Any = {"stored": values, "ignore": None, "voxel_size": voxel_size}
    predicted = read_labels(prediction, **given).labels
    shape = known.labels.shape
    if predicted.shape != shape:
        raise FileError(
            f"{prediction}: has shape {predicted.shape} (z, y, x), and {truth} has {shape}; they "
            "must lie on the same grid"
        )
    if volume.voxel_size is None and tolerance is not None:
        volume.require_voxel_size()
    maps = read_probabilities(probabilities, shape) if probabilities else None
    labels = known.labels
    stated = () if is_imod(truth) else stated_names(truth, classes)
    own = stated_names(prediction)
    common = () if classes or values else common_classes(stated, own)
    if common:
        others = sorted({*stated, *own} - {*common})
        counted = f", with {', '.join(others)} as background" if others else ""
        _log.warning(
            f"{truth} and {prediction} number their classes differently, so classes of the same "
            f"name are compared{counted}"
        )
        labels, predicted = renumbered(labels, stated, common), renumbered(predicted, own, common)
        if maps is not None and maps.shape[-1] == len(own):
            maps = maps[..., [own.index(name) for name in common]]
        classes = common
    else:
        highest = max(int(predicted.max(initial=0)), int(labels.max(initial=0)))
        count = highest if maps is None else maps.shape[-1]
        classes = tuple(classes) or _names(prediction, own, truth, stated, count)
    found = evaluate.score(
        predicted,
        labels,
        weights=known.weights,
        classes=classes,
        voxel_size=volume.voxel_size,
        tolerance=tolerance,
        wedge=wedge,
        probabilities=maps,
    )
    if maps is None or found.calibration is None:
        return found
    errors = recalibrated_errors(maps, labels, known.weights)
    calibration = dataclasses.replace(found.calibration, recalibrated=errors)
    return dataclasses.replace(found, calibration=calibration)


def common_classes(one: Sequence[str], other: Sequence[str]) -> tuple[str, ...]:
    """Return the classes that both files name, if they number any of them differently; else none.

    Args:
        one, other: the names of the labels 1, 2, ... of each file.

    >>> common_classes(("membrane", "lumen", "actin"), ("membrane", "actin"))
    ('membrane', 'actin')
    >>> common_classes(("membrane", "actin"), ("er", "actin"))  # the numbers may be right
    ()
    """
    common = tuple(name for name in one if name in other)
    return common if any(one.index(name) != other.index(name) for name in common) else ()


def renumbered(labels: np.ndarray, names: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Return labels with the numbers that their names have among the wanted ones, and 0 elsewhere.

    Args:
        labels: integers from 0, of any shape.
        names: of the labels 1, 2, ...
        wanted: the names of the labels that are returned.

    >>> renumbered(np.array([0, 1, 2, 3]), ("membrane", "lumen", "actin"), ("actin", "membrane"))
    array([0, 2, 0, 1])
    """
    table = np.zeros(1 + max(len(names), int(labels.max(initial=0))), labels.dtype)
    for number, name in enumerate(wanted, 1):
        table[1 + list(names).index(name)] = number
    return table[labels]


def _names(
    prediction: PathLike, own: Sequence[str], truth: PathLike, stated: Sequence[str], count: int
) -> tuple[str, ...]:
    """Return the names of so many labels, as the truth or else the prediction states them."""
    for label, (one, other) in enumerate(zip(stated, own, strict=False), 1):
        if one != other and label <= count:
            _log.warning(
                f"label {label} is {one} in {truth} and {other} in {prediction}; labels are "
                "compared by their numbers"
            )
    return next((tuple(names[:count]) for names in (stated, own) if len(names) >= count), ())


def recalibrated_errors(
    probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> tuple[float | None, float | None] | None:
    """Return the calibration errors that are left after `segmenters.fit_recalibration`.

    The annotated sections are divided into a lower and an upper half (rows, if one section alone is
    annotated). Each half is recalibrated by what was fitted to the other one, so that the errors
    are those on voxels to which nothing was fitted.

    Args:
        probabilities: ``(z, y, x, class)`` of all classes but the background, 0 to 1.
        labels: true labels ``(z, y, x)``.
        weights: of the same shape, 0 where not annotated.

    Returns:
        the expected calibration error of all annotated voxels, and that within 3 voxels of the true
        foreground; None if a half has fewer than 200 voxels of a label.

    >>> labels = (np.random.default_rng(0).random((10, 40, 40)) < 0.3).astype(int)
    >>> sure = np.where(labels == 1, 0.5, 0.01)[..., None]  # right, but not sure enough
    >>> all_of_it, _ = recalibrated_errors(sure, labels, np.ones(labels.shape))
    >>> before = evaluate.expected_calibration_error(sure, labels)
    >>> round(before, 2), all_of_it < 0.01
    (0.15, True)
    """
    p = np.clip(np.asarray(probabilities, np.float64), _LEAST, 1 - _LEAST)
    rest = np.clip(1 - p.sum(-1, keepdims=True), _LEAST, 1)
    several = p.shape[-1] > 1
    logits = np.log(np.concatenate([rest, p], axis=-1)) if several else np.log(p / (1 - p))
    known = weights > 0
    axis = 0 if known.any((1, 2)).sum() > 1 else 1
    planes = np.flatnonzero(known.any(tuple(a for a in range(3) if a != axis)))
    if not planes.size:
        return None
    upper = np.zeros(known.shape, bool)
    np.moveaxis(upper, axis, 0)[planes[len(planes) // 2] :] = True
    halves = [known & upper, known & ~upper]
    count = p.shape[-1] + 1
    if any(np.bincount(labels[half], minlength=count).min() < FEWEST for half in halves):
        return None
    for fitted, half in zip(halves, halves[::-1], strict=True):
        found = fit_recalibration(logits[fitted], labels[fitted], weights[fitted])
        z = found(logits[half])
        if several:
            z = np.exp(z - z.max(-1, keepdims=True))
            p[half] = (z / z.sum(-1, keepdims=True))[:, 1:]
        else:
            p[half] = 1 / (1 + np.exp(-z))
    maps = np.concatenate([np.clip(1 - p.sum(-1, keepdims=True), 0, 1), p], axis=-1)
    near = weights * evaluate.foreground_band(labels)
    return (
        evaluate.expected_calibration_error(maps, labels, weights),
        evaluate.expected_calibration_error(maps, labels, near),
    )
