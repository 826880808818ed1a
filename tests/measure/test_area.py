"""Areas against analytic values: spheres, ellipsoids, tori and open caps, thick and thin."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg import measure

sys.path.insert(0, str(Path(__file__).parent))
import shapes

TORUS = 4 * np.pi**2


@pytest.mark.parametrize(
    ("radius", "thickness"), [(10, 3), (15, 1.5), (15, 4), (16, 5), (25, 2), (24, 7)]
)
def test_mid_surface_of_a_spherical_membrane(radius, thickness):
    mask = np.abs(shapes.sphere(shapes.grid(radius + thickness), radius)) <= thickness / 2
    sheet = measure.membrane_sheet(mask)
    within = 0.02 if thickness >= 3 else 0.035
    assert measure.membrane_area(sheet) == pytest.approx(4 * np.pi * radius**2, rel=within)
    assert sheet.thickness.mean() == pytest.approx(thickness, rel=0.04)
    assert sheet.edge_length < 0.2 * 2 * np.pi * radius  # there is none; noise of curved sheets


@pytest.mark.parametrize("thickness", [3, 5])
def test_mid_surface_of_a_torus_and_of_an_ellipsoid(thickness):
    mask = np.abs(shapes.torus(shapes.grid((24, 56, 56), turned=False), 32, 14)) <= thickness / 2
    assert measure.membrane_area(mask) == pytest.approx(TORUS * 32 * 14, rel=0.02)
    axes = (13.0, 16.0, 22.0)
    mask = np.abs(shapes.ellipsoid(shapes.grid(26), axes)) <= thickness / 2
    assert measure.membrane_area(mask) == pytest.approx(shapes.ellipsoid_area(axes), rel=0.02)


@pytest.mark.parametrize("thickness", [3, 4, 5])
@pytest.mark.parametrize(("radius", "angle"), [(20, 60), (28, 90), (25, 120)])
def test_rims_of_an_open_cap_are_no_area(radius, angle, thickness):
    """Both with a rim that ends where the surface does, and dilated half a thickness beyond."""
    distance, inside = shapes.cap(shapes.grid(radius + 6), radius, angle)
    area = shapes.cap_area(radius, angle)
    length = 2 * np.pi * radius * np.sin(np.deg2rad(angle))
    flat = measure.membrane_sheet((distance <= thickness / 2) & inside)
    assert measure.membrane_area(flat) == pytest.approx(area, rel=0.02)
    assert flat.edge_length == pytest.approx(length, rel=0.18)
    dilated = measure.membrane_sheet(distance <= thickness / 2)
    assert measure.membrane_area(dilated, rim="round") == pytest.approx(area, rel=0.02)
    assert measure.membrane_area(dilated) > 1.015 * area


def test_a_rim_at_a_slant_is_cut_in_the_middle():
    points = shapes.grid(26)
    mask = (np.abs(shapes.sphere(points, 20)) <= 2) & (points[0] >= 10)
    assert measure.membrane_area(mask) == pytest.approx(2 * np.pi * 20 * 10, rel=0.02)


@pytest.mark.parametrize("voxel_size", [(2.0, 1.0, 1.0), (1.0, 1.5, 1.0), (3.0, 1.0, 1.0)])
def test_anisotropic_voxels(voxel_size):
    points = shapes.grid(27, voxel_size)
    shell = np.abs(shapes.sphere(points, 20)) <= 2.5
    expected = 4 * np.pi * 20**2
    assert measure.membrane_area(shell, voxel_size) == pytest.approx(expected, rel=0.02)
    ball = shapes.sphere(points, 20) <= 0
    assert measure.boundary_area(ball, voxel_size) == pytest.approx(expected, rel=0.02)
    soft = jax.nn.sigmoid(jnp.asarray(-shapes.sphere(points, 20) / max(voxel_size), jnp.float32))
    assert measure.coarea(soft, voxel_size) == pytest.approx(expected, rel=0.02)


def test_faces_of_the_array_are_no_surface():
    """A sphere cut by the upper face at a given height keeps the area below it (Archimedes)."""
    points = shapes.grid(28, turned=False)
    cut = int(np.argmin(np.abs(points[0, :, 0, 0] - 8)))
    area = 2 * np.pi * 20 * (20 + points[0, cut, 0, 0] - 0.5)
    points = points[:, :cut]
    mask = np.abs(shapes.sphere(points, 20)) <= 1.5
    sheet = measure.membrane_sheet(mask)
    assert measure.membrane_area(sheet) == pytest.approx(area, rel=0.02)
    assert sheet.edge_length < 5
    assert measure.boundary_area(shapes.sphere(points, 20) <= 0) == pytest.approx(area, rel=0.02)
    soft = jax.nn.sigmoid(jnp.asarray(-shapes.sphere(points, 20), jnp.float32))
    assert measure.coarea(soft) == pytest.approx(area, rel=0.02)


def test_a_surface_one_voxel_thick_keeps_its_area():
    """Voxels nearest to points of a sphere, as centre-lines and triangles are painted."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400_000, 3))
    points *= 25 / np.linalg.norm(points, axis=1, keepdims=True)
    mask = np.zeros((60, 60, 60), bool)
    mask[tuple(np.rint(points + 30).astype(int).T)] = True
    assert measure.membrane_area(mask) == pytest.approx(4 * np.pi * 25**2, rel=0.025)


