"""Axes of tubes against known lines: touching, cut by a face, filled, with a part of the wall."""

import numpy as np
import pytest
from scipy import ndimage

from cryojax_seg.measure.centreline import Filament
from cryojax_seg.measure.hollow import fit_tubes, stiff_parts
from cryojax_seg.measure.pieces import grown
from cryojax_seg.measure.tracing import refit, trace_filaments
from cryojax_seg.measure.tracing_limits import TracingLimits
from cryojax_seg.measure.tube_axes import tube_axes

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
        (210, 350, 620), (210, 350, 1060), shape
    )
    lengths = [f.length_angstrom for f in trace_filaments(mask, VOXEL, LIMITS)]
    assert lengths == pytest.approx([450, 450], rel=0.02)


def test_a_ring_that_is_exactly_half_full_at_its_end_is_no_error():
    line = np.array([[0.0, 0, 0], [0.0, 0, 0], [0.0, 0, 10], [0.0, 0, 20], [0.0, 0, 20]])
    assert Filament.through(line).length_angstrom == pytest.approx(20)


def test_a_path_is_cut_where_no_stiff_curve_goes():
    bent = np.array([[0.0, 0, 5 * i] for i in range(60)] + [[0.0, 5 * i, 300] for i in range(40)])
    assert [len(p) for p in stiff_parts(bent, 2500.0, 15.0)] == [60, 40]
    angle = np.linspace(0, 1, 100)[:, None]  # an arc of 500 nm is stiff
    arc = 5000 * np.concatenate([0 * angle, np.cos(angle / 5), np.sin(angle / 5)], 1)
    assert len(stiff_parts(arc, 2500.0, 5.0)) == 1


def test_what_has_something_in_its_lumen_is_no_tube():
    """As between a bundle and the walls of others, where a part of a ring is found everywhere."""
    wall = tube((200, 200, 50), (200, 200, 550), (40, 40, 60))
    path = np.array([[200.0, 200, 10.0 * i] for i in range(5, 56)])
    (found,) = fit_tubes([path], wall, 110.0, VOXEL, 2500.0)
    assert found.length_angstrom == pytest.approx(500, rel=0.03)
    rod = tube((200, 200, 50), (200, 200, 550), (40, 40, 60), radius=0, wall=45)
    assert fit_tubes([path], wall | rod, 110.0, VOXEL, 2500.0) == []


def test_a_short_ragged_piece_bends_no_more_than_its_class_can():
    rng, shape = np.random.default_rng(0), (44, 44, 40)
    mask = tube((210, 210, 50), (210, 210, 330), shape)
    mask &= abs(10.0 * np.arange(44)[:, None, None] - 210) < 80  # no top and no bottom
    mask &= ndimage.gaussian_filter(rng.normal(size=shape), 1.5) > -0.02
    path = np.array([[210.0 + 25 * np.sin(i / 4), 210, 10.0 * i] for i in range(6, 33)])
    (found,) = fit_tubes([path], mask, 110.0, VOXEL, 2500.0)
    ways = found.tangents(np.array([0.0, found.length_angstrom]))
    assert np.arccos(min(ways[0] @ ways[1], 1.0)) < 1.1 * found.length_angstrom / 2500
    assert abs(found.tangents(np.array([0.0]))[0, 2]) > 0.99


def test_a_tube_goes_on_as_far_as_its_faint_wall():
    """Of 1065 angstrom 400 are drawn; the rest is probable, or hardly."""
    shape = (44, 44, 112)
    whole = tube((210, 210, -50), (210, 210, 1060), shape)
    mask = whole.copy()
    mask[:, :, 40:] = False
    lengths = []
    for faint in (0.3, 0.15):
        probability = np.where(mask, 0.9, np.where(whole, faint, 0.02)).astype(np.float32)
        found = trace_filaments(mask, VOXEL, LIMITS, probability)
        lengths += [one.length_angstrom for one in found]
    assert lengths == pytest.approx([1065, 400], abs=20)


def test_pieces_of_one_tube_grow_together():
    shape = (44, 44, 112)
    whole = tube((210, 210, 60), (210, 210, 1060), shape)
    pieces = [
        Filament.through(np.array([[210.0, 210, x] for x in span]), radius_angstrom=127.0)
        for span in ((60, 200, 300), (800, 850, 900))
    ]
    (found,) = grown(pieces, whole, 110.0, VOXEL, 2500.0)
    assert found.length_angstrom == pytest.approx(1000, rel=0.02)


def test_a_short_tube_must_come_from_a_face():
    shape = (44, 44, 70)
    free, cut = (tube((210, 210, x), (210, 210, 350), shape) for x in (50, -50))
    assert trace_filaments(free, VOXEL, LIMITS) == []
    (found,) = trace_filaments(cut, VOXEL, LIMITS)
    assert found.length_angstrom == pytest.approx(355, rel=0.03)
