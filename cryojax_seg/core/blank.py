"""Finds blank parts of a volume, where one value repeats exactly and nothing was measured.

Reconstruction programs fill regions without data with a constant: margins, slices at the top and
bottom, the corners of a rotated volume. A frequent value alone is not such a constant, because each
grey value of an 8-bit tomogram is frequent, and so is the limit of clipped intensities. A fill
constant differs from these: it fills whole patches of neighbours, with a sharp edge to the sample.
"""

import dataclasses
import itertools

import numpy as np

from cryojax_seg.core.blocks import Readable, blocks, release

SIDE = 8  # edge, in voxels, of a filled square patch in the plane of any two axes
_GROWTH = 4  # voxels by which filled patches grow into neighbours of equal value
HALO = SIDE - 1 + _GROWTH  # voxels around a block that affect its blank mask
_FEWEST = 32  # smallest number of voxels in a patch, where the volume is thinner than SIDE
_LEAST = 0.003  # smallest share of the volume that a fill constant covers
_COMMON = 1e-4  # share of the sample above which a grey value counts as common
_FAR = 8.0  # a value this many deviations from the median is not a clipping limit
_STEPS = 0.9  # in a smooth volume, this share of neighbours of patches are adjacent grey values
_REST = 0.01  # largest share of missing voxels in an inner box
_BORDERS = 4096  # number of neighbours of filled patches sampled per block


@dataclasses.dataclass(frozen=True)
class Blank:
    """Holds the fill constants of a volume.

    Attributes:
        values: constants that do not occur in the sample, so every voxel with this value is blank.
        patches: constants that also occur in the sample, because it has few grey values; only
            voxels in filled patches are blank.
        share: blank share of the volume.

    >>> Blank(values=(0.0,), share=0.5).mask(np.array([[[0.0, 3.0]]])).tolist()
    [[[True, False]]]
    """

    values: tuple[float, ...] = ()
    patches: tuple[float, ...] = ()
    share: float = 0.0

    @property
    def halo(self) -> int:
        """Return the number of voxels around a block that affect its blank mask."""
        return HALO if self.patches else 0

    def mask(self, block: np.ndarray) -> np.ndarray:
        """Return a mask of the blank voxels of a block ``(z, y, x)``.

        >>> Blank((0.0,)).mask(np.array([[[0.0, 1.0]]])).tolist()
        [[[True, False]]]
        """
        result = np.zeros(block.shape, bool)
        for value in self.values:
            result |= _equal(block, value)
        if self.patches:
            from scipy import ndimage  # slow to load, and seldom needed

            full = filled(block)
            for value in self.patches:
                equal = _equal(block, value)
                seed = full & equal
                if seed.any():
                    result |= ndimage.binary_dilation(seed, iterations=_GROWTH, mask=equal)
        return result


