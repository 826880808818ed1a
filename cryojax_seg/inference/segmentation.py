"""Segments one tomogram by a model, in memory or from file to file."""

import dataclasses
import functools
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from cryojax_seg.core import Tomogram, apply_tiles, label_names
from cryojax_seg.core.plain import Shape
from cryojax_seg.errors import ParameterError
from cryojax_seg.inference.engine import Engine, choose_engine
from cryojax_seg.inference.model import Model
from cryojax_seg.inference.paths import beside
from cryojax_seg.inference.planning import Plan, plan
from cryojax_seg.inference.settings import Settings, check_settings
from cryojax_seg.inference.shares import Shares
from cryojax_seg.io import (
    FileError,
    LabelCard,
    OutputSet,
    TileJob,
    check_places,
    folder_made,
    is_half_published,
    zarr_folders,
)
from cryojax_seg.io.files import PathLike
from cryojax_seg.io.measurements import number_type
from cryojax_seg.io.ome_writing import ZarrForm
from cryojax_seg.io.output import open_output

log = logging.getLogger(__name__)

Part = tuple[slice, np.ndarray]  # z sections, and what is in them
Progress = Callable[[int, int], None]  # called with tiles done and tiles in all


@dataclasses.dataclass(frozen=True)
class Segmented:
    """Describes the results of a segmentation.

    Returned by `segment_file`.

    Attributes:
        labels: the label volume that was written.
        maps: the probability maps that were written, by class.
        shares: the share of the voxels of each class except the background; None if the file was
            done already.
        seconds: the time that it took.
        instances: the volume with the numbers of objects; None unless asked for.
        objects: the number of objects of each class; None unless they were numbered.
        skeleton: the volume of skeletons; None unless asked for.
    """

    labels: Path
    maps: dict[str, Path]
    shares: dict[str, float] | None
    seconds: float
    instances: Path | None = None
    objects: dict[str, int] | None = None
    skeleton: Path | None = None


def segment(
    model: Model,
    tomogram: Tomogram | PathLike,
    *,
    progress: Progress | None = None,
    **settings: Unpack[Settings],
) -> Any:
    """Segment a tomogram in memory.

    Args:
        model: the model, see `load`.
        tomogram: the tomogram in memory, or the path of a file.
        progress: called with the number of tiles done and of all tiles.
        settings: see `Settings`.

    Returns:
        labels ``(z, y, x)``, int8, with 0 for the background and 1, 2, ... for the classes; with
        ``probabilities=True`` also a dictionary of float16 maps by class.

    Raises:
        ValueError: as `plan`; for `instances` and `skeleton`, which `segment_file` writes.
        FileError: as `plan`.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> noise = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    >>> labels = segment(Model(GlobalThreshold(1.0)), Tomogram(-noise))
    >>> labels.dtype, bool(labels[noise > 2].all()), bool(labels[noise < 0].any())
    (dtype('int8'), True, False)
    """
    for name in ("instances", "skeleton"):
        if settings.get(name):
            raise ParameterError(f"{name} is for segment_file, which writes a file for it", name)
    planned = plan(model, tomogram, **settings)
    shape = planned.tiling.shape
    names = shown_classes(model) if planned.postprocess.maps else ()
    labels = np.zeros(shape, np.int8)
    maps = {name: np.zeros(shape, settings.get("map_type", "float16")) for name in names}
    for where, parts in _tiles(planned, 0, progress):
        for array, part in zip((labels, *maps.values()), parts, strict=True):
            array[where] = part
    if planned.cleaning.changes:
        from cryojax_seg.inference import cleaned  # loads SciPy, which takes a while

        cleaned.clean(planned.cleaning, labels.__getitem__, labels.__setitem__, shape)
    return (labels, maps) if planned.postprocess.maps else labels


