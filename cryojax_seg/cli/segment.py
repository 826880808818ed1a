"""``cryojax-seg segment``: label volumes of tomograms, by a saved model."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import (
    Contrast,
    Output,
    Overwrite,
    TiltRange,
    Tomograms,
    VoxelSize,
    default,
)


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
    """Volumes to segment: MRC (also .rec, .map, .gz, .bz2) or TIFF."""
    output: Output
    """Where the labels go: a file for one tomogram, or a folder."""
    probabilities: bool = False
    """Also write NAME.CLASS.probability.mrc for each class but background (float16, mode 12)."""
    threshold: float = 0.5
    """Probability above which a voxel belongs to the class, 0 to 1, for models of one class."""
    tile: Annotated[str, default("auto|N", "auto")] = "auto"
    """Edge of the tiles in voxels; auto takes about 2 GB. The result does not depend on it."""
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
    overwrite: Overwrite = False
    """Replace existing outputs."""


def run(options: Segment) -> None:
    tile = _tile(options.tile)
    if not 0 < options.threshold < 1:
        raise ValueError(f"--threshold must lie between 0 and 1, got {options.threshold:g}")
    if not options.tomograms:
        raise ValueError("no tomogram given; see cryojax-seg segment --help")
    targets = _targets(options)

    from cryojax_seg import core, io

    core.keep_compiled()
    nested = options.model / "model"
    segmenter, card = io.load_model(nested if nested.is_dir() else options.model)
    _check_model(options, segmenter)
    written = [p for labels in targets for p in (labels, *_maps(options, labels, segmenter))]
    for path in written:
        if path.exists() and not options.overwrite:
            raise ValueError(f"{path}: exists already; choose another --output or --overwrite it")
    targets[0].parent.mkdir(parents=True, exist_ok=True)
    segmenter = _with_flips(options, segmenter, card)
    for source, target in zip(options.tomograms, targets, strict=True):
        start = time.monotonic()
        tomogram = io.read_tomogram(source, options.voxel_size)
        share = _one(options, segmenter, card, tomogram, target, tile)
        parts = ", ".join(f"{name} {100 * part:.2f} %" for name, part in share.items())
        print(f"{target}: {parts} ({time.monotonic() - start:.1f} s)")


def _one(options: Segment, segmenter, card, tomogram, target: Path, tile: int | None):
    """Segments one tomogram, writes the files, and returns the share of voxels of each class."""
    import numpy as np

    from cryojax_seg import io
    from cryojax_seg.core import label_names, normalize, probabilities, segment_tiles
    from cryojax_seg.core.tiling import auto_tile, count_tiles
    from cryojax_seg.segmenters import fit_normalization

    _warn_if_other_voxels(tomogram, card)
    try:
        volume = normalize(tomogram.density, options.contrast or card.contrast)
    except ValueError as error:
        raise io.FileError(f"{tomogram.name}: {error}") from None
    patch = card.provenance.get("patch", 64)  # statistics are best measured as in training
    fitted = fit_normalization(segmenter, volume, patch=patch)
    if tile is None:
        tile = auto_tile(fitted, volume.shape)
    count = len(fitted.classes)
    labels = np.empty(volume.shape, np.int8)
    shown = 0 if count == 1 else 1  # the background's map is what the others leave
    maps = [np.empty(volume.shape, np.float16) for _ in range(shown, count)]
    maps = maps if options.probabilities else []
    tiles = count_tiles(fitted, volume.shape, tile)
    with console.progress(tiles, Path(tomogram.name).name) as advance:
        for where, logits in segment_tiles(fitted, volume, tile):
            p = np.asarray(probabilities(logits))
            labels[where] = p[..., 0] > options.threshold if count == 1 else p.argmax(-1)
            for i, values in enumerate(maps):
                values[where] = p[..., shown + i]
            advance()
    _warn_if_inverted(tomogram.name, volume, labels)
    io.write_mrc(target, labels, like=tomogram, overwrite=options.overwrite)
    for path, values in zip(_maps(options, target, fitted), maps, strict=True):
        io.write_mrc(path, values, like=tomogram, overwrite=options.overwrite)
    found = np.bincount(labels.ravel(), minlength=2) / labels.size
    names = label_names(fitted.classes)
    return {n: float(found[i]) if i < len(found) else 0.0 for i, n in enumerate(names) if i}


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
    for ending in (".gz", ".bz2", ".mrc", ".rec", ".map", ".st", ".tiff", ".tif"):
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


def _warn_if_inverted(name: str, volume, labels) -> None:
    inside = labels > 0
    if inside.any() and not inside.all() and volume[inside].mean() < volume[~inside].mean() - 0.1:
        console.warn(
            f"{name}: what was found looks darker than its surroundings where it should be "
            "brighter; is --contrast right?"
        )
