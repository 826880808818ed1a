"""Corrects the probabilities of networks, and chooses the thresholds at which classes are called.

These are two things. Probabilities are corrected so that they agree with frequencies; thresholds
are chosen so that labels agree with annotation, and change no probability.
"""

import dataclasses

import numpy as np
from flax import nnx
from jaxtyping import Float, Int, Real

from cryojax_seg.core import Segmenter

LogitRows = Float[np.ndarray, "voxel class"]
LabelRows = Int[np.ndarray, "voxel"]
WeightRows = Real[np.ndarray, "voxel"]

_MOST = 2**20  # voxels that are fitted to
_STEEPEST = 20.0  # largest factor, and inverse of the smallest
_LARGEST = 10.0  # largest shift
_EXTREME = 1e-3  # smallest threshold, and distance of the largest from 1
_EQUAL = 1e-3  # difference of Dice that decides nothing
_SWEEPS = 3


@dataclasses.dataclass(frozen=True)
class Recalibration:
    """Maps logits z to ``z / temperature + shifts``.

    Attributes:
        temperature: a temperature above 1 makes all probabilities less certain.
        shifts: added to the logit of each class; 0 for the background of several classes.

    >>> Recalibration(2.0, (1.0,))(np.full((1, 1, 1, 1), 4.0)).item()
    3.0
    """

    temperature: float
    shifts: tuple[float, ...]

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        return logits / self.temperature + np.asarray(self.shifts, logits.dtype)

    def folded(self, segmenter: Segmenter) -> Segmenter:
        """Return a copy of a network whose own logits are the mapped ones.

        The last linear map is scaled and shifted, so the copy is saved, tiled and exported like
        the network itself.

        Raises:
            ValueError: if the segmenter has no last linear map (`Segmenter.last_layers`).

        >>> from cryojax_seg.segmenters import ConvNet
        >>> net = ConvNet(1, 2, rngs=nnx.Rngs(0))
        >>> float(Recalibration(2.0, (1.0,)).folded(net)(np.zeros((4, 4, 4), np.float32)).mean())
        1.0
        """
        if not segmenter.last_layers():
            raise ValueError(f"a {type(segmenter).__name__} has no last linear map to fold into")
        segmenter = nnx.clone(segmenter)
        for kernel, bias in segmenter.last_layers():
            shifts = np.tile(self.shifts, bias.shape[0] // len(self.shifts))
            kernel[...] = kernel[...] / self.temperature
            bias[...] = bias[...] / self.temperature + shifts.astype(bias.dtype)
        return segmenter


def fit_recalibration(
    logits: LogitRows, labels: LabelRows, weights: WeightRows | None = None
) -> Recalibration:
    """Return the temperature and the shift of each class that maximise the likelihood of labels.

    For one class this is the method of Platt (1999), for several that of Alexandari et al. (2020,
    arXiv:1901.06852, bias-corrected temperature scaling): sampling that is balanced over the
    classes, and the Dice loss, distort the frequencies of classes, which no temperature mends. The
    targets are ``(n_c + 1) / (n_c + K)`` for n_c voxels of the class and K classes, as in Platt's
    paper, so that classes without any overlap keep finite logits. The problem is convex.

    Args:
        logits: of annotated voxels that training did not see.
        labels: of the same voxels.
        weights: of the same voxels; None for 1.

    Raises:
        ValueError: if there are no voxels, or a label has none.

    >>> z = np.repeat([[-3.0], [3.0]], 1000, axis=0)
    >>> y = np.arange(2000) % 1000 < np.repeat([250, 750], 1000)  # right in 3 of 4 voxels
    >>> found = fit_recalibration(z, y.astype(int))
    >>> round(found.temperature, 2), round(abs(found.shifts[0]), 2)  # 3 / log 3
    (2.74, 0.0)
    """
    from scipy.optimize import minimize  # slow to load, and only needed here

    one = logits.shape[-1] == 1
    z, y, w = _drawn(logits, labels, weights)
    count = np.bincount(y, minlength=z.shape[-1])
    if not count.all():
        raise ValueError("recalibration needs annotated voxels of every label")
    classes = len(count)
    targets = np.tile(1 / (count + classes), (classes, 1)).T
    np.fill_diagonal(targets, (count + 1) / (count + classes))
    target, w = targets[y], w / w.sum()

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        s = x[0] * z
        s[:, 1:] += x[1:]
        s -= np.logaddexp.reduce(s, axis=-1, keepdims=True)
        slope = w[:, None] * (np.exp(s) - target)
        return -float(w @ (target * s).sum(-1)), np.concatenate(
            [[(slope * z).sum()], slope.sum(0)[1:]]
        )

    start = np.concatenate([[1.0], np.zeros(classes - 1)])
    bounds = [(1 / _STEEPEST, _STEEPEST)] + [(-_LARGEST, _LARGEST)] * (classes - 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    factor, *shifts = (float(value) for value in found.x)
    return Recalibration(1 / factor, tuple(shifts if one else (0.0, *shifts)))


def fit_thresholds(
    logits: LogitRows, labels: LabelRows, weights: WeightRows | None = None
) -> tuple[float, ...]:
    """Return the threshold of each class but the background at which the mean Dice is best.

    They are those of `core.labels`. One class after the other is brought to its best threshold,
    exactly, three times around. Of thresholds whose Dice differs by less than 0.001, the one
    nearest to 0.5 is taken, so that annotation that decides nothing changes nothing.

    Args:
        logits, labels, weights: as in `fit_recalibration`.

    >>> z = np.array([[-3.0], [-1.0], [-0.5], [2.0]])
    >>> (found,) = fit_thresholds(z, np.array([0, 0, 1, 1]))
    >>> bool(1 / (1 + np.exp(1.0)) < found < 1 / (1 + np.exp(0.5)))
    True
    """
    z, y, w = _drawn(logits, labels, weights)
    classes = z.shape[-1]
    added = np.zeros(classes)
    total = np.bincount(y, w, classes)
    for _ in range(_SWEEPS if classes > 2 else 1):
        for c in range(1, classes):
            if total[c] > 0:
                added[c] = _best(z, y, w, added, c)
    found = np.clip(1 / (1 + np.exp(added[1:])), _EXTREME, 1 - _EXTREME)
    return tuple(float(t) for t in found)


def _drawn(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None):
    """Return logits with that of the background, labels and weights of at most `_MOST` voxels."""
    if not len(logits):
        raise ValueError("calibration needs at least one annotated voxel")
    weights = np.ones(len(logits)) if weights is None else np.asarray(weights, np.float64)
    if len(logits) > _MOST:
        rows = np.random.default_rng(0).choice(len(logits), _MOST, replace=False)
        logits, labels, weights = logits[rows], labels[rows], weights[rows]
    z = np.asarray(logits, np.float64)
    z = np.concatenate([np.zeros_like(z), z], axis=-1) if z.shape[-1] == 1 else z
    return z, np.asarray(labels), weights


def _best(z: np.ndarray, y: np.ndarray, w: np.ndarray, added: np.ndarray, c: int) -> float:
    """Return what is best added to the logit of a class, given what is added to the others.

    Voxels are called c in the order of their margins, and before that what comes second; so the
    Dice of every class is a sum along that order.
    """
    other = z + added
    other[:, c] = -np.inf
    second = other.argmax(-1)
    margin = other.max(-1) - z[:, c]  # what must be added at least, so that c is called
    order = np.argsort(margin)
    margin, second, y, w = margin[order], second[order], y[order], w[order]
    dice = []
    for k in range(1, z.shape[-1]):
        true = w[y == k].sum()
        if not true:
            continue
        if k == c:
            hits, called = np.cumsum(w * (y == k)), np.cumsum(w)
        else:
            hit, call = w * ((second == k) & (y == k)), w * (second == k)
            hits, called = hit.sum() - np.cumsum(hit), call.sum() - np.cumsum(call)
        dice.append(2 * hits / (called + true))
    mean = np.mean(dice, axis=0)
    following = np.append(margin[1:], margin[-1] + 2.0)
    value = np.where((margin < 0) & (following >= 0), 0.0, (margin + following) / 2)
    apart = following > margin  # equal margins are called together
    good = np.flatnonzero(apart & (mean >= mean[apart].max() - _EQUAL))
    return float(value[good[np.abs(value[good]).argmin()]])
