"""``cryojax-seg train``: a segmenter from annotated tomograms."""

import contextlib
import dataclasses
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import (
    AnnotationOptions,
    Output,
    Overwrite,
    Seed,
    Tomograms,
    VolumeOptions,
    check_resume,
    default,
    flat,
    plain,
)
from cryojax_seg.training import methods

if TYPE_CHECKING:
    from cryojax_seg.training import Fitted

NOTHING = 0.05  # mean Dice below which a model is no use


@dataclasses.dataclass(frozen=True)
class LengthOptions:
    """Say when training ends if not after a number of steps."""

    until_converged: bool = False
    """End when the validation score no longer rises; a run without --steps does. A number of
    steps is then the limit."""
    minutes: Annotated[float | None, default("FLOAT", f"{methods.MINUTES} without --steps")] = None
    """Limit of --until-converged, which it implies, in minutes. The learning rate falls early
    enough to end within it."""

    def limit(self) -> float | None:
        """Return the limit in minutes; None to take all steps."""
        return methods.MINUTES if self.until_converged and self.minutes is None else self.minutes


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """Change how the method learns; the defaults suit most tomograms."""

    batch: Annotated[int | None, default("INT", "2")] = None
    """Patches per step."""
    patch: Annotated[int | None, default("INT", "by method, 40 or 48")] = None
    """Edge of the training patches, in voxels."""
    learning_rate: Annotated[float | None, default("FLOAT", "by method, 0.001 to 0.05")] = None
    """Peak learning rate of AdamW (no unit)."""
    precision: Literal["f32", "bf16"] = "f32"
    """Precision of a network's products during training; use bf16 on GPUs and TPUs."""
    start: Annotated[Path | None, default("RUN", "none")] = None
    """Folder of a model that was trained before, RUN or RUN/model, from whose parameters the
    training begins. Classes are matched by name. It needs a third of the learning rate."""
    replay: Annotated[float | None, default("FRACTION", "0.5 with --start, else 0")] = None
    """Fraction of the patches of each step that come from simulated phantoms, so that a few
    slices do not overwrite what the model knew; 0 turns it off."""
    patience: int = 0
    """Stop after this many validations without improvement; 0 never stops early."""
    restorer: Annotated[Path | None, default("RUN", "none")] = None
    """Folder of a restorer (the .run folder of `cryojax-seg restore`) that is applied first."""
    joint: float = 0.0
    """Weight of the restorer's own loss (no unit). 0 keeps the restorer fixed; above 0 it learns
    along with the segmenter, which needs --tilt-range."""
    seed: Seed = 0


