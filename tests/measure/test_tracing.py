"""Traced filaments against curves whose length is known, in whole, broken and noisy masks."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import KDTree
from skimage.morphology import skeletonize

from cryojax_seg.measure.centreline import Filament
from cryojax_seg.measure.skeleton import closed
from cryojax_seg.measure.tracing import trace_filaments
from cryojax_seg.measure.tracing_limits import TracingLimits

VOXEL = (10.0, 10.0, 10.0)
T = np.linspace(0, 1, 3000)[:, None]


def tube(curve, radius, shape, voxel_size=VOXEL, round_ends=False):
    """Voxels within a radius of a dense curve; without the half balls at its ends, if not round."""
    points = np.indices(shape).reshape(3, -1).T * np.asarray(voxel_size)
    distance, nearest = KDTree(curve).query(points, distance_upper_bound=radius * 1.001)
    inside = distance <= radius
    for end, inner in ((0, 1), (len(curve) - 1, len(curve) - 2)):
        outside = (points - curve[end]) @ (curve[end] - curve[inner]) > 0
        inside &= round_ends | ~((nearest == end) & outside)
    return inside.reshape(shape)


def line(start, stop):
    start, stop = np.asarray(start, float), np.asarray(stop, float)
    return start + (stop - start) * T


def helix(radius=120.0, pitch=260.0, turns=1.5, centre=(55.0, 203.0, 197.0), phase=0.3):
    angle = 2 * np.pi * turns * T[:, 0] + phase
    z = centre[0] + pitch * turns * T[:, 0]
    curve = np.stack([z, centre[1] + radius * np.cos(angle), centre[2] + radius * np.sin(angle)], 1)
    return curve, turns * float(np.hypot(2 * np.pi * radius, pitch))


HELIX_SHAPE = (50, 40, 40)
BENT = TracingLimits(maximum_curvature_per_nm=0.12)


@pytest.mark.parametrize("round_ends", [False, True])
@pytest.mark.parametrize("radius", [15.0, 20.0, 30.0, 40.0])
def test_length_of_a_helix_within_two_percent(radius, round_ends):
    curve, length = helix()
    mask = tube(curve, radius, HELIX_SHAPE, round_ends=round_ends)
    limits = dataclasses.replace(BENT, round_ends=round_ends)
    (found,) = trace_filaments(mask, VOXEL, limits)
    assert found.length_angstrom == pytest.approx(length, rel=0.015)
    assert found.radius_angstrom == pytest.approx(radius, rel=0.05)
    assert found.covered == 1.0 and found.at_border == (False, False)
    # Nowhere is the axis a third of a voxel from the truth, but for its smoothed ends.
    distance = KDTree(curve).query(found.at(found.arc_lengths_angstrom(5.0)))[0]
    assert np.quantile(distance, 0.9) < 3.5


def test_a_skeleton_is_not_enough():
    """What the fit is for: the voxels of a skeleton are 15 % off."""
    curve, length = helix()
    mask = tube(curve, 30.0, HELIX_SHAPE)
    assert abs(skeletonize(mask).sum() * 10.0 / length - 1) > 0.1


@pytest.mark.parametrize("sides", [(4, 4), (6, 7), (2, 2), (8, 3), (1, 1)])
def test_rods_of_any_width(sides):
    """Those of an even number of voxels vanish when scikit-image 0.26 thins them."""
    mask = np.zeros((14, 14, 60), bool)
    mask[3 : 3 + sides[0], 3 : 3 + sides[1], 5:55] = True
    for axes in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        (found,) = trace_filaments(mask.transpose(axes), VOXEL)
        assert found.length_angstrom == pytest.approx(500, rel=0.01)
        area = sides[0] * sides[1] * 100.0
        assert np.pi * found.radius_angstrom**2 == pytest.approx(area, rel=0.01)


def test_length_and_curvature_of_straight_and_bent_tubes():
    straight = line((82, 87, 81), (254, 374, 539))
    mask = tube(straight, 30.0, (35, 45, 62))
    (found,) = trace_filaments(mask, VOXEL)
    assert found.length_angstrom == pytest.approx(np.linalg.norm([172, 287, 458]), rel=0.005)
    assert found.curvature_per_angstrom(found.arc_lengths_angstrom(10.0)).max() < 0.0003
    angle = np.pi * T[:, 0]
    arc = np.stack([98 + 50 * T[:, 0], 101 + 300 * np.sin(angle), 402 - 300 * np.cos(angle)], 1)
    (found,) = trace_filaments(tube(arc, 30.0, (26, 52, 80)), VOXEL)
    assert found.length_angstrom == pytest.approx(np.hypot(300 * np.pi, 50), rel=0.01)
    inner = found.arc_lengths_angstrom(10.0)[15:-15]
    assert found.curvature_per_angstrom(inner).mean() == pytest.approx(1 / 300, rel=0.05)


def test_voxels_that_are_not_cubes():
    voxel_size = (20.0, 8.0, 10.0)
    curve, length = helix(radius=200.0, pitch=150.0, centre=(110.0, 298.0, 302.0))
    mask = tube(curve, 40.0, (24, 70, 58), voxel_size)
    (found,) = trace_filaments(mask, voxel_size, BENT)
    assert found.length_angstrom == pytest.approx(length, rel=0.015)
    assert found.radius_angstrom == pytest.approx(40.0, rel=0.05)


@pytest.mark.parametrize("degrees", [90, 60, 30])
def test_filaments_that_cross_are_two(degrees):
    way = np.array([0, np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])
    centre, along = np.array([103.0, 352, 347]), np.array([0, 0, 1.0])
    mask = np.zeros((21, 70, 70), bool)
    for direction in (along, way):
        mask |= tube(line(centre - 295 * direction, centre + 296 * direction), 30.0, mask.shape)
    found = trace_filaments(mask, VOXEL)
    assert [f.length_angstrom for f in found] == pytest.approx([591, 591], rel=0.02)
    tangents = [f.tangents(np.array([f.length_angstrom / 2]))[0] for f in found]
    angle = np.degrees(np.arccos(abs(tangents[0] @ tangents[1])))
    assert angle == pytest.approx(degrees, abs=3)


def test_a_branch_keeps_the_straight_filament_whole():
    mother = line((103, 200, 55), (103, 200, 645))
    daughter = line((103, 200, 350), (103, 500, 420))
    mask = tube(mother, 30.0, (21, 60, 70)) | tube(daughter, 30.0, (21, 60, 70))
    found = trace_filaments(mask, VOXEL)
    assert len(found) == 2
    assert found[0].length_angstrom == pytest.approx(590, rel=0.01)
    # It begins where the mask of the other one ends.
    assert found[1].length_angstrom == pytest.approx(np.hypot(300, 70) - 30, rel=0.05)


def test_gaps_are_bridged_up_to_the_limit_and_straight_on_only():
    curve = line((103, 200, 55), (103, 340, 645))
    length = float(np.linalg.norm(curve[-1] - curve[0]))
    mask = tube(curve, 30.0, (21, 60, 70))
    mask[:, :, 30:41] = False
    (found,) = trace_filaments(mask, VOXEL)
    assert found.length_angstrom == pytest.approx(length, rel=0.01)
    assert found.covered == pytest.approx(1 - 110 / 590, abs=0.03)
    limits = TracingLimits(maximum_gap_angstrom=80)
    parts = trace_filaments(mask, VOXEL, limits)
    total = length * (1 - 110 / 590)
    assert sum(p.length_angstrom for p in parts) == pytest.approx(total, rel=0.02)
    assert len(parts) == 2
    # An end that faces the side of the other one is no continuation.
    side = tube(line((103, 100, 60), (103, 100, 340)), 30.0, (21, 60, 70))
    side |= tube(line((103, 130, 400), (103, 560, 400)), 30.0, (21, 60, 70))
    assert len(trace_filaments(side, VOXEL)) == 2


def test_neighbours_that_nearly_touch_stay_apart():
    mask = np.zeros((21, 60, 70), bool)
    for y in (200, 290, 380):
        mask |= tube(line((103, y, 55), (103, y, 645)), 35.0, mask.shape)
    found = trace_filaments(mask, VOXEL)
    assert [f.length_angstrom for f in found] == pytest.approx([590] * 3, rel=0.01)


@pytest.mark.parametrize("radius", [20.0, 30.0, 40.0])
def test_noise_of_the_mask(radius):
    """One in ten voxels of the surface is wrong, and one in five hundred elsewhere."""
    curve, length = helix()
    rng = np.random.default_rng(int(radius))
    mask = tube(curve, radius, HELIX_SHAPE)
    surface = ndimage.binary_dilation(mask) ^ ndimage.binary_erosion(mask)
    mask = mask ^ (surface & (rng.random(mask.shape) < 0.1)) | (rng.random(mask.shape) < 0.002)
    (found,) = trace_filaments(mask, VOXEL, BENT)
    assert found.length_angstrom == pytest.approx(length, rel=0.02)


def test_hollow_filaments_are_filled_first():
    curve = line((178, 195, 102), (252, 255, 703))
    mask = tube(curve, 127.0, (43, 45, 81)) & ~tube(curve, 87.0, (43, 45, 81))
    (found,) = trace_filaments(mask, VOXEL, TracingLimits(lumen_radius_angstrom=95))
    assert found.length_angstrom == pytest.approx(np.linalg.norm(curve[-1] - curve[0]), rel=0.02)
    assert found.radius_angstrom == pytest.approx(127, rel=0.03)


def test_probabilities_place_the_end_within_the_voxel():
    """An end that moves by a quarter of a voxel is seen in probabilities, not in a mask."""
    lengths = []
    for stop in (500.0, 502.5, 505.0, 507.5):
        z, y, x = np.indices((17, 17, 60)) * 10.0
        inside = 1 / (1 + np.exp((np.hypot(z - 80, y - 80) - 30) / 3))
        p = inside / (1 + np.exp((x - stop) / 3)) / (1 + np.exp((100.0 - x) / 3))
        (found,) = trace_filaments(p > 0.1, VOXEL, probability=p)
        lengths.append(found.length_angstrom)
    assert np.diff(lengths) == pytest.approx([2.5] * 3, abs=1.5)
    assert lengths[0] == pytest.approx(400, rel=0.01)


def test_a_filament_that_leaves_the_volume_says_so():
    mask = tube(line((100, 152, -100), (100, 148, 420)), 30.0, (21, 31, 60))
    (found,) = trace_filaments(mask, VOXEL)
    assert sorted(found.at_border) == [False, True]
    assert found.length_angstrom == pytest.approx(425, rel=0.01)


def test_limits_of_length_and_curvature():
    mask = tube(line((100, 152, 100), (100, 148, 280)), 30.0, (21, 31, 60))
    assert trace_filaments(mask, VOXEL) == []
    assert len(trace_filaments(mask, VOXEL, TracingLimits(minimum_length_angstrom=150))) == 1
    corner = np.concatenate(
        [line((100, 105, 101), (100, 105, 650)), line((100, 105, 650), (100, 660, 650))]
    )
    mask = tube(corner, 30.0, (21, 80, 80))
    assert len(trace_filaments(mask, VOXEL)) == 2
    assert len(trace_filaments(mask, VOXEL, TracingLimits(maximum_curvature_per_nm=1.0))) == 1


def test_nothing_and_bad_input():
    assert trace_filaments(np.zeros((5, 5, 5), bool), VOXEL) == []
    assert trace_filaments(np.eye(5, dtype=bool)[None] & False, VOXEL) == []
    one = np.zeros((5, 5, 5), bool)
    one[2, 2, 2] = True
    assert trace_filaments(one, VOXEL, TracingLimits(minimum_length_angstrom=0)) == []
    assert len(trace_filaments(~one & False | True, VOXEL)) == 0
    with pytest.raises(ValueError, match="voxel_size"):
        trace_filaments(one, (10.0, 0.0, 10.0))
    with pytest.raises(ValueError, match="probability has shape"):
        trace_filaments(one, VOXEL, probability=np.zeros((5, 5, 6)))
    with pytest.raises(ValueError, match="maximum_angle_degrees"):
        TracingLimits(maximum_angle_degrees=0)
    with pytest.raises(ValueError, match="minimum_length_angstrom"):
        TracingLimits(minimum_length_angstrom=-1)


def test_filling_fills_holes_and_lumens_but_no_slits():
    block = np.ones((9, 9, 9), bool)
    block[4, 4, 4] = False
    assert closed(block, 0.0, VOXEL).all()
    slit = np.ones((9, 9, 9), bool)
    slit[:, 4] = False
    assert np.array_equal(closed(slit, 0.0, VOXEL), slit)
    wide = np.zeros((12, 12, 12), bool)
    wide[:, :3] = wide[:, 9:] = True
    assert not closed(wide, 20.0, VOXEL)[:, 4:8].any()
    assert closed(wide, 45.0, VOXEL)[:, 4:8].all()


def test_a_curve_through_points_is_measured_exactly():
    angle = np.linspace(0, np.pi, 200)
    half = Filament.through(np.stack([0 * angle, 50 * np.cos(angle), 50 * np.sin(angle)], 1))
    assert half.length_angstrom == pytest.approx(50 * np.pi, rel=1e-4)
    middle = half.arc_lengths_angstrom(1.0)[20:-20]
    assert half.curvature_per_angstrom(middle) == pytest.approx(
        np.full(len(middle), 0.02), rel=1e-3
    )
    assert half.at(middle)[:, 1:] / 50 == pytest.approx(
        np.stack([np.cos(middle / 50), np.sin(middle / 50)], 1), abs=1e-4
    )
    assert half.tangents(middle)[:, 1] == pytest.approx(-np.sin(middle / 50), abs=1e-3)


def test_specks_before_a_gap_do_not_hide_the_end():
    """A piece of the full cross-section, a gap, and the filament: the end is a number."""
    from cryojax_seg.measure.fitting import _ends

    area = np.array([9.0] + 12 * [0.0] + 30 * [9.0] + [0.0])
    first, last = _ends(area, 9.0, 1.7, 1.0)
    assert first == -0.5 and last == 42.5
