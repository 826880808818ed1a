"""Maps as networks write them, and labels: each particle counts once, at its middle."""

import itertools

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from cryojax_seg import evaluate
from cryojax_seg.particles import (
    as_labels,
    pick_balls,
    pick_classes,
    pick_objects,
    pick_peaks,
    pick_regions,
)

SHAPE = (40, 52, 60)
GRID = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
DIAMETER = 11.0
PICKERS = {
    "balls": lambda p, d=DIAMETER: pick_balls(p, d, 0.5),
    "peaks": lambda p, d=DIAMETER: pick_peaks(p, d, 0.5),
    "regions": lambda p, d=DIAMETER: pick_regions(p, d, 0.5),
    "objects": lambda p, d=DIAMETER: pick_objects((p > 0.5).astype(np.int32), d),
}


def body(centre, radii):
    return np.square((GRID - centre) / radii).sum(-1) <= 1


def scene(seed=0):
    """Bodies of different shapes 13 voxels apart or more, some cut by the faces, and middles."""
    rng = np.random.default_rng(seed)
    at = np.array(list(itertools.product(range(5, 40, 14), range(5, 52, 14), range(5, 60, 14))))
    at = at + rng.uniform(-0.5, 0.5, at.shape)
    shapes = [(5.5, 5.5, 5.5), (4, 5, 6.5), (6.5, 4, 5)]
    bodies = [body(c, shapes[i % 3]) for i, c in enumerate(at)]
    return at, np.any(bodies, 0)


