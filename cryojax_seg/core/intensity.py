"""Intensities: what is normal in a tomogram, measured once and applied part by part."""

import dataclasses
from typing import Any, Literal

import numpy as np

from cryojax_seg.core.blank import Blank, census, find_blank, inner_box
from cryojax_seg.core.blocks import EDGE, Readable, blocks, release
from cryojax_seg.core.types import Array

Contrast = Literal["dark", "bright"]
_MOST = 2**24  # voxels whose median is taken exactly; of larger volumes every n-th in each block


@dataclasses.dataclass(frozen=True)
class Intensity:
    """A robust z-score with structure bright: ``(value - centre) * gain``, 0 where is no data.

    Attributes:
        centre: the median.
        gain: one over the deviation; negative where structure is dark.
        damaged: the share of voxels that are NaN or infinite.
        blank: what fills the parts of the volume where nothing was measured.
    """

    centre: float
    gain: float
    damaged: float = 0.0
    blank: Blank = Blank()

    def missing(self, block: np.ndarray) -> np.ndarray:
        """Where a block holds no data: it is blank, NaN or infinite there.

        >>> Intensity(2.0, 1.0, blank=Blank((0.0,))).missing(np.array([0.0, 4.0, np.nan])).tolist()
        [True, False, True]
        """
        return self.blank.mask(block) | ~np.isfinite(block)

    def apply(self, block: np.ndarray, missing: np.ndarray | None = None) -> np.ndarray:
        """The normalized block, float32; 0 where it is `missing`, which is found unless given.

        >>> Intensity(2.0, -0.5).apply(np.array([0.0, 4.0, np.nan])).tolist()
        [1.0, -1.0, 0.0]
        """
        result = block.astype(np.float32)
        result -= np.float32(self.centre)  # in place: blocks are large
        result *= np.float32(self.gain)
        result[self.missing(block) if missing is None else missing] = 0
        return result

    def restored(self, normalized: np.ndarray) -> np.ndarray:
        """Normalized values on the scale of the volume again.

        >>> Intensity(2.0, -0.5).restored(np.array([1.0, -1.0])).tolist()
        [0.0, 4.0]
        """
        return normalized / self.gain + self.centre


@dataclasses.dataclass(frozen=True)
class Normalized:
    """A volume that is normalized as it is read.

    >>> v = Normalized(np.full((2, 2, 2), 3.0), Intensity(1.0, 2.0))
    >>> v.shape, v[0, :1].tolist()
    ((2, 2, 2), [[4.0, 4.0]])
    """

    density: Readable
    intensity: Intensity

    @property
    def shape(self) -> tuple[int, ...]:
        return self.density.shape

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32)

    @property
    def ndim(self) -> int:
        return self.density.ndim

    def __getitem__(self, index) -> np.ndarray:
        return self.intensity.apply(*self._read(index))

    def missing(self, index) -> np.ndarray:
        """Where this part of the volume holds no data; see `Intensity.missing`.

        >>> volume = Normalized(np.array([[[0.0, 4.0]]]), Intensity(2.0, 1.0, blank=Blank((0.0,))))
        >>> volume.missing(np.s_[:, :, :1]).tolist()
        [[[True]]]
        """
        return self._read(index)[1]

    def restored(self, index, normalized: np.ndarray) -> np.ndarray:
        """Normalized values of a part on the scale of the density; blank voxels as they were."""
        answer = self.intensity.restored(normalized)
        if not self.intensity.blank.share:
            return answer
        part, missing = self._read(index)
        return np.where(missing & np.isfinite(part), part.astype(answer.dtype), answer)

    def _read(self, index) -> tuple[np.ndarray, np.ndarray]:
        """A part of the density, and where it holds no data."""
        outer, inner = _around(index, self.shape, self.intensity.blank.reach)
        part = np.asarray(self.density[outer])
        missing = self.intensity.missing(part)
        release(self.density)
        return part[inner], missing[inner]


