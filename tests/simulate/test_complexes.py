import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from jax.test_util import check_grads

from cryojax_seg.simulate.complexes import (
    GaussianComplex,
    apoferritin,
    proteasome,
    ribosome,
)
from cryojax_seg.simulate.maps import MapDensity, of_one_size
from cryojax_seg.simulate.markers import GoldBead, IceCrystal
from cryojax_seg.simulate.placement import random_rotation
from cryojax_seg.simulate.render import render
from cryojax_seg.simulate.scene import Placed, Scene
from cryojax_seg.simulate.structures import PROTEIN_VOLUME, Solid
from cryojax_seg.simulate.surfaces import Sphere, Torus
from cryojax_seg.simulate.types import LUMEN, MACROMOLECULE

LIKE = {"ribosome": ribosome, "proteasome": proteasome, "apoferritin": apoferritin}
MEGADALTON = {"ribosome": 3.2, "proteasome": 2.5, "apoferritin": 0.48}
density = jax.jit(lambda structure, points: structure.density(points))
distance = jax.jit(lambda structure, points: structure.distance(points))


def box(reach, step):
    axis = np.arange(-reach + step / 2, reach, step, np.float32)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)


def scattered(reach, count=2000):
    return np.random.default_rng(0).uniform(-reach, reach, (count, 3))


def test_one_gaussian_is_a_ball(x64):
    """The distance is exact, its gradient 1, and the volume a ball's to 1 %."""
    ball = GaussianComplex(np.zeros((1, 3)), np.array([2.0]), 20.0, level=0.5)
    radius = 20 * math.sqrt(2 * math.log(4))
    points = jnp.asarray(scattered(150.0))
    r = np.linalg.norm(points, axis=-1)
    np.testing.assert_allclose(ball.distance(points), r - radius, atol=1e-4)
    slope = jax.jit(jax.vmap(jax.grad(ball.distance)))(points)
    np.testing.assert_allclose(jnp.linalg.norm(slope, axis=-1), 1.0, atol=1e-5)
    expected = 4 / 3 * math.pi * radius**3
    np.testing.assert_allclose(ball.measurements()["volume"], expected, rtol=0.01)


@pytest.mark.parametrize("name", LIKE)
def test_complexes_have_their_mass_and_volume(name):
    """The integral by counting is the exact one to 0.1 %, the volume above the level to 1 %."""
    body = LIKE[name]()
    values = np.asarray(density(body, box(body.bounding_radius(), 6.0)), np.float64)
    np.testing.assert_allclose(values.sum() * 6.0**3, body.integral(), rtol=1e-3)
    np.testing.assert_allclose(body.integral() / PROTEIN_VOLUME / 1e6, MEGADALTON[name], rtol=1e-3)
    above = (values > 0.4).sum() * 6.0**3
    np.testing.assert_allclose(above, body.measurements()["volume"], rtol=0.01)
    assert 0.8 < values.max() < 1.6  # about that of solid protein


@pytest.mark.parametrize("name", LIKE)
def test_distance_of_a_complex_near_its_envelope(name):
    """Against voxels of 3 angstrom: within 5 angstrom of it, half are off by less than 0.8."""
    body = LIKE[name]()
    points = box(body.bounding_radius(), 3.0)
    inside = np.asarray(density(body, points)) > 0.4
    outer = scipy.ndimage.distance_transform_edt(~inside, 3.0) - 1.5
    inner = scipy.ndimage.distance_transform_edt(inside, 3.0) - 1.5
    some = np.random.default_rng(0).choice(inside.size, 40000)
    truth = np.where(inside, -inner, outer).reshape(-1)[some]
    points = points.reshape(-1, 3)[some]
    d = np.asarray(distance(body, points))
    np.testing.assert_array_equal(d < 0, inside.reshape(-1)[some])
    error = np.abs(d - truth)[np.abs(truth) < 5]
    assert np.median(error) < 0.8 and np.percentile(error, 95) < 2.5
    # From 20 angstrom on it is less exact; the room it takes up is underrated by 15 at most.
    far = truth > 20
    ratio = d[far] / truth[far]
    assert ratio.min() > 0.6 and ratio.max() < 1.5
    assert (np.asarray(body.excluded_volume(points)) - truth)[far].max() < 15


