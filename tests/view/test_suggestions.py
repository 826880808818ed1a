"""Slices are ranked by entropy, visibility and distance."""

import math

import numpy as np

from cryojax_seg.core import MissingWedge
from cryojax_seg.view.suggestions import gains, ranked, ranked_boxes, uncertainty, visible_share


def test_entropy_is_greatest_where_nothing_is_known():
    p = np.linspace(0, 1, 11)[:, None]
    found = uncertainty(p)
    assert found.argmax() == 5 and found[5] == 1
    np.testing.assert_allclose(found, found[::-1])
    np.testing.assert_allclose(found[2], -(0.2 * math.log2(0.2) + 0.8 * math.log2(0.8)))


def test_the_order_is_greedy():
    gains = {z: 1.0 for z in range(0, 101, 10)}
    order = [z for z, _ in ranked(gains, [50], 1.0, 20.0, most=4)]
    assert set(order[:2]) == {0, 100} and set(order[2:]) == {20, 80} or order[2] in (20, 30, 70, 80)
    assert all(z != 50 for z in order)
    values = [gain for _, gain in ranked(gains, [50], 1.0, 20.0)]
    assert values == sorted(values, reverse=True)


def test_gain_beats_distance_where_it_is_large_enough():
    assert ranked({40: 0.1, 60: 10.0}, [50], 1.0)[0][0] == 60
    assert ranked({0: 1.0, 49: 1.5}, [50], 1.0)[0][0] == 0
    assert ranked({}, [1], 1.0) == []


def test_surfaces_in_the_wedge_count_less():
    z, y, x = np.indices((5, 32, 32)).astype(float)
    wedge = MissingWedge((-50.0, 50.0))
    sideways, flat = visible_share(x / 32, wedge), visible_share(z / 5, wedge)
    assert sideways.mean() > 0.85 and flat.mean() < 0.35
    assert (visible_share(np.zeros((3, 8, 8)), wedge) == 1).all()


def test_boxes_at_the_end_are_means_of_what_they_hold():
    logits = np.full((2, 5, 7, 1), 40.0, np.float32)
    logits[1, 4, 6] = 0.0
    found = gains(logits, (4, 4))
    assert found.shape == (2, 2, 2)
    np.testing.assert_allclose(found[1, 1, 1], 1 / 3, atol=1e-6)
    assert abs(found).sum() - found[1, 1, 1] < 1e-6


def test_boxes_near_annotation_count_less():
    known = {z: np.ones((2, 2)) for z in (0, 1, 40)}
    order = ranked_boxes(known, np.array([[0, 0, 0]]), (1.0, 50.0, 50.0), most=12)
    assert order[0][0][0] == 40 and order[0][1] > 0.8 and order[-1] == ((0, 0, 0), 0.0)
    assert dict(order)[1, 0, 0] < 0.06  # it lies on the annotated one
