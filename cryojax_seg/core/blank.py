"""Blank parts of a volume: where one value repeats exactly, nothing was measured.

Programs fill what they did not reconstruct with a constant: margins, slices at the top and bottom,
the corners of a rotated volume. A value that is merely frequent is no such constant. Each grey
value of an 8-bit tomogram is frequent, and so is the limit to which a program clips. What tells a
constant from those is that it fills whole patches of neighbours, with a sharp edge to the sample.
"""

import dataclasses
import itertools

import numpy as np
from scipy import ndimage

from cryojax_seg.core.blocks import Readable, blocks, release

SIDE = 8  # voxels along a square patch, in any plane of two axes, that one value fills
_GROWTH = 4  # voxels by which filled patches grow into equal neighbours, such as corners
REACH = SIDE - 1 + _GROWTH  # voxels around a block that decide what is blank in it
_FEWEST = 32  # voxels of a patch in a volume that is thinner than a patch is wide
_LEAST = 0.003  # share of the volume from which on a constant is looked at
_COMMON = 1e-4  # share of the sample from which on a grey value is expected to repeat
_FAR = 8.0  # deviations from the median that no clipped value has
_STEPS = 0.9  # share of neighbours of patches that are the next grey values, where all is smooth
_REST = 0.01  # share of an inner box that may be missing
_BORDERS = 4096  # neighbours of filled patches that are kept of each block


@dataclasses.dataclass(frozen=True)
class Blank:
    """The constants that stand where nothing was measured.

    Attributes:
        values: constants that the sample does not have, so that every voxel of them is blank.
        patches: constants that the sample has too, because it has few grey values: only voxels in
            filled patches are blank.
        share: of the volume.
    """

    values: tuple[float, ...] = ()
    patches: tuple[float, ...] = ()
    share: float = 0.0

    @property
    def reach(self) -> int:
        """How many voxels around a block decide what is blank in it."""
        return REACH if self.patches else 0

    def mask(self, block: np.ndarray) -> np.ndarray:
        """Where a block ``(z, y, x)`` is blank.

        >>> Blank((0.0,)).mask(np.array([[[0.0, 1.0]]])).tolist()
        [[[True, False]]]
        """
        result = np.zeros(block.shape, bool)
        for value in self.values:
            result |= _equal(block, value)
        if self.patches:
            full = filled(block)
            for value in self.patches:
                equal = _equal(block, value)
                seed = full & equal
                if seed.any():
                    result |= ndimage.binary_dilation(seed, iterations=_GROWTH, mask=equal)
        return result


