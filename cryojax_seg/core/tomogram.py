"""A tomogram at the boundary of the package: density with its physical meaning."""

import dataclasses

from cryojax_seg.core.blocks import Readable
from cryojax_seg.core.types import Array
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.errors import ParameterError


@dataclasses.dataclass(frozen=True)
class Tomogram:
    """A reconstruction and what is known about it.

    Attributes:
        density: array ``(z, y, x)``, any real dtype; may be a memory map or chunks on disk.
        voxel_size: angstrom per voxel along z, y, x; None when the file does not say.
        origin: angstrom, position of voxel (0, 0, 0) along z, y, x.
        wedge: the missing wedge of the acquisition; None when unknown.
        name: where it came from, for messages.
        start: index of voxel (0, 0, 0) along z, y, x in the volume this one was cut from.
    """

    density: Array | Readable
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
        """Return the voxel size in angstrom, one per axis (z, y, x).

        Raises:
            ParameterError: if it is unknown.
        """
        if self.voxel_size is None:
            raise ParameterError(
                f"{self.name}: the voxel size is unknown, and this needs a length; give "
                "voxel_size in angstrom, as in Tomogram(voxel_size=...)",
                "voxel_size",
            )
        return self.voxel_size

    def corner(self) -> tuple[float, float, float]:
        """Where voxel (0, 0, 0) lies (angstrom, zyx) in the frame in which viewers show the file.

        That is the origin; where it is 0, the start counts instead, as in ChimeraX.

        >>> import numpy as np
        >>> Tomogram(np.zeros((2, 2, 2)), (10.0, 10.0, 10.0), start=(3, 0, 1)).corner()
        (30.0, 0.0, 10.0)
        """
        if any(self.origin):
            return self.origin
        z, y, x = (i * v for i, v in zip(self.start, self.require_voxel_size(), strict=True))
        return z, y, x