@dataclasses.dataclass(frozen=True)
class ProcessOptions:
    """Train in several processes, on several devices or machines."""

    distributed: bool = False
    """Join the other processes that Slurm or Open MPI started with this command."""
    coordinator: Annotated[str | None, default("HOST:PORT", "none")] = None
    """Address of process 0 and a free port there, where neither Slurm nor Open MPI started this
    process; give --processes and --process too."""
    processes: Annotated[int | None, default("N", "none")] = None
    """Number of processes that train together."""
    process: Annotated[int | None, default("I", "none")] = None
    """Index of this process, 0 to N-1."""


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a segmenter on annotated tomograms; a few annotated slices are enough to start.

    A part of the annotation is held out for validation, and the parameters that score best on it
    are kept. Writes RUN/model (for `cryojax-seg segment`), RUN/config.yaml, RUN/metrics.jsonl and
    checkpoints. Ctrl-C saves and stops; --resume goes on from there.
    """

    tomograms: Tomograms
    """Volumes to learn from: MRC (also .rec, .map, .gz, .bz2) or TIFF."""
    labels: Annotated[tuple[Path, ...], default("LABELS ...", "required")]
    """One label volume for each tomogram: integers, where 0 is background and 1, 2, ... are the
    classes."""
    output: Output
    """Folder RUN for the model and its training."""
    method: Annotated[
        str | None, default(f"{{{methods.NAMES}}}[@MODULE:FUNCTION]", "unet, or that of --start")
    ] = None
    """Method to train. Append @MODULE:FUNCTION to replace its loss; the function takes (logits,
    labels, weights) or (segmenter, batch)."""
    steps: Annotated[int | None, default("INT", "until converged")] = None
    """Number of optimizer steps."""
    validation: float = 0.2
    """Fraction of the annotation that is held out for validation, 0 to below 1; 0 holds out
    nothing."""
    resume: bool = False
    """Continue the run in --output from its newest checkpoint."""
    overwrite: Overwrite = False
    config: Annotated[Path | None, default("FILE", "none")] = None
    """YAML file of these options ('steps: 500'), such as RUN/config.yaml. Options on the command
    line replace those of the file."""
    volume: VolumeOptions = VolumeOptions()
    annotation: AnnotationOptions = AnnotationOptions()
    length: LengthOptions = LengthOptions()
    training: TrainingOptions = TrainingOptions()
    several_processes: ProcessOptions = ProcessOptions()


def run(options: Train) -> None:
    """Run `Train`; a ValueError or OSError says in one line what is wrong."""
    several = options.several_processes
    where = (several.coordinator, several.processes, several.process)
    if where == (None, None, None) and not several.distributed:
        _check(options)
        _train(options)
        return
    from cryojax_seg import runtime
    from cryojax_seg.runtime import processes

    runtime.join(*where)
    processes.on_primary(lambda: _check(options))  # what it looks for, the first will write
    with contextlib.nullcontext() if processes.is_primary() else processes.silence():
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
        options.tomograms, options.labels, **flat(options.volume), **flat(options.annotation)
    )
    settings = flat(options.training)
    restorer, start = settings.pop("restorer"), settings.pop("start")
    fitted = training.fit_model(
        data,
        run,
        method=options.method,
        start=start and _model(start, options.method),
        steps=options.steps,
        minutes=options.length.limit(),
        validation=options.validation,
        restorer=restorer and inference.load_restorer(restorer)[0],
        resume=options.resume,
        overwrite=options.overwrite,
        provenance=plain(options),
        **settings,
    )
    _show(options, fitted)
    if fitted.interrupted is not None:
        raise SystemExit(128 + fitted.interrupted)


def _model(folder: Path, method: str | None) -> Any:
    """Return the segmenter and the card in a folder; a method of your own may be imported."""
    from cryojax_seg import inference, io

    module, own, _ = methods.parts(method or "")[0].partition(":")
    try:
        model = inference.load(folder, (module,) if own else ())
    except io.ForeignModuleError as error:
        raise io.FileError(f"{error}: --method {error.name}") from None
    return model.segmenter, model.card


def _show(options: Train, fitted: "Fitted") -> None:
    """Print how good the model is and what to do next."""
    folder, result = options.output, fitted.result
    if fitted.scores is not None:
        ratios = {n: (s.dice, s.iou, s.precision, s.recall) for n, s in fitted.scores.items()}
        rows = [(name, *map(console.number, values)) for name, values in ratios.items()]
        console.table("held-out annotation", ("class", "Dice", "IoU", "precision", "recall"), rows)
    step = f"step {result.steps}"
    if fitted.config.minutes is None:
        step += f" of {fitted.config.steps}"
    print(f"model: {folder / 'model'} ({result.stopped}, {step})")
    if fitted.interrupted is not None:
        console.say(f"interrupted; {folder} is kept; the same command with --resume goes on")
    elif fitted.dice is not None and fitted.dice < NOTHING:
        console.warn(
            f"this model finds next to nothing of the held-out annotation (Dice {fitted.dice:.3f})."
            " Check that the labels lie on the structure and that --contrast is right; then try "
            "more --steps, more annotated slices or another --method (see cryojax-seg compare)"
        )
    else:
        method = fitted.card.provenance["method"]
        module, own, _ = methods.parts(method)[0].partition(":")
        allow = f" --allow-module {module}" if own else ""
        print(f"next:  cryojax-seg segment {folder} TOMOGRAM -o LABELS.mrc{allow}")
    if fitted.interrupted is None:
        _show_more(folder, fitted)


def _show_more(folder: Path, fitted: "Fitted") -> None:
    """Print whether more steps would help, and the command that takes them."""
    trend, config = fitted.result.trend, fitted.config
    if trend is not None:
        verdict = "it is not known whether more steps would help"
        if trend.flat or trend.rises:
            verdict = f"more steps would {'help' if trend.rises else 'hardly help'}"
        print(f"trend: validation Dice rose by {trend} before the learning rate fell; {verdict}")
    if config.minutes is None:
        longer = f"--steps {2 * fitted.result.steps}"
    else:
        longer = f"--minutes {2 * config.minutes:g}"
    file = shlex.quote(str(folder / "config.yaml"))
    print(f"more:  {console.PROGRAM} train --config {file} --resume {longer}")


def _check(options: Train) -> None:
    """Refuse options that are wrong before JAX is loaded and anything is read."""
    if not options.tomograms:
        raise ValueError("no tomogram given; see cryojax-seg train --help")
    try:
        methods.known(options.method or "unet")
    except ValueError as error:
        raise ValueError(f"--method: {error}") from None
    if len(options.labels) != len(options.tomograms):
        raise ValueError(
            f"{len(options.tomograms)} tomogram(s) and {len(options.labels)} label file(s); "
            "--labels needs one for each tomogram, in the same order"
        )
    if options.training.joint:
        options.volume.wedge(required=True)
    if not 0 <= options.validation < 1:
        raise ValueError(
            f"--validation must be a fraction from 0 to below 1, got {options.validation}"
        )
    minutes = options.length.minutes
    if minutes is not None and not 0 < minutes < math.inf:
        raise ValueError(f"--minutes must be positive, got {minutes:g}")
    if options.steps is not None and options.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {options.steps}")
    if options.length.until_converged and not options.validation:
        raise ValueError("--until-converged needs held-out annotation; --validation is 0")
    check_resume(options)
    _check_folder(options)


def _check_folder(options: Train) -> None:
    """Refuse a run folder that does not agree with the options."""
    from cryojax_seg import io
    from cryojax_seg.training import rundir

    models = (options.training.restorer, options.training.start)
    inputs = [*options.tomograms, *options.labels, *filter(None, models)]
    io.check_places([options.output], inputs)
    rundir.check_folder(options.output, resume=options.resume, overwrite=options.overwrite)
