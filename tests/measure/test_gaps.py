"""Distances between surfaces of analytic bodies."""

import numpy as np
import pytest

from cryojax_seg import measure

GRID = np.indices((40, 40, 72)).astype(float)


def ball(centre, radius):
    return np.linalg.norm(GRID - np.reshape(centre, (3, 1, 1, 1)), axis=0) <= radius


@pytest.mark.parametrize("gap", [0, 1, 2.4, 6, 20])
def test_two_balls(gap):
    one, two = ball((20.2, 19.7, 16.1), 9), ball((20.2, 19.7, 16.1 + 16 + gap), 7)
    (found,) = measure.gaps([measure.outline(one)], [measure.outline(two)], 1.0)
    assert found.minimum == pytest.approx(gap, abs=0.35)
    assert found.centre == pytest.approx(9 + gap, abs=0.35)
    apart = 16 + gap  # mean over the first sphere of the distance to the middle of the second
    assert found.mean == pytest.approx(apart + 9**2 / (3 * apart) - 7, abs=0.3)


def test_a_ball_above_a_sheet_in_other_units():
    """The mean over a sphere of its height is that of its centre."""
    size, sheet = (20.0, 10.0, 10.0), np.zeros(GRID.shape[1:], bool)
    sheet[4:7] = True  # up to 6.5 voxels of 20
    away = np.moveaxis(GRID, 0, -1) * size - (440, 200, 300)
    mask = np.linalg.norm(away, axis=-1) <= 110
    (found,) = measure.gaps([measure.outline(mask, size)], [measure.outline(sheet, size)], 20.0)
    assert found.minimum == pytest.approx(310 - 110, abs=5)
    assert found.mean == pytest.approx(310, abs=5) and found.centre == pytest.approx(310, abs=3)


def test_the_nearest_of_several_and_what_touches_or_lies_inside():
    shell = ball((20, 20, 40), 14) & ~ball((20, 20, 40), 11)
    core, within = ball((20, 20, 40), 11), ball((20, 20, 40), 4)
    far = measure.outline(ball((20, 20, 68), 2))
    touching, inside = measure.gaps(
        [measure.outline(core), measure.outline(within)], [far, measure.outline(shell)], 1.0
    )
    assert touching.minimum < 0.2 and touching.mean < 0.2
    assert touching.centre == pytest.approx(11, abs=0.5)
    assert inside.minimum == pytest.approx(7, abs=0.35)
    (overlap,) = measure.gaps([measure.outline(within)], [measure.outline(core)], 1.0)
    assert overlap.minimum == overlap.mean == overlap.centre == 0


def test_a_filament_beside_a_ball():
    """A tube of radius 3 nm at 20 nm from the centre of a ball of 8 nm."""
    line = measure.Filament.through(
        np.array([[200.0, 0, 360], [200, 100, 360], [200, 400, 360]]), radius_angstrom=30.0
    )
    body = measure.outline(ball((20, 20, 16), 8), (1.0, 1.0, 1.0))
    (found,) = measure.gaps([measure.tube(line, 10.0, 0.1)], [body], 1.0)
    assert found.minimum == pytest.approx(20 - 3 - 8, abs=0.3)
    assert found.centre == pytest.approx(20 - 8, abs=0.4)
    (back,) = measure.gaps([body], [measure.tube(line, 10.0, 0.1)], 1.0)
    assert back.minimum == pytest.approx(9, abs=0.3)


def test_a_class_that_is_empty_has_no_distance():
    one = measure.outline(ball((20, 20, 20), 5))
    nothing = measure.outline(np.zeros((5, 5, 5), bool))
    assert measure.gaps([one], [], 1.0) == [None] and measure.gaps([one], [nothing], 1.0) == [None]
    assert measure.gaps([nothing], [one], 1.0) == [None]
