import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from jax.test_util import check_grads

from cryojax_seg.simulate.membranes import Bilayer
from cryojax_seg.simulate.organelles import GolgiStack, Mitochondrion, NuclearEnvelope, rounded_max
from cryojax_seg.simulate.reticulum import Reticulum
from cryojax_seg.simulate.sheets import Disc, Plane
from cryojax_seg.simulate.surfaces import Ellipsoid, Sphere
from cryojax_seg.simulate.types import BACKGROUND, LUMEN, MEMBRANE
from cryojax_seg.simulate.waves import random_waves, wave_field

PORES = np.array([[0.0, 0.0], [1250.0, 300.0], [-600.0, 1150.0]])
distance = jax.jit(lambda structure, points: structure.distance(points))
labels = jax.jit(lambda structure, points: structure.labels(points))
field_of = jax.jit(wave_field)


def line(start, stop, count, axis):
    points = np.zeros((count, 3))
    points[:, axis] = np.linspace(start, stop, count)
    return jnp.asarray(points)


def box(lengths, step):
    """Points at the centres of cells that fill a box around the origin."""
    axes = [np.arange(-size / 2 + step / 2, size / 2, step) for size in lengths]
    return jnp.asarray(np.stack(np.meshgrid(*axes, indexing="ij"), -1))


def sizes(structure, lengths, step):
    """Area and volume of the zero of a distance, by counting."""
    d = np.asarray(distance(structure, box(lengths, step).astype(jnp.float32)), np.float64)
    delta = np.exp(-np.square(d / step) / 2) / (math.sqrt(2 * math.pi) * step)
    return delta.sum() * step**3, np.clip(0.5 - d / step, 0, 1).sum() * step**3


