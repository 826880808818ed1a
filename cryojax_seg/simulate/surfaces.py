"""Surfaces as signed distances, with their exact areas and volumes.

Closed ones are here, open sheets and the flat sacs made of them in `sheets`.
"""

import abc
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Bool

from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Array
from cryojax_seg.simulate.types import Points, Values


def floats(points: Points, *values):
    """Return the points and some leaves as JAX arrays of the points' dtype."""
    points = jnp.asarray(points)
    return points, *(jnp.asarray(v, points.dtype) for v in values)


def length(*components) -> Array:
    """Return the Euclidean length of a vector given by components; its gradient at 0 is 0."""
    squared = sum(jnp.square(c) for c in components)
    zero = squared < 1e-30
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squared)))


def check_positive(owner: object, *names: str) -> None:
    """Refuse Python numbers that are not above 0.

    All else passes: jax rebuilds pytrees with tracers, placeholders, tangents and differences.

    Raises:
        ValueError: naming the class and the field.
    """
    for name in names:
        value = getattr(owner, name)
        for number in value if isinstance(value, tuple | list) else (value,):
            if type(number) in (float, int) and not number > 0:
                raise ValueError(f"{type(owner).__name__}: {name} must be above 0, got {value}")


def unit_gradient(distance, points: Points) -> Points:
    """Return the normalised gradient of a function of points, 0 where it has none."""
    values, pull = jax.vjp(distance, points)
    (slope,) = pull(jnp.ones_like(values))
    squared = jnp.sum(jnp.square(slope), -1, keepdims=True)
    flat = squared < 1e-12
    return jnp.where(flat, 0.0, slope / jnp.sqrt(jnp.where(flat, 1.0, squared)))


class Surface(abc.ABC):
    """Abstract base of surfaces, in their own frame.

    Lengths are angstrom; points are ``(..., 3)`` zyx.

    Attributes:
        closed: whether the surface has an inside.

    >>> from cryojax_seg.simulate import Sphere
    >>> Sphere(50.0).distance(jnp.array([[0.0, 0.0, 70.0]])).tolist(), Sphere(50.0).closed
    ([20.0], True)
    """

    closed: bool = True

    @abc.abstractmethod
    def distance(self, points: Points) -> Values:
        """Return the signed distance in angstrom, negative inside.

        For an open surface the sign is positive on the side of its normal, and the magnitude is
        the distance to its nearest point, including the edge.
        """

    @abc.abstractmethod
    def measurements(self) -> dict[str, float]:
        """Return the exact "area" (A^2), "volume" (A^3) and "length" (A), as far as defined."""

    @abc.abstractmethod
    def bounding_radius(self) -> float:
        """Return the radius in angstrom of a ball around the origin that contains the surface."""

    def normal(self, points: Points) -> Points:
        """Return outward unit vectors along the gradient of the distance."""
        return unit_gradient(self.distance, points)

    def inside(self, points: Points) -> Bool[Array, "*n"]:
        """Return whether each point is enclosed; never for an open surface."""
        return (self.distance(points) < 0) & self.closed


@register_pytree
@dataclasses.dataclass(frozen=True)
class Sphere(Surface):
    """Models a sphere around the origin.

    >>> round(Sphere(100.0).measurements()["area"])
    125664
    """

    radius: Any

    def __post_init__(self):
        check_positive(self, "radius")

    def distance(self, points: Points) -> Values:
        points, radius = floats(points, self.radius)
        return length(points[..., 0], points[..., 1], points[..., 2]) - radius

    def measurements(self) -> dict[str, float]:
        r = float(self.radius)
        return {"area": 4 * math.pi * r**2, "volume": 4 / 3 * math.pi * r**3}

    def bounding_radius(self) -> float:
        return float(self.radius)


