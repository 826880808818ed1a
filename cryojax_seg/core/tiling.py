"""Exact tiling: a local function gives the same answer tile by tile as on the whole volume."""

from collections.abc import Iterator

import jax
import numpy as np

from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.core.types import Logits, Shape, Volume

Tile = int | tuple[int, ...] | None


@jax.jit
def _run(segmenter: Segmenter, block: Volume) -> Logits:
    return segmenter(block)


def mirror(start: int, stop: int, size: int) -> np.ndarray:
    """Indices start..stop-1 into an axis of this size, continued by mirror images.

    >>> mirror(-2, 5, 3).tolist()
    [1, 0, 0, 1, 2, 2, 1]
    """
    index = np.arange(start, stop) % (2 * size)
    return np.where(index < size, index, 2 * size - 1 - index)


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _tile_size(segmenter: Segmenter, shape: Shape, tile: Tile) -> list[int]:
    wanted = shape if tile is None else (tile,) * 3 if isinstance(tile, int) else tile
    return [_up(min(t, n), segmenter.stride) for t, n in zip(wanted, shape, strict=True)]


def segment_tiles(
    segmenter: Segmenter,
    volume: np.ndarray | Volume,
    tile: Tile = None,
) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """Logits tile by tile: pairs of where the tile lies and its logits ``(z, y, x, class)``.

    Each tile is read with the segmenter's halo around it (mirrored at the faces of the volume) at
    an origin that is a multiple of its stride, and the halo is cropped, so tiles fit together
    exactly: no blending, no seams. All tiles have one shape, so the segmenter is compiled once.

    Args:
        segmenter: any local function.
        volume: ``(z, y, x)``, normalized, structure bright; a memory map will do.
        tile: edge of the tiles in voxels, for all axes or each; rounded up to the stride. None
            takes the whole volume as one tile.

    Raises:
        ValueError: for a volume that has not three axes, or an empty one.
    """
    if volume.ndim != 3 or 0 in volume.shape:
        raise ValueError(f"expected a volume (z, y, x) with voxels in it, got shape {volume.shape}")
    stride = segmenter.stride
    pad = _up(segmenter.halo, stride)  # the origin of the padded tile stays on the stride
    size = _tile_size(segmenter, volume.shape, tile)
    origins = [range(0, n, t) for n, t in zip(volume.shape, size, strict=True)]
    for z in origins[0]:
        for y in origins[1]:
            for x in origins[2]:
                index = [
                    mirror(o - pad, o + t + pad, n)
                    for o, t, n in zip((z, y, x), size, volume.shape, strict=True)
                ]
                block = np.asarray(volume[np.ix_(*index)], np.float32)
                logits = np.asarray(_run(segmenter, block))
                kept = [
                    min(t, n - o) for o, t, n in zip((z, y, x), size, volume.shape, strict=True)
                ]
                where = tuple(slice(o, o + k) for o, k in zip((z, y, x), kept, strict=True))
                yield where, logits[tuple(slice(pad, pad + k) for k in kept)]


def segment(
    segmenter: Segmenter,
    volume: np.ndarray | Volume,
    tile: Tile = None,
) -> np.ndarray:
    """Logits ``(z, y, x, class)`` of a volume of any size; see `segment_tiles`.

    The result does not depend on `tile`.

    >>> import numpy as np
    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> v = np.random.default_rng(0).normal(size=(9, 10, 11)).astype(np.float32)
    >>> s = GlobalThreshold(0.5)
    >>> bool((segment(s, v, tile=4) == segment(s, v)).all())
    True
    """
    out = np.empty((*volume.shape, len(segmenter.classes)), np.float32)
    for where, logits in segment_tiles(segmenter, volume, tile):
        out[where] = logits
    return out


def count_tiles(segmenter: Segmenter, shape: Shape, tile: Tile) -> int:
    """How many tiles `segment_tiles` will give, for progress bars."""
    size = _tile_size(segmenter, shape, tile)
    return int(np.prod([-(-n // t) for n, t in zip(shape, size, strict=True)]))


def auto_tile(segmenter: Segmenter, shape: Shape, memory: float = 2e9) -> int | None:
    """The largest cubic tile whose computation stays under `memory` bytes; None if all fits.

    Compiles the segmenter once on a small block and scales what the compiler reports.
    """
    stride, pad = segmenter.stride, _up(segmenter.halo, segmenter.stride)
    probe = _up(16, stride) + 2 * pad
    block = jax.ShapeDtypeStruct((probe,) * 3, np.float32)
    analysis = _run.lower(segmenter, block).compile().memory_analysis()
    if analysis is None:  # not every backend says
        return None
    per_voxel = (analysis.temp_size_in_bytes + analysis.output_size_in_bytes) / probe**3 + 8
    if np.prod([_up(n, stride) + 2 * pad for n in shape]) * per_voxel <= memory:
        return None
    edge = int((memory / per_voxel) ** (1 / 3)) - 2 * pad
    return max(edge // stride * stride, _up(16, stride))
