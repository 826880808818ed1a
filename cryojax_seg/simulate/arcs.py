"""Computes coordinates along arcs, for tubes of membrane and for the models of filaments."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Array
from cryojax_seg.simulate.structures import PROTEIN_VOLUME
from cryojax_seg.simulate.surfaces import Surface, check_positive, floats, length
from cryojax_seg.simulate.types import Points, Values


def arc_coordinates(points: Points, curvature) -> tuple[Values, Values, Values]:
    """Return the coordinates of points along and across a circular arc through the origin.

    The centre of the arc is at ``x = 1/c``. In the polar coordinates ``rho = |(c y, 1 - c x)|`` and
    ``angle`` about it, the offset towards the centre is ``(1 - rho)/c`` and the length along the
    arc is ``angle/c``. Both are computed without a division by c, so that c may be 0.

    Args:
        points: ``(..., 3)`` angstrom.
        curvature: c, per angstrom; 0 is a straight line.

    Returns:
        s along the arc, and the offsets z and u (towards the centre of curvature) across it.

    >>> s, z, u = arc_coordinates(jnp.array([7.0, 100.0, 100.0]), 0.01)
    >>> [round(float(v), 3) for v in (s, z, u)]
    [157.08, 7.0, 0.0]
    """
    points, c = floats(points, curvature)
    z, y, x = points[..., 0], points[..., 1], points[..., 2]
    inwards = 1 - c * x
    rho = length(c * y, inwards)
    u = (2 * x - c * (x * x + y * y)) / (1 + rho)
    # angle = 2 atan(c y / (rho + inwards)), and atan(t)/t is an even series at 0.
    below = jnp.maximum(rho + inwards, 1e-6)
    tangent = c * y / below
    small = jnp.abs(tangent) < 0.03
    safe = jnp.where(small, 1.0, tangent)
    square = jnp.square(jnp.where(small, tangent, 0.0))
    series = 1 - square / 3 + square * square / 5
    return 2 * y / below * jnp.where(small, series, jnp.arctan(safe) / safe), z, u


def rod(along, across, extent, radius) -> Array:
    """Return the signed distance to a solid cylinder with flat ends.

    Args:
        along: position along its axis, from its middle.
        across: distance to its axis.
        extent: its length.
        radius: its radius.
    """
    a, b = jnp.abs(along) - extent / 2, across - radius
    return length(jnp.maximum(a, 0.0), jnp.maximum(b, 0.0)) + jnp.minimum(jnp.maximum(a, b), 0.0)


def bent_bounding_radius(extent: float, radius: float, curvature: float) -> float:
    """Return the radius of a ball around the middle of a bent rod that contains the rod."""
    return math.hypot(radius, extent / 2 * math.sqrt(1 + abs(curvature) * radius))


@register_pytree
@dataclasses.dataclass(frozen=True)
class Capsule(Surface):
    """Models a tube with round ends, which is straight along y or bent as an arc towards x.

    Distances are exact, and so are the area and volume, by Pappus' theorems.

    Attributes:
        length: of the axis between the centres of the two hemispheres that close the tube.
        radius: of the tube.
        curvature: of the axis, per angstrom; less than ``1 / radius``.

    >>> float(Capsule(200.0, 50.0).distance(jnp.array([0.0, 160.0, 0.0])))
    10.0
    """

    length: Any
    radius: Any
    curvature: Any = 0.0

    def __post_init__(self):
        check_positive(self, "length", "radius")

    def distance(self, points: Points) -> Values:
        points, extent, radius = floats(points, self.length, self.radius)
        curvature = jnp.asarray(self.curvature, points.dtype)
        s, z, u = arc_coordinates(points, curvature)
        # Beyond an end, the law of cosines about the centre of the arc gives the distance to it.
        beyond = jnp.maximum(jnp.abs(s) - extent / 2, 0.0)
        chord = beyond * jnp.sinc(curvature * beyond / (2 * math.pi))
        stretch = jnp.sqrt(jnp.maximum(1 - curvature * u, 1e-6))
        return length(z, stretch * chord, u) - radius

    def measurements(self) -> dict[str, float]:
        extent, r = float(self.length), float(self.radius)
        return {
            "area": 2 * math.pi * r * extent + 4 * math.pi * r**2,
            "volume": math.pi * r**2 * extent + 4 / 3 * math.pi * r**3,
            "length": extent,
        }

    def bounding_radius(self) -> float:
        extent, r = float(self.length), float(self.radius)
        return bent_bounding_radius(extent + 2 * r, r, float(self.curvature))


def subunit_peak(kilodalton, widths) -> Any:
    """Return the peak of a Gaussian whose integral is that of solid protein of this mass."""
    return kilodalton * 1e3 * PROTEIN_VOLUME / ((2 * math.pi) ** 1.5 * math.prod(widths))


def presence(along, extent, rise) -> Array:
    """Return the occupancy of a subunit: 1 within the filament, 0 outside, a linear ramp between.

    Args:
        along: position of the subunit along the axis, from the middle of the filament.
        extent: length of the filament.
        rise: distance between subunits, which is the width of the ramp.
    """
    return jnp.clip((extent / 2 - jnp.abs(along)) / rise + 0.5, 0.0, 1.0)


def hexagonal(count: int) -> Float[Array, "count 2"]:
    """Return the points (row, column) of a triangular lattice of unit spacing nearest to 0.

    >>> hexagonal(7).shape, round(float(np.linalg.norm(hexagonal(7), axis=1).max()), 3)
    ((7, 2), 1.0)
    """
    size = math.isqrt(count) + 2
    a, b = np.mgrid[-size : size + 1, -size : size + 1].reshape(2, -1)
    places = np.stack([b * math.sqrt(3) / 2, a + b / 2], -1)
    azimuth = np.round(np.arctan2(places[:, 0], places[:, 1]), 6)
    order = np.lexsort((azimuth, np.round(np.linalg.norm(places, axis=1), 6)))
    return places[order[:count]]
