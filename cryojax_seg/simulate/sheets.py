"""Models open sheets, and the flat sacs around them."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.simulate.surfaces import Surface, check_positive, floats, length
from cryojax_seg.simulate.types import Points, Values


@register_pytree
@dataclasses.dataclass(frozen=True)
class Plane(Surface):
    """Models the infinite plane z = 0, which has no measurements.

    >>> float(Plane().distance(jnp.array([3.0, 70.0, -90.0])))
    3.0
    """

    closed = False

    def distance(self, points: Points) -> Values:
        return jnp.asarray(points)[..., 0]

    def measurements(self) -> dict[str, float]:
        return {}

    def bounding_radius(self) -> float:
        return math.inf


@register_pytree
@dataclasses.dataclass(frozen=True)
class WavedSheet(Surface):
    """Models the infinite sheet ``z = amplitude (sin(k y) + sin(k x)) / 2`` of wave number k.

    The distance is the height divided by the length of its gradient, which is of first order.

    Attributes:
        amplitude: greatest height above z = 0; 0 gives a plane.
        wavelength: along both y and x.
    """

    amplitude: Any
    wavelength: Any

    closed = False

    def __post_init__(self):
        check_positive(self, "wavelength")

    def distance(self, points: Points) -> Values:
        points, amplitude, wavelength = floats(points, self.amplitude, self.wavelength)
        rate = 2 * math.pi / wavelength
        phases = [rate * points[..., 1], rate * points[..., 2]]
        height = points[..., 0] - amplitude / 2 * sum(jnp.sin(p) for p in phases)
        slopes = [amplitude / 2 * rate * jnp.cos(p) for p in phases]
        return height / jnp.sqrt(1 + sum(s * s for s in slopes))

    def measurements(self) -> dict[str, float]:
        return {}

    def bounding_radius(self) -> float:
        return math.inf


@register_pytree
@dataclasses.dataclass(frozen=True)
class Disc(Surface):
    """Models a flat round sheet in the plane z = 0, with an edge.

    >>> [float(d) for d in Disc(100.0).distance(jnp.array([[-5.0, 0, 0], [0, 0, 110]]))]
    [-5.0, 10.0]
    """

    radius: Any

    closed = False

    def __post_init__(self):
        check_positive(self, "radius")

    def distance(self, points: Points) -> Values:
        points, radius = floats(points, self.radius)
        height = points[..., 0]
        beyond = length(points[..., 1], points[..., 2]) - radius
        away = length(height, jnp.maximum(beyond, 0.0))
        return jnp.where(beyond > 0, jnp.where(height < 0, -away, away), height)

    def measurements(self) -> dict[str, float]:
        return {"area": math.pi * float(self.radius) ** 2}

    def bounding_radius(self) -> float:
        return float(self.radius)


@register_pytree
@dataclasses.dataclass(frozen=True)
class Cap(Surface):
    """Models a spherical cap with an edge, facing z; the origin is its pole.

    Attributes:
        radius: of the sphere, whose centre is at ``z = -radius``.
        opening: angle at that centre between the pole and the edge, radians, up to pi.

    >>> cap = Cap(100.0, math.pi / 2)
    >>> [round(float(d), 3) for d in cap.distance(jnp.array([[5.0, 0, 0], [-110, 0, 100]]))]
    [5.0, 10.0]
    """

    radius: Any
    opening: Any

    closed = False

    def __post_init__(self):
        check_positive(self, "radius", "opening")
        if type(self.opening) in (float, int) and self.opening > math.pi:
            raise ValueError(f"Cap: opening is in radians, at most pi, got {self.opening}")

    def distance(self, points: Points) -> Values:
        points, radius, opening = floats(points, self.radius, self.opening)
        up = points[..., 0] + radius
        out = length(points[..., 1], points[..., 2])
        height = length(up, out) - radius
        over = up * jnp.sin(opening) >= out * jnp.cos(opening)  # the nearest point is not the edge
        away = length(up - radius * jnp.cos(opening), out - radius * jnp.sin(opening))
        return jnp.where(over, height, jnp.where(height < 0, -away, away))

    def measurements(self) -> dict[str, float]:
        return {"area": 2 * math.pi * float(self.radius) ** 2 * (1 - math.cos(self.opening))}

    def bounding_radius(self) -> float:
        return 2 * float(self.radius) * math.sin(float(self.opening) / 2)


@register_pytree
@dataclasses.dataclass(frozen=True)
class Cisterna(Surface):
    """Models a flat sac as all points within `half_thickness` of a disc, so that its rim is round.

    Area and volume follow from Steiner's formula for convex bodies.

    Attributes:
        radius: of the disc.
        half_thickness: of the sac, and radius of its rim.

    >>> float(Cisterna(100.0, 20.0).distance(jnp.array([0.0, 0.0, 130.0])))
    10.0
    """

    radius: Any
    half_thickness: Any

    def __post_init__(self):
        check_positive(self, "radius", "half_thickness")

    def distance(self, points: Points) -> Values:
        points, half = floats(points, self.half_thickness)
        return jnp.abs(Disc(self.radius).distance(points)) - half

    def measurements(self) -> dict[str, float]:
        r, h = float(self.radius), float(self.half_thickness)
        pi = math.pi
        return {
            "area": 2 * pi * r**2 + 2 * pi**2 * r * h + 4 * pi * h**2,
            "volume": 2 * pi * r**2 * h + pi**2 * r * h**2 + 4 / 3 * pi * h**3,
        }

    def bounding_radius(self) -> float:
        return float(self.radius) + float(self.half_thickness)


def shell_sizes(radius: float, opening: float, half: float) -> np.ndarray:
    """Return the area of two caps at ``radius +- half``, and the volume between them."""
    solid_angle = 2 * math.pi * (1 - math.cos(opening))
    outer, inner = radius + half, radius - half
    return solid_angle * np.array([outer**2 + inner**2, (outer**3 - inner**3) / 3])


def rim_sizes(radius: float, opening: float, half: float) -> np.ndarray:
    """Return the area and volume of the half tube around the edge of a cap (Pappus' theorems)."""
    out, outwards = radius * math.sin(opening), half * math.cos(opening)
    swept = 2 * math.pi**2 * half
    area = swept * (out + 2 / math.pi * outwards)
    return np.array([area, swept * half * (out / 2 + 2 / (3 * math.pi) * outwards)])


@register_pytree
@dataclasses.dataclass(frozen=True)
class Cup(Surface):
    """Models a bent sac as all points within `half_thickness` of a `Cap`.

    The origin is the pole of the cap. The faces are parts of spheres and the rim is half a tube,
    whose area and volume follow from Pappus' theorems.

    Attributes:
        radius: of the sphere that the middle of the sac follows; above `half_thickness`.
        opening: angle from the pole to the edge of the cap, radians.
        half_thickness: of the sac, and radius of its rim.
    """

    radius: Any
    opening: Any
    half_thickness: Any

    def __post_init__(self):
        check_positive(self, "radius", "opening", "half_thickness")

    def distance(self, points: Points) -> Values:
        points, half = floats(points, self.half_thickness)
        return jnp.abs(Cap(self.radius, self.opening).distance(points)) - half

    def measurements(self) -> dict[str, float]:
        numbers = float(self.radius), float(self.opening), float(self.half_thickness)
        area, volume = shell_sizes(*numbers) + rim_sizes(*numbers)
        return {"area": float(area), "volume": float(volume)}

    def bounding_radius(self) -> float:
        return Cap(self.radius, self.opening).bounding_radius() + float(self.half_thickness)
