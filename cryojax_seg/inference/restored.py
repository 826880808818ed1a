"""Applies a restorer to one tomogram, tile by tile, on the scale of that tomogram."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryojax_seg.core import LocalOperator, MissingWedge, Normalized, Tiling, Tomogram
from cryojax_seg.core.plain import Contrast
from cryojax_seg.core.tiling import apply_tiles, bytes_per_voxel, plan_tiles
from cryojax_seg.core.types import Array
from cryojax_seg.errors import ParameterError
from cryojax_seg.inference.engine import BASE
from cryojax_seg.inference.planning import saved_by_memory
from cryojax_seg.inference.segmentation import Progress
from cryojax_seg.io import OutputSet, TileJob, read_tomogram, write_mrc
from cryojax_seg.io.files import PathLike
from cryojax_seg.io.intensity import check_halves, normalized, on_scale
from cryojax_seg.restore import sample_statistics
from cryojax_seg.segmenters import fit_normalization

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Source:
    """Holds the tomogram that is restored.

    Attributes:
        tomogram: the tomogram as read.
        volume: the same tomogram, normalized block by block as it is read.
        halves: its two halves on that scale; None without halves.
    """

    tomogram: Tomogram
    volume: Normalized
    halves: tuple[Normalized, ...] | None


def restore(
    restorer: LocalOperator,
    tomogram: Tomogram | PathLike,
    *,
    halves: Sequence[Tomogram | PathLike] | None = None,
    contrast: Contrast = "dark",
    patch: int = 64,
    memory: float = 2.0,
    voxel_size: Any = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Restore a tomogram in memory, and return float32 ``(z, y, x)`` on its own scale and grid.

    Args:
        restorer: a filter such as `restore.Gaussian`, or a trained one, see `load_restorer`.
        tomogram: the tomogram in memory, or the path of a file.
        halves: two tomograms of the same series with independent noise; with them, each is
            restored, and the mean is returned.
        contrast: whether structure is darker or brighter than its surroundings.
        patch: edge of the patches on which the restorer was trained, in voxels; see
            `segmenters.fit_normalization`.
        memory: the most memory that the tiles may use, in GiB.
        voxel_size: voxel size in angstrom, for a file that does not state it.
        progress: called with the number of tiles done and of all tiles.

    Raises:
        FileError: if a tomogram cannot be read or holds no two different values, or the halves do
            not belong to it.
        ParameterError: for too little memory.

    >>> from cryojax_seg.restore import Gaussian
    >>> noise = np.random.default_rng(0).normal(9.0, 1.0, (16, 16, 16)).astype(np.float32)
    >>> smooth = restore(Gaussian(2.0), Tomogram(noise))
    >>> bool(abs(smooth.mean() - 9.0) < 0.1), bool(smooth.std() < 0.2)
    (True, True)
    """
    check_memory(memory)
    source = read(tomogram, halves, contrast, voxel_size)
    fitted = fit_normalization(restorer, (source.halves or (source.volume,))[0], patch=patch)
    tiling = plan_tiles(fitted, source.volume.shape, memory * 2**30 - BASE, _density)
    found = np.empty(source.volume.shape, np.float32)
    for where, block in _tiles(fitted, source, tiling, 0, progress):
        found[where] = block
    return found


def read(
    tomogram: Tomogram | PathLike,
    halves: Sequence[Tomogram | PathLike] | None,
    contrast: Contrast,
    voxel_size: Any = None,
) -> Source:
    """Read a tomogram and its halves, and measure how to normalize them.

    Raises:
        FileError: if one cannot be read or holds no two different values, or the halves do not
            belong to the tomogram.
    """
    tomogram, *pair = (
        one if isinstance(one, Tomogram) else read_tomogram(one, voxel_size)
        for one in (tomogram, *(halves or ()))
    )
    if pair:
        check_halves(tomogram, pair)
    volume = normalized(tomogram, contrast)
    return Source(tomogram, volume, tuple(on_scale(h, volume) for h in pair) if pair else None)


