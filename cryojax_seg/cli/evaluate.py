"""``cryojax-seg evaluate``: scores of a label volume against the truth."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import TiltRange, VoxelSize, default

KEYS = ("dice", "iou", "precision", "recall", "surface_dice", "boundary_iou", "hausdorff95")


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
    """Run `Evaluate`; a ValueError or OSError says in one line what is wrong."""
    import json

    scores = score(options)
    if options.json:
        print(json.dumps(scores, indent=2))
        return
    show(scores, f"{options.prediction} against {options.truth}")


def show(scores: dict, title: str) -> None:
    """Print the scores as a table."""
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


def score(options: Evaluate) -> dict[str, Any]:
    """Return all scores as plain values; None where a score is not defined."""
    from cryojax_seg import evaluate, io
    from cryojax_seg.core import MissingWedge

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
    if volume.voxel_size is None and options.tolerance is not None:
        volume.require_voxel_size()
    wedge = options.tilt_range and MissingWedge(options.tilt_range, options.tilt_axis)
    found = evaluate.score(
        predicted.labels,
        truth.labels,
        weights=truth.weights,
        classes=options.classes,
        voxel_size=volume.voxel_size,
        tolerance=options.tolerance,
        wedge=wedge,
        probabilities=_probabilities(options.probabilities, truth.labels.shape),
    )
    files = {"prediction": str(options.prediction), "truth": str(options.truth)}
    return files | found.as_dict()


def _probabilities(paths: tuple[Path, ...], shape: tuple[int, ...]) -> Any:
    """Read probability maps ``(z, y, x, class)`` of this shape, one file for each class."""
    from cryojax_seg import io

    return io.read_probabilities(paths, shape) if paths else None
