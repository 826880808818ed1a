"""Exact tiling: a local function gives the same answer tile by tile as on the whole volume."""

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
from cryojax_seg.core.types import Array, Logits, Shape, Volume

Tile = int | tuple[int, ...] | None
Where = tuple[slice, ...]
Answer = Callable[[Logits], Any]
Program = Callable[[np.ndarray], Logits]

MEMORY = 1.5e9  # bytes that tiles may take unless somebody says otherwise
WASTE = 2.0  # voxels computed for each voxel that are worth a word


def logits_themselves(logits: Logits) -> Logits:
    """The answer of `apply_tiles` if no other is asked for."""
    return logits


@functools.partial(jax.jit, static_argnums=(2, 3))
def _run(operator: LocalOperator, block: Volume, halo: int, answer: Answer) -> Any:
    return answer(operator(block)[_inner(block.shape, halo)])


@functools.partial(jax.jit, static_argnums=1)
def _answered(logits: Logits, answer: Answer) -> Any:
    return answer(logits)


def _inner(shape: Shape, halo: int) -> Where:
    return tuple(slice(halo, n - halo) for n in shape)


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How a volume is cut into tiles of one shape; iterating gives where each lies in the volume.

    Attributes:
        shape: of the volume, ``(z, y, x)``, or of the part of it that is wanted.
        tile: of a tile without its halo.
        halo: voxels that are read around each tile.
        origin: where that part begins in the volume, multiples of the stride. It is cut as if it
            were the volume, but the halos of its tiles are read from what lies around it.

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
        """Shape of a tile with its halo, which is what is computed."""
        return tuple(t + 2 * self.halo for t in self.tile)

    @property
    def waste(self) -> float:
        """Voxels that are computed for each voxel of the volume; 1 would be no waste."""
        return self.count * math.prod(self.padded) / math.prod(self.shape)


def tiling_of(operator: LocalOperator, shape: Shape, tile: Tile) -> Tiling:
    """Tiles of this edge in voxels, for all axes or each, rounded up to the stride; None: one tile.

    Raises:
        ValueError: for a volume that has not three axes, or an empty one.
    """
    if len(shape) != 3 or 0 in shape:
        raise ValueError(f"expected a volume (z, y, x) with voxels in it, got shape {shape}")
    require_local(operator)
    stride = operator.stride
    wanted = shape if tile is None else (tile,) * 3 if isinstance(tile, int) else tile
    size = tuple(_up(min(t, n), stride) for t, n in zip(wanted, shape, strict=True))
    # The origin of a tile with its halo stays on the stride.
    return Tiling(tuple(shape), size, _up(operator.halo, stride))


def apply_tiles(
    operator: LocalOperator,
    volume: Readable | Array,
    tile: Tile | Tiling = None,
    answer: Answer = logits_themselves,
    first: int = 0,
    program: Program | None = None,
) -> Iterator[tuple[Where, Any]]:
    """The answer tile by tile: pairs of where the tile lies and its logits ``(z, y, x, class)``.

    Each tile is read with the operator's halo around it (mirrored at the faces of the volume) at
    an origin that is a multiple of its stride, and the halo is cropped, so tiles fit together
    exactly: no blending, no seams. All tiles have one shape, so the operator is compiled once.
    While a tile is computed the next is read and the one before is in the hands of the caller.

    Args:
        operator: any segmenter or restorer.
        volume: ``(z, y, x)``, normalized, structure bright; see `core.Normalized` for one that is
            too large for the memory.
        tile: see `tiling_of`; or a plan, see `plan_tiles`.
        answer: what is wanted of the logits, computed where they are: a function of logits to
            arrays ``(z, y, x, ...)``. Compiled once for each function, so name one, or use a
            frozen dataclass that can be called.
        first: tiles to skip, which are done already.
        program: computes the logits instead of the operator, of float32 blocks of the shape that
            `Tiling.padded` says, such as `export.OpenVINOProgram`. It runs in a thread of its own,
            one block at a time.

    Raises:
        ValueError: for a volume that has not three axes, or an empty one.
    """
    tiling = tile if isinstance(tile, Tiling) else tiling_of(operator, volume.shape, tile)

    def run(program: Program, block: np.ndarray) -> Any:
        return _answered(program(block)[_inner(block.shape, tiling.halo)], answer)

    def finished(where: Where, running: Any) -> tuple[Where, Any]:
        kept = tuple(slice(0, s.stop - s.start) for s in where)
        done = running.result() if isinstance(running, Future) else running
        return where, jax.tree.map(lambda a: np.asarray(a)[kept], done)

    pending = None
    with ThreadPoolExecutor(1) as worker:
        for where in itertools.islice(tiling, first, None):
            start = [o + s.start - tiling.halo for o, s in zip(tiling.origin, where, strict=True)]
            block = read(volume, start, [a + n for a, n in zip(start, tiling.padded, strict=True)])
            # Either way this returns before it is done.
            if program is None:
                running = _run(operator, block, tiling.halo, answer)
            else:
                running = worker.submit(run, program, block)
            if pending is not None:
                yield finished(*pending)
            pending = where, running
        if pending is not None:
            yield finished(*pending)


def compile_tiles(
    operator: LocalOperator, tiling: Tiling, answer: Answer = logits_themselves
) -> jax.stages.Compiled:
    """The program that `apply_tiles` runs for each tile; see `core.keep_compiled`."""
    block = jax.ShapeDtypeStruct(tiling.padded, np.float32)
    return _run.lower(operator, block, tiling.halo, answer).compile()


