"""One tomogram, tile by tile: the plan, the work and what came out."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from cryojax_seg.cli import console
from cryojax_seg.cli.engine import Engine, bounded
from cryojax_seg.cli.normalized import normalized

BASE = 0.9 * 2**30  # bytes that the process takes without tiles: libraries, compiled programs


@dataclasses.dataclass(frozen=True)
class Answer:
    """Of logits ``(z, y, x, class)``: the labels, int8, and the maps that are wanted, float16.

    Attributes:
        threshold: probability above which a voxel belongs to the one class there is.
        maps: whether a map is wanted for each class but the background.
    """

    threshold: float
    maps: bool

    def __call__(self, logits):
        import jax.numpy as jnp

        from cryojax_seg.core import probabilities

        p = probabilities(logits)
        one = p.shape[-1] == 1
        labels = p[..., 0] > self.threshold if one else jnp.argmax(p, -1)
        shown = range(0 if one else 1, p.shape[-1]) if self.maps else ()
        return labels.astype(jnp.int8), *(p[..., i].astype(jnp.float16) for i in shown)


@dataclasses.dataclass(frozen=True)
class Work:
    """What is to be done with one tomogram.

    Attributes:
        tomogram: as it was read.
        volume: the same, normalized as it is read.
        segmenter: fitted to it.
        tiling: how it is cut.
        answer: what is wanted.
        engine: what computes it.
    """

    tomogram: Any
    volume: Any
    segmenter: Any
    tiling: Any
    answer: Answer
    engine: Engine


def plan(
    segmenter,
    card,
    tomogram,
    answer: Answer,
    engine: Engine,
    contrast: Literal["dark", "bright"] | None,
    tile: int | float,
    halo: str,
) -> Work:
    """Measures the intensities and cuts the volume into tiles; nothing is segmented yet.

    Args:
        segmenter, card: the model.
        tomogram: at hand or on disk.
        answer: what is wanted.
        engine: that was chosen.
        contrast: None for that of the model.
        tile: edge of the tiles in voxels (an int), or bytes they may take (a float).
        halo: "exact", "auto" or a number of voxels; for tomograms of several tiles, or of one whose
            halo would be most of the work.
    """
    from cryojax_seg import core, io
    from cryojax_seg.core.tiling import WASTE, tiling_of
    from cryojax_seg.segmenters import fit_normalization

    _warn_if_other_voxels(tomogram, card)
    volume = normalized(tomogram, contrast or card.contrast)
    patch = card.patch or 64  # statistics are best measured as in training
    fitted = fit_normalization(segmenter, volume, patch=patch)

    def cut(segmenter):
        if isinstance(tile, int):
            return tiling_of(segmenter, volume.shape, tile)
        return core.plan_tiles(segmenter, volume.shape, tile, answer)

    tiling = cut(fitted)
    # Of one tile too where the halo is most of the work, unless it had to be measured first.
    known = halo != "auto" or card.halo is not None
    if halo != "exact" and (tiling.count > 1 or (known and tiling.waste > WASTE)):
        fitted = _with_halo(fitted, card, volume, halo)
        tiling = cut(fitted)
    # A block as it is read and as it is computed; the rest depends on the method.
    advice = f"its tiles have a halo of {tiling.halo} voxels: give a smaller --halo"
    io.check_memory(tomogram.name, 8 * math.prod(tiling.padded), advice)
    engine = bounded(engine, fitted, volume, tomogram.name)
    return Work(tomogram, volume, engine.segmenter(fitted), tiling, answer, engine)


def _with_halo(segmenter, card, volume, halo: str):
    """The segmenter with the halo that was asked for, or that was measured."""
    from cryojax_seg.segmenters import Truncated, fit_halo

    if halo != "auto":
        return Truncated(segmenter, int(halo))
    measured = card.halo
    return fit_halo(segmenter, volume)[0] if measured is None else Truncated(segmenter, measured)


def account(work: Work) -> str:
    """The plan in words."""
    from cryojax_seg.core.tiling import bytes_per_voxel
    from cryojax_seg.segmenters import Truncated

    tiling = work.tiling
    size = math.prod(tiling.padded) * bytes_per_voxel(work.segmenter, work.answer)
    cut = isinstance(work.segmenter, Truncated)
    halo = f"{tiling.halo} voxels" + (f" of {work.segmenter.segmenter.halo}" if cut else "")
    tiles = "1 tile" if tiling.count == 1 else f"{tiling.count} tiles"
    return (
        f"{_times(tiling.shape)} voxels in {tiles} of {_times(tiling.tile)} with a halo of {halo}: "
        f"{tiling.waste:.2f} voxels computed for each, about {(size + BASE) / 2**30:.1f} GiB of "
        f"memory at most{cure(work.segmenter, tiling, work.answer)}"
    )


def cure(segmenter: Any, tiling: Any, answer: Any) -> str:
    """The --memory that would spare work, in words; nothing where hardly any can be spared."""
    from cryojax_seg.core.tiling import WASTE, memory_for

    if tiling.waste <= WASTE:
        return ""
    memory, better = memory_for(segmenter, tiling.shape, answer=answer)
    if better.waste > 0.9 * tiling.waste:
        return ""
    needed = math.ceil((memory + BASE) / 2**30 * 10) / 10
    return f"; --memory {needed:g} would make that {better.waste:.2f}"


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def compile_only(work: Work) -> None:
    """Compiles what `segment` will run; a program of its own compiles when it is called."""
    import numpy as np

    from cryojax_seg.core.tiling import compile_tiles

    program = work.engine.program(work.segmenter, work.tiling.padded)
    if program is None:
        compile_tiles(work.segmenter, work.tiling, work.answer)
    else:
        program(np.zeros(work.tiling.padded, np.float32))


def segment(
    work: Work,
    outputs: Sequence[Path],
    held: Any,
) -> None:
    """Segments one tomogram and writes its files, or goes on where an earlier run was.

    Args:
        outputs: of the labels, then of the maps.
        held: the `io.OutputSet` that they belong to.
    """
    import numpy as np

    from cryojax_seg import io
    from cryojax_seg.core import apply_tiles

    whole = {
        "answer": dataclasses.asdict(work.answer),
        "tiling": dataclasses.asdict(work.tiling),
        "intensity": dataclasses.asdict(work.volume.intensity),
        "engine": dataclasses.asdict(work.engine),
    }
    program = work.engine.program(work.segmenter, work.tiling.padded)
    volumes = [(path, np.float16 if i else np.int8) for i, path in enumerate(outputs)]
    count = work.tiling.count
    with io.TileJob(whole, volumes, work.volume.shape, work.tomogram, True, held) as job:
        if job.done:
            console.say(f"{outputs[0]}: going on after {job.done} of {count} tiles")
        tiles = apply_tiles(
            work.segmenter, work.volume, work.tiling, work.answer, job.done, program
        )
        with console.progress(count, Path(work.tomogram.name).name, job.done) as advance:
            for where, blocks in tiles:
                missing = work.volume.missing(where)  # nothing can be found where nothing is
                job.write(where, [np.where(missing, b.dtype.type(0), b) for b in blocks])
                advance()


def shares(labels: Path, work: Work) -> dict[str, float]:
    """Share of voxels of each class but background; warns if they look inverted."""
    import numpy as np

    from cryojax_seg import io
    from cryojax_seg.core import label_names
    from cryojax_seg.core.blocks import blocks, release

    # What is odd about the voxel size was said when the tomogram was read.
    found = io.read_tomogram(labels, work.tomogram.voxel_size or 1.0).density
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
        console.warn(
            f"{work.tomogram.name}: what was found looks darker than its surroundings where it "
            "should be brighter; is --contrast right?"
        )
    return {n: float(counts[i] / counts.sum()) for i, n in enumerate(names) if i}


def _warn_if_other_voxels(tomogram, card) -> None:
    if tomogram.voxel_size is None or card.voxel_size is None:
        return
    ratios = [a / b for a, b in zip(tomogram.voxel_size, card.voxel_size, strict=True)]
    if max(ratios) > 1.1 or min(ratios) < 0.9:
        console.warn(
            f"{tomogram.name}: has voxels of {tomogram.voxel_size[0]:.4g} A, the model was trained "
            f"on {card.voxel_size[0]:.4g} A; bin or rescale the tomogram to that"
        )
