"""Mid-surfaces and centre lines lie in the middle, hold together, and need not be found at once."""

import numpy as np
import pytest
from scipy import ndimage

from cryojax_seg.measure.runs import EVERY
from cryojax_seg.measure.thin import thinned, window_of

GRID = np.indices((40, 40, 40)) - 19.6


def whole(mask, form, depth=None):
    def read(z):
        return mask[z]

    window = window_of(read, mask.shape, form, depth)
    parts = list(thinned(read, mask.shape, form, window, depth))
    assert [z.start for z, _ in parts] == list(range(0, 40, depth or 40))
    return np.concatenate([part for _, part in parts])


@pytest.mark.parametrize("thickness", [3, 4, 5])
def test_the_mid_surface_of_a_shell(thickness):
    """It lies in the middle and closes: from inside no path of faces leads out.

    A window of variance v draws it inwards by about v times the mean curvature: here by 0.3 voxels.
    """
    away = np.linalg.norm(GRID, axis=0)
    found = whole(np.abs(away - 13) <= thickness / 2, "surface")
    assert np.abs(away[found] - 13).max() < 1.2
    assert np.abs(away[found].mean() - 13) < 0.35
    assert 1.0 < found.sum() / (4 * np.pi * 13**2) < 2.0
    inside, _ = ndimage.label(~found)
    assert inside[20, 20, 20] != inside[0, 0, 0]


@pytest.mark.parametrize("diameter", [4, 5, 6])
def test_the_centre_line_of_a_rod(diameter):
    """One piece along the axis, as long as the rod but for its ends."""
    axis = np.array([0.6, 0.64, 0.48])
    along = np.tensordot(axis, GRID, 1)
    across = np.sqrt(np.maximum((GRID**2).sum(0) - along**2, 0))
    mask = (across <= diameter / 2) & (np.abs(along) < 16)
    found = whole(mask, "line")
    assert across[found].max() < 1.0
    assert along[found].min() < -11 and along[found].max() > 11
    assert ndimage.label(found, EVERY)[1] == 1
    assert found.sum() < 2.2 * 32


@pytest.mark.parametrize("form", ["surface", "line"])
@pytest.mark.parametrize("depth", [1, 7, 16])
def test_slabs_give_what_the_whole_gives(form, depth):
    rng = np.random.default_rng(0)
    values = ndimage.gaussian_filter(rng.normal(size=(40, 24, 24)), 2.0)
    mask = np.abs(values) < np.quantile(np.abs(values), 0.15)
    expected, found = whole(mask, form), whole(mask, form, depth)
    assert expected.sum() > 50
    assert (found != expected).sum() <= 2  # float32 sums differ in their last digit


def test_a_full_mask_has_no_middle():
    full = np.ones((40, 8, 8), bool)
    assert window_of(lambda z: full[z], full.shape, "surface") == 16.0


def test_nothing_is_thinned_to_nothing():
    assert not whole(np.zeros((40, 8, 8), bool), "line").any()
