import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from jax.test_util import check_grads

from cryojax_seg.simulate.arcs import arc_coordinates, hexagonal
from cryojax_seg.simulate.filaments import ActinBundle, ActinFilament, ActinHelix, Microtubule
from cryojax_seg.simulate.structures import PROTEIN_VOLUME
from cryojax_seg.simulate.types import ACTIN, MICROTUBULE

density = jax.jit(lambda structure, points: structure.density(points))
labels = jax.jit(lambda structure, points: structure.labels(points))


def cylinder(radius, angles, places):
    """Points around the y axis, shape (places, angles, 3); angles turn from z to x."""
    s, phi = np.meshgrid(places, angles, indexing="ij")
    return np.stack([radius * np.cos(phi), s, radius * np.sin(phi)], -1)


def total(structure, lengths, step):
    """The integral of a density over a box around the origin."""
    axes = [np.arange(-size / 2 + step / 2, size / 2, step, np.float32) for size in lengths]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    return float(np.asarray(density(structure, points)).sum(dtype=np.float64)) * step**3


@pytest.mark.parametrize("curvature", [0.004, -0.004, 1e-7, 0.0])
def test_arc_coordinates_are_those_of_a_circle(curvature, x64):
    s, z, u = np.random.default_rng(0).uniform(-150, 150, (3, 500))
    if curvature:
        angle, radius = s * curvature, 1 / curvature
        y, x = (radius - u) * np.sin(angle), radius - (radius - u) * np.cos(angle)
    else:
        y, x = s, u
    found = arc_coordinates(jnp.stack([z, y, x], -1), curvature)
    np.testing.assert_allclose(jnp.stack(found), [s, z, u], atol=1e-7)


def test_a_straight_line_is_no_singularity(x64):
    """The curvature has its gradient at 0, and points theirs on the axis and at the origin."""
    points = jnp.asarray(np.random.default_rng(0).uniform(-150, 150, (30, 3)))

    def f(points, curvature):
        return arc_coordinates(points, curvature)

    for curvature in (0.0, 1e-9, 3e-3):
        check_grads(f, (points, jnp.asarray(curvature)), 1, ["rev"], 1e-5, 1e-5, eps=1e-6)
    slopes = jax.jacobian(f, argnums=(0, 1))(jnp.zeros((1, 3)), jnp.asarray(0.0))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


@pytest.mark.parametrize("count", [13, 14])
def test_microtubule_has_its_protofilaments_and_radii(count):
    tube = Microtubule(1000.0, protofilaments=count)
    angles = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    places = np.linspace(-82, 82, 80, endpoint=False)
    radii = np.arange(40, 180, 1.0)
    ring = np.stack([density(tube, cylinder(r, angles, places)).mean(0) for r in radii])
    wall = ring[np.argmin(np.abs(radii - tube.radius))]
    power = np.abs(np.fft.rfft(wall))[1:40]
    assert 1 + np.argmax(power) == count
    # Outer and inner radius at half height: 127 and 87 angstrom for 13, wall centred at 107.
    profile = ring.mean(1)
    wide = radii[profile > profile.max() / 2]
    middle = count * 51.5 / (2 * math.pi)
    np.testing.assert_allclose([wide[0], wide[-1]], [middle - 20, middle + 20], atol=2.0)
    np.testing.assert_allclose(radii[np.argmax(profile)], middle, atol=2.0)


def test_microtubule_has_its_layer_lines_and_start_number():
    """4 nm: monomers, on a left-handed 3-start helix; 8 nm: dimers, weaker; nothing at 6 nm."""
    tube = Microtubule(3000.0)
    angles = np.linspace(0, 2 * np.pi, 156, endpoint=False)
    places = np.arange(-82 * 12, 82 * 12, 4.1)
    wall = np.asarray(density(tube, cylinder(tube.radius, angles, places)))
    spectrum = np.abs(np.fft.fft2(wall))
    frequency = np.abs(np.fft.fftfreq(places.size, 4.1))
    strength = np.sqrt(np.square(spectrum).sum(1))
    at = [np.argmin(np.abs(frequency - 1 / period)) for period in (41.0, 82.0, 60.0)]
    monomer, dimer, none = strength[at]
    assert monomer > 2 * dimer > 20 * none
    # exp(i (3 angle + 2 pi s / 41)): constant along lines that sink as the angle grows.
    order = np.fft.fftfreq(angles.size, 1 / angles.size)
    assert order[np.argmax(spectrum[at[0]])] == 3


