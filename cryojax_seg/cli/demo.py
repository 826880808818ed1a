"""``cryojax-seg demo``: the whole way from a tomogram to a scored segmentation, in two minutes."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import Overwrite
from cryojax_seg.training.methods import Method, build, defaults, objective

CLASSES = ("membrane",)
TILTS = (-60.0, 60.0)
VOLUMES = ("tomogram", "truth", "annotation")
VOXEL_SIZE = 10.0  # angstrom
COMPARED: tuple[Method, ...] = (
    "threshold",
    "local-threshold",
    "hysteresis",
    "sheet",
    "vote",
    "unet",
)


@dataclasses.dataclass(frozen=True)
class Demo:
    """Make a noisy phantom with a missing wedge, learn its membranes from three slices, compare.

    Every method is trained on the same three annotated slices and scored on the rest of the
    volume. Writes tomogram.mrc, annotation.mrc, truth.mrc, a prediction of each method, model,
    picture.png and results.json.
    """

    output: Annotated[Path, arg(aliases=["-o"])] = Path("cryojax-seg-demo")
    """Folder for the files."""
    size: int = 96
    """Voxels along x and y, 36 or more; two thirds as many along z."""
    snr: float = 1.0
    """Signal-to-noise ratio: variance of the signal in structures over variance of the noise."""
    methods: tuple[Method, ...] = COMPARED
    """What is compared."""
    steps: int = 500
    """Training steps of the U-Net."""
    filter_steps: int = 60
    """Training steps of each of the other methods."""
    seed: int = 1
    """Seed of the phantom and of the training."""
    overwrite: Overwrite = False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One method: its labels, scores where nothing was annotated, and seconds of training."""

    name: str
    labels: Any
    scores: dict[str, float | None]
    recall: list
    seconds: float


