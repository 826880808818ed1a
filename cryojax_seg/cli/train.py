"""``cryojax-seg train``: a segmenter from annotated tomograms."""

import contextlib
import dataclasses
import math
import signal
from pathlib import Path
from typing import Annotated, Any, Literal

from cryojax_seg.cli import console, run_folder, together
from cryojax_seg.cli.arguments import (
    Contrast,
    Output,
    Overwrite,
    TiltRange,
    Tomograms,
    VoxelSize,
    default,
    plain,
)
from cryojax_seg.text import percent
from cryojax_seg.training import methods

_BY_METHOD = "by method"
NOTHING = 0.05  # mean Dice below which a model is no use
WIDE = 16  # voxels; of a smaller halo there is little to save


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a segmenter on annotated tomograms; a few annotated slices are enough to start.

    Part of the annotation is held out to validate, and the best parameters by that are kept.
    Writes RUN/model (for `cryojax-seg segment`), RUN/config.yaml, RUN/metrics.jsonl and
    checkpoints. Ctrl-C saves and stops; --resume goes on from there.
    """

    tomograms: Tomograms
    """Volumes to learn from: MRC (also .rec, .map, .gz, .bz2) or TIFF."""
    labels: Annotated[tuple[Path, ...], default("LABELS ...", "required")]
    """A label volume for each tomogram: integers, 0 is background, 1, 2, ... the classes."""
    output: Output
    """Folder of the run."""
    method: Annotated[str, default(f"{{{methods.NAMES}}}[@MODULE:FUNCTION]", "unet")] = "unet"
    """What to train, and with which loss if not the usual: of the package, such as
    cryojax_seg.losses:cl_dice, or your own, of (logits, labels, weights) or (segmenter, batch)."""
    restorer: Annotated[Path | None, default("RUN", "none")] = None
    """A restorer (the .run folder of `cryojax-seg restore`) that the tomogram passes first."""
    joint: float = 0.0
    """Let that restorer learn along, with this factor of its own loss (equivariant; it needs the
    tilt range); 0 leaves it as it is."""
    classes: Annotated[
        tuple[str, ...], default("NAME ...", "foreground, or class1 class2 ...")
    ] = ()
    """Names of the labels 1, 2, ... in order."""
    slices: Annotated[tuple[int, ...], default("Z ...", "all")] = ()
    """The z indices that are annotated (voxels, from 0); all others are ignored."""
    ignore: int = 255
    """Label value of voxels that nobody annotated; signed bytes (MRC mode 0) hold 255 as -1."""
    steps: Annotated[int | None, default("INT", "by method, 150 to 1000")] = None
    """Optimizer steps."""
    batch: Annotated[int | None, default("INT", "2")] = None
    """Patches per step."""
    patch: Annotated[int | None, default("INT", "by method, 40 or 48")] = None
    """Edge of the training patches in voxels."""
    learning_rate: Annotated[float | None, default("FLOAT", "by method, 0.001 to 0.05")] = None
    """Peak learning rate of AdamW (no unit)."""
    precision: Literal["f32", "bf16"] = "f32"
    """Of a network's products while it learns; bf16 is for GPUs and TPUs."""
    validation: float = 0.2
    """Fraction of the annotation that is held out, 0 to below 1; 0 for none."""
    patience: int = 0
    """Stop after this many validations without improvement; 0 for never."""
    tilt_range: Annotated[TiltRange, default("LO HI", "unknown")] = None
    """Lowest and highest tilt in degrees; allows flips that leave the missing wedge unchanged."""
    tilt_axis: Literal["y", "x"] = "y"
    """Axis the sample was tilted about."""
    contrast: Contrast = "dark"
    """Whether structure is darker or brighter than its surroundings."""
    voxel_size: VoxelSize = None
    """Voxel size in angstrom."""
    seed: int = 0
    """Seed of all randomness."""
    resume: bool = False
    """Go on with the run in --output from its newest checkpoint."""
    config: Annotated[Path | None, default("FILE", "none")] = None
    """YAML file of these options ('steps: 500'), such as RUN/config.yaml; what is typed wins."""
    overwrite: Overwrite = False
    """Replace an existing run."""
    distributed: bool = False
    """Train together with the other processes that Slurm or Open MPI started with this command."""
    coordinator: Annotated[str | None, default("HOST:PORT", "none")] = None
    """Elsewhere: where process 0 runs, and a free port there; with --processes and --process."""
    processes: Annotated[int | None, default("N", "none")] = None
    """How many processes train together."""
    process: Annotated[int | None, default("I", "none")] = None
    """Which of them this is, 0 to N-1."""