def test_ribosome_is_two_subunits_of_ribosome_size():
    body = ribosome()
    inside = np.asarray(density(body, box(200.0, 5.0))) > 0.4
    extents = [5.0 * np.ptp(np.flatnonzero(inside.any(axes))) for axes in ((1, 2), (0, 2), (0, 1))]
    assert all(180 < e < 300 for e in extents)
    assert scipy.ndimage.label(inside)[1] == 1
    # The waist between the subunits is narrower than either.
    area = inside.sum((1, 2)) * 25.0
    z = np.arange(-197.5, 200, 5.0)
    waist = area[np.abs(z + 35) < 25].min()
    assert waist < 0.6 * area[z > -10].max() and waist < 0.85 * area[z < -60].max()


def test_proteasome_is_a_hollow_barrel_with_two_caps():
    body = proteasome()
    inside = np.asarray(density(body, box(260.0, 5.0))) > 0.3
    along = inside.any((0, 2))
    assert 400 < 5.0 * along.sum() < 500
    axis = np.zeros((61, 3), np.float32)
    axis[:, 1] = np.linspace(-60, 60, 61)
    assert density(body, axis).max() < 0.3
    middle = inside[:, 52]  # y = 2.5
    assert 95 < 5.0 * np.ptp(np.flatnonzero(middle.any(1))) < 130
    turned = np.array([1.0, -1.0, -1.0]) * scattered(200.0).astype(np.float32)
    caps = np.abs(turned[:, 1]) > 100
    there = density(body, scattered(200.0).astype(np.float32))[caps]
    np.testing.assert_allclose(there, density(body, turned.astype(np.float32))[caps], atol=1e-3)


def test_apoferritin_is_a_hollow_shell():
    body = apoferritin()
    r = np.arange(0, 90, 1.0)
    directions = np.random.default_rng(0).normal(size=(500, 1, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    profile = np.asarray(density(body, (directions * r[:, None]).astype(np.float32))).mean(0)
    wide = r[profile > profile.max() / 2]
    np.testing.assert_allclose([wide[0], wide[-1]], [40, 61], atol=5)
    assert profile[0] < 0.01 and distance(body, np.zeros((1, 3), np.float32))[0] > 15


def test_gradients_of_a_complex(x64):
    points = jnp.asarray(scattered(60.0, 30))
    body = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), apoferritin())

    def f(body, points):
        return body.density(points), body.distance(points)

    check_grads(f, (body, points), 1, ["rev"], 1e-4, 1e-4, eps=1e-5)


def ball_map(step, radius=60.0, size=160.0):
    axis = np.arange(-size / 2, size / 2 + step / 2, step)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    return (0.5 - (np.linalg.norm(points, axis=-1) - radius) / 20).clip(0, 1).astype(np.float32)


def test_a_map_is_its_voxels_and_what_lies_between():
    values = np.random.default_rng(0).uniform(0, 1, (7, 8, 9)).astype(np.float32)
    body = MapDensity.from_map(values, (4.0, 5.0, 6.0), level=0.5)
    index = np.stack(np.indices(values.shape), -1)
    voxels = (index - (np.array(values.shape) - 1) / 2) * np.array([4.0, 5.0, 6.0])
    np.testing.assert_allclose(body.density(voxels.astype(np.float32)), values, atol=1e-5)
    halfway = (voxels[:, :, :-1] + [0, 0, 3.0]).astype(np.float32)
    mean = (values[:, :, 1:] + values[:, :, :-1]) / 2
    np.testing.assert_allclose(body.density(halfway), mean, atol=1e-5)
    outside = np.array([[0.0, 0.0, 40.0], [body.bounding_radius(), 0, 0]], np.float32)
    np.testing.assert_allclose(body.density(outside), 0.0, atol=1e-6)


def test_a_map_of_a_ball_is_a_ball():
    """Distances within a voxel (4 angstrom), also outside the map's box; the volume to 2 %."""
    body = MapDensity.from_map(ball_map(4.0), (4.0, 4.0, 4.0), level=0.5, label=LUMEN)
    points = scattered(78.0).astype(np.float32)
    r = np.linalg.norm(points, axis=-1)
    np.testing.assert_allclose(body.distance(points), r - 60.0, atol=4.0)
    far = np.array([[0.0, 0.0, 120.0], [-150.0, 0.0, 0.0]], np.float32)
    np.testing.assert_allclose(body.distance(far), [60.0, 90.0], atol=4.0)
    expected = 4 / 3 * math.pi * 60.0**3
    np.testing.assert_allclose(body.measurements()["volume"], expected, rtol=0.02)
    clear = np.abs(r - 60) > 4
    found = np.asarray(body.labels(points))[clear]
    np.testing.assert_array_equal(found, np.where(r < 60, LUMEN, 0)[clear])


