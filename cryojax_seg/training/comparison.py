"""Compares methods by cross-validation over groups of annotated slices."""

import dataclasses
import hashlib
import json
import logging
import math
import time
import zipfile
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from cryojax_seg import evaluate
from cryojax_seg.core import apply, plan_tiles
from cryojax_seg.core.segmenter import probabilities as probabilities_of
from cryojax_seg.io import FileError, atomic_write
from cryojax_seg.io.files import check_memory, existing_file
from cryojax_seg.segmenters import fit_normalization
from cryojax_seg.training import methods, settings
from cryojax_seg.training.example import Example
from cryojax_seg.training.folds import Fold, folds_of, restricted
from cryojax_seg.training.loop import train
from cryojax_seg.training.prior import with_prior
from cryojax_seg.training.rundir import fingerprint

_log = logging.getLogger("cryojax_seg.training")


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Holds the predictions of one method for slices that it did not learn from, and their scores.

    Returned by `cross_validation`.

    Attributes:
        probabilities: float16 ``(z, y, x, class)``, each slice by the fold that it belongs to.
        predicted: labels ``(z, y, x)``.
        scores: plain values by name; None where a score is not defined.
        reliability: mean confidence and accuracy in each bin of confidence that has voxels.
    """

    probabilities: np.ndarray
    predicted: np.ndarray
    scores: dict[str, Any]
    reliability: list[list[float]]


@dataclasses.dataclass(frozen=True)
class CrossValidation:
    """Holds the scores of several methods, each trained without every fold and scored on it.

    Returned by `cross_validation`.

    Attributes:
        folds: how the annotated slices were divided.
        methods: the predictions and scores of each method, by its name.
    """

    folds: tuple[Fold, ...]
    methods: dict[str, HeldOut]


@dataclasses.dataclass(frozen=True)
class _Task:
    """Holds the arguments that all methods and folds share."""

    example: Example
    classes: tuple[str, ...]
    steps: int | None
    patch: int | None
    seed: int
    progress: bool


def cross_validation(
    example: Example,
    names: Sequence[str],
    *,
    classes: Sequence[str] = ("foreground",),
    voxel_size: tuple[float, float, float] | None = None,
    folds: int = 3,
    gap: int = 2,
    steps: int | None = None,
    patch: int | None = None,
    seed: int = 0,
    folder: str | PathLike[str] | None = None,
    progress: bool = True,
) -> CrossValidation:
    """Train each method without one group of annotated slices and score it on that group, in turn.

    No score is taken on a slice that was learned from.

    Args:
        example: an annotated tomogram.
        names: names of the methods, see `methods.known`.
        classes: names of the classes, as in `core.Segmenter`.
        voxel_size: angstrom, one per axis (zyx); None for distances in voxels.
        folds: number of groups of annotated slices, at most as many as there are slices.
        gap: slices this near to a held-out one, in voxels, are not learned from.
        steps: number of steps of every training; None for the default of each method.
        patch: edge of the training patches, in voxels; None for the default of each method.
        seed: seed of all random numbers.
        folder: folder for finished folds, from which an interrupted call continues when it is
            repeated; None keeps nothing.
        progress: whether to show the progress of each training on stderr.

    Raises:
        ValueError: for an unknown method, or an annotation that cannot be divided.
        FileError: naming the file, if the folder holds a fold that is damaged or of other data.

    >>> labels = np.zeros((16, 16, 16), int)
    >>> labels[:, 4:8] = 1
    >>> found = cross_validation(
    ...     Example(labels.astype(np.float32), labels), ["threshold"], folds=2, steps=2, patch=8,
    ...     progress=False,
    ... )
    >>> [fold.shown for fold in found.folds], found.methods["threshold"].predicted.shape
    ([(0, 8), (8, 16)], (16, 16, 16))
    """
    for name in names:
        methods.known(name)
    task = _Task(example, tuple(classes), steps, patch, seed, progress)
    divided = folds_of(example, folds, gap)
    count = sum(len(fold.scored) for fold in divided)
    _log.info(
        f"{count} annotated slices in {len(divided)} groups, {len(names)} method(s): "
        f"{len(divided) * len(names)} trainings"
    )
    content = fingerprint(example)
    found = {}
    for name in names:
        parts = []
        for number, fold in enumerate(divided):
            path = None
            if folder is not None:
                path = Path(folder) / f"{name.replace(':', '.')}-{number}.npz"
            parts.append(_part(task, name, fold, number, path, _key(task, name, fold, content)))
        found[name] = gather(parts, divided, example, voxel_size, task.classes)
        scores = found[name].scores
        dice, ece = ("-" if scores[k] is None else f"{scores[k]:.3f}" for k in ("dice", "ece"))
        _log.info(f"{name}: Dice {dice}, ECE {ece}")
    return CrossValidation(tuple(divided), found)


def _key(task: _Task, name: str, fold: Fold, content: str) -> str:
    """Return a digest of everything that the predictions of a fold depend on."""
    of = (name, task.classes, task.steps, task.patch, task.seed, dataclasses.astuple(fold))
    wedge = repr(task.example.wedge)
    return hashlib.sha256(json.dumps([of, content, wedge]).encode()).hexdigest()


def _part(
    task: _Task, name: str, fold: Fold, number: int, path: Path | None, key: str
) -> dict[str, Any]:
    """Return the predictions of a method for one fold, from an earlier call or by training now."""
    example = task.example
    if path is not None and path.exists():
        shape = (fold.shown[1] - fold.shown[0], *example.volume.shape[1:], len(task.classes))
        return read_fold(path, shape, key)
    _log.info(f"{name}: learning from {len(fold.learned)} slices, group {number + 1}")
    part = _trained(task, name, fold)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file, open(file, "wb") as stream:
            np.savez_compressed(stream, **part, key=np.asarray(key))
    return part


def _trained(task: _Task, name: str, fold: Fold) -> dict[str, Any]:
    """Train on the slices of a fold, and predict those that it shows."""
    example, learned = task.example, restricted(task.example, fold.learned)
    segmenter = methods.build(name, task.classes, example.measured, task.seed)
    segmenter = with_prior(segmenter, [learned])
    config = settings.configured(
        name, segmenter, [learned], steps=task.steps, patch=task.patch, seed=task.seed
    )
    objective = methods.objective(name)
    start = time.perf_counter()
    result = train(segmenter, [learned], config, objective=objective, progress=task.progress)
    trained = time.perf_counter()
    fitted = fit_normalization(result.operator, example.measured, patch=max(config.patch_shape))
    low, high = fold.shown
    first = low // fitted.stride * fitted.stride
    shape = (high - first, *example.volume.shape[1:])
    tile = dataclasses.replace(plan_tiles(fitted, shape), origin=(first, 0, 0))
    logits = apply(fitted, example.volume, tile)[low - first :]
    probabilities = np.asarray(probabilities_of(logits), np.float16)
    if example.missing is not None:
        probabilities[example.missing[low:high]] = 0
    return {
        "probabilities": probabilities,
        "seconds": np.asarray((trained - start, time.perf_counter() - trained)),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(nnx.state(segmenter, nnx.Param))),
        "voxels": math.prod(shape),
    }


def gather(
    parts: Sequence[dict[str, Any]],
    folds: Sequence[Fold],
    example: Example,
    voxel_size: tuple[float, float, float] | None,
    classes: tuple[str, ...],
) -> HeldOut:
    """Combine the folds of a method and score them on the annotated slices.

    Args:
        parts: for each fold, what `read_fold` returns.
        folds: the folds, in the same order.
        example: the example with all its annotation.
        voxel_size: angstrom, zyx; None for distances in voxels.
        classes: as in `core.Segmenter`.
    """
    p = np.concatenate([part["probabilities"] for part in parts])
    predicted = p.argmax(-1) if p.shape[-1] > 1 else (p[..., 0] > 0.5).astype(np.int64)
    found = held_out(p, predicted, example, voxel_size, classes, folds)
    seconds = np.sum([part["seconds"] for part in parts], axis=0)
    scores = {
        **found.scores,
        "training_seconds": float(seconds[0]),
        "parameters": int(parts[0]["parameters"]),
        "voxels_per_second": float(sum(int(part["voxels"]) for part in parts) / seconds[1]),
    }
    return dataclasses.replace(found, scores=scores)


def held_out(
    probabilities: np.ndarray,
    predicted: np.ndarray,
    example: Example,
    voxel_size: tuple[float, float, float] | None,
    classes: tuple[str, ...],
    folds: Sequence[Fold] = (),
) -> HeldOut:
    """Score predictions on the annotated slices.

    Args:
        probabilities: float16 ``(z, y, x, class)``, as in `HeldOut`.
        predicted: labels ``(z, y, x)``.
        example: the example with all its annotation.
        voxel_size: angstrom, zyx; None for distances in voxels.
        classes: as in `core.Segmenter`.
        folds: groups of slices whose Dice is given besides.

    >>> labels = np.zeros((6, 6, 6), int)
    >>> labels[:, 2:4] = 1
    >>> example, sure = Example(labels.astype(np.float32), labels), labels[..., None] * 1.0
    >>> found = held_out(sure.astype(np.float16), labels, example, None, ("foreground",))
    >>> found.scores["dice"], found.scores["ece"]
    (1.0, 0.0)
    """
    p, truth, weights = probabilities, example.labels, example.weights
    overlaps = evaluate.overlap(predicted, truth, weights, classes)
    per_fold = []
    for fold in folds:
        known = restricted(example, fold.scored).weights
        scores = evaluate.overlap(predicted, truth, known, classes)
        per_fold.append(_mean([s.dice for s in scores.values()]))
    size = (1.0, 1.0, 1.0) if voxel_size is None else voxel_size
    rows = {}
    for label, (name, counts) in enumerate(overlaps.items(), 1):
        rows[name] = {k: getattr(counts, k) for k in ("dice", "iou", "precision", "recall")}
        rows[name]["surface_dice"] = evaluate.surface_dice(
            predicted == label, truth == label, 2 * float(np.mean(size)), size, weights
        )
    means = {key: _mean([row[key] for row in rows.values()]) for key in next(iter(rows.values()))}
    wide = p.astype(np.float32)
    if p.shape[-1] > 1:  # float16 rounds; the classes must add up to one
        wide /= wide.sum(-1, keepdims=True)
    diagram = evaluate.reliability(wide, truth, weights, bins=10)
    scores = {
        **means,
        "dice_by_group": per_fold,
        "ece": evaluate.expected_calibration_error(wide, truth, weights),
        "brier": evaluate.brier_score(wide, truth, weights),
        "classes": rows,
    }
    kept = diagram.weight > 0
    curve = [
        [float(c), float(a)]
        for c, a in zip(diagram.confidence[kept], diagram.accuracy[kept], strict=True)
    ]
    return HeldOut(p, predicted, scores, curve)


def read_fold(path: Path, shape: tuple[int, ...], key: str) -> dict[str, np.ndarray]:
    """Read the predictions of one fold that an earlier call stored.

    Raises:
        FileError: naming the file, if it is damaged or of another comparison.
    """
    kinds = {"probabilities": (shape, "f"), "seconds": ((2,), "f")}
    kinds |= {"parameters": ((), "iu"), "voxels": ((), "iu"), "key": ((), "U")}
    found = {}
    existing_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        check_memory(path, size, "remove it")
        with np.load(path, allow_pickle=False) as file:
            for name, (wanted, kind) in kinds.items():
                found[name] = file[name]
                if found[name].shape != wanted or found[name].dtype.kind not in kind:
                    raise ValueError(f"{name} are {found[name].shape} {found[name].dtype}")
        if found.pop("key") != key:
            raise ValueError("it has another key")
    except Exception as error:  # a damaged archive surfaces as any of a dozen types
        raise FileError(
            f"{path}: is damaged or of another comparison ({error}); remove it, and it is made "
            "again"
        ) from error
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