@pytest.mark.parametrize(
    ("distance", "area"),
    [
        (lambda p: shapes.sphere(p, 12), 4 * np.pi * 12**2),
        (lambda p: shapes.torus(p, 20, 9), TORUS * 20 * 9),
        (lambda p: shapes.ellipsoid(p, (10, 14, 20)), shapes.ellipsoid_area((10, 14, 20))),
    ],
    ids=["sphere", "torus", "ellipsoid"],
)
def test_boundary_of_a_body(distance, area):
    values = distance(shapes.grid(31))
    assert measure.boundary_area(values <= 0) == pytest.approx(area, rel=0.015)
    mask = jnp.asarray(values <= 0, jnp.float32)
    assert measure.coarea(mask, smoothing=1.0) == pytest.approx(area, rel=0.015)
    assert measure.coarea(jax.nn.sigmoid(jnp.asarray(-2 * values, jnp.float32))) == pytest.approx(
        area, rel=0.015
    )


@pytest.mark.parametrize("radius", [2, 3, 4, 5, 6, 9])
def test_small_balls_have_their_area_and_volume_and_are_the_roundest(radius):
    mask = shapes.sphere(shapes.grid(radius + 5), radius) <= 0
    mesh = measure.boundary_mesh(mask, (10.0, 10.0, 10.0))
    area = measure.boundary_area(mask, (10.0, 10.0, 10.0))
    assert area == pytest.approx(400 * np.pi * radius**2, rel=0.015)
    assert measure.mesh_area(mesh.vertices, mesh.faces) == pytest.approx(area, rel=1e-5)
    assert measure.boundary_surface(mask).volume() == pytest.approx(
        np.count_nonzero(mask), rel=2e-3
    )
    assert 0.97 < measure.object_shape(mask).sphericity <= 1


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 2), (2, 2, 2), (1, 1, 9), (1, 8, 8)])
def test_nothing_is_rounder_than_a_ball(shape):
    mask = np.pad(np.ones(shape, bool), 4)
    assert 0.2 < measure.object_shape(mask).sphericity <= 1
    assert measure.boundary_surface(mask).volume() == pytest.approx(np.prod(shape), rel=0.01)


def test_the_mesh_of_a_body_ends_at_the_face_that_cuts_it():
    """A quarter of a cylinder of radius 8 along z, in a corner of the array."""
    z, y, x = np.indices((12, 20, 20)) + 0.5
    mask = (np.hypot(y, x) <= 8) & (z > 0)
    mesh = measure.boundary_mesh(mask, (10.0, 10.0, 10.0))
    area = measure.mesh_area(mesh.vertices, mesh.faces)
    radius = np.sqrt(4 / np.pi * np.count_nonzero(mask) / 12)  # of the circle of as many voxels
    assert area == pytest.approx(100 * 12 * np.pi / 2 * radius, rel=0.015)
    assert area == pytest.approx(measure.boundary_area(mask, (10.0, 10.0, 10.0)), rel=1e-5)
    np.testing.assert_allclose(mesh.vertices.min(0), [-5, -5, -5], atol=1e-3)
    assert mesh.vertices[:, 0].max() == pytest.approx(115)


def test_half_the_coarea_of_a_soft_membrane_is_its_mid_surface():
    """Thickness t: ``((R + t / 2)^2 + (R - t / 2)^2) / 2 = R^2 + t^2 / 4``, 1.6 % here."""
    distance = shapes.sphere(shapes.grid(26), 20)
    soft = jax.nn.sigmoid(jnp.asarray((2.5 - np.abs(distance)) / 0.6, jnp.float32))
    expected = 4 * np.pi * (20**2 + 2.5**2)
    assert measure.coarea(soft) / 2 == pytest.approx(expected, rel=0.035)


def test_nothing_has_no_area():
    nothing = np.zeros((6, 7, 8), bool)
    sheet = measure.membrane_sheet(nothing)
    assert measure.membrane_area(sheet) == 0 and sheet.edge_length == 0
    assert measure.membrane_area(nothing, rim="round") == 0
    assert measure.boundary_area(nothing) == measure.boundary_area(~nothing) == 0
    assert measure.coarea(jnp.zeros((6, 7, 8))) == 0


def test_gradients_of_the_coarea(x64, check_gradients):
    values = np.random.default_rng(0).uniform(size=(5, 6, 7))
    check_gradients(lambda p: measure.coarea(p, (1.0, 2.0, 1.5)), jnp.asarray(values))
    check_gradients(lambda p: measure.coarea(p, smoothing=0.8), jnp.asarray(values))
    for flat in (jnp.zeros((4, 4, 4)), jnp.ones((4, 4, 4))):
        np.testing.assert_array_equal(jax.grad(measure.coarea)(flat), 0)
