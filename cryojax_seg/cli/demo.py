"""``cryojax-seg demo``: the whole path from a tomogram to a scored segmentation."""

import dataclasses
import time
from pathlib import Path
from typing import Any, Literal

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import Output, Overwrite
from cryojax_seg.training.methods import Method


@dataclasses.dataclass(frozen=True)
class Demo:
    """Make a noisy phantom with a missing wedge, find its membranes in several ways, and compare.

    The built-in model finds them without annotation, and after one slice of it; every other method
    is trained on three annotated slices. All are scored on the rest of the volume. Writes
    tomogram.mrc, annotation.mrc, truth.mrc, a prediction of each method, model,
    picture.png and results.json.
    """

    output: Output = Path("cryojax-seg-demo")
    """Folder for the results."""
    size: int = 96
    """Number of voxels along x and y, 36 or more; z has two thirds as many."""
    snr: float = 1.0
    """Signal-to-noise ratio inside the structures, as a ratio of variances (no unit)."""
    methods: tuple[Literal["built-in", "one-slice"] | Method, ...] = (
        *("built-in", "one-slice"),
        *("threshold", "local-threshold", "hysteresis", "sheet", "vote", "unet-fast"),
    )
    """Methods to compare; one-slice is the built-in model after it has learned one slice."""
    steps: int = 500
    """Number of training steps of the U-Net; one-slice takes a fifth of them."""
    filter_steps: int = 60
    """Number of training steps of each of the other methods."""
    seed: int = 1
    """Seed of the phantom and of the training."""
    overwrite: Overwrite = False


def run(options: Demo) -> None:
    """Run `Demo`; a ValueError or OSError says in one line what is wrong."""
    from cryojax_seg.demonstration import demonstrate

    start = time.monotonic()
    outcomes = demonstrate(
        options.output,
        size=options.size,
        snr=options.snr,
        compared=options.methods,
        steps=options.steps,
        filter_steps=options.filter_steps,
        seed=options.seed,
        overwrite=options.overwrite,
    )
    _show(options.output, outcomes, time.monotonic() - start)


def _show(folder: Path, outcomes: list[Any], seconds: float) -> None:
    keys = ("dice", "iou", "precision", "recall", "surface_dice")
    rows = [
        (o.name, *(console.number(o.scores[k]) for k in keys), f"{o.seconds:.1f}") for o in outcomes
    ]
    columns = ("method", "Dice", "IoU", "precision", "recall", "surface Dice (20 A)", "seconds")
    console.table("scores of the membranes where nothing was annotated", columns, rows)
    print(f"""
{seconds:.0f} s in all. Look at {folder / "picture.png"}
The volumes beside it open in IMOD, napari or ChimeraX; `cryojax-seg info FILE` describes them.

Next, run one of these methods yourself on the files of this demo:

  cryojax-seg train {folder}/tomogram.mrc --labels {folder}/annotation.mrc --method vote -o run
  cryojax-seg segment run {folder}/tomogram.mrc -o segmented.mrc
  cryojax-seg evaluate segmented.mrc {folder}/truth.mrc

Or take your own tomogram with labels of the same shape: 0 for background, 1 for the structure and
255 where you did not annotate. A few annotated slices are enough:

  cryojax-seg train TOMOGRAM.mrc --labels LABELS.mrc --tilt-range -60 60 -o run""")
