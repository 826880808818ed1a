"""Blank parts: the constants are found, frequent values are not, and no statistic sees them."""

import numpy as np
import pytest
from scipy import ndimage

from cryojax_seg.core import Normalized, inner_box, measure_intensity, measured_box
from cryojax_seg.core.blank import filled
from cryojax_seg.segmenters import otsu

EVERYWHERE = (slice(None),) * 3


@pytest.fixture(scope="module")
def sample():
    """Noise with dark balls."""
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(24, 48, 40))
    grid = np.indices(volume.shape)
    for centre in ((6, 10, 10), (12, 30, 20), (16, 40, 30)):
        away = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
        volume -= 5 * np.exp(-away / 8)
    return volume.astype(np.float32)


def padded(volume, widths, value):
    return (
        np.pad(volume, widths, constant_values=value),
        np.pad(np.zeros(volume.shape, bool), widths, constant_values=True),
    )


BANDS = {
    "a band": ((0, 0), (0, 48), (0, 0)),
    "three quarters": ((0, 0), (0, 0), (0, 120)),
    "one slice": ((1, 0), (0, 0), (0, 0)),
    "margins": ((5, 3), (10, 10), (7, 9)),
}


@pytest.mark.parametrize("widths", BANDS.values(), ids=BANDS)
@pytest.mark.parametrize(("offset", "value"), [(0, 0.0), (30, 0.0), (0, 2.5), (0, "mean")])
def test_a_constant_beside_the_sample_changes_nothing(sample, widths, offset, value):
    volume = sample + np.float32(offset)
    value = np.float32(volume.mean()) if value == "mean" else np.float32(value)
    alone = measure_intensity(volume, "dark")
    whole, blank = padded(volume, widths, value)
    found = measure_intensity(whole, "dark")
    assert (found.centre, found.gain) == (alone.centre, alone.gain)
    assert found.blank.values == (float(value),)
    assert found.blank.share == pytest.approx(blank.mean())
    assert np.array_equal(found.missing(whole), blank)
    assert not found.apply(whole)[blank].any()
    assert np.array_equal(found.apply(whole)[~blank], alone.apply(volume).ravel())


def test_two_constants_and_nan(sample):
    whole, blank = padded(sample, ((2, 0), (0, 0), (0, 0)), 1.0)
    whole, more = padded(whole, ((0, 3), (0, 0), (0, 0)), -2.0)
    more[:2] = True
    whole[10, :5] = np.nan
    more[10, :5] = True
    found = measure_intensity(whole, "dark")
    assert found.blank.values == (-2.0, 1.0)
    assert np.array_equal(found.missing(whole), more)
    assert found.damaged == pytest.approx(np.isnan(whole).mean())


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_oblique_edges(sample, offset):
    volume = sample + np.float32(offset)
    turned = ndimage.rotate(volume, 25, axes=(1, 2), order=1).astype(np.float32)
    shear = np.array([[1, 0, 0], [0.4, 1, 0], [0, 0, 1]])
    sheared = ndimage.affine_transform(volume, shear, order=1).astype(np.float32)
    for whole in (turned, sheared):
        found = measure_intensity(whole, "dark")
        assert np.array_equal(found.missing(whole), whole == 0)
        assert found.centre == np.median(whole[whole != 0])


@pytest.mark.parametrize(("dtype", "middle"), [(np.uint8, 128), (np.int8, 0), (np.int16, 500)])
@pytest.mark.parametrize("levels", [3, 20])
def test_few_grey_values_are_no_blank_parts(sample, dtype, middle, levels):
    limits = np.iinfo(dtype)
    grey = np.clip(np.round(sample * levels + middle), limits.min, limits.max).astype(dtype)
    alone = measure_intensity(grey, "dark")
    assert alone.blank.share == 0
    for value in (limits.min, limits.max, middle):  # the last fills a tenth of the sample too
        whole, blank = padded(grey, ((0, 0), (0, 16), (0, 0)), value)
        found = measure_intensity(whole, "dark")
        assert found.blank.share == pytest.approx(0.25, abs=2e-3)
        assert (found.centre, found.gain) == (alone.centre, pytest.approx(alone.gain, rel=0.01))
        missing = found.missing(whole)
        assert missing[blank].all()
        assert missing[~blank].mean() < 3e-3  # equal voxels at the edge


def test_clipped_values_are_no_blank_parts(sample):
    for low, high in ((-1, 1), (-0.3, 0.3), (-100, 0)):
        assert measure_intensity(np.clip(sample, low, high), "dark").blank.share == 0
    for width in (1, 3):
        smooth = ndimage.gaussian_filter(sample, width)
        smooth /= smooth.std()
        assert measure_intensity(np.clip(smooth, -1, 1), "dark").blank.share == 0
        assert measure_intensity(np.round(10 * smooth), "dark").blank.share == 0


def test_a_structure_on_a_constant_is_no_blank_volume():
    clean = np.zeros((16, 24, 24), np.float32)
    clean[4:9, 5:15, 5:15] = 1
    found = measure_intensity(clean, "bright")
    assert found.blank.share == 0
    assert found.apply(clean)[6, 8, 8] > 2


def test_parts_are_blank_as_the_whole_is(sample):
    grey = np.round(20 * sample).astype(np.int8)
    whole, _ = padded(grey, ((0, 4), (9, 0), (0, 20)), 0)
    found = measure_intensity(whole, "dark")
    assert found.blank.patches == (0.0,)
    volume = Normalized(whole, found)
    missing, values = found.missing(whole), found.apply(whole)
    for part in (np.s_[3:9, 5:20, 30:45], np.s_[25], np.s_[:, 4:11], np.s_[2:20:3, ::2, 7]):
        assert np.array_equal(volume.missing(part), missing[part])
        assert np.array_equal(volume[part], values[part])


def test_a_volume_keeps_its_blank_parts(sample):
    whole, blank = padded(sample, ((0, 0), (0, 16), (0, 0)), 7.0)
    volume = Normalized(whole, measure_intensity(whole, "dark"))
    back = volume.denormalize(EVERYWHERE, np.full(whole.shape, 2.0))
    assert (back[blank] == 7).all()
    assert np.allclose(back[~blank], 2 / volume.intensity.gain + volume.intensity.centre)


def test_boxes_without_blank_parts(sample):
    whole, _ = padded(sample, ((2, 3), (10, 4), (0, 6)), 0.0)
    found = measured_box(Normalized(whole, measure_intensity(whole, "dark")))
    assert found == (slice(2, 26), slice(10, 58), slice(0, 40))
    assert measured_box(whole) == tuple(slice(0, n) for n in whole.shape)  # nothing is known
    corner = np.tri(40, 40, -20, bool)[None].repeat(8, 0)
    box = inner_box(corner)
    assert corner[box].mean() <= 0.01 and corner[box].size > 0.4 * corner.size
    assert inner_box(np.ones((3, 4, 5), bool)) == (slice(0, 3), slice(0, 4), slice(0, 5))


def test_otsu_leaves_them_out(sample):
    whole, _ = padded(sample, ((0, 0), (0, 96), (0, 0)), 9.0)
    assert float(otsu(whole).threshold[...]) == float(otsu(sample).threshold[...])


def test_patches_in_any_plane():
    for axis in range(3):
        volume = np.arange(20.0**3).reshape(20, 20, 20)
        where = [slice(5, 13)] * 3
        where[axis] = slice(7, 8)
        volume[tuple(where)] = -1
        assert np.array_equal(filled(volume), volume == -1)
