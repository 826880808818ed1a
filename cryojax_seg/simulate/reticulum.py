"""Models the endoplasmic reticulum as a maze of double membranes in a Gaussian random field."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Key, Number
from cryojax_seg.simulate.membranes import Membrane
from cryojax_seg.simulate.surfaces import check_positive, floats, length
from cryojax_seg.simulate.types import Points, Values
from cryojax_seg.simulate.waves import random_waves, wave_field


@register_pytree
@dataclasses.dataclass(frozen=True)
class Reticulum(Membrane):
    """Models sheets of the ER as a ball cut out of an endless maze of double membranes.

    The sheets follow the zeros of a Gaussian random field f. The lumen is the volume within half a
    `width` of the zeros, where the distance is negative. The distance to a zero is computed as if
    the field were one wave of its mean square wave number k along the gradient,
    ``atan(k f / |grad f|) / k``, which is of first order. With the default sizes the membranes
    deviate by less than a fifth of their thickness in nine positions of ten.

    Area and volume are expectations over random phases. Rice's formula gives the area of the zeros,
    ``(2/pi) sqrt(m)`` per volume with ``m`` the variance of a derivative of the field (Adler &
    Taylor, "Random fields and geometry", 2007, theorem 15.9.5); the same theorem gives the integral
    of the Gaussian curvature, ``-m^(3/2)/pi`` per volume; and Weyl's tube formula leads from the
    zeros to the membranes. A given maze deviates by a few per cent, less the larger it is.

    Attributes:
        vectors: ``(count, 3)`` wave vectors, radians per angstrom, zyx.
        phases: ``(count,)`` radians.
        extent: radius of the ball, angstrom.
        width: between the middles of the two membranes of a sheet, angstrom.

    >>> import jax
    >>> maze = Reticulum.random(jax.random.key(0), extent=3000.0)
    >>> maze.distance(jnp.zeros((5, 3))).shape
    (5,)
    """

    vectors: Any
    phases: Any
    extent: Any
    width: Any = 300.0

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "extent", "width")

    @classmethod
    def random(
        cls,
        key: Key,
        extent: Number,
        wavelength: float = 3000.0,
        width: Number = 300.0,
        count: int = 32,
        **lipids: Number,
    ) -> "Reticulum":
        """Return a random maze.

        Args:
            key: random key.
            extent: radius of the ball, angstrom.
            wavelength: about twice the distance between sheets, angstrom.
            width: between the two membranes of a sheet, angstrom.
            count: number of waves in the field.
            **lipids: fields of `Membrane`.
        """
        vectors, phases = random_waves(key, wavelength, count)
        return cls(vectors, phases, extent, width, **lipids)

    def distance(self, points: Points) -> Values:
        points, vectors, extent, width = floats(points, self.vectors, self.extent, self.width)
        field, slope = wave_field(points, vectors, jnp.asarray(self.phases, points.dtype))
        rate = jnp.sqrt(jnp.mean(jnp.square(vectors)))
        to_zero = jnp.arctan2(rate * field, length(*slope) + 1e-6 * rate) / rate
        from_centre = length(points[..., 0], points[..., 1], points[..., 2])
        beyond = jnp.maximum(from_centre - (extent - width / 2), 0.0)
        return length(to_zero, beyond) - width / 2

    def envelope(self, points: Points) -> Values:
        return self.distance(points)

    def measurements(self) -> dict[str, float]:
        rate = float(np.sqrt(np.mean(np.square(np.asarray(self.vectors, np.float64)))))
        half = float(self.width) / 2
        ball = float(self.extent) - half  # the sheets end here, and round rims are added
        volume = 4 / 3 * math.pi * ball**3
        area, curvature = 2 / math.pi * rate * volume, -(rate**3) / math.pi * volume
        edge = 4 * math.pi * ball**2 * rate / 2  # zeros on a surface have length sqrt(m)/2 per area
        return {
            "area": 2 * area + 2 * half**2 * curvature + math.pi * half * edge,
            "volume": 2 * half * area + 2 / 3 * half**3 * curvature + math.pi / 2 * half**2 * edge,
        }

    def bounding_radius(self) -> float:
        return float(self.extent) + self._margin()