def apply(
    operator: LocalOperator,
    volume: Readable | Array,
    tile: Tile | Tiling = None,
) -> np.ndarray:
    """The channels ``(z, y, x, channel)`` of a volume of any size, or a part; see `apply_tiles`.

    They are the logits of a segmenter, and the one restored density of a restorer. The result does
    not depend on `tile`, but for a segmenter that was `Truncated`.

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


@functools.lru_cache(maxsize=4)  # by identity: the parameters do not matter
def bytes_per_voxel(operator: LocalOperator, answer: Answer = logits_themselves) -> float:
    """Memory that a tile takes for each voxel that is computed, by the compiler's account.

    Compiles the operator once on a small block.
    """
    edge = _up(64, operator.stride)
    block = jax.ShapeDtypeStruct((edge,) * 3, np.float32)
    analysis = _run.lower(operator, block, 0, answer).compile().memory_analysis()
    if analysis is None:  # not every backend says
        return 1000.0
    # Because reading and writing overlap, one block is computed while the next is normalized, each
    # is copied once to where it is computed, and two answers are about.
    around = 24 * edge**3 + 2 * analysis.output_size_in_bytes
    return (analysis.temp_size_in_bytes + around) / edge**3


def plan_tiles(
    operator: LocalOperator,
    shape: Shape,
    memory: float = MEMORY,
    answer: Answer = logits_themselves,
) -> Tiling:
    """The tiling that computes the fewest voxels of all whose tiles take at most `memory` bytes.

    Halos are computed again for every tile, so tiles are as large as they may be, slabs rather
    than cubes where that wastes less, and of sizes that divide the volume evenly.

    Args:
        operator: any segmenter or restorer.
        shape: of the volume, ``(z, y, x)``.
        memory: bytes.
        answer: as for `apply_tiles`.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> plan_tiles(GlobalThreshold(0.5), (64, 128, 128)).count
    1
    """
    whole = tiling_of(operator, shape, None)
    return fewest(whole, operator.stride, memory / bytes_per_voxel(operator, answer))


def fewest(whole: Tiling, stride: int, most: float | int) -> Tiling:
    """The tiling that computes the fewest voxels with at most so many in a tile with its halo.

    Args:
        whole: the volume as one tile.
        stride: that the edges of the tiles are multiples of.
        most: voxels. Where no tile is that small, tiles of 16 voxels are taken.

    >>> cut = fewest(Tiling((64, 64, 64), (64, 64, 64), 4), 1, 64_000.0)
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
    # Of tilings with the same work the one with the largest tiles.
    equal = computed == computed.min()
    return cuts.tiling(whole, int(np.where(equal, cuts.voxels, 0).argmax()))


@dataclasses.dataclass(frozen=True)
class _Cuts:
    """All ways to cut a volume evenly, as an array with an axis for each of the volume's.

    Attributes:
        sizes: the edges of tiles along each axis.
        voxels: of a tile with its halo.
        computed: of all tiles together.
    """

    sizes: list[np.ndarray]
    voxels: np.ndarray
    computed: np.ndarray

    def tiling(self, whole: Tiling, number: int) -> Tiling:
        """One of them, by its place in the flat arrays."""
        chosen = np.unravel_index(number, self.voxels.shape)
        tile = tuple(int(size[i]) for size, i in zip(self.sizes, chosen, strict=True))
        return dataclasses.replace(whole, tile=tile)


def _cuts(whole: Tiling, stride: int) -> _Cuts:
    # The smallest size for each number of tiles along an axis: larger ones only compute more.
    sizes = [np.unique([_up(-(-n // k), stride) for k in range(1, n + 1)]) for n in whole.shape]
    counts = [-(-n // size) for n, size in zip(whole.shape, sizes, strict=True)]
    voxels = functools.reduce(np.multiply.outer, [size + 2.0 * whole.halo for size in sizes])
    return _Cuts(sizes, voxels, functools.reduce(np.multiply.outer, counts) * voxels)


def memory_for(
    operator: LocalOperator,
    shape: Shape,
    waste: float = WASTE,
    answer: Answer = logits_themselves,
) -> tuple[float, Tiling]:
    """The least memory in which no more than `waste` voxels are computed for each of the volume.

    Where even the whole volume as one tile, or the best cut, computes more, as a halo that is wide
    for a small volume makes it, the memory in which the waste is the least there is.

    Returns:
        bytes for `plan_tiles`, and the tiling that it then gives.

    >>> from cryojax_seg.segmenters import LinearVote
    >>> memory, tiling = memory_for(LinearVote(2), (64, 64, 64))
    >>> tiling == plan_tiles(LinearVote(2), (64, 64, 64), memory), tiling.waste <= 2
    (True, True)
    """
    whole = tiling_of(operator, shape, None)
    cuts = _cuts(whole, operator.stride)
    wanted = max(waste, whole.waste) * math.prod(whole.shape)  # no cut computes less than the whole
    least = np.where(cuts.computed <= wanted, cuts.voxels, np.inf).min()
    each = bytes_per_voxel(operator, answer)
    tiling = fewest(whole, operator.stride, float(least))
    return float(least) * each * (1 + 1e-6), tiling  # more, as rounding would take the last voxel