@register_pytree
@dataclasses.dataclass(frozen=True)
class Ellipsoid(Surface):
    """Models an ellipsoid with its axes along z, y and x, with exact distances.

    The point nearest to ``x`` is ``a_i^2 x_i / (a_i^2 + t)`` with ``t`` the largest root of
    ``sum (a_i x_i / (a_i^2 + t))^2 = 1`` (Eberly, "Distance from a point to an ellipse, an
    ellipsoid, or a hyperellipsoid", 2013). Newton's method on the reciprocal of the square root of
    that sum, which is concave in ``t``, climbs to the root from below in a few steps
    (More & Sorensen, SIAM J. Sci. Stat. Comput. 4, 553, 1983).

    Attributes:
        semi_axes: half the lengths along z, y, x; three numbers or an array of 3.

    >>> egg = Ellipsoid((100.0, 200.0, 300.0))
    >>> [round(float(d), 3) for d in egg.distance(jnp.array([[0.0, 0, 0], [0, 0, 310]]))]
    [-100.0, 10.0]
    """

    semi_axes: Any

    def __post_init__(self):
        check_positive(self, "semi_axes")

    def distance(self, points: Points) -> Values:
        points, axes = floats(points, self.semi_axes)
        smallest = jnp.min(axes)
        # By symmetry only absolute values matter. A small offset from each symmetry plane keeps the
        # root away from the pole of the sum, and changes the distance by no more than the offset.
        tiny = 1e-6 * jax.lax.stop_gradient(smallest)
        sizes = [jnp.maximum(jnp.abs(points[..., i]), tiny) for i in range(3)]
        # The unknown is s = t + min(a)^2 > 0, so that the smallest denominator has no cancellation.
        gaps = [jnp.square(axes[i]) - jnp.square(smallest) for i in range(3)]

        def newton(s):
            ratios = [axes[i] * sizes[i] / (gaps[i] + s) for i in range(3)]
            total = sum(r * r for r in ratios)
            slope = sum(ratios[i] * ratios[i] / (gaps[i] + s) for i in range(3))
            return s + (total * jnp.sqrt(total) - total) / slope

        lowest = (axes[i] * sizes[i] - gaps[i] for i in range(3))  # no term may exceed 1
        s = jnp.stack([*lowest, jnp.full_like(sizes[0], 1e-12) * smallest**2]).max(0)
        s = jax.lax.stop_gradient(s)
        for _ in range(8):
            s = jax.lax.stop_gradient(newton(s))
        # One Newton step from the root yields its first derivatives, and two yield its third.
        s = newton(newton(s))
        across = [sizes[i] / (gaps[i] + s) for i in range(3)]
        return (s - jnp.square(smallest)) * jnp.sqrt(sum(a * a for a in across))

    def measurements(self) -> dict[str, float]:
        a, b, c = (float(v) for v in np.asarray(self.semi_axes))
        # Carlson's symmetric form of the area: DLMF 19.33.1.
        area = 4 * math.pi * scipy.special.elliprg((a * b) ** 2, (a * c) ** 2, (b * c) ** 2)
        return {"area": float(area), "volume": 4 / 3 * math.pi * a * b * c}

    def bounding_radius(self) -> float:
        return max(float(v) for v in np.asarray(self.semi_axes))


@register_pytree
@dataclasses.dataclass(frozen=True)
class Torus(Surface):
    """Models a ring around the z axis.

    Attributes:
        radius: of the circle in the middle of the tube.
        tube_radius: of the tube; less than `radius`.

    >>> float(Torus(100.0, 30.0).distance(jnp.array([0.0, 0.0, 140.0])))
    10.0
    """

    radius: Any
    tube_radius: Any

    def __post_init__(self):
        check_positive(self, "radius", "tube_radius")
        numbers = self.radius, self.tube_radius
        if all(type(n) in (float, int) for n in numbers) and self.tube_radius >= self.radius:
            raise ValueError(f"Torus: tube_radius must be below the radius, got {numbers}")

    def distance(self, points: Points) -> Values:
        points, radius, tube = floats(points, self.radius, self.tube_radius)
        return length(length(points[..., 1], points[..., 2]) - radius, points[..., 0]) - tube

    def measurements(self) -> dict[str, float]:
        big, small = float(self.radius), float(self.tube_radius)
        return {"area": 4 * math.pi**2 * big * small, "volume": 2 * math.pi**2 * big * small**2}

    def bounding_radius(self) -> float:
        return float(self.radius) + float(self.tube_radius)
