"""``cryojax-seg segment``: label volumes of tomograms, by a saved model."""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from cryojax_seg.cli import cluster, console, many, models, tiles
from cryojax_seg.cli.arguments import (
    Contrast,
    Output,
    Overwrite,
    TiltRange,
    Tomograms,
    VoxelSize,
    default,
)
from cryojax_seg.cli.engine import Engine, Name, Precision, choose


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
    """What is written into a folder: MRC files, or OME-Zarr 0.5 with coarser levels for viewers."""
    probabilities: bool = False
    """Also write NAME.CLASS.probability.mrc for each class but background (float16, mode 12)."""
    threshold: float = 0.5
    """Probability above which a voxel belongs to the class, 0 to 1, for models of one class."""
    tile: Annotated[str, default("auto|N", "auto")] = "auto"
    """Edge of the tiles in voxels; auto fits them to --memory. No matter with --halo exact."""
    halo: Annotated[str, default("auto|exact|N", "auto")] = "auto"
    """Voxels around each tile: exact is all that could matter, auto keeps logits within 0.1."""
    memory: float = 2.0
    """GiB that may be used at most, by each worker, whatever the size of the tomogram."""
    dry_run: bool = False
    """Print how each tomogram would be cut and what memory that takes, and segment nothing."""
    engine: Name = "auto"
    """What computes; auto is OpenVINO on a CPU if it is installed and knows the model, else JAX."""
    precision: Precision = "auto"
    """Of a network's products; auto: f32 on a CPU, else bf16 if that keeps 99.5 % of the labels."""
    flips: bool = False
    """Average over the flips that leave the missing wedge unchanged; up to 8 times slower."""
    tilt_range: Annotated[TiltRange, default("LO HI", "that of the model")] = None
    """Lowest and highest tilt in degrees, for --flips."""
    tilt_axis: Literal["y", "x"] = "y"
    """Axis the sample was tilted about, for --flips."""
    contrast: Annotated[Contrast | None, default("{dark,bright}", "that of the model")] = None
    """Whether structure is darker or brighter than its surroundings."""
    voxel_size: VoxelSize = None
    """Voxel size in angstrom."""
    shard: Annotated[str | None, arg(metavar="I/N")] = None
    """Only every N-th tomogram from the I-th, counted from 0: for job arrays."""
    workers: Annotated[int, arg(metavar="N")] = 0
    """Processes that segment at the same time, a GPU for each if there are any; 0: only this."""
    slurm: Annotated[Path | None, arg(metavar="YAML", help_behavior_hint="(default: none)")] = None
    """The workers are jobs of SLURM that this file describes; the README has one."""
    compile_only: bool = False
    """Compile what the tomograms need and segment nothing: once, before a job array starts."""
    allow_module: models.AllowedModules = ()
    """Modules of your own that the model may import (see `train --method MODULE:CLASS`)."""
    resume: bool = False
    """Leave out tomograms that are done; one that was begun goes on in any case."""
    overwrite: Overwrite = False
    """Replace existing outputs."""


def run(options: Segment) -> None:
    """Does what `Segment` says; a ValueError or OSError tells what is wrong in one line."""
    options = dataclasses.replace(options, tomograms=many.expanded(options.tomograms))
    _check(options)
    targets = _targets(options)
    if options.workers:
        import jax

        jax.config.update("jax_platforms", "cpu")  # the GPUs are for the workers
    model = _load(options)
    pairs = list(zip(options.tomograms, targets, strict=True))
    pairs = _unfinished(options, pairs, model.segmenter)
    options = dataclasses.replace(options, tomograms=())  # a worker need not know the others

    def name(pair: tuple[Path, Path]) -> str:
        return str(pair[0])

    if options.workers:
        prepare = functools.partial(_prepare, options)
        cluster.each(pairs, prepare, _segment, name, options.workers, options.slurm)
    else:
        many.each(pairs, functools.partial(_segment, _prepare(options, model)), name)


@dataclasses.dataclass(frozen=True)
class _Model:
    segmenter: Any
    card: Any
    digest: str


@dataclasses.dataclass(frozen=True)
class _Prepared:
    """What a process needs that segments one tomogram after another."""

    options: Segment
    model: _Model
    engine: Engine


def _load(options: Segment) -> _Model:
    from cryojax_seg import core

    core.keep_compiled()  # and memory goes back to the system, so that --memory holds
    segmenter, card, digest = models.load(options.model, options.allow_module)
    _check_model(options, segmenter)
    return _Model(_with_flips(options, segmenter, card), card, digest)


def _prepare(options: Segment, model: _Model | None = None) -> _Prepared:
    model = model or _load(options)
    return _Prepared(options, model, choose(options.engine, options.precision, model.segmenter))