def run(options: Demo) -> None:
    """Does what `Demo` says; a ValueError or OSError tells what is wrong in one line."""
    folder = options.output
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: exists and is not a folder; choose another --output")
    if _is_done(folder) and not options.overwrite:
        raise ValueError(
            f"{folder}: holds files already; choose another --output or --overwrite it"
        )
    if not options.methods or len(set(options.methods)) < len(options.methods):
        raise ValueError("--methods needs one or more different methods")
    if options.size < 36:
        raise ValueError(f"--size must be 36 voxels or more, got {options.size}")
    for name in ("steps", "filter_steps"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be 1 or more")
    from cryojax_seg import io

    io.check_places([folder])
    with io.folder_made(folder), io.held(io.lock_path(io.real_path(folder)), folder):
        _demo(options)


def _is_done(folder: Path) -> bool:
    """Whether a folder holds a whole demo, or what is none: a demo that was killed starts over."""
    from cryojax_seg.io import is_leftover

    own = {f"{name}.mrc" for name in (*VOLUMES, *COMPARED)} | {"model", "picture.png"}
    entries = folder.iterdir() if folder.is_dir() else ()
    return any(path.name not in own and not is_leftover(path) for path in entries)


def _demo(options: Demo) -> None:
    """Makes, trains and scores in a folder that is held."""
    start, folder = time.monotonic(), options.output
    shape = (2 * options.size // 3, options.size, options.size)
    console.say(
        f"[1/3] phantom: {' x '.join(map(str, shape))} voxels of 10 A, SNR {options.snr:g}, tilts "
        f"{TILTS[0]:g} to {TILTS[1]:g} degrees; three z slices are annotated"
    )
    cell, example, slices = _data(options, shape)
    _write_data(folder, cell, example, options)
    console.say(f"      {time.monotonic() - start:.0f} s")
    console.say("[2/3] training on these slices, scoring on the rest of the volume")
    outcomes = []
    for method in options.methods:
        outcomes.append(_compare(method, options, cell, example, slices))
        dice = console.number(outcomes[-1].scores["dice"])
        console.say(f"      {method:<16} Dice {dice}   {outcomes[-1].seconds:5.1f} s")
    console.say("[3/3] picture")
    _write_results(folder, options, cell, slices, outcomes, time.monotonic() - start)
    _show(folder, outcomes, time.monotonic() - start)


def _data(options: Demo, shape: tuple[int, int, int]):
    """The phantom, its three annotated slices as a training example, and their z indices."""
    import jax
    import numpy as np

    from cryojax_seg.core import MissingWedge, normalize
    from cryojax_seg.runtime import keep_compiled, keep_memory
    from cryojax_seg.simulate import WedgeImaging, presets, simulate
    from cryojax_seg.training import Example

    keep_compiled()
    keep_memory()
    scene_key, noise_key = jax.random.split(jax.random.key(options.seed))
    scene = presets.vesicles(scene_key, shape, VOXEL_SIZE)
    cell = simulate(scene, WedgeImaging(options.snr, wedge=MissingWedge(TILTS)), noise_key)
    slices = tuple(shape[0] * part // 4 for part in (1, 2, 3))
    weights = np.zeros(shape, np.float32)
    weights[list(slices)] = 1
    labels = (np.asarray(cell.labels) == 1).astype(np.int32)  # the rest is background
    volume = normalize(np.asarray(cell.density), "bright")
    return cell, Example(volume, labels, weights, cell.wedge, name="phantom"), slices


def _segmenter(method: Method, example, options: Demo):
    """One that trains and compiles in seconds: a small network, one scale for each filter."""
    from flax import nnx

    from cryojax_seg import segmenters as s

    match method:
        case "unet":
            stem = "space_to_depth"
            return s.UNet(16, 1, stem, classes=CLASSES, rngs=nnx.Rngs(options.seed))
        case "local-threshold":
            return s.LocalThreshold((3.0,), classes=CLASSES)
        case "sheet":
            return s.SheetFilter((2.0,), classes=CLASSES)
        case _:
            return build(method, CLASSES, example.volume, options.seed)


def _compare(method: Method, options: Demo, cell, example, slices) -> Outcome:
    """Trains one method on the annotated slices and scores it more than 2 voxels off them."""
    import numpy as np

    from cryojax_seg import core, evaluate, io, segmenters, training

    start = time.monotonic()
    chosen, network = defaults(method), method == "unet"
    # Flat patches, because annotated slices are: more of a patch is annotated.
    z, y, _ = example.volume.shape
    deep, wide = min(24, z // 4 * 4), min(48, y // 4 * 4)
    config = training.TrainConfig(
        steps=options.steps if network else options.filter_steps,
        batch=2,
        patch=(deep, wide, wide),
        learning_rate=chosen.learning_rate,
        ema=chosen.ema,
        seed=options.seed,
    )
    segmenter = _segmenter(method, example, options)
    result = training.train(
        segmenter, [example], config, objective=objective(method), progress=False
    )
    fitted = segmenters.fit_normalization(result.operator, example.volume, patch=wide)
    labels = np.asarray(core.labels(core.apply(fitted, example.volume)))
    seconds = time.monotonic() - start
    weights = np.ones(labels.shape)
    for z in slices:
        weights[max(z - 2, 0) : z + 3] = 0
    counts = evaluate.overlap(labels, example.labels, weights, CLASSES)[CLASSES[0]]
    scores = {k: getattr(counts, k) for k in ("dice", "iou", "precision", "recall")}
    scores["surface_dice"] = evaluate.surface_dice(
        labels > 0, example.labels > 0, 20.0, cell.voxel_size, weights
    )
    recall = evaluate.recall_by_visibility(
        labels > 0, example.labels > 0, np.asarray(cell.visibility), 5, weights, 50.0
    )
    like = core.Tomogram(labels, cell.voxel_size)
    io.write_mrc(options.output / f"{method}.mrc", labels.astype(np.int8), like, overwrite=True)
    if network:
        card = io.ModelCard(cell.voxel_size, "dark", tilt_range=TILTS, patch=wide)
        io.save_model(options.output / "model", fitted, card, overwrite=True)
    return Outcome(method, labels, scores, recall, seconds)


def _write_data(folder: Path, cell, example, options: Demo) -> None:
    import numpy as np

    from cryojax_seg import core, io

    like = core.Tomogram(-np.asarray(cell.density), cell.voxel_size)  # dark, as files are
    annotation = np.where(example.weights > 0, example.labels, 255).astype(np.int16)
    arrays = (like.density, example.labels.astype(np.int8), annotation)
    for name, array in zip(VOLUMES, arrays, strict=True):
        io.write_mrc(folder / f"{name}.mrc", array, like, overwrite=True)


def _write_results(folder: Path, options: Demo, cell, slices, outcomes, seconds: float) -> None:
    import json

    from cryojax_seg import io, report

    with io.atomic_write(folder / "picture.png") as file:
        report.draw_outcomes(file, cell, slices, outcomes)
    results = {
        "config": {**dataclasses.asdict(options), "output": str(options.output)},
        "annotated_slices": slices,
        "seconds": round(seconds, 1),
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


def _show(folder: Path, outcomes: list[Outcome], seconds: float) -> None:
    keys = ("dice", "iou", "precision", "recall", "surface_dice")
    rows = [
        (o.name, *(console.number(o.scores[k]) for k in keys), f"{o.seconds:.1f}") for o in outcomes
    ]
    columns = ("method", "Dice", "IoU", "precision", "recall", "surface Dice (20 A)", "seconds")
    console.table("membranes, scored where nothing was annotated", columns, rows)
    print(f"""
{seconds:.0f} s in all. Look at {folder / "picture.png"}
The volumes beside it open in IMOD, napari or ChimeraX; `cryojax-seg info FILE` describes them.

Next, one of these methods by hand, from the files of this demo:

  cryojax-seg train {folder}/tomogram.mrc --labels {folder}/annotation.mrc --method vote -o run
  cryojax-seg segment run {folder}/tomogram.mrc -o segmented.mrc
  cryojax-seg evaluate segmented.mrc {folder}/truth.mrc

Or your own tomogram, with labels of its size: 0 for background, 1 for the structure and 255 where
you did not look. A few slices are enough:

  cryojax-seg train TOMOGRAM.mrc --labels LABELS.mrc --tilt-range -60 60 -o run""")
