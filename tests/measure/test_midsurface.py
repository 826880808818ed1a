"""Meshes, sides and curvatures of the mid-surfaces of membranes."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from cryojax_seg import measure

sys.path.insert(0, str(Path(__file__).parent))
import shapes


@pytest.mark.parametrize("thickness", [1.5, 3])
def test_mesh_of_a_closed_membrane(thickness):
    mask = np.abs(shapes.sphere(shapes.grid(22, turned=False), 15)) <= thickness / 2
    sheet = measure.membrane_sheet(mask, (10.0, 10.0, 10.0))
    mesh = measure.membrane_mesh(sheet, (10.0, 10.0, 10.0))
    area = 4 * np.pi * 150**2
    assert measure.mesh_area(mesh.vertices, mesh.faces) == pytest.approx(area, rel=0.03)
    centre = mesh.vertices.mean(0)
    radius = np.linalg.norm(mesh.vertices - centre, axis=1)
    assert radius.mean() == pytest.approx(150, abs=3) and radius.std() < 1.5
    assert ((mesh.vertices - centre) * mesh.normal).sum(1).min() > 0
    assert mesh.mean.mean() == pytest.approx(1 / 150, rel=0.05)
    assert mesh.gaussian.mean() == pytest.approx(1 / 150**2, rel=0.1)
    edges = np.sort(np.concatenate([mesh.faces[:, [i, j]] for i, j in ((0, 1), (1, 2), (2, 0))]))
    uses = np.unique(edges, axis=0, return_counts=True)[1]
    assert (uses == 2).mean() > 0.99  # nearly watertight


def test_mesh_and_curvature_of_a_torus():
    points = shapes.grid((20, 30, 30), turned=False)
    sheet = measure.membrane_sheet(np.abs(shapes.torus(points, 16, 8)) <= 1.5)
    mesh = measure.membrane_mesh(sheet)
    area = 4 * np.pi**2 * 16 * 8
    assert measure.mesh_area(mesh.vertices, mesh.faces) == pytest.approx(area, rel=0.04)
    place = mesh.vertices - mesh.vertices.mean(0)
    ring = np.hypot(place[:, 1], place[:, 2])
    expected = (ring - 16) / 8 / 8 / ring  # cos(t) / r (R + r cos t)
    assert np.corrcoef(expected, mesh.gaussian)[0, 1] > 0.95
    mean = (1 / 8 + (ring - 16) / 8 / ring) / 2
    assert np.abs(mesh.mean - mean).mean() < 0.1 * mean.mean()


def test_an_open_cap_has_an_open_mesh():
    distance, inside = shapes.cap(shapes.grid(24), 18, 75)
    sheet = measure.membrane_sheet((distance <= 1.5) & inside)
    mesh = measure.membrane_mesh(sheet)
    area = measure.mesh_area(mesh.vertices, mesh.faces)
    assert area == pytest.approx(shapes.cap_area(18, 75), rel=0.06)
    assert (mesh.mean > 0).mean() > 0.98 or (mesh.mean < 0).mean() > 0.98  # one side throughout


def closed_and_open():
    """Masks of membranes, how they end, their areas and distances of points to mid-surfaces."""
    points = shapes.grid(14)
    distance = shapes.sphere(points, 8)
    yield "small vesicle", np.abs(distance) <= 1.5, "flat", 4 * np.pi * 64, distance
    axes = (13.0, 16.0, 22.0)  # at its ends less than two thicknesses of radius
    distance = shapes.ellipsoid(shapes.grid(28), axes)
    yield "ellipsoid", np.abs(distance) <= 2.5, "flat", shapes.ellipsoid_area(axes), distance
    for rim in ("flat", "round"):
        distance, inside = shapes.cap(shapes.grid(26), 20, 60)
        mask = (distance <= 1.5) & (inside if rim == "flat" else True)
        yield f"cap, {rim}", mask, rim, shapes.cap_area(20, 60), distance


@pytest.mark.parametrize(
    ("mask", "rim", "area", "distance"),
    [pytest.param(*values, id=name) for name, *values in closed_and_open()],
)
def test_a_mesh_has_the_area_that_is_measured(mask, rim, area, distance):
    sheet = measure.membrane_sheet(mask)
    mesh = measure.membrane_mesh(sheet, rim=rim)
    own = measure.mesh_area(mesh.vertices, mesh.faces)
    assert own == pytest.approx(measure.membrane_area(sheet, rim=rim), rel=2e-3)
    assert own == pytest.approx(area, rel=0.02)
    away = np.abs(ndimage.map_coordinates(distance, mesh.vertices.T, order=1))
    assert np.quantile(away, 0.95) < 0.7


def test_nothing_has_no_mesh():
    mesh = measure.membrane_mesh(measure.membrane_sheet(np.zeros((6, 6, 6), bool)))
    assert mesh.vertices.shape == (0, 3) and mesh.faces.shape == (0, 3)