def _segment(prepared: _Prepared, pair: tuple[Path, Path]) -> None:
    """One tomogram, and where its labels go."""
    from cryojax_seg import io

    options, model = prepared.options, prepared.model
    source, target = pair
    if options.dry_run or options.compile_only:
        _prepared_only(prepared, pair)
        return
    half = io.is_half_published(target)
    if target.exists() and not options.overwrite and not half:
        print(f"{target}: is done already")  # as by a worker that died before it could say so
        return
    outputs = [target, *_maps(options, target, model.segmenter)]
    content = ("flips", "tilt_range", "tilt_axis", "probabilities", "threshold", "halo", "contrast")
    job = {name: getattr(options, name) for name in (*content, "voxel_size")}
    job |= {"model": model.digest, "engine": dataclasses.asdict(prepared.engine)}
    overwrite, folders = options.overwrite or options.resume, io.zarr_folders(outputs)
    with (
        io.folder_made(target.parent),
        io.OutputSet(job, outputs, [source], overwrite, folders) as held,
    ):
        if held.finished:
            print(f"{target}: is done already")
            return
        start = time.monotonic()
        work = _plan(prepared, source)
        if work.tiling.count > 1:
            console.say(f"{source.name}: {tiles.account(work)}")
        tiles.segment(work, outputs, held)
        share = tiles.shares(held.staged(target), work)
    parts = ", ".join(f"{name} {100 * part:.2f} %" for name, part in share.items())
    print(f"{target}: {parts} ({time.monotonic() - start:.1f} s)", flush=True)


def _plan(prepared: _Prepared, source: Path) -> tiles.Work:
    from cryojax_seg import io

    options, model, engine = prepared.options, prepared.model, prepared.engine
    tomogram = io.read_tomogram(source, options.voxel_size)
    answer = tiles.Answer(options.threshold, options.probabilities)
    return tiles.plan(
        model.segmenter,
        model.card,
        tomogram,
        answer,
        engine,
        options.contrast,
        _tile(options),
        options.halo,
    )


def _prepared_only(prepared: _Prepared, pair: tuple[Path, Path]) -> None:
    """Plans or compiles, and writes nothing."""
    start, (source, target) = time.monotonic(), pair
    work = _plan(prepared, source)
    if prepared.options.dry_run:
        print(f"{target}: {tiles.account(work)}")
        return
    tiles.compile_only(work)
    print(f"{source}: compiled ({time.monotonic() - start:.1f} s)")


def _check(options: Segment) -> None:
    """What can be told to be wrong before anything is read."""
    if options.tile != "auto" and (not options.tile.isdecimal() or int(options.tile) == 0):
        raise ValueError(f"--tile: a number of voxels above 0, or auto; got '{options.tile}'")
    if options.halo not in ("auto", "exact") and not options.halo.isdecimal():
        raise ValueError(f"--halo: a number of voxels, auto or exact; got '{options.halo}'")
    if not options.memory * 2**30 > tiles.BASE:
        least = tiles.BASE / 2**30
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


def _tile(options: Segment) -> int | float:
    """Edge of the tiles in voxels, or the bytes they may take."""
    auto = options.tile == "auto"
    return float(options.memory * 2**30 - tiles.BASE) if auto else int(options.tile)


def _unfinished(
    options: Segment, pairs: list[tuple[Path, Path]], segmenter
) -> list[tuple[Path, Path]]:
    """Tomograms and labels of this shard, without those that are done if that is wanted."""
    from cryojax_seg.io import is_half_published

    pairs = many.shard(pairs, options.shard)
    rest = []
    for source, target in pairs:
        there = [p for p in (target, *_maps(options, target, segmenter)) if p.exists()]
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
    from cryojax_seg.io import check_places, is_zarr

    output, sources = options.output, options.tomograms
    if output.suffix in (".mrc", ".zarr") and (not output.is_dir() or is_zarr(output)):
        if len(sources) > 1:
            raise ValueError(f"{output}: is one file for {len(sources)} tomograms; name a folder")
        targets = [output]
    elif output.exists() and not output.is_dir():
        raise ValueError(f"{output}: exists and is neither a folder nor an .mrc file")
    else:
        targets = [output / f"{name}.labels.{options.format}" for name in many.names(sources)]
    check_places(targets, [*sources, options.model])
    return targets


def _maps(options: Segment, labels: Path, segmenter) -> list[Path]:
    """Where the probability maps go."""
    if not options.probabilities:
        return []
    base = labels.stem.removesuffix(".labels")
    classes = segmenter.classes if len(segmenter.classes) == 1 else segmenter.classes[1:]
    safe = [name.replace("/", "_") for name in classes]  # what a model says must not name a folder
    return [labels.with_name(f"{base}.{name}.probability{labels.suffix}") for name in safe]


def _check_model(options: Segment, segmenter) -> None:
    if len(segmenter.classes) > 1 and options.threshold != 0.5:
        raise ValueError(
            f"--threshold is for models of one class; {options.model} has "
            f"{', '.join(segmenter.classes)} and takes the most probable"
        )


def _with_flips(options: Segment, segmenter, card):
    if not options.flips:
        return segmenter
    from cryojax_seg.core import MissingWedge, Symmetrized

    tilts = options.tilt_range or card.tilt_range
    if tilts is None:
        raise ValueError(
            f"--flips needs the tilt range, and {options.model} does not know it; give "
            "--tilt-range LO HI"
        )
    return Symmetrized(
        segmenter, MissingWedge((float(tilts[0]), float(tilts[1])), options.tilt_axis)
    )
