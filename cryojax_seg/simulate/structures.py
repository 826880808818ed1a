"""Defines structures, which add density and class labels to signed distances."""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool

from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Array
from cryojax_seg.simulate.surfaces import Surface, check_positive, unit_gradient
from cryojax_seg.simulate.types import MACROMOLECULE, Classes, Points, Values

PROTEIN_VOLUME = 1.21  # A^3 per dalton: 0.73 cm^3/g (Harpaz et al., Structure 2, 641, 1994)


class Structure(abc.ABC):
    """Abstract base of structures, in their own frame.

    Lengths are angstrom; points are ``(..., 3)`` zyx.

    >>> from cryojax_seg.simulate import Solid, Sphere
    >>> ball = Solid(Sphere(50.0))
    >>> ball.distance(jnp.zeros((1, 3))).tolist(), round(ball.measurements()["volume"])
    ([-50.0], 523599)
    """

    @abc.abstractmethod
    def distance(self, points: Points) -> Values:
        """Return the signed distance in angstrom to the reference surface, negative inside."""

    @abc.abstractmethod
    def density(self, points: Points) -> Values:
        """Return the inner potential above ice, in units of that of solid protein."""

    @abc.abstractmethod
    def labels(self, points: Points) -> Classes:
        """Return int32 indices into `CLASSES`; 0 outside this structure."""

    @abc.abstractmethod
    def measurements(self) -> dict[str, float]:
        """Return the defined ones of "area" (A^2), "volume" (A^3) and "length" (A)."""

    @abc.abstractmethod
    def bounding_radius(self) -> float:
        """Return the radius in angstrom of a ball around the origin with all density and labels."""

    def excluded_volume(self, points: Points) -> Values:
        """Return the signed distance to the excluded volume, which includes the lumen."""
        return self.distance(points)

    def normal(self, points: Points) -> Points:
        """Return unit vectors along the gradient of the distance."""
        return unit_gradient(self.distance, points)

    def inside(self, points: Points) -> Bool[Array, "*n"]:
        """Return whether each point is on the negative side of the reference surface."""
        return self.distance(points) < 0


@register_pytree
@dataclasses.dataclass(frozen=True)
class Solid(Structure):
    """Fills a closed surface with uniform density, with a Gaussian-blurred edge.

    Attributes:
        surface: a closed `Surface`.
        label: index into `CLASSES` of its inside.
        level: density inside.
        edge: standard deviation of the blur of its edge, angstrom.

    >>> from cryojax_seg.simulate.surfaces import Sphere
    >>> ball = Solid(Sphere(50.0), level=2.0)
    >>> [round(float(d), 3) for d in ball.density(jnp.array([[0.0, 0, 0], [0, 0, 50], [0, 80, 0]]))]
    [2.0, 1.0, 0.0]
    """

    surface: Any
    label: int = dataclasses.field(default=MACROMOLECULE, metadata={"static": True})
    level: Any = 1.0
    edge: Any = 5.0

    def __post_init__(self):
        check_positive(self, "edge")
        if isinstance(self.surface, Surface) and not self.surface.closed:
            raise ValueError(f"Solid: {type(self.surface).__name__} is open and cannot be filled")

    def distance(self, points: Points) -> Values:
        return self.surface.distance(points)

    def density(self, points: Points) -> Values:
        distance = self.distance(points)
        level, edge = (jnp.asarray(v, distance.dtype) for v in (self.level, self.edge))
        return level / 2 * jax.scipy.special.erfc(distance / (edge * 2**0.5))

    def labels(self, points: Points) -> Classes:
        return jnp.where(self.distance(points) < 0, self.label, 0).astype(jnp.int32)

    def measurements(self) -> dict[str, float]:
        return self.surface.measurements()

    def bounding_radius(self) -> float:
        return self.surface.bounding_radius() + 4 * float(self.edge)
