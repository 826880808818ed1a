"""Segments by global thresholds, with classical methods to choose them."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from jax.typing import ArrayLike

from cryojax_seg.core.blank import census, find_blank
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

_BINS = 256  # histogram bins used to find several thresholds


class GlobalThreshold(Segmenter):
    """Applies intensity thresholds with learnable position and softness.

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
    """Return the values of the voxels that are finite and not blank."""
    whole = np.asarray(volume)
    known = np.isfinite(whole)
    if whole.ndim == 3:
        known &= ~find_blank(census(whole, 1)).mask(whole)
    values = whole[known]
    if values.size == 0 or values.min() == values.max():
        raise ValueError("cannot fit a threshold: the volume has no two different finite values")
    return values


def otsu(
    volume: ArrayLike, softness: ArrayLike = 1.0, classes: Sequence[str] = ("foreground",)
) -> GlobalThreshold:
    """Return the thresholds that maximise the variance between the intensity bands (Otsu 1979).

    Voxels that are not finite and blank parts are left out. K classes take K - 1 thresholds
    (multi-Otsu; Liao, Chen & Chung 2001), the best of a histogram of 256 bins.

    Raises:
        ValueError: for a volume without two different finite values.

    >>> noise = np.random.default_rng(0).normal(0.0, 0.1, (8, 8, 8))
    >>> noise[4:] += 1.0
    >>> 0.2 < float(otsu(noise).threshold[...]) < 0.8
    True
    """
    from skimage import filters  # slow to load, and only needed here

    values = _finite(volume)
    if len(classes) <= 2:
        return GlobalThreshold(filters.threshold_otsu(values), softness, classes)
    # scikit-image tries all divisions: 0.03 s for 4 classes, minutes for 6.
    several = filters.threshold_multiotsu if len(classes) <= 4 else multi_otsu
    return GlobalThreshold(several(values, len(classes)), softness, classes)


def multi_otsu(values: np.ndarray, classes: int) -> np.ndarray:
    """Return the multi-Otsu thresholds for a number of classes, by dynamic programming.

    The variance between the bands is a sum over bands, so the best division of the first bins into
    k bands consists of a best division of fewer bins into k - 1, and one band more.

    >>> multi_otsu(np.repeat([0.0, 1.0, 2.0], 5), 3).round(1).tolist()
    [0.0, 1.0]
    """
    counts, edges = np.histogram(values, _BINS)
    share = np.concatenate([[0.0], np.cumsum(counts / counts.sum())])
    centres = (edges[:-1] + edges[1:]) / 2
    first = np.concatenate([[0.0], np.cumsum((centres - centres.mean()) * counts / counts.sum())])
    # Of the bins from i to j - 1: their squared first moment over their share.
    weight, moment = share[None, :] - share[:, None], first[None, :] - first[:, None]
    between = np.where(weight > 0, moment**2 / np.where(weight > 0, weight, 1.0), 0.0)
    between[np.tril_indices(_BINS + 1)] = -np.inf  # a band has at least one bin
    best, choices = between[0], []
    for _ in range(classes - 1):
        total = best[:, None] + between
        choices.append(total.argmax(0))
        best = total.max(0)
    ends = [_BINS]
    for choice in reversed(choices):
        ends.append(int(choice[ends[-1]]))
    return centres[np.array(ends[:0:-1]) - 1]  # the last bin of each band but the last


def percentile(
    volume: ArrayLike,
    q: float | Sequence[float],
    softness: ArrayLike = 1.0,
    classes: Sequence[str] = ("foreground",),
) -> GlobalThreshold:
    """Return the threshold below which ``q`` percent of the finite voxels lie, one per q.

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
    """Return the threshold that Gaussian background exceeds at this rate.

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
    scale = np.median(np.abs(values - location)) / NormalDist().inv_cdf(0.75)
    if scale == 0:
        raise ValueError("cannot estimate the noise: most of the volume is a single value")
    return GlobalThreshold(location - NormalDist().inv_cdf(rate) * scale, softness, classes)
