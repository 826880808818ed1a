"""Scores what any programs found in one tomogram against the user's truth, side by side."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from cryojax_seg.core import label_names
from cryojax_seg.errors import ParameterError
from cryojax_seg.io import read_labels, read_probabilities
from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.training import Examples
from cryojax_seg.training.comparison import CrossValidation, HeldOut, held_out
from cryojax_seg.training.folds import Fold

_log = logging.getLogger("cryojax_seg.inference")
_OF_PROBABILITIES = ("ece", "brier")  # scores that labels alone do not have


def benchmark_files(
    data: Examples,
    predictions: Mapping[str, PathLike],
    *,
    maps: Mapping[str, Sequence[PathLike]] | None = None,
    seconds: Mapping[str, float] | None = None,
) -> CrossValidation:
    """Score label volumes or probability maps that any programs made of one annotated tomogram.

    All voxels that are annotated count, each program at the threshold of its own labels. Nobody
    knows whether a program learned from them.

    Args:
        data: the tomogram with the truth, as `training.read_examples` returns it.
        predictions: label volume of each program, by the name to show.
        maps: probability maps of a program, one for each class but the background. They give its
            calibration, and its labels where it has none.
        seconds: how long a program took, to be shown.

    Returns:
        predictions and scores, as the report of a comparison shows them.

    Raises:
        FileError: naming a file that does not hold labels or maps, or lies on another grid.
        ParameterError: if there is nothing to score, or seconds are of no program.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from cryojax_seg.io import write_mrc
    >>> from cryojax_seg.training import read_examples
    >>> folder = Path(tempfile.mkdtemp())
    >>> truth = np.zeros((8, 16, 16), np.int8)
    >>> truth[:, 4:8] = 1
    >>> write_mrc(folder / "truth.mrc", truth, voxel_size=10.0)
    >>> write_mrc(folder / "found.mrc", np.roll(truth, 1, 1), voxel_size=10.0)
    >>> write_mrc(folder / "t.mrc", -truth.astype(np.float32), voxel_size=10.0)
    >>> data = read_examples([folder / "t.mrc"], [folder / "truth.mrc"])
    >>> found = benchmark_files(data, {"other": folder / "found.mrc"}, seconds={"other": 12.0})
    >>> scores = found.methods["other"].scores
    >>> scores["dice"], scores["ece"], scores["seconds"]
    (0.75, None, 12.0)
    """
    maps, seconds = dict(maps or {}), dict(seconds or {})
    names = [*predictions, *(name for name in maps if name not in predictions)]
    if not names:
        raise ParameterError("there is nothing to score; give predictions", "predictions")
    stray = next((name for name in seconds if name not in names), None)
    if stray is not None:
        raise ParameterError(f"{stray}: has seconds, and no prediction", "seconds")
    (example,) = data.examples
    shape, labels = example.labels.shape, label_names(data.classes)
    methods: dict[str, HeldOut] = {}
    for name in names:
        wide = _probabilities(maps[name], shape, len(labels) - 1) if name in maps else None
        if name in predictions:
            found = _labels(predictions[name], shape, labels)
        else:
            assert wide is not None
            found = wide.argmax(-1) if wide.shape[-1] > 1 else (wide[..., 0] > 0.5).astype(int)
        shown = _one_hot(found, len(labels)) if wide is None else wide
        one = held_out(shown.astype(np.float16), found, example, data.voxel_size, data.classes)
        scores = {**one.scores, "seconds": seconds.get(name)}
        if wide is None:
            scores |= dict.fromkeys(_OF_PROBABILITIES)
        curve = one.reliability if wide is not None else []
        methods[name] = HeldOut(one.probabilities, found, scores, curve)
        dice = "-" if scores["dice"] is None else f"{scores['dice']:.3f}"
        _log.info(f"{name}: Dice {dice}")
    annotated = np.flatnonzero((example.weights > 0).any((1, 2)))
    whole = Fold(tuple(int(z) for z in annotated), (), (0, shape[0]))
    return CrossValidation((whole,), methods)


def _labels(path: PathLike, shape: tuple[int, ...], labels: Sequence[str]) -> np.ndarray:
    found = read_labels(path, ignore=None).labels
    _check_shape(path, found.shape, shape)
    if found.max(initial=0) >= len(labels):
        known = ", ".join(f"{i} {name}" for i, name in enumerate(labels))
        raise FileError(
            f"{path}: has the label {found.max()}, and the truth knows {known}; give it the same "
            "numbers"
        )
    return found.astype(np.int64)


def _probabilities(paths: Sequence[PathLike], shape: tuple[int, ...], count: int) -> np.ndarray:
    """Return ``(z, y, x, class)``, with the background first if there are several classes."""
    if len(paths) != count:
        raise FileError(
            f"{paths[0]}: is one of {len(paths)} maps for {count} classes; give one for each, in "
            "the order of the labels"
        )
    found = read_probabilities(paths, shape)
    if count == 1:
        return found
    return np.concatenate([np.clip(1 - found.sum(-1, keepdims=True), 0, 1), found], axis=-1)


def _one_hot(labels: np.ndarray, count: int) -> np.ndarray:
    if count == 2:
        return (labels == 1)[..., None]
    return labels[..., None] == np.arange(count)


def _check_shape(path: PathLike, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if shape != wanted:
        raise FileError(
            f"{path}: has shape {shape} (z, y, x), and the truth {wanted}; they must lie on the "
            "same grid"
        )
