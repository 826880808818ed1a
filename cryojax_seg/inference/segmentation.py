"""Segmentation of one tomogram by a model: in memory, or from file to file."""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from cryojax_seg.core import Tomogram, apply_tiles, label_names
from cryojax_seg.core.blocks import blocks, release
from cryojax_seg.inference.engine import Engine, choose_engine
from cryojax_seg.inference.model import Model
from cryojax_seg.inference.planning import How, Plan, check_how, plan
from cryojax_seg.io import (
    OutputSet,
    TileJob,
    check_places,
    folder_made,
    read_tomogram,
    zarr_folders,
)
from cryojax_seg.io.files import PathLike

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # called with tiles done and tiles in all


@dataclasses.dataclass(frozen=True)
class Segmented:
    """What `segment_file` did.

    Returned by `segment_file`.

    Attributes:
        labels: the label volume that was written.
        maps: the probability maps that were written, by class.
        shares: share of the voxels that each class but the background has; None if the file was
            done already.
        seconds: that it took.
    """

    labels: Path
    maps: dict[str, Path]
    shares: dict[str, float] | None
    seconds: float


def segment(
    model: Model,
    tomogram: Tomogram | PathLike,
    *,
    progress: Progress | None = None,
    **how: Unpack[How],
) -> Any:
    """Labels ``(z, y, x)``, int8, of a tomogram: 0 is the background, 1, 2, ... the classes.

    Args:
        model: see `load`.
        tomogram: at hand, or the path of a file.
        progress: called with the tiles that are done and those there are.
        how: see `How`.

    Returns:
        the labels; with ``probabilities=True`` also a dictionary of float16 maps by class.

    Raises: as `plan`.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> noise = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    >>> labels = segment(Model(GlobalThreshold(1.0)), Tomogram(-noise))
    >>> labels.dtype, bool(labels[noise > 2].all()), bool(labels[noise < 0].any())
    (dtype('int8'), True, False)
    """
    planned = plan(model, tomogram, **how)
    shape = planned.tiling.shape
    names = shown_classes(model) if planned.postprocess.maps else ()
    labels = np.zeros(shape, np.int8)
    maps = {name: np.zeros(shape, np.float16) for name in names}
    for where, parts in _tiles(planned, 0, progress):
        for array, part in zip((labels, *maps.values()), parts, strict=True):
            array[where] = part
    return (labels, maps) if planned.postprocess.maps else labels


