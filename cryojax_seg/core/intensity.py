"""Normalizes intensities: statistics are measured once per volume and applied block by block."""

import dataclasses
from typing import Any

import numpy as np

from cryojax_seg.core.blank import Blank, census, find_blank, inner_box
from cryojax_seg.core.blocks import EDGE, Readable, blocks, release
from cryojax_seg.core.plain import Contrast
from cryojax_seg.core.resampling import Resampled

_MOST = 2**24  # voxels; larger volumes are subsampled to find their median


@dataclasses.dataclass(frozen=True)
class Intensity:
    """Maps intensities to a robust z-score in which structure is bright.

    The normalized value is ``(value - centre) * gain``, and 0 where there is no data.

    Attributes:
        centre: the median.
        gain: the inverse deviation; negative if structure is dark.
        damaged: share of voxels that are NaN or infinite.
        blank: fill constants of the parts of the volume without data.

    >>> Intensity(centre=2.0, gain=-0.5).apply(np.array([0.0, 4.0])).tolist()
    [1.0, -1.0]
    """

    centre: float
    gain: float
    damaged: float = 0.0
    blank: Blank = Blank()

    def missing(self, block: np.ndarray) -> np.ndarray:
        """Return a mask of the voxels without data, which are blank, NaN or infinite.

        >>> Intensity(2.0, 1.0, blank=Blank((0.0,))).missing(np.array([0.0, 4.0, np.nan])).tolist()
        [True, False, True]
        """
        return self.blank.mask(block) | ~np.isfinite(block)

    def apply(self, block: np.ndarray, missing: np.ndarray | None = None) -> np.ndarray:
        """Return the normalized float32 block, with 0 where `missing` is true.

        `missing` is computed from the block by default.

        >>> Intensity(2.0, -0.5).apply(np.array([0.0, 4.0, np.nan])).tolist()
        [1.0, -1.0, 0.0]
        """
        result = block.astype(np.float32)
        result -= np.float32(self.centre)  # in place: blocks are large
        result *= np.float32(self.gain)
        result[self.missing(block) if missing is None else missing] = 0
        return result

    def denormalize(self, normalized: np.ndarray) -> np.ndarray:
        """Map normalized values back to the original intensity scale.

        >>> Intensity(2.0, -0.5).denormalize(np.array([1.0, -1.0])).tolist()
        [0.0, 4.0]
        """
        return normalized / self.gain + self.centre


