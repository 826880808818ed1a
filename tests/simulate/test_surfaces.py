import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial
from jax.test_util import check_grads

from cryojax_seg.simulate.arcs import Capsule
from cryojax_seg.simulate.sheets import Cap, Cisterna, Cup, Disc, Plane, WavedSheet
from cryojax_seg.simulate.surfaces import Ellipsoid, Sphere, Torus

CLOSED = {
    "sphere": Sphere(300.0),
    "ellipsoid": Ellipsoid((150.0, 300.0, 220.0)),
    "pancake": Ellipsoid((100.0, 300.0, 300.0)),
    "torus": Torus(250.0, 80.0),
    "capsule": Capsule(300.0, 120.0),
    "bent capsule": Capsule(400.0, 110.0, 1 / 300),
    "cisterna": Cisterna(220.0, 60.0),
    "cup": Cup(300.0, 0.9, 50.0),
}
OPEN = {"disc": (Disc(250.0), 250.0), "cap": (Cap(280.0, 1.1), 280.0 * math.sin(1.1))}
OPEN["deep cap"] = (Cap(200.0, 2.0), 200.0 * math.sin(2.0))
SURFACES = CLOSED | {name: surface for name, (surface, _) in OPEN.items()}
distance = jax.jit(lambda surface, points: surface.distance(points))
normal = jax.jit(lambda surface, points: surface.normal(points))


def over(names):
    return pytest.mark.parametrize("name", names)


