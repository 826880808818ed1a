"""Models macromolecular complexes as mixtures of Gaussians."""

import dataclasses
import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Array
from cryojax_seg.simulate.structures import PROTEIN_VOLUME, Structure
from cryojax_seg.simulate.surfaces import check_positive, floats, length
from cryojax_seg.simulate.types import MACROMOLECULE, Classes, Points, Values


@register_pytree
@dataclasses.dataclass(frozen=True)
class GaussianComplex(Structure):
    """Models a complex as Gaussians of one width; its envelope is where their sum equals a level.

    The distance to the envelope is ``r - sqrt(r^2 - q)``, with
    ``q = 2 sigma^2 log(level / density)`` and r the distance to the mean of the centres, weighted
    by their shares in the density at the point. It is exact where one Gaussian dominates, and of
    first order near the envelope. With the root mean square distance to the centres as r the same
    formula gives a smaller value, which is `excluded_volume`; the distance is kept below 1.5 times
    this value.

    Attributes:
        centres: ``(n, 3)`` angstrom, zyx.
        weights: ``(n,)`` peak densities, above 0.
        sigma: standard deviation, angstrom.
        level: density at the envelope.

    >>> ball = GaussianComplex(np.zeros((1, 3)), np.ones(1), sigma=20.0, level=math.exp(-2))
    >>> round(float(ball.distance(jnp.array([0.0, 0.0, 50.0]))), 3)
    10.0
    """

    centres: Any
    weights: Any
    sigma: Any
    level: Any = 0.4

    def __post_init__(self):
        check_positive(self, "sigma", "level")

    def _logs(self, points: Points) -> tuple[Array, Array]:
        """Return the logarithms of the Gaussians (last axis) and the squared distances."""
        points, centres, weights, sigma = floats(points, self.centres, self.weights, self.sigma)
        lead = tuple(range(points.ndim - 1))
        z, y, x = (points[..., i, None] - jnp.expand_dims(centres[:, i], lead) for i in range(3))
        squared = z * z + y * y + x * x
        return jnp.expand_dims(jnp.log(weights), lead) - squared / (2 * sigma * sigma), squared

    def density(self, points: Points) -> Values:
        logs, _ = self._logs(points)
        return jnp.sum(jnp.exp(logs), -1)

    def _distances(self, points: Points) -> tuple[Values, Values]:
        """Return distances by the mean centre, and by the root mean square distance to centres."""
        points, centres, sigma, level = floats(points, self.centres, self.sigma, self.level)
        logs, squared = self._logs(points)
        excess = jnp.log(level) - jax.scipy.special.logsumexp(logs, axis=-1)
        excess = 2 * sigma * sigma * excess
        shares = jax.nn.softmax(logs, -1)
        offset = points - shares @ centres

        def to_level(r):
            return excess / (r + jnp.sqrt(jnp.maximum(r * r - excess, 1e-3)))

        to_mean = length(offset[..., 0], offset[..., 1], offset[..., 2])
        return to_level(to_mean), to_level(jnp.sqrt(jnp.sum(shares * squared, -1) + 1e-6))

    def distance(self, points: Points) -> Values:
        first_order, least = self._distances(points)
        return jnp.where(first_order > 0, jnp.minimum(first_order, 1.5 * least), first_order)

    def excluded_volume(self, points: Points) -> Values:
        return jnp.minimum(*self._distances(points))

    def labels(self, points: Points) -> Classes:
        points, level = floats(points, self.level)
        return jnp.where(self.density(points) > level, MACROMOLECULE, 0).astype(jnp.int32)

    def integral(self) -> float:
        """Return the exact integral of the density, in A^3 of solid protein."""
        sigma = float(self.sigma)
        return (2 * math.pi) ** 1.5 * sigma**3 * float(np.asarray(self.weights).sum())

    @functools.cached_property
    def _volume(self) -> float:
        centres, sigma = np.asarray(self.centres, np.float32), float(self.sigma)
        axis = np.arange(
            -self.bounding_radius(), self.bounding_radius(), sigma / 4, dtype=np.float32
        )
        # A Gaussian is a product over the axes, so the sum over centres is a matrix product.
        z, y, x = np.exp(-np.square((axis - centres.T[..., None]) / sigma) / 2)
        weighted = (z * np.asarray(self.weights, np.float32)[:, None]).T
        above = sum(np.count_nonzero((plane * y.T) @ x > float(self.level)) for plane in weighted)
        return float(above) * (sigma / 4) ** 3

    def measurements(self) -> dict[str, float]:
        """Return the volume inside the level, by counting cells of sigma / 4, to about 1 %."""
        return {"volume": self._volume}

    def bounding_radius(self) -> float:
        centres = np.asarray(self.centres, np.float64)
        peak = max(float(np.asarray(self.weights).sum()), 1.0)
        # Beyond this distance the sum of all Gaussians is below 3e-4.
        width = math.sqrt(2 * math.log(peak / 3e-4))
        return float(np.linalg.norm(centres, axis=1).max()) + width * float(self.sigma)


