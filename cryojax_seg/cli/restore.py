"""``cryojax-seg restore``: a tomogram with less noise and a filled wedge, learned from itself."""

import dataclasses
import json
import signal
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from tyro.conf import Positional, arg

from cryojax_seg.cli import console, restored, restorers
from cryojax_seg.cli.arguments import (
    Contrast,
    Output,
    Overwrite,
    TiltRange,
    VoxelSize,
    default,
    plain,
)

THINNEST = 16  # voxels, of a patch; a volume that is thinner is continued by mirror images

AUDIT = "audit.json"


@dataclasses.dataclass(frozen=True)
class Restore:
    """Restore a tomogram: filter it, or train a network without labels, and apply that.

    Networks improve on Wiener's filter; the wedge and the noise are all they need to know. Beside
    OUT.mrc it writes the folder OUT.run with the model, checkpoints and audit.json: how far the
    result agrees with what was measured, and how much was put where nothing was. Ctrl-C saves and
    stops; the same command with --resume goes on.
    """

    tomogram: Positional[Path]
    """Volume to restore: MRC (also .rec, .map, .gz, .bz2), TIFF or OME-Zarr."""
    output: Output
    """File of the restored volume, .mrc or .zarr; contrast and grid are those of the tomogram."""
    halves: Annotated[tuple[Path, Path] | None, arg(metavar="EVEN ODD")] = None
    """Two tomograms of the same series with independent noise, of even and odd tilts or frames."""
    method: restorers.Trained | restorers.Untrained = "equivariant"
    """wiener and deconvolution are filters and take seconds. The others are trained on the
    tomogram: n2n removes noise only, and energy also writes a map of what is not known; but
    simulated learns from phantoms of this voxel size and tilt range, and sees what they hold."""
    defocus: Annotated[float | None, default("MICROMETRE", "required by deconvolution")] = None
    """Of the untilted image, positive under focus."""
    voltage: float = 300.0
    """Of the microscope in kilovolt, for deconvolution."""
    strength: float = 1.0
    """Of deconvolution: the assumed signal-to-noise ratio grows with it (no unit)."""
    phase_flipped: bool = False
    """Whether the signs of the contrast transfer were corrected before reconstruction."""
    tilt_range: Annotated[TiltRange, default("LO HI", "required")] = None
    """Lowest and highest tilt in degrees."""
    tilt_axis: Literal["y", "x"] = "y"
    """Axis the sample was tilted about."""
    steps: Annotated[int | None, default("INT", "400, 700 for simulated")] = None
    """Optimizer steps."""
    batch: int = 2
    """Patches per step."""
    patch: Annotated[int | None, default("INT", "32, 48 for simulated")] = None
    """Edge of the training patches in voxels; a multiple of 4."""
    width: Annotated[int | None, default("INT", "8, 16 for simulated")] = None
    """Channels of the finest level of the U-Net. On one small tomogram a wide network that learns
    for long learns the noise by heart."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW (no unit)."""
    phantoms: int = 32
    """How many are made, with --method simulated: most of a minute."""
    draws: int = 4
    """Answers whose spread is written, with --method energy."""
    memory: float = 2.0
    """GiB for the tiles it is applied to."""
    contrast: Contrast = "dark"
    """Whether structure is darker or brighter than its surroundings."""
    voxel_size: VoxelSize = None
    """Voxel size in angstrom."""
    seed: int = 0
    """Seed of all randomness."""
    resume: bool = False
    """Go on with the run beside --output from its newest checkpoint."""
    overwrite: Overwrite = False
    """Replace an existing output and its run."""


def run(options: Restore) -> None:
    """Does what `Restore` says; a ValueError or OSError tells what is wrong in one line."""
    folder = _check(options)
    from cryojax_seg import io
    from cryojax_seg.training import rundir

    inside = [folder / rundir.MODEL, folder / AUDIT]
    if options.method == "energy":
        inside.append(folder / restored.SPREAD)
    with (
        io.folder_made(options.output.parent),
        rundir.exclusive(folder) as run_folder,
        io.OutputSet(
            {"restore": plain(options)},
            [options.output, *inside],
            _inputs(options),
            options.overwrite or options.resume,
            io.zarr_folders([options.output]) | {folder / rundir.MODEL: io.MODEL_FILES},
        ) as outputs,
    ):
        if outputs.finished:
            print(f"{options.output}: is done already")
            return
        _check_run(options, folder, bool(outputs.recorded))
        _restore(options, run_folder, outputs)
    print(f"restored: {options.output} (run: {folder})")


