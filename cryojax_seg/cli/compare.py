"""``cryojax-seg compare``: methods on one's own annotation, by cross-validation, as a report."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import (
    Contrast,
    Output,
    Overwrite,
    TiltRange,
    VoxelSize,
    default,
    plain,
)
from cryojax_seg.training import methods

REPORT, SCORES, STATE, FOLDS = "report.html", "scores.json", "compare.json", "folds"


@dataclasses.dataclass(frozen=True)
class Compare:
    """Compare methods on your own tomogram by cross-validation over its annotated slices.

    The annotated slices are divided into groups of neighbours. Each method is trained without one
    group and scored on it, in turn, so that no score is of a slice it learned from. Writes
    OUTPUT/report.html (one file, opens offline) and OUTPUT/scores.json. What is done is kept:
    after an interruption, --resume goes on.
    """

    tomogram: Positional[Path]
    """The volume: MRC (also .rec, .map, .gz, .bz2) or TIFF."""
    labels: Path
    """Its annotation: integers, 0 is background, 1, 2, ... the classes."""
    output: Output
    """Folder of the report."""
    methods: str = "threshold,sheet,vote,unet"
    """What to compare: names of methods (see `cryojax-seg train --help`) with commas between, or
    MODULE:CLASS for a segmenter of your own; METHOD@MODULE:FUNCTION trains with a loss of yours."""
    folds: int = 3
    """Groups of annotated slices; at most as many as there are slices."""
    gap: int = 2
    """Slices this near to the group that is scored are not learned from (voxels)."""
    classes: Annotated[
        tuple[str, ...], default("NAME ...", "foreground, or class1 class2 ...")
    ] = ()
    """Names of the labels 1, 2, ... in order."""
    slices: Annotated[tuple[int, ...], default("Z ...", "all")] = ()
    """The z indices that are annotated (voxels, from 0); all others are ignored."""
    ignore: int = 255
    """Label value of voxels that nobody annotated; signed bytes (MRC mode 0) hold 255 as -1."""
    steps: Annotated[int | None, default("INT", "by method, 150 to 1000")] = None
    """Optimizer steps of every method."""
    patch: Annotated[int | None, default("INT", "by method, 40 or 48")] = None
    """Edge of the training patches in voxels."""
    tilt_range: Annotated[TiltRange, default("LO HI", "unknown")] = None
    """Lowest and highest tilt in degrees: adds recall against visibility."""
    tilt_axis: Literal["y", "x"] = "y"
    """Axis the sample was tilted about."""
    contrast: Contrast = "dark"
    """Whether structure is darker or brighter than its surroundings."""
    voxel_size: VoxelSize = None
    """Voxel size in angstrom."""
    seed: int = 0
    """Seed of all randomness."""
    resume: bool = False
    """Go on with the comparison in --output."""
    overwrite: Overwrite = False
    """Replace an earlier comparison."""


def chosen(names: str) -> list[str]:
    """Return the methods that are named.

    Raises:
        ValueError: naming one that does not exist.

    >>> chosen("threshold, unet")
    ['threshold', 'unet']
    """
    words = list(dict.fromkeys(word.strip() for word in names.split(",") if word.strip()))
    try:
        return [methods.known(word) for word in words or [""]]
    except ValueError as error:
        raise ValueError(f"--methods: {error if words else 'no method given'}") from None


def run(options: Compare) -> None:
    """Run `Compare`; a ValueError or OSError says in one line what is wrong."""
    names = chosen(options.methods)
    _check(options)
    from cryojax_seg import io

    reports = [options.output / REPORT, options.output / SCORES]
    overwrite, job = options.overwrite or options.resume, {"compare": plain(options)}
    with (
        io.folder_made(options.output),
        io.OutputSet(job, reports, _inputs(options), overwrite) as outputs,
    ):
        if outputs.finished:
            print(f"{reports[0]}: is done already")
            return
        _check_folder(options)  # again, as another process may have been at it
        _compare(options, names, outputs)
    print(f"report: {reports[0]}")


def _compare(options: Compare, names: list[str], outputs: Any) -> None:
    """Train, score and report into a folder that is held."""
    from cryojax_seg import io, report, training
    from cryojax_seg.runtime import keep_compiled, keep_memory

    keep_compiled()
    keep_memory()
    data = training.read_examples(
        [options.tomogram],
        [options.labels],
        voxel_size=options.voxel_size,
        contrast=options.contrast,
        tilt_range=options.tilt_range,
        tilt_axis=options.tilt_axis,
        classes=options.classes,
        slices=options.slices,
        ignore=options.ignore,
    )
    (example,) = data.examples
    training.folds_of(example, options.folds, options.gap)  # refuses before anything is written
    _start(options, example)
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
        folder=options.output / FOLDS,
    )
    count = sum(len(fold.scored) for fold in found.folds)
    title = f"{options.tomogram.name}: {count} annotated slices"
    shown = {k: v for k, v in plain(options).items() if k not in ("output", "overwrite")}
    page = report.comparison_page(title, found, example, data.classes, shown)
    with io.atomic_write(outputs.place(options.output / REPORT)) as file:
        file.write_text(page, "utf-8")
    scores = {name: result.scores for name, result in found.methods.items()}
    _write(outputs.place(options.output / SCORES), {"options": plain(options), "methods": scores})
    columns = ("method", "Dice", "precision", "recall", "surface Dice", "ECE", "training s")
    keys = ("dice", "precision", "recall", "surface_dice", "ece", "training_seconds")
    rows = [(name, *(console.number(s[key]) for key in keys)) for name, s in scores.items()]
    console.table("slices that were not learned from", columns, rows)


def _check(options: Compare) -> None:
    """Refuse what is known to be wrong before anything is read."""
    if options.folds < 2:
        raise ValueError(f"--folds must be at least 2, got {options.folds}")
    if options.gap < 0:
        raise ValueError(f"--gap must not be negative, got {options.gap}")
    output = options.output
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output}: exists and is not a folder; choose another --output")
    if options.resume and options.overwrite:
        raise ValueError("--resume and --overwrite exclude each other")
    _check_folder(options)


def _inputs(options: Compare) -> list[Path]:
    return [options.tomogram, options.labels]


def _check_folder(options: Compare) -> None:
    """Refuse a folder of the report that does not agree with the options.

    Without --resume too a comparison goes on that has the same options and no report yet.
    """
    from cryojax_seg import io

    output = options.output
    io.check_places([output], _inputs(options))
    if io.is_half_published(output / REPORT) or options.overwrite:
        return
    state = output / STATE
    before = io.read_json_object(state) if state.is_file() else {}
    if options.resume and not before:
        raise ValueError(f"{output}: there is no comparison to --resume")
    now = _resumable(options)
    changed = sorted(
        k for k in (before.keys() | now.keys()) - {"data"} if before.get(k) != now.get(k)
    )
    if options.resume and changed:
        raise ValueError(
            f"{output}: was made with another --{changed[0].replace('_', '-')}; --resume only goes "
            "on with the same options (--methods may differ)"
        )
    used = output.is_dir() and any(not io.is_leftover(path) for path in output.iterdir())
    reported = any((output / name).exists() for name in (REPORT, SCORES))
    if used and not options.resume and (changed or reported):
        raise ValueError(
            f"{output}: holds files already; choose another --output, --resume that comparison, or "
            "--overwrite it"
        )


def _resumable(options: Compare) -> dict[str, Any]:
    """Return what must not change between the parts of a comparison, beside the data."""
    of_this_call = ("methods", "output", "tomogram", "labels")
    return {k: v for k, v in plain(options).items() if k not in of_this_call}


def _start(options: Compare, example: Any) -> None:
    """Write the state of the comparison; that of an earlier one goes, or is of the same data."""
    from cryojax_seg import io
    from cryojax_seg.training import rundir

    state, folds = options.output / STATE, options.output / FOLDS
    if options.overwrite:  # what an earlier comparison wrote here, and nothing else
        state.unlink(missing_ok=True)
        for path in folds.glob("*-[0-9]*.npz"):
            path.unlink()
    now = _resumable(options) | {"data": rundir.fingerprint(example)}
    if state.exists() and io.read_json_object(state).get("data") != now["data"]:
        raise ValueError(
            f"{options.output}: was made with another tomogram or other labels; choose another "
            "--output, or --overwrite it"
        )
    _write(state, now)  # first: without it nobody could tell whose folds they are


def _write(path: Path, content: Any) -> None:
    from cryojax_seg import io

    with io.atomic_write(path) as file:
        file.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