def measured_box(volume: Readable | Array) -> tuple[slice, ...]:
    """The box within which statistics of a volume are measured: it has hardly any blank parts.

    All of a volume that has none, or that is not `Normalized`, since nothing is known of it.

    >>> half = np.pad(np.random.default_rng(0).normal(size=(16, 16, 16)), ((0, 0), (0, 16), (0, 0)))
    >>> measured_box(Normalized(half, measure_intensity(half, "dark")))
    (slice(0, 16, None), slice(0, 16, None), slice(0, 16, None))
    """
    shape = volume.shape
    if not isinstance(volume, Normalized) or not volume.intensity.blank.share:
        return tuple(slice(0, n) for n in shape)
    cell = max(1, int(np.ceil((np.prod(shape) / _MOST) ** (1 / 3))))
    coarse = np.zeros([-(-n // cell) for n in shape], bool)
    for where in blocks(coarse.shape, max(EDGE // cell, 1)):
        fine = tuple(slice(cell * s.start, cell * s.stop) for s in where)
        found = np.argwhere(volume.missing(fine)) // cell
        coarse[where][tuple(found.T)] = True
    box = inner_box(coarse)
    return tuple(
        slice(cell * s.start, min(cell * s.stop, n)) for s, n in zip(box, shape, strict=True)
    )


def _around(index, shape: tuple[int, ...], reach: int) -> tuple[Any, Any]:
    """The index of a part with `reach` voxels around it, and of the part within that."""
    if reach == 0:
        return index, np.s_[...]
    index = index if isinstance(index, tuple) else (index,)
    if not all(isinstance(i, slice | int | np.integer) for i in index):
        return np.s_[...], index
    outer, inner = [], []
    for i, n in zip((*index, *[slice(None)] * (len(shape) - len(index))), shape, strict=True):
        start, stop, step = i.indices(n) if isinstance(i, slice) else (i % n, i % n + 1, 1)
        if step < 1:
            start, stop = 0, n
        low = max(start - reach, 0)
        outer.append(slice(low, min(stop + reach, n)))
        whole = i if step < 1 else slice(start - low, max(stop - low, 0), step)
        inner.append(whole if isinstance(i, slice) else start - low)
    return tuple(outer), tuple(inner)


def measure_intensity(density: Readable, contrast: Contrast) -> Intensity:
    """Median and deviation of the voxels that hold data, in one pass that never holds the volume.

    Voxels that are not finite and blank parts are left out. The deviation is 1.4826 times the
    median absolute deviation (the standard deviation, for Gaussian noise). Where more than half of
    the voxels are equal that is zero and the standard deviation is used instead.

    Args:
        density: ``(z, y, x)``, any real dtype.
        contrast: "dark" if structure is darker than its surroundings, as reconstructions come.

    Raises:
        ValueError: if no voxel is finite or all finite voxels are equal.

    >>> noise = np.random.default_rng(0).normal(3.0, 1.0, (16, 32, 32))
    >>> half_blank = np.pad(noise, ((0, 0), (0, 0), (0, 32)))
    >>> found = measure_intensity(half_blank, "bright")
    >>> found.blank.values, found.blank.share, round(found.centre, 1), round(found.gain, 1)
    ((0.0,), 0.5, 3.0, 1.0)
    """
    size = int(np.prod(density.shape))
    # An odd step shares no factor with the edge of a block, so no columns are preferred.
    counted = census(density, 1 if size <= _MOST else 2 * (size // _MOST) + 1)
    if counted.finite == 0:
        raise ValueError("the volume has no finite voxel, so it cannot be normalized")
    blank = find_blank(counted)
    values = counted.sample(blank)
    # Two steps, so that a large offset does not eat the digits of the deviation.
    median = np.median(values)
    centred = values.astype(np.float64) - median
    scale = 1.4826 * np.median(np.abs(centred))
    if scale == 0:
        scale = centred.std()
    if scale == 0 or not np.isfinite(scale):
        raise ValueError("the volume is constant, so it cannot be normalized")
    sign = -1.0 if contrast == "dark" else 1.0
    damaged = 1 - counted.finite / max(size, 1)
    return Intensity(float(median), float(sign / scale), damaged, blank)


def normalize(density: Readable, contrast: Contrast) -> np.ndarray:
    """Robust z-score with structure bright, of a volume that fits in memory.

    Args: as `measure_intensity`.

    Returns:
        float32 array of the same shape.

    >>> z = normalize(np.arange(27.0).reshape(3, 3, 3), "dark")
    >>> bool(z[0, 0, 0] > z[2, 2, 2])
    True
    """
    return measure_intensity(density, contrast).apply(np.asarray(density))
