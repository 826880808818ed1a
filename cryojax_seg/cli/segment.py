"""``cryojax-seg segment``: label volumes of tomograms, by a saved model."""

import contextlib
import dataclasses
import functools
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from cryojax_seg.cli import console, models
from cryojax_seg.cli.arguments import (
    Output,
    Overwrite,
    Resume,
    Tomograms,
    VolumeOptions,
    default,
)

if TYPE_CHECKING:
    from cryojax_seg import inference

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Segment:
    """Segment tomograms with a saved model: a label volume for each, on the same grid.

    For one tomogram --output may be a file (.mrc or .zarr); otherwise it is a folder, made if there
    is none, and the labels of NAME.mrc are NAME.labels.mrc in it; files of the same name get that
    of their folder. Labels are 8-bit integers (MRC
    mode 0) with the voxel size and origin of the tomogram. They appear when they are complete; the
    same command goes on with what was interrupted.
    """

    model: Positional[Path]
    """Folder that `cryojax-seg train -o RUN` wrote: RUN, or RUN/model."""
    tomograms: Tomograms
    """Volumes to segment: MRC (also .rec, .map, .gz, .bz2), TIFF or OME-Zarr."""
    output: Output
    """Where the labels go: a file for one tomogram, or a folder."""
    format: Literal["mrc", "zarr"] = "mrc"
    """Format of files in a folder: MRC, or OME-Zarr 0.5 with coarser levels for viewers."""
    probabilities: bool = False
    """Also write NAME.CLASS.probability.mrc for each class but background (float16, mode 12)."""
    threshold: float = 0.5
    """Probability above which a voxel belongs to the class, 0 to 1, for models of one class."""
    tile: Annotated[str, default("auto|N", "auto")] = "auto"
    """Edge of the tiles in voxels; 'auto' fits them to --memory."""
    halo: Annotated[
        str,
        default(
            "auto|exact|N",
            "auto",
            "Context around each tile, in voxels. 'exact' uses the full receptive field; 'auto' "
            "uses the smallest halo that changes logits by less than 0.1.",
        ),
    ] = "auto"
    memory: float = 2.0
    """Maximum memory in GiB of each worker, whatever the size of the tomogram."""
    dry_run: bool = False
    """Print how each tomogram would be cut and what memory that takes, and segment nothing."""
    engine: Literal["auto", "jax", "openvino"] = "auto"
    """Program that computes; 'auto' is OpenVINO on a CPU if it can run the model, else JAX."""
    precision: Literal["auto", "f32", "bf16"] = "auto"
    """Precision of networks; 'auto' is f32 on a CPU, else bf16 if it keeps 99.5 % of the labels."""
    flips: bool = False
    """Average over the flips that leave the missing wedge unchanged; up to 8 times slower."""
    volume: VolumeOptions = VolumeOptions(contrast=None)
    shard: Annotated[str | None, arg(metavar="I/N")] = None
    """Segment only every N-th tomogram from the I-th, counted from 0, in a job array."""
    workers: Annotated[int, arg(metavar="N")] = 0
    """Processes that segment at the same time, a GPU for each if there are any; 0: only this."""
    slurm: Annotated[Path | None, arg(metavar="YAML", help_behavior_hint="(default: none)")] = None
    """Run the workers as SLURM jobs that this file describes; the README has one."""
    compile_only: bool = False
    """Compile what the tomograms need and segment nothing: once, before a job array starts."""
    allow_module: models.AllowedModules = ()
    """Modules of your own that the model may import (see `train --method MODULE:CLASS`)."""
    resume: Resume = False
    overwrite: Overwrite = False


def run(options: Segment) -> None:
    """Run `Segment`; a ValueError or OSError says in one line what is wrong."""
    from cryojax_seg.inference.paths import expanded

    options = dataclasses.replace(options, tomograms=expanded(options.tomograms))
    _check(options)
    targets = _targets(options)
    if options.workers:
        from cryojax_seg import runtime

        runtime.leave_accelerators()  # they are for the workers
    model = _load(options)
    pairs = list(zip(options.tomograms, targets, strict=True))
    pairs = _unfinished(options, pairs, model)
    options = dataclasses.replace(options, tomograms=())  # a worker need not know the others
    # A model is loaded anew in each worker.
    prepare = functools.partial(_prepare, options, None if options.workers else model)
    console.each(
        pairs, _segment,
        name=_source, prepare=prepare, workers=options.workers, slurm=options.slurm,
    )  # fmt: skip


def _source(pair: tuple[Path, Path]) -> str:
    return str(pair[0])


@dataclasses.dataclass(frozen=True)
class _Prepared:
    """What a process needs that segments one tomogram after another."""

    options: Segment
    model: "inference.Model"
    how: dict[str, Any]


def _load(options: Segment) -> "inference.Model":
    from cryojax_seg import runtime

    runtime.keep_compiled()  # and memory goes back to the system, so that --memory holds
    model = models.load(options.model, options.allow_module)
    if len(model.segmenter.classes) > 1 and options.threshold != 0.5:
        raise ValueError(
            f"--threshold is for models of one class; {options.model} has "
            f"{', '.join(model.segmenter.classes)} and takes the most probable"
        )
    return _with_flips(options, model)


def _prepare(options: Segment, model: "inference.Model | None" = None) -> _Prepared:
    from cryojax_seg import inference

    model = model or _load(options)
    how = {
        "threshold": options.threshold,
        "probabilities": options.probabilities,
        "memory": options.memory,
        "tile": None if options.tile == "auto" else int(options.tile),
        "halo": int(options.halo) if options.halo.isdecimal() else options.halo,
        "contrast": options.volume.contrast,
        "voxel_size": options.volume.voxel_size,
        "engine": inference.choose_engine(options.engine, options.precision, model.segmenter),
    }
    return _Prepared(options, model, how)


