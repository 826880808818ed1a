"""Demonstrate the whole path from a tomogram to a scored segmentation, on a phantom."""

import dataclasses
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from cryojax_seg import (
    core,
    evaluate,
    inference,
    io,
    report,
    runtime,
    segmenters,
    simulate,
    training,
)
from cryojax_seg.core import MissingWedge
from cryojax_seg.errors import ParameterError
from cryojax_seg.io.files import PathLike
from cryojax_seg.simulate import presets
from cryojax_seg.training import Example, methods
from cryojax_seg.training.methods import Method
from cryojax_seg.training.settings import configured

Compared = Literal["built-in", "one-slice"] | Method
COMPARED: tuple[Compared, ...] = (
    "built-in", "one-slice",
    "threshold", "local-threshold", "hysteresis", "sheet", "vote", "unet-fast",
)  # fmt: skip
CLASSES = ("membrane",)
TILTS = (-60.0, 60.0)
VOXEL_SIZE = 10.0  # angstrom
_VOLUMES = ("tomogram", "truth", "annotation")
_LEAST = 36  # voxels along x and y
_APART = 2  # slices beside annotated ones, which are not scored
_log = logging.getLogger("cryojax_seg.demonstration")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One method on the phantom.

    Attributes:
        name: what found it, see `demonstrate`.
        labels: ``(z, y, x)`` that it predicts.
        scores: by name, where nothing was annotated; None where a score is not defined.
        recall: by visibility, see `evaluate.recall_by_visibility`.
        seconds: of training.
    """

    name: str
    labels: np.ndarray
    scores: dict[str, float | None]
    recall: list
    seconds: float


def demonstrate(
    folder: PathLike,
    *,
    size: int = 96,
    snr: float = 1.0,
    compared: Sequence[Compared] = COMPARED,
    steps: int = 500,
    filter_steps: int = 60,
    seed: int = 1,
    overwrite: bool = False,
) -> list[Outcome]:
    """Make a noisy phantom with a missing wedge, find its membranes, and score.

    Writes tomogram.mrc, annotation.mrc, truth.mrc, a prediction of each method, the model of the
    U-Net, picture.png and results.json. A demonstration that was killed starts over.

    Args:
        folder: for the files.
        size: voxels along x and y, 36 or more; two thirds as many along z.
        snr: variance of the signal in structures over that of the noise.
        compared: names of the methods, which learn from three slices; "built-in" for the built-in
            model of membranes, which learns nothing, and "one-slice" for that model after one.
        steps: of training of the U-Net, and a fifth of them from one slice.
        filter_steps: of training of each of the other methods.
        seed: of the phantom and of the training.
        overwrite: replace an earlier demonstration.

    Raises:
        ParameterError: for a folder that holds files, or a number that is too small.

    >>> import tempfile
    >>> found = demonstrate(tempfile.mkdtemp(), size=36, compared=["threshold"], filter_steps=2)
    >>> [one.name for one in found], sorted(found[0].scores)[:2]
    (['threshold'], ['dice', 'iou'])
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ParameterError(f"{folder}: exists and is not a folder; choose another", "output")
    if _holds_files(folder) and not overwrite:
        raise ParameterError(
            f"{folder}: holds files already; choose another output or overwrite it",
            *("output", "overwrite"),
        )
    if not compared or len(set(compared)) < len(compared):
        raise ParameterError("name one or more different methods", "methods")
    least = {"size": (size, _LEAST), "steps": (steps, 1), "filter_steps": (filter_steps, 1)}
    for name, (value, lowest) in least.items():
        if value < lowest:
            raise ParameterError(f"{name} must be {lowest} or more, got {value}", name)
    io.check_places([folder])
    runtime.keep_compiled()
    runtime.keep_memory()
    with io.folder_made(folder), io.held(io.lock_path(io.real_path(folder)), folder):
        return _demonstrate(folder, size, snr, compared, (steps, filter_steps), seed)


