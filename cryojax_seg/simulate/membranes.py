"""Models lipid bilayers on any surface, as two layers of head groups with tails between them."""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.simulate.structures import Structure
from cryojax_seg.simulate.surfaces import check_positive
from cryojax_seg.simulate.types import LUMEN, MEMBRANE, Classes, Points, Values


@register_pytree
@dataclasses.dataclass(frozen=True, kw_only=True)
class Membrane(Structure):
    """Models a lipid bilayer whose middle is where a signed distance is 0.

    The density depends on the distance alone: head groups are Gaussians at ``+-thickness/2`` and
    the tails are a Gaussian in the middle. The defaults follow from free atoms (electron scattering
    factors at 0 angle of Peng et al., Acta Cryst. A 52, 257, 1996; volumes of Nagle &
    Tristram-Nagle, Biochim. Biophys. Acta 1469, 159, 2000). These give inner potentials of 8.4 V in
    a phosphatidylcholine head (331 A^3), 3.6 V at the ends of the tails (CH3, 54 A^3), 4.5 V in
    vitreous ice and 7.9 V in protein, so that above ice heads have 1.1 times and tails -0.3 times
    the potential of protein. Water between the heads lowers their density to 1.

    Labels are MEMBRANE where the distance is at most ``thickness/2 + leaflet_sigma``, where the
    head groups have fallen to 0.6 of their peak, and LUMEN elsewhere in the enclosed volume.

    Attributes:
        thickness: between the centres of the two layers of head groups, angstrom; 25 to 35.
        leaflet_sigma: standard deviation of a layer of head groups, angstrom.
        heads: peak density of the head groups.
        tails: density added in the middle, over a standard deviation of ``thickness/6``.
        lumen: density of the enclosed volume above that outside; open sheets enclose none.
    """

    thickness: Any = 30.0
    leaflet_sigma: Any = 5.0
    heads: Any = 1.0
    tails: Any = -0.3
    lumen: Any = 0.0

    def __post_init__(self):
        check_positive(self, "thickness", "leaflet_sigma")

    @abc.abstractmethod
    def envelope(self, points: Points) -> Values:
        """Return the signed distance to the enclosed volume, positive if nothing is enclosed."""

    def filling(self, points: Points) -> Values:
        """Return the density of the enclosed volume above that of ice."""
        depth = jnp.maximum(self.distance(points), self.envelope(points))
        lumen, sigma, half = (
            jnp.asarray(v, depth.dtype)
            for v in (self.lumen, self.leaflet_sigma, self.thickness / 2)
        )
        return lumen / 2 * jax.scipy.special.erfc((depth + half) / (sigma * 2**0.5))

    def wall(self, points: Points) -> Values:
        """Return the signed distance to the lipids, which excludes the lumen."""
        distance = jnp.abs(self.distance(points))
        return distance - jnp.asarray(self._half(), distance.dtype)

    def density(self, points: Points) -> Values:
        distance = self.distance(points)
        thickness, sigma, heads, tails = (
            jnp.asarray(v, distance.dtype)
            for v in (self.thickness, self.leaflet_sigma, self.heads, self.tails)
        )

        def peak(offset, width):
            return jnp.exp(-jnp.square((distance - offset) / width) / 2)

        leaflets = peak(thickness / 2, sigma) + peak(-thickness / 2, sigma)
        return heads * leaflets + tails * peak(0.0, thickness / 6) + self.filling(points)

    def labels(self, points: Points) -> Classes:
        lumen = jnp.where(self.envelope(points) < 0, LUMEN, 0)
        return jnp.where(self.wall(points) <= 0, MEMBRANE, lumen).astype(jnp.int32)

    def excluded_volume(self, points: Points) -> Values:
        room = jnp.minimum(self.envelope(points), jnp.abs(self.distance(points)))
        return room - jnp.asarray(self._half(), room.dtype)

    def _half(self):
        return self.thickness / 2 + self.leaflet_sigma

    def _margin(self) -> float:
        """Return the distance by which the density extends beyond the mid-surface."""
        return float(self.thickness) / 2 + 4 * float(self.leaflet_sigma)


@register_pytree
@dataclasses.dataclass(frozen=True)
class Bilayer(Membrane):
    """Models one bilayer whose middle is a surface; open sheets get a rounded, closed edge.

    Attributes:
        surface: any `Surface`.

    >>> from cryojax_seg.simulate.surfaces import Sphere
    >>> vesicle = Bilayer(Sphere(300.0), thickness=32.0)
    >>> points = jnp.array([[0.0, 0, 0], [0, 0, 284], [0, 0, 300], [0, 0, 316], [0, 0, 400]])
    >>> [round(float(v), 1) for v in vesicle.density(points)]
    [0.0, 1.0, -0.3, 1.0, 0.0]
    >>> vesicle.labels(points).tolist()
    [2, 1, 1, 1, 0]
    """

    surface: Any

    def distance(self, points: Points) -> Values:
        return self.surface.distance(points)

    def envelope(self, points: Points) -> Values:
        distance = self.surface.distance(points)
        return distance if self.surface.closed else jnp.abs(distance)

    def measurements(self) -> dict[str, float]:
        return self.surface.measurements()

    def bounding_radius(self) -> float:
        return self.surface.bounding_radius() + self._margin()
