"""Models gold beads, ice crystals and carbon films, which are labelled background."""

import abc
import dataclasses
import math
from typing import Any

import jax.numpy as jnp

from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Key, Number
from cryojax_seg.simulate.structures import Solid, Structure
from cryojax_seg.simulate.surfaces import Sphere, Surface, check_positive, floats, length
from cryojax_seg.simulate.types import BACKGROUND, Classes, Points, Values
from cryojax_seg.simulate.waves import random_waves, wave_field


class Marker(Structure):
    """Models a solid that is labelled background; a subclass gives its shape and density."""

    @abc.abstractmethod
    def solid(self) -> Solid:
        """Return its shape and density."""

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
    """Models a gold fiducial, which serves to align tilt series, as a ball.

    With the electron scattering factors at 0 angle of free atoms (Peng et al., Acta Cryst. A 52,
    257, 1996) the inner potentials are 30 V for gold, 4.5 V for vitreous ice and 7.9 V for protein,
    so the contrast of gold above ice is 7.5 times that of protein. Relative to the 2.5 V that this
    package assumes for protein above ice it is 10 times.

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
    """Models a ball whose radius varies with a random field; distances are of first order.

    Attributes:
        radius: mean radius, angstrom.
        roughness: approximate relative standard deviation of the radius, which varies by at most
            twice as much.
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
    """Models an irregular lump of crystalline ice, which is a contamination.

    Crystalline ice has nearly the inner potential of vitreous ice. It is dark in images because it
    scatters into Bragg peaks outside the aperture, which a density can only imitate. The default
    is a little above protein, because such lumps look like that.

    Attributes:
        boulder: its shape, a `Boulder`.
        level: density inside.

    >>> import jax
    >>> IceCrystal.random(jax.random.key(0), 400.0).bounding_radius()
    560.0
    """

    boulder: Any
    level: Any = 1.5

    @classmethod
    def random(
        cls, key: Key, radius: Number, roughness: Number = 0.15, level: Number = 1.5
    ) -> "IceCrystal":
        """Return a random lump of about this radius, in angstrom."""
        vectors, phases = random_waves(key, 2 * float(radius), 16, spread=0.3)
        return cls(Boulder(radius, roughness, vectors, phases), level)

    def solid(self) -> Solid:
        return Solid(self.boulder, BACKGROUND, self.level, edge=10.0)


@register_pytree
@dataclasses.dataclass(frozen=True)
class HoleyFilm(Surface):
    """Models a flat film around a round hole with a rough edge; distances are of first order.

    The film lies in the plane z = 0 and has no end outwards. The origin is the middle of the hole.

    Attributes:
        radius: of the hole, angstrom.
        thickness: of the film, angstrom.
        roughness: standard deviation of the position of the edge, angstrom.
        vectors: ``(count, 3)`` waves of the edge, radians per angstrom.
        phases: ``(count,)`` radians.
    """

    radius: Any
    thickness: Any
    roughness: Any
    vectors: Any
    phases: Any

    def distance(self, points: Points) -> Values:
        points, radius, thickness, roughness = floats(
            points, self.radius, self.thickness, self.roughness
        )
        field, _ = wave_field(points, *floats(points, self.vectors, self.phases)[1:])
        edge = radius - length(points[..., 1], points[..., 2]) + roughness * field
        return jnp.maximum(jnp.abs(points[..., 0]) - thickness / 2, edge)

    def measurements(self) -> dict[str, float]:
        return {}

    def bounding_radius(self) -> float:
        return math.inf


@register_pytree
@dataclasses.dataclass(frozen=True)
class CarbonFilm(Marker):
    """Models the carbon film of a support grid near a hole, where tomograms often show its edge.

    By the sum of free atoms (see `GoldBead`) amorphous carbon of 2.0 g/cm^3 has an inner potential
    of 12 V, which is 7.5 V above ice, or 2.2 times as much as protein.

    Attributes:
        film: its shape, a `HoleyFilm`.
        level: density inside.

    >>> import jax
    >>> film = CarbonFilm.random(jax.random.key(0), radius=5000.0, thickness=150.0)
    >>> [round(float(d), 1) for d in film.density(jnp.array([[0.0, 0, 9000], [0, 0, 0]]))]
    [2.2, 0.0]
    """

    film: Any
    level: Any = 2.2

    @classmethod
    def random(
        cls,
        key: Key,
        radius: Number,
        thickness: Number,
        roughness: Number = 30.0,
        level: Number = 2.2,
    ) -> "CarbonFilm":
        """Return a film with a hole of this radius, in angstrom, whose edge is random."""
        vectors, phases = random_waves(key, 300.0, 16, spread=0.3)
        return cls(HoleyFilm(radius, thickness, roughness, vectors, phases), level)

    def solid(self) -> Solid:
        return Solid(self.film, BACKGROUND, self.level, edge=8.0)