def segment_file(
    model: Model,
    source: PathLike,
    target: PathLike,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    planned: Callable[[Plan], None] | None = None,
    **how: Unpack[How],
) -> Segmented:
    """Writes the labels of a tomogram, and with ``probabilities=True`` a map for each class.

    Tiles are read, computed and written in a stream, in the memory that is allowed. The files
    appear when they are complete; the same call goes on with what an interrupted one has begun.

    Args:
        model: see `load`.
        source: a tomogram: MRC, TIFF or OME-Zarr.
        target: the label volume, .mrc or .zarr; the maps go beside it as NAME.CLASS.probability.
        overwrite: replace existing files.
        progress: called with the tiles that are done and those there are.
        planned: called with the plan, before anything is computed.
        how: see `How`.

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
    check_how(**how)
    source, target = Path(source), Path(target)
    maps = map_paths(model, target) if how.get("probabilities", False) else {}
    outputs = [target, *maps.values()]
    check_places(outputs, [source])
    engine = how.get("engine", "auto")
    if not isinstance(engine, Engine):
        engine = choose_engine(engine, how.get("precision", "auto"), model.segmenter)
    how["engine"] = engine
    job: dict[str, Any] = {"model": model.digest()}
    job |= {name: value for name, value in how.items() if name not in ("memory", "tile")}
    job["engine"] = dataclasses.asdict(engine)
    with (
        folder_made(target.parent),
        OutputSet(job, outputs, [source], overwrite, zarr_folders(outputs)) as held,
    ):
        if held.finished:
            return Segmented(target, maps, None, 0.0)
        start = time.monotonic()
        work = plan(model, source, **how)
        if planned is not None:
            planned(work)
        _write(work, outputs, held, progress)
        shares = _shares(held.staged(target), work)
    return Segmented(target, maps, shares, time.monotonic() - start)


def shown_classes(model: Model) -> tuple[str, ...]:
    """The classes that have a probability map: all but the background.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> shown_classes(Model(GlobalThreshold([0.0, 1.0], classes=("background", "a", "b"))))
    ('a', 'b')
    """
    return label_names(model.segmenter.classes)[1:]


def map_paths(model: Model, labels: PathLike) -> dict[str, Path]:
    """Where the probability map of each class goes, beside these labels.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> map_paths(Model(GlobalThreshold(classes=("membrane",))), "a/t.labels.mrc")["membrane"].name
    't.membrane.probability.mrc'
    """
    labels = Path(labels)
    base = labels.stem.removesuffix(".labels")
    safe = {name: name.replace("/", "_") for name in shown_classes(model)}  # a name is no folder
    return {
        name: labels.with_name(f"{base}.{word}.probability{labels.suffix}")
        for name, word in safe.items()
    }


def _tiles(work: Plan, done: int, progress: Progress | None) -> Iterator[tuple[Any, list]]:
    """Where each tile lies, and its labels and maps; 0 where the tomogram is blank."""
    program = work.engine.program(work.segmenter, work.tiling.padded)
    tiles = apply_tiles(work.segmenter, work.volume, work.tiling, work.postprocess, done, program)
    report = progress or (lambda done, count: None)
    report(done, work.tiling.count)
    for number, (where, parts) in enumerate(tiles, done + 1):
        missing = work.volume.missing(where)  # nothing can be found where nothing is
        yield where, [np.where(missing, part.dtype.type(0), part) for part in parts]
        report(number, work.tiling.count)


def _write(work: Plan, outputs: list[Path], held: OutputSet, progress: Progress | None) -> None:
    """Writes the files tile by tile, or goes on where an earlier run was."""
    whole = {
        "postprocess": dataclasses.asdict(work.postprocess),
        "tiling": dataclasses.asdict(work.tiling),
        "intensity": dataclasses.asdict(work.volume.intensity),
        "engine": dataclasses.asdict(work.engine),
    }
    volumes = [(path, np.float16 if i else np.int8) for i, path in enumerate(outputs)]
    with TileJob(whole, volumes, work.volume.shape, work.tomogram, True, held) as job:
        if job.done:
            log.info(f"{outputs[0]}: going on after {job.done} of {work.tiling.count} tiles")
        for where, parts in _tiles(work, job.done, progress):
            job.write(where, parts)


def _shares(labels: Path, work: Plan) -> dict[str, float]:
    """Share of voxels of each class but background; warns if they look inverted."""
    # What is odd about the voxel size was said when the tomogram was read.
    found = read_tomogram(labels, work.tomogram.voxel_size or 1.0).density
    names = label_names(work.segmenter.classes)
    counts = np.zeros(len(names), np.int64)
    sums, voxels = np.zeros(2), np.zeros(2)  # of the intensity, outside and inside
    places = list(blocks(found.shape))
    for number, where in enumerate(places):
        block = np.asarray(found[where])
        counts += np.bincount(block.ravel(), minlength=len(names))
        if number % -(-len(places) // 64) == 0:  # a sample is enough for this
            inside, values = (block > 0).ravel(), work.volume[where].ravel()
            voxels += np.bincount(inside, minlength=2)
            sums += np.bincount(inside, values, minlength=2)
        release(found)
    if voxels.all() and sums[1] / voxels[1] < sums[0] / voxels[0] - 0.1:
        log.warning(
            f"{work.tomogram.name}: the segmented structure is darker than its surroundings where "
            "it should be brighter; is the contrast right?"
        )
    return {n: float(counts[i] / counts.sum()) for i, n in enumerate(names) if i}
