"""Applies a segmenter at the voxel size that it knows, to volumes of another voxel size."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx

from cryojax_seg.core.blocks import Readable, blocks
from cryojax_seg.core.intensity import measure_intensity, measured_box
from cryojax_seg.core.parameters import filled
from cryojax_seg.core.resampling import Ratio, Resampled, interpolated, ratios, resampled
from cryojax_seg.core.segmenter import Segmenter, check_divisible
from cryojax_seg.core.types import Array, Logits, Volume


class Scale(nnx.Variable):
    """Holds a measured number of the intensities, which is saved but not learned."""


class Rescaled(Segmenter):
    """Resamples a volume for a segmenter, and brings its logits back onto the grid of the volume.

    The volume is resampled with a low-pass filter of finite support, see `core.resampling`, and the
    logits are interpolated linearly. Both repeat with the stride, so tiles equal the whole. The
    factor is rounded to a ratio, by at most 1 % and so that the stride is small; labels lie where
    they belong in any case.

    Noise changes its deviation when it is resampled, so the result is normalised again:
    `fit_rescaled` measures how.

    Args:
        segmenter: any local segmenter.
        factor: voxels of the segmenter for each voxel of the volume, which is the voxel size of the
            volume divided by that of the segmenter; one for all axes or one for each (z, y, x).
        centre, gain: the segmenter sees ``(resampled - centre) * gain``.

    Raises:
        ValueError: for a factor that is not positive, or too large or small.

    >>> from cryojax_seg.segmenters import LinearVote
    >>> rescaled = Rescaled(LinearVote(2), 0.5)
    >>> rescaled(jnp.ones((4, 4, 8))).shape, rescaled.stride, rescaled.halo
    ((4, 4, 8, 1), 2, 14)
    """

    def __init__(
        self,
        segmenter: Segmenter,
        factor: float | int | Sequence[float | int],
        centre: float | int = 0.0,
        gain: float | int = 1.0,
    ):
        self.segmenter = segmenter
        values = [factor] * 3 if isinstance(factor, float | int) else list(factor)
        if len(values) != 3:
            raise ValueError(f"factor must be one number or three (z, y, x), got {factor}")
        self.factor = tuple(float(value) for value in values)
        self.by = ratios(self.factor, segmenter.stride)
        self.stride = self.by[0].old
        self.halo = max(_reach(ratio, segmenter.halo) for ratio in self.by)
        self.classes = segmenter.classes
        self.centre, self.gain = Scale(filled((), centre)), Scale(filled((), gain))

    def __call__(self, volume: Volume) -> Logits:
        check_divisible(volume.shape, self.stride)
        centre, gain = (s[...].astype(volume.dtype) for s in (self.centre, self.gain))
        inner = (resampled(jnp.asarray(volume), self.by) - centre) * gain
        return interpolated(self.segmenter(inner), self.by)

    def around(self, segmenter: Segmenter) -> "Rescaled":
        """Return the same resampling around another segmenter.

        >>> from cryojax_seg.segmenters import GlobalThreshold, LinearVote
        >>> Rescaled(LinearVote(2), 0.5, gain=3.0).around(GlobalThreshold()).halo
        10
        """
        centre, gain = float(self.centre[...]), float(self.gain[...])
        return Rescaled(segmenter, self.factor, centre, gain)

    def turned(self) -> "Rescaled":
        """Return the same for a volume of the opposite sign.

        >>> from cryojax_seg.segmenters import GlobalThreshold
        >>> float(Rescaled(GlobalThreshold(), 0.5, centre=0.25).turned().centre[...])
        -0.25
        """
        centre, gain = float(self.centre[...]), float(self.gain[...])
        return Rescaled(self.segmenter, self.factor, -centre, gain)

    def view(self, volume: Readable) -> Resampled:
        """Return the volume as the segmenter sees it, resampled as it is read.

        >>> from cryojax_seg.segmenters import GlobalThreshold
        >>> Rescaled(GlobalThreshold(), 0.5).view(np.ones((4, 4, 6), np.float32)).shape
        (2, 2, 3)
        """
        return Resampled(volume, self.by, float(self.centre[...]), float(self.gain[...]))


def _reach(ratio: Ratio, halo: int) -> int:
    """Return the halo of a segmenter behind this resampling, in voxels of the volume."""
    if ratio.new == ratio.old:
        return halo
    return int((halo + 1) * ratio.old / ratio.new) + ratio.reach


def fit_rescaled(
    segmenter: Segmenter,
    volume: Readable | Array,
    factor: float | int | Sequence[float | int],
    *,
    edge: int = 32,
    count: int = 64,
    seed: int = 0,
) -> Rescaled:
    """Return the rescaled segmenter, which sees this volume with the median 0 and deviation 1.

    Both are measured on blocks of the resampled volume, as `measure_intensity` does. Blank parts of
    a `core.Normalized` volume are left out.

    Args:
        segmenter, factor: as in `Rescaled`.
        volume: ``(z, y, x)``, normalized, structure bright.
        edge: of the blocks, resampled voxels.
        count: number of blocks that are read; of a small volume all are.
        seed: seed of their choice.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> noise = np.random.default_rng(0).normal(size=(48, 48, 48)).astype(np.float32)
    >>> fitted = fit_rescaled(GlobalThreshold(), noise, 0.5)
    >>> bool(fitted.gain[...] > 2), bool(abs(np.std(fitted.view(noise)[:, :, :]) - 1) < 0.02)
    (True, True)
    """
    rescaled = Rescaled(segmenter, factor)
    view = rescaled.view(volume)
    box = measured_box(view)
    cells = list(blocks([s.stop - s.start for s in box], edge))
    chosen = np.random.default_rng(seed).permutation(len(cells))[:count]
    values = []
    for number in np.sort(chosen):
        spans = zip(cells[number], box, strict=True)
        values.append(view[tuple(slice(s.start + b.start, s.stop + b.start) for s, b in spans)])
    whole = np.concatenate([block.ravel() for block in values])
    found = measure_intensity(whole[None, None], "bright")
    return Rescaled(segmenter, rescaled.factor, found.centre, found.gain)
