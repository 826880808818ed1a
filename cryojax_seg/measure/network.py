"""What filaments are together: their order, their spacing and their stiffness.

Filaments are the independent units: intervals come from sampling whole filaments with replacement
(Efron 1979), since points along one of them err and vary together.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from cryojax_seg.measure.centreline import Filament
from cryojax_seg.measure.measured import Measured
from cryojax_seg.measure.uncertainty import interval

SAMPLES = 200  # of whole filaments


@dataclasses.dataclass(frozen=True)
class Orientation:
    """The common direction of filaments.

    Attributes:
        order_parameter: of Maier and Saupe, S: 1 if all are parallel, 0 if no direction is
            preferred, -1/2 if all lie in a plane without a preferred direction in it.
        order_if_random: the S that as many filaments as long exceed in one case of 20 without
            any order; few filaments always have some.
        director_zyx: the direction they have in common, or for a negative S the one they avoid; its
            largest component is positive.
    """

    order_parameter: Measured
    order_if_random: float
    director_zyx: tuple[float, float, float]


def orientation(filaments: Sequence[Filament], seed: int = 0) -> Orientation | None:
    """Nematic order from the length-weighted tensor of tangents.

    ``Q = <3 t t^T - 1> / 2`` over all length; S is the eigenvalue of Q that is largest in
    magnitude, the director its eigenvector (de Gennes & Prost 1993, section 2.1).

    Args:
        filaments: their ends may be swapped: no direction along them is preferred.
        seed: of the resampling.

    Returns:
        None without filaments; no interval for fewer than two.

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
    """``integral t t^T ds``, so that its trace is the length."""
    t = filament.tangents(filament.places(max(filament.length_angstrom / 100, 1.0)))
    weights = np.ones(len(t))
    weights[[0, -1]] = 0.5  # trapezoid rule
    tensor = np.einsum("n,ni,nj->ij", weights, t, t)
    return tensor * filament.length_angstrom / np.trace(tensor)


def _order(tensor: np.ndarray) -> tuple[float, np.ndarray]:
    values, vectors = np.linalg.eigh(1.5 * tensor / np.trace(tensor) - np.eye(3) / 2)
    k = int(np.argmax(np.abs(values)))
    return float(values[k]), vectors[:, k]


def neighbour_spacing(
    filaments: Sequence[Filament], spacing_angstrom: float = 20.0
) -> list[Float[np.ndarray, "_n"]]:
    """Along each filament the distance from its axis to the nearest other one.

    The shortest line to another axis is perpendicular to it, or goes to its end: that says nothing
    about the spacing and is NaN, as where there is no other filament.

    Args:
        filaments: of one network.
        spacing_angstrom: between the points of an axis that are looked at.

    Returns:
        angstrom, an array for each filament.

    >>> both = [Filament.through(np.array([[0, y, 0], [0, y, 90.0]])) for y in (0.0, 50.0)]
    >>> [d.round(6).tolist() for d in neighbour_spacing(both, 45.0)]
    [[50.0, 50.0, 50.0], [50.0, 50.0, 50.0]]
    """
    places = [f.places(spacing_angstrom) for f in filaments]
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


def median_spacing(spacings: Sequence[Float[np.ndarray, "_n"]], seed: int = 0) -> Measured | None:
    """The median distance to the nearest axis over all length, and its interval over filaments.

    Args:
        spacings: of `neighbour_spacing`.
        seed: of the resampling.

    Returns:
        angstrom; None where no filament has a neighbour.

    >>> print(median_spacing([np.array([50.0, 52.0]), np.array([np.nan, 54.0])]))
    52 (51 to 54)
    """
    known = [s[np.isfinite(s)] for s in spacings]
    known = [s for s in known if len(s)]
    if not known:
        return None
    value = float(np.median(np.concatenate(known)))
    rng = np.random.default_rng(seed)
    sampled = rng.integers(0, len(known), (SAMPLES, len(known)))
    low, high = interval(float(np.median(np.concatenate([known[i] for i in s]))) for s in sampled)
    return Measured(value, low, high)


def persistence_length(
    filaments: Sequence[Filament],
    step_angstrom: float = 50.0,
    shortest_angstrom: float = 200.0,
    seed: int = 0,
) -> Measured | None:
    """How far a filament keeps its direction, from the correlation of tangents.

    A worm-like chain in three dimensions has ``<t(0) . t(s)> = exp(-s / L_p)`` (Doi & Edwards 1986,
    section 8.8). A smoothed axis is straighter over short distances, and noise of the tangents
    lowers all correlations by a factor, so the fit of ``a exp(-s / L_p)``, each distance weighted
    by its pairs, begins at `shortest_angstrom` and leaves a free. Chains much shorter than their
    persistence length say little about it, and its interval is wide then.

    Args:
        filaments: of one kind; two or more.
        step_angstrom: between the points of an axis that are looked at.
        shortest_angstrom: distance along an axis, about the shortest wave that tracing keeps.
        seed: of the resampling.

    Returns:
        angstrom, infinite where tangents do not lose their direction; None for fewer than two
        filaments that are longer than `shortest_angstrom` by three steps.

    Raises:
        ValueError: for lengths that are not positive.

    >>> angle = np.linspace(0, 2, 50)  # radians of a circle: the direction is lost in a radius
    >>> arc = Filament.through(np.stack([0 * angle, 500 * np.cos(angle), 500 * np.sin(angle)], 1))
    >>> 300 < persistence_length([arc, arc]).value < 600
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


def _bending(
    distance: Float[np.ndarray, "_s"],
    total: Float[np.ndarray, "_n _s"],
    count: Float[np.ndarray, "_n _s"],
) -> Float[np.ndarray, "_n"]:
    """``1 / L_p`` of weighted least squares fits of ``a exp(-s / L_p)``, 0 for straight lines.

    For each L_p of a grid a is known, and so is the residual; a parabola goes through the least
    three. The grid reaches from a tenth of the shortest distance to a thousand times the longest.
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
