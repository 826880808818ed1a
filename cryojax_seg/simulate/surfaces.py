"""Surfaces as signed distances, with their exact areas and volumes."""

import abc

import jax
import jax.numpy as jnp
from jaxtyping import Bool

from cryojax_seg.core.types import Array
from cryojax_seg.simulate.types import Points, Values


def unit_gradient(distance, points: Points) -> Points:
    """The normalised gradient of a function of points, 0 where it has none."""
    values, pull = jax.vjp(distance, points)
    (slope,) = pull(jnp.ones_like(values))
    squared = jnp.sum(jnp.square(slope), -1, keepdims=True)
    flat = squared < 1e-12
    return jnp.where(flat, 0.0, slope / jnp.sqrt(jnp.where(flat, 1.0, squared)))


class Surface(abc.ABC):
    """Pure geometry in its own frame: angstrom, points ``(..., 3)`` in zyx order.

    Attributes:
        closed: whether it has an inside.
    """

    closed: bool = True

    @abc.abstractmethod
    def distance(self, points: Points) -> Values:
        """Signed distance in angstrom, negative inside.

        For an open surface the sign says which side of it (positive where its normal points) and
        the size is the distance to its nearest point, edge included.
        """

    @abc.abstractmethod
    def measurements(self) -> dict[str, float]:
        """Those of "area" (A^2), "volume" (A^3) and "length" (A) that it has, exactly."""

    @abc.abstractmethod
    def reach(self) -> float:
        """Radius in angstrom of a ball around the origin that holds the surface."""

    def normal(self, points: Points) -> Points:
        """Unit vectors along the gradient of the distance, outwards."""
        return unit_gradient(self.distance, points)

    def inside(self, points: Points) -> Bool[Array, "*n"]:
        """Whether each point is enclosed; nowhere for an open surface."""
        return (self.distance(points) < 0) & self.closed
