"""The average of particles, with what the missing wedge of each left out taken into account."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from cryojax_seg.core import fourier
from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Volume
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.particles.align import Poses, Volumes
from cryojax_seg.particles.interpolate import resample, spline_coefficients


@register_pytree
@dataclasses.dataclass(frozen=True)
class Average:
    """Sums over particles, of which averages are made; those of parts add.

    Attributes:
        spectrum: ``sum_i R_i^-1 (M_i F_i)`` on the rfftn grid.
        weight: ``sum_i R_i^-1 M_i`` there: how many particles measured each frequency.
        count: of the particles.
        shape: ``(z, y, x)`` of the volume.
    """

    spectrum: Any
    weight: Any
    count: Any
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    def __add__(self, other: "Average") -> "Average":
        return jax.tree.map(jnp.add, self, other)

    def compensated(self, floor: float = 1.0) -> Volume:
        """``F^-1( sum R^-1 (M F) / max(sum R^-1 M, floor) )``: the mean of what was measured.

        Each frequency is the mean over the particles that measured it. (Förster and Hegerl 2007,
        Methods Cell Biol. 79:741.)

        Args:
            floor: smallest divisor, in particles; below it a frequency is damped.
        """
        weight = jnp.maximum(self.weight, floor)
        return fourier.irfftn(self.spectrum / weight.astype(self.spectrum.dtype), self.shape)

    def plain(self) -> Volume:
        """The sum over the number of particles: directions that few measured are weak in it."""
        count = jnp.maximum(self.count, 1.0)
        return fourier.irfftn(self.spectrum / count.astype(self.spectrum.dtype), self.shape)


def average_particles(
    volumes: Volumes, poses: Poses, wedge: MissingWedge | None = None, oversampling: int = 1
) -> Average:
    """Rotate particles back into the frame of the reference and add them and their wedges.

    One after the other, so that memory does not grow with their number; in `jax.jit`. For the
    average of many, add those of parts; for a resolution, keep those of even and odd ones apart.

    Args:
        volumes: ``(n, z, y, x)`` in the orientation of their tomogram.
        poses: of the particles.
        wedge: of the tomogram; None if everything was measured.
        oversampling: of the interpolation, see `rotate`.

    >>> import numpy as np
    >>> volumes = np.random.default_rng(0).normal(size=(3, 8, 8, 8)).astype(np.float32)
    >>> poses = Poses(np.tile(np.eye(3, dtype=np.float32), (3, 1, 1)), np.zeros((3, 3), np.float32),
    ...               np.zeros(3, np.float32))
    >>> average = average_particles(volumes, poses)
    >>> bool(np.allclose(average.compensated(), volumes.mean(0), atol=1e-4))
    True
    """
    volumes = jnp.asarray(volumes)
    shape, dtype = tuple(volumes.shape[1:]), volumes.dtype
    half = (*shape[:2], shape[2] // 2 + 1)

    def step(sums, item):
        volume, rotation, offset = item
        back = rotation.T
        coefficients = spline_coefficients(volume, oversampling)
        rotated = resample(coefficients, back, -(back @ offset), oversampling=oversampling)
        spectrum = fourier.rfftn(rotated)
        transfer = jnp.ones(half, dtype)
        if wedge is not None:
            transfer = wedge.rotate(back).transfer(shape).astype(dtype)
        spectrum = spectrum * transfer.astype(spectrum.dtype)
        return (sums[0] + spectrum, sums[1] + transfer), None

    start = (fourier.rfftn(jnp.zeros(shape, dtype)), jnp.zeros(half, dtype))
    items = (volumes, jnp.asarray(poses.rotations, dtype), jnp.asarray(poses.offsets, dtype))
    (spectrum, weight), _ = jax.lax.scan(step, start, items)
    return Average(spectrum, weight, jnp.asarray(volumes.shape[0], dtype), shape)