def _packed(semi_axes, centre, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """Return the points of a jittered face-centred cubic lattice in an ellipsoid."""
    size = math.ceil(2 * max(semi_axes) / spacing)
    grid = np.array(list(itertools.product(range(-size, size + 1), repeat=3)))
    grid = grid[grid.sum(1) % 2 == 0] * (spacing / math.sqrt(2))
    grid = grid + rng.normal(scale=spacing / 10, size=grid.shape)
    return grid[np.square(grid / np.array(semi_axes)).sum(1) < 1] + np.array(centre)


def _with_mass(centres: np.ndarray, megadalton: float, sigma: float, shares) -> GaussianComplex:
    """Return Gaussians about their centre of mass whose integral is that of this much protein."""
    weights = np.asarray(shares) / np.sum(shares)
    centres = centres - weights @ centres
    peak = megadalton * 1e6 * PROTEIN_VOLUME / ((2 * math.pi) ** 1.5 * sigma**3)
    return GaussianComplex(
        centres.astype(np.float32), (peak * weights).astype(np.float32), float(sigma)
    )


def ribosome() -> GaussianComplex:
    """Return a model of an 80S ribosome: two subunits with a cleft, 3.2 MDa, 260 angstrom across.

    The larger subunit is a rounded block and the smaller one a flatter, longer one along y beside
    it in z, with the sizes of the yeast ribosome (3.3 MDa, 250-300 angstrom; Ben-Shem et al.,
    Science 334, 1524, 2011). The grain inside is random, but the same in every call.

    >>> round(ribosome().integral() / PROTEIN_VOLUME / 1e6, 2)
    3.2
    """
    rng = np.random.default_rng(80)
    large = _packed((78.0, 98.0, 88.0), (52.0, 0.0, 0.0), 36.0, rng)
    small = _packed((48.0, 104.0, 66.0), (-76.0, 0.0, 10.0), 36.0, rng)
    centres = np.concatenate([large, small])
    return _with_mass(centres, 3.2, 16.0, rng.uniform(0.8, 1.2, len(centres)))


def proteasome() -> GaussianComplex:
    """Return a model of a 26S proteasome with two caps: 2.5 MDa, about 450 angstrom along y.

    The 20S core is four rings of seven subunits, 150 angstrom long, 115 wide and hollow (Lowe et
    al., Science 268, 533, 1995); each cap is a ring of six and an off-axis lid, and the caps are
    related by a two-fold axis along z (Lander et al., Nature 482, 186, 2012).

    >>> round(proteasome().integral() / PROTEIN_VOLUME / 1e6, 2)
    2.5
    """

    def ring(count, radius, height, phase=0.0):
        angle = 2 * math.pi * (np.arange(count) + phase) / count
        heights = np.full(count, height)
        return np.stack([radius * np.cos(angle), heights, radius * np.sin(angle)], -1)

    core = [ring(7, 40.0, h, t) for h, t in ((-56, 0.3), (-18.5, 0), (18.5, 0.5), (56, 0.2))]
    lid = _packed((52.0, 50.0, 68.0), (0.0, 162.0, 20.0), 33.0, np.random.default_rng(26))
    cap = np.concatenate([ring(6, 42.0, 96.0), lid])
    cap_kilodalton = [45.0] * 6 + [630.0 / len(lid)] * len(lid)
    centres = np.concatenate([*core, cap, cap * np.array([1.0, -1.0, -1.0])])
    return _with_mass(centres, 2.5, 14.0, [25.0] * 28 + cap_kilodalton * 2)


def apoferritin() -> GaussianComplex:
    """Return a hollow shell like apoferritin: 0.48 MDa, 120 angstrom outside, 80 inside.

    Each of the 24 subunits is two Gaussians, at corners of a truncated cuboctahedron.

    >>> apoferritin().centres.shape
    (48, 3)
    """
    corner = np.array([1, 1 + math.sqrt(2), 1 + 2 * math.sqrt(2)])
    signs = np.array(list(itertools.product((1, -1), repeat=3)))
    corners = [s * corner[list(order)] for order in itertools.permutations(range(3)) for s in signs]
    centres = 50.0 / np.linalg.norm(corner) * np.array(corners)
    return _with_mass(centres, 0.48, 9.0, [1.0] * 48)


def random_complex(rng: np.random.Generator, kilodalton: float, count: int) -> GaussianComplex:
    """Return a complex of random shape: a union of ellipsoids, some of them with a channel.

    Args:
        rng: draws the shape.
        kilodalton: mass.
        count: number of Gaussians, whose width follows from the volume of each.

    >>> some = random_complex(np.random.default_rng(0), 500.0, 16)
    >>> some.centres.shape, round(some.integral() / PROTEIN_VOLUME / 1e3)
    ((16, 3), 500)
    """
    spacing = (math.sqrt(2) * 1e3 * kilodalton * PROTEIN_VOLUME / count) ** (1 / 3)
    radius = spacing * count ** (1 / 3) / 2
    parts = rng.integers(1, 6)
    middles = rng.normal(scale=0.5 * radius, size=(parts, 3))
    axes = radius * np.exp(rng.normal(0, 0.3, (parts, 3)))
    lattice = _packed((3 * radius,) * 3, 0.0, spacing, rng)
    depth = np.square((lattice - middles[:, None]) / axes[:, None]).sum(-1).min(0)
    if rng.uniform() < 0.3:
        depth[np.linalg.norm(lattice[:, 1:], axis=-1) < 0.35 * radius] = np.inf
    centres = lattice[np.argsort(depth)[:count]]
    return _with_mass(centres, kilodalton / 1e3, 0.44 * spacing, rng.uniform(0.7, 1.3, count))
