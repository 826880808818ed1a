"""Complexes at places where counts, distances and fractions are known."""

import numpy as np
import pytest
from scipy import ndimage, stats

from cryojax_seg.core.masks import distances_to_mask
from cryojax_seg.measure import Region, complex_centres, measure_complexes
from cryojax_seg.measure.pairs import kaplan_meier_median

VOXEL = (10.0, 10.0, 10.0)
SHAPE = (40, 60, 60)


@pytest.fixture
def rng():
    return np.random.default_rng(2)


def test_centres_of_instances_and_of_components(rng):
    mask = np.zeros((20, 30, 40), bool)
    centres = np.array([[5, 6, 7], [12, 20, 31], [14, 6, 20]])
    grid = np.indices(mask.shape)
    labels = np.zeros(mask.shape, np.int32)
    for number, c in enumerate(centres, 1):
        ball = ((grid - c[:, None, None, None]) ** 2).sum(0) <= 9
        mask |= ball
        labels[ball] = 10 * number
    voxel_size = (20.0, 10.0, 5.0)
    for volume in (mask, labels):
        assert complex_centres(volume, voxel_size) == pytest.approx(centres * voxel_size)
    mask[0, 0, 0] = True
    assert len(complex_centres(mask, voxel_size)) == 4
    assert len(complex_centres(mask, voxel_size, 2.0)) == 3
    assert complex_centres(mask & False, VOXEL).shape == (0, 3)


def test_count_and_concentration_with_the_interval_of_poisson(rng):
    points = Region(SHAPE, VOXEL).random_points(100, rng)
    rows, found = measure_complexes(points, Region(SHAPE, VOXEL))
    assert len(rows) == 100 and found.outside_region == 0
    # Exact limits of a Poisson mean of which 100 was seen.
    assert stats.poisson.sf(99, found.count.low) == pytest.approx(0.025)
    assert stats.poisson.cdf(100, found.count.high) == pytest.approx(0.025)
    assert found.region_um3 == pytest.approx(0.04 * 0.06 * 0.06)
    assert found.concentration_per_um3.value == pytest.approx(100 / 1.44e-4)
    # 602.2 per cubic micrometre are one micromolar.
    assert found.concentration_micromolar.value == pytest.approx(100 / 1.44e-4 / 602.214, rel=1e-4)
    ratio = found.concentration_per_um3.high / found.count.high
    assert ratio == pytest.approx(1 / 1.44e-4)


def test_poisson_intervals_cover_the_concentration(rng):
    inside, region = 0, Region((10, 10, 10), VOXEL)
    for _ in range(100):
        points = region.random_points(rng.poisson(8), rng)
        low, high = measure_complexes(points, region, simulations=19)[1].count[1:]
        inside += low <= 8 <= high
    assert inside >= 92


def test_distance_to_the_nearest_is_not_biased_by_the_faces(rng):
    """The median of 300 random points: to 4 % that of the theory, where the plain one is larger."""
    region, corrected, plain = Region((30, 30, 30), VOXEL), [], []
    for seed in range(10):
        points = region.random_points(300, rng)
        rows, found = measure_complexes(points, region, simulations=19, seed=seed)
        corrected.append(found.nearest_neighbour_nm)
        plain.append(np.median([r.nearest_neighbour_nm for r in rows]))
        expected = found.nearest_neighbour_if_random_nm
    assert expected == pytest.approx(0.1 * (3 * np.log(2) / (4 * np.pi * 300 / 2.7e7)) ** (1 / 3))
    assert np.mean([m.value for m in corrected]) == pytest.approx(expected, rel=0.03)
    assert np.mean(plain) > 1.03 * expected
    assert sum(m.low <= expected <= m.high for m in corrected) >= 7


def test_kaplan_meier_matches_scipy(rng):
    distance, border = rng.exponential(10, 60), rng.exponential(20, 60)
    censored = stats.CensoredData(
        uncensored=distance[distance <= border], right=border[distance > border]
    )
    survival = stats.ecdf(censored).sf
    expected = survival.quantiles[np.argmax(survival.probabilities <= 0.5)]
    assert kaplan_meier_median(distance, border) == pytest.approx(expected)
    assert kaplan_meier_median(distance, 0 * border) is None


