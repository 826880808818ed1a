"""Averages particles with compensation for the missing wedge of each."""

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
    """Holds sums over particles, from which averages are made; sums of subsets can be added.

    Returned by `average_particles`.

    Attributes:
        spectrum: ``sum_i R_i^-1 (M_i F_i)`` on the rfftn grid.
        weight: ``sum_i R_i^-1 M_i``, the number of particles that measured each frequency.
        count: number of particles.
        shape: ``(z, y, x)`` shape of the volume.
    """

    spectrum: Any
    weight: Any
    count: Any
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    def __add__(self, other: "Average") -> "Average":
        return jax.tree.map(jnp.add, self, other)

    def compensated(self, floor: float = 1.0) -> Volume:
        """Return ``F^-1( sum R^-1 (M F) / max(sum R^-1 M, floor) )``, compensated for the wedge.

        Each frequency is the mean over the particles that measured it (Förster and Hegerl 2007,
        Methods Cell Biol. 79:741).

        Args:
            floor: smallest divisor, in particles; frequencies that fewer measured are damped.
        """
        weight = jnp.maximum(self.weight, floor)
        return fourier.irfftn(self.spectrum / weight.astype(self.spectrum.dtype), self.shape)

    def plain(self) -> Volume:
        """Return the sum over the number of particles; rarely measured directions are weak."""
        count = jnp.maximum(self.count, 1.0)
        return fourier.irfftn(self.spectrum / count.astype(self.spectrum.dtype), self.shape)


def average_particles(
    volumes: Volumes, poses: Poses, wedge: MissingWedge | None = None, oversampling: int = 1
) -> Average:
    """Rotate particles back into the frame of the reference and add them and their wedges.

    This is done one after the other, so that memory does not grow with their number, and compiled
    by `jax.jit`. For the average of many particles, add those of subsets; for a resolution, keep
    those of even and odd particles separate.

    Args:
        volumes: ``(n, z, y, x)`` in the orientation of their tomogram.
        poses: poses of the particles.
        wedge: missing wedge of the tomogram; None if everything was measured.
        oversampling: oversampling of the interpolation, see `rotate`.

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
