"""Images a density by recording a tilt series and reconstructing it."""

import dataclasses
import math
from typing import Any, Literal

import jax.numpy as jnp

from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Key, Mask, Number, Volume
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.errors import ParameterError
from cryojax_seg.simulate.acquisition import Acquisition, TiltSeries, expose
from cryojax_seg.simulate.imaging import Imaged, Imaging, signal_to_noise
from cryojax_seg.simulate.reconstruction import Filter, sirt, weighted_back_projection


@register_pytree
@dataclasses.dataclass(frozen=True)
class TiltSeriesImaging(Imaging):
    """Images a density through projections, optics, electron counting and a reconstruction.

    The reconstruction is in units of the density that full phase contrast would show, that is,
    contrast divided by twice the phase of a voxel of solid protein.

    Attributes:
        acquisition: the microscope, the ice and the tilts.
        snr: target `signal_to_noise`. The counts are scaled to reach it, without a change of the
            radiation damage; with the Poisson noise of few electrons it is met to a few per cent.
            None keeps the signal-to-noise ratio of the exposure.
        filter: of the weighted back-projection.
        iterations: of SIRT; 0 for weighted back-projection.
        halves: "dose" for halves of the electrons of each image, "tilt" for every second tilt.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from cryojax_seg.simulate import Acquisition, TiltScheme
    >>> ball = jnp.zeros((12, 16, 16)).at[4:8, 6:10, 6:10].set(1.0)
    >>> imaging = TiltSeriesImaging(Acquisition(scheme=TiltScheme.every(20.0)))
    >>> imaged = imaging(ball, ball > 0, 10.0, jax.random.key(0))
    >>> imaged.density.shape, imaging.wedge.tilt_range
    ((12, 16, 16), (-60.0, 60.0))
    """

    acquisition: Acquisition = Acquisition()
    snr: Any = None
    filter: Filter = dataclasses.field(default="hamming", metadata={"static": True})
    iterations: int = dataclasses.field(default=0, metadata={"static": True})
    halves: Literal["dose", "tilt"] = dataclasses.field(default="dose", metadata={"static": True})

    def __post_init__(self):
        if isinstance(self.snr, float | int) and not 0 < self.snr < math.inf:
            raise ParameterError(f"snr must be above 0, got {self.snr}", "snr")
        if self.iterations < 0:
            raise ValueError(f"iterations must be 0 or more, got {self.iterations}")

    @property
    def wedge(self) -> MissingWedge:
        """Return the missing wedge of the tilt range."""
        scheme = self.acquisition.scheme
        return MissingWedge(scheme.tilt_range, scheme.tilt_axis)

    def reconstruct(self, images, series: TiltSeries, shape, voxel_size: Number) -> Volume:
        """Reconstruct a volume of this shape from images ``(tilt, y, x)`` of a series."""
        density = images / (2 * self.acquisition.microscope.phase(voxel_size))
        if self.iterations:
            return sirt(density, series.angles, shape, self.iterations, series.tilt_axis)[0]
        return weighted_back_projection(
            density, series.angles, shape, self.filter, series.tilt_axis
        )

    def __call__(self, density: Volume, mask: Mask, voxel_size: Number, key: Key) -> Imaged:
        series = expose(density, voxel_size, self.acquisition, key)
        signal = self.reconstruct(series.clean, series, density.shape, voxel_size)
        if self.snr is not None:
            # The variance of the noise is inversely proportional to the number of electrons.
            noisy = self.reconstruct(series.images, series, density.shape, voxel_size)
            factor = jnp.asarray(self.snr, density.dtype) / signal_to_noise(
                signal, noisy - signal, mask
            )
            series = expose(density, voxel_size, self._brighter(factor), key)
        if self.halves == "tilt":
            parts = [(s.images, s) for s in series.split_by_tilt()]
        else:
            parts = [(half, series) for half in series.halves]
        even, odd = (self.reconstruct(i, s, density.shape, voxel_size) for i, s in parts)
        whole = (even + odd) / 2
        if self.halves == "tilt":
            whole = self.reconstruct(series.images, series, density.shape, voxel_size)
        return Imaged(whole, even, odd, signal, signal_to_noise(signal, whole - signal, mask))

    def _brighter(self, factor) -> Acquisition:
        detector = self.acquisition.detector
        efficiency = jnp.asarray(detector.efficiency, factor.dtype) * factor
        detector = dataclasses.replace(detector, efficiency=efficiency)
        return dataclasses.replace(self.acquisition, detector=detector)