def network(inside, seed=0, holes=0.04, specks=60):
    """What a network makes of it: float16, saturated, with plateaus, holes and specks."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.0)
    logits = 12 * (ndimage.gaussian_filter(inside.astype(float), 0.7) - 0.5)
    logits = 3 * logits + 12 * noise / noise.std() * 0.35
    logits[rng.uniform(size=SHAPE) < holes] = -12.0
    for z, y, x in rng.integers(0, np.array(SHAPE) - 2, (specks, 3)):
        logits[z : z + 2, y : y + 2, x : x + 2] = 12.0
    p = 1 / (1 + np.exp(-logits))
    return p.astype(np.float16)


def score(found, truth, share):
    return evaluate.detection(found.coordinates, truth, DIAMETER / 2, 2 * share).f_beta(1) or 0.0


def labels_of(values):
    labels = as_labels(values)
    assert labels is not None
    return labels


def nearest(found, truth):
    return cdist(truth, found.coordinates).min(1).max()


def test_balls_find_what_plateaus_specks_holes_and_saturation_hide():
    truth, inside = scene()
    p = network(inside)
    assert len(np.unique(p[inside])) < p[inside].size / 4 and (p == 1).mean() > 0.1  # plateaus
    found = pick_balls(p, DIAMETER, 0.5)
    assert len(found) == len(truth) == 48
    assert score(found, truth, 0.25) == 1.0 and nearest(found, truth) < 2.0
    assert (np.diff(found.scores) <= 0).all() and 0 < found.scores.min() <= found.scores.max() <= 1
    again = pick_balls(p, DIAMETER, 0.5)
    np.testing.assert_array_equal(again.coordinates, found.coordinates)
    assert score(pick_peaks(p, DIAMETER, 0.5), truth, 0.25) > 0.85  # their flat tops count once


@pytest.mark.parametrize("method", PICKERS)
def test_flat_tops_count_once_at_their_middle(method):
    """Also of an even width, of different axes, and where a face of the volume cuts them."""
    middles = np.array([[10.0, 10, 10], [10.5, 30.5, 10.5], [25, 20, 40], [38, 44, 50]])
    radii = [(5.5, 5.5, 5.5), (5, 5, 5), (3.2, 5.2, 7.2), (5.5, 5.5, 5.5)]
    p = np.any([body(c, r) for c, r in zip(middles, radii, strict=True)], 0).astype(np.float32)
    found = PICKERS[method](p)
    assert len(found) == 4
    assert nearest(found, middles[:3]) < 0.1
    assert nearest(found, middles[3:]) < 2.5  # of what is left of it, or its middle


@pytest.mark.parametrize("method", ["balls", "regions", "objects"])
@pytest.mark.parametrize("step", [(0, 0, 9.5), (0, 8, 5), (6, 6, 6)])
def test_merged_pairs_are_split(method, step):
    first = np.array([20.0, 20, 20])
    middles = np.stack([first, first + step])
    p = np.any([body(c, 5.5) for c in middles], 0)
    assert ndimage.label(p)[1] == 1  # pyright: ignore
    found = PICKERS[method](p.astype(np.float32))
    assert len(found) == 2 and nearest(found, middles) < 1.0


def test_a_hollow_or_torn_body_is_one():
    shell = body((20, 25, 30), 6) & ~body((20, 25, 30), 4)
    torn = body((20, 25, 10), 6) & (GRID[..., 0] != 20) & (GRID[..., 1] != 25)  # four quarters
    found = pick_balls((shell | torn).astype(np.float32) * 0.75, 12.0, 0.5)
    assert len(found) == 2 and nearest(found, [[20, 25, 30], [20, 25, 10]]) < 0.3


def test_the_tops_of_peaks_do_not_count_steps():
    """A step of a staircase has voxels with no higher neighbour; it is no maximum for that."""
    stairs = np.clip(np.indices((9, 9, 30))[2] // 5, 0, 4) / 4.0
    found = pick_peaks(stairs.astype(np.float32), 3.0, 0.1)
    np.testing.assert_allclose(found.coordinates, [[4, 4, 24.5]])


@pytest.mark.parametrize(
    "stored, background",
    [
        ((0, 1), 0),
        ((0, 255), 0),
        ((0, -1), 0),
        ((1, 2), 1),
        ((0.25, 0.75), 0.25),
        ((0, 3), 0),
    ],
)
@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_masks_are_recognised_whatever_their_two_values(stored, background, kind):
    if kind is np.int16 and stored[0] % 1:
        pytest.skip("fractions are no integers")
    foreground = next(v for v in stored if v != background)
    inside = body((20, 20, 20), 5)
    labels = labels_of(np.where(inside, foreground, background).astype(kind))
    np.testing.assert_array_equal(labels != 0, inside)
    flipped = labels_of(np.where(inside, background, foreground).astype(kind))
    np.testing.assert_array_equal(flipped == 0, inside)  # a mask may fill most of the volume


def test_labels_are_told_from_maps_and_tomograms():
    rng = np.random.default_rng(0)
    labels = np.where(rng.uniform(size=(6, 7, 8)) < 0.6, 0, rng.integers(1, 300, (6, 7, 8)))
    for kind in (np.uint16, np.int32, np.float32, np.float64):
        np.testing.assert_array_equal(labels_of(labels.astype(kind)), labels)
    assert not labels_of(np.zeros((2, 3, 4))).any()
    damaged = labels.astype(np.float32)
    damaged[0, 0, 0] = np.nan
    assert labels_of(damaged)[0, 0, 0] == 0
    unsure = np.array([[[0, 0, 0, 1, 255]]])
    assert labels_of(unsure).tolist() == [[[0, 0, 0, 1, 0]]]  # nobody annotated the last one
    assert labels_of(np.append(unsure, [[[254]]], 2)).max() == 255  # of a count of particles
    for other in (
        rng.uniform(size=(6, 7, 8)),
        rng.uniform(size=(6, 7, 8)).round(1),
        rng.integers(0, 256, (6, 7, 8)).astype(np.uint8),  # a tomogram of bytes
        rng.integers(-9, 9, (6, 7, 8)).astype(np.int16),
        np.full((2, 3, 4), 0.7),
        np.where(labels > 0, labels * 1e9, 0),
    ):
        assert as_labels(other) is None


def test_each_label_is_a_class_or_a_particle_of_its_own():
    middles = np.array([[10.0, 10, 10], [10, 10, 21], [30, 30, 30], [30, 40, 30]])
    labels = np.zeros(SHAPE, np.int32)
    for label, centre in zip((7, 7, 300, 5), middles, strict=True):
        labels[body(centre, 5.2)] = label
    labels[30, 30, 5] = 7  # a speck
    found = pick_objects(labels, 11.0)
    nearby = cdist(middles, found.coordinates)
    assert len(found) == 4 and nearby.min(1).max() < 0.6
    assert found.classes[nearby.argmin(1)].tolist() == [7, 7, 300, 5]
    assert pick_objects(labels, 11.0, only=[300, 5]).classes.tolist() == [5, 300]
    compartment = GRID[..., 2] < 15
    np.testing.assert_allclose(pick_objects(labels, 11.0, compartment).coordinates, [middles[0]])
    points = np.zeros(SHAPE, np.int32)
    points[tuple(middles.astype(int).T)] = 1  # single voxels, painted by hand
    assert nearest(pick_objects(points, 11.0), middles) == 0 and points.sum() == 4
    assert len(pick_objects(points * 0, 11.0)) == 0


def test_of_two_classes_at_one_place_the_more_probable_is_kept():
    ball = {c: body(c, 5.5) for c in ((10, 10, 10), (10, 10, 40), (30, 30, 20), (30, 40, 50))}
    one = 0.9 * ball[10, 10, 10] + 0.6 * ball[10, 10, 40] + 0.55 * ball[30, 30, 20]
    two = 0.6 * ball[10, 10, 10] + 0.9 * ball[10, 10, 40] + 0.8 * body((31, 31, 21), 4.0)
    maps = [one.astype(np.float32), (two + 0.7 * ball[30, 40, 50]).astype(np.float32)]
    for order, classes in (((0, 1), [1, 2, 2, 2]), ((1, 0), [2, 1, 1, 1])):
        found = pick_classes([maps[i] for i in order], [[11.0, 8.0][i] for i in order], 0.5)
        where = [[10, 10, 10], [10, 10, 40], [31, 31, 21], [30, 40, 50]]
        nearby = cdist(where, found.coordinates)
        assert len(found) == 4 and nearby.min(1).max() < 0.5
        assert found.classes[nearby.argmin(1)].tolist() == classes
    with pytest.raises(ValueError, match="2 maps .* and 1 diameters"):
        pick_classes(maps, [11.0], 0.5)


def test_classes_of_one_model_share_the_threshold():
    """Neither class reaches a half where both are likely, yet a particle is there."""
    inside = body((20, 25, 30), 5.5)
    maps = [(0.45 * inside).astype(np.float16), (0.35 * inside).astype(np.float16)]
    assert len(pick_balls(maps[0], 11.0, 0.5)) == 0
    found = pick_classes(maps, [11.0, 11.0], 0.5)
    assert found.classes.tolist() == [1] and found.scores[0] == pytest.approx(0.45, abs=0.01)
    assert len(pick_classes(maps, [11.0, 11.0], 0.85)) == 0
    faint = [(0.1 * inside).astype(np.float16)] * 5 + [(0.2 * inside).astype(np.float16)]
    found = pick_classes(faint, [11.0] * 6, 0.5)  # 0.7 together, of which each has a small share
    assert found.classes.tolist() == [6]


def test_odd_volumes_have_their_picks():
    flat = np.ones((1, 9, 9), np.float32)
    np.testing.assert_allclose(pick_balls(flat, 9.0, 0.5).coordinates, [[0, 4, 4]], atol=0.2)
    small = np.ones((3, 3, 3), np.float32)  # smaller than the ball
    np.testing.assert_allclose(pick_balls(small, 20.0, 0.5).coordinates, [[1, 1, 1]])
    for empty in (np.zeros((4, 5, 6), np.float32), np.full((4, 5, 6), np.nan, np.float32)):
        found = pick_balls(empty, 3.0, 0.5)
        assert len(found) == 0 and found.scores.shape == (0,)
    with pytest.raises(ValueError, match="diameter must be positive"):
        pick_balls(small, 0.0, 0.5)
    with pytest.raises(ValueError, match="threshold must be a number"):
        pick_balls(small, 3.0, float("inf"))
