"""Models mitochondria, Golgi stacks and nuclear envelopes."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Array
from cryojax_seg.simulate.membranes import Membrane
from cryojax_seg.simulate.sheets import Cap, Cup, rim_sizes, shell_sizes
from cryojax_seg.simulate.surfaces import Ellipsoid, check_positive, floats, length
from cryojax_seg.simulate.types import Points, Values


def rounded_max(a: Array, b: Array, radius) -> Array:
    """Return the signed distance to the intersection of two bodies, with rounded edges.

    It is exact where the surfaces of the bodies are perpendicular.
    """
    corner = length(jnp.maximum(a + radius, 0.0), jnp.maximum(b + radius, 0.0))
    return jnp.minimum(jnp.maximum(a, b), -radius) + corner


@register_pytree
@dataclasses.dataclass(frozen=True)
class Mitochondrion(Membrane):
    """Models a mitochondrion, whose inner membrane folds into flat cristae from both sides.

    The outer membrane is an ellipsoid. The inner membrane bounds the matrix, which is the volume
    more than `gap` inside the outer membrane and outside the cristae. A crista is a slab
    perpendicular to y with a round tip. Cristae enter alternately at -x and +x and open to the
    intermembrane space at their mouths and sides. The distance is negative in the intermembrane
    space and in the cristae.

    The outer membrane with its area and volume (the reported ones) is exact, and so are distances
    to a single face. Where the inner membrane and cristae meet obliquely, the rounded edge is
    approximate.

    Attributes:
        semi_axes: of the outer membrane along z, y, x, angstrom.
        gap: between the middles of outer and inner membrane, angstrom; about 200.
        cristae: number of cristae.
        crista_width: between the middles of a crista's two membranes, angstrom; about 200.
        crista_length: length of a crista relative to the width of the matrix, 0 to 1.
        matrix: density of the matrix, which is crowded with protein; `lumen` is that between the
            membranes.
    """

    semi_axes: Any = (900.0, 1800.0, 900.0)
    gap: Any = 180.0
    cristae: int = dataclasses.field(default=5, metadata={"static": True})
    crista_width: Any = 180.0
    crista_length: Any = 0.75
    matrix: Any = 0.15

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "semi_axes", "gap", "crista_width", "crista_length")

    def _depths(self, points: Points) -> tuple[Values, Values]:
        """Return the signed distances to the outer membrane and to the matrix."""
        points, axes, gap, width, crossing = floats(
            points, self.semi_axes, self.gap, self.crista_width, self.crista_length
        )
        outer = Ellipsoid(axes).distance(points)
        y, x = points[..., 1], points[..., 2]
        matrix = outer + gap
        for k in range(self.cristae):
            middle = (axes[1] - gap) * (2 * (k + 0.5) / self.cristae - 1)
            # The tip crosses the chord of the ellipse at the crista's middle.
            chord = axes[2] * jnp.sqrt(1 - jnp.square(middle / axes[1])) - gap
            side = x if k % 2 else -x
            before_tip = jnp.maximum(chord * (1 - 2 * crossing) - side, 0.0)
            slab = length(y - middle, before_tip) - width / 2
            matrix = rounded_max(matrix, -slab, width / 4)
        return outer, matrix

    def distance(self, points: Points) -> Values:
        outer, matrix = self._depths(points)
        return jnp.maximum(outer, -matrix)

    def envelope(self, points: Points) -> Values:
        return Ellipsoid(self.semi_axes).distance(points)

    def filling(self, points: Points) -> Values:
        _, matrix = self._depths(points)
        level, sigma, half = (
            jnp.asarray(v, matrix.dtype)
            for v in (self.matrix, self.leaflet_sigma, self.thickness / 2)
        )
        return super().filling(points) + level * jax.nn.sigmoid(-(matrix + half) / sigma)

    def measurements(self) -> dict[str, float]:
        return Ellipsoid(self.semi_axes).measurements()

    def bounding_radius(self) -> float:
        return Ellipsoid(self.semi_axes).bounding_radius() + self._margin()


@register_pytree
@dataclasses.dataclass(frozen=True)
class GolgiStack(Membrane):
    """Models a Golgi stack: flat sacs of equal size, stacked along z and bent about one centre.

    Sac ``k`` is a `Cup` whose middle is at ``z = (k - (count - 1)/2) spacing`` on the axis, its
    centre of curvature at ``z = -bend``. Distances, areas and volumes are exact.

    Attributes:
        radius: of a sac from its pole to its edge, along the middle, angstrom.
        count: how many sacs.
        spacing: between the middles of neighbours, angstrom.
        half_thickness: of a sac, to the middle of its membrane, angstrom.
        bend: radius of curvature of the stack, angstrom.

    >>> stack = GolgiStack(radius=1000.0, count=3)
    >>> float(stack.distance(jnp.zeros(3)))
    -75.0
    """

    radius: Any = 1500.0
    count: int = dataclasses.field(default=5, metadata={"static": True})
    spacing: Any = 260.0
    half_thickness: Any = 75.0
    bend: Any = 6000.0

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "radius", "count", "spacing", "half_thickness", "bend")
        numbers = self.spacing, self.half_thickness
        if all(type(n) in (float, int) for n in numbers) and self.spacing <= 2 * numbers[1]:
            raise ValueError(
                f"GolgiStack: spacing must be above twice the half_thickness, got {numbers}"
            )

    def _sacs(self, radius, spacing, half_thickness, bend):
        for k in range(self.count):
            height = (k - (self.count - 1) / 2) * spacing
            yield height, Cup(bend + height, radius / (bend + height), half_thickness)

    def distance(self, points: Points) -> Values:
        points, *numbers = floats(points, self.radius, self.spacing, self.half_thickness, self.bend)
        y, x = points[..., 1], points[..., 2]
        distances = [
            sac.distance(jnp.stack([points[..., 0] - height, y, x], -1))
            for height, sac in self._sacs(*numbers)
        ]
        return jnp.stack(distances).min(0)

    def envelope(self, points: Points) -> Values:
        return self.distance(points)

    def measurements(self) -> dict[str, float]:
        numbers = self.radius, self.spacing, self.half_thickness, self.bend
        each = [sac.measurements() for _, sac in self._sacs(*(float(n) for n in numbers))]
        return {name: sum(one[name] for one in each) for name in ("area", "volume")}

    def bounding_radius(self) -> float:
        numbers = self.radius, self.spacing, self.half_thickness, self.bend
        sacs = list(self._sacs(*(float(n) for n in numbers)))
        return max(abs(height) + sac.bounding_radius() for height, sac in sacs) + self._margin()


@register_pytree
@dataclasses.dataclass(frozen=True)
class NuclearEnvelope(Membrane):
    """Models a patch of the nuclear envelope: two parallel membranes that fuse around round pores.

    The origin is the pole of the patch. The lumen between the membranes is the volume within half a
    `width` of a spherical sheet (a `Cap`) with round holes, so that the rim of a pore is half a
    torus; the edge of the patch is closed in the same way. Distances, area and volume are exact as
    long as pores touch neither each other nor the edge. The distance is negative between the
    membranes.

    Attributes:
        radius: of the nucleus, halfway between the membranes, angstrom.
        opening: angle from the pole to the edge of the patch, radians; pi for the whole envelope.
        pores: ``(n, 2)`` positions (y, x) of the centres of pores, measured along the sheet in
            angstrom from the pole; None for no pores.
        pore_radius: to the membrane at the waist of a pore, angstrom; about 450.
        width: between the middles of the two membranes, angstrom; 200 to 400.
    """

    radius: Any = 20000.0
    opening: Any = 0.1
    pores: Any = None
    pore_radius: Any = 450.0
    width: Any = 280.0

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "radius", "opening", "pore_radius", "width")

    def distance(self, points: Points) -> Values:
        points, radius, opening, width, pore_radius = floats(
            points, self.radius, self.opening, self.width, self.pore_radius
        )
        sheet = jnp.abs(Cap(radius, opening).distance(points))
        up, y, x = points[..., 0] + radius, points[..., 1], points[..., 2]
        # Half the angle that the hole subtends at the centre: the waist plus half a torus.
        hole = (pore_radius + width / 2) / radius
        for place in [] if self.pores is None else floats(points, self.pores)[1]:
            angle = length(place[0], place[1]) / radius
            sine = jnp.sinc(angle / math.pi) / radius
            axis = (jnp.cos(angle), sine * place[0], sine * place[1])
            along = axis[0] * up + axis[1] * y + axis[2] * x
            across = length(up - along * axis[0], y - along * axis[1], x - along * axis[2])
            to_rim = length(along - radius * jnp.cos(hole), across - radius * jnp.sin(hole))
            within = along * jnp.sin(hole) > across * jnp.cos(hole)
            sheet = jnp.where(within, to_rim, sheet)
        return sheet - width / 2

    def envelope(self, points: Points) -> Values:
        return self.distance(points)

    def measurements(self) -> dict[str, float]:
        radius, half = float(self.radius), float(self.width) / 2
        opening = min(float(self.opening), math.pi)
        sizes = shell_sizes(radius, opening, half)
        if opening < math.pi:
            sizes = sizes + rim_sizes(radius, opening, half)
        hole = (float(self.pore_radius) + half) / radius
        # The rim of a hole is the rim of the sheet around it, which is the rest of the sphere.
        pore = rim_sizes(radius, math.pi - hole, half) - shell_sizes(radius, hole, half)
        count = 0 if self.pores is None else len(self.pores)
        area, volume = sizes + count * pore
        return {"area": float(area), "volume": float(volume)}

    def bounding_radius(self) -> float:
        return Cup(self.radius, self.opening, self.width / 2).bounding_radius() + self._margin()
