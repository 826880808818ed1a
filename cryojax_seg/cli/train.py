"""``cryojax-seg train``: a segmenter from annotated tomograms."""

import contextlib
import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cryojax_seg.cli import console, together
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
from cryojax_seg.training import methods

if TYPE_CHECKING:
    from cryojax_seg.training import Fitted

NOTHING = 0.05  # mean Dice below which a model is no use


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
    """Run `Train`; a ValueError or OSError says in one line what is wrong."""
    where = (options.coordinator, options.processes, options.process)
    if not together.join(options.distributed, where):
        _check(options)
        _train(options)
        return
    from cryojax_seg.runtime import processes

    processes.on_primary(lambda: _check(options))  # what it looks for, the first will write
    with contextlib.nullcontext() if processes.is_primary() else together.silence():
        _train(options)


def _train(options: Train) -> None:
    """Hold the run folder before anything in it is touched, then train and save."""
    from cryojax_seg.runtime.processes import on_primary
    from cryojax_seg.training import rundir

    with contextlib.ExitStack() as stack:
        held = rundir.exclusive(options.output)

        def hold() -> None:
            stack.enter_context(held)
            _check_folder(options)

        on_primary(hold)
        _train_in(rundir.Held(options.output), options)


def _train_in(run: Any, options: Train) -> None:
    """Train and save in a folder that is held."""
    from cryojax_seg import inference, runtime, training

    runtime.keep_compiled()
    runtime.keep_memory()
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
    restorer = None if options.restorer is None else inference.load_restorer(options.restorer)[0]
    fitted = training.fit_model(
        data,
        run,
        method=options.method,
        validation=options.validation,
        restorer=restorer,
        joint=options.joint,
        resume=options.resume,
        overwrite=options.overwrite,
        provenance=plain(options),
        steps=options.steps,
        batch=options.batch,
        patch=options.patch,
        learning_rate=options.learning_rate,
        precision=options.precision,
        patience=options.patience,
        seed=options.seed,
    )
    _show(options, fitted)
    if fitted.interrupted is not None:
        raise SystemExit(128 + fitted.interrupted)


def _show(options: Train, fitted: "Fitted") -> None:
    """Say how good the model is and what to do next."""
    folder, result = options.output, fitted.result
    if fitted.scores is not None:
        ratios = {n: (s.dice, s.iou, s.precision, s.recall) for n, s in fitted.scores.items()}
        rows = [(name, *map(console.number, values)) for name, values in ratios.items()]
        console.table("held-out annotation", ("class", "Dice", "IoU", "precision", "recall"), rows)
    step = f"step {result.steps} of {fitted.config.steps}"
    print(f"model: {folder / 'model'} ({result.stopped}, {step})")
    if fitted.interrupted is not None:
        console.say(f"interrupted; {folder} is kept; the same command with --resume goes on")
    elif fitted.dice is not None and fitted.dice < NOTHING:
        console.warn(
            f"this model finds next to nothing of what was held out (Dice {fitted.dice:.3f}). Look "
            "whether the labels lie on the structure and --contrast is right; then try more "
            "--steps, more annotated slices or another --method (cryojax-seg compare tells which)"
        )
    else:
        module, own, _ = methods.parts(options.method)[0].partition(":")
        allow = f" --allow-module {module}" if own else ""
        print(f"next:  cryojax-seg segment {folder} TOMOGRAM -o LABELS.mrc{allow}")


def _check(options: Train) -> None:
    """Refuse what is known to be wrong before anything is read."""
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
    _check_folder(options)


def _check_folder(options: Train) -> None:
    """Refuse a run folder that does not agree with the options."""
    from cryojax_seg import io
    from cryojax_seg.training import rundir

    output, restorer = options.output, options.restorer
    restorers = () if restorer is None else (restorer,)
    io.check_places([output], [*options.tomograms, *options.labels, *restorers])
    used = rundir.is_used(output)
    if used and not options.resume and not options.overwrite:
        raise ValueError(
            f"{output}: holds files already; choose another --output, --resume that run, or "
            "--overwrite it"
        )
    if options.resume and not used:
        raise ValueError(f"{output}: there is no run to --resume")
    if used:
        rundir.check_model_folder(output)
