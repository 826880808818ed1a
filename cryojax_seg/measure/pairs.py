"""Computes nearest neighbours and pair correlations of points in a region, corrected for edges."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from cryojax_seg.measure.measured import Measured
from cryojax_seg.measure.region import Points, Region
from cryojax_seg.measure.uncertainty import LEVEL

_SAMPLES = 200


def kaplan_meier_median(
    distance: Float[np.ndarray, "_n"], border: Float[np.ndarray, "_n"]
) -> float | None:
    """Return the median of distances, each known only if it is below a limit of its own.

    A point whose border is nearer than its nearest neighbour may have a nearer one beyond: its
    distance is only known to exceed that to the border (Baddeley & Gill 1997, Ann. Stat. 25, 263).

    Args:
        distance: the distance of each point to its nearest neighbour.
        border: the distance of each point to the border.

    Returns:
        the median; None if fewer than half of the points are known to have a neighbour.

    >>> kaplan_meier_median(np.array([1.0, 2.0, 3.0, 9.0]), np.array([5.0, 5.0, 5.0, 1.5]))
    2.0
    """
    seen = distance <= border
    time = np.minimum(distance, border)
    order = np.lexsort((~seen, time))
    at_risk = len(time) - np.arange(len(time))
    surviving = np.cumprod(1 - seen[order] / at_risk)
    below = np.flatnonzero(surviving <= 0.5 + 1e-12)
    return float(time[order][below[0]]) if len(below) else None


def nearest_median_nm(
    nearest_angstrom: Float[np.ndarray, "_n"],
    border_angstrom: Float[np.ndarray, "_n"],
    rng: np.random.Generator,
) -> Measured | None:
    """Return the median distance to the nearest other point, corrected for the border.

    Args:
        nearest_angstrom: the distance to the nearest other point; NaN for a point that is alone.
        border_angstrom: the distance to the border of the region.
        rng: random numbers for the interval, over points sampled with replacement.

    Returns:
        the median; an infinite limit where fewer than half of the points of a sample are known to
        have a neighbour, None where this is so for all points.
    """
    if not np.isfinite(nearest_angstrom).any():
        return None
    value = kaplan_meier_median(nearest_angstrom, border_angstrom)
    if value is None:
        return None
    medians = []
    count = len(nearest_angstrom)
    for sample in rng.integers(0, count, (_SAMPLES, count)):
        one = kaplan_meier_median(nearest_angstrom[sample], border_angstrom[sample])
        medians.append(math.inf if one is None else one)
    low, high = np.quantile(medians, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest").tolist()
    return Measured(0.1 * value, 0.1 * low, 0.1 * high)


@dataclasses.dataclass(frozen=True)
class PairCorrelation:
    """Describes how much more frequent each distance between points is than in a random pattern.

    Returned by `pair_correlation`.

    Attributes:
        radius_nm: edges of the bins of distance.
        g: the number of pairs in each bin over the number expected for independent points; 1 in a
            random pattern, 0 without pairs.
        random_low, random_high: for each bin by itself, the range of g of 95 % of random patterns
            of as many points in the same region.
        ripley_k_nm3: ``K(r) = integral 4 pi s^2 g(s) ds`` up to the end of each bin.
        p_value: the fraction of random patterns that deviate at least as much from the expectation,
            by the largest deviation of the cube root of K; small if the points are not random.
    """

    radius_nm: tuple[float, ...]
    g: tuple[float, ...]
    random_low: tuple[float, ...]
    random_high: tuple[float, ...]
    ripley_k_nm3: tuple[float, ...]
    p_value: float


def pair_correlation(
    points: Points,
    region: Region,
    edges_angstrom: Float[np.ndarray, "_m"],
    simulations: int = 99,
    seed: int = 0,
) -> PairCorrelation | None:
    """Return the pair correlation, corrected for edges, with a band of random patterns.

    Pairs in a bin are divided by ``n (n - 1) / V^2 integral gamma(r) 4 pi r^2 dr``, the number
    expected for independent points, where gamma is the overlap of the region with itself shifted by
    r. The band is that of simulated patterns (Besag & Diggle 1977); the p value is that of the
    maximum absolute deviation test (Baddeley et al. 2014, Ecol. Monogr. 84, 477).

    Args:
        points: ``(n, 3)`` points in the region, in angstrom, zyx.
        region: the region in which points were observed.
        edges_angstrom: edges of the bins of distance, increasing from 0 or more.
        simulations: the number of random patterns.
        seed: the seed of the patterns.

    Returns:
        the pair correlation; None for fewer than two points.

    Raises:
        ValueError: for edges that do not increase, or fewer than 19 simulations.

    >>> box = Region((50, 50, 50), (10.0, 10.0, 10.0))
    >>> points = box.random_points(300, np.random.default_rng(0))
    >>> found = pair_correlation(points, box, np.array([0.0, 100.0, 200.0]))
    >>> [low < g < high for low, g, high in zip(found.random_low, found.g, found.random_high)]
    [True, True]
    """
    edges = np.asarray(edges_angstrom, float)
    if edges.size < 2 or edges[0] < 0 or not (np.diff(edges) > 0).all():
        raise ValueError("edges_angstrom must increase from 0 or more, two at least")
    if simulations < 19:
        raise ValueError(f"simulations must be 19 or more for a band of 95 %, got {simulations}")
    count = len(points)
    if count < 2:
        return None
    expected = count * (count - 1) / region.volume_angstrom3**2 * _shells(region, edges)
    expected = np.where(expected > 0, expected, np.inf)
    g = _pairs(points, edges) / expected
    rng = np.random.default_rng(seed)
    chance = np.array(
        [_pairs(region.random_points(count, rng), edges) / expected for _ in range(simulations)]
    )
    low, high = np.quantile(chance, [0.025, 0.975], axis=0)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    k = np.cumsum(np.concatenate([g[None], chance]) * shells, axis=1)
    roots = np.cbrt(k)
    largest = np.abs(roots - np.cbrt(np.cumsum(shells))).max(1)
    return PairCorrelation(
        radius_nm=tuple((0.1 * edges).tolist()),
        g=tuple(g.tolist()),
        random_low=tuple(low.tolist()),
        random_high=tuple(high.tolist()),
        ripley_k_nm3=tuple((1e-3 * k[0]).tolist()),
        p_value=float((largest >= largest[0]).mean()),
    )


def _pairs(points: Points, edges: Float[np.ndarray, "_m"]) -> Float[np.ndarray, "_k"]:
    """Return the number of ordered pairs in each bin, which does not contain its lower edge."""
    tree = KDTree(points)
    return np.diff(np.asarray(tree.count_neighbors(tree, edges), float) - len(points))


def _shells(region: Region, edges: Float[np.ndarray, "_m"]) -> Float[np.ndarray, "_k"]:
    """Return ``integral gamma(r) 4 pi r^2 dr`` over each bin, by Gauss's rule with four points."""
    nodes, weights = np.polynomial.legendre.leggauss(4)
    half = np.diff(edges)[:, None] / 2
    radii = edges[:-1, None] + half * (1 + nodes)
    gamma = region.overlap_angstrom3(radii.ravel()).reshape(radii.shape)
    return (half * weights * gamma * 4 * np.pi * radii**2).sum(1)
