"""``cryojax-seg segment``: label volumes of tomograms, by a saved model."""

import dataclasses
import math
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from cryojax_seg.cli import console, many
from cryojax_seg.cli.arguments import (
    Contrast,
    Output,
    Overwrite,
    TiltRange,
    Tomograms,
    VoxelSize,
    default,
)

BASE = 0.9 * 2**30  # bytes that the process takes without tiles: libraries, compiled programs


@dataclasses.dataclass(frozen=True)
class Segment:
    """Segment tomograms with a saved model: a label volume for each, on the same grid.

    For one tomogram --output may be a file (.mrc); otherwise it is a folder, made if there is
    none, and the labels of NAME.mrc are NAME.labels.mrc in it. Labels are 8-bit integers (MRC
    mode 0) with the voxel size and origin of the tomogram.
    """

    model: Positional[Path]
    """Folder that `cryojax-seg train -o RUN` wrote: RUN, or RUN/model."""
    tomograms: Tomograms
    """Volumes to segment: MRC (also .rec, .map, .gz, .bz2), TIFF or OME-Zarr."""
    output: Output
    """Where the labels go: a file for one tomogram, or a folder."""
    probabilities: bool = False
    """Also write NAME.CLASS.probability.mrc for each class but background (float16, mode 12)."""
    threshold: float = 0.5
    """Probability above which a voxel belongs to the class, 0 to 1, for models of one class."""
    tile: Annotated[str, default("auto|N", "auto")] = "auto"
    """Edge of the tiles in voxels; auto fits them to --memory. The result does not depend on it."""
    halo: Annotated[str, default("auto|exact|N", "auto")] = "auto"
    """Voxels computed again around each of several tiles; exact is all that could matter, auto as
    many as keep the logits within 0.1 of that, as measured on training data or this tomogram."""
    memory: float = 2.0
    """GiB that may be used at most, whatever the size of the tomogram."""
    dry_run: bool = False
    """Print how each tomogram would be cut and what memory that takes, and segment nothing."""
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
    compile_only: bool = False
    """Compile what the tomograms need and segment nothing, so that a job array finds it compiled."""
    resume: bool = False
    """Leave out tomograms that are done; one that was begun goes on in any case."""
    overwrite: Overwrite = False
    """Replace existing outputs."""


def run(options: Segment) -> None:
    options = dataclasses.replace(options, tomograms=many.expanded(options.tomograms))
    tile, memory = _check(options)
    targets = _targets(options)

    from cryojax_seg import core, io

    core.keep_compiled()
    nested = options.model / "model"
    folder = nested if nested.is_dir() else options.model
    segmenter, card = io.load_model(folder)
    digest = io.model_digest(folder)
    _check_model(options, segmenter)
    pairs = _unfinished(options, list(zip(options.tomograms, targets, strict=True)), segmenter)
    segmenter = _with_flips(options, segmenter, card)

    def one(pair: tuple[Path, Path]) -> None:
        start = time.monotonic()
        source, target = pair
        tomogram = io.read_tomogram(source, options.voxel_size)
        work = _plan(options, segmenter, card, tomogram, memory, tile)
        if options.dry_run:
            print(f"{target}: {_account(work)}")
        elif options.compile_only:
            core.tiling.compile_tiles(work.segmenter, work.tiling, work.answer)
            print(f"{source}: compiled ({time.monotonic() - start:.1f} s)")
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            _one(options, work, digest, source, target)
            share = _shares(target, work)
            parts = ", ".join(f"{name} {100 * part:.2f} %" for name, part in share.items())
            print(f"{target}: {parts} ({time.monotonic() - start:.1f} s)", flush=True)

    many.each(pairs, one, name=lambda pair: str(pair[0]))


def _check(options: Segment) -> tuple[int | None, float]:
    """What can be told to be wrong before anything is read; the tile and the bytes for tiles."""
    if options.halo not in ("auto", "exact") and not options.halo.isdecimal():
        raise ValueError(f"--halo: a number of voxels, auto or exact; got '{options.halo}'")
    memory = options.memory * 2**30 - BASE
    if not memory > 0:
        raise ValueError(f"--memory must be above {BASE / 2**30:g} GiB, got {options.memory:g}")
    if not 0 < options.threshold < 1:
        raise ValueError(f"--threshold must lie between 0 and 1, got {options.threshold:g}")
    if not options.tomograms:
        raise ValueError("no tomogram given; see cryojax-seg segment --help")
    if options.resume and options.overwrite:
        raise ValueError("--resume and --overwrite exclude each other")
    return _tile(options.tile), memory


