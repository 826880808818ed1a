"""Intensities: what is normal in a tomogram, measured once and applied part by part."""

import dataclasses
from typing import Literal

import numpy as np

from cryojax_seg.core.blocks import Readable, blocks, release

Contrast = Literal["dark", "bright"]
_MOST = 2**24  # voxels whose median is taken exactly; of larger volumes every n-th in each block


@dataclasses.dataclass(frozen=True)
class Intensity:
    """A robust z-score with structure bright: ``(value - centre) * gain``, 0 where not finite.

    Attributes:
        centre: the median.
        gain: one over the deviation; negative where structure is dark.
        damaged: the share of voxels that are NaN or infinite.
    """

    centre: float
    gain: float
    damaged: float = 0.0

    def apply(self, block: np.ndarray) -> np.ndarray:
        """The normalized block, float32.

        >>> Intensity(2.0, -0.5).apply(np.array([0.0, 4.0, np.nan])).tolist()
        [1.0, -1.0, 0.0]
        """
        result = block.astype(np.float32)
        result -= np.float32(self.centre)  # in place: blocks are large
        result *= np.float32(self.gain)
        if not np.isfinite(result).all():
            result[~np.isfinite(block)] = 0
        return result


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
        part = self.intensity.apply(np.asarray(self.density[index]))
        release(self.density)
        return part


def measure_intensity(density: Readable, contrast: Contrast) -> Intensity:
    """Median and deviation of the finite voxels, in one pass that never holds the volume.

    The deviation is 1.4826 times the median absolute deviation (the standard deviation, for
    Gaussian noise). Where more than half of the voxels are equal that is zero and the standard
    deviation is used instead.

    Args:
        density: ``(z, y, x)``, any real dtype.
        contrast: "dark" if structure is darker than its surroundings, as reconstructions come.

    Raises:
        ValueError: if no voxel is finite or all finite voxels are equal.
    """
    size = int(np.prod(density.shape))
    # An odd step shares no factor with the edge of a block, so no columns are preferred.
    values, finite = _sample(density, 1 if size <= _MOST else 2 * (size // _MOST) + 1)
    if values.size == 0:
        raise ValueError("the volume has no finite voxel, so it cannot be normalized")
    # Two steps, so that a large offset does not eat the digits of the deviation.
    median = np.median(values)
    centred = values.astype(np.float64) - median
    scale = 1.4826 * np.median(np.abs(centred))
    if scale == 0:
        scale = centred.std()
    if scale == 0 or not np.isfinite(scale):
        raise ValueError("the volume is constant, so it cannot be normalized")
    sign = -1.0 if contrast == "dark" else 1.0
    return Intensity(float(median), float(sign / scale), 1 - finite / max(size, 1))


def _sample(density: Readable, step: int) -> tuple[np.ndarray, int]:
    """Every `step`-th finite voxel of each block, and how many finite voxels there are."""
    values, finite = [], 0
    for where in blocks(density.shape):
        block = np.asarray(density[where]).ravel()
        good = np.isfinite(block)
        count = int(good.sum())
        finite += count
        values.append((block if count == block.size else block[good])[::step].astype(np.float32))
        release(density)
    return np.concatenate(values) if values else np.zeros(0, np.float32), finite


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
