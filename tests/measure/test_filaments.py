"""Rows and summaries of filaments against scenes whose measurements are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from cryojax_seg.measure import filaments
from cryojax_seg.measure.centreline import Filament
from cryojax_seg.measure.filaments import measure_filaments
from cryojax_seg.measure.tracing_limits import TracingLimits
from cryojax_seg.simulate import ActinBundle, Microtubule, Placed
from cryojax_seg.simulate.arcs import hexagonal

VOXEL = (10.0, 10.0, 10.0)


def distance_of(structure, shape, centre):
    points = 10.0 * np.indices(shape, np.float32).reshape(3, -1).T
    distance = jax.jit(Placed(structure, centre).distance)(jnp.asarray(points))
    return np.asarray(distance).reshape(shape)


@pytest.fixture(scope="module")
def bundle():
    """Seven bent actin filaments: the signed distance to their tubes."""
    structure = ActinBundle(700.0, curvature=1 / 4000, spacing=150.0)
    distance = distance_of(structure, (40, 84, 44), (195.0, 415.0, 215.0))
    return structure, distance


def test_an_actin_bundle_is_measured_as_it_was_made(bundle):
    structure, distance = bundle
    limits = TracingLimits(round_ends=True)
    rows, summary = measure_filaments(distance <= 0, VOXEL, limits=limits)
    truth = structure.measurements()["length"]
    assert summary.count.value == 7 and summary.count.low is None
    assert 1e4 * summary.total_length_um.value == pytest.approx(truth, rel=0.02)
    region = distance.size * 1e-9
    assert summary.region_um3 == pytest.approx(region)
    assert summary.length_density_um_per_um3.value == pytest.approx(1e-4 * truth / region, rel=0.02)
    assert summary.spacing_nm.value == pytest.approx(15, rel=0.02)
    assert summary.order_parameter.value > 0.98
    assert summary.director_zyx == pytest.approx((0, 1, 0), abs=0.05)
    assert summary.order_if_random < 0.8
    lengths = [r.length_nm.value for r in rows]
    assert lengths == sorted(lengths, reverse=True)
    each = 70 * (1 - structure.spacing * hexagonal(7)[:, 1] / 4000)
    assert sorted(lengths) == pytest.approx(sorted(each), rel=0.01)
    for row in rows:
        # An arc of this angle over its chord.
        assert row.tortuosity == pytest.approx(1 + (700 / 4000) ** 2 / 24, abs=0.002)
        assert row.mean_curvature_per_nm == pytest.approx(1 / 400, abs=0.0025)
        assert row.radius_nm == pytest.approx(3.5, rel=0.05)
        assert row.spacing_nm == pytest.approx(15, rel=0.03)
        assert row.covered == 1 and not row.at_border
        ends = np.subtract(row.stop_nm, row.start_nm)
        assert row.end_to_end_nm == pytest.approx(np.linalg.norm(ends))


def test_filaments_that_a_face_cuts_have_no_say_in_stiffness_and_ends(bundle):
    _, distance = bundle
    limits = TracingLimits(round_ends=True)
    _, whole = measure_filaments(distance <= 0, VOXEL, limits=limits)
    assert whole.ends == 14 and 0 < whole.persistence_length_um.value < 10
    rows, cut = measure_filaments(distance[:, :60] <= 0, VOXEL, limits=limits)
    assert [row.at_border for row in rows] == [True] * 7
    assert cut.ends == 7 and cut.persistence_length_um is None
    assert cut.persistence_length_at_least_um > 0


def test_walls_of_a_microtubule():
    tube = Microtubule(800.0, curvature=1 / 6000)
    shape = (44, 100, 44)
    wall = np.abs(distance_of(tube, shape, (215.0, 495.0, 215.0))) <= 20.0
    limits = TracingLimits.of_class("microtubule", round_ends=True)
    rows, _ = measure_filaments(wall, VOXEL, limits=limits)
    assert [r.length_nm.value for r in rows] == pytest.approx([80], rel=0.01)
    assert rows[0].tortuosity == pytest.approx(1 + (800 / 6000) ** 2 / 24, abs=2e-4)
    assert rows[0].radius_nm == pytest.approx(12.7, rel=0.03)


def test_intervals_cover_the_truth_and_follow_the_probabilities(bundle):
    structure, distance = bundle
    limits, truth = TracingLimits(round_ends=True), structure.measurements()["length"]
    widths = []
    for softness in (1.0, 3.0):
        p = expit(-distance / softness).astype(np.float32)
        rows, summary = measure_filaments(p > 0.5, VOXEL, p, limits, samples=8)
        total = summary.total_length_um
        assert total.low <= 1e-4 * truth * 1.005 and 1e-4 * truth <= total.high * 1.005
        assert total.low < total.value <= total.high
        assert summary.count.low <= 7 <= summary.count.high
        widths.append(np.mean([r.length_nm.high - r.length_nm.low for r in rows]))
        for row in rows:
            assert row.length_nm.low <= row.length_nm.value <= row.length_nm.high
    assert 0 < widths[0] < widths[1]


def test_part_of_a_region_and_nothing_at_all():
    mask = np.zeros((11, 11, 60), bool)
    mask[4:7, 4:7, 5:55] = True
    region = np.zeros(mask.shape, bool)
    region[:, :, :30] = True
    _, whole = measure_filaments(mask, VOXEL)
    _, half = measure_filaments(mask, VOXEL, region=region)
    ratio = half.number_density_per_um3.value / whole.number_density_per_um3.value
    assert ratio == pytest.approx(2)
    p = np.zeros(mask.shape, np.float32)
    rows, nothing = measure_filaments(mask & False, VOXEL, p, samples=3)
    assert rows == [] and nothing.count == (0, 0, 0) and nothing.total_length_um == (0, 0, 0)
    assert nothing.order_parameter is None and nothing.persistence_length_um is None
    with pytest.raises(ValueError, match="region is empty"):
        measure_filaments(mask, VOXEL, region=region & False)
    with pytest.raises(ValueError, match="region has shape"):
        measure_filaments(mask, VOXEL, region=region[:5])


def test_an_unsure_background_is_no_filament(bundle):
    """Level sets below 0.2 are the whole volume, and have no say."""
    _, distance = bundle
    p = (0.2 + 0.8 * expit(-distance)).astype(np.float32)
    limits = TracingLimits(round_ends=True)
    rows, summary = measure_filaments(distance <= 0, VOXEL, p, limits, samples=5)
    assert summary.count == (7, 7, 7)
    assert summary.total_length_um.low > 0.97 * summary.total_length_um.value


def test_each_number_of_an_instance_map_is_one_filament():
    """Two that touch side by side, and one in two pieces; voxels of 10 angstrom."""
    numbers = np.zeros((20, 30, 80), np.int32)
    numbers[5:8, 5:8, 5:75], numbers[5:8, 8:11, 5:55] = 4, 9
    rows, summary = measure_filaments(numbers, (10.0, 10.0, 10.0))
    assert [row.instance for row in rows] == [4, 9]
    assert [row.length_nm.value for row in rows] == pytest.approx([70, 50], rel=0.03)
    assert rows[1].start_nm[:2] == pytest.approx((6, 9), abs=0.2)
    assert summary.count.value == 2
    assert summary.spacing_nm.value == pytest.approx(3, rel=0.1)


def test_an_impossible_axis_is_in_no_total(monkeypatch):
    angle = np.linspace(0, np.pi, 40)
    arc = 300 * np.stack([0 * angle, np.sin(angle), np.cos(angle)], 1)  # of 30 nm
    line = np.array([[0.0, 0, 0], [0.0, 0, 300], [0.0, 0, 600]])
    axes = [Filament.through(points) for points in (arc, line)]
    monkeypatch.setattr(filaments, "trace_filaments", lambda *_: axes)
    limits = TracingLimits.of_class("microtubule")
    rows, summary = measure_filaments(np.ones((4, 4, 4), bool), VOXEL, limits=limits)
    assert [row.tortuosity for row in rows] == [None, 1.0]
    assert summary.count.value == 1 and summary.ends == 2
    assert summary.total_length_um.value == pytest.approx(0.06)