def _unfinished(
    options: Segment, pairs: list[tuple[Path, Path]], segmenter
) -> list[tuple[Path, Path]]:
    """Tomograms and labels of this shard, without those that are done if that is wanted."""
    pairs = many.shard(pairs, options.shard)
    rest = []
    for source, target in pairs:
        there = [p for p in (target, *_maps(options, target, segmenter)) if p.exists()]
        if there and not options.overwrite and not options.resume:
            raise ValueError(
                f"{there[0]}: exists already; choose another --output, --resume or --overwrite it"
            )
        if not (options.resume and target.exists()):  # the labels are finished last
            rest.append((source, target))
    if len(rest) < len(pairs):
        console.say(f"{len(pairs) - len(rest)} of {len(pairs)} are done already")
    return rest


@dataclasses.dataclass(frozen=True)
class _Answer:
    """Of logits ``(z, y, x, class)``: the labels, int8, and the maps that are wanted, float16."""

    threshold: float
    maps: bool

    def __call__(self, logits):
        import jax.numpy as jnp

        from cryojax_seg.core import probabilities

        p = probabilities(logits)
        one = p.shape[-1] == 1
        labels = p[..., 0] > self.threshold if one else jnp.argmax(p, -1)
        shown = range(0 if one else 1, p.shape[-1]) if self.maps else ()  # not the background's
        return labels.astype(jnp.int8), *(p[..., i].astype(jnp.float16) for i in shown)


@dataclasses.dataclass(frozen=True)
class _Work:
    """What is to be done with one tomogram."""

    tomogram: Any
    volume: Any  # normalized as it is read
    segmenter: Any  # fitted to it
    tiling: Any
    answer: _Answer


def _plan(options: Segment, segmenter, card, tomogram, memory: float, tile: int | None) -> _Work:
    """Measures the intensities and cuts the volume into tiles; nothing is segmented yet."""
    import numpy as np

    from cryojax_seg import core, io
    from cryojax_seg.core.tiling import tiling_of
    from cryojax_seg.segmenters import fit_normalization

    _warn_if_other_voxels(tomogram, card)
    try:
        intensity = core.measure_intensity(tomogram.density, options.contrast or card.contrast)
    except ValueError as error:
        raise io.FileError(f"{tomogram.name}: {error}") from None
    on_disk = isinstance(tomogram.density, (np.memmap, io.Chunked))
    if intensity.damaged and on_disk:  # else the reader has said so
        console.warn(f"{tomogram.name}: {100 * intensity.damaged:.2g} % of its voxels are NaN")
    volume = core.Normalized(tomogram.density, intensity)
    patch = card.provenance.get("patch", 64)  # statistics are best measured as in training
    fitted = fit_normalization(segmenter, volume, patch=patch)
    answer = _Answer(options.threshold, options.probabilities)

    def cut(segmenter):
        if tile is None:
            return core.plan_tiles(segmenter, volume.shape, memory, answer)
        return tiling_of(segmenter, volume.shape, tile)

    tiling = cut(fitted)
    if tiling.count > 1 and options.halo != "exact":
        fitted = _with_halo(options, fitted, card, volume)
        tiling = cut(fitted)
    return _Work(tomogram, volume, fitted, tiling, answer)


def _with_halo(options: Segment, segmenter, card, volume):
    """The segmenter with the halo that was asked for, or that was measured."""
    from cryojax_seg.segmenters import Truncated, fit_halo

    if options.halo != "auto":
        return Truncated(segmenter, int(options.halo))
    measured = card.provenance.get("halo")
    if measured is not None and not options.flips:
        return Truncated(segmenter, measured["voxels"])
    return fit_halo(segmenter, volume)[0]


def _account(work: _Work) -> str:
    """The plan in words."""
    from cryojax_seg.core.tiling import bytes_per_voxel

    tiling = work.tiling
    size = math.prod(tiling.padded) * bytes_per_voxel(work.segmenter, work.answer)
    tiles = "1 tile" if tiling.count == 1 else f"{tiling.count} tiles"
    return (
        f"{_times(tiling.shape)} voxels in {tiles} of {_times(tiling.tile)} with a halo of "
        f"{tiling.halo}: {tiling.waste:.2f} voxels computed for each, about "
        f"{(size + BASE) / 2**30:.1f} GiB of memory at most"
    )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _one(options: Segment, work: _Work, digest: str, source: Path, target: Path) -> None:
    """Segments one tomogram and writes the files."""
    import numpy as np

    from cryojax_seg import io
    from cryojax_seg.core import segment_tiles

    found = source.stat()
    description = {
        "model": digest,
        "tomogram": [str(source.resolve()), found.st_size, found.st_mtime_ns],
        "answer": dataclasses.asdict(work.answer),
        "tiling": dataclasses.asdict(work.tiling),
        "flips": [options.flips, options.tilt_range, options.tilt_axis],
        "intensity": dataclasses.asdict(work.volume.intensity),
    }
    maps = [(path, np.float16) for path in _maps(options, target, work.segmenter)]
    job = io.TileJob(
        description, [(target, np.int8), *maps], work.volume.shape, work.tomogram, options.overwrite
    )
    count = work.tiling.count
    with job, console.progress(count, Path(work.tomogram.name).name) as advance:
        if job.done:
            console.say(f"{target}: going on after {job.done} of {count} tiles")
        for _ in range(job.done):
            advance()
        tiles = segment_tiles(work.segmenter, work.volume, work.tiling, work.answer, job.done)
        for where, blocks in tiles:
            job.write(where, blocks)
            advance()


