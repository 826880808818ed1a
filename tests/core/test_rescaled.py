"""Segmenters at the voxel size that they know, on volumes of other voxel sizes."""

import jax
import numpy as np
import pytest

from cryojax_seg.core import (
    Normalized,
    Resampled,
    Rescaled,
    apply,
    fit_rescaled,
    measure_intensity,
    measured_box,
)
from cryojax_seg.core.resampling import Ratio, interpolated, matrices, ratios, resampled
from cryojax_seg.segmenters import GlobalThreshold, LinearVote, SheetFilter


def band_limited(edge, share, seed=0):
    """White noise of frequencies below a share of 0.5 cycles per voxel."""
    spectrum = np.fft.fftn(np.random.default_rng(seed).normal(size=(edge,) * 3))
    k = np.fft.fftfreq(edge)
    radius = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)
    return np.fft.ifftn(spectrum * (radius < 0.5 * share)).real.astype(np.float32)


def fourier_resampled(volume, edge):
    """The volume on a grid of another edge that begins at the same edge of the volume."""
    old = len(volume)
    spectrum = np.fft.fftshift(np.fft.fftn(volume))
    if edge < old:
        low = old // 2 - edge // 2
        spectrum = spectrum[(slice(low, low + edge),) * 3]
    else:
        low = edge // 2 - old // 2
        spectrum = np.pad(spectrum, (low, edge - old - low))
    shift = 0.5 * old / edge - 0.5  # in old voxels, of the centre of the first new voxel
    phase = np.exp(2j * np.pi * (np.arange(edge) - edge // 2) * shift / old)
    spectrum = spectrum * phase[:, None, None] * phase[:, None] * phase
    return np.fft.ifftn(np.fft.ifftshift(spectrum)).real * (edge / old) ** 3


@pytest.mark.parametrize(("share", "most"), [(0.7, 0.006), (0.8, 0.03)])
@pytest.mark.parametrize(("new", "old", "edge"), [(12, 17, 68), (3, 2, 48), (1, 2, 72)])
def test_resampling_is_near_fourier_cropping(new, old, edge, share, most):
    volume = band_limited(edge, share * min(1.0, new / old))
    expected = fourier_resampled(volume, edge * new // old)
    got = np.asarray(resampled(volume, (Ratio(new, old),) * 3))
    inner = (slice(10, -10),) * 3  # where no face is near
    assert np.std((got - expected)[inner]) < most * np.std(expected)


def test_what_the_coarser_grid_cannot_hold_does_not_come_back_as_something_else():
    k = 0.4  # cycles per voxel; a grid of half the voxels holds up to 0.25
    wave = np.cos(2 * np.pi * k * np.arange(96, dtype=np.float32))
    volume = np.broadcast_to(wave, (16, 16, 96)).copy()
    found = np.asarray(resampled(volume, ratios((0.5, 0.5, 0.5))))[:, :, 8:-8]
    assert np.abs(found).max() < 0.01


def test_constants_and_ramps_stay_what_they_are():
    ramp = np.broadcast_to(np.arange(46, dtype=np.float32), (46, 46, 46)).copy()
    by = ratios((0.7, 0.7, 0.7), stride=8)
    assert by == (Ratio(16, 23),) * 3
    inner = np.asarray(resampled(ramp, by))
    centres = (np.arange(32) + 0.5) * 23 / 16 - 0.5
    np.testing.assert_allclose(inner[10, 10, 9:-9], centres[9:-9], atol=0.02)
    back = np.asarray(interpolated(inner[..., None], by))[20, 20, :, 0]
    np.testing.assert_allclose(back[14:-14], np.arange(46)[14:-14], atol=0.03)
    constant = np.asarray(resampled(np.full((46, 46, 46), 3.0, np.float32), by))
    np.testing.assert_allclose(constant, 3.0, rtol=1e-5)


@pytest.mark.parametrize("factor", [0.35, 0.7, 0.93, 1.31, 1.5, 2.2, 3.0])
@pytest.mark.parametrize("stride", [1, 4, 8])
def test_ratios_are_within_one_percent_and_small(factor, stride):
    (ratio,) = set(ratios((factor,) * 3, stride))
    assert abs(ratio.factor / factor - 1) <= 0.01 and ratio.new % stride == 0
    assert ratio.old <= 60 * stride / factor
    axes = ratios((factor, 1.0, 2 * factor), stride)
    assert len({r.old for r in axes}) == 1
    assert all(
        abs(r.factor / f - 1) <= 0.01 for r, f in zip(axes, (factor, 1, 2 * factor), strict=True)
    )


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf"), 1e-9])
def test_factors_without_sense_are_refused(factor):
    with pytest.raises(ValueError, match="factor"):
        Rescaled(GlobalThreshold(), factor)
    with pytest.raises(ValueError, match="one number or three"):
        Rescaled(GlobalThreshold(), (1.0, 2.0))


def test_matrices_do_what_the_taps_do():
    volume = np.random.default_rng(0).normal(size=(17, 17, 34)).astype(np.float32)
    by = ratios((0.7, 1.4, 0.7), stride=4)
    volume = np.resize(volume, [r.old for r in by])
    pairs = [matrices(r, n) for r, n in zip(by, volume.shape, strict=True)]
    there, back = zip(*pairs, strict=True)
    expected = np.einsum("ai,bj,ck,ijk->abc", *there, volume)
    np.testing.assert_allclose(resampled(volume, by), expected, atol=1e-5)
    expected = np.einsum("ia,jb,kc,abc->ijk", *back, expected)
    got = interpolated(resampled(volume, by)[..., None], by)[..., 0]
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_tiles_of_a_volume_that_no_stride_divides_equal_the_whole():
    volume = np.random.default_rng(1).normal(size=(41, 53, 47)).astype(np.float32)
    segmenter = Rescaled(LinearVote(2), 0.7)
    whole = apply(segmenter, volume)
    for tile in (10, 21, (41, 20, 30)):
        np.testing.assert_allclose(apply(segmenter, volume, tile), whole, atol=1e-5)
    assert whole.shape == (41, 53, 47, 1)


def test_a_view_is_the_resampled_volume_block_by_block():
    volume = np.random.default_rng(2).normal(size=(34, 51, 34)).astype(np.float32)
    by = ratios((0.7, 0.7, 0.7), stride=4)
    view = Resampled(volume, by, centre=0.2, gain=2.0)
    assert view.shape == (24, 36, 24) and view[:].shape == view.shape
    whole = (np.asarray(resampled(volume, by)) - 0.2) * 2
    np.testing.assert_allclose(view[:, :, :], whole, atol=1e-5)
    np.testing.assert_allclose(view[5:9, 30:, :7], whole[5:9, 30:, :7], atol=1e-5)
    near = Rescaled(GlobalThreshold(0.0, 1.0), 0.7).around(GlobalThreshold(0.0, 1.0)).view(volume)
    assert near.by[0].factor == pytest.approx(0.7)


def test_noise_keeps_its_deviation_and_blank_parts_change_nothing():
    noise = np.random.default_rng(3).normal(5.0, 2.0, (40, 48, 48)).astype(np.float32)
    padded = np.pad(noise, ((0, 0), (0, 48), (40, 0)))
    gains = []
    for density in (noise, padded):
        volume = Normalized(density, measure_intensity(density, "dark"))
        fitted = fit_rescaled(GlobalThreshold(), volume, 0.5)
        view = fitted.view(volume)
        box = measured_box(view)
        assert [s.stop - s.start for s in box] == [20, 24, 24]
        assert np.std(view[box]) == pytest.approx(1.0, abs=0.05)
        gains.append(float(fitted.gain[...]))
    # Eight voxels become one, and the filter is soft where the coarser grid ends.
    assert 2**1.5 < gains[0] < 1.2 * 2**1.5
    assert gains[1] == pytest.approx(gains[0], rel=0.03)


def test_a_sheet_is_found_at_any_voxel_size():
    """A sheet of 40 A in voxels of 5, 10 and 15 A, by a filter for voxels of 10 A."""
    widths = {}
    for size in (5.0, 10.0, 15.0):
        n = 2 * int(240 / size) + 1
        x = (np.arange(n) - n // 2) * size
        sheet = np.exp(-0.5 * (x / 17.0) ** 2).astype(np.float32)
        segmenter = Rescaled(SheetFilter((1.5,), radii=(6,)), size / 10.0)
        response = apply(segmenter, np.broadcast_to(sheet, (n, n, n)))[n // 2, n // 2, :, 0]
        assert response.argmax() == n // 2 and response.max() > 0
        half = (response.max() + response.min()) / 2
        widths[size] = (response > half).sum() * size
    assert widths[5.0] == pytest.approx(widths[10.0], abs=10.0)
    assert widths[15.0] == pytest.approx(widths[10.0], abs=15.0)


def test_the_scale_of_intensities_is_no_part_of_the_program():
    one, other = (Rescaled(GlobalThreshold(), 0.5, gain=g) for g in (1.0, 2.0))

    assert jax.tree.structure(one) == jax.tree.structure(other)
