"""``cryojax-seg evaluate``: scores of a label volume against the truth."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import TiltRange, VoxelSize, default

RATIOS = ("dice", "iou", "precision", "recall")
KEYS = (*RATIOS, "surface_dice", "boundary_iou", "hausdorff95")
BINS = (0.0, 0.3, 0.5, 0.7, 0.85, 1.0)  # of visibility


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Score a predicted label volume against a true one, class by class.

    A dash in the table (null in JSON) is a score that is not defined: the precision of a class
    that was never predicted, the recall of one that is not in the truth.
    """

    prediction: Positional[Path]
    """Predicted labels: MRC or TIFF of integers, 0 is background."""
    truth: Positional[Path]
    """True labels on the same grid."""
    classes: Annotated[
        tuple[str, ...], default("NAME ...", "foreground, or class1 class2 ...")
    ] = ()
    """Names of the labels 1, 2, ... in order."""
    ignore: int = 255
    """Label value of voxels of the truth that nobody annotated; they do not count."""
    slices: Annotated[tuple[int, ...], default("Z ...", "all")] = ()
    """Score these z indices only (voxels, from 0)."""
    tolerance: Annotated[float | None, default("ANGSTROM", "two voxels")] = None
    """Distance within which two surfaces agree in the surface Dice, and width of the border in
    the boundary IoU, in angstrom."""
    tilt_range: Annotated[TiltRange, default("LO HI", "unknown")] = None
    """Lowest and highest tilt in degrees: adds recall and precision against visibility."""
    tilt_axis: Literal["y", "x"] = "y"
    """Axis the sample was tilted about."""
    probabilities: Annotated[tuple[Path, ...], default("PATH ...", "none")] = ()
    """Probability maps, one for each class but the background: adds calibration (ECE, Brier)."""
    voxel_size: VoxelSize = None
    """Voxel size in angstrom."""
    json: bool = False
    """Print JSON instead of a table."""


def run(options: Evaluate) -> None:
    """Does what `Evaluate` says; a ValueError or OSError tells what is wrong in one line."""
    import json

    scores = score(options)
    if options.json:
        print(json.dumps(scores, indent=2))
        return
    show(scores, f"{options.prediction} against {options.truth}")


def show(scores: dict, title: str) -> None:
    """Prints the scores as a table."""
    tolerance = scores["tolerance"]
    unit = "A" if scores["tolerance_unit"] == "angstrom" else "voxels"
    columns = (
        "class",
        "Dice",
        "IoU",
        "precision",
        "recall",
        f"surface Dice ({tolerance:g} {unit})",
        "boundary IoU",
        f"HD95 ({unit})",
    )
    rows = dict(scores["classes"])
    if len(rows) > 1:
        rows |= {"mean of the classes": scores["mean"], "any class": scores["foreground"]}
    rows = [(c, *(console.number(row.get(k)) for k in KEYS)) for c, row in rows.items()]
    console.table(title, columns, rows)
    for name, row in scores["classes"].items():
        if "by_visibility" in row and row["dice"] is not None:
            lines = [
                (
                    f"{b['low']:g} to {b['high']:g}",
                    *(console.number(b[key]) for key in ("recall", "precision")),
                    str(b["invented"]),
                )
                for b in row["by_visibility"]
            ]
            columns = ("visibility", "recall", "precision", "voxels far from any")
            console.table(f"{name}: by what the missing wedge left of it", columns, lines)
        if row["betti_error"] is not None:
            pieces, tunnels, cavities = row["betti_error"]
            print(f"  {name}: off by {pieces:g} pieces, {tunnels:g} tunnels, {cavities:g} cavities")
    if "calibration" in scores:
        values = scores["calibration"]
        text = ", ".join(f"{name} {console.number(value)}" for name, value in values.items())
        print(f"  calibration: {text}")