def _segment(prepared: _Prepared, pair: tuple[Path, Path]) -> str:
    """Segments one tomogram, and says in a line what its labels hold."""
    from cryojax_seg import inference, io

    options, model, (source, target) = prepared.options, prepared.model, pair
    if options.dry_run or options.compile_only:
        return _prepared_only(prepared, pair)
    half = io.is_half_published(target)
    if target.exists() and not options.overwrite and not half:
        return f"{target}: is done already"  # as by a worker that died before it could say so

    def planned(plan: "inference.Plan") -> None:
        if plan.tiling.count > 1:
            log.info(f"{source.name}: {_account(plan)}")

    overwrite = options.overwrite or options.resume
    unseen = contextlib.nullcontext()  # of several workers no bar would be whole
    with unseen if options.workers else console.tracked(source.name) as progress:
        done = inference.segment_file(
            model, source, target, overwrite=overwrite, progress=progress, planned=planned,
            **prepared.how,
        )  # fmt: skip
    if done.shares is None:
        return f"{target}: is done already"
    parts = ", ".join(f"{name} {100 * part:.2f} %" for name, part in done.shares.items())
    return f"{target}: {parts} ({done.seconds:.1f} s)"


def _prepared_only(prepared: _Prepared, pair: tuple[Path, Path]) -> str:
    """Plans or compiles, and writes nothing."""
    from cryojax_seg import inference

    start, (source, target) = time.monotonic(), pair
    plan = inference.plan(prepared.model, source, **prepared.how)
    if prepared.options.dry_run:
        return f"{target}: {_account(plan)}"
    plan.compile()
    return f"{source}: compiled ({time.monotonic() - start:.1f} s)"


def _account(plan: "inference.Plan") -> str:
    """The plan in words, with the --memory that would spare work."""
    if plan.spared is None:
        return str(plan)
    return f"{plan}; --memory {plan.spared.memory:g} would make that {plan.spared.waste:.2f}"


def _check(options: Segment) -> None:
    """What can be told to be wrong before anything is read."""
    if options.tile != "auto" and (not options.tile.isdecimal() or int(options.tile) == 0):
        raise ValueError(f"--tile: a number of voxels above 0, or auto; got '{options.tile}'")
    if options.halo not in ("auto", "exact") and not options.halo.isdecimal():
        raise ValueError(f"--halo: a number of voxels, auto or exact; got '{options.halo}'")
    if not options.memory > models.LEAST_MEMORY:
        least = models.LEAST_MEMORY
        raise ValueError(f"--memory must be above {least:g} GiB, got {options.memory:g}")
    if not 0 < options.threshold < 1:
        raise ValueError(f"--threshold must lie between 0 and 1, got {options.threshold:g}")
    if not options.tomograms:
        raise ValueError("no tomogram given; see cryojax-seg segment --help")
    if options.resume and options.overwrite:
        raise ValueError("--resume and --overwrite exclude each other")
    if options.workers < 0:
        raise ValueError(f"--workers: a number of processes or jobs, got {options.workers}")
    if options.slurm is not None and not options.workers:
        raise ValueError("--slurm needs --workers, the number of jobs")


def _unfinished(
    options: Segment, pairs: list[tuple[Path, Path]], model: "inference.Model"
) -> list[tuple[Path, Path]]:
    """Tomograms and labels of this shard, without those that are done if that is wanted."""
    from cryojax_seg.inference import map_paths
    from cryojax_seg.inference.paths import shard
    from cryojax_seg.io import is_half_published

    pairs = shard(pairs, options.shard)
    rest = []
    for source, target in pairs:
        maps = map_paths(model, target).values() if options.probabilities else ()
        there = [path for path in (target, *maps) if path.exists()]
        half = is_half_published(target)  # by a process that was killed: then it is gone on with
        if there and not options.overwrite and not options.resume and not half:
            raise ValueError(
                f"{there[0]}: exists already; choose another --output, --resume or --overwrite it"
            )
        if half or not (options.resume and target.exists()):  # the labels are finished last
            rest.append((source, target))
    if len(rest) < len(pairs):
        console.say(f"{len(pairs) - len(rest)} of {len(pairs)} are done already")
    return rest


def _targets(options: Segment) -> list[Path]:
    from cryojax_seg.inference.paths import names
    from cryojax_seg.io import check_places, is_zarr

    output, sources = options.output, options.tomograms
    if output.suffix in (".mrc", ".zarr") and (not output.is_dir() or is_zarr(output)):
        if len(sources) > 1:
            raise ValueError(f"{output}: is one file for {len(sources)} tomograms; name a folder")
        targets = [output]
    elif output.exists() and not output.is_dir():
        raise ValueError(f"{output}: exists and is neither a folder nor an .mrc file")
    else:
        targets = [output / f"{name}.labels.{options.format}" for name in names(sources)]
    check_places(targets, [*sources, options.model])
    return targets


def _with_flips(options: Segment, model: "inference.Model") -> "inference.Model":
    if not options.flips:
        return model
    from cryojax_seg.core import MissingWedge

    tilts = options.volume.tilt_range or model.card.tilt_range
    if tilts is None:
        raise ValueError(
            f"--flips needs the tilt range, and {options.model} does not know it; give "
            "--tilt-range LO HI"
        )
    wedge = MissingWedge((float(tilts[0]), float(tilts[1])), options.volume.tilt_axis)
    return model.with_flips(wedge)