@dataclasses.dataclass(frozen=True)
class Census:
    """The values of a volume, counted in one pass that never holds the volume.

    Attributes:
        loose: float32, every `step`-th finite voxel outside of filled patches.
        filled: how many voxels of each value lie in filled patches.
        borders: ``(pairs, 2)``: values of filled patches and of other values beside them.
        finite: voxels that are neither NaN nor infinite.
        size: voxels.
        step: of `loose`.
    """

    loose: np.ndarray
    filled: dict[float, int]
    borders: np.ndarray
    finite: int
    size: int
    step: int

    def sample(self, blank: Blank) -> np.ndarray:
        """A sample of the finite voxels that are not blank."""
        natural = [v for v in self.filled if v not in (*blank.values, *blank.patches)]
        counts = [-(-self.filled[v] // self.step) for v in natural]
        loose = self.loose
        if blank.values:
            loose = loose[~np.isin(loose, np.asarray(blank.values, np.float32))]
        return np.concatenate([loose, np.repeat(np.asarray(natural, np.float32), counts)])


def filled(block: np.ndarray) -> np.ndarray:
    """Where a block ``(z, y, x)`` lies in a square patch of one value, in a plane of two axes.

    >>> volume = np.arange(4096.0).reshape(16, 16, 16)
    >>> volume[3, 4:13, 2:10] = 7
    >>> int(filled(volume).sum())
    72
    """
    result = np.zeros(block.shape, bool)
    sides = [min(SIDE, n) for n in block.shape]
    equal = [_along(block, a, 1, None) == _along(block, a, 0, -1) for a in range(block.ndim)]
    for a, b in itertools.combinations(range(block.ndim), 2):
        if sides[a] * sides[b] < _FEWEST:
            continue
        # A patch is equal rows, the first voxels of which are equal.
        rows = _all(equal[b], b, sides[b] - 1)
        if not rows.any():
            continue
        starts = _all(equal[a], a, sides[a] - 1)
        corners = _all(rows, a, sides[a]) & _along(starts, b, 0, rows.shape[b])
        if corners.any():
            result |= _spread(_spread(corners, a, sides[a]), b, sides[b])
    return result


def _equal(block: np.ndarray, value: float) -> np.ndarray:
    return block == (value if block.dtype.kind == "f" else int(value))


def _along(array: np.ndarray, axis: int, start: int, stop: int | None) -> np.ndarray:
    return array[(slice(None),) * axis + (slice(start, stop),)]


def _all(mask: np.ndarray, axis: int, length: int) -> np.ndarray:
    """Whether this and the following voxels, `length` in all, are true; shorter by length - 1."""
    done = 1
    while done < length:
        step = min(done, length - done)
        mask = _along(mask, axis, 0, -step) & _along(mask, axis, step, None)
        done += step
    return mask


def _spread(mask: np.ndarray, axis: int, length: int) -> np.ndarray:
    """Whether this or a preceding voxel, `length` in all, is true; longer by length - 1."""
    widths = [(length - 1, length - 1) if a == axis else (0, 0) for a in range(mask.ndim)]
    return ~_all(~np.pad(mask, widths), axis, length)


def census(density: Readable, step: int) -> Census:
    """Counts the values of a volume; `step` is that of the sample outside of filled patches."""
    loose, counts, borders, finite = [], {}, [], 0
    for where in blocks(density.shape):
        block = np.asarray(density[where])
        good = np.isfinite(block)
        full = filled(block) & good
        finite += int(good.sum())
        whole = block.ravel() if good.all() and not full.any() else block[good & ~full]
        loose.append(whole[::step].astype(np.float32))
        if full.any():
            _count(block[full], counts)
            borders.append(_borders(block, full, good))
        release(density)
    return Census(
        np.concatenate(loose) if loose else np.zeros(0, np.float32),
        counts,
        np.concatenate(borders) if borders else np.zeros((0, 2)),
        finite,
        int(np.prod(density.shape)),
        step,
    )


def _count(values: np.ndarray, counts: dict[float, int]) -> None:
    """Adds how often each value occurs; run by run, since they come in long runs."""
    heads = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    lengths = np.diff(np.append(heads, values.size))
    found, index = np.unique(values[heads], return_inverse=True)
    for value, n in zip(found, np.bincount(index.ravel(), lengths), strict=True):
        counts[float(value)] = counts.get(float(value), 0) + int(n)


def _borders(block: np.ndarray, full: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Pairs of the value of a filled patch and another value beside it."""
    pairs = []
    for axis in range(block.ndim):
        halves = [(_along(m, axis, 0, -1), _along(m, axis, 1, None)) for m in (block, full, good)]
        for i, j in ((0, 1), (1, 0)):
            (values, inside, known) = halves
            edge = inside[i] & ~inside[j] & known[j] & (values[i] != values[j])
            pairs.append(np.stack([values[i][edge], values[j][edge]], -1).astype(np.float64))
    found = np.concatenate(pairs)
    return found[:: -(-len(found) // _BORDERS) or 1]


def find_blank(counted: Census) -> Blank:
    """The constants that fill blank parts.

    A value that fills patches is a constant unless the sample explains it: it is the limit of
    clipping or one of few grey values, and the values beside its patches are near it.
    """
    fillers = {v: n for v, n in counted.filled.items() if n >= _LEAST * counted.size}
    loose = counted.loose
    if not fillers or loose.size == 0 or loose.min() == loose.max():
        return Blank()
    levels, counts = np.unique(loose, return_counts=True)
    values, patches, voxels = [], [], 0
    for value, number in fillers.items():
        near = _neighbours(value, levels)
        others = counts[near][levels[near] != np.float32(value)]
        repeats = bool(others.max(initial=0) >= _COMMON * loose.size)
        if _explained(value, levels[near], repeats, counted):
            continue
        (patches if repeats else values).append(value)
        alike = 0 if repeats else int(counts[levels == np.float32(value)].sum())
        voxels += number + alike * counted.step
    return Blank(tuple(sorted(values)), tuple(sorted(patches)), voxels / counted.size)


def _neighbours(value: float, levels: np.ndarray) -> slice:
    """The next grey values below and above, and the value itself if it is one."""
    low, high = np.searchsorted(levels, value, "left"), np.searchsorted(levels, value, "right")
    return slice(max(int(low) - 1, 0), int(high) + 1)


def _explained(value: float, near: np.ndarray, repeats: bool, counted: Census) -> bool:
    """Whether clipping or few grey values explain that this one fills patches.

    Args:
        value: that fills patches.
        near: the grey values next to it.
        repeats: whether so frequent a value is expected.
        counted: the volume.
    """
    loose = counted.loose.astype(np.float64)
    limit = bool(value <= loose.min() or value >= loose.max())
    if not (limit or repeats):
        return False
    middle = np.median(loose)
    if abs(value - middle) > _FAR * 1.4826 * np.median(np.abs(loose - middle)):
        return False
    beside = counted.borders[counted.borders[:, 0] == value, 1]
    if beside.size == 0:
        return False
    gradual = np.median(np.abs(beside - value)) < 0.5 * np.median(np.abs(loose - value))
    # The steps of a smooth volume with few grey values lead from each to the next.
    steps = repeats and np.mean((beside >= near[0]) & (beside <= near[-1])) > _STEPS
    return bool(gradual or steps)


def inner_box(missing: np.ndarray) -> tuple[slice, ...]:
    """A large box with hardly any missing voxels: the face that misses most goes, again and again.

    Args:
        missing: bool ``(z, y, x)``.

    Returns:
        the whole volume where every voxel is missing.

    >>> missing = np.zeros((4, 8, 8), bool)
    >>> missing[:, 5:] = True
    >>> inner_box(missing)
    (slice(0, 4, None), slice(0, 5, None), slice(0, 8, None))
    """
    whole = tuple(slice(0, n) for n in missing.shape)
    sums = np.pad(missing, ((1, 0),) * 3).astype(np.int64)
    for axis in range(3):
        np.cumsum(sums, axis, out=sums)

    def share(box: list[list[int]]) -> float:
        total = 0
        for ends in itertools.product((0, 1), repeat=3):
            corner = tuple(edge[end] for edge, end in zip(box, ends, strict=True))
            total += (-1) ** (3 - sum(ends)) * int(sums[corner])
        return total / max(int(np.prod([b - a for a, b in box])), 1)

    box = [[0, n] for n in missing.shape]
    while True:
        faces = []
        for axis, (a, b) in enumerate(box):
            for end, face in ((0, [a, a + 1]), (1, [b - 1, b])):
                faces.append((share([*box[:axis], face, *box[axis + 1 :]]), b - a, axis, end))
        most, length, axis, end = max(faces)
        if share(box) <= _REST and most <= 0.5:
            return tuple(slice(a, b) for a, b in box)
        if length == 1:
            return whole
        box[axis][end] += 1 - 2 * end
