"""``cryojax-seg segment``: label volumes of tomograms, by a saved model."""

import contextlib
import dataclasses
import functools
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import (
    AllowedModules,
    Output,
    Overwrite,
    Resume,
    Tomograms,
    check_resume,
    default,
    load_model,
    named,
)
from cryojax_seg.cli.geometry import VolumeOptions

if TYPE_CHECKING:
    from cryojax_seg import inference

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Choose the program that computes, its memory and its tiles."""

    memory: float = 2.0
    """Maximum memory of each worker in GiB, whatever the size of the tomogram."""
    tile: Annotated[str, default("auto|N", "auto")] = "auto"
    """Edge of the tiles in voxels; 'auto' uses the largest that fit --memory."""
    halo: Annotated[
        str,
        default(
            "auto|exact|N",
            "auto",
            "Context around each tile, in voxels. 'exact' uses the full receptive field; 'auto' "
            "uses the smallest halo that changes logits by less than 0.1.",
        ),
    ] = "auto"
    engine: Literal["auto", "jax", "openvino"] = "auto"
    """Program that computes. 'auto' uses OpenVINO on a CPU if it can run the model, else JAX."""
    precision: Literal["auto", "f32", "bf16"] = "auto"
    """Precision of networks. 'auto' uses bf16 where the GPU, or the CPU with OpenVINO, has units
    for it, if it keeps 99.5 % of the labels; otherwise f32."""


@dataclasses.dataclass(frozen=True)
class CleanOptions:
    """Clean the labels, and number the objects in them."""

    min_size: Annotated[
        tuple[str, ...],
        default(
            "NM3|CLASS=NM3 ...",
            "0",
            "Remove objects of less than this volume in nm^3, of every class or of those named.",
        ),
    ] = ()
    fill_holes: Annotated[
        tuple[str, ...],
        default(
            "NM3|CLASS=NM3 ...",
            "0",
            "Fill holes in objects up to this volume in nm^3, of every class or of those named.",
        ),
    ] = ()
    instances: bool = False
    """Also write NAME.instances.mrc with a number for each object. Membranes that touch are
    separate objects, by the lumens that they enclose; with --probabilities also those with gaps."""
    skeleton: Annotated[
        Literal["auto", "surface", "line"] | None,
        default(
            "{auto,surface,line}",
            "none",
            "Also write NAME.skeleton.mrc with the mid-surfaces of membranes and the centre lines "
            "of filaments, by the names of the classes, or with one of them for every class.",
        ),
    ] = None

    def settings(self) -> dict[str, Any]:
        """Return the options as `inference.segment_file` takes them."""
        given = {"min_size": self.min_size, "fill_holes": self.fill_holes}
        volumes = {name: _volumes(words, name) for name, words in given.items() if words}
        others = {"instances": self.instances, "skeleton": self.skeleton}
        return volumes | {name: value for name, value in others.items() if value}


def _volumes(words: tuple[str, ...], name: str) -> "float | dict[str, float]":
    """Return one volume for all classes, or a volume for each class that is named."""
    option = name.replace("_", "-")
    try:
        if len(words) == 1 and "=" not in words[0]:
            return float(words[0])
        pairs = named(words, option, "CLASS=NM3", "membrane=500")
        return {word: float(value) for word, value in pairs.items()}
    except ValueError as error:
        if str(error).startswith("--"):
            raise
        raise ValueError(
            f"--{option} {' '.join(words)}: give a volume in nm^3 such as 500, or one for each "
            "class such as membrane=500"
        ) from None


@dataclasses.dataclass(frozen=True)
class ManyOptions:
    """Divide many tomograms among processes or jobs."""

    shard: Annotated[str | None, arg(metavar="I/N", help_behavior_hint="(default: all)")] = None
    """Segment only every N-th tomogram from the I-th, counted from 0, as a job array does."""
    workers: Annotated[int, arg(metavar="N")] = 0
    """Number of processes that segment at the same time, each on a GPU of its own if there are
    any. 0 uses this process alone."""
    slurm: Annotated[Path | None, arg(metavar="YAML", help_behavior_hint="(default: none)")] = None
    """Run the workers as SLURM jobs that this file describes; the README shows one."""
    compile_only: bool = False
    """Compile the programs that the tomograms need, once before a job array starts, and segment
    nothing."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """Segment tomograms with a model, and write a label volume for each on the same grid.

    The model is a built-in one (`cryojax-seg models` lists them), which needs neither training nor
    a network connection, or one of your own.

    For one tomogram --output may be a file (.mrc, .zarr, .nii or .nrrd). Otherwise it is a folder,
    and the labels of NAME.mrc go to NAME.labels.mrc in it; files of the same name get the names of
    their folders. Labels are 8-bit integers (MRC mode 0) with the voxel size and origin of the
    tomogram.
    They appear when they are complete; after an interruption the same command goes on.
    """

    model: Positional[Path]
    """Name of a built-in model, such as membrane, or folder RUN that `cryojax-seg train -o RUN`
    wrote; a folder of that name comes before a built-in model. For a first look without any model:
    sheet or tensor-voting for membranes, threshold for all that is dense."""
    tomograms: Tomograms
    """Volumes to segment: MRC (also .rec, .map, .gz, .bz2), TIFF, OME-Zarr, NIfTI, NRRD, EM,
    HDF5, Amira or NumPy."""
    output: Output
    """Label volume of one tomogram, or folder of label volumes."""
    format: Literal["mrc", "zarr", "nifti", "nrrd"] = "mrc"
    """Format of the files in a folder: MRC, OME-Zarr 0.5 with coarser levels, names and colours for
    viewers, NIfTI or NRRD."""
    probabilities: bool = False
    """Also write NAME.CLASS.probability.mrc for each class but background."""
    map_type: Literal["float16", "float32"] = "float16"
    """Type of the probability maps. EMAN2 and older programs do not read float16 (MRC mode 12);
    NIfTI and NRRD always hold float32."""
    threshold: Annotated[float | None, default("P", "that of the model, or 0.5")] = None
    """Probability above which a voxel belongs to the class, 0 to 1, for models of one class."""
    flips: Literal["auto", "on", "off"] = "auto"
    """Average over the flips that leave the missing wedge unchanged, which is up to 8 times slower.
    By default this is done for a small U-Net such as unet-fast if the tilt range is known."""
    force: bool = False
    """Segment a tomogram whose voxels are over twice as large or small as those of the model."""
    dry_run: bool = False
    """Print the tiles of each tomogram and the memory that they take, and segment nothing."""
    resume: Resume = False
    overwrite: Overwrite = False
    allow_module: AllowedModules = ()
    volume: VolumeOptions = VolumeOptions(contrast=None)
    clean: CleanOptions = CleanOptions()
    run: RunOptions = RunOptions()
    many: ManyOptions = ManyOptions()


def run(options: Segment) -> None:
    """Run `Segment`; a ValueError or OSError says in one line what is wrong."""
    from cryojax_seg import inference, io
    from cryojax_seg.inference.settings import check_settings

    sources = inference.expanded(options.tomograms)
    if not sources:
        raise ValueError("no tomogram given; see cryojax-seg segment --help")
    many = options.many
    check_resume(options)
    check_settings(**_how(options))
    if many.workers < 0:
        raise ValueError(f"--workers must be a number of processes, got {many.workers}")
    if many.slurm is not None and not many.workers:
        raise ValueError("--slurm needs --workers, the number of jobs")
    ending = {"nifti": "nii"}.get(options.format, options.format)
    targets = inference.output_paths(sources, options.output, f".labels.{ending}")
    untrained = inference.untrained_method(options.model)
    read = [] if untrained else [inference.model_folder(options.model)]
    io.check_places(targets, [*sources, *read])
    if many.workers:
        from cryojax_seg import runtime

        runtime.leave_accelerators()  # they are for the workers
    model = _load(options)
    pairs = inference.shard(list(zip(sources, targets, strict=True)), many.shard)
    rest = inference.unfinished(
        model,
        pairs,
        probabilities=options.probabilities,
        instances=options.clean.instances,
        skeleton=options.clean.skeleton is not None,
        resume=options.resume,
        overwrite=options.overwrite,
    )
    if len(rest) < len(pairs):
        console.say(f"{len(pairs) - len(rest)} of {len(pairs)} are done already")
    options = dataclasses.replace(options, tomograms=())  # a worker need not know the others
    # A model is loaded anew in each worker.
    prepare = functools.partial(_prepare, options, None if many.workers else model)
    console.each(
        rest, _segment, name=_source, prepare=prepare, workers=many.workers, slurm=many.slurm
    )


def _source(pair: tuple[Path, Path]) -> str:
    return str(pair[0])


@dataclasses.dataclass(frozen=True)
class _Prepared:
    """Hold what a process needs to segment one tomogram after another."""

    options: Segment
    model: "inference.Model"
    how: dict[str, Any]


def _load(options: Segment) -> "inference.Model":
    from cryojax_seg import runtime

    runtime.keep_compiled()  # and memory goes back to the system, so that --memory holds
    model = load_model(options.model, options.allow_module)
    if model.first_look:
        console.say(
            f"{model.first_look}: a first look by a method that was not trained, with a threshold "
            "that is fitted to each tomogram; cryojax-seg models lists models that were trained"
        )
    tilts = options.volume.tilt_range or model.card.tilt_range
    automatic = tilts is not None and model.is_small_unet
    if options.flips == "off" or (options.flips == "auto" and not automatic):
        return model
    if tilts is None:
        raise ValueError(
            f"--flips on needs the tilt range, and {options.model} does not know it; give "
            "--tilt-range LO HI"
        )
    geometry = dataclasses.replace(options.volume, tilt_range=tuple(map(float, tilts)))
    flipped = model.with_flips(geometry.wedge())
    if options.flips == "auto":
        console.say(
            f"averages over {len(flipped.segmenter.flips)} flips that leave the missing wedge "
            "unchanged, for as many times the work; --flips off does not"
        )
    return flipped


def _how(options: Segment) -> dict[str, Any]:
    """Return how the tomograms are segmented, as `inference.segment_file` takes it."""
    tile, halo = options.run.tile, options.run.halo
    if tile != "auto" and not tile.isdecimal():
        raise ValueError(f"--tile must be 'auto' or a number of voxels above 0, got '{tile}'")
    return {
        "threshold": options.threshold,
        "probabilities": options.probabilities,
        "map_type": options.map_type,
        "memory": options.run.memory,
        "tile": None if tile == "auto" else int(tile),
        "halo": int(halo) if halo.isdecimal() else halo,
        "contrast": options.volume.contrast,
        "voxel_size": options.volume.voxel_size,
        "force": options.force,
        **options.clean.settings(),
    }


def _prepare(options: Segment, model: "inference.Model | None" = None) -> _Prepared:
    from cryojax_seg import inference

    model = model or _load(options)
    how = options.run
    engine = inference.choose_engine(how.engine, how.precision, model.segmenter)
    return _Prepared(options, model, _how(options) | {"engine": engine})


def _segment(prepared: _Prepared, pair: tuple[Path, Path]) -> str:
    """Segment one tomogram, and say in a line how much of it each class has."""
    from cryojax_seg import inference, io

    options, model, (source, target) = prepared.options, prepared.model, pair
    if options.dry_run or options.many.compile_only:
        return _planned(prepared, pair)
    half = io.is_half_published(target)
    if target.exists() and not options.overwrite and not half:
        return f"{target}: is done already"  # as by a worker that died before it could say so

    def planned(plan: "inference.Plan") -> None:
        if plan.tiling.count > 1:
            log.info(f"{source.name}: {_account(plan)}")

    overwrite = options.overwrite or options.resume
    unseen = contextlib.nullcontext()  # of several workers no bar would be whole
    with unseen if options.many.workers else console.tracked(source.name) as progress:
        done = inference.segment_file(
            model, source, target, overwrite=overwrite, progress=progress, planned=planned,
            **prepared.how,
        )  # fmt: skip
    if done.shares is None:
        return f"{target}: is done already"
    counts = {name: f" in {n} object{'s' * (n != 1)}" for name, n in (done.objects or {}).items()}
    parts = ", ".join(
        f"{name} {100 * part:.2f} %{counts.get(name, '')}" for name, part in done.shares.items()
    )
    return f"{target}: {parts} ({done.seconds:.1f} s)"


def _planned(prepared: _Prepared, pair: tuple[Path, Path]) -> str:
    """Plan or compile, and write nothing."""
    from cryojax_seg import inference

    start, (source, target) = time.monotonic(), pair
    plan = inference.plan(prepared.model, source, **prepared.how)
    if prepared.options.dry_run:
        return f"{target}: {_account(plan)}"
    plan.compile()
    return f"{source}: compiled ({time.monotonic() - start:.1f} s)"


def _account(plan: "inference.Plan") -> str:
    """Return the plan in words, with the --memory that would save computation."""
    saving = plan.saving
    if saving is None:
        return str(plan)
    return f"{plan}; --memory {saving.memory:g} would make that {saving.computed:.2f}"
