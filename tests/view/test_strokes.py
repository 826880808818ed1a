"""Strokes cover exactly the pixels within their radius, lines and fills what they should."""

import numpy as np
import pytest

from cryojax_seg import view


def whole(shape, part, mask):
    result = np.zeros(shape, bool)
    result[part] = mask
    return result


def by_distance(shape, points, radius, spacing):
    """All pixels within a radius of a polyline, by dense sampling of it."""
    points = np.asarray(points, float)
    samples = [points[:1]]
    for a, b in zip(points, points[1:], strict=False):
        samples.append(a + np.linspace(0, 1, 2000)[:, None] * (b - a))
    grid = np.stack(np.indices(shape), -1).reshape(-1, 1, 2)
    away = (grid - np.concatenate(samples)[None]) * spacing
    return (np.sqrt((away**2).sum(-1)).min(1) <= radius).reshape(shape)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 0.5)])
@pytest.mark.parametrize(
    "points",
    [[[6.2, 8.4]], [[3, 3], [9, 15]], [[2, 2], [2, 17], [10, 17], [4.5, 4.5]], [[-4, 5], [5, -4]]],
)
def test_a_stroke_is_all_within_the_radius(points, spacing):
    shape, radius = (13, 20), 2.3
    found = whole(shape, *view.stroke(shape, points, radius, spacing))
    np.testing.assert_array_equal(found, by_distance(shape, points, radius, np.array(spacing)))


def test_the_part_is_the_smallest():
    part, mask = view.stroke((50, 60), [[20, 30]], 4.0)
    assert part == (slice(16, 25), slice(26, 35))
    assert mask.any(0).all() and mask.any(1).all()


def test_a_thin_stroke_has_no_gaps():
    found = whole((30, 30), *view.stroke((30, 30), [[2, 2], [25, 11]], 0.0))
    assert found.any(1)[2:26].all() and found.sum() >= 24


def test_a_stroke_outside_marks_nothing():
    part, mask = view.stroke((10, 10), [[-50, 5], [-40, 200]], 3.0)
    assert mask.size == 0 and part == (slice(0, 0), slice(0, 0))


def test_a_line_is_a_band_along_a_circle():
    """Points on a circle give a ring: a spline, not a polygon."""
    angle = np.linspace(0, 2 * np.pi, 13)
    points = 30 + 20 * np.stack([np.sin(angle), np.cos(angle)], -1)
    found = whole((61, 61), *view.line((61, 61), points, 5.0))
    radius = np.hypot(*(np.indices((61, 61)) - 30))
    assert found[(radius > 18) & (radius < 22)].all()
    assert not found[(radius < 17) | (radius > 23)].any()


def test_a_line_takes_points_twice_and_needs_two():
    once = view.line((9, 9), [[4, 1], [4, 7]], 2.0)
    twice = view.line((9, 9), [[4, 1], [4, 1], [4, 7], [4, 7]], 2.0)
    assert once[0] == twice[0] and (once[1] == twice[1]).all()
    with pytest.raises(ValueError, match="two points"):
        view.line((9, 9), [[4, 1], [4, 1]], 2.0)


def test_a_fill_stays_within_an_outline():
    plane = np.full((20, 20), -1, np.int8)
    part, mask = view.stroke(plane.shape, [[5, 5], [5, 14], [14, 14], [14, 5], [5, 5]], 0.0)
    plane[part] = np.where(mask, 1, plane[part])
    inside = whole(plane.shape, *view.fill(plane, (9, 9)))
    assert inside.sum() == 8 * 8 and inside[6:14, 6:14].all()
    outside = whole(plane.shape, *view.fill(plane, (0, 0)))
    assert outside.sum() == 400 - 100


@pytest.mark.parametrize(
    "points", [[], [[1, 2, 3]], "ab", [[np.nan, 1]], [[1e9, 1]], [[1, 2], [3]], None, [["a", "b"]]]
)
def test_points_that_are_none_are_refused(points):
    with pytest.raises(ValueError, match="stroke"):
        view.stroke((9, 9), points, 1.0)


def test_other_mistakes_are_refused():
    with pytest.raises(ValueError, match="radius"):
        view.stroke((9, 9), [[1, 1]], -1.0)
    with pytest.raises(ValueError, match="outside"):
        view.fill(np.zeros((9, 9), np.int8), (9, 2))
