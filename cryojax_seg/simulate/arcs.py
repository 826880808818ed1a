"""Coordinates along bent lines, and what filaments of subunits share."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cryojax_seg.core.types import Array
from cryojax_seg.simulate.structures import PROTEIN_VOLUME
from cryojax_seg.simulate.surfaces import floats, length
from cryojax_seg.simulate.types import Points, Values


def arc_coordinates(points: Points, curvature) -> tuple[Values, Values, Values]:
    """Where points are along and across a circular arc through the origin.

    With the arc's centre at ``x = 1/c``, the offset towards it is ``(1 - rho)/c`` and the way along
    ``angle/c``, for the polar coordinates ``rho = |(c y, 1 - c x)|`` and ``angle`` about it. Both
    are rewritten without a division by ``c``: a straight line is nothing special.

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
    """Signed distance to a solid cylinder with flat ends; across is the distance to its axis."""
    a, b = jnp.abs(along) - extent / 2, across - radius
    return length(jnp.maximum(a, 0.0), jnp.maximum(b, 0.0)) + jnp.minimum(jnp.maximum(a, b), 0.0)


def bent_bounding_radius(extent: float, radius: float, curvature: float) -> float:
    """Radius of a ball around the middle of a bent rod."""
    return math.hypot(radius, extent / 2 * math.sqrt(1 + abs(curvature) * radius))


def subunit_peak(kilodalton, widths) -> Any:
    """Peak of a Gaussian whose integral is that of so much solid protein."""
    return kilodalton * 1e3 * PROTEIN_VOLUME / ((2 * math.pi) ** 1.5 * math.prod(widths))


def presence(along, extent, rise) -> Array:
    """How much of a subunit at `along` is there: 1 within the length, 0 outside, a ramp between."""
    return jnp.clip((extent / 2 - jnp.abs(along)) / rise + 0.5, 0.0, 1.0)


def hexagonal(count: int) -> Float[Array, "count 2"]:
    """The places (row, column) of a triangular lattice of unit spacing that are nearest to 0.

    >>> hexagonal(7).shape, round(float(np.linalg.norm(hexagonal(7), axis=1).max()), 3)
    ((7, 2), 1.0)
    """
    size = math.isqrt(count) + 2
    a, b = np.mgrid[-size : size + 1, -size : size + 1].reshape(2, -1)
    places = np.stack([b * math.sqrt(3) / 2, a + b / 2], -1)
    turn = np.round(np.arctan2(places[:, 0], places[:, 1]), 6)
    order = np.lexsort((turn, np.round(np.linalg.norm(places, axis=1), 6)))
    return places[order[:count]]
