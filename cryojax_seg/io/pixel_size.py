"""Convert coordinates from the pixels of a table to the voxels of the tomogram."""

import dataclasses
from pathlib import Path

import numpy as np

from cryojax_seg.io.files import FileError

_SAME = 0.01  # sizes that differ less, relative to one another, differ by rounding


@dataclasses.dataclass(frozen=True)
class PixelSize:
    """Pixel sizes that a table states.

    Attributes:
        label: of the column that says so.
        sizes: ``(n,)`` angstrom, one for each particle.
        of_images: whether it describes boxes that were cut out already. Those may have been binned
            or resampled, and then the coordinates are in other pixels than these.
    """

    label: str
    sizes: np.ndarray
    of_images: bool = False

    def differs_from(self, voxel_size: float) -> np.ndarray:
        """Return which particles are in pixels that differ in size by more than 1 %.

        >>> PixelSize("apix", np.array([10.0, 5.0])).differs_from(10.05).tolist()
        [False, True]
        """
        return np.abs(self.sizes / voxel_size - 1) > _SAME

    def __str__(self) -> str:
        sizes = " or ".join(f"{size:.5g}" for size in np.unique(self.sizes)[:3])
        return f"{sizes} A ({self.label})"


def sizes_in(values: np.ndarray, label: str, of_images: bool = False) -> PixelSize | None:
    """Return the sizes in a column; None unless all are positive, as 0 means unknown."""
    return PixelSize(label, values, of_images) if (values > 0).all() else None


def voxels(
    coordinates: np.ndarray, stated: PixelSize | None, voxel_size: float | None, path: Path
) -> tuple[np.ndarray, float | None]:
    """Return coordinates in voxels of the tomogram, and the voxel size in angstrom.

    Args:
        coordinates: ``(n, 3)`` in pixels of the table.
        stated: the size of those; None if the table does not say.
        voxel_size: of the tomogram, angstrom; None for that of the table.
        path: for messages.

    Raises:
        FileError: if the sizes differ and it is not sure that the coordinates are in those pixels.

    >>> voxels(np.array([[2.0, 4, 6]]), PixelSize("a", np.array([5.0])), 10.0, Path("p.star"))
    (array([[1., 2., 3.]]), 10.0)
    """
    if stated is None or (voxel_size is None and len(np.unique(stated.sizes)) != 1):
        return coordinates, voxel_size
    if voxel_size is None:
        return coordinates, float(stated.sizes[0])
    other = stated.differs_from(voxel_size)
    if stated.of_images and other.any():
        raise FileError(
            f"{path}: describes boxes with pixels of {stated}, the tomogram has voxels of "
            f"{voxel_size:.5g} A, and the coordinates may be in either; give the voxel "
            "size of the coordinates",
            "coordinates_voxel_size",
        )
    factors = np.where(other, stated.sizes / voxel_size, 1.0)
    return coordinates * factors[:, None], voxel_size
