"""``cryojax-seg benchmark``: predictions of any programs, scored side by side on one truth."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import (
    AnnotationOptions,
    Output,
    Overwrite,
    default,
    flat,
    named,
    plain,
)
from cryojax_seg.cli.compare import write_reports
from cryojax_seg.cli.geometry import VolumeOptions
from cryojax_seg.cli.projects import ProjectOptions

_FILES = ("report.html", "scores.json")
_SCORED = (
    "Of all annotated voxels, each program at the threshold of its own labels. A program that "
    "learned from this annotation scores better than it would elsewhere."
)


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Score what several programs found in a tomogram against your own truth, in one report.

    The predictions are label volumes or probability maps of any program, on the grid of the truth
    and with its label numbers. Writes OUTPUT/report.html (one file, opens offline) and
    OUTPUT/scores.json. --tilt-range adds recall against visibility.
    """

    tomogram: Positional[Path]
    """Annotated volume, which the report shows."""
    labels: Path
    """True label volume of the tomogram, or an IMOD model or a mesh of it."""
    output: Output
    """Folder for the report."""
    predictions: Annotated[tuple[str, ...], default("NAME=LABELS ...", "none")] = ()
    """Label volume that each program wrote, with the name to show."""
    maps: Annotated[tuple[str, ...], default("NAME=MAP[,MAP] ...", "none")] = ()
    """Probability maps of a program, with commas between those of several classes. They add its
    calibration, and replace its labels where --predictions has none."""
    seconds: Annotated[tuple[str, ...], default("NAME=S ...", "none")] = ()
    """Time that a program took, in seconds, to show in the report."""
    overwrite: Overwrite = False
    project: ProjectOptions = ProjectOptions()
    volume: VolumeOptions = VolumeOptions()
    annotation: AnnotationOptions = AnnotationOptions()


def run(options: Benchmark) -> None:
    """Run `Benchmark`; a ValueError or OSError says in one line what is wrong."""
    from cryojax_seg import io

    labels = named(options.predictions, "predictions", "NAME=LABELS", "membrain=found.mrc")
    stated = named(options.maps, "maps", "NAME=MAP", "membrain=scores.mrc")
    maps = {name: tuple(map(Path, text.split(","))) for name, text in stated.items()}
    seconds = _seconds(options)
    given = [*labels.values(), *(path for paths in maps.values() for path in paths)]
    inputs = [options.tomogram, options.labels, *map(Path, given)]
    io.check_places([options.output], inputs)
    job, folders = {"benchmark": plain(options)}, {options.output: _FILES}
    with (
        io.folder_made(options.output.parent),
        io.OutputSet(job, [options.output], inputs, options.overwrite, folders) as outputs,
    ):
        if outputs.finished:
            print(f"{options.output}: is done already")
            return
        _benchmark(options, labels, maps, seconds, outputs.place(options.output))
    print(f"report: {options.output / _FILES[0]}")


def _seconds(options: Benchmark) -> dict[str, float]:
    words = named(options.seconds, "seconds", "NAME=S", "membrain=120")
    try:
        return {name: float(word) for name, word in words.items()}
    except ValueError:
        raise ValueError(f"--seconds {' '.join(options.seconds)}: give NAME=S in seconds") from None


def _benchmark(
    options: Benchmark,
    labels: dict[str, str],
    maps: dict[str, tuple[Path, ...]],
    seconds: dict[str, float],
    folder: Path,
) -> None:
    """Score and report into a new folder."""
    from cryojax_seg import inference, training

    data = training.read_examples(
        [options.tomogram], [options.labels], **flat(options.volume), **flat(options.annotation)
    )
    found = inference.benchmark_files(data, labels, maps=maps, seconds=seconds)
    folder.mkdir()
    title = f"{options.tomogram.name}: {len(found.methods)} predictions"
    paths = [folder / name for name in _FILES]
    scores = write_reports(paths, title, found, data, plain(options), _SCORED)
    columns = ("program", "Dice", "precision", "recall", "surface Dice", "ECE", "seconds")
    keys = ("dice", "precision", "recall", "surface_dice", "ece", "seconds")
    rows = [(name, *(console.number(s[key]) for key in keys)) for name, s in scores.items()]
    console.table("scores of all annotated voxels", columns, rows)
