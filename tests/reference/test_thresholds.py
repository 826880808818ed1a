"""Thresholds in their hard limit are the classical algorithms of scipy and scikit-image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from skimage import filters

from cryojax_seg.core import apply, labels, probabilities
from cryojax_seg.restore import LocalContrast
from cryojax_seg.segmenters import (
    GlobalThreshold,
    Hysteresis,
    LinearVote,
    LocalThreshold,
    false_positive_rate,
    otsu,
    percentile,
)
from cryojax_seg.segmenters.threshold import multi_otsu

THREE = ("background", "membrane", "filament")


@pytest.fixture(scope="module")
def volume():
    """Smooth noise with all intensities in it."""
    noise = np.random.default_rng(5).normal(size=(20, 21, 22))
    smooth = ndimage.gaussian_filter(noise, 1.0)
    return (smooth / smooth.std()).astype(np.float32)


def label(segmenter, volume):
    return np.asarray(labels(jnp.asarray(apply(segmenter, volume))))


def test_one_threshold_is_a_comparison(volume):
    got = label(GlobalThreshold(0.7, softness=0.3), volume)
    np.testing.assert_array_equal(got, volume > np.float32(0.7))


def test_the_probability_tends_to_the_step(volume):
    p = np.asarray(probabilities(GlobalThreshold(0.7, softness=1e-4)(jnp.asarray(volume))))[..., 0]
    clear = np.abs(volume - 0.7) > 2e-3
    np.testing.assert_allclose(p[clear], (volume > 0.7)[clear], atol=1e-8)


def test_several_thresholds_are_bands_in_any_order(volume):
    expected = np.digitize(volume, np.float32([-0.5, 0.7]), right=True)
    for thresholds in ([-0.5, 0.7], [0.7, -0.5]):
        got = label(GlobalThreshold(thresholds, 0.2, THREE), volume)
        np.testing.assert_array_equal(got, expected)


def variance_between(values, thresholds, bins=256):
    counts, edges = np.histogram(values, bins)
    band = np.digitize((edges[:-1] + edges[1:]) / 2, np.asarray(thresholds, float) + 1e-6)
    share = np.bincount(band, counts / counts.sum())
    mean = np.bincount(band, (edges[:-1] + edges[1:]) / 2 * counts / counts.sum()) / share
    return float((share * (mean - (share * mean).sum()) ** 2).sum())


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_dynamic_programming_finds_what_trying_all_finds(volume, classes):
    rng = np.random.default_rng(0)
    peaks = np.concatenate([rng.normal(m, s, 3000) for m, s in ((0, 1), (4, 0.7), (8, 0.5))])
    for values in (volume.ravel(), peaks.astype(np.float32)):
        found, tried = multi_otsu(values, classes), filters.threshold_multiotsu(values, classes)
        step = (values.max() - values.min()) / 256
        np.testing.assert_allclose(found, tried, atol=1.01 * step)  # that one rounds
        assert variance_between(values, found) >= variance_between(values, tried) - 1e-9


def test_many_classes_start_with_the_gaps_between_them():
    values = np.repeat(np.arange(10.0), 50) + np.tile(np.linspace(-0.1, 0.1, 50), 10)
    names = ("background", *(f"class{i}" for i in range(1, 10)))
    found = np.asarray(otsu(values, classes=names).threshold[...])
    np.testing.assert_allclose(found, np.arange(9) + 0.1, atol=0.05)


def test_otsu_and_multi_otsu_are_those_of_skimage(volume):
    spoilt = volume.copy()
    spoilt[0, 0, :3] = (np.nan, np.inf, -np.inf)
    finite = spoilt[np.isfinite(spoilt)]
    assert float(otsu(spoilt).threshold[...]) == pytest.approx(filters.threshold_otsu(finite))
    several = otsu(spoilt, classes=THREE)
    assert several.classes == THREE
    np.testing.assert_allclose(several.threshold[...], filters.threshold_multiotsu(finite, 3))


def test_percentile_leaves_that_fraction_below(volume):
    segmenter = percentile(volume, 93.0)
    assert label(segmenter, volume).mean() == pytest.approx(0.07, abs=1e-3)
    bands = percentile(volume, [50.0, 90.0], classes=THREE)
    counts = np.bincount(label(bands, volume).ravel()) / volume.size
    np.testing.assert_allclose(counts, [0.5, 0.4, 0.1], atol=1e-3)


@pytest.mark.parametrize("rate", [0.1, 0.01, 0.001])
def test_gaussian_background_passes_at_the_wanted_rate(rate):
    background = np.random.default_rng(1).normal(3.0, 0.5, (64, 64, 64))
    got = (background > float(false_positive_rate(background, rate).threshold[...])).mean()
    assert got == pytest.approx(rate, rel=0.15)
    # Five percent of bright structure raises the threshold, by less than a third of a deviation.
    spoilt = background.copy()
    spoilt[:3] += 5.0
    moved = false_positive_rate(spoilt, rate).threshold[...]
    assert 0 <= float(moved - false_positive_rate(background, rate).threshold[...]) < 0.5 / 3


@pytest.mark.parametrize(
    "fit", [otsu, lambda v: percentile(v, 50.0), lambda v: false_positive_rate(v, 0.1)]
)
def test_fits_refuse_what_has_no_threshold(fit):
    for useless in (np.full((4, 4, 4), np.nan), np.ones((4, 4, 4))):
        with pytest.raises(ValueError, match="two different finite"):
            fit(useless)


def test_fits_refuse_bad_arguments():
    volume = np.arange(64.0).reshape(4, 4, 4)
    with pytest.raises(ValueError, match="between 0 and 100"):
        percentile(volume, 101.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        false_positive_rate(volume, 0.0)
    with pytest.raises(ValueError, match="single value"):
        false_positive_rate(np.where(volume > 60, volume, 0.0), 0.1)


def test_a_vote_of_radius_0_is_the_threshold(volume):
    vote, threshold = LinearVote(0, 0.7, 0.25), GlobalThreshold(0.7, 0.25)
    np.testing.assert_array_equal(apply(vote, volume), apply(threshold, volume))
    sharp = label(LinearVote(0, 0.7, softness=1e-6), volume)
    np.testing.assert_array_equal(sharp, volume > np.float32(0.7))


def test_a_vote_is_a_correlation(volume):
    vote = LinearVote(2, 0.1, 0.5)
    vote.kernel[...] = jnp.asarray(np.random.default_rng(0).normal(size=(5, 5, 5, 1, 1)), "float32")
    kernel = np.asarray(vote.kernel[...])[..., 0, 0]
    expected = (ndimage.correlate(volume, kernel, mode="reflect") - 0.1) / 0.5
    np.testing.assert_allclose(apply(vote, volume)[..., 0], expected, atol=1e-4)


def moments(volume, scale):
    v = volume.astype(float)
    mean = ndimage.gaussian_filter(v, scale, truncate=4.0)
    return mean, np.sqrt(ndimage.gaussian_filter(v**2, scale, truncate=4.0) - mean**2)


def assert_same_mask(segmenter, volume, threshold):
    """The labels are ``volume > threshold``, apart from voxels within rounding of it."""
    clear = np.abs(volume - threshold) > 1e-5
    assert clear.mean() > 0.999
    np.testing.assert_array_equal(label(segmenter, volume)[clear], (volume > threshold)[clear])


def test_niblack(volume):
    mean, deviation = moments(volume, 2.0)
    segmenter = LocalThreshold((2.0,), offset=0.05, gain=0.6)
    assert_same_mask(segmenter, volume, mean + 0.6 * deviation + 0.05)


def test_niblack_agrees_with_skimage_but_for_the_shape_of_the_window(volume):
    # A box of edge 15 has the standard deviation sqrt((15^2 - 1) / 12) = 4.3.
    box = volume > filters.threshold_niblack(volume, window_size=15, k=-0.6)
    got = label(LocalThreshold((4.3,), gain=0.6), volume)
    assert (got == box).mean() > 0.96


def test_gain_0_is_the_gaussian_local_threshold_of_skimage(volume):
    expected = filters.threshold_local(
        volume.astype(float), 3, method="gaussian", offset=-0.2, param=2.0
    )
    assert_same_mask(LocalThreshold((2.0,), offset=0.2, gain=0.0), volume, expected)


def test_sauvola(volume):
    positive = volume - volume.min() + 0.1
    mean, deviation = moments(positive, 2.0)
    segmenter = LocalThreshold((2.0,), gain=0.3, form="sauvola", dynamic_range=1.5)
    assert_same_mask(segmenter, positive, mean * (1 + 0.3 * (deviation / 1.5 - 1)))


def test_windows_are_mixed_by_weight(volume):
    near, far = (LocalThreshold((s,), gain=0.5) for s in (1.0, 2.0))
    both = LocalThreshold((1.0, 2.0), gain=0.5, mixing=[0.0, np.log(3.0)])
    expected = 0.25 * apply(near, volume) + 0.75 * apply(far, volume)
    np.testing.assert_allclose(apply(both, volume), expected, atol=1e-5)


def test_local_contrast(volume):
    mean, deviation = moments(volume, 2.0)
    restorer = LocalContrast(2.0, floor=0.1)
    got = jax.jit(restorer)(jnp.asarray(np.pad(volume, 8, mode="symmetric")))[8:-8, 8:-8, 8:-8, 0]
    np.testing.assert_allclose(got, (volume - mean) / (deviation + 0.1), atol=2e-5)


def test_hysteresis_is_that_of_skimage(volume):
    # 60 steps are longer than any path in this volume.
    expected = filters.apply_hysteresis_threshold(volume, np.float32(1.2), np.float32(2.2))
    assert 0.03 < expected.mean() < (volume > 1.2).mean() - 0.01
    got = labels(jax.jit(Hysteresis(1.2, 2.2, steps=60))(jnp.asarray(volume)))
    np.testing.assert_array_equal(got, expected)


def test_hysteresis_over_corners_joins_what_touches(volume):
    objects, count = ndimage.label(volume > np.float32(0.8), np.ones((3, 3, 3)))
    seeded = np.unique(objects[volume > np.float32(1.8)])
    expected = np.isin(objects, seeded[seeded > 0])
    assert expected.sum() < (volume > 0.8).sum()
    got = labels(jax.jit(Hysteresis(0.8, 1.8, steps=60, connectivity=3))(jnp.asarray(volume)))
    np.testing.assert_array_equal(got, expected)


def test_hysteresis_reaches_as_far_as_its_steps():
    line = np.zeros((1, 1, 20), np.float32)
    line[..., 2:] = 1.5
    line[..., 2] = 2.5
    got = label(Hysteresis(1.0, 2.0, steps=5), line)[0, 0]
    np.testing.assert_array_equal(np.flatnonzero(got), np.arange(2, 8))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: GlobalThreshold(0.0, softness=0.0), "softness must be positive"),
        (lambda: GlobalThreshold([0.0, 1.0]), "threshold needs 1 value for"),
        (lambda: GlobalThreshold([0.0, 1.0, 2.0], classes=THREE), "threshold needs 2 values"),
        (lambda: GlobalThreshold(classes=()), "at least one name"),
        (lambda: LocalThreshold((2.0, -1.0)), "scales must be positive"),
        (lambda: LocalThreshold(()), "scales needs at least one"),
        (lambda: LocalThreshold((2.0,), radii=(3, 4)), "one radius"),
        (lambda: Hysteresis(steps=0), "steps must be 1 or more"),
        (lambda: Hysteresis(connectivity=2), "connectivity"),
        (lambda: Hysteresis(classes=THREE), "Stacked"),
        (lambda: LinearVote(-1), "radius"),
        (lambda: LinearVote(1, [0.0, 1.0], classes=THREE), "does not fit"),
    ],
)
def test_constructors_name_what_is_wrong(make, match):
    with pytest.raises(ValueError, match=match):
        make()