def _density(channels: Array) -> Array:
    """Return the one channel of a restorer."""
    return channels[..., 0]


def _tiles(
    fitted: LocalOperator, source: Source, tiling: Tiling, done: int, progress: Progress | None
) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield the place of each tile, and the mean of the restored sources on the data's scale."""
    sources = source.halves or (source.volume,)
    streams = [apply_tiles(fitted, each, tiling, _density, done) for each in sources]
    report = progress or (lambda done, count: None)
    report(done, tiling.count)
    for number, parts in enumerate(zip(*streams, strict=True), done + 1):
        where = parts[0][0]
        mean = np.mean([block for _, block in parts], axis=0)
        yield where, source.volume.denormalize(where, mean)
        report(number, tiling.count)


def write(
    restorer: LocalOperator,
    source: Source,
    target: Path,
    outputs: OutputSet,
    *,
    model: str,
    patch: int,
    memory: float,
    progress: Progress | None,
) -> None:
    """Write the restored volume tile by tile, or continue where an earlier run ended.

    Args:
        restorer: the restorer, applied to the halves if there are any, else to the tomogram.
        source: the tomogram, see `read`.
        target: one of the outputs.
        outputs: the outputs, held by this process.
        model: digest of the restorer, which must be the same to continue.
        patch, memory, progress: as for `restore`.
    """
    fitted = fit_normalization(restorer, (source.halves or (source.volume,))[0], patch=patch)
    tiling = plan_tiles(fitted, source.volume.shape, memory * 2**30 - BASE, _density)
    if saving := saved_by_memory(fitted, tiling, bytes_per_voxel(fitted, _density)):
        log.info(
            f"{source.tomogram.name}: {tiling.waste:.2f} voxels are computed for each of the "
            f"tomogram; {saving.memory:g} GiB of memory would make that {saving.computed:.2f}"
        )
    description = {"model": model, "tiling": dataclasses.asdict(tiling)}
    volumes = [(target, np.float32)]
    with TileJob(description, volumes, tiling.shape, source.tomogram, True, outputs) as job:
        for where, block in _tiles(fitted, source, tiling, job.done, progress):
            job.write(where, [block])


def write_samples(
    restorer: LocalOperator,
    source: Source,
    target: Path,
    spread: Path,
    outputs: OutputSet,
    *,
    wedge: MissingWedge,
    samples: int,
    seed: int,
    patch: int,
    memory: float,
) -> None:
    """Write the mean of several samples of a restorer, and their standard deviation.

    Args:
        restorer: a restorer trained with `losses.adversarial`.
        source: the tomogram, see `read`.
        target, spread: the outputs for the mean and the standard deviation.
        outputs: the outputs, held by this process.
        wedge, samples, seed: see `restore.sample_statistics`.
        patch, memory: as for `restore`.
    """
    volume = source.volume
    fitted = fit_normalization(restorer, volume, patch=patch)
    tiling = plan_tiles(fitted, volume.shape, memory * 2**30 - BASE)
    whole = np.asarray(volume[:, :, :])  # its wedge is filled with noise as a whole
    mean, deviation = sample_statistics(fitted, whole, wedge, samples, seed, tiling)
    deviation[volume.missing(np.s_[:, :, :])] = 0
    scaled = deviation / abs(volume.intensity.gain)
    write_mrc(outputs.place(spread), scaled, source.tomogram, overwrite=True)
    with TileJob({}, [(target, np.float32)], mean.shape, source.tomogram, True, outputs) as job:
        everywhere = (slice(None),) * 3
        job.write(everywhere, [volume.denormalize(everywhere, mean)])


def check_memory(memory: float) -> None:
    """Raise a ParameterError unless a process fits into this memory, in GiB."""
    if not memory * 2**30 > BASE:
        raise ParameterError(f"memory must be above {BASE / 2**30:g} GiB, got {memory:g}", "memory")