def test_microtubule_has_a_seam():
    """Neighbours along the 3-start helix are alike, but across one pair of protofilaments."""
    tube = Microtubule(1000.0)
    number = np.arange(13)
    phi, climb = 2 * np.pi * number / 13, -3 * number / 13 * 41.0
    points = np.stack([tube.radius * np.cos(phi), climb, tube.radius * np.sin(phi)], -1)
    peaks = np.asarray(density(tube, points))
    np.testing.assert_allclose(peaks, peaks[0], rtol=1e-3)  # monomer 0 of each: all alpha
    around = np.array([[tube.radius, -3 * 41.0, 0.0]])  # once around, on the first protofilament
    assert density(tube, around)[0] < 0.85 * peaks[0]


def test_microtubule_has_its_mass_and_length():
    """50 kDa of protein a monomer: the integral is that of 13 L / 41 monomers, to 0.5 %."""
    tube = Microtubule(410.0)
    mass = total(tube, (360.0, 560.0, 360.0), 5.0) / PROTEIN_VOLUME / 50e3
    np.testing.assert_allclose(mass, 13 * 410 / 41.0, rtol=5e-3)
    axes = [np.arange(-r, r, 3.0, np.float32) for r in (150.0, 240.0, 150.0)]
    kept = np.asarray(labels(tube, np.stack(np.meshgrid(*axes, indexing="ij"), -1)))
    section = 2 * math.pi * tube.radius * 40.0
    ends = math.pi**2 * tube.radius * 20.0**2 * 2  # half tubes round the rims
    length = ((kept == MICROTUBULE).sum() * 27.0 - ends) / section
    np.testing.assert_allclose(length, tube.measurements()["length"], rtol=0.01)


def test_microtubule_is_open_and_takes_up_its_lumen():
    tube = Microtubule(1000.0)
    axis = np.array([[0.0, 0, 0], [0, 480, 0], [0, 520, 0], [0, 600, 0]], np.float32)
    np.testing.assert_allclose(density(tube, axis), 0.0, atol=1e-6)
    assert not np.asarray(labels(tube, axis)).any()
    np.testing.assert_array_equal(tube.inside(axis), [True, True, False, False])
    np.testing.assert_array_equal(
        np.asarray(tube.excluded_volume(axis)) < 0, [True, True, False, False]
    )
    np.testing.assert_allclose(tube.excluded_volume(axis)[3], 80.0, atol=1e-3)
    np.testing.assert_allclose(tube.distance(axis)[3], math.hypot(100, tube.radius), rtol=1e-6)


def test_a_bent_microtubule_keeps_its_wall(x64):
    """Along the arc, at the radius of the wall, the distance is 0 and grows by 1 per angstrom."""
    tube = Microtubule(2000.0, 1 / 3000.0)
    s, phi = np.linspace(-900, 900, 40), np.linspace(0, 6, 40)
    across = 3000 - tube.radius * np.sin(phi)
    y, x = across * np.sin(s / 3000), 3000 - across * np.cos(s / 3000)
    wall = jnp.stack([tube.radius * np.cos(phi), y, x], -1)
    np.testing.assert_allclose(tube.distance(wall), 0.0, atol=1e-9)
    slope = jax.jit(jax.vmap(jax.grad(tube.distance)))(wall)
    np.testing.assert_allclose(jnp.linalg.norm(slope, axis=-1), 1.0, atol=1e-9)