def score(options: Evaluate) -> dict:
    """All scores as plain values; None where a score is not defined."""
    import numpy as np

    from cryojax_seg import evaluate, io
    from cryojax_seg.core import label_names

    # The truth may have unannotated voxels; a prediction has none.
    truth = io.read_labels(options.truth, ignore=options.ignore, annotated=options.slices or None)
    if not truth.labels.any() and not truth.weights.all() and not options.slices:
        raise io.FileError(
            f"{options.truth}: no voxel has a label other than 0, so there is nothing to score; "
            + io.not_annotated_hint(options.ignore)
        )
    volume = io.read_tomogram(options.prediction, options.voxel_size)
    predicted = io.read_labels(options.prediction, ignore=None, voxel_size=options.voxel_size)
    if predicted.labels.shape != truth.labels.shape:
        raise io.FileError(
            f"{options.prediction}: has shape {predicted.labels.shape} (z, y, x), and "
            f"{options.truth} has {truth.labels.shape}; they must lie on the same grid"
        )
    values = (int(predicted.labels.max()), int(truth.labels.max()))
    classes = class_names(options.classes, max(values))
    if len(label_names(classes)) <= max(values):
        raise io.FileError(
            f"{options.prediction if values[0] > values[1] else options.truth}: has the label "
            f"{max(values)}, but only {len(label_names(classes)) - 1} classes are named (--classes)"
        )
    size = volume.voxel_size
    if size is None and options.tolerance is not None:
        volume.require_voxel_size()
    unit = "voxels" if size is None else "angstrom"
    size = (1.0, 1.0, 1.0) if size is None else size
    tolerance = 2 * float(np.mean(size)) if options.tolerance is None else options.tolerance
    overlaps = evaluate.overlap(predicted.labels, truth.labels, truth.weights, classes)
    rows = {}
    for label, (name, counts) in enumerate(overlaps.items(), 1):
        masks = (predicted.labels == label, truth.labels == label)
        ratios = {k: getattr(counts, k) for k in RATIOS}
        surfaces = {
            "surface_dice": evaluate.surface_dice(*masks, tolerance, size, truth.weights),
            "boundary_iou": evaluate.boundary_iou(*masks, tolerance, size, truth.weights),
            "hausdorff95": evaluate.hausdorff95(*masks, size, truth.weights),
            # Pieces and holes of a part of a volume are those of the cut.
            "betti_error": evaluate.betti_error(*masks) if (truth.weights > 0).all() else None,
        }
        rows[name] = {**ratios, **surfaces, **dataclasses.asdict(counts)}
        if options.tilt_range is not None:
            rows[name]["by_visibility"] = _by_visibility(options, *masks, truth.weights)
    found = (predicted.labels > 0).astype(np.int32)
    real = (truth.labels > 0).astype(np.int32)
    together = evaluate.overlap(found, real, truth.weights, ("foreground",))["foreground"]
    result = {
        "prediction": str(options.prediction),
        "truth": str(options.truth),
        "tolerance": tolerance,
        "tolerance_unit": unit,
        "classes": rows,
        "mean": {key: _mean([row[key] for row in rows.values()]) for key in KEYS},
        "foreground": {key: getattr(together, key) for key in RATIOS},
    }
    if options.probabilities:
        result["calibration"] = _calibration(options, truth, len(overlaps))
    return result


def _mean(values: list[float | None]) -> float | None:
    """The mean of the scores that are defined."""
    defined = [v for v in values if v is not None]
    return sum(defined) / len(defined) if defined else None


def _by_visibility(options: Evaluate, predicted, truth, weights) -> list[dict[str, Any]]:
    """Recall, precision and voxels that nothing explains, in bins of what the wedge left."""
    from cryojax_seg import evaluate
    from cryojax_seg.core import MissingWedge

    wedge = MissingWedge(options.tilt_range, options.tilt_axis)
    seen = wedge.visibility(evaluate.mask_normals(truth))
    recall = evaluate.recall_by_visibility(
        predicted, truth, seen, BINS, weights, voxels_per_sample=50.0
    )
    precision = evaluate.precision_by_visibility(
        predicted, truth, seen, wedge, BINS, weights=weights
    )
    return [
        {
            "low": r.low,
            "high": r.high,
            "recall": r.recall,
            "recall_interval": r.interval,
            "precision": p.precision,
            "invented": p.invented,
        }
        for r, p in zip(recall, precision, strict=True)
    ]


def class_names(names: tuple[str, ...], highest: int) -> tuple[str, ...]:
    """The classes as a segmenter has them, from the names of the labels 1, 2, ...

    >>> class_names(("membrane",), 1), class_names((), 2)
    (('membrane',), ('background', 'class1', 'class2'))
    >>> class_names(("membrane", "microtubule"), 2)
    ('background', 'membrane', 'microtubule')
    """
    if not names:
        names = ("foreground",) if highest <= 1 else tuple(f"class{i + 1}" for i in range(highest))
    if len(set(names)) < len(names):
        raise ValueError(f"--classes: the names must differ, got {' '.join(names)}")
    several = len(names) > 1 and names[0] != "background"
    return ("background", *names) if several else tuple(names)


def _calibration(options: Evaluate, truth, foreground: int) -> dict[str, float | None]:
    import numpy as np

    from cryojax_seg import evaluate, io

    if len(options.probabilities) != foreground:
        raise ValueError(
            f"--probabilities: {len(options.probabilities)} maps for {foreground} classes; give "
            "one for each class but the background, in the order of the labels"
        )
    maps = [np.asarray(io.read_tomogram(p).density, np.float32) for p in options.probabilities]
    for path, values in zip(options.probabilities, maps, strict=True):
        if values.shape != truth.labels.shape:
            raise io.FileError(
                f"{path}: has shape {values.shape} (z, y, x), the truth {truth.labels.shape}"
            )
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise io.FileError(f"{path}: holds values outside 0 to 1; is it a probability map?")
    p = np.stack(maps, axis=-1)
    if foreground > 1:
        p = np.concatenate([np.clip(1 - p.sum(-1, keepdims=True), 0, 1), p], axis=-1)
    near = truth.weights * evaluate.foreground_band(truth.labels, 3.0)
    return {
        "ECE": evaluate.expected_calibration_error(p, truth.labels, truth.weights),
        "ECE near foreground": evaluate.expected_calibration_error(p, truth.labels, near),
        "Brier": evaluate.brier_score(p, truth.labels, truth.weights),
    }
