"""``cryojax-seg segment``: label volumes of tomograms, by a saved model."""

import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import check_resume, load_model
from cryojax_seg.cli.segment_options import Segment

if TYPE_CHECKING:
    from cryojax_seg import inference

log = logging.getLogger(__name__)


def run(options: Segment) -> None:
    """Run `Segment`; a ValueError or OSError says in one line what is wrong."""
    from cryojax_seg import inference, io
    from cryojax_seg.inference.segmentation import shown_classes
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
    targets: list[Path] = []
    if not io.is_address(options.output):
        targets = inference.output_paths(sources, options.output, f".labels.{ending}")
    if options.report is not None and (len(sources) != 1 or not targets):
        raise ValueError("--report shows the labels of one tomogram in a file of their own")
    untrained = inference.untrained_method(options.model)
    read = [] if untrained else [inference.model_folder(options.model)]
    io.check_places(targets, [*sources, *read])
    if many.workers:
        from cryojax_seg import runtime

        runtime.leave_accelerators()  # they are for the workers
    model = _load(options)
    if options.scene or options.meshes:
        _check_beside(options, targets, shown_classes(model))
    values: tuple[int, ...] = ()
    if io.is_address(options.output):
        options = dataclasses.replace(options, zarr="0.4")
        targets, values = _into_project(options, model, sources)
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
    prepare = functools.partial(_prepare, options, None if many.workers else model, values)
    console.each(
        rest, _segment, name=_source, prepare=prepare, workers=many.workers, slurm=many.slurm
    )
    if not (options.dry_run or many.compile_only):
        _hand_on(options, [pair for pair in pairs if pair[1].exists()], shown_classes(model))


def _check_beside(options: Segment, targets: Sequence[Path], classes: Sequence[str]) -> None:
    """Refuse scenes and meshes that cannot be written, before anything is computed."""
    from cryojax_seg import io, report

    paths: list[Path] = []
    for option, wanted in (("--scene", options.scene), ("--meshes", options.meshes)):
        if wanted and not targets:
            raise ValueError(f"{option} needs labels in files of their own; name a file or folder")
    for target in targets:
        paths += report.segmentation_scenes(target, options.scene)
        if options.meshes is not None:
            paths += report.segmentation_meshes(target, options.meshes, classes)
    for path in paths:
        if path.exists() and not (options.overwrite or options.resume):
            raise io.FileError(
                f"{path}: exists already; choose another output, resume or overwrite it",
                *("output", "resume", "overwrite"),
            )


def _hand_on(options: Segment, pairs: Sequence[tuple[Path, Path]], classes: Sequence[str]) -> None:
    """Write the report, the meshes and the scenes of labels that are there, and what they are."""
    from cryojax_seg import io, report

    if not pairs:
        return
    if pairs[0][1] != options.output and not io.is_address(options.output):
        report.write_segmentation_readme(options.output, classes)
    over = options.overwrite or options.resume
    if options.report is not None:
        source, labels = pairs[0]
        report.write_segmentation_page(options.report, labels, source, overwrite=over)
        console.say(f"wrote {options.report}")
    if options.meshes is not None:
        for _, labels in pairs:
            for path in report.write_segmentation_meshes(labels, options.meshes, overwrite=over):
                console.say(f"wrote {path}")
    if options.scene:
        for source, labels in pairs:
            report.write_segmentation_scenes(labels, source, options.scene, overwrite=over)


def _into_project(
    options: Segment, model: "inference.Model", sources: Sequence[Path]
) -> tuple[list[Path], tuple[int, ...]]:
    """Return the segmentations of a copick project that are written, and the values of labels."""
    from cryojax_seg import inference, io
    from cryojax_seg.inference.segmentation import shown_classes

    clean = options.clean
    if options.probabilities or clean.instances or clean.skeleton:
        raise ValueError(
            f"{options.output}: a copick project keeps labels alone; for --probabilities, "
            "--instances and --skeleton name a folder"
        )
    runs = options.project.run or inference.names(sources)
    if len(runs) != len(sources):
        raise ValueError(
            f"{options.output}: {len(sources)} tomograms and {len(runs)} runs; name the --run of "
            "each tomogram, in the same order"
        )
    name = io.plain_name(options.model.name).replace("_", "-").strip("-.") or "cryojax-seg"
    return io.new_copick(
        str(options.output),
        "segmentation",
        runs,
        options.project.voxel_spacing,
        shown_classes(model),
        name,
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
        "zarr": options.zarr,
        "memory": options.run.memory,
        "tile": None if tile == "auto" else int(tile),
        "halo": int(halo) if halo.isdecimal() else halo,
        "contrast": options.volume.contrast,
        "voxel_size": options.volume.voxel_size,
        "force": options.force,
        **options.clean.settings(),
    }


def _prepare(
    options: Segment, model: "inference.Model | None" = None, values: tuple[int, ...] = ()
) -> _Prepared:
    from cryojax_seg import inference

    model = model or _load(options)
    how = options.run
    engine = inference.choose_engine(how.engine, how.precision, model.segmenter)
    chosen: dict[str, Any] = {"engine": engine, **({"label_values": values} if values else {})}
    return _Prepared(options, model, _how(options) | chosen)


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