def run(options: Train) -> None:
    """Does what `Train` says; a ValueError or OSError tells what is wrong in one line."""
    where = (options.coordinator, options.processes, options.process)
    if not together.join(options.distributed, where):
        _check(options)
        _train(options)
        return
    from cryojax_seg.training import processes

    processes.from_first(lambda: _check(options))  # what it looks for, the first will write
    with contextlib.nullcontext() if processes.is_first() else together.silence():
        _train(options)


def _train(options: Train) -> None:
    """Holds the run folder before anything in it is touched, then trains and saves."""
    from cryojax_seg.training import rundir
    from cryojax_seg.training.processes import from_first

    with contextlib.ExitStack() as stack:
        held = rundir.exclusive(options.output)

        def hold() -> None:
            stack.enter_context(held)
            run_folder.check(options)

        from_first(hold)
        _train_in(rundir.Held(options.output), options)


def _train_in(run: Any, options: Train) -> None:
    """Trains and saves in a folder that is held."""
    from cryojax_seg import core, inference, training
    from cryojax_seg.training.processes import from_first
    from cryojax_seg.training.restorers import BORDER

    core.keep_compiled()
    core.keep_memory()
    data = training.read_examples(
        options.tomograms,
        options.labels,
        voxel_size=options.voxel_size,
        contrast=options.contrast,
        tilt_range=options.tilt_range,
        tilt_axis=options.tilt_axis,
        classes=options.classes,
        slices=options.slices,
        ignore=options.ignore,
    )
    examples, held_out, classes = list(data.examples), [], data.classes
    if options.validation > 0:
        examples, held_out = training.hold_out(examples, classes, options.validation, options.seed)
    segmenter = methods.build(options.method, classes, examples[0].measured, options.seed)
    goal, seen, checked = methods.objective(options.method), examples, held_out
    config = methods.configured(
        options.method,
        segmenter,
        examples,
        steps=options.steps,
        batch=options.batch,
        patch=options.patch,
        learning_rate=options.learning_rate,
        precision=options.precision,
        patience=options.patience,
        seed=options.seed,
    )
    restorer = None if options.restorer is None else inference.load_restorer(options.restorer)[0]
    if restorer is not None and options.joint:
        segmenter, goal = training.jointly(restorer, segmenter, goal, options.joint)
        border = min(BORDER, min(config.patch_shape) // 5)
        config = dataclasses.replace(config, margin=border)
    elif restorer is not None:  # which stays as it is, so that whole volumes can be restored first
        patch = max(config.patch_shape)
        seen, checked = (training.restored(restorer, es, patch) for es in (examples, held_out))
    from_first(lambda: run_folder.begin(options))
    known = sum(float((e.weights > 0).mean()) for e in examples) / len(examples)
    console.say(
        f"training {options.method} on {len(examples)} tomogram(s), {percent(known)} "
        f"annotated: {config.steps} steps of {config.batch} patches "
        + "x".join(map(str, config.patch_shape))
    )
    result = training.train(
        segmenter,
        seen,
        config,
        validation=checked,
        objective=goal,
        run=run,
        resume=options.resume,
    )
    if restorer is not None and not options.joint:
        both = core.Chain([restorer, result.operator])
        result = dataclasses.replace(result, operator=both)
    from_first(lambda: _finish(options, config, result, examples, held_out, data.voxel_size))
    if result.stopped in signal.Signals.__members__:
        raise SystemExit(128 + signal.Signals[result.stopped])


def _finish(options: Train, config, result, examples, held_out, voxel_size) -> None:
    """Saves the model and says how good it is and what to do next."""
    from cryojax_seg import io

    folder, patch = options.output, max(config.patch_shape)
    interrupted = result.stopped in signal.Signals.__members__
    card = io.ModelCard(
        voxel_size=voxel_size,
        contrast=options.contrast,
        tilt_range=options.tilt_range,
        patch=patch,
        halo=None if interrupted else _halo(result.operator, examples[0].measured),
        provenance={"method": options.method, "config": plain(options)},
    )
    io.save_model(folder / "model", result.operator, card, overwrite=True)
    found = None
    if held_out and not interrupted:
        console.say("scoring on the annotation that was held out")
        found = _report(result.operator, held_out, patch, card.halo)
    print(f"model: {folder / 'model'} ({result.stopped}, step {result.steps} of {config.steps})")
    if interrupted:
        console.say(f"interrupted; {folder} is kept; the same command with --resume goes on")
    elif found is not None and found < NOTHING:
        console.warn(
            f"this model finds next to nothing of what was held out (Dice {found:.3f}). Look "
            "whether the labels lie on the structure and --contrast is right; then try more "
            "--steps, more annotated slices or another --method (cryojax-seg compare tells which)"
        )
    else:
        module, own, _ = methods.parts(options.method)[0].partition(":")
        allow = f" --allow-module {module}" if own else ""
        print(f"next:  cryojax-seg segment {folder} TOMOGRAM -o LABELS.mrc{allow}")


def _check(options: Train) -> None:
    """What can be told to be wrong before anything is read."""
    if not options.tomograms:
        raise ValueError("no tomogram given; see cryojax-seg train --help")
    try:
        methods.known(options.method)
    except ValueError as error:
        raise ValueError(f"--method: {error}") from None
    if len(options.labels) != len(options.tomograms):
        raise ValueError(
            f"{len(options.tomograms)} tomogram(s) and {len(options.labels)} label file(s); "
            "--labels needs one for each tomogram, in the same order"
        )
    if not 0 <= options.joint < math.inf:
        raise ValueError(f"--joint is a factor, 0 or more, got {options.joint}")
    if options.joint and options.restorer is None:
        raise ValueError("--joint lets a restorer learn along; give one with --restorer")
    if options.joint and options.tilt_range is None:
        raise ValueError("--joint needs --tilt-range LO HI, what was measured")
    if not 0 <= options.validation < 1:
        raise ValueError(f"--validation is a fraction from 0 to below 1, got {options.validation}")
    output = options.output
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output}: exists and is not a folder; choose another --output")
    if options.resume and options.overwrite:
        raise ValueError("--resume and --overwrite exclude each other")
    run_folder.check(options)


