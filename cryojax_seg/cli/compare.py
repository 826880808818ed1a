"""``cryojax-seg compare``: methods on one's own annotation, by cross-validation, as a report."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import (
    AnnotationOptions,
    Output,
    Overwrite,
    Seed,
    check_resume,
    default,
    flat,
    plain,
)
from cryojax_seg.cli.geometry import VolumeOptions
from cryojax_seg.cli.projects import ProjectOptions
from cryojax_seg.training import methods


@dataclasses.dataclass(frozen=True)
class Compare:
    """Compare methods on your own tomogram by cross-validation over its annotated slices.

    The annotated slices are divided into groups of neighbours. Each method is trained without one
    group and scored on it, in turn, so that no score is of a slice it learned from. Writes
    OUTPUT/report.html (one file, opens offline) and OUTPUT/scores.json. Finished folds are kept;
    after an interruption, --resume computes the others.
    """

    tomogram: Positional[Path]
    """Annotated volume: MRC, TIFF, OME-Zarr, NIfTI, NRRD, EM, HDF5, Amira or NumPy."""
    labels: Path
    """Label volume of the tomogram: integers, where 0 is background and 1, 2, ... are the
    classes. An IMOD model or a mesh of the tomogram is taken too."""
    output: Output
    """Folder for the report."""
    methods: str = "threshold,sheet,vote,unet"
    """Methods to compare, with commas between (`cryojax-seg train --help` lists them), or
    MODULE:CLASS for a segmenter of your own. Append @MODULE:FUNCTION to replace a loss."""
    folds: int = 3
    """Number of groups of annotated slices; at most as many as there are slices."""
    gap: int = 2
    """Distance in voxels from the scored group within which slices are not learned from."""
    steps: Annotated[int | None, default("INT", "by method, 150 to 1000")] = None
    """Number of optimizer steps of every method."""
    patch: Annotated[int | None, default("INT", "by method, 40 or 48")] = None
    """Edge of the training patches, in voxels."""
    seed: Seed = 0
    resume: bool = False
    """Continue the comparison in --output."""
    overwrite: Overwrite = False
    project: ProjectOptions = ProjectOptions()
    volume: VolumeOptions = VolumeOptions()
    annotation: AnnotationOptions = AnnotationOptions()


def run(options: Compare) -> None:
    """Run `Compare`; a ValueError or OSError says in one line what is wrong."""
    names = methods.named(options.methods)
    if options.folds < 2:
        raise ValueError(f"--folds must be at least 2, got {options.folds}")
    if options.gap < 0:
        raise ValueError(f"--gap must not be negative, got {options.gap}")
    check_resume(options)
    from cryojax_seg import io
    from cryojax_seg.training import comparison_folder as place

    output, inputs = options.output, [options.tomogram, options.labels]
    of_this_call = ("methods", "output", "tomogram", "labels")
    settings = {k: v for k, v in plain(options).items() if k not in of_this_call}

    def check() -> None:
        io.check_places([output], inputs)
        place.check_comparison(output, settings, resume=options.resume, overwrite=options.overwrite)

    check()
    reports = [output / place.REPORT, output / place.SCORES]
    overwrite, job = options.overwrite or options.resume, {"compare": plain(options)}
    with io.folder_made(output), io.OutputSet(job, reports, inputs, overwrite) as outputs:
        if outputs.finished:
            print(f"{reports[0]}: is done already")
            return
        check()  # again, as another process may have been at it
        _compare(options, names, settings, [outputs.place(path) for path in reports])
    print(f"report: {reports[0]}")


def _compare(options: Compare, names: list[str], settings: Any, reports: list[Path]) -> None:
    """Train, score and report into a folder that is held."""
    from cryojax_seg import training
    from cryojax_seg.runtime import keep_compiled, keep_memory
    from cryojax_seg.training import comparison_folder as place

    keep_compiled()
    keep_memory()
    data = training.read_examples(
        [options.tomogram], [options.labels], **flat(options.volume), **flat(options.annotation)
    )
    (example,) = data.examples
    training.folds_of(example, options.folds, options.gap)  # refuses before anything is written
    place.begin_comparison(options.output, settings, example, overwrite=options.overwrite)
    found = training.cross_validation(
        example,
        names,
        classes=data.classes,
        voxel_size=data.voxel_size,
        folds=options.folds,
        gap=options.gap,
        steps=options.steps,
        patch=options.patch,
        seed=options.seed,
        folder=options.output / place.FOLDS,
    )
    count = sum(len(fold.scored) for fold in found.folds)
    title = f"{options.tomogram.name}: {count} annotated slices"
    scores = write_reports(reports, title, found, data, plain(options))
    columns = ("method", "Dice", "precision", "recall", "surface Dice", "ECE", "training s")
    keys = ("dice", "precision", "recall", "surface_dice", "ece", "training_seconds")
    rows = [(name, *(console.number(s[key]) for key in keys)) for name, s in scores.items()]
    console.table("scores on the slices that each method did not learn from", columns, rows)


def write_reports(
    paths: Sequence[Path], title: str, found: Any, data: Any, options: dict[str, Any], *scored: str
) -> dict[str, dict[str, Any]]:
    """Write the page and the scores of methods on one tomogram; return the scores by name."""
    from cryojax_seg import io, report

    (example,) = data.examples
    shown = {k: v for k, v in options.items() if k not in ("output", "overwrite")}
    scores = {name: result.scores for name, result in found.methods.items()}
    page = report.comparison_page(title, found, example, data.classes, shown, *scored)
    content = {"options": options, "methods": scores}
    texts = (page, json.dumps(content, indent=1, allow_nan=False) + "\n")
    for path, text in zip(paths, texts, strict=True):
        with io.atomic_write(path) as file:
            file.write_text(text, "utf-8")
    return scores
