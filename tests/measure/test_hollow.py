"""Axes of tubes against known lines: touching, cut by a face, filled, with a part of the wall."""

import numpy as np
import pytest

from cryojax_seg.measure.centreline import Filament
from cryojax_seg.measure.hollow import stiff_parts, tube_axes
from cryojax_seg.measure.tracing import TracingLimits, refit, trace_filaments

VOXEL = (10.0, 10.0, 10.0)
LIMITS = TracingLimits.of_class("microtubule")


def tube(start, stop, shape, radius=107.0, wall=20.0):
    """The wall around the line between two points, with flat ends."""
    start, stop = np.asarray(start, float), np.asarray(stop, float)
    shift = 10.0 * np.moveaxis(np.indices(shape), 0, -1) - start
    way = (stop - start) / np.linalg.norm(stop - start)
    along = shift @ way
    across = np.linalg.norm(shift - along[..., None] * way, axis=-1)
    within = (along >= 0) & (along <= np.linalg.norm(stop - start))
    return (abs(across - radius) <= wall) & within


def length_in(start, stop, shape):
    """The length of a line within a volume."""
    points = np.linspace(start, stop, 100_001)
    inside = ((points >= -5) & (points <= 10 * np.array(shape) - 5)).all(1)
    return float(np.linalg.norm(np.subtract(stop, start)) * inside.mean())


def test_tubes_that_touch_have_their_own_axes():
    shape = (40, 64, 70)
    lines = [((200, 180, -50), (200, 180, 750)), ((210, 435, 100), (170, 435, 600))]
    mask = np.logical_or.reduce([tube(*line, shape) for line in lines])
    found = trace_filaments(mask, VOXEL, LIMITS)
    lengths = [length_in(*line, shape) for line in lines]
    assert [f.length_angstrom for f in found] == pytest.approx(lengths, rel=0.01)
    assert [f.at_border for f in found] == [(True, True), (False, False)]
    assert [f.radius_angstrom for f in found] == pytest.approx([127, 127], rel=0.03)
    again = refit(found, mask, VOXEL, LIMITS)
    assert [f.length_angstrom for f in again if f] == pytest.approx(lengths, rel=0.01)


@pytest.mark.parametrize("hidden", ["nothing", "the top and bottom", "a half, by a face"])
def test_a_part_of_the_wall_is_enough(hidden):
    start, stop, shape = (200.0, 250.0, 40.0), (230.0, 290.0, 610.0), (44, 52, 66)
    if hidden == "a half, by a face":
        start, stop = (5.0, 250.0, 40.0), (20.0, 290.0, 610.0)
    mask = tube(start, stop, shape)
    if hidden == "the top and bottom":  # as by the missing wedge, 0.4 of the ring
        z = 10.0 * np.arange(shape[0])[:, None, None]
        mask &= abs(z - 215) < 87
    (found,) = trace_filaments(mask, VOXEL, LIMITS)
    ends = found.ends_angstrom
    ends = ends if ends[0, 2] < ends[1, 2] else ends[::-1]
    assert ends == pytest.approx(np.array([start, stop]), abs=12)
    assert found.length_angstrom / np.linalg.norm(np.subtract(*ends)) < 1.001


def test_a_filled_tube_and_a_mask_without_tubes():
    mask = tube((200, 250, 60), (230, 290, 610), (44, 52, 66), radius=60, wall=67)
    (filled,) = trace_filaments(mask, VOXEL, LIMITS)
    assert filled.hollow and filled.length_angstrom == pytest.approx(552, rel=0.03)
    thin = tube((200, 250, 60), (230, 290, 610), (44, 52, 66), radius=0, wall=40)
    (solid,) = trace_filaments(thin, VOXEL, LIMITS)
    assert not solid.hollow and solid.length_angstrom == pytest.approx(552, rel=0.02)
    assert not tube_axes(thin, 110.0, VOXEL).any()


def test_pieces_in_one_line_are_one_tube_and_others_are_not():
    """A tube of 1000 angstrom that lacks 300 in its middle; and an end to end neighbour aside."""
    shape = (44, 56, 112)
    mask = tube((210, 270, 60), (210, 270, 1060), shape)
    mask[:, :, 40:70] = False
    (whole,) = trace_filaments(mask, VOXEL, LIMITS)
    assert whole.length_angstrom == pytest.approx(1000, rel=0.02)
    assert whole.covered == pytest.approx(0.7, abs=0.04)
    mask = tube((210, 180, 60), (210, 180, 500), shape) | tube(
        (210, 350, 700), (210, 350, 1060), shape
    )
    lengths = [f.length_angstrom for f in trace_filaments(mask, VOXEL, LIMITS)]
    assert lengths == pytest.approx([450, 370], rel=0.02)


def test_a_ring_that_is_exactly_half_full_at_its_end_is_no_error():
    line = np.array([[0.0, 0, 0], [0.0, 0, 0], [0.0, 0, 10], [0.0, 0, 20], [0.0, 0, 20]])
    assert Filament.through(line).length_angstrom == pytest.approx(20)


def test_a_path_is_cut_where_no_stiff_curve_goes():
    bent = np.array([[0.0, 0, 5 * i] for i in range(60)] + [[0.0, 5 * i, 300] for i in range(40)])
    assert [len(p) for p in stiff_parts(bent, 2500.0, 15.0)] == [60, 40]
    angle = np.linspace(0, 1, 100)[:, None]  # an arc of 500 nm is stiff
    arc = 5000 * np.concatenate([0 * angle, np.cos(angle / 5), np.sin(angle / 5)], 1)
    assert len(stiff_parts(arc, 2500.0, 5.0)) == 1