def test_actin_has_the_layer_lines_of_its_helix():
    """Rise and twist give helices of order 1 at 59 and 51 angstrom and of 2 at 373 (36 nm)."""
    filament, rise, twist = ActinFilament(16000.0), 27.6, -166.7
    places = np.arange(-540 * rise / 2, 540 * rise / 2, rise / 6)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    spectrum = np.abs(np.fft.fft2(density(filament, cylinder(16.0, angles, places))))
    frequency = np.fft.fftfreq(places.size, rise / 6)

    def period(order):
        line = spectrum[:, order] * (np.abs(frequency) < 0.9 / rise) * (frequency != 0)
        return 1 / frequency[np.argmax(line)]

    # Phase of order n over one subunit: n twist + 360 rise / period is a whole turn.
    np.testing.assert_allclose(period(1), 360 * rise / -twist, rtol=0.004)
    np.testing.assert_allclose(abs(period(1)), 59.6, rtol=0.004)
    second = spectrum[:, 1] * ((frequency < 0) & (frequency > -0.9 / rise))
    np.testing.assert_allclose(1 / frequency[np.argmax(second)], -51.4, rtol=0.004)
    np.testing.assert_allclose(period(2), -360 * rise / (360 + 2 * twist), rtol=0.03)
    meridian = spectrum[:, 0] * (frequency > 0.5 / rise)
    np.testing.assert_allclose(1 / frequency[np.argmax(meridian)], rise, rtol=0.002)


def test_actin_has_its_mass_and_width():
    """42 kDa a subunit, to 0.5 %; labelled 70 angstrom wide."""
    filament = ActinFilament(552.0)
    mass = total(filament, (180.0, 720.0, 180.0), 5.0) / PROTEIN_VOLUME / 42e3
    np.testing.assert_allclose(mass, 552 / 27.6, rtol=5e-3)
    across = np.zeros((200, 3), np.float32)
    across[:, 0] = np.linspace(-50, 50, 200)
    width = (np.asarray(labels(filament, across)) == ACTIN).sum() * 100 / 199
    np.testing.assert_allclose(width, 70.0, atol=0.6)


def test_a_bundle_is_as_many_filaments():
    bundle = ActinBundle(800.0, count=7, spacing=120.0)
    axis = np.arange(-200, 200, 5.0, np.float32)
    z, y, x = np.meshgrid(axis, np.arange(-100, 100, 9.2, np.float32), axis, indexing="ij")
    points = np.stack([z, y, x], -1)
    parts, count = scipy.ndimage.label(labels(bundle, points[:, 10]))
    assert count == 7
    mean = np.asarray(density(bundle, points)).mean(1)
    centres = np.array(scipy.ndimage.center_of_mass(mean, parts, range(1, 8))) * 5.0
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1) + 1e3 * np.eye(7)
    np.testing.assert_allclose(apart.min(1), 120.0, atol=3.0)


def test_a_bundle_of_one_is_a_filament(x64):
    points = jnp.asarray(np.random.default_rng(0).uniform(-60, 60, (200, 3)))
    one, filament = ActinBundle(400.0, 1e-3, count=1), ActinFilament(400.0, 1e-3)
    np.testing.assert_allclose(one.density(points), filament.density(points), atol=1e-12)
    np.testing.assert_allclose(one.distance(points), filament.distance(points), atol=1e-9)


def test_bent_bundles_have_shorter_inner_filaments():
    """Hexagons are balanced, two filaments need not be."""
    assert ActinBundle(1000.0, 1e-3, 7).measurements()["length"] == pytest.approx(7000.0)
    column = hexagonal(2)[1, 1]
    bent = ActinBundle(1000.0, 1e-3, 2, spacing=100.0).measurements()["length"]
    assert bent == pytest.approx(1000 + 1000 * (1 - 0.1 * column))


@pytest.mark.parametrize(
    "make",
    [
        lambda length, c: Microtubule(length, c),
        lambda length, c: ActinFilament(length, c, ActinHelix()),
        lambda length, c: ActinBundle(length, c, 3),
    ],
    ids=["microtubule", "actin", "bundle"],
)
def test_gradients_reach_length_and_curvature(make, x64):
    """Total density of a block with one end in it; the end's ramp has kinks, not in reach here."""
    rng = np.random.default_rng(0)
    points = jnp.asarray(np.stack([rng.uniform(-130, 130, 400), rng.uniform(200, 330, 400)], -1))
    points = jnp.concatenate([points, jnp.asarray(rng.uniform(-130, 130, (400, 1)))], -1)

    def f(length, curvature):
        return make(length, curvature).density(points).sum()

    numbers = jnp.asarray(553.0), jnp.asarray(2e-4)
    check_grads(f, numbers, 1, ["rev"], 1e-4, 1e-4, eps=1e-7)
    assert all(abs(g) > 1e-3 for g in jax.grad(f, argnums=(0, 1))(*numbers))
