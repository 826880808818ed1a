"""A tomogram at the boundary of the package: density with its physical meaning."""

import dataclasses
from typing import Literal

import numpy as np

from cryojax_seg.core.wedge import MissingWedge

Contrast = Literal["dark", "bright"]


@dataclasses.dataclass(frozen=True)
class Tomogram:
    """A reconstruction and what is known about it.

    Attributes:
        density: array ``(z, y, x)``, any real dtype; may be a memory map.
        voxel_size: angstrom per voxel along z, y, x; None when the file does not say.
        origin: angstrom, position of voxel (0, 0, 0) along z, y, x.
        wedge: the missing wedge of the acquisition; None when unknown.
        name: where it came from, for messages.
        start: index of voxel (0, 0, 0) along z, y, x in the volume this one was cut from.
    """

    density: np.ndarray
    voxel_size: tuple[float, float, float] | None = None
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    wedge: MissingWedge | None = None
    name: str = "tomogram"
    start: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self):
        if self.density.ndim != 3:
            raise ValueError(
                f"{self.name}: a tomogram has three axes (z, y, x), this array has shape "
                f"{self.density.shape}"
            )

    def require_voxel_size(self) -> tuple[float, float, float]:
        """The voxel size in angstrom, or a ValueError that says how to give one."""
        if self.voxel_size is None:
            raise ValueError(
                f"{self.name}: the voxel size is unknown, and this needs a length; give it with "
                "--voxel-size ANGSTROM (or Tomogram(voxel_size=...))"
            )
        return self.voxel_size


def normalize(density: np.ndarray, contrast: Contrast) -> np.ndarray:
    """Robust z-score with structure bright.

    Subtracts the median and divides by 1.4826 times the median absolute deviation of the finite
    voxels (the standard deviation, for Gaussian noise). Where more than half of the voxels are
    equal the deviation is zero and the standard deviation is used instead. Non-finite voxels
    become 0, the median.

    Args:
        density: ``(z, y, x)``, any real dtype.
        contrast: "dark" if structure is darker than its surroundings, as reconstructions come.

    Returns:
        float32 array of the same shape.

    Raises:
        ValueError: if no voxel is finite or all finite voxels are equal.

    >>> import numpy as np
    >>> z = normalize(np.arange(27.0).reshape(3, 3, 3), "dark")
    >>> bool(z[0, 0, 0] > z[2, 2, 2])
    True
    """
    finite = np.isfinite(density)
    values = np.asarray(density[finite] if not finite.all() else density, np.float32).ravel()
    if values.size == 0:
        raise ValueError("the volume has no finite voxel, so it cannot be normalized")
    if values.size > 2**24:  # a stride keeps the quantiles of a large volume cheap and repeatable
        values = values[:: values.size // 2**23]
    # Two steps, so that a large offset does not eat the digits of the deviation.
    median = np.median(values)
    centred = values.astype(np.float64) - median
    scale = 1.4826 * np.median(np.abs(centred))
    if scale == 0:
        scale = centred.std()
    if scale == 0 or not np.isfinite(scale):
        raise ValueError("the volume is constant, so it cannot be normalized")
    sign = -1.0 if contrast == "dark" else 1.0
    result = (density.astype(np.float32) - np.float32(median)) * np.float32(sign / scale)
    return np.where(finite, result, np.float32(0))
