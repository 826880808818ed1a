"""Measures the order, the spacing and the stiffness of filaments.

Filaments are the independent units: intervals come from sampling entire filaments with replacement
(Efron 1979), since the errors of points along one filament are correlated.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.polynomial import legendre
from scipy import stats
from scipy.spatial import KDTree

from cryojax_seg.measure.centreline import Filament
from cryojax_seg.measure.measured import Measured
from cryojax_seg.measure.uncertainty import interval

SAMPLES = 200  # of whole filaments


@dataclasses.dataclass(frozen=True)
class Orientation:
    """Describes the common direction of filaments.

    Returned by `orientation`.

    Attributes:
        order_parameter: the order parameter S of Maier and Saupe: 1 if all filaments are parallel,
            0 if no direction is preferred, -1/2 if all lie in a plane without a preferred direction
            in it.
        order_if_random: the S that filaments of the same lengths in random directions exceed in one
            case of 20; it is well above 0 for few filaments.
        director_zyx: the common direction, or for a negative S the direction that filaments avoid;
            its largest component is positive.
    """

    order_parameter: Measured
    order_if_random: float
    director_zyx: tuple[float, float, float]


def orientation(filaments: Sequence[Filament], seed: int = 0) -> Orientation | None:
    """Return the nematic order, from the length-weighted tensor of tangents.

    The tensor is ``Q = <3 t t^T - 1> / 2``, averaged over all length; S is its eigenvalue of
    largest magnitude, and the director the eigenvector (de Gennes & Prost 1993, section 2.1).

    Args:
        filaments: the filaments of one network; the order of their ends does not matter.
        seed: the seed of the resampling.

    Returns:
        the order; None without filaments, and without an interval for fewer than two.

    >>> both = [Filament.through(np.array([[0, y, 0], [0, y, 90.0]])) for y in (0.0, 50.0)]
    >>> orientation(both).director_zyx
    (0.0, 0.0, 1.0)
    """
    if not filaments:
        return None
    tensors = np.array([_tensor(f) for f in filaments])
    value, director = _order(tensors.sum(0))
    rng = np.random.default_rng(seed)
    low = high = None
    if len(filaments) > 1:
        sampled = rng.integers(0, len(filaments), (SAMPLES, len(filaments)))
        low, high = interval(_order(tensors[s].sum(0))[0] for s in sampled)
    lines = rng.normal(size=(SAMPLES, len(filaments), 3))
    lines /= np.linalg.norm(lines, axis=2, keepdims=True)
    weights = np.array([f.length_angstrom for f in filaments])
    weights = weights / weights.sum()
    random = [abs(_order(np.einsum("n,ni,nj->ij", weights, t, t))[0]) for t in lines]
    z, y, x = (director * np.sign(director[np.argmax(np.abs(director))]) + 0.0).round(12).tolist()
    return Orientation(Measured(value, low, high), float(np.quantile(random, 0.95)), (z, y, x))


def _tensor(filament: Filament) -> np.ndarray:
    """Return ``integral t t^T ds``, whose trace is the length."""
    t = filament.tangents(filament.arc_lengths_angstrom(max(filament.length_angstrom / 100, 1.0)))
    weights = np.ones(len(t))
    weights[[0, -1]] = 0.5  # trapezoid rule
    tensor = np.einsum("n,ni,nj->ij", weights, t, t)
    return tensor * filament.length_angstrom / np.trace(tensor)


def _order(tensor: np.ndarray) -> tuple[float, np.ndarray]:
    values, vectors = np.linalg.eigh(1.5 * tensor / np.trace(tensor) - np.eye(3) / 2)
    k = int(np.argmax(np.abs(values)))
    return float(values[k]), vectors[:, k]


def neighbour_spacing_angstrom(
    filaments: Sequence[Filament], spacing_angstrom: float = 20.0
) -> list[Float[np.ndarray, "_n"]]:
    """Return distances from points along each filament's axis to the nearest other axis.

    The shortest line to another axis is either perpendicular to it or goes to its end. In the
    latter case the distance says nothing about the spacing and is NaN, as it is without other
    filaments.

    Args:
        filaments: the filaments of one network.
        spacing_angstrom: distance between the points along an axis.

    Returns:
        an array for each filament.

    >>> both = [Filament.through(np.array([[0, y, 0], [0, y, 90.0]])) for y in (0.0, 50.0)]
    >>> [d.round(6).tolist() for d in neighbour_spacing_angstrom(both, 45.0)]
    [[50.0, 50.0, 50.0], [50.0, 50.0, 50.0]]
    """
    places = [f.arc_lengths_angstrom(spacing_angstrom) for f in filaments]
    if len(filaments) < 2:
        return [np.full(len(p), np.nan) for p in places]
    points = [f.at(p) for f, p in zip(filaments, places, strict=True)]
    flat, owner = np.concatenate(points), np.repeat(np.arange(len(points)), [*map(len, points)])
    tangents = np.concatenate([f.tangents(p) for f, p in zip(filaments, places, strict=True)])
    first = np.concatenate([[0], np.cumsum([*map(len, points)])])
    last = np.isin(np.arange(len(flat)), np.concatenate([first[:-1], first[1:] - 1]))
    tree, found = KDTree(flat), np.full(len(flat), np.nan)
    left, count = np.arange(len(flat)), 8
    while len(left):  # the nearest of others; own ones are nearer, so look at more and more
        nearest = np.asarray(tree.query(flat[left], min(count, len(flat)))[1])
        other = owner[nearest] != owner[left, None]
        some = other.any(1)
        k = np.argmax(other, 1)[some]
        here, there = left[some], nearest[some, k]
        away = flat[here] - flat[there]
        along = (away * tangents[there]).sum(1)
        across = np.linalg.norm(away - along[:, None] * tangents[there], axis=1)
        past = last[there] & (np.abs(along) > 0.5 * spacing_angstrom)
        found[here] = np.where(past, np.nan, across)
        left, count = left[~some], 4 * count
    return np.split(found, first[1:-1])


def median_spacing_angstrom(
    spacings_angstrom: Sequence[Float[np.ndarray, "_n"]], seed: int = 0
) -> Measured | None:
    """Return the median distance to the nearest axis, with its interval over filaments.

    Args:
        spacings_angstrom: for each filament the distances of `neighbour_spacing_angstrom`.
        seed: the seed of the resampling.

    Returns:
        the median over all points; None if no filament has a neighbour.

    >>> print(median_spacing_angstrom([np.array([50.0, 52.0]), np.array([np.nan, 54.0])]))
    52 (51 to 54)
    """
    known = [s[np.isfinite(s)] for s in spacings_angstrom]
    known = [s for s in known if len(s)]
    if not known:
        return None
    value = float(np.median(np.concatenate(known)))
    rng = np.random.default_rng(seed)
    sampled = rng.integers(0, len(known), (SAMPLES, len(known)))
    low, high = interval(float(np.median(np.concatenate([known[i] for i in s]))) for s in sampled)
    return Measured(value, low, high)


def persistence_length_angstrom(
    filaments: Sequence[Filament],
    step_angstrom: float = 50.0,
    shortest_angstrom: float = 200.0,
    seed: int = 0,
) -> Measured | None:
    """Return the persistence length of filaments, from the correlation of tangents.

    A worm-like chain in three dimensions has ``<t(0) . t(s)> = exp(-s / L_p)`` (Doi & Edwards 1986,
    section 8.8). A smoothed axis is straighter over short distances, and noise of the tangents
    lowers all correlations by a factor. The fit of ``a exp(-s / L_p)``, with each distance weighted
    by its number of pairs, therefore begins at `shortest_angstrom` and has a free factor a. The
    interval is wide if the filaments are much shorter than their persistence length.

    Args:
        filaments: the filaments, two or more of one kind.
        step_angstrom: distance between the points along an axis.
        shortest_angstrom: the shortest distance along an axis in the fit, about the shortest wave
            that tracing keeps.
        seed: the seed of the resampling.

    Returns:
        the persistence length, infinite if tangents do not lose their direction; None unless two
        filaments are longer than `shortest_angstrom` by three steps.

    Raises:
        ValueError: for lengths that are not positive.

    >>> angle = np.linspace(0, 2, 50)  # radians of a circle: the direction is lost in a radius
    >>> arc = Filament.through(np.stack([0 * angle, 500 * np.cos(angle), 500 * np.sin(angle)], 1))
    >>> 300 < persistence_length_angstrom([arc, arc]).value < 600
    True
    """
    if not (step_angstrom > 0 and shortest_angstrom > 0):
        raise ValueError("step_angstrom and shortest_angstrom must be above 0")
    first = max(int(np.ceil(shortest_angstrom / step_angstrom)), 1)
    sums, counts = [], []
    size = max((int(f.length_angstrom / step_angstrom) + 1 for f in filaments), default=0)
    for f in filaments:
        t = f.tangents(np.arange(0.0, f.length_angstrom, step_angstrom))
        if len(t) < first + 3:
            continue
        cosines = t @ t.T
        sums.append([np.trace(cosines, k) if k < len(t) else 0.0 for k in range(size)])
        counts.append([max(len(t) - k, 0) for k in range(size)])
    if len(sums) < 2:
        return None
    sums, counts = np.array(sums)[:, first:], np.array(counts, float)[:, first:]
    distance = step_angstrom * np.arange(first, size)
    rng = np.random.default_rng(seed)
    sampled = rng.integers(0, len(sums), (SAMPLES, len(sums)))
    sampled = np.concatenate([np.arange(len(sums))[None], sampled])
    bending = _bending(distance, sums[sampled].sum(1), counts[sampled].sum(1))
    least, most = interval(bending[1:])
    value, low, high = (1 / v if v > 0 else np.inf for v in (float(bending[0]), most, least))
    return Measured(value, low, high)


def least_persistence_length_angstrom(
    filaments: Sequence[Filament], precision_angstrom: float | int = 2.0
) -> float | None:
    """Return the smallest persistence length that the straightness of filaments allows at 95 %.

    The angle between the two halves of the parabola that fits a worm-like chain best has a variance
    of ``5 L / (14 L_p)`` in each of two directions, by integration of its white curvature with the
    kernel ``(1 - x^2)^2``. Over N filaments the sum of squares follows a chi-square law with 2 N
    degrees of freedom, whose 5 % quantile gives the bound. Errors of the axes add to the angles, so
    that the bound is never too large for them; where the axes are straighter than they are
    precise, the precision decides. What lies within a diameter of a face that cuts a filament is
    left out.

    Args:
        filaments: the filaments of one kind.
        precision_angstrom: the error of an axis, which bends half of it against the other half.

    Returns:
        the bound; None without a filament of two diameters or more beside what is left out.

    >>> line = Filament.through(np.array([[0.0, 0, 0], [0, 0, 1000], [0, 0, 2000]]))
    >>> round(least_persistence_length_angstrom([line] * 5), -6)
    18000000.0
    """
    total, count = 0.0, 0
    for f in filaments:
        low, high = (2 * f.radius_angstrom * cut for cut in f.at_border)
        length = f.length_angstrom - low - high
        if length < max(4 * f.radius_angstrom, 1.0):
            continue
        points = f.at(np.linspace(low, f.length_angstrom - high, 65))
        bend = 6 * legendre.legfit(np.linspace(-1, 1, 65), points, 2)[2] / length
        error = 2 * (4 * precision_angstrom / length) ** 2  # in two directions
        total += (float(bend @ bend) + error) / (5 * length / 14)
        count += 1
    return float(stats.chi2.ppf(0.05, 2 * count) / total) if count else None


def _bending(
    distance: Float[np.ndarray, "_s"],
    total: Float[np.ndarray, "_n _s"],
    count: Float[np.ndarray, "_n _s"],
) -> Float[np.ndarray, "_n"]:
    """Return ``1 / L_p`` of weighted fits of ``a exp(-s / L_p)``, 0 for straight lines.

    For each L_p of a grid, the best factor a and its residual have a closed form; the minimum is
    that of a parabola through the least residual and its neighbours. The grid extends from a tenth
    of the shortest distance to a thousand times the longest.
    """
    low, high = np.log(1e-3 / distance.max()), np.log(10 / distance.min())
    grid = np.linspace(low, high, 400)
    shape = np.exp(-np.exp(grid)[:, None] * distance)
    explained = (total @ shape.T) ** 2 / (count @ (shape * shape).T)
    best = np.argmax(explained, 1)
    inner = np.clip(best, 1, len(grid) - 2)
    before, here, after = (np.take_along_axis(explained, (inner + k)[:, None], 1)[:, 0]
                           for k in (-1, 0, 1))  # fmt: skip
    curve = before - 2 * here + after
    offset = np.where(curve < 0, 0.5 * (before - after) / np.where(curve < 0, curve, 1.0), 0.0)
    found = np.exp(grid[inner] + np.clip(offset, -1, 1) * (grid[1] - grid[0]))
    return np.where(best == 0, 0.0, found)
