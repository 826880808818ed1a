"""Curvatures and normals against analytic surfaces, and meshes."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg import io, measure

sys.path.insert(0, str(Path(__file__).parent))
import shapes

HALF = 20


def soft(distance):
    return jax.nn.sigmoid(jnp.asarray(-distance, jnp.float32))


def on_surface(distance):
    """Away from the faces, where a surface that is cut at a slant meets its mirror image."""
    near = np.abs(distance) < 0.5
    inner = np.zeros_like(near)
    inner[6:-6, 6:-6, 6:-6] = True
    return near & inner


def check(values, distance, mean, gaussian, rel, scale=1.5):
    """Near the surface: mean of the relative error of the mean curvature, and of the Gaussian."""
    found = measure.level_set_curvature(values, scale)
    near = on_surface(distance)
    size = np.abs(mean[near]).mean()
    assert np.abs(np.asarray(found.mean)[near] - mean[near]).mean() < rel * size
    error = np.abs(np.asarray(found.gaussian)[near] - gaussian[near]).mean()
    assert error < 2 * rel * max(np.abs(gaussian[near]).mean(), size**2)
    return found, near


@pytest.mark.parametrize("kind", ["distance", "probability"])
def test_sphere_and_cylinder(kind):
    points = shapes.grid(HALF)
    for distance, far, both in (
        (shapes.sphere(points, 12), np.linalg.norm(points, axis=0), True),
        (np.hypot(points[1], points[2]) - 12, np.hypot(points[1], points[2]), False),
    ):
        values = soft(distance) if kind == "probability" else jnp.asarray(-distance, jnp.float32)
        bend = 1 / np.maximum(far, 1)
        mean, gaussian = (bend, bend**2) if both else (bend / 2, 0 * bend)
        found, near = check(values, distance, mean, gaussian, 0.05)
        outwards = points / far if both else points * [[[[0]]], [[[1]]], [[[1]]]] / far
        turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
        back = np.einsum("ji,j...->...i", turn, outwards)  # the grid is turned, the array is not
        cosine = (np.asarray(found.normal) * back).sum(-1)[near]
        assert cosine.mean() > 0.999


def test_torus():
    """``1 / r`` around the tube, ``cos(t) / (R + r cos t)`` around the axis."""
    points = shapes.grid((17, 27, 27), turned=False)
    ring = np.hypot(points[1], points[2])
    tube = np.hypot(ring - 14, points[0])
    first = 1 / np.maximum(tube, 1)
    second = (ring - 14) / np.maximum(tube, 1) / np.maximum(ring, 1)
    check(soft(tube - 7), tube - 7, (first + second) / 2, first * second, 0.08)


def test_ellipsoid():
    """Goldman's formulas applied to ``1 - x^2 / a^2 - ...`` by hand, on its zero level set."""
    axes = np.array([9.0, 12.0, 15.0])
    points = shapes.grid(HALF, turned=False)
    weight = (1 / axes**2).reshape(3, 1, 1, 1)
    level = (points**2 * weight).sum(0)
    g = (points**2 * weight**2).sum(0)
    gaussian = 1 / (np.prod(axes**2) * np.maximum(g, 1e-9) ** 2)
    trace = (1 / axes**2).sum()
    mean = (trace - (points**2 * weight**3).sum(0) / np.maximum(g, 1e-9)) / (
        2 * np.sqrt(np.maximum(g, 1e-9))
    )
    distance = (level - 1) / (2 * np.sqrt(np.maximum(g, 1e-9)))
    check(jnp.asarray(1 - level, jnp.float32) * 50, distance, mean, gaussian, 0.03, scale=1.0)


def test_anisotropic_voxels_in_angstrom():
    points = shapes.grid(20, (2.0, 1.0, 1.0), turned=False)
    distance = shapes.sphere(points, 13)
    values = jnp.asarray(-distance, jnp.float32)
    found = measure.level_set_curvature(values, 2.0, (20.0, 10.0, 10.0))
    near = on_surface(distance)
    assert np.asarray(found.mean)[near].mean() * 130 == pytest.approx(1, abs=0.04)
    assert np.asarray(found.gaussian)[near].mean() * 130**2 == pytest.approx(1, abs=0.08)


def test_gradients_are_finite_where_a_volume_is_flat(x64, check_gradients):
    values = jnp.asarray(np.random.default_rng(0).normal(size=(5, 6, 5)))

    def bending(volume):
        found = measure.level_set_curvature(volume, 1.0)
        return jnp.tanh(found.mean).sum() + jnp.tanh(found.gaussian).sum() + found.normal[1].sum()

    check_gradients(bending, values, rtol=1e-3)
    for flat in (jnp.zeros((5, 5, 5)), jnp.ones((5, 5, 5))):
        assert np.isfinite(jax.grad(bending)(flat)).all()