def segment_file(
    model: Model,
    source: PathLike,
    target: PathLike,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    planned: Callable[[Plan], None] | None = None,
    **settings: Unpack[Settings],
) -> Segmented:
    """Write the labels of a tomogram, and with ``probabilities=True`` a map for each class.

    Tiles are read, computed and written in a stream, within the allowed memory. Then the labels are
    cleaned and objects are numbered, slab by slab, if the settings say so. The files appear when
    they are complete; repeating an interrupted call continues it.

    Args:
        model: the model, see `load`.
        source: a tomogram, in any format that `io.read_tomogram` reads.
        target: the label volume, .mrc, .zarr, .nii or .nrrd; the maps go beside it as
            NAME.CLASS.probability, the numbers of objects as NAME.instances, and skeletons as
            NAME.skeleton.
        overwrite: whether to replace existing files.
        progress: called with the number of tiles done and of all tiles.
        planned: called with the plan, before anything is computed.
        settings: see `Settings`.

    Raises:
        FileError: if the source cannot be read, or a file exists.
        BusyError: if another process is writing it.
        ValueError: as `plan`.
        OSError: if the disk is full.

    >>> import tempfile
    >>> from cryojax_seg.io import write_mrc
    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> folder = Path(tempfile.mkdtemp())
    >>> noise = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    >>> write_mrc(folder / "t.mrc", noise, voxel_size=10.0)
    >>> done = segment_file(Model(GlobalThreshold(1.0)), folder / "t.mrc", folder / "labels.mrc")
    >>> done.labels.name, 0.1 < done.shares["foreground"] < 0.2
    ('labels.mrc', True)
    """
    check_settings(**settings)
    source, target = Path(source), Path(target)
    maps = map_paths(model, target) if settings.get("probabilities", False) else {}
    numbers = beside(target, "instances") if settings.get("instances", False) else None
    outputs = [target, *maps.values()]
    skeleton = beside(target, "skeleton") if settings.get("skeleton") else None
    every = [*outputs, *filter(None, (numbers, skeleton))]
    check_places(every, [source])
    engine = settings.get("engine", "auto")
    if not isinstance(engine, Engine):
        engine = choose_engine(engine, settings.get("precision", "auto"), model.segmenter)
    settings["engine"] = engine
    job: dict[str, Any] = {"model": model.digest()}
    job |= {name: value for name, value in settings.items() if name not in ("memory", "tile")}
    job["engine"] = dataclasses.asdict(engine)
    with (
        folder_made(target.parent),
        OutputSet(job, every, [source], overwrite, zarr_folders(every)) as held,
    ):
        if held.finished:
            return Segmented(target, maps, None, 0.0, numbers, None, skeleton)
        start = time.monotonic()
        work = plan(model, source, **settings)
        if planned is not None:
            planned(work)
        wide = settings.get("map_type") == "float32" or target.suffix in (".nii", ".nrrd")
        kind = np.float32 if wide else np.float16
        card = model.label_card(work.postprocess.thresholds)
        form = ZarrForm(settings.get("zarr", "0.5"), settings.get("label_values", ()))
        shares, objects = _write(work, outputs, numbers, skeleton, kind, held, card, form, progress)
        if shares.inverted:
            log.warning(
                f"{work.tomogram.name}: the segmented structure is darker than its surroundings "
                "where it should be brighter; is the contrast right?"
            )
    seconds = time.monotonic() - start
    return Segmented(target, maps, shares.of_classes(), seconds, numbers, objects, skeleton)