def test_maps_of_one_size_keep_their_content_at_any_voxel_size():
    """The integral is that of the map, turned and at voxels of 9 to 11 angstrom, to 1 %."""
    rng = np.random.default_rng(0)
    maps = {
        "even": np.pad(ball_map(10.0)[:16, :16, :16], 4),
        "long": np.pad(ball_map(10.0, radius=30.0), ((12, 12), (1, 1), (1, 1))),
    }
    made = {name: MapDensity.from_map(m, (10.0,) * 3, 0.5) for name, m in maps.items()}
    same = of_one_size(made, level=0.5)
    assert len({one.values.shape for one in same.values()}) == 1
    for name, one in same.items():
        assert one.measurements() == made[name].measurements()
        assert one.bounding_radius() < 110.0  # that of the ball, and not that of the box
        for size in (9.0, 10.0, 11.0):
            turn = random_rotation(rng).astype(np.float32)
            centre = (14 * size + rng.uniform(-5, 5, 3)).astype(np.float32)
            truth = render(Scene((Placed(one, centre, turn),), (28, 28, 28), size))
            total = float(truth.density.sum()) * size**3
            assert total == pytest.approx(maps[name].sum() * 1e3, rel=0.01)


@pytest.mark.parametrize(
    "values, voxel_size, level, message",
    [
        (ball_map(20.0), (4.0, 4.0, 4.0), 2.0, "level 2.0 must be between"),
        (ball_map(20.0), (4.0, 4.0, 4.0), -1.0, "level -1.0 must be between"),
        (ball_map(20.0), (4.0, 0.0, 4.0), 0.5, "voxel_size"),
        (np.full((3, 3, 3), np.nan, np.float32), (1.0, 1.0, 1.0), 0.5, "not finite"),
    ],
)
def test_maps_without_an_envelope_are_refused(values, voxel_size, level, message):
    with pytest.raises(ValueError, match=message):
        MapDensity.from_map(values, voxel_size, level)


def test_a_solid_is_its_surface_blurred(x64):
    """Level inside, half of it on the surface, none outside; a Gaussian's flank between."""
    body = Solid(Sphere(80.0), LUMEN, level=3.0, edge=4.0)
    points = np.zeros((5, 3))
    points[:, 1] = [0.0, 76.0, 80.0, 84.0, 120.0]
    flank = 0.15865525393145707  # beyond one standard deviation
    expected = [3.0, 3 * (1 - flank), 1.5, 3 * flank, 0.0]
    np.testing.assert_allclose(body.density(points), expected, atol=1e-9)
    np.testing.assert_array_equal(body.labels(points), [LUMEN, LUMEN, 0, 0, 0])
    assert Solid(Torus(80.0, 20.0)).label == MACROMOLECULE


def test_gold_outshines_protein_and_is_of_no_class():
    bead = GoldBead(50.0)
    points = scattered(70.0).astype(np.float32)
    r = np.linalg.norm(points, axis=-1)
    np.testing.assert_allclose(bead.density(points[r < 40]), 10.0, atol=1e-3)
    assert not np.asarray(bead.labels(points)).any()
    np.testing.assert_allclose(bead.excluded_volume(points), r - 50.0, atol=1e-4)


def test_ice_is_an_irregular_lump_of_its_size(key):
    """Radii vary by the roughness, within its bound; the distance is right to first order."""
    lump = IceCrystal.random(key, 400.0, roughness=0.15)
    directions = np.random.default_rng(0).normal(size=(4000, 1, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    r = np.arange(200, 600, 4.0)
    inside = np.asarray(distance(lump, (directions * r[:, None]).astype(np.float32))) < 0
    radius = 200 + 4.0 * inside.sum(1)
    assert 0.08 < radius.std() / 400 < 0.2 and abs(radius.mean() / 400 - 1) < 0.15
    assert radius.max() <= lump.boulder.bounding_radius() + 4.0
    other = IceCrystal.random(jax.random.key(1), 400.0, roughness=0.15)
    assert not np.allclose(other.boulder.phases, lump.boulder.phases)
    ball = IceCrystal.random(key, 400.0, roughness=0.0)
    np.testing.assert_allclose(
        distance(ball, directions[:, 0].astype(np.float32) * 450), 50, atol=1
    )