@pytest.mark.parametrize("thickness", [25.0, 30.0, 35.0])
def test_profile_has_two_peaks_a_thickness_apart(thickness, x64):
    """Dark, bright, dark on disk. The trough pushes the peaks out by less than 0.1 angstrom."""
    flat = Bilayer(Plane(), thickness=thickness, heads=1.0, tails=-0.3)
    z = np.linspace(-60, 60, 12001)
    profile = np.asarray(flat.density(line(-60, 60, z.size, 0)))
    top = z[z > 0][np.argmax(profile[z > 0])]
    np.testing.assert_allclose(top, thickness / 2, atol=0.1)
    np.testing.assert_allclose(profile, profile[::-1], atol=1e-12)
    np.testing.assert_allclose(profile.max(), 1.0, atol=0.01)
    middle = profile[z.size // 2]
    np.testing.assert_allclose(middle, 2 * math.exp(-((thickness / 10) ** 2) / 2) - 0.3, atol=1e-6)
    assert profile[0] < 1e-6


def test_labels_of_a_vesicle():
    vesicle = Bilayer(Sphere(200.0), thickness=30.0, leaflet_sigma=5.0)
    points = line(0.0, 300.0, 601, 2)
    r = np.asarray(points)[:, 2]
    expected = np.where(r < 180, LUMEN, np.where(r <= 220, MEMBRANE, BACKGROUND))
    np.testing.assert_array_equal(vesicle.labels(points), expected)
    np.testing.assert_allclose(
        vesicle.excluded_volume(points), np.minimum(r - 220, r + 1e9), atol=1e-3
    )


def test_an_open_sheet_closes_round_its_edge():
    """Across the rim the leaflets meet in a half circle of the same density, with no lumen."""
    sheet = Bilayer(Disc(200.0), thickness=30.0)
    angle = jnp.linspace(-np.pi / 2, np.pi / 2, 19)
    zero = jnp.zeros_like(angle)
    rim = jnp.stack([15 * jnp.sin(angle), zero, 200 + 15 * jnp.cos(angle)], -1)
    np.testing.assert_allclose(sheet.density(rim), sheet.density(rim)[0], atol=1e-5)
    assert set(np.unique(sheet.labels(box((100.0, 500.0, 500.0), 10.0)))) == {BACKGROUND, MEMBRANE}


def test_gradients_reach_thickness_and_shape(x64):
    points = jnp.asarray(np.random.default_rng(0).normal(size=(30, 3)))
    points = points / jnp.linalg.norm(points, axis=-1, keepdims=True) * 210

    def f(axes, thickness, sigma, heads, tails):
        return Bilayer(
            Ellipsoid(axes), thickness=thickness, leaflet_sigma=sigma, heads=heads, tails=tails
        ).density(points)

    numbers = [jnp.array([200.0, 190.0, 230.0]), *map(jnp.asarray, (31.0, 5.0, 1.0, -0.3))]
    check_grads(f, tuple(numbers), 1, ["rev"], 1e-5, 1e-5, eps=1e-5)


def test_rounded_max_is_exact_where_faces_are_perpendicular(x64):
    """A quarter plane with its corner rounded: distance to the inset corner less the radius."""
    a, b = jnp.asarray(np.random.default_rng(0).normal(size=(2, 500)) * 30)
    inset = jnp.hypot(jnp.maximum(a + 10, 0), jnp.maximum(b + 10, 0)) - 10
    expected = jnp.where((a < -10) & (b < -10), jnp.maximum(a, b), inset)
    expected = jnp.where((a > -10) & (b > -10), inset, jnp.maximum(a, b))
    np.testing.assert_allclose(rounded_max(a, b, 10.0), expected, atol=1e-9)


MITOCHONDRION = Mitochondrion((500.0, 900.0, 500.0), gap=120.0, cristae=3, crista_width=110.0)


def test_cristae_open_to_the_intermembrane_space():
    """One lumen beside the matrix, and it reaches deep between its folds; no way to the matrix."""
    points = box((1040.0, 1840.0, 1040.0), 20.0)
    membrane = np.asarray(labels(MITOCHONDRION, points)) == MEMBRANE
    lumen = np.asarray(labels(MITOCHONDRION, points)) == LUMEN
    parts, count = scipy.ndimage.label(lumen)
    between = np.asarray(distance(MITOCHONDRION, points)) < 0
    space = np.unique(parts[between & lumen])
    assert count == 2 and space.size == 1
    # The tip of the middle crista, which enters at +x and gets three quarters of the way.
    tip = np.array([[0.0, 0.0, -0.4 * 380]])
    assert distance(MITOCHONDRION, tip)[0] < 0
    assert distance(MITOCHONDRION, -2.1 * tip)[0] < 0
    assert distance(MITOCHONDRION, np.array([[0.0, 0.0, -0.7 * 380]]))[0] > 0
    assert membrane[lumen.shape[0] // 2].any()


def test_mitochondrion_has_its_outer_membrane_and_matrix(x64):
    outside, matrix = jnp.array([[0.0, 0.0, 530.0]]), jnp.array([[0.0, 300.0, 0.0]])
    np.testing.assert_allclose(distance(MITOCHONDRION, outside), 30.0, atol=1e-6)
    np.testing.assert_allclose(MITOCHONDRION.density(matrix), 0.15, atol=1e-3)
    np.testing.assert_allclose(MITOCHONDRION.density(outside + 100), 0.0, atol=1e-9)
    assert MITOCHONDRION.measurements() == Ellipsoid((500.0, 900.0, 500.0)).measurements()


def test_golgi_stack_has_the_sizes_it_reports():
    """Area and volume of five bent sacs by counting: 0.5 % and 0.2 %."""
    stack = GolgiStack(700.0, count=4, spacing=200.0, half_thickness=60.0, bend=2000.0)
    area, volume = sizes(stack, (1100.0, 1640.0, 1640.0), 15.0)
    expected = stack.measurements()
    np.testing.assert_allclose(area, expected["area"], rtol=5e-3)
    np.testing.assert_allclose(volume, expected["volume"], rtol=2e-3)


def test_golgi_sacs_are_apart():
    stack = GolgiStack(700.0, count=4, spacing=200.0, half_thickness=60.0, bend=2000.0)
    parts, count = scipy.ndimage.label(
        np.asarray(distance(stack, box((1100.0, 1640.0, 1640.0), 20.0))) < 0
    )
    assert count == 4
    _, near = np.unique(parts[:, 41, 41], return_counts=True)
    np.testing.assert_allclose(near[1:] * 20.0, 120.0, atol=20.0)


ENVELOPE = NuclearEnvelope(6000.0, 0.33, PORES, pore_radius=250.0, width=240.0)


def test_nuclear_pores_join_the_two_membranes():
    """Through a pore there is a way that meets no membrane; without pores there is none."""
    points = box((1000.0, 3000.0, 3000.0), 40.0)
    for envelope, expected in ((ENVELOPE, 1), (NuclearEnvelope(6000.0, 3.1, None, width=240.0), 2)):
        outside = np.asarray(distance(envelope, points)) > 30
        if expected == 1:  # the edge of the patch is not the way round
            y, x = np.asarray(points)[..., 1], np.asarray(points)[..., 2]
            outside &= np.hypot(y, x) < 1800
        assert scipy.ndimage.label(outside)[1] == expected
    # The middle of a pore is at the pore's radius from its waist, along the sphere.
    angle = np.linalg.norm(PORES, axis=1) / 6000
    unit = PORES / np.maximum(np.linalg.norm(PORES, axis=1), 1e-9)[:, None]
    middle = 6000 * np.concatenate([np.cos(angle)[:, None] - 1, np.sin(angle)[:, None] * unit], 1)
    np.testing.assert_allclose(distance(ENVELOPE, middle.astype(np.float32)), 250.0, rtol=3e-3)


def test_nuclear_envelope_has_the_sizes_it_reports():
    """Area and volume of a patch with three pores by counting: 0.5 % and 0.2 %."""
    area, volume = sizes(ENVELOPE, (1300.0, 4300.0, 4300.0), 25.0)
    expected = ENVELOPE.measurements()
    np.testing.assert_allclose(area, expected["area"], rtol=5e-3)
    np.testing.assert_allclose(volume, expected["volume"], rtol=2e-3)


def test_a_whole_nuclear_envelope_is_two_spheres():
    whole = NuclearEnvelope(3000.0, math.pi, width=200.0).measurements()
    inner, outer = (Sphere(r).measurements() for r in (2900.0, 3100.0))
    np.testing.assert_allclose(whole["area"], inner["area"] + outer["area"], rtol=1e-9)
    np.testing.assert_allclose(whole["volume"], outer["volume"] - inner["volume"], rtol=1e-9)


@pytest.mark.parametrize("structure", [ENVELOPE, GolgiStack(700.0)], ids=["envelope", "golgi"])
def test_distances_of_composites_are_distances(structure, x64):
    points = jnp.asarray(np.random.default_rng(0).uniform(-1500, 1500, (3000, 3)))
    slope = jax.jit(jax.vmap(jax.grad(structure.distance)))(points)
    np.testing.assert_allclose(jnp.linalg.norm(slope, axis=-1), 1.0, atol=1e-6)


def test_pores_move_by_their_gradient(x64):
    points = jnp.asarray(np.random.default_rng(0).uniform(-1500, 1500, (40, 3)))
    points = points.at[:, 0].set(100.0)

    def f(pores, radius):
        return NuclearEnvelope(6000.0, 0.33, pores, radius, width=240.0).distance(points)

    check_grads(
        jax.jit(f), (jnp.asarray(PORES[1:]), jnp.asarray(250.0)), 1, ["rev"], 1e-5, 1e-5, eps=1e-4
    )


def test_wave_field_is_a_unit_field_with_its_gradient(key, x64):
    vectors, phases = random_waves(key, 100.0, 64)
    points = jax.random.uniform(key, (20000, 3), maxval=5000.0)
    field, slope = wave_field(points, vectors, phases)
    np.testing.assert_allclose([field.mean(), field.var()], [0.0, 1.0], atol=0.03)
    one = jax.vmap(jax.grad(lambda p: wave_field(p, vectors, phases)[0]))(points[:50])
    np.testing.assert_allclose(jnp.stack(slope, -1)[:50], one, atol=1e-9)
    # As much along every axis, within 3 %: what makes Rice's formula for isotropic fields apply.
    spread = np.square(vectors).mean(0) / np.square(vectors).mean()
    np.testing.assert_allclose(spread, 1.0, atol=0.05)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_zeros_of_the_field_have_the_area_that_rice_expects(level):
    """(2/pi) sqrt(m) exp(-u^2/2) per volume; 64 fields at 4000 places each: 3 %."""
    found, expected = [], []
    for seed in range(64):
        vectors, phases = random_waves(jax.random.key(seed), 100.0, 32)
        points = jax.random.uniform(jax.random.key(seed), (4000, 3), maxval=2000.0)
        field, slope = field_of(points, vectors, phases)
        # Coarea: a narrow peak of the field's value times the length of its gradient.
        peak = np.exp(-np.square((field - level) / 0.1) / 2) / (0.1 * math.sqrt(2 * math.pi))
        found.append(np.mean(peak * np.linalg.norm(slope, axis=0)))
        expected.append(2 / math.pi * np.sqrt(np.mean(np.square(vectors))))
    ratio = np.mean(found) / np.mean(expected)
    np.testing.assert_allclose(ratio, math.exp(-(level**2) / 2), rtol=0.03)


def test_reticulum_has_the_area_and_volume_it_expects():
    """The mean over 5 mazes, three wavelengths across, by counting: 5 %."""
    found, expected = [], []
    for seed in range(5):
        maze = Reticulum.random(jax.random.key(seed), 1500.0, wavelength=1000.0, width=160.0)
        found.append(sizes(maze, (3120.0,) * 3, 30.0))
        expected.append([maze.measurements()[name] for name in ("area", "volume")])
    np.testing.assert_allclose(np.mean(found, 0), np.mean(expected, 0), rtol=0.05)


def test_reticulum_membranes_are_evenly_thick():
    """The first-order distance grows by 0.8 to 1.2 per angstrom in nine places of ten."""
    maze = Reticulum.random(jax.random.key(1), 3000.0)
    points = jax.random.uniform(jax.random.key(2), (60000, 3), minval=-2000.0, maxval=2000.0)
    d, pull = jax.vjp(maze.distance, points)
    rate = np.linalg.norm(pull(jnp.ones_like(d))[0], axis=-1)[np.abs(d) < 25]
    low, high = np.percentile(rate, [5, 95])
    assert 0.78 < low and high < 1.25
