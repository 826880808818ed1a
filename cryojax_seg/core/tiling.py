"""Applies local operators tile by tile, with exactly the result of the whole volume."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from cryojax_seg.core.blocks import Readable, read
from cryojax_seg.core.operator import LocalOperator, require_local
from cryojax_seg.core.plain import Shape
from cryojax_seg.core.types import Array, Logits, Volume

Tile = int | tuple[int, ...] | None
Where = tuple[slice, ...]
Postprocess = Callable[[Logits], Any]
Program = Callable[[np.ndarray], Logits]

MEMORY = 1.5e9  # default limit of the memory of tiles, bytes
WASTE = 2.0  # computed voxels per voxel of the volume above which tiling is wasteful


def unchanged(logits: Logits) -> Logits:
    """Return the logits unchanged, the default postprocessing of `apply_tiles`."""
    return logits


@functools.partial(jax.jit, static_argnums=(2, 3))
def _run(operator: LocalOperator, block: Volume, halo: int, postprocess: Postprocess) -> Any:
    return postprocess(operator(block)[_inner(block.shape, halo)])


@functools.partial(jax.jit, static_argnums=1)
def _postprocessed(logits: Logits, postprocess: Postprocess) -> Any:
    return postprocess(logits)


def _inner(shape: Shape, halo: int) -> Where:
    return tuple(slice(halo, n - halo) for n in shape)


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


@dataclasses.dataclass(frozen=True)
class Tiling:
    """Divides a volume into tiles of one shape; iteration yields the slices of each tile.

    Attributes:
        shape: shape ``(z, y, x)`` of the volume or of the part to compute.
        tile: shape of a tile without its halo.
        halo: voxels that are read around each tile.
        origin: first voxel of the part within the volume, multiples of the stride. The halos of
            its tiles are read from the surrounding volume.

    >>> cut = Tiling((5, 8, 8), (4, 8, 8), 2)
    >>> cut.count, [where[0] for where in cut], cut.waste
    (2, [slice(0, 4, None), slice(4, 5, None)], 7.2)
    """

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    halo: int
    origin: tuple[int, ...] = (0, 0, 0)

    def __iter__(self) -> Iterator[Where]:
        starts = (range(0, n, t) for n, t in zip(self.shape, self.tile, strict=True))
        for origin in itertools.product(*starts):
            yield tuple(
                slice(o, min(o + t, n))
                for o, t, n in zip(origin, self.tile, self.shape, strict=True)
            )

    @property
    def count(self) -> int:
        return math.prod(-(-n // t) for n, t in zip(self.shape, self.tile, strict=True))

    @property
    def padded(self) -> tuple[int, ...]:
        """Return the shape of a tile with its halo."""
        return tuple(t + 2 * self.halo for t in self.tile)

    @property
    def waste(self) -> float:
        """Return the number of computed voxels per voxel of the volume; 1 means no waste."""
        return self.count * math.prod(self.padded) / math.prod(self.shape)


def tiling_of(operator: LocalOperator, shape: Shape, tile: Tile) -> Tiling:
    """Return the tiling for a tile edge in voxels, which is rounded up to the stride.

    Args:
        operator: any segmenter or restorer.
        shape: shape of the volume, ``(z, y, x)``.
        tile: one edge for all axes, one edge per axis, or None for a single tile.

    Raises:
        ValueError: for a volume that is empty or does not have three axes.
    """
    if len(shape) != 3 or 0 in shape:
        raise ValueError(f"expected a non-empty volume (z, y, x), got shape {shape}")
    require_local(operator)
    stride = operator.stride
    edges = shape if tile is None else (tile,) * 3 if isinstance(tile, int) else tile
    size = tuple(_up(min(t, n), stride) for t, n in zip(edges, shape, strict=True))
    # Round the halo up as well, so that blocks start at multiples of the stride.
    return Tiling(tuple(shape), size, _up(operator.halo, stride))


def apply_tiles(
    operator: LocalOperator,
    volume: Readable | Array,
    tile: Tile | Tiling = None,
    postprocess: Postprocess = unchanged,
    first: int = 0,
    program: Program | None = None,
) -> Iterator[tuple[Where, Any]]:
    """Yield the slices and the logits ``(z, y, x, class)`` of each tile.

    Each tile is read with the operator's halo around it (mirrored at the faces of the volume), at
    an origin that is a multiple of the stride, and its halo is cropped. Tiles therefore fit
    together exactly, without blending or seams. All tiles have one shape, so the operator is
    compiled once. While one tile is computed, the next is read and the caller uses the previous
    one.

    Args:
        operator: any segmenter or restorer.
        volume: ``(z, y, x)``, normalized, structure bright; see `core.Normalized` for one that is
            too large for the memory.
        tile: see `tiling_of`, or a plan from `plan_tiles`.
        postprocess: function from logits to arrays ``(z, y, x, ...)``, which runs on the device
            and whose results are returned. It is compiled once per function object, so pass a
            named function or a callable frozen dataclass.
        first: number of tiles to skip because they are already done.
        program: function that computes the logits of float32 blocks of shape `Tiling.padded` in
            place of the operator, such as `export.OpenVINOProgram`. It runs in a separate thread,
            one block at a time.

    Raises:
        ValueError: for a volume that is empty or does not have three axes.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> tiles = apply_tiles(GlobalThreshold(0.5), np.ones((4, 4, 6), np.float32), tile=4)
    >>> [(where[2], logits.shape) for where, logits in tiles]
    [(slice(0, 4, None), (4, 4, 4, 1)), (slice(4, 6, None), (4, 4, 2, 1))]
    """
    tiling = tile if isinstance(tile, Tiling) else tiling_of(operator, volume.shape, tile)

    def run(program: Program, block: np.ndarray) -> Any:
        return _postprocessed(program(block)[_inner(block.shape, tiling.halo)], postprocess)

    def finished(where: Where, running: Any) -> tuple[Where, Any]:
        size = tuple(slice(0, s.stop - s.start) for s in where)
        done = running.result() if isinstance(running, Future) else running
        return where, jax.tree.map(lambda a: np.asarray(a)[size], done)

    pending = None
    with ThreadPoolExecutor(1) as worker:
        for where in itertools.islice(tiling, first, None):
            start = [o + s.start - tiling.halo for o, s in zip(tiling.origin, where, strict=True)]
            block = read(volume, start, [a + n for a, n in zip(start, tiling.padded, strict=True)])
            # Both forms return before the result is ready.
            if program is None:
                running = _run(operator, block, tiling.halo, postprocess)
            else:
                running = worker.submit(run, program, block)
            if pending is not None:
                yield finished(*pending)
            pending = where, running
        if pending is not None:
            yield finished(*pending)


def compile_tiles(
    operator: LocalOperator, tiling: Tiling, postprocess: Postprocess = unchanged
) -> jax.stages.Compiled:
    """Return the compiled program that `apply_tiles` runs for each tile."""
    block = jax.ShapeDtypeStruct(tiling.padded, np.float32)
    return _run.lower(operator, block, tiling.halo, postprocess).compile()


def apply(
    operator: LocalOperator,
    volume: Readable | Array,
    tile: Tile | Tiling = None,
) -> np.ndarray:
    """Return the channels ``(z, y, x, channel)`` of a volume of any size; see `apply_tiles`.

    The channels are the logits of a segmenter or the restored density of a restorer. The result
    does not depend on `tile`, except for a `Truncated` segmenter.

    >>> import numpy as np
    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> v = np.random.default_rng(0).normal(size=(9, 10, 11)).astype(np.float32)
    >>> s = GlobalThreshold(0.5)
    >>> bool((apply(s, v, tile=4) == apply(s, v)).all())
    True
    """
    tiling = tile if isinstance(tile, Tiling) else tiling_of(operator, volume.shape, tile)
    out = np.empty(0, np.float32)
    for where, channels in apply_tiles(operator, volume, tiling):
        if out.size == 0:
            out = np.empty((*tiling.shape, channels.shape[-1]), np.float32)
        out[where] = channels
    return out


@functools.lru_cache(maxsize=4)  # keyed by identity, because the parameters do not matter
def bytes_per_voxel(operator: LocalOperator, postprocess: Postprocess = unchanged) -> float:
    """Return the memory of a tile per computed voxel, in bytes, as reported by the compiler.

    The operator is compiled once on a small block.
    """
    edge = _up(64, operator.stride)
    block = jax.ShapeDtypeStruct((edge,) * 3, np.float32)
    analysis = _run.lower(operator, block, 0, postprocess).compile().memory_analysis()
    if analysis is None:  # some backends report nothing
        return 1000.0
    # Reading and writing overlap: one block is computed while the next is normalized, each block is
    # copied to the device, and two results exist at a time.
    buffers = 24 * edge**3 + 2 * analysis.output_size_in_bytes
    return (analysis.temp_size_in_bytes + buffers) / edge**3


def plan_tiles(
    operator: LocalOperator,
    shape: Shape,
    memory: float = MEMORY,
    postprocess: Postprocess = unchanged,
    each: float | None = None,
) -> Tiling:
    """Return the tiling with the fewest computed voxels whose tiles fit in `memory` bytes.

    Halos are computed again for every tile. Tiles are therefore as large as possible, slabs rather
    than cubes where that is cheaper, and divide the volume evenly.

    Args:
        operator: any segmenter or restorer.
        shape: shape of the volume, ``(z, y, x)``.
        memory: limit in bytes.
        postprocess: as in `apply_tiles`.
        each: bytes per computed voxel; by default `bytes_per_voxel`, which compiles a program.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> plan_tiles(GlobalThreshold(0.5), (64, 128, 128)).count
    1
    """
    whole = tiling_of(operator, shape, None)
    each = bytes_per_voxel(operator, postprocess) if each is None else each
    return cheapest_tiling(whole, operator.stride, memory / each)


def cheapest_tiling(whole: Tiling, stride: int, most: float | int) -> Tiling:
    """Return the tiling with the fewest computed voxels for a limited tile size.

    Args:
        whole: tiling of the volume as a single tile.
        stride: tile edges are multiples of it.
        most: largest number of voxels in a tile with its halo. If no tile is that small, tiles
            have an edge of 16 voxels.

    >>> cut = cheapest_tiling(Tiling((64, 64, 64), (64, 64, 64), 4), 1, 64_000.0)
    >>> cut.tile, cut.waste <= 2
    ((32, 32, 32), True)
    """
    if math.prod(whole.padded) <= most:
        return whole
    cuts = _cuts(whole, stride)
    fits = cuts.voxels <= most
    if not fits.any():
        smallest = tuple(min(_up(16, stride), edge) for edge in whole.tile)
        return dataclasses.replace(whole, tile=smallest)
    computed = np.where(fits, cuts.computed, np.inf)
    # Among tilings of equal cost, choose the one with the largest tiles.
    equal = computed == computed.min()
    return cuts.tiling(whole, int(np.where(equal, cuts.voxels, 0).argmax()))


@dataclasses.dataclass(frozen=True)
class _Cuts:
    """Holds all even divisions of a volume, in arrays with one axis per axis of the volume.

    Attributes:
        sizes: possible tile edges along each axis.
        voxels: number of voxels in a tile with its halo.
        computed: number of voxels in all tiles with their halos.
    """

    sizes: list[np.ndarray]
    voxels: np.ndarray
    computed: np.ndarray

    def tiling(self, whole: Tiling, number: int) -> Tiling:
        """Return the division at this index of the flattened arrays."""
        chosen = np.unravel_index(number, self.voxels.shape)
        tile = tuple(int(size[i]) for size, i in zip(self.sizes, chosen, strict=True))
        return dataclasses.replace(whole, tile=tile)


def _cuts(whole: Tiling, stride: int) -> _Cuts:
    # For each number of tiles along an axis only the smallest tile edge is useful.
    sizes = [np.unique([_up(-(-n // k), stride) for k in range(1, n + 1)]) for n in whole.shape]
    counts = [-(-n // size) for n, size in zip(whole.shape, sizes, strict=True)]
    voxels = functools.reduce(np.multiply.outer, [size + 2.0 * whole.halo for size in sizes])
    return _Cuts(sizes, voxels, functools.reduce(np.multiply.outer, counts) * voxels)


def memory_for(
    operator: LocalOperator,
    shape: Shape,
    waste: float = WASTE,
    postprocess: Postprocess = unchanged,
    each: float | None = None,
) -> tuple[float, Tiling]:
    """Return the least memory for which tiling computes at most `waste` voxels per voxel.

    If no tiling is that cheap, because the halo is wide for a small volume, return the least
    memory for which the waste is as small as possible.

    Args:
        operator: any segmenter or restorer.
        shape: shape of the volume, ``(z, y, x)``.
        waste: computed voxels per voxel of the volume.
        postprocess, each: as in `plan_tiles`.

    Returns:
        the memory in bytes for `plan_tiles`, and the resulting tiling.

    >>> from cryojax_seg.segmenters import LinearVote
    >>> memory, tiling = memory_for(LinearVote(2), (64, 64, 64))
    >>> tiling == plan_tiles(LinearVote(2), (64, 64, 64), memory), tiling.waste <= 2
    (True, True)
    """
    whole = tiling_of(operator, shape, None)
    cuts = _cuts(whole, operator.stride)
    limit = max(waste, whole.waste) * math.prod(whole.shape)  # a single tile computes the least
    least = np.where(cuts.computed <= limit, cuts.voxels, np.inf).min()
    each = bytes_per_voxel(operator, postprocess) if each is None else each
    tiling = cheapest_tiling(whole, operator.stride, float(least))
    return float(least) * each * (1 + 1e-6), tiling  # a margin for rounding