def _restore(options: Restore, run_folder: Any, outputs: Any) -> None:
    """Restores into outputs and a run folder that are held."""
    from cryojax_seg import core, evaluate, inference, io
    from cryojax_seg.training import rundir

    core.keep_compiled()
    core.keep_memory()
    folder = run_folder.folder
    effort = restorers.effort(options.method, options.steps, options.patch, options.width)
    wedge = core.MissingWedge(options.tilt_range, options.tilt_axis)
    tomogram = io.read_tomogram(options.tomogram, options.voxel_size)
    halves = None
    if options.halves is not None:
        halves = [io.read_tomogram(path, options.voxel_size) for path in options.halves]
        restorers.check_halves(tomogram, *halves)
    volume = inference.normalized(tomogram, options.contrast)
    pair = None
    if halves is not None:  # on one scale, so that their mean is the tomogram's
        pair = [restorers.on_scale(half, volume) for half in halves]
    begun = bool(outputs.recorded)  # by the same command, which was interrupted
    if options.overwrite and not begun:
        rundir.clear(folder)
        for name in (AUDIT, restored.SPREAD):
            (folder / name).unlink(missing_ok=True)
    outputs.record()
    patch = min(effort.patch, *(max(n // 4 * 4, THINNEST) for n in tomogram.density.shape))
    provenance: dict[str, Any] = {"method": options.method}
    if options.method in get_args(restorers.Untrained):
        restorer = _filter(options, tomogram, volume, pair)
        pair = None  # they are linear, and the tomogram is the mean of its halves
    else:
        size = tomogram.voxel_size
        if options.method == "simulated" and size is None:
            raise io.FileError(f"{options.tomogram}: has no voxel size, give --voxel-size")
        effort = dataclasses.replace(effort, patch=patch)
        going_on = options.resume or begun
        learn = (options, effort, wedge, volume, pair, size, run_folder, going_on)
        restorer, steps = _trained(*learn)
        provenance |= {"steps": steps}
        if options.method == "simulated":
            pair = None  # phantoms have no halves, and less noise than those
    card = io.ModelCard(
        voxel_size=tomogram.voxel_size,
        contrast=options.contrast,
        tilt_range=options.tilt_range,
        patch=patch,
        provenance=provenance,
    )
    model = outputs.place(folder / rundir.MODEL)
    io.save_model(model, restorer, card, overwrite=True)
    sources = [volume] if pair is None else pair
    if options.method == "energy":
        restored.write_draws(restorer, tomogram, volume, wedge, options, patch, outputs)
    else:
        digest = io.model_digest(model)
        restored.apply(restorer, tomogram, volume, sources, options, patch, digest, outputs)
    written = io.read_tomogram(outputs.staged(options.output)).density
    found = evaluate.audit(volume, core.Normalized(written, volume.intensity), wedge)
    text = json.dumps(dataclasses.asdict(found), indent=1)
    outputs.place(folder / AUDIT).write_text(text + "\n")
    report(found)


def _filter(options: Restore, tomogram: Any, volume: Any, pair: list[Any] | None) -> Any:
    """A filter that needs no training."""
    from cryojax_seg import io

    try:
        if options.method == "wiener":
            return restorers.wiener(volume, pair)
        if tomogram.voxel_size is None:
            raise ValueError("has no voxel size, which deconvolution needs; give --voxel-size")
        return restorers.deconvolution(
            sum(tomogram.voxel_size) / 3,
            options.defocus,  # pyright: ignore[reportArgumentType]
            options.voltage,
            options.strength,
            options.phase_flipped,
        )
    except ValueError as error:
        raise io.FileError(f"{options.tomogram}: {error}") from None


def _trained(
    options: Restore,
    effort: restorers.Effort,
    wedge: Any,
    volume: Any,
    pair: list[Any] | None,
    voxel_size: Any,
    folder: Any,
    resume: bool,
) -> tuple[Any, int]:
    """A restorer that learned from the tomogram, or for it, and its steps."""
    from cryojax_seg import training

    method: Any = options.method
    module, objective = restorers.learner(method, volume, pair, effort.width, options.seed)
    config = training.TrainConfig(
        steps=effort.steps,
        batch=options.batch,
        patch=effort.patch,
        learning_rate=options.learning_rate,
        seed=options.seed,
        augmentation=training.Augmentation(intensity=0.0),
        checkpoint_every=max(1, min(200, effort.steps // 4)),
    )
    console.say(
        f"{options.method} on {options.tomogram.name}"
        + (f" and its halves {', '.join(p.name for p in options.halves)}" if options.halves else "")
        + f": {config.steps} steps of {config.batch} patches of {effort.patch}^3"
    )
    if options.method == "simulated":
        examples = training.simulated(
            wedge, sum(voxel_size) / 3, options.phantoms, seed=options.seed
        )
    else:
        examples = training.unlabelled(
            volume, wedge, pair, seed=options.seed, name=str(options.tomogram)
        )
    result = training.train(
        module, examples, config, objective=objective, run=folder, resume=resume
    )
    if result.stopped in signal.Signals.__members__:
        console.say(f"interrupted; {folder} is kept; the same command with --resume goes on")
        raise SystemExit(128 + signal.Signals[result.stopped])
    trained: Any = result.operator
    energy = options.method == "energy"
    return (trained.restorer if energy else trained), result.steps


def _check(options: Restore) -> Path:
    """What can be told to be wrong before anything is read; the folder of the run."""
    if options.output.suffix not in (".mrc", ".zarr"):
        raise ValueError(f"{options.output}: --output is a file that ends in .mrc or .zarr")
    if options.tilt_range is None:
        raise ValueError("--tilt-range LO HI is needed: what was measured is all a restorer knows")
    if options.method == "deconvolution" and options.defocus is None:
        raise ValueError("--method deconvolution needs --defocus, in micrometre")
    if options.method in restorers.NEED_HALVES and options.halves is None:
        raise ValueError(
            f"--method {options.method} needs --halves EVEN ODD; equivariant, isonet, energy, "
            "simulated and wiener work without"
        )
    if options.phantoms < 1:
        raise ValueError(f"--phantoms is 1 or more, got {options.phantoms}")
    if options.patch is not None and (options.patch % 4 or options.patch < 16):
        raise ValueError(f"--patch must be a multiple of 4, 16 or more, got {options.patch}")
    if options.resume and options.overwrite:
        raise ValueError("--resume and --overwrite exclude each other")
    folder = options.output.with_suffix(".run")
    from cryojax_seg import io

    io.check_places([options.output, folder], _inputs(options))
    if options.output.exists() and not options.overwrite:
        if not io.is_half_published(options.output):
            raise ValueError(f"{options.output}: exists already; choose another or --overwrite it")
    _check_run(options, folder, io.is_begun(options.output))
    return folder


def _check_run(options: Restore, folder: Path, begun: bool) -> None:
    """What the folder of the run holds; `begun` by the same command, it may go on."""
    from cryojax_seg.training import rundir

    used = rundir.is_used(folder)
    if used and not begun and not options.resume and not options.overwrite:
        raise ValueError(
            f"{folder}: holds a run; --resume it, --overwrite it, or choose another --output"
        )
    if options.resume and not used:
        raise ValueError(f"{folder}: there is no run to --resume")


def _inputs(options: Restore) -> list[Path]:
    return [options.tomogram, *(options.halves or ())]


def report(found: Any) -> None:
    """Prints an audit."""
    rows = [
        (f"{k:.2f}", *(console.number(v, 2) for v in values))
        for k, *values in zip(
            found.frequency, found.agreement, found.kept, found.filled, strict=True
        )
    ]
    overall = (found.agreement_overall, found.kept_overall, found.filled_overall)
    rows.append(("all", *(console.number(v, 2) for v in overall)))
    columns = ("1/voxel", "agreement", "power kept", "wedge filled")
    console.table("what the restored volume owes to the data", columns, rows)