def unfinished(
    model: Model,
    pairs: Sequence[tuple[Path, Path]],
    *,
    probabilities: bool = False,
    instances: bool = False,
    skeleton: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> list[tuple[Path, Path]]:
    """Return the tomograms and label volumes that `segment_file` still has to do.

    Args:
        model: see `load`.
        pairs: the tomograms, each with its label volume.
        probabilities: whether maps are written too.
        instances: whether the numbers of objects are written too.
        skeleton: whether skeletons are written too.
        resume: leave out the label volumes that are there.
        overwrite: keep all pairs.

    Raises:
        FileError: if an output exists, unless it is to be resumed or overwritten.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> pair = (Path("a.mrc"), Path("a.labels.mrc"))
    >>> unfinished(Model(GlobalThreshold(1.0)), [pair]) == [pair]
    True
    """
    rest = []
    for source, target in pairs:
        others = list(map_paths(model, target).values()) if probabilities else []
        others += [beside(target, "instances")] if instances else []
        others += [beside(target, "skeleton")] if skeleton else []
        there = [path for path in (target, *others) if path.exists()]
        half = is_half_published(target)  # by a process that was killed: then it is gone on with
        if there and not overwrite and not resume and not half:
            raise FileError(
                f"{there[0]}: exists already; choose another output, resume or overwrite it",
                *("output", "resume", "overwrite"),
            )
        if half or not (resume and target.exists()):  # the labels are finished last
            rest.append((source, target))
    return rest


def shown_classes(model: Model) -> tuple[str, ...]:
    """Return the classes that have a probability map, which are all except the background.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> shown_classes(Model(GlobalThreshold([0.0, 1.0], classes=("background", "a", "b"))))
    ('a', 'b')
    """
    return label_names(model.segmenter.classes)[1:]


def map_paths(model: Model, labels: PathLike) -> dict[str, Path]:
    """Return the path of the probability map of each class, beside these labels.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> map_paths(Model(GlobalThreshold(classes=("membrane",))), "a/t.labels.mrc")["membrane"].name
    't.membrane.probability.mrc'
    """
    safe = {name: name.replace("/", "_") for name in shown_classes(model)}  # a name is no folder
    return {name: beside(labels, f"{word}.probability") for name, word in safe.items()}


def _tiles(work: Plan, done: int, progress: Progress | None) -> Iterator[tuple[Any, list]]:
    """Yield the place of each tile, and its labels and maps; 0 where the tomogram is blank."""
    program = work.engine.program(work.segmenter, work.tiling.padded)
    tiles = apply_tiles(work.segmenter, work.volume, work.tiling, work.postprocess, done, program)
    report = progress or (lambda done, count: None)
    report(done, work.tiling.count)
    holes = work.volume.intensity.damaged > 0 or work.volume.intensity.blank.share > 0
    for number, (where, parts) in enumerate(tiles, done + 1):
        if holes:  # nothing can be found where nothing is
            missing = work.volume.missing(where)
            parts = [np.where(missing, part.dtype.type(0), part) for part in parts]
        yield where, parts
        report(number, work.tiling.count)


def _write(
    work: Plan,
    outputs: list[Path],
    numbers: Path | None,
    skeleton: Path | None,
    maps: Any,
    held: OutputSet,
    card: LabelCard,
    form: ZarrForm,
    progress: Progress | None,
) -> tuple[Shares, dict[str, int] | None]:
    """Write the files tile by tile, or continue where an earlier run ended; count the labels."""
    names, shape = label_names(work.segmenter.classes), tuple(work.volume.shape)
    shares = Shares(work.volume, names)
    whole = {
        "postprocess": dataclasses.asdict(work.postprocess),
        "tiling": dataclasses.asdict(work.tiling),
        "intensity": dataclasses.asdict(work.volume.intensity),
        "engine": dataclasses.asdict(work.engine),
        "cleaning": dataclasses.asdict(work.cleaning),
    }
    volumes = [(path, maps if i else np.int8) for i, path in enumerate(outputs)]
    with TileJob(whole, volumes, shape, work.tomogram, True, held, card, form) as job:
        if job.done:
            log.info(f"{outputs[0]}: going on after {job.done} of {work.tiling.count} tiles")
        for where in itertools.islice(work.tiling, job.done):  # by the earlier run
            shares.add(where, job.read(0, where))
        for where, parts in _tiles(work, job.done, progress):
            job.write(where, parts)
            shares.add(where, parts[0])
        if not (work.cleaning.changes or skeleton or numbers):
            return shares, None
        from cryojax_seg.inference import cleaned  # loads SciPy, which takes a while

        def read(z: slice) -> np.ndarray:
            return job.read(0, _sections(z, shape))

        def write(z: slice, block: np.ndarray) -> None:
            shares.replaced(read(z), block)
            job.replace(0, _sections(z, shape), block)

        if work.cleaning.changes:
            job.keep()  # so that no tile is written again over labels that are clean
            cleaned.clean(work.cleaning, read, write, shape)

        def add(path: Path, kind: np.dtype, parts: Iterable[Part], card: Any = None) -> None:
            place, kept = held.place(path), ZarrForm(form.version)
            output = open_output(place, shape, kind, work.tomogram, True, card=card, form=kept)
            for z, block in parts:
                output.write(_sections(z, shape), block.astype(kind))
            output.finish()

        if skeleton is not None:
            add(skeleton, np.dtype(np.int8), cleaned.skeletons(work.cleaning, read, shape), card)
        if numbers is None:
            return shares, None
        readers = [cleaned.Written(functools.partial(job.read, n)) for n in range(len(outputs))]
        maps = dict(enumerate(readers[1:], 1))
        found = cleaned.objects(work.cleaning, readers[0].read, shape, numbers.parent, maps)
        kind = number_type(sum(found.counts.values()), numbers.suffix)
        add(numbers, kind, found.slabs())
        return shares, {names[value]: n for value, n in found.counts.items()}


def _sections(z: slice, shape: Shape) -> tuple[slice, ...]:
    return (z, slice(0, shape[1]), slice(0, shape[2]))