@dataclasses.dataclass(frozen=True)
class Census:
    """Gathers the value statistics of a volume in one pass over its blocks.

    Attributes:
        loose: every `step`-th finite voxel outside filled patches, float32.
        filled: number of voxels in filled patches, by value.
        borders: ``(pairs, 2)``, the value of a filled patch and the value of a voxel beside it.
        finite: number of voxels that are neither NaN nor infinite.
        size: number of voxels.
        step: sampling step of `loose`.
    """

    loose: np.ndarray
    filled: dict[float, int]
    borders: np.ndarray
    finite: int
    size: int
    step: int

    def sample(self, blank: Blank) -> np.ndarray:
        """Return a sample of the finite voxels that are not blank, float32; `loose` if all are."""
        natural = [v for v in self.filled if v not in (*blank.values, *blank.patches)]
        counts = [-(-self.filled[v] // self.step) for v in natural]
        loose = self.loose
        if blank.values:
            loose = loose[~np.isin(loose, np.asarray(blank.values, np.float32))]
        if not natural:
            return loose
        return np.concatenate([loose, np.repeat(np.asarray(natural, np.float32), counts)])


def filled(block: np.ndarray) -> np.ndarray:
    """Return a mask of the voxels in square patches of one value, in the plane of any two axes.

    >>> volume = np.arange(4096.0).reshape(16, 16, 16)
    >>> volume[3, 4:13, 2:10] = 7
    >>> int(filled(volume).sum())
    72
    """
    result = np.zeros(block.shape, bool)
    sides = [min(SIDE, n) for n in block.shape]
    planes = [
        (a, b)
        for a, b in itertools.combinations(range(block.ndim), 2)
        if sides[a] * sides[b] >= _FEWEST and _may_hold_patches(block, a, b, sides)
    ]
    if not planes:
        return result
    equal = [_along(block, a, 1, None) == _along(block, a, 0, -1) for a in range(block.ndim)]
    for a, b in planes:
        # A patch consists of constant rows whose first voxels are equal.
        rows = _all(equal[b], b, sides[b] - 1)
        if not rows.any():
            continue
        starts = _all(equal[a], a, sides[a] - 1)
        corners = _all(rows, a, sides[a]) & _along(starts, b, 0, rows.shape[b])
        if corners.any():
            result |= _spread(_spread(corners, a, sides[a]), b, sides[b])
    return result


def _may_hold_patches(block: np.ndarray, a: int, b: int, sides: list[int]) -> bool:
    """Return whether two neighbours are equal somewhere on a grid that meets every patch."""
    rows = block[(slice(None),) * a + (slice(None, None, sides[a]),)]  # one of each patch
    step = slice(None, None, sides[b] - 1)  # one of the pairs of neighbours in each row of a patch
    first, second = (_along(rows, b, 0, -1), _along(rows, b, 1, None))
    pair = (slice(None),) * b + (step,)
    return bool((first[pair] == second[pair]).any())


def _equal(block: np.ndarray, value: float) -> np.ndarray:
    return block == (value if block.dtype.kind == "f" else int(value))


def _along(array: np.ndarray, axis: int, start: int, stop: int | None) -> np.ndarray:
    return array[(slice(None),) * axis + (slice(start, stop),)]


def _all(mask: np.ndarray, axis: int, length: int) -> np.ndarray:
    """Return whether `length` voxels from each one on are true; shorter by length - 1."""
    done = 1
    while done < length:
        step = min(done, length - done)
        mask = _along(mask, axis, 0, -step) & _along(mask, axis, step, None)
        done += step
    return mask


def _spread(mask: np.ndarray, axis: int, length: int) -> np.ndarray:
    """Return whether any of the `length` voxels up to each one is true; longer by length - 1."""
    widths = [(length - 1, length - 1) if a == axis else (0, 0) for a in range(mask.ndim)]
    return ~_all(~np.pad(mask, widths), axis, length)


def census(density: Readable, step: int) -> Census:
    """Count the values of a volume; sample every `step`-th voxel outside filled patches."""
    loose, counts, borders, finite = [], {}, [], 0
    for where in blocks(density.shape):
        block = np.asarray(density[where])
        full = filled(block)
        good = None if _all_finite(block) else np.isfinite(block)
        if good is None and not full.any():
            finite += block.size
            loose.append(block.reshape(-1)[::step].astype(np.float32))
            release(density)
            continue
        good = np.ones(block.shape, bool) if good is None else good
        full &= good
        finite += int(good.sum())
        loose.append(block[good & ~full][::step].astype(np.float32))
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


def _all_finite(block: np.ndarray) -> bool:
    """Return True only if all voxels are finite, as their sum then is."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(block.sum()))


def _count(values: np.ndarray, counts: dict[float, int]) -> None:
    """Add the number of occurrences of each value to `counts`, run by run for speed."""
    heads = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    lengths = np.diff(np.append(heads, values.size))
    found, index = np.unique(values[heads], return_inverse=True)
    for value, n in zip(found, np.bincount(index.ravel(), lengths), strict=True):
        counts[float(value)] = counts.get(float(value), 0) + int(n)


def _borders(block: np.ndarray, full: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Return pairs of the value of a filled patch and the different value of a voxel beside it."""
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
    """Return the constants that fill blank parts.

    A value that fills patches is a fill constant unless the sample explains it: the value is a
    clipping limit or one of few grey values, and the values beside its patches are close to it.
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
    """Return the slice of the adjacent grey values, including the value itself if present."""
    low, high = np.searchsorted(levels, value, "left"), np.searchsorted(levels, value, "right")
    return slice(max(int(low) - 1, 0), int(high) + 1)


def _explained(value: float, near: np.ndarray, repeats: bool, counted: Census) -> bool:
    """Return whether clipping or a small number of grey values explains the filled patches.

    Args:
        value: the value of the filled patches.
        near: the adjacent grey values.
        repeats: whether grey values this frequent are expected in the volume.
        counted: the value statistics of the volume.
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
    # In a smooth volume with few grey values, neighbours differ by at most one grey value.
    steps = repeats and np.mean((beside >= near[0]) & (beside <= near[-1])) > _STEPS
    return bool(gradual or steps)


def inner_box(missing: np.ndarray) -> tuple[slice, ...]:
    """Return a large box with hardly any missing voxels.

    The face with the largest share of missing voxels is removed repeatedly.

    Args:
        missing: bool ``(z, y, x)``.

    Returns:
        one slice per axis; the whole volume if every voxel is missing.

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
