"""Represents a tomogram: a density with its voxel size, origin and missing wedge."""

import dataclasses
from typing import TYPE_CHECKING

from cryojax_seg.core.blocks import Readable
from cryojax_seg.errors import ParameterError

if TYPE_CHECKING:  # what reads a header does without JAX
    from cryojax_seg.core.wedge import MissingWedge


@dataclasses.dataclass(frozen=True)
class Tomogram:
    """Holds a reconstructed volume and its metadata.

    Attributes:
        density: array ``(z, y, x)``, any real dtype; may be a memory map or chunks on disk.
        voxel_size: angstrom per voxel along z, y, x; None if unknown.
        origin: position of voxel (0, 0, 0) along z, y, x, angstrom.
        wedge: missing wedge of the acquisition; None if unknown.
        name: source of the data, for messages.
        start: index of voxel (0, 0, 0) along z, y, x in the volume from which this one was cut.

    Raises:
        ValueError: if the density does not have three axes.

    >>> import numpy as np
    >>> tomogram = Tomogram(np.zeros((2, 3, 4), np.float32), voxel_size=(10.0, 10.0, 10.0))
    >>> tomogram.density.shape, tomogram.require_voxel_size()
    ((2, 3, 4), (10.0, 10.0, 10.0))
    """

    density: Readable
    voxel_size: tuple[float, float, float] | None = None
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    wedge: "MissingWedge | None" = None
    name: str = "tomogram"
    start: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self):
        if self.density.ndim != 3:
            raise ValueError(
                f"{self.name}: a tomogram has three axes (z, y, x), but this array has shape "
                f"{self.density.shape}"
            )

    def require_voxel_size(self) -> tuple[float, float, float]:
        """Return the voxel size in angstrom, one per axis (z, y, x).

        Raises:
            ParameterError: if it is unknown.
        """
        if self.voxel_size is None:
            raise ParameterError(
                f"{self.name}: the voxel size is unknown but needed here; give voxel_size in "
                "angstrom, as in Tomogram(voxel_size=...)",
                "voxel_size",
            )
        return self.voxel_size

    def corner(self) -> tuple[float, float, float]:
        """Return the position of voxel (0, 0, 0) in viewer coordinates, angstrom, zyx.

        It is the origin, or, if the origin is 0, the start times the voxel size, as in ChimeraX.

        >>> import numpy as np
        >>> Tomogram(np.zeros((2, 2, 2)), (10.0, 10.0, 10.0), start=(3, 0, 1)).corner()
        (30.0, 0.0, 10.0)
        """
        if any(self.origin):
            return self.origin
        z, y, x = (i * v for i, v in zip(self.start, self.require_voxel_size(), strict=True))
        return z, y, x
