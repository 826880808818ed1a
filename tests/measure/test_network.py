"""Order, spacing and stiffness of filaments against networks where they are known."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from cryojax_seg.measure import network
from cryojax_seg.measure.centreline import Filament


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def straight(start, way, length):
    start, way = np.asarray(start, float), np.asarray(way, float)
    way = way / np.linalg.norm(way)
    return Filament.through(start + np.linspace(0, length, 9)[:, None] * way)


def chain(rng, length, persistence, step=10.0):
    """A worm-like chain: tangents turn by a Gaussian angle in a random direction."""
    count = int(length / step)
    t = rng.normal(size=3)
    t /= np.linalg.norm(t)
    points = [np.zeros(3)]
    for _ in range(count):
        points.append(points[-1] + step * t)
        turn = rng.normal(size=3) * np.sqrt(step / persistence)  # <theta^2> = 2 step / L_p
        t = t + turn - (turn @ t) * t
        t /= np.linalg.norm(t)
    return Filament.through(np.array(points))


def test_order_of_parallel_planar_and_random_filaments(rng):
    ways = rng.normal(size=(200, 3))
    aligned = [straight((0, 0, 0), (0, 1, 2), 100.0 * (i + 1)) for i in range(5)]
    found = network.orientation(aligned)
    assert found.order_parameter == pytest.approx((1, 1, 1))
    assert found.director_zyx == pytest.approx((0, 5**-0.5, 2 * 5**-0.5))
    angles = np.linspace(0, np.pi, 60, endpoint=False)
    planar = [straight((0, 0, 0), (0, np.cos(a), np.sin(a)), 100) for a in angles]
    found = network.orientation(planar)
    assert found.order_parameter.value == pytest.approx(-0.5)
    assert found.director_zyx == pytest.approx((1, 0, 0), abs=1e-9)
    random = network.orientation([straight((0, 0, 0), w, 100) for w in ways])
    assert abs(random.order_parameter.value) < 0.15
    assert abs(random.order_parameter.value) < 1.5 * random.order_if_random
    assert network.orientation([]) is None


def test_order_of_a_known_distribution(rng):
    """Tangents with density proportional to exp(b cos^2): S = <P2>, by quadrature."""
    b, grid = 3.0, np.linspace(0, 1, 20001)
    density = np.exp(b * grid**2)
    expected = np.average(1.5 * grid**2 - 0.5, weights=density)
    cosine = np.interp(rng.random(1000), np.cumsum(density) / density.sum(), grid)
    angle = rng.random(1000) * 2 * np.pi
    sine = np.sqrt(1 - cosine**2)
    ways = np.stack([cosine, sine * np.cos(angle), sine * np.sin(angle)], 1)
    found = network.orientation([straight((0, 0, 0), w, 100) for w in ways])
    assert found.order_parameter.value == pytest.approx(expected, abs=0.05)
    low, high = found.order_parameter.low, found.order_parameter.high
    assert low < expected < high and high - low < 0.1
    assert found.order_if_random < 0.08


def test_lengths_are_the_weights():
    mixed = [straight((0, 0, 0), (1, 0, 0), 300), straight((0, 0, 0), (0, 0, 1), 100)]
    # Q = diag(3/4, 0, 1/4) * 3/2 - 1/2.
    assert network.orientation(mixed).order_parameter.value == pytest.approx(0.625)


def test_spacing_of_a_hexagonal_bundle_and_of_a_lone_filament():
    places = [(0, 0), (120, 0), (60, 104), (-60, 104), (-120, 0), (-60, -104), (60, -104)]
    bundle = [straight((z, y, 0), (0, 0, 1), 1000) for z, y in places]
    spacing = network.median_spacing_angstrom(network.neighbour_spacing_angstrom(bundle))
    assert spacing == pytest.approx((120, 120, 120), abs=0.3)
    assert network.median_spacing_angstrom(network.neighbour_spacing_angstrom(bundle[:1])) is None
    assert network.neighbour_spacing_angstrom([]) == []


def test_spacing_matches_brute_force_and_ignores_ends(rng):
    lines = [straight(rng.uniform(0, 800, 3), rng.normal(size=3), 700) for _ in range(12)]
    found = network.neighbour_spacing_angstrom(lines, 20.0)
    dense = [f.at(f.arc_lengths_angstrom(2.0)) for f in lines]
    checked, ends = 0, []
    for i, f in enumerate(lines):
        points = f.at(f.arc_lengths_angstrom(20.0))
        others = [cdist(points, d) for j, d in enumerate(dense) if j != i]
        nearest = np.min([o.min(1) for o in others], 0)
        which = np.argmin([o.min(1) for o in others], 0)
        at_end = np.array([
            others[w][k].argmin() in (0, others[w].shape[1] - 1) for k, w in enumerate(which)
        ])  # fmt: skip
        good = np.isfinite(found[i]) & ~at_end
        checked += good.sum()
        # Points 20 angstrom apart: what is perpendicular to the tangent of the nearest is exact.
        assert found[i][good] == pytest.approx(nearest[good], abs=2.5)
        ends.append(np.isnan(found[i][at_end]))
    assert checked > 100 and np.concatenate(ends).mean() > 0.8
    ahead = [straight((0, 0, 0), (0, 0, 1), 200), straight((0, 0, 300), (0, 0, 1), 200)]
    assert network.median_spacing_angstrom(network.neighbour_spacing_angstrom(ahead)) is None


def test_persistence_length_of_worm_like_chains(rng):
    for persistence in (500.0, 2000.0):
        chains = [chain(rng, 3000, persistence) for _ in range(100)]
        found = network.persistence_length_angstrom(chains)
        assert found.low < persistence < found.high
        assert found.value == pytest.approx(persistence, rel=0.15)
        assert found.high - found.low < persistence


def test_the_interval_of_the_persistence_length_covers_it(rng):
    """19 of 20 of 95 % intervals hold the truth; 20 networks of 25 chains."""
    inside = 0
    for _ in range(20):
        found = network.persistence_length_angstrom(
            [chain(rng, 2000, 1000.0, 50.0) for _ in range(25)]
        )
        inside += found.low <= 1000.0 <= found.high
    assert inside >= 16


def test_straight_filaments_persist_for_ever(rng):
    lines = [straight((0, 0, 0), rng.normal(size=3), 2000) for _ in range(5)]
    assert network.persistence_length_angstrom(lines) == (np.inf, np.inf, np.inf)
    assert network.persistence_length_angstrom(lines[:1]) is None
    assert network.persistence_length_angstrom([straight((0, 0, 0), (0, 0, 1), 150)] * 3) is None
    with pytest.raises(ValueError, match="above 0"):
        network.persistence_length_angstrom(lines, step_angstrom=0.0)


def test_the_bound_of_the_persistence_length_holds_in_19_of_20_cases(rng):
    """Of 200 networks of 5 chains: 5 % +- 3 standard errors have a bound above the truth."""
    bounds = [
        network.least_persistence_length_angstrom(
            [chain(rng, 1000, 50_000.0) for _ in range(5)], precision_angstrom=0.0
        )
        for _ in range(200)
    ]
    above = np.mean(np.array(bounds) > 50_000.0)
    assert 0.005 < above < 0.1
    # 5 % quantile over the mean of chi square with 10 degrees of freedom: about a factor of 2.4.
    assert 15_000 < np.median(bounds) < 30_000


def test_straight_filaments_have_a_bound_that_grows_with_their_length():
    bounds = [
        network.least_persistence_length_angstrom([straight((0, 0, 0), (0, 1, 1), length)] * 5)
        for length in (500, 1000)
    ]
    assert bounds[1] / bounds[0] == pytest.approx(8, rel=1e-3)
    assert network.least_persistence_length_angstrom([]) is None
