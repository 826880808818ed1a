"""Models cytoskeletal filaments that are straight or curved as an arc.

A filament runs along y with its middle at the origin; a positive curvature bends it towards +x.
Azimuths around it increase by the right-hand rule about y, from z to x.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Array
from cryojax_seg.simulate.arcs import (
    arc_coordinates,
    bent_bounding_radius,
    hexagonal,
    presence,
    rod,
    subunit_peak,
)
from cryojax_seg.simulate.structures import Structure
from cryojax_seg.simulate.surfaces import check_positive, floats, length
from cryojax_seg.simulate.types import ACTIN, MICROTUBULE, Classes, Points, Values


@register_pytree
@dataclasses.dataclass(frozen=True)
class Microtubule(Structure):
    """Models a microtubule as tubulin monomers on the B lattice, with its seam.

    Neighbouring protofilaments are 51.5 angstrom apart, which sets the radius of the wall (107
    angstrom for 13). One left-handed turn around the tube rises by three monomers (Wade, Chretien &
    Job, J. Mol. Biol. 212, 775, 1990). Monomers alternate between alpha and beta tubulin along a
    protofilament; because three is odd, this alternation breaks at one seam. A monomer is a
    Gaussian with the integral of 50 kDa of protein, so that the wall is 40 angstrom wide at half
    its height. The density at a point is the sum of the nearest 3 x 3 monomers; all others are more
    than 4.5 standard deviations away.

    The distance is to the cylinder through the middle of the wall, negative in the lumen. Beyond
    the open ends it is the positive distance to their rims (to first order if curved). The lumen is
    labelled background, but belongs to `excluded_volume`.

    Attributes:
        length: along the axis, angstrom.
        curvature: of the axis, per angstrom.
        protofilaments: number of protofilaments; 13 in cells, 14 in many preparations.
        monomer: rise of a monomer along its protofilament, angstrom.
        contrast: half the relative difference between alpha and beta tubulin.
        widths: standard deviations of a monomer, radially, around and along the tube, angstrom.
        wall: half the width of the wall that is labelled, angstrom.

    >>> tube = Microtubule(1000.0)
    >>> round(tube.radius, 1), tube.labels(jnp.array([[107.0, 0, 0], [0, 0, 0]])).tolist()
    (106.6, [3, 0])
    """

    length: Any
    curvature: Any = 0.0
    protofilaments: Any = 13.0
    monomer: Any = 41.0
    contrast: Any = 0.1
    widths: Any = (17.0, 15.0, 13.0)
    wall: Any = 20.0

    def __post_init__(self):
        check_positive(self, "length", "protofilaments", "monomer", "widths", "wall")
        if isinstance(self.protofilaments, int):  # a leaf that is differentiated must be a float
            object.__setattr__(self, "protofilaments", float(self.protofilaments))

    @property
    def radius(self) -> Any:
        """Return the radius of the middle of the wall, angstrom."""
        return self.protofilaments * 51.5 / (2 * math.pi)

    def distance(self, points: Points) -> Values:
        points, extent = floats(points, self.length)
        s, z, u = arc_coordinates(points, self.curvature)
        off = length(z, u) - jnp.asarray(self.radius, s.dtype)
        beyond = jnp.abs(s) - extent / 2
        away = length(off, jnp.maximum(beyond, 0.0))
        return jnp.where(beyond > 0, away, off)

    def density(self, points: Points) -> Values:
        points, extent, monomer, contrast, widths, curvature = floats(
            points, self.length, self.monomer, self.contrast, self.widths, self.curvature
        )
        s, z, u = arc_coordinates(points, curvature)
        count, stop = jnp.asarray(self.protofilaments, s.dtype), jax.lax.stop_gradient
        radius = jnp.asarray(self.radius, s.dtype)
        spacing = 2 * math.pi / count
        nearest = jnp.round(jnp.arctan2(stop(u), stop(z)) / spacing)
        total = jnp.zeros_like(s)
        for j in (nearest - 1, nearest, nearest + 1):
            # The lattice is left-handed: it descends as the azimuth grows, up to the seam.
            start = -jnp.mod(j, count) * (3 / count)
            sine, cosine = jnp.sin(j * spacing), jnp.cos(j * spacing)
            radial = (z * cosine + u * sine - radius) / widths[0]
            around = (u * cosine - z * sine) / widths[1]
            across = jnp.exp(-(radial * radial + around * around) / 2)
            middle = jnp.round(stop(s / monomer) - start)
            for m in (middle - 1, middle, middle + 1):
                place = (m + start) * monomer
                along = (s - place) * (1 - curvature * u) / widths[2]
                kind = 1 + contrast * (1 - 2 * jnp.mod(m, 2.0))
                there = presence(place, extent, monomer)
                total = total + kind * there * across * jnp.exp(-along * along / 2)
        return subunit_peak(50.0, (widths[0], widths[1], widths[2])) * total

    def labels(self, points: Points) -> Classes:
        distance = self.distance(points)
        wall = jnp.abs(distance) <= jnp.asarray(self.wall, distance.dtype)
        return jnp.where(wall, MICROTUBULE, 0).astype(jnp.int32)

    def excluded_volume(self, points: Points) -> Values:
        points, extent, wall = floats(points, self.length, self.wall)
        s, z, u = arc_coordinates(points, self.curvature)
        radius = jnp.asarray(self.radius, s.dtype)
        return rod(s, length(z, u), extent + 2 * wall, radius + wall)

    def measurements(self) -> dict[str, float]:
        extent = float(self.length)
        return {"length": extent, "area": 2 * math.pi * float(self.radius) * extent}

    def bounding_radius(self) -> float:
        radial, _, along = (float(w) for w in np.asarray(self.widths))
        return bent_bounding_radius(
            float(self.length) + float(self.monomer) + 8 * along,
            float(self.radius) + 4 * radial,
            float(self.curvature),
        )


@register_pytree
@dataclasses.dataclass(frozen=True)
class ActinHelix:
    """Models the helix of F-actin, with a rise of 27.6 angstrom and a twist of -166.7 degrees.

    The helix looks like two strands that cross every 36 nm (Holmes et al., Nature 347, 44, 1990;
    Fujii et al., Nature 467, 724, 2010). A subunit is a Gaussian with the integral of 42 kDa of
    protein.

    Attributes:
        rise: angstrom per subunit.
        twist: degrees per subunit.
        offset: distance of a subunit's centre from the axis, angstrom.
        sigma: standard deviation of a subunit, angstrom.
        radius: of the filament as labelled, angstrom.
    """

    rise: Any = 27.6
    twist: Any = -166.7
    offset: Any = 16.0
    sigma: Any = 15.0
    radius: Any = 35.0

    def __post_init__(self):
        check_positive(self, "rise", "offset", "sigma", "radius")

    def density(self, arc: tuple, extent, phase: Any = 0.0) -> Array:
        """Return the density at arc coordinates (s, z, u) of a filament.

        It is the sum of the nearest 5 subunits; all others are more than 4.5 standard deviations
        away.

        Args:
            arc: see `arc_coordinates`.
            extent: length of the filament, angstrom.
            phase: shift along the axis in subunits, and rotation about it in turns.
        """
        s, z, u = arc
        rise, twist, offset, sigma = (
            jnp.asarray(v, s.dtype) for v in (self.rise, self.twist, self.offset, self.sigma)
        )
        nearest = jnp.round(jax.lax.stop_gradient(s / rise) - phase)
        total = jnp.zeros_like(s)
        for k in range(-2, 3):
            place = (nearest + k + phase) * rise
            azimuth = jnp.deg2rad((nearest + k) * twist) + 2 * math.pi * phase
            squared = jnp.square(s - place) + jnp.square(z - offset * jnp.cos(azimuth))
            squared = squared + jnp.square(u - offset * jnp.sin(azimuth))
            total += presence(place, extent, rise) * jnp.exp(-squared / (2 * sigma * sigma))
        return subunit_peak(42.0, (sigma, sigma, sigma)) * total

    def distance(self, arc: tuple, extent) -> Array:
        """Return the signed distance to a round-ended tube of `radius` around the axis."""
        s, z, u = arc
        beyond = jnp.maximum(jnp.abs(s) - extent / 2, 0.0)
        return length(beyond, z, u) - jnp.asarray(self.radius, s.dtype)

    def bounding_radius(self, extent: float, aside: float, curvature: float) -> float:
        """Return the bounding radius of a filament whose axis is offset by `aside` from the arc."""
        tail = 4 * float(self.sigma)
        across = aside + max(float(self.radius), float(self.offset) + tail)
        ends = 2 * max(float(self.radius), tail + float(self.rise) / 2)
        return bent_bounding_radius(extent + ends, across, curvature)


@register_pytree
@dataclasses.dataclass(frozen=True)
class ActinFilament(Structure):
    """Models one actin filament. The distance is to a tube around it, negative inside.

    Attributes:
        length: along the axis, angstrom.
        curvature: of the axis, per angstrom.
        helix: the helix of its subunits.

    >>> ActinFilament(2000.0).labels(jnp.array([[0.0, 0, 0], [0, 0, 40]])).tolist()
    [4, 0]
    """

    length: Any
    curvature: Any = 0.0
    helix: Any = ActinHelix()

    def __post_init__(self):
        check_positive(self, "length")

    def distance(self, points: Points) -> Values:
        points, extent = floats(points, self.length)
        return self.helix.distance(arc_coordinates(points, self.curvature), extent)

    def density(self, points: Points) -> Values:
        points, extent = floats(points, self.length)
        return self.helix.density(arc_coordinates(points, self.curvature), extent)

    def labels(self, points: Points) -> Classes:
        return jnp.where(self.distance(points) <= 0, ACTIN, 0).astype(jnp.int32)

    def measurements(self) -> dict[str, float]:
        return {"length": float(self.length)}

    def bounding_radius(self) -> float:
        return self.helix.bounding_radius(float(self.length), 0.0, float(self.curvature))


@register_pytree
@dataclasses.dataclass(frozen=True)
class ActinBundle(Structure):
    """Models parallel actin filaments in hexagonal packing, each with its own helical phase.

    Attributes:
        length: along the middle of the bundle, angstrom.
        curvature: of the middle, per angstrom.
        count: number of filaments, filled from the middle outwards; 7, 19, ... make hexagons.
        spacing: between neighbours, angstrom; 120 as in bundles of fascin.
        helix: the helix of each filament.

    >>> ActinBundle(2000.0, count=7).measurements()
    {'length': 14000.0}
    """

    length: Any
    curvature: Any = 0.0
    count: int = dataclasses.field(default=7, metadata={"static": True})
    spacing: Any = 120.0
    helix: Any = ActinHelix()

    def __post_init__(self):
        check_positive(self, "length", "count", "spacing")

    def _over_filaments(self, points: Points, combine, start: float) -> Values:
        """Reduce ``combine(total, arc, extent, k)`` over filaments, each in its coordinates."""
        points, curvature, spacing, extent, places = floats(
            points, self.curvature, self.spacing, self.length, hexagonal(self.count)
        )
        s, z, u = arc_coordinates(points, curvature)

        @jax.checkpoint
        def step(total, filament):
            (row, column), k = filament
            stretch = 1 - curvature * spacing * column  # inner filaments are shorter
            arc = s * stretch, z - spacing * row, u - spacing * column
            return combine(total, arc, extent * stretch, k), None

        filaments = ((places[:, 0], places[:, 1]), jnp.arange(self.count, dtype=points.dtype))
        return jax.lax.scan(step, jnp.full_like(s, start), filaments)[0]

    def distance(self, points: Points) -> Values:
        def nearest(total, arc, extent, k):
            return jnp.minimum(total, self.helix.distance(arc, extent))

        return self._over_filaments(points, nearest, jnp.inf)

    def density(self, points: Points) -> Values:
        golden = (math.sqrt(5) - 1) / 2

        def add(total, arc, extent, k):
            return total + self.helix.density(arc, extent, jnp.mod(k * golden, 1.0))

        return self._over_filaments(points, add, 0.0)

    def labels(self, points: Points) -> Classes:
        return jnp.where(self.distance(points) <= 0, ACTIN, 0).astype(jnp.int32)

    def measurements(self) -> dict[str, float]:
        """Return the total length of its filaments."""
        aside = float(self.curvature) * float(self.spacing) * hexagonal(self.count)[:, 1]
        return {"length": float(self.length) * float((1 - aside).sum())}

    def bounding_radius(self) -> float:
        aside = float(self.spacing) * float(np.linalg.norm(hexagonal(self.count), axis=1).max())
        return self.helix.bounding_radius(float(self.length), aside, float(self.curvature))
