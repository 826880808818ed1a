"""Reads volumes block by block, so that they need not fit in memory."""

import math
import mmap
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

EDGE = 128  # block edge in voxels, which equals the chunk edge of most Zarr files


@runtime_checkable
class Readable(Protocol):
    """Represents an array, memory map or other object ``(z, y, x)`` whose parts can be read."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def ndim(self) -> int: ...
    def __getitem__(self, index: Any, /) -> Any: ...


def mirror(start: int, stop: int, size: int) -> np.ndarray:
    """Return the indices ``start..stop - 1`` of an axis that is continued by mirroring.

    >>> mirror(-2, 5, 3).tolist()
    [1, 0, 0, 1, 2, 2, 1]
    """
    index = np.arange(start, stop) % (2 * size)
    return np.where(index < size, index, 2 * size - 1 - index)


def read(
    volume: Readable, start: Sequence[int], stop: Sequence[int], dtype: Any = np.float32
) -> np.ndarray:
    """Read a block, mirrored where it extends beyond the volume.

    Args:
        volume: ``(z, y, x)``, or an array of any other number of axes.
        start, stop: the first voxel of the block and the one after its last.
        dtype: of the block; None for that of the volume.

    >>> read(np.arange(3.0).reshape(1, 1, 3), (0, 0, -2), (1, 1, 5)).tolist()
    [[[1.0, 0.0, 0.0, 1.0, 2.0, 2.0, 1.0]]]
    """
    indices = [mirror(a, b, n) for a, b, n in zip(start, stop, volume.shape, strict=True)]
    lows = [int(index.min()) for index in indices]
    within = tuple(slice(low, int(i.max()) + 1) for low, i in zip(lows, indices, strict=True))
    block = np.asarray(volume[within], dtype)
    for axis, (index, low) in enumerate(zip(indices, lows, strict=True)):
        if index.size != block.shape[axis] or index[0] != low:
            block = np.take(block, index - low, axis)
    return block


def random_starts(
    box: Sequence[slice],
    edges: Sequence[int],
    count: int,
    seed: int = 0,
    *,
    stride: int = 1,
    distinct: bool = False,
) -> list[list[int]]:
    """Return the first voxels of random blocks inside a box of a volume.

    Along an axis where the block is longer than the box, the block starts where the box does.

    Args:
        box: part of the volume, a slice for each axis, such as `core.measured_box` returns.
        edges: lengths of a block along z, y, x, in voxels.
        count: number of blocks.
        seed: seed of the positions.
        stride: every start is a multiple of this.
        distinct: draw no start twice; there may then be fewer blocks than `count`.

    >>> random_starts((slice(0, 4), slice(8, 20), slice(5, 7)), (4, 4, 4), 2, stride=2)
    [[0, 16, 6], [0, 14, 6]]
    """
    rng = np.random.default_rng(seed)
    lows = [-(-s.start // stride) for s in box]
    highs = [max((s.stop - e) // stride, 0) + 1 for s, e in zip(box, edges, strict=True)]
    rooms = [(a, max(b, a + 1)) for a, b in zip(lows, highs, strict=True)]
    if distinct:
        spans = [b - a for a, b in rooms]
        chosen = rng.choice(math.prod(spans), min(count, math.prod(spans)), replace=False)
        found = np.stack(np.unravel_index(chosen, spans), axis=-1) + lows
        return (stride * found).tolist()
    return [[stride * int(rng.integers(a, b)) for a, b in rooms] for _ in range(count)]


def release(volume: Any) -> None:
    """Tell the operating system that the pages of a memory map are not needed for now.

    The data stay on disk or in the page cache but no longer count as memory of this process.
    Other arrays, including copy-on-write maps, are not affected.
    """
    if (mapping := _mapping(volume)) is not None:
        mapping.madvise(mmap.MADV_DONTNEED)


def prefetch(part: Any) -> None:
    """Tell the operating system that a part of a memory map will be read soon.

    It then reads that part alone, all at the same time. Without this advice it reads ahead of
    every page that is touched, which may be the whole file if the part lies all over it. The
    advice costs a call for each run of voxels that lie together, so there should not be millions.
    Arrays that are not maps are not affected.

    Args:
        part: a view of a memory map.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     volume = np.memmap(file, np.float32, "w+", shape=(2, 3, 4))
    ...     prefetch(volume[:, 1:2])  # two runs, one of each section
    """
    mapping = _mapping(part)
    if mapping is None or not part.size:
        return
    order = sorted(range(part.ndim), key=lambda axis: -abs(part.strides[axis]))
    length, starts = part.itemsize, np.zeros(1, int)
    first = part.__array_interface__["data"][0]
    first -= np.frombuffer(mapping, np.uint8).__array_interface__["data"][0]
    for axis in reversed(order):
        count, step = part.shape[axis], part.strides[axis]
        if starts.size == 1 and step == length:
            length *= count
        else:
            starts = (step * np.arange(count)[:, None] + starts).ravel()
    for start in (first + starts).tolist():
        page = start - start % mmap.PAGESIZE
        mapping.madvise(mmap.MADV_WILLNEED, page, start + length - page)


def _mapping(volume: Any) -> mmap.mmap | None:
    """Return the mapping of a file that an array is a view of; None if there is none."""
    mapped = None
    while volume is not None and not isinstance(volume, mmap.mmap):
        mapped = volume if isinstance(volume, np.memmap) else mapped
        volume = getattr(volume, "base", None)
    on_disk = getattr(mapped, "mode", None) in ("r", "r+", "w+")
    return volume if on_disk and hasattr(volume, "madvise") else None


def blocks(shape: Sequence[int], edge: int = EDGE) -> Iterator[tuple[slice, ...]]:
    """Yield the slices of consecutive blocks of a volume, each at most `edge` voxels long.

    >>> list(blocks((2, 3), 2))
    [(slice(0, 2, None), slice(0, 2, None)), (slice(0, 2, None), slice(2, 3, None))]
    """
    counts = [-(-n // edge) for n in shape]
    for block in np.ndindex(*counts):
        yield tuple(
            slice(b * edge, min((b + 1) * edge, n)) for b, n in zip(block, shape, strict=True)
        )