def grid(reach, count):
    axis = np.linspace(-reach, reach, count, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    return points, axis[1] - axis[0]


def scattered(surface, count=4000, margin=1.2, seed=0):
    """Points in the cube around the surface, none of them special."""
    reach = margin * surface.bounding_radius()
    return np.random.default_rng(seed).uniform(-reach, reach, (count, 3))


@over(CLOSED)
def test_voxelised_volume_is_the_analytic_one(name):
    """Voxels at the surface count by how deep it cuts them: 0.2 %."""
    points, step = grid(CLOSED[name].bounding_radius() + 20.0, 80)
    filled = np.clip(0.5 - np.asarray(distance(CLOSED[name], points)) / step, 0, 1)
    volume = filled.sum(dtype=np.float64) * step**3
    np.testing.assert_allclose(volume, CLOSED[name].measurements()["volume"], rtol=2e-3)


@over(CLOSED)
def test_voxelised_area_is_the_analytic_one(name):
    """Coarea: the integral of a Gaussian of the distance; its width adds (sigma/r)^2. 0.5 %."""
    points, step = grid(CLOSED[name].bounding_radius() + 40.0, 96)
    d = np.asarray(distance(CLOSED[name], points), np.float64)
    delta = np.exp(-np.square(d / step) / 2) / (math.sqrt(2 * math.pi) * step)
    area = delta.sum() * step**3
    np.testing.assert_allclose(area, CLOSED[name].measurements()["area"], rtol=5e-3)


@over(OPEN)
def test_voxelised_area_of_a_sheet_with_an_edge(name):
    """Round the edge the Gaussian of the distance adds its half tube, exactly known: 0.5 %."""
    surface, rim = OPEN[name]
    points, step = grid(surface.bounding_radius() + 40.0, 96)
    d = np.asarray(distance(surface, points), np.float64)
    delta = np.exp(-np.square(d / step) / 2) / (math.sqrt(2 * math.pi) * step)
    edge = 2 * math.pi * rim * step * math.sqrt(math.pi / 2)
    np.testing.assert_allclose(
        delta.sum() * step**3 - edge, surface.measurements()["area"], rtol=5e-3
    )


def test_length_of_a_tube_is_its_volume_over_its_cross_section():
    tube = CLOSED["capsule"]
    points, step = grid(tube.bounding_radius() + 20.0, 80)
    filled = np.clip(0.5 - np.asarray(distance(tube, points)) / step, 0, 1)
    ends = 4 / 3 * math.pi * 120.0**3
    length = (filled.sum(dtype=np.float64) * step**3 - ends) / (math.pi * 120.0**2)
    np.testing.assert_allclose(length, tube.measurements()["length"], rtol=4e-3)


@over(SURFACES)
def test_the_distance_is_one(name, x64):
    """The gradient is a unit vector, and a step of it down the distance ends on the surface."""
    surface = SURFACES[name]
    points = jnp.asarray(scattered(surface))
    d = distance(surface, points)
    slope = jax.jit(jax.vmap(jax.grad(surface.distance)))(points)
    np.testing.assert_allclose(jnp.linalg.norm(slope, axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(normal(surface, points), slope, atol=1e-6)
    foot = points - d[:, None] * slope
    np.testing.assert_allclose(distance(surface, foot), 0.0, atol=1e-5)
    assert np.all(np.linalg.norm(foot, axis=-1) <= surface.bounding_radius() + 1e-5)


@over(CLOSED)
def test_inside_is_negative(name):
    surface = CLOSED[name]
    points = scattered(surface).astype(np.float32)
    far = np.array([[0, 0, 3.0], [0, 3.0, 0], [-3.0, 0, 0]], np.float32) * surface.bounding_radius()
    assert (np.asarray(distance(surface, far)) > surface.bounding_radius()).all()
    np.testing.assert_array_equal(surface.inside(points), np.asarray(distance(surface, points)) < 0)
    assert surface.inside(points).any()


@over(OPEN)
def test_an_open_sheet_has_sides_but_no_inside(name):
    surface, _ = OPEN[name]
    above = np.array([[10.0, 0, 0], [-10.0, 0, 0]], np.float32)
    np.testing.assert_allclose(distance(surface, above), [10.0, -10.0], atol=1e-3)
    assert not surface.inside(scattered(surface).astype(np.float32)).any()


def test_ellipsoid_against_the_nearest_of_many_points():
    """A mesh with 0.7 angstrom between points: 0.02 angstrom at 10 angstrom or more."""
    axes = np.array([60.0, 150.0, 100.0])
    u, v = np.meshgrid(np.linspace(0, np.pi, 700), np.linspace(0, 2 * np.pi, 1400))
    mesh = axes * np.stack([np.cos(u), np.sin(u) * np.sin(v), np.sin(u) * np.cos(v)], -1)
    egg = Ellipsoid(axes)
    points = scattered(egg, 2000).astype(np.float32)
    # Also on the symmetry planes and axes, within the focal curves, where the foot is not unique.
    points[:300, 0] = 0.0
    points[200:500, 1:] *= np.array([0.0, 1.0], np.float32)
    points[500:510] = 0.0
    nearest, _ = scipy.spatial.cKDTree(mesh.reshape(-1, 3)).query(points)
    d = np.asarray(distance(egg, points))
    far = nearest > 10
    np.testing.assert_allclose(np.abs(d)[far], nearest[far], atol=0.02)
    np.testing.assert_array_equal(d < 0, np.square(points / axes).sum(1) < 1)


def test_ellipsoid_with_equal_axes_is_a_sphere():
    points = scattered(Sphere(200.0)).astype(np.float32)
    ball = distance(Ellipsoid((200.0, 200.0, 200.0)), points)
    np.testing.assert_allclose(ball, distance(Sphere(200.0), points), atol=2e-4)
    areas = Ellipsoid((200.0,) * 3).measurements()["area"], Sphere(200.0).measurements()["area"]
    np.testing.assert_allclose(*areas, rtol=1e-12)


def test_waved_sheet_is_exact_when_flat_and_first_order_when_not():
    points = scattered(Sphere(100.0)).astype(np.float32)
    flat = distance(WavedSheet(0.0, 400.0), points)
    np.testing.assert_allclose(flat, distance(Plane(), points), atol=1e-5)
    sheet = WavedSheet(30.0, 400.0)
    y, x = points[:, 1], points[:, 2]
    height = 15 * (np.sin(2 * np.pi * y / 400) + np.sin(2 * np.pi * x / 400))
    near = np.stack([height, y, x], -1).astype(np.float32)
    np.testing.assert_allclose(distance(sheet, near), 0.0, atol=1e-3)
    off = near + 5.0 * np.asarray(normal(sheet, near))
    np.testing.assert_allclose(distance(sheet, off), 5.0, rtol=0.05)


DEGENERATE = np.array(
    [[0, 0, 0], [0, 0, 250], [0, 250, 0], [250, 0, 0], [0, 0, 100], [0, -250, 0], [-280, 0, 0]]
)


@over(SURFACES)
def test_gradients_are_finite_where_the_distance_has_none(name, x64):
    """Centres, axes and edges: no NaN, in points and in parameters."""
    surface = jax.tree.map(jnp.asarray, SURFACES[name])
    points = jnp.asarray(DEGENERATE, float)

    def total(surface, points):
        return surface.distance(points).sum()

    for leaf in jax.tree.leaves(jax.jit(jax.grad(total, argnums=(0, 1)))(surface, points)):
        assert np.isfinite(leaf).all()
    lengths = np.linalg.norm(surface.normal(points), axis=-1)
    assert ((np.abs(lengths - 1) < 1e-9) | (lengths < 1e-9)).all()


@over(SURFACES)
def test_gradients_in_points_and_parameters(name, x64):
    surface = jax.tree.map(jnp.asarray, SURFACES[name])
    points = jnp.asarray(scattered(surface, 20))

    def f(surface, points):
        return jax.tree.map(jnp.asarray, surface).distance(points)

    check_grads(
        jax.jit(f), (surface, points), order=1, modes=["rev"], atol=1e-5, rtol=1e-5, eps=1e-6
    )


def test_ellipsoid_normals_have_gradients(x64):
    """Second derivatives, through two Newton steps, against finite differences."""
    points = jnp.asarray(scattered(CLOSED["ellipsoid"], 10))

    def f(axes):
        return Ellipsoid(axes).normal(points)

    check_grads(f, (jnp.array([150.0, 300.0, 220.0]),), 1, ["rev"], 1e-4, 1e-4, eps=1e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sphere(0.0),
        lambda: Ellipsoid((1.0, -1.0, 2.0)),
        lambda: Torus(10.0, 20.0),
        lambda: Capsule(10.0, 0.0),
        lambda: Cap(10.0, 4.0),
        lambda: Cisterna(10.0, -1.0),
    ],
)
def test_impossible_sizes_are_refused_by_name(make):
    with pytest.raises(ValueError, match="radius|semi_axes|opening|half_thickness"):
        make()
