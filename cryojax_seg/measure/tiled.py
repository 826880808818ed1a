"""Numbers the objects of a volume that is divided tile by tile, as if in one piece.

Each tile is divided by itself, with a margin. Where two tiles meet, both have numbered the first
layer of voxels of the second one: objects that share most of their voxels in it are one object.
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Int, Shaped
from scipy import sparse
from scipy.sparse import csgraph

from cryojax_seg.core.blocks import release
from cryojax_seg.core.plain import Shape

Box = tuple[slice, slice, slice]
ReadBox = Callable[[Box], np.ndarray]  # a part of a volume ``(z, y, x)``, in memory
MOST = 2**24  # voxels in a tile with its margin
SLAB = 64  # sections after which what is on disk leaves the memory of the process
_SHARED = 0.5  # of the smaller object in the layer, for two to be one


def tiles(shape: Shape, most: int = MOST, margin: int = 0) -> Iterator[tuple[Box, Box]]:
    """Yield the boxes that a volume is divided into, and each with its margin.

    The longest edge of a tile is halved until it has few enough voxels.

    Args:
        shape: of the volume, ``(z, y, x)``.
        most: voxels in a tile with its margin; no edge becomes shorter than two margins.
        margin: voxels around a tile, within the volume.

    >>> [(own[2], around[2]) for own, around in tiles((4, 4, 16), 200, 2)]
    [(slice(0, 8, None), slice(0, 10, None)), (slice(8, 16, None), slice(6, 16, None))]
    """
    edges = list(shape)
    while np.prod([min(e + 2 * margin, n) for e, n in zip(edges, shape, strict=True)]) > most:
        longest = int(np.argmax(edges))
        if edges[longest] <= max(2 * margin, 1):
            break
        edges[longest] = -(-edges[longest] // 2)
    starts = (range(0, n, max(e, 1)) for n, e in zip(shape, edges, strict=True))
    for start in itertools.product(*starts):
        ends = [min(a + e, n) for a, e, n in zip(start, edges, shape, strict=True)]
        z, y, x = (slice(a, b) for a, b in zip(start, ends, strict=True))
        around = (
            slice(max(a - margin, 0), min(b + margin, n))
            for a, b, n in zip(start, ends, shape, strict=True)
        )
        near_z, near_y, near_x = around
        yield (z, y, x), (near_z, near_y, near_x)


def on_disk(
    shape: Shape, folder: str | os.PathLike[str] | None = None, dtype: type = np.int32
) -> np.ndarray:
    """Return an array of zeros in a file that vanishes with it.

    Args:
        shape: of the array.
        folder: where the file lies; None for the folder of temporary files.
        dtype: of the array.

    >>> on_disk((2, 3, 4)).sum().item()
    0
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, dtype, "w+", shape=tuple(shape))


def numbered(
    result: Int[np.ndarray, "_z _y _x"],
    divide: ReadBox,
    smallest: int = 1,
    most: int = MOST,
    margin: int = 40,
) -> int:
    """Number the objects of a volume, the largest first, and return how many there are.

    Args:
        result: int32 ``(z, y, x)``, which receives the numbers; it may be a `numpy.memmap`.
        divide: function from the slices of a box to the numbers of the objects in it, 0 outside.
        smallest: objects of fewer voxels are left out.
        most: voxels in a tile with its margin.
        margin: voxels around a tile, which tell `divide` how objects go on.

    >>> from cryojax_seg.measure.objects import components
    >>> mask = np.zeros((4, 4, 16), bool); mask[1, 1] = mask[3, 3, 2:4] = True
    >>> numbers = np.zeros(mask.shape, np.int32)
    >>> numbered(numbers, lambda box: components(mask[box]), most=100, margin=1)
    2
    >>> numbers[1, 1].tolist() == [1] * 16, numbers[3, 3, :5].tolist()
    (True, [0, 0, 2, 2, 0])
    """
    total, pairs = 0, [np.zeros((0, 2), np.int64)]
    layers: list[tuple[Box, np.ndarray]] = []
    for own, around in tiles(result.shape, most, margin):
        found = np.asarray(divide(around), np.int32)
        found[found > 0] += total
        total = max(total, int(found.max(initial=0)))
        start = [s.start for s in around]
        result[own] = found[_moved(own, start)]
        for axis in range(3):
            if own[axis].stop < around[axis].stop:
                beyond = list(own)
                beyond[axis] = slice(own[axis].stop, own[axis].stop + 1)
                layer: Box = (beyond[0], beyond[1], beyond[2])
                layers.append((layer, found[_moved(layer, start)].copy()))
    for layer, seen in layers:
        pairs.append(_same(seen, result[layer]))
    a, b = np.concatenate(pairs).T
    graph = sparse.coo_array((np.ones(len(a), bool), (a, b)), (total + 1, total + 1))
    _, of = csgraph.connected_components(graph, directed=False)
    return ranked(result, of, smallest)


def ranked(
    numbers: Int[np.ndarray, "_z _y _x"], of: Int[np.ndarray, "_n"], smallest: int = 1
) -> int:
    """Number the objects of a map again in place, the largest first, and return how many there are.

    Args:
        numbers: int32 ``(z, y, x)``, 0 outside; it may be a `numpy.memmap`.
        of: the object that each number belongs to, of objects of one size the first.
        smallest: objects of fewer voxels are left out.

    >>> numbers = np.array([[[1, 0, 2, 3, 3]]], np.int32)
    >>> ranked(numbers, np.array([0, 1, 2, 1])), numbers.tolist()
    (2, [[[1, 0, 2, 1, 1]]])
    """
    sizes = np.zeros(len(of), np.int64)
    for section in sections(numbers):
        sizes += np.bincount(section.ravel(), minlength=len(of))
    sizes[0] = 0
    whole = np.bincount(of, sizes)
    order = np.argsort(-whole, kind="stable")
    order = order[whole[order] >= max(smallest, 1)]
    rank = np.zeros(len(whole), np.int32)
    rank[order] = np.arange(1, len(order) + 1)
    table = rank[of]
    table[0] = 0
    for section in sections(numbers):
        section[:] = table[section]
    return len(order)


def sections(numbers: Shaped[np.ndarray, "_z _y _x"]) -> Iterator[Shaped[np.ndarray, "_y _x"]]:
    """Yield the sections of a map or mask, of which few are in memory if it is on disk.

    >>> [int(section.sum()) for section in sections(np.ones((2, 3, 4), np.int32))]
    [12, 12]
    """
    for z, section in enumerate(numbers):
        yield section
        if z % SLAB == SLAB - 1:
            release(numbers)
    release(numbers)


def _moved(box: Box, start: list[int]) -> Box:
    z, y, x = (slice(s.start - a, s.stop - a) for s, a in zip(box, start, strict=True))
    return z, y, x


def _same(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return the pairs ``(n, 2)`` of numbers that share most of their voxels."""
    both = (one > 0) & (two > 0)
    pairs, count = np.unique(np.stack([one[both], two[both]], 1), axis=0, return_counts=True)
    size_one, size_two = np.bincount(one.ravel()), np.bincount(two.ravel())
    smaller = np.minimum(size_one[pairs[:, 0]], size_two[pairs[:, 1]])
    return pairs[count > _SHARED * smaller].astype(np.int64)
