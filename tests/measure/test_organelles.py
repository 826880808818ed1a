"""Volumes, lumens and distances of analytic bodies and membranes."""

import sys
from pathlib import Path

import numpy as np
import pytest

from cryojax_seg import measure

sys.path.insert(0, str(Path(__file__).parent))
import shapes


def shell(radius, thickness, half):
    return np.abs(shapes.sphere(shapes.grid(half, turned=False), radius)) <= thickness / 2


def test_a_ball_and_an_ellipsoid():
    points = shapes.grid(26)
    ball = measure.object_shape(shapes.sphere(points, 18) <= 0, (10.0, 10.0, 10.0))
    assert ball.volume == pytest.approx(4 / 3 * np.pi * 180**3, rel=0.01)
    assert ball.area == pytest.approx(4 * np.pi * 180**2, rel=0.015)
    assert ball.surface_to_volume == pytest.approx(3 / 180, rel=0.02)
    assert ball.sphericity == pytest.approx(1, abs=0.015)
    axes = (8.0, 12.0, 24.0)
    inside = (points**2 / np.reshape(axes, (3, 1, 1, 1)) ** 2).sum(0) <= 1
    area, volume = shapes.ellipsoid_area(axes), 4 / 3 * np.pi * np.prod(axes)
    body = measure.object_shape(inside)
    assert body.volume == pytest.approx(volume, rel=0.01)
    expected = np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area
    assert body.sphericity == pytest.approx(expected, rel=0.02)
    assert measure.object_shape(inside[20:]).sphericity is None  # cut: its whole is not known


def test_the_lumen_of_a_closed_membrane():
    found = measure.lumen(shell(18, 3, 24))
    assert found.closed
    assert found.mask.sum() == pytest.approx(4 / 3 * np.pi * 16.5**3, rel=0.01)


def test_the_lumen_of_an_open_membrane_is_that_within_slices():
    """A sphere without its top and bottom, as tomograms show them: a barrel."""
    whole = shell(18, 3, 24)
    height = np.arange(whole.shape[0])[:, None, None] - 24 + 0.3
    found = measure.lumen(whole & (np.abs(height) < 10))
    assert not found.closed
    expected = np.pi * (16.5**2 * 20 - 20**3 / 12)
    assert found.mask.sum() == pytest.approx(expected, rel=0.05)
    slit = whole & (np.abs(height) < 10) & (np.abs(shapes.grid(24, turned=False)[2]) > 2)
    assert not measure.lumen(slit).mask.any()
    bridged = measure.lumen(slit, gap=8)
    assert not bridged.closed and bridged.mask.sum() == pytest.approx(expected, rel=0.05)
    cup = whole & (shapes.grid(24, turned=False)[2] < 4)  # open to the side: no slice is closed
    assert not measure.lumen(cup).closed


def test_distances_between_concentric_spheres():
    inner, outer = (measure.membrane_sheet(shell(r, 3, 30), (14.0, 14.0, 14.0)) for r in (16, 24))
    there, back = measure.distances(inner, outer), measure.distances(outer, inner)
    for found in (there, back):
        assert found.mean() == pytest.approx(8 * 14, abs=0.15 * 14)
        assert found.quantile(0.05) == pytest.approx(8 * 14, abs=0.3 * 14)
        assert found.quantile(0.95) == pytest.approx(8 * 14, abs=0.3 * 14)
    assert there.area.sum() == pytest.approx(4 * np.pi * (16 * 14) ** 2, rel=0.02)
    assert there.contact_area(7 * 14) == 0
    assert there.contact_area(9 * 14) == pytest.approx(there.area.sum())


def test_contact_area_of_a_sphere_above_a_plane():
    """Within d of a plane that touches it from below lies the zone of height d: 2 pi R d."""
    points = shapes.grid(26, turned=False)
    sphere = measure.membrane_sheet(np.abs(shapes.sphere(points, 16)) <= 1.5)
    plane = measure.membrane_sheet(np.abs(points[0] + 20) <= 1.5)
    found = measure.distances(sphere, plane)
    assert found.contact_area(4 + 6) == pytest.approx(2 * np.pi * 16 * 6, rel=0.08)
    assert measure.distances(sphere, plane, farthest=10).area.sum() == pytest.approx(
        found.contact_area(10)
    )


def test_nothing_gives_zeros():
    nothing = np.zeros((6, 7, 8), bool)
    assert measure.object_shape(nothing) == (0, 0, None, None)
    assert not measure.lumen(nothing).mask.any()
    sheet = measure.membrane_sheet(nothing)
    found = measure.distances(sheet, sheet)
    assert found.mean() is None and found.quantile(0.5) is None and found.contact_area(10) == 0
    assert measure.interval_if_present(lambda m: float(m.sum()), nothing.astype(np.float32)) == (
        0,
        0,
    )
