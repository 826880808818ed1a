"""What a tomogram shows besides structures: gold beads and ice crystals, labelled background."""

import abc
import dataclasses
from typing import Any

import jax.numpy as jnp

from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Key
from cryojax_seg.simulate.structures import Solid, Structure
from cryojax_seg.simulate.surfaces import Sphere, Surface, check_positive, floats, length
from cryojax_seg.simulate.types import BACKGROUND, Classes, Points, Values
from cryojax_seg.simulate.waves import random_waves, wave_field


class Marker(Structure):
    """A solid of no class."""

    @abc.abstractmethod
    def solid(self) -> Solid:
        """Its shape and density."""

    def distance(self, points: Points) -> Values:
        return self.solid().distance(points)

    def density(self, points: Points) -> Values:
        return self.solid().density(points)

    def labels(self, points: Points) -> Classes:
        return jnp.full(jnp.shape(points)[:-1], BACKGROUND, jnp.int32)

    def measurements(self) -> dict[str, float]:
        return self.solid().measurements()

    def bounding_radius(self) -> float:
        return self.solid().bounding_radius()


@register_pytree
@dataclasses.dataclass(frozen=True)
class GoldBead(Marker):
    """A ball of gold, as added to align tilt series by.

    With the electron scattering factors at 0 angle of free atoms (Peng et al., Acta Cryst. A 52,
    257, 1996) gold has 30 V, vitreous ice 4.5 V and protein 7.9 V: gold's contrast above ice is 7.5
    times that of protein. Against the 2.5 V that stand for protein here it is 10 times.

    Attributes:
        radius: angstrom; beads are 30 to 75.
        level: density inside.

    >>> float(GoldBead(50.0).density(jnp.zeros(3)))
    10.0
    """

    radius: Any = 50.0
    level: Any = 10.0

    def __post_init__(self):
        check_positive(self, "radius")

    def solid(self) -> Solid:
        return Solid(Sphere(self.radius), BACKGROUND, self.level, edge=2.0)


@register_pytree
@dataclasses.dataclass(frozen=True)
class Boulder(Surface):
    """A ball whose radius varies with a random field; the distance is right to first order.

    Attributes:
        radius: mean, angstrom.
        roughness: relative standard deviation of the radius, about; it never exceeds twice that.
        vectors: ``(count, 3)`` waves of the field, radians per angstrom.
        phases: ``(count,)`` radians.
    """

    radius: Any
    roughness: Any
    vectors: Any
    phases: Any

    def distance(self, points: Points) -> Values:
        points, radius, roughness = floats(points, self.radius, self.roughness)
        field, slope = wave_field(points, *floats(points, self.vectors, self.phases)[1:])
        bounded = jnp.tanh(field / 2)
        amplitude = radius * roughness
        z, y, x = points[..., 0], points[..., 1], points[..., 2]
        r = length(z, y, x)
        height = r - radius - 2 * amplitude * bounded
        rate = amplitude * (1 - bounded * bounded)
        out = jnp.maximum(r, 1.0)
        slopes = z / out - rate * slope[0], y / out - rate * slope[1], x / out - rate * slope[2]
        return height / jnp.maximum(length(*slopes), 0.5)

    def measurements(self) -> dict[str, float]:
        return {}

    def bounding_radius(self) -> float:
        return float(self.radius) * (1 + 2 * float(self.roughness))


@register_pytree
@dataclasses.dataclass(frozen=True)
class IceCrystal(Marker):
    """An irregular lump of crystalline ice, a contamination.

    Crystalline ice has nearly the inner potential of vitreous ice. It is dark in images because it
    scatters into Bragg peaks outside the aperture, which a density can only imitate: the default
    is a little above protein, as such lumps look.

    Attributes:
        boulder: its shape.
        level: density inside.

    >>> import jax
    >>> IceCrystal.random(jax.random.key(0), 400.0).bounding_radius()
    560.0
    """

    boulder: Any
    level: Any = 1.5

    @classmethod
    def random(
        cls, key: Key, radius: float, roughness: float = 0.15, level: float = 1.5
    ) -> "IceCrystal":
        """A lump of about this radius (angstrom) from a key."""
        vectors, phases = random_waves(key, 2 * radius, 16, spread=0.3)
        return cls(Boulder(radius, roughness, vectors, phases), level)

    def solid(self) -> Solid:
        return Solid(self.boulder, BACKGROUND, self.level, edge=10.0)