def _halo(segmenter, volume) -> int | None:
    """How much of a wide halo matters, for `segment`."""
    from cryojax_seg.segmenters import fit_halo

    if segmenter.halo < WIDE:
        return None
    console.say("measuring how far a voxel reaches")
    fitted, difference = fit_halo(segmenter, volume)
    console.say(
        f"halo: {fitted.halo} of {segmenter.halo} voxels matter, logits differ by {difference:.2g}"
    )
    return fitted.halo


def _report(segmenter, held_out, patch: int, halo: int | None) -> float | None:
    """Prints the scores on what was held out, with the halo that matters; the mean Dice."""
    from cryojax_seg import core, evaluate, segmenters
    from cryojax_seg.training.validate import annotated

    total: dict[str, evaluate.Overlap] = {}
    for example in held_out:
        fitted = segmenters.fit_normalization(segmenter, example.measured, patch=patch)
        fitted = fitted if halo is None else segmenters.Truncated(fitted, halo)
        where = annotated(example, fitted.stride)
        tile = core.plan_tiles(fitted, tuple(w.stop - w.start for w in where))
        tile = dataclasses.replace(tile, origin=tuple(w.start for w in where))
        predicted = core.labels(core.apply(fitted, example.volume, tile))
        true, weights = example.labels[where], example.weights[where]
        scores = evaluate.overlap(predicted, true, weights, fitted.classes)
        total = {
            name: score + total.get(name, evaluate.Overlap(0.0, 0.0, 0.0))
            for name, score in scores.items()
        }
    rows = [
        (name, *(console.number(v) for v in (s.dice, s.iou, s.precision, s.recall)))
        for name, s in total.items()
    ]
    console.table("held-out annotation", ("class", "Dice", "IoU", "precision", "recall"), rows)
    defined = [score.dice for score in total.values() if score.dice is not None]
    return sum(defined) / len(defined) if defined else None