@dataclasses.dataclass(frozen=True)
class Normalized:
    """Represents a volume that is normalized block by block as it is read.

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
        """Return a mask of the voxels without data in a part of the volume.

        >>> volume = Normalized(np.array([[[0.0, 4.0]]]), Intensity(2.0, 1.0, blank=Blank((0.0,))))
        >>> volume.missing(np.s_[:, :, :1]).tolist()
        [[[True]]]
        """
        return self._read(index)[1]

    def denormalize(self, index, normalized: np.ndarray) -> np.ndarray:
        """Map normalized values of a part back to the density scale; keep blank voxels."""
        values = self.intensity.denormalize(normalized)
        if not self.intensity.blank.share:
            return values
        part, missing = self._read(index)
        return np.where(missing & np.isfinite(part), part.astype(values.dtype), values)

    def _read(self, index) -> tuple[np.ndarray, np.ndarray]:
        """Return a part of the density and the mask of its voxels without data."""
        outer, inner = _around(index, self.shape, self.intensity.blank.halo)
        part = np.asarray(self.density[outer])
        missing = self.intensity.missing(part)
        release(self.density)
        return part[inner], missing[inner]


def measured_box(volume: Readable) -> tuple[slice, ...]:
    """Return a box of the volume with hardly any blank parts, in which to measure statistics.

    The box is the whole volume if it has no blank parts or is not a `Normalized` volume; that of a
    `Resampled` volume is the same part of it.

    >>> half = np.pad(np.random.default_rng(0).normal(size=(16, 16, 16)), ((0, 0), (0, 16), (0, 0)))
    >>> measured_box(Normalized(half, measure_intensity(half, "dark")))
    (slice(0, 16, None), slice(0, 16, None), slice(0, 16, None))
    """
    shape = volume.shape
    if isinstance(volume, Resampled):
        spans = zip(measured_box(volume.volume), volume.by, strict=True)
        return tuple(slice(*r.within(s.start, s.stop)) for s, r in spans)
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


def _around(index, shape: tuple[int, ...], halo: int) -> tuple[Any, Any]:
    """Return the index of a part with `halo` voxels around it, and of the part within that."""
    if halo == 0:
        return index, np.s_[...]
    index = index if isinstance(index, tuple) else (index,)
    if not all(isinstance(i, slice | int | np.integer) for i in index):
        return np.s_[...], index
    outer, inner = [], []
    for i, n in zip((*index, *[slice(None)] * (len(shape) - len(index))), shape, strict=True):
        start, stop, step = i.indices(n) if isinstance(i, slice) else (i % n, i % n + 1, 1)
        if step < 1:
            start, stop = 0, n
        low = max(start - halo, 0)
        outer.append(slice(low, min(stop + halo, n)))
        whole = i if step < 1 else slice(start - low, max(stop - low, 0), step)
        inner.append(whole if isinstance(i, slice) else start - low)
    return tuple(outer), tuple(inner)


def measure_intensity(density: Readable, contrast: Contrast) -> Intensity:
    """Measure the median and deviation of the voxels with data, in one pass over blocks.

    Non-finite voxels and blank parts are excluded. The deviation is 1.4826 times the median
    absolute deviation, which equals the standard deviation for Gaussian noise. If it is zero,
    because more than half of the voxels are equal, the standard deviation is used instead.

    Args:
        density: ``(z, y, x)``, any real dtype.
        contrast: "dark" if structure is darker than its surroundings, as is usual in
            reconstructions, or "bright".

    Raises:
        ValueError: if no voxel is finite or all finite voxels are equal.

    >>> noise = np.random.default_rng(0).normal(3.0, 1.0, (16, 32, 32))
    >>> half_blank = np.pad(noise, ((0, 0), (0, 0), (0, 32)))
    >>> found = measure_intensity(half_blank, "bright")
    >>> found.blank.values, found.blank.share, round(found.centre, 1), round(found.gain, 1)
    ((0.0,), 0.5, 3.0, 1.0)
    """
    size = int(np.prod(density.shape))
    # An odd step shares no factor with the block edge, so the sample covers all columns.
    counted = census(density, 1 if size <= _MOST else 2 * (size // _MOST) + 1)
    if counted.finite == 0:
        raise ValueError("the volume has no finite voxel, so it cannot be normalized")
    blank = find_blank(counted)
    values = counted.sample(blank)
    # Subtract the median first, so that a large offset does not cost precision.
    median = _median(values)
    centred = values.astype(np.float64)
    centred -= median
    scale = 1.4826 * _median(np.abs(centred, out=centred))
    if scale == 0:
        scale = (values.astype(np.float64) - median).std()
    if scale == 0 or not np.isfinite(scale):
        raise ValueError("the volume is constant, so it cannot be normalized")
    sign = -1.0 if contrast == "dark" else 1.0
    damaged = 1 - counted.finite / max(size, 1)
    return Intensity(float(median), float(sign / scale), damaged, blank)


def _median(values: np.ndarray) -> np.floating:
    """Return the median of a flat array, which is reordered; `np.median` would copy it."""
    middle = slice((values.size - 1) // 2, values.size // 2 + 1)
    values.partition((middle.start, middle.stop - 1))
    return np.mean(values[middle])


def normalize(density: Readable, contrast: Contrast) -> np.ndarray:
    """Return the robust z-score, with structure bright, of a volume that fits in memory.

    Args:
        density, contrast: as in `measure_intensity`.

    Returns:
        float32 array of the same shape.

    >>> z = normalize(np.arange(27.0).reshape(3, 3, 3), "dark")
    >>> bool(z[0, 0, 0] > z[2, 2, 2])
    True
    """
    return measure_intensity(density, contrast).apply(np.asarray(density))
