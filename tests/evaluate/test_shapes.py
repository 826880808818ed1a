"""Scores of surfaces, topology, particles and bins against independent implementations."""

import itertools

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import KDTree
from scipy.spatial.distance import directed_hausdorff

from cryojax_seg import evaluate


def blobs(seed, shape=(20, 22, 18), level=0.0):
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.normal(size=shape), 2) > level


def boundary(mask):
    """Foreground voxels with a face neighbour in the background, within the volume."""
    points = []
    for p in np.argwhere(mask):
        for axis, step in itertools.product(range(3), (-1, 1)):
            q = p.copy()
            q[axis] += step
            if 0 <= q[axis] < mask.shape[axis] and not mask[tuple(q)]:
                points.append(p)
                break
    return np.array(points)


@pytest.mark.parametrize("seed", range(3))
def test_surface_distances_are_those_of_point_sets(seed):
    """Brute-force boundaries and KD-trees, with anisotropic voxels."""
    size = (10.0, 7.0, 5.0)
    p, t = blobs(seed), blobs(seed + 10, level=0.03)
    a, b = boundary(p) * size, boundary(t) * size
    ab, ba = KDTree(b).query(a)[0], KDTree(a).query(b)[0]
    expected = max(np.percentile(ab, 95), np.percentile(ba, 95))
    assert evaluate.hausdorff95(p, t, size) == pytest.approx(expected, rel=1e-9)
    whole = max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0])
    assert evaluate.hausdorff95(p, t, size, percentile=100) == pytest.approx(whole, rel=1e-9)
    near = ((ab <= 10.0 + 1e-9).sum() + (ba <= 10.0 + 1e-9).sum()) / (len(ab) + len(ba))
    assert evaluate.surface_dice(p, t, 10.0, size) == pytest.approx(near, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_boundary_iou_is_that_of_eroded_masks(seed):
    """A width of 1.0 keeps voxels with a face neighbour outside: the mask minus its erosion."""
    p, t = blobs(seed), blobs(seed + 10)
    bands = [m & ~ndimage.binary_erosion(m, border_value=1) for m in (p, t)]
    expected = (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum()
    assert evaluate.boundary_iou(p, t, 1.0) == pytest.approx(expected, rel=1e-12)
    wide = evaluate.boundary_iou(p, t, 100.0)
    assert wide == pytest.approx((p & t).sum() / (p | t).sum(), rel=1e-12)


def test_scores_of_nothing_are_undefined():
    nothing, something = np.zeros((5, 5, 5), bool), blobs(0, (5, 5, 5))
    assert evaluate.hausdorff95(nothing, nothing) is None
    assert evaluate.hausdorff95(something, nothing) is None
    assert evaluate.boundary_iou(nothing, nothing) is None
    assert evaluate.betti_error(nothing, nothing) is None
    empty = np.zeros((0, 3))
    score = evaluate.detection(empty, empty, 10.0)
    assert score.precision is None and score.recall is None and score.f_beta() is None
    values = np.linspace(0, 1, 8).reshape(2, 2, 2)
    assert evaluate.by_bins(lambda w: float(w.sum()), values, (2.0, 3.0)) == [None]
    assert evaluate.bootstrap_ratio([1], [2]) is None


def test_unannotated_voxels_have_no_surface():
    p, t = blobs(1), blobs(11)
    weights = np.ones(p.shape)
    weights[10:] = 0
    for score in (evaluate.hausdorff95, evaluate.boundary_iou):
        changed = np.where(weights > 0, p, ~p)
        assert score(p, t, weights=weights) == score(changed, t, weights=weights)


def grid(edge=24):
    return np.stack(np.meshgrid(*[np.arange(edge) - (edge - 1) / 2] * 3, indexing="ij"), -1)


def test_betti_numbers_of_known_shapes():
    z, y, x = np.moveaxis(grid(), -1, 0)
    ring = np.hypot(np.hypot(y, x) - 7, z) < 2.5
    radius = np.sqrt(z**2 + y**2 + x**2)
    assert evaluate.betti_numbers(radius < 6) == (1, 0, 0)
    assert evaluate.betti_numbers((radius < 9) & (radius > 6)) == (1, 0, 1)
    assert evaluate.betti_numbers(ring) == (1, 1, 0)
    assert evaluate.betti_numbers(ring | (radius < 1.5)) == (2, 1, 0)
    hole = (radius < 9) & (radius > 6) & ~((np.hypot(y, x) < 2.5) & (z > 0))
    assert evaluate.betti_numbers(hole) == (1, 0, 0)
    assert evaluate.betti_error(hole, (radius < 9) & (radius > 6)) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("seed", range(3))
def test_betti_numbers_add_up_to_the_euler_number_of_cells(seed):
    """Vertices minus edges plus faces minus cubes, counted one by one (26-connectivity)."""
    mask = np.random.default_rng(seed).uniform(size=(6, 7, 5)) > 0.6
    padded = np.pad(mask, 1)
    count = [0, 0, 0, 0]
    for extent in itertools.product((0, 1), repeat=3):  # cells of the closed cubical complex
        shape = [n - 1 + e for n, e in zip(padded.shape, extent, strict=True)]
        touched = np.zeros(shape, bool)
        for corner in itertools.product(*[(0,) if e else (0, 1) for e in extent]):
            where = tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))
            touched |= padded[where]
        count[sum(extent)] += int(touched.sum())
    b0, b1, b2 = evaluate.betti_numbers(mask)
    assert b0 - b1 + b2 == count[0] - count[1] + count[2] - count[3]
    assert b0 == ndimage.label(mask, np.ones((3, 3, 3)))[1]