def _holds_files(folder: Path) -> bool:
    """Return whether a folder holds a whole demonstration, or files of others."""
    own = {f"{name}.mrc" for name in (*_VOLUMES, *COMPARED)} | {"model", "picture.png"}
    entries = folder.iterdir() if folder.is_dir() else ()
    return any(path.name not in own and not io.is_leftover(path) for path in entries)


def _demonstrate(
    folder: Path, size: int, snr: float, compared: Sequence[Compared], steps: Any, seed: int
) -> list[Outcome]:
    start = time.monotonic()
    shape = (2 * size // 3, size, size)
    _log.info(
        f"[1/3] phantom: {' x '.join(map(str, shape))} voxels of {VOXEL_SIZE:g} A, SNR {snr:g}, "
        f"tilts {TILTS[0]:g} to {TILTS[1]:g} degrees; three z slices are annotated"
    )
    cell, example, slices = _phantom(shape, snr, seed)
    _write_phantom(folder, cell, example)
    _log.info(f"      {time.monotonic() - start:.0f} s")
    _log.info(f"[2/3] labels, scored more than {_APART} slices from the annotated ones")
    outcomes = []
    for name in compared:
        match name:
            case "built-in" | "one-slice" if inference.built_in_name(CLASSES[0]) is None:
                _log.info(f"      {name:<16} left out, as this package has no built-in model")
                continue
            case "built-in":
                outcomes.append(_built_in(folder, cell, example, slices))
            case "one-slice":
                few = max(1, steps[0] // 5)
                outcomes.append(_one_slice(folder, few, seed, cell, example, slices))
            case method:
                count = steps[not method.startswith("unet")]
                outcomes.append(_compare(folder, method, count, seed, cell, example, slices))
        dice = outcomes[-1].scores["dice"]
        shown = "-" if dice is None else f"{dice:.3f}"
        taken = f"{outcomes[-1].seconds:5.1f} s, {time.monotonic() - start:.0f} s in all"
        _log.info(f"      {name:<16} Dice {shown}   {taken}")
    _log.info("[3/3] picture")
    with io.atomic_write(folder / "picture.png") as file:
        report.draw_outcomes(file, cell, slices, outcomes)
    config = {"output": str(folder), "size": size, "snr": snr, "methods": compared, "seed": seed}
    config |= {"steps": steps[0], "filter_steps": steps[1]}
    results = {
        "config": config,
        "annotated_slices": slices,
        "seconds": round(time.monotonic() - start, 1),
        "methods": {
            o.name: {
                **o.scores,
                "seconds": round(o.seconds, 1),
                "recall_by_visibility": [dataclasses.asdict(b) for b in o.recall],
            }
            for o in outcomes
        },
    }
    with io.atomic_write(folder / "results.json") as file:
        file.write_text(json.dumps(results, indent=2) + "\n")
    return outcomes


def _phantom(shape: tuple[int, int, int], snr: float, seed: int):
    """Return the phantom, its three annotated slices as an example, and their z indices."""
    scene_key, noise_key = jax.random.split(jax.random.key(seed))
    scene = presets.vesicles(scene_key, shape, VOXEL_SIZE)
    imaging = simulate.WedgeImaging(snr, wedge=MissingWedge(TILTS))
    cell = simulate.simulate(scene, imaging, noise_key)
    slices = tuple(shape[0] * part // 4 for part in (1, 2, 3))
    weights = np.zeros(shape, np.float32)
    weights[list(slices)] = 1
    labels = (np.asarray(cell.labels) == 1).astype(np.int32)  # the rest is background
    volume = core.normalize(np.asarray(cell.density), "bright")
    return cell, Example(volume, labels, weights, cell.wedge, name="phantom"), slices


def _write_phantom(folder: Path, cell: simulate.Phantom, example: Example) -> None:
    like = core.Tomogram(-np.asarray(cell.density), cell.voxel_size)  # dark, as files are
    assert example.labels is not None
    annotation = np.where(example.weights > 0, example.labels, 255).astype(np.int16)
    arrays = (like.density, example.labels.astype(np.int8), annotation)
    for name, array in zip(_VOLUMES, arrays, strict=True):
        io.write_mrc(folder / f"{name}.mrc", array, like, overwrite=True)


def _built_in(
    folder: Path, cell: simulate.Phantom, example: Example, slices: tuple[int, ...]
) -> Outcome:
    """Segment the phantom with the built-in model."""
    start = time.monotonic()
    labels = _segmented(inference.load(CLASSES[0]), cell)
    seconds = time.monotonic() - start
    return _outcome(folder, "built-in", labels, seconds, cell, example, slices)


def _segmented(model: inference.Model, cell: simulate.Phantom) -> np.ndarray:
    """Return the labels that `segment` gives by default."""
    if model.is_small_unet and cell.wedge is not None:
        model = model.with_flips(cell.wedge)
    tomogram = core.Tomogram(np.asarray(cell.density), cell.voxel_size)
    return np.asarray(inference.segment(model, tomogram, contrast="bright"))


def _one_slice(
    folder: Path,
    steps: int,
    seed: int,
    cell: simulate.Phantom,
    example: Example,
    slices: tuple[int, ...],
) -> Outcome:
    """Let the built-in model learn the middle one of the annotated slices."""
    start, model = time.monotonic(), inference.load(CLASSES[0])
    weights = np.zeros_like(example.weights)
    weights[slices[1]] = 1
    one = dataclasses.replace(example, weights=weights)
    fitted = training.fit_model(
        training.Examples((one,), CLASSES, cell.voxel_size, "bright", TILTS),
        start=(model.segmenter, model.card),
        steps=steps,
        seed=seed,
        progress=False,
    )
    labels = _segmented(inference.Model(fitted.operator, fitted.card), cell)
    seconds = time.monotonic() - start
    return _outcome(folder, "one-slice", labels, seconds, cell, example, slices)


def _compare(
    folder: Path,
    method: Method,
    steps: int,
    seed: int,
    cell: simulate.Phantom,
    example: Example,
    slices: tuple[int, ...],
) -> Outcome:
    """Train a method on the annotated slices and score it."""
    start = time.monotonic()
    untrained = methods.build(method, CLASSES, example.volume, seed)
    segmenter = training.with_prior(untrained, [example])
    config = configured(method, segmenter, [example], steps=steps, seed=seed)
    result = training.train(
        segmenter, [example], config, objective=methods.objective(method), progress=False
    )
    wide = max(config.patch_shape)
    fitted = segmenters.fit_normalization(result.operator, example.volume, patch=wide)
    labels = np.asarray(core.labels(core.apply(fitted, example.volume)))
    if method.startswith("unet"):
        card = io.ModelCard(cell.voxel_size, "dark", tilt_range=TILTS, patch=wide)
        io.save_model(folder / "model", fitted, card, overwrite=True)
    seconds = time.monotonic() - start
    return _outcome(folder, method, labels, seconds, cell, example, slices)


def _outcome(
    folder: Path,
    name: str,
    labels: np.ndarray,
    seconds: float,
    cell: simulate.Phantom,
    example: Example,
    slices: tuple[int, ...],
) -> Outcome:
    """Write labels, and score them more than 2 voxels off the annotated slices."""
    weights = np.ones(labels.shape)
    for z in slices:
        weights[max(z - _APART, 0) : z + _APART + 1] = 0
    assert example.labels is not None
    counts = evaluate.overlap(labels, example.labels, weights, CLASSES)[CLASSES[0]]
    scores = {k: getattr(counts, k) for k in ("dice", "iou", "precision", "recall")}
    scores["surface_dice"] = evaluate.surface_dice(
        labels > 0, example.labels > 0, 20.0, cell.voxel_size, weights
    )
    recall = evaluate.recall_by_visibility(
        labels > 0, example.labels > 0, np.asarray(cell.visibility), 5, weights, 50.0
    )
    like = core.Tomogram(labels, cell.voxel_size)
    io.write_mrc(folder / f"{name}.mrc", labels.astype(np.int8), like, overwrite=True)
    return Outcome(name, labels, scores, recall, seconds)