def _shares(target: Path, work: _Work) -> dict[str, float]:
    """Share of voxels of each class but background; warns if they look inverted."""
    import numpy as np

    from cryojax_seg import io
    from cryojax_seg.core import label_names
    from cryojax_seg.core.blocks import blocks, release

    labels = io.read_tomogram(target).density
    names = label_names(work.segmenter.classes)
    counts = np.zeros(len(names), np.int64)
    sums = np.zeros(2)  # of the intensity outside and inside of what was found
    voxels = np.zeros(2)
    places = list(blocks(labels.shape))
    for number, where in enumerate(places):
        block = np.asarray(labels[where])
        counts += np.bincount(block.ravel(), minlength=len(names))
        if number % -(-len(places) // 64) == 0:  # a sample is enough for this
            inside, values = (block > 0).ravel(), work.volume[where].ravel()
            voxels += np.bincount(inside, minlength=2)
            sums += np.bincount(inside, values, minlength=2)
        release(labels)
    if voxels.all() and sums[1] / voxels[1] < sums[0] / voxels[0] - 0.1:
        console.warn(
            f"{work.tomogram.name}: what was found looks darker than its surroundings where it "
            "should be brighter; is --contrast right?"
        )
    return {n: float(counts[i] / counts.sum()) for i, n in enumerate(names) if i}


def _tile(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"--tile: a number of voxels above 0, or auto; got '{text}'")
    return int(text)


def stem(path: Path) -> str:
    """The name of a volume file without its endings.

    >>> stem(Path("a/TS_01.rec.gz"))
    'TS_01'
    """
    name = path.name
    for ending in (".gz", ".bz2", ".mrc", ".rec", ".map", ".st", ".tiff", ".tif", ".zarr", ".ome"):
        name = name[: -len(ending)] if name.lower().endswith(ending) else name
    return name


def _targets(options: Segment) -> list[Path]:
    output, sources = options.output, options.tomograms
    if output.suffix == ".mrc" and not output.is_dir():
        if len(sources) > 1:
            raise ValueError(f"{output}: is one file for {len(sources)} tomograms; name a folder")
        targets = [output]
    elif output.exists() and not output.is_dir():
        raise ValueError(f"{output}: exists and is neither a folder nor an .mrc file")
    else:
        targets = [output / f"{stem(source)}.labels.mrc" for source in sources]
    if len(set(targets)) < len(targets):
        raise ValueError("two tomograms have the same name; segment them into different folders")
    resolved = {source.resolve() for source in sources}
    for target in targets:
        if target.resolve() in resolved:
            raise ValueError(f"{target}: is the tomogram itself; choose another --output")
    return targets


def _maps(options: Segment, labels: Path, segmenter) -> list[Path]:
    """Where the probability maps go."""
    if not options.probabilities:
        return []
    base = labels.name.removesuffix(".mrc").removesuffix(".labels")
    classes = segmenter.classes if len(segmenter.classes) == 1 else segmenter.classes[1:]
    return [labels.with_name(f"{base}.{name}.probability.mrc") for name in classes]


def _check_model(options: Segment, segmenter) -> None:
    from cryojax_seg.core import Segmenter

    if not isinstance(segmenter, Segmenter):
        raise ValueError(f"{options.model}: is a {type(segmenter).__name__}, which gives no labels")
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


def _warn_if_other_voxels(tomogram, card) -> None:
    if tomogram.voxel_size is None or card.voxel_size is None:
        return
    ratios = [a / b for a, b in zip(tomogram.voxel_size, card.voxel_size, strict=True)]
    if max(ratios) > 1.1 or min(ratios) < 0.9:
        console.warn(
            f"{tomogram.name}: has voxels of {tomogram.voxel_size[0]:.4g} A, the model was trained "
            f"on {card.voxel_size[0]:.4g} A; bin or rescale the tomogram to that"
        )