@pytest.mark.parametrize("seed", range(5))
def test_detection_counts_every_particle_once(seed):
    """Against loops over all pairs."""
    rng = np.random.default_rng(seed)
    truth = 40.0 * np.stack(np.unravel_index(np.arange(27), (3, 3, 3)), -1)
    found = np.concatenate([truth[:18] + rng.normal(0, 4, (18, 3)), truth[:5], [[999.0, 0, 0]]])
    hits = sum(any(np.linalg.norm(t - f) <= 5.0 for f in found) for t in truth)
    score = evaluate.detection(found, truth, radius=10.0)
    assert score == evaluate.Detection(hits, len(found) - hits, len(truth) - hits)
    p, r = score.precision, score.recall
    assert score.f_beta(4.0) == pytest.approx(17 * p * r / (16 * p + r))


def test_equal_mass_bins_hold_equal_weight_and_find_what_wide_bins_average_out():
    """Against loops over sorted voxels."""
    rng = np.random.default_rng(0)
    p = rng.beta(0.4, 0.4, (10, 10, 10, 1))
    truth = (rng.uniform(size=(10, 10, 10)) < p[..., 0] ** 2).astype(int)
    bins = evaluate.reliability(p, truth, bins=10, binning="mass")
    np.testing.assert_allclose(bins.weight, 100, atol=1.5)
    confidence = np.maximum(p, 1 - p)[..., 0].ravel()
    correct = ((p[..., 0] > 0.5).astype(int) == truth).ravel()
    order = np.argsort(confidence)
    parts = np.array_split(order, 10)
    expected = np.mean([abs(correct[i].mean() - confidence[i].mean()) for i in parts])
    found = evaluate.expected_calibration_error(p, truth, bins=10, binning="mass")
    assert found == pytest.approx(expected, abs=0.004)  # bins differ by at most a voxel


def test_bootstrap_intervals_cover_the_truth():
    """40 instances of 50 voxels with a recall that varies between them: 95 % of 200 trials."""
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        rate = np.clip(rng.normal(0.6, 0.15, 40), 0, 1)
        low, high = evaluate.bootstrap_ratio(
            rng.binomial(50, rate), np.full(40, 50), resamples=400, seed=trial
        )
        covered += low <= 0.6 <= high
    assert 0.88 <= covered / 200 <= 0.99  # 0.945 +- 3 standard errors, the clip's bias within


def test_metrics_in_bins_are_metrics_of_the_parts():
    rng = np.random.default_rng(0)
    p, truth = rng.uniform(size=(6, 6, 6, 1)), rng.integers(0, 2, (6, 6, 6))
    depth = np.broadcast_to(np.arange(6.0)[:, None, None], (6, 6, 6))
    scores = evaluate.by_bins(lambda w: evaluate.brier_score(p, truth, w), depth, (0, 2, 5))
    assert scores == pytest.approx(
        [evaluate.brier_score(p[:2], truth[:2]), evaluate.brier_score(p[2:], truth[2:])]
    )
