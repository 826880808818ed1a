"""Global thresholds: the smallest segmenter, and the classical ways to choose its number."""

from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike
from scipy import stats
from skimage import filters

from cryojax_seg.core.parameters import (
    Numbers,
    bands,
    exponential,
    learnable,
    learnable_log,
    per_threshold,
)
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.core.types import Logits, Volume


class GlobalThreshold(Segmenter):
    """Intensity thresholds with a learnable position and softness.

    One class: ``logit = (I - threshold) / softness``, whose sigmoid tends to the step
    ``I > threshold`` as the softness tends to 0. K classes: K - 1 thresholds cut the intensities
    into K bands, background first (see `parameters.bands`).

    Args:
        threshold: one number, or K - 1 of them for K classes.
        softness: intensity over which the probability turns from 1/2 to 0.73; positive.
        classes: names of the classes.

    Raises:
        ValueError: if the number of thresholds does not fit the classes, or softness is not
            positive.

    >>> import jax.numpy as jnp
    >>> volume = jnp.array([[[0.0, 1.0, 2.0, 3.0]]])
    >>> GlobalThreshold(1.5)(volume)[0, 0, :, 0].tolist()
    [-1.5, -0.5, 0.5, 1.5]
    >>> bands = GlobalThreshold([0.5, 2.5], classes=("background", "lipid", "gold"))
    >>> jnp.argmax(bands(volume), axis=-1).tolist()
    [[[0, 1, 1, 2]]]
    """

    softness = exponential("softness")

    def __init__(
        self,
        threshold: Numbers = 0.0,
        softness: ArrayLike = 1.0,
        classes: Sequence[str] = ("foreground",),
    ):
        self.halo, self.stride, self.classes = 0, 1, tuple(classes)
        self.threshold = learnable(per_threshold("threshold", threshold, classes))
        self.log_softness = learnable_log("softness", softness)

    def __call__(self, volume: Volume) -> Logits:
        thresholds = self.threshold[...].reshape(1, 1, 1, -1)
        return bands(volume, thresholds, self.softness, self.classes)


def _finite(volume: ArrayLike) -> np.ndarray:
    values = np.asarray(volume)
    values = values[np.isfinite(values)]
    if values.size == 0 or values.min() == values.max():
        raise ValueError("cannot fit a threshold: the volume has no two different finite values")
    return values


def otsu(
    volume: ArrayLike, softness: ArrayLike = 1.0, classes: Sequence[str] = ("foreground",)
) -> GlobalThreshold:
    """The thresholds that maximise the variance between the intensity bands (Otsu 1979).

    Voxels that are not finite are left out. K classes take K - 1 thresholds (multi-Otsu; Liao,
    Chen & Chung 2001), found by exhaustive search: keep K at 5 or below.

    Raises:
        ValueError: for a volume without two different finite values.

    >>> noise = np.random.default_rng(0).normal(0.0, 0.1, (8, 8, 8))
    >>> noise[4:] += 1.0
    >>> 0.2 < float(otsu(noise).threshold[...]) < 0.8
    True
    """
    values = _finite(volume)
    if len(classes) <= 2:
        return GlobalThreshold(filters.threshold_otsu(values), softness, classes)
    return GlobalThreshold(filters.threshold_multiotsu(values, len(classes)), softness, classes)


def percentile(
    volume: ArrayLike,
    q: float | Sequence[float],
    softness: ArrayLike = 1.0,
    classes: Sequence[str] = ("foreground",),
) -> GlobalThreshold:
    """The threshold below which ``q`` percent of the finite voxels lie (one q per threshold).

    Raises:
        ValueError: for a q outside 0 to 100, or a volume without two different finite values.

    >>> volume = np.arange(101.0).reshape(1, 1, 101)
    >>> float(percentile(volume, 90.0).threshold[...])
    90.0
    """
    if np.min(q) < 0 or np.max(q) > 100:
        raise ValueError(f"q is a percentage between 0 and 100, not {q}")
    return GlobalThreshold(np.percentile(_finite(volume), q), softness, classes)


def false_positive_rate(
    volume: ArrayLike,
    rate: float,
    softness: ArrayLike = 1.0,
    classes: Sequence[str] = ("foreground",),
) -> GlobalThreshold:
    """The threshold that Gaussian background passes at this rate.

    Location and scale of the background are the median and 1.4826 times the median absolute
    deviation of the finite voxels, so structure may fill up to about a tenth of the volume before
    it moves them much.

    Args:
        rate: wanted fraction of background voxels above the threshold, between 0 and 1.

    Raises:
        ValueError: for a rate that is not between 0 and 1, a volume without two different finite
            values, or one more than half of which is a single value.

    >>> noise = np.random.default_rng(0).normal(5.0, 2.0, (32, 32, 32))
    >>> abs(float(false_positive_rate(noise, 0.01).threshold[...]) - (5 + 2.326 * 2)) < 0.1
    True
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate is a fraction between 0 and 1, not {rate}")
    values = _finite(volume)
    location = np.median(values)
    scale = np.median(np.abs(values - location)) / stats.norm.ppf(0.75)
    if scale == 0:
        raise ValueError("cannot estimate the noise: most of the volume is a single value")
    return GlobalThreshold(location + stats.norm.isf(rate) * scale, softness, classes)