def test_mesh_of_an_ellipsoid_and_its_files(tmp_path):
    points = shapes.grid(26, turned=False)
    axes = (14.0, 18.0, 22.0)
    mask = (points**2 / np.reshape(axes, (3, 1, 1, 1)) ** 2).sum(0) <= 1
    mesh = measure.boundary_mesh(mask, (10.0, 10.0, 10.0))
    area = 100 * shapes.ellipsoid_area(axes)
    assert measure.mesh_area(mesh.vertices, mesh.faces) == pytest.approx(area, rel=0.02)
    centre = mesh.vertices.mean(0)
    assert ((mesh.vertices - centre) * mesh.normal).sum(1).min() > 0
    # Gauss-Bonnet: the Gaussian curvature of a closed surface adds up to 4 pi.
    corners = mesh.vertices[mesh.faces]
    crossed = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    pieces = np.linalg.norm(crossed, axis=1) / 2
    total = (mesh.gaussian[mesh.faces].mean(1) * pieces).sum()
    assert total == pytest.approx(4 * np.pi, rel=0.06)
    volume = (corners[:, 0] * crossed).sum() / 6
    assert volume == pytest.approx(1000 * 4 / 3 * np.pi * np.prod(axes), rel=0.03)  # faces outwards

    values = {"mean_curvature": mesh.mean, "gaussian_curvature": mesh.gaussian}
    for suffix in (".obj", ".ply", ".stl"):
        io.write_mesh(tmp_path / f"mesh{suffix}", mesh.vertices, mesh.faces, values)
    text = (tmp_path / "mesh.obj").read_text().splitlines()
    first = [float(v) for v in text[0].split()[1:]]
    np.testing.assert_allclose(first, mesh.vertices[0, ::-1], rtol=1e-5)
    assert len(text) == len(mesh.vertices) + len(mesh.faces)
    header, _, body = (tmp_path / "mesh.ply").read_bytes().partition(b"end_header\n")
    assert b"property float mean_curvature" in header
    table = np.frombuffer(body, "<f4", 5 * len(mesh.vertices)).reshape(-1, 5)
    np.testing.assert_array_equal(table[:, :3], mesh.vertices[:, ::-1])
    np.testing.assert_array_equal(table[:, 3], mesh.mean)
    assert len(body) == 20 * len(mesh.vertices) + 13 * len(mesh.faces)
    stl = (tmp_path / "mesh.stl").read_bytes()
    assert len(stl) == 84 + 50 * len(mesh.faces)
    record = np.frombuffer(stl[84:134], "<f4", 12).reshape(4, 3)
    place = record[1:].mean(0) - centre[::-1]
    assert (record[0] * place).sum() > 0  # also outwards in (x, y, z)
    for suffix in (".glb", ".surf"):
        io.write_mesh(tmp_path / f"mesh{suffix}", mesh.vertices, mesh.faces)
    glb = (tmp_path / "mesh.glb").read_bytes()
    assert glb[:4] == b"glTF" and np.frombuffer(glb[4:12], "<u4").tolist() == [2, len(glb)]
    length = int(np.frombuffer(glb[12:16], "<u4")[0])
    stated = json.loads(glb[20 : 20 + length])
    held = glb[28 + length :]
    assert stated["buffers"][0]["byteLength"] == len(held) and length % 4 == 0
    count = stated["accessors"][0]["count"]
    positions = np.frombuffer(held, "<f4", 3 * count).reshape(-1, 3)
    np.testing.assert_array_equal(positions, mesh.vertices[:, ::-1])
    listed = np.frombuffer(held, "<u4", offset=12 * count).reshape(-1, 3)
    np.testing.assert_array_equal(listed, mesh.faces[:, ::-1])
    lines = (tmp_path / "mesh.surf").read_text().splitlines()
    assert lines[0] == "# HyperSurface 0.1 ASCII"
    start = lines.index(f"Vertices {count}") + 1
    rows = np.array([line.split() for line in lines[start : start + count]], float)
    np.testing.assert_allclose(rows, mesh.vertices[:, ::-1], rtol=1e-6, atol=1e-4)
    start = lines.index(f"Triangles {len(mesh.faces)}") + 1
    rows = np.array([line.split() for line in lines[start:-1]], int)  # from 1
    np.testing.assert_array_equal(rows - 1, mesh.faces[:, ::-1])
    with pytest.raises(io.FileError, match=".vtk"):
        io.write_mesh(tmp_path / "mesh.vtk", mesh.vertices, mesh.faces)


def test_nothing_has_no_mesh():
    for values in (np.zeros((6, 6, 6), bool), np.ones((6, 6, 6), bool)):
        mesh = measure.boundary_mesh(values)
        assert len(mesh.vertices) == len(mesh.faces) == 0


def test_an_area_penalty_shrinks_a_phantom():
    """Gradient descent on its area: a soft ball loses area and with it volume."""
    start = 2.0 * (
        6.0 - jnp.linalg.norm(jnp.indices((18, 18, 18), dtype=jnp.float32) - 8.5, axis=0)
    )

    def loss(logits):
        return measure.coarea(jax.nn.sigmoid(logits))

    step = jax.jit(lambda x: x - 20.0 * jax.grad(loss)(x))
    logits, areas = start, [float(loss(start))]
    for _ in range(30):
        logits = step(logits)
        areas.append(float(loss(logits)))
    assert areas[-1] < 0.9 * areas[0] and np.isfinite(areas).all()
    assert jax.nn.sigmoid(logits).sum() < 0.95 * jax.nn.sigmoid(start).sum()