def test_distances_to_a_mask_match_the_distance_transform(rng):
    membrane = np.zeros(SHAPE, bool)
    membrane[18:21, :, 10:] = True
    voxel_size = (20.0, 8.0, 10.0)
    transform = ndimage.distance_transform_edt(~membrane, sampling=voxel_size)
    index = rng.integers(0, SHAPE, (300, 3))
    found = distances_to_mask(index * np.array(voxel_size), membrane, voxel_size)
    assert found == pytest.approx(transform[tuple(index.T)])
    assert np.isinf(distances_to_mask(index * 1.0, membrane & False, voxel_size)).all()


def test_context_against_chance(rng):
    """Half of the points crowd at a membrane and in an organelle, the others are anywhere."""
    membrane, organelle = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    membrane[18:22] = True
    organelle[:, :15] = True
    anywhere = Region(SHAPE, VOXEL).random_points(200, rng)
    near = Region(SHAPE, VOXEL, organelle & np.roll(membrane, 5, 0)).random_points(200, rng)
    rows, found = measure_complexes(
        np.concatenate([anywhere, near]),
        Region(SHAPE, VOXEL, membrane=membrane, organelle=organelle), simulations=19,
    )  # fmt: skip
    share = (200 * 0.25 + 200) / 400
    assert found.organelle_fraction.value == pytest.approx(share, abs=0.05)
    assert found.organelle_fraction.low < share < found.organelle_fraction.high
    assert found.organelle_fraction_if_random == pytest.approx(0.25, abs=0.03)
    assert found.membrane_distance_if_random_nm == pytest.approx(8.5, abs=0.8)
    assert found.membrane_distance_nm.value < 6
    assert found.membrane_distance_nm.low <= found.membrane_distance_nm.value
    assert sum(r.in_organelle for r in rows) == 400 * found.organelle_fraction.value
    assert found.pair_correlation.p_value == pytest.approx(0.05)


def test_a_region_counts_only_what_it_holds(rng):
    region = np.zeros(SHAPE, bool)
    region[10:30, 10:50, 10:50] = True
    points = Region(SHAPE, VOXEL).random_points(500, rng)
    rows, found = measure_complexes(points, Region(SHAPE, VOXEL, region), simulations=19)
    box = ((points >= 95) & (points < [295, 495, 495])).all(1)
    assert len(rows) == box.sum() and found.outside_region == 500 - box.sum()
    assert found.region_um3 == pytest.approx(0.02 * 0.04 * 0.04)
    assert found.concentration_per_um3.low < 500 / 1.44e-4 < found.concentration_per_um3.high


def test_probabilities_give_the_interval_of_the_count():
    grid, p = np.indices((20, 20, 80)), np.zeros((20, 20, 80), np.float32)
    for x, sure in ((10, 1.0), (30, 1.0), (50, 0.6), (70, 0.3)):
        ball = ((grid - np.array([10, 10, x])[:, None, None, None]) ** 2).sum(0) <= 16
        p[ball] = sure
    region = Region(p.shape, VOXEL)
    rows, found = measure_complexes(p > 0.5, region, probability=p, simulations=19, samples=40)
    assert found.count == (3, 2, 4)
    size = float((p == 1).sum()) / 2  # of one of the two that are sure, a voxel is 1 nm3
    assert rows[0].voxels == size and rows[0].volume_nm3 == pytest.approx((size,) * 3)
    _, poisson = measure_complexes(p > 0.5, region, simulations=19)
    assert poisson.count.high > 8


def test_nothing_and_bad_input():
    none = np.zeros(SHAPE, bool)
    rows, found = measure_complexes(none, Region(SHAPE, VOXEL, membrane=none, organelle=none))
    assert rows == [] and found.count == pytest.approx((0, 0, 3.69), abs=0.01)
    assert found.nearest_neighbour_nm is None and found.pair_correlation is None
    assert found.membrane_distance_nm is None and found.organelle_fraction is None
    one, alone = measure_complexes(np.array([[50.0, 50, 50]]), Region(SHAPE, VOXEL))
    assert one[0].centre_nm == (5, 5, 5) and one[0].volume_nm3 is None
    assert one[0].nearest_neighbour_nm is None and alone.nearest_neighbour_nm is None
    with pytest.raises(ValueError, match="complexes has shape"):
        measure_complexes(none[1:], Region(SHAPE, VOXEL))
    with pytest.raises(ValueError, match="membrane has shape"):
        Region(SHAPE, VOXEL, membrane=none[1:])
    with pytest.raises(ValueError, match="voxel_size_angstrom"):
        Region(SHAPE, (1.0, 1.0, -1.0))
