"""Calibrates the probabilities of segmenters by a temperature or an isotonic map."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from cryojax_seg.core import Segmenter
from cryojax_seg.core.parameters import exponential, learnable, learnable_log, one_class
from cryojax_seg.core.tiling import apply
from cryojax_seg.core.types import Annotation, Logits, Volume

_LARGEST = 12.0  # larger logits are probabilities within 1e-5 of 0 or 1


class Tempered(Segmenter):
    """Divides the logits of a segmenter by a temperature (Guo et al. 2017, equation 9).

    A temperature above 1 makes all probabilities less certain. Labels do not change.

    Args:
        segmenter: any segmenter.
        temperature: positive number.

    Raises:
        ValueError: for a temperature that is not positive.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> float(Tempered(GlobalThreshold(0.0, softness=1.0), 2.0)(jnp.ones((1, 1, 1)))[0, 0, 0, 0])
    0.5
    """

    temperature = exponential("temperature")

    def __init__(self, segmenter: Segmenter, temperature: float | int = 1.0):
        self.segmenter = segmenter
        self.halo, self.stride = segmenter.halo, segmenter.stride
        self.classes = segmenter.classes
        self.log_temperature = learnable_log("temperature", temperature)

    def __call__(self, volume: Volume) -> Logits:
        return self.segmenter(volume) / self.temperature


class Isotonic(Segmenter):
    """Maps the logit of a segmenter of one class by an increasing piecewise linear function.

    The function is constant beyond the first and last knot (Zadrozny & Elkan 2002, on logits).
    Unlike a temperature it can correct a bias, so labels may change.

    Args:
        segmenter: segmenter of one class.
        knots: logits of the segmenter, increasing.
        values: calibrated logits at the knots, not decreasing.

    Raises:
        ValueError: for several classes, or knots and values that are not such a function.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> one = Isotonic(GlobalThreshold(0.0, softness=1.0), (-1.0, 1.0), (-3.0, 0.0))
    >>> float(one(jnp.zeros((1, 1, 1)))[0, 0, 0, 0])
    -1.5
    """

    def __init__(
        self,
        segmenter: Segmenter,
        knots: Sequence[float | int],
        values: Sequence[float | int],
    ):
        if len(segmenter.classes) != 1:
            raise ValueError(
                f"isotonic calibration takes one class, not {segmenter.classes}; use a temperature"
            )
        x, y = np.asarray(knots, np.float64), np.asarray(values, np.float64)
        if x.ndim != 1 or x.size < 2 or x.shape != y.shape or not (np.diff(x) > 0).all():
            raise ValueError("knots must increase, at least two, with one value each")
        if not ((np.diff(y) >= 0).all() and np.isfinite(y).all()):
            raise ValueError("values must be finite and not decrease")
        self.segmenter = segmenter
        self.halo, self.stride = segmenter.halo, segmenter.stride
        self.classes = segmenter.classes
        self.knots = tuple(x.tolist())
        self.values = learnable(values)

    def __call__(self, volume: Volume) -> Logits:
        knots = jnp.asarray(self.knots, jnp.float32)
        logits = self.segmenter(volume)
        return jnp.interp(logits, knots.astype(logits.dtype), self.values[...].astype(logits.dtype))


def _known(segmenter: Segmenter, examples: Sequence[Annotation], tile: int | None):
    """Return the logits, labels and weights of all annotated voxels."""
    logits, labels, weights = [], [], []
    for example in examples:
        kept = np.asarray(example.weights) > 0
        found = apply(segmenter, np.asarray(example.volume), tile)
        logits.append(found[kept].astype(np.float64))
        labels.append(np.asarray(example.labels)[kept])
        weights.append(np.asarray(example.weights, np.float64)[kept])
    if not sum(len(w) for w in weights):
        raise ValueError("calibration needs at least one annotated voxel")
    return (np.concatenate(parts) for parts in (logits, labels, weights))


def fit_temperature(
    segmenter: Segmenter, examples: Sequence[Annotation], tile: int | None = None
) -> Tempered:
    """Return the segmenter at the temperature that maximises the likelihood of annotation.

    Args:
        segmenter: any segmenter; the statistics of a network must be fitted (`fit_normalization`).
        examples: annotation that training did not see, such as `training.split_annotation` holds
            out.
        tile: see `core.apply`.

    Raises:
        ValueError: if nothing is annotated.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> from cryojax_seg.training import Example
    >>> volume = np.array([-1.0, 1.0, 1.0, 1.0], np.float32).reshape(1, 2, 2)
    >>> example = Example(volume, np.array([0, 1, 1, 0]).reshape(1, 2, 2), np.ones((1, 2, 2)))
    >>> fitted = fit_temperature(GlobalThreshold(0.0), [example])  # right in 3 of 4 voxels
    >>> round(1 / float(fitted.temperature), 2)  # log 3
    1.1
    """
    from scipy.optimize import minimize_scalar  # slow to load, and only needed here

    logits, labels, weights = _known(segmenter, examples, tile)

    def loss(log_temperature: float) -> float:
        z = logits / np.exp(log_temperature)
        if z.shape[-1] == 1:
            likelihood = -np.logaddexp(0, np.where(labels > 0, -z[:, 0], z[:, 0]))
        else:
            likelihood = z[np.arange(len(z)), labels] - np.logaddexp.reduce(z, axis=-1)
        return -float((weights * likelihood).sum())

    found: Any = minimize_scalar(loss, bounds=(-5.0, 5.0), method="bounded")
    best = float(found.x) if loss(float(found.x)) < loss(0.0) else 0.0
    return Tempered(segmenter, float(np.exp(best)))


def fit_isotonic(
    segmenter: Segmenter, examples: Sequence[Annotation], tile: int | None = None, knots: int = 33
) -> Isotonic:
    """Return the segmenter with the increasing map of its logit that fits annotation best.

    The map is found by pooling adjacent violators (`scipy.optimize.isotonic_regression`) over
    groups of voxels of about equal weight and similar logit, with half a voxel of each label added
    to every group, so that no probability is 0 or 1.

    Args:
        segmenter: segmenter of one class; otherwise as in `fit_temperature`.
        examples, tile: as in `fit_temperature`.
        knots: largest number of groups.

    Raises:
        ValueError: for several classes; if the annotation has fewer than two different logits.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> from cryojax_seg.training import Example
    >>> volume = np.linspace(-1, 1, 64, dtype=np.float32).reshape(4, 4, 4)
    >>> example = Example(volume, (volume > 0.5).astype(int), np.ones(volume.shape))
    >>> fitted = fit_isotonic(GlobalThreshold(0.0), [example], knots=8)
    >>> bool(fitted(volume)[0, 0, 0, 0] < 0 < fitted(volume)[3, 3, 3, 0])
    True
    """
    from scipy.optimize import isotonic_regression  # slow to load, and only needed here

    one_class("Isotonic", segmenter.classes)
    logits, labels, weights = _known(segmenter, examples, tile)
    order = np.argsort(logits[:, 0], kind="stable")
    z, y, w = logits[order, 0], (labels[order] > 0).astype(float), weights[order]
    mass = np.cumsum(w)
    group = np.minimum((knots * (mass - w / 2) / mass[-1]).astype(int), knots - 1)
    # Equal logits belong to one group.
    first = np.searchsorted(z, z, side="left")
    group = np.unique(group[first], return_inverse=True)[1]
    total = np.bincount(group, w)
    centre = np.bincount(group, w * z) / total
    if len(centre) < 2:
        raise ValueError("isotonic calibration needs annotated voxels of different logits")
    count = np.bincount(group)
    share = (np.bincount(group, w * y) / total * count + 0.5) / (count + 1.0)
    rate = isotonic_regression(share, weights=total).x
    values = np.clip(np.log(rate / (1 - rate)), -_LARGEST, _LARGEST)
    return Isotonic(segmenter, centre.tolist(), np.maximum.accumulate(values).tolist())
