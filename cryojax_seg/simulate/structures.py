"""What surfaces are made of: density and class labels around a signed distance."""

import abc

from jaxtyping import Bool

from cryojax_seg.core.types import Array
from cryojax_seg.simulate.surfaces import unit_gradient
from cryojax_seg.simulate.types import Classes, Points, Values


class Structure(abc.ABC):
    """Something that a tomogram shows, in its own frame: angstrom, points ``(..., 3)`` zyx."""

    @abc.abstractmethod
    def distance(self, points: Points) -> Values:
        """Signed distance in angstrom to the reference surface, negative inside."""

    @abc.abstractmethod
    def density(self, points: Points) -> Values:
        """Inner potential above that of ice, in units of that of protein."""

    @abc.abstractmethod
    def labels(self, points: Points) -> Classes:
        """int32 index into `CLASSES`; 0 where there is nothing of this structure."""

    @abc.abstractmethod
    def measurements(self) -> dict[str, float]:
        """Those of "area" (A^2), "volume" (A^3) and "length" (A) that it has."""

    @abc.abstractmethod
    def reach(self) -> float:
        """Radius in angstrom of a ball around the origin that holds all its density and labels."""

    def body(self, points: Points) -> Values:
        """Signed distance to all the room it takes up, its lumen included: nothing else fits."""
        return self.distance(points)

    def normal(self, points: Points) -> Points:
        """Unit vectors along the gradient of the distance."""
        return unit_gradient(self.distance, points)

    def inside(self, points: Points) -> Bool[Array, "*n"]:
        """Whether each point is on the negative side of the reference surface."""
        return self.distance(points) < 0
