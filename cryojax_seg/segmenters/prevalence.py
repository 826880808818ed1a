"""Corrects logits for tomograms that hold more or less of a class than those of the training."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from cryojax_seg.segmenters.recalibration import Recalibration

_ROUNDS = 500
_STILL = 1e-6  # change of a prevalence, relative, at which the iteration ends
_LEAST = 1e-9  # smallest prevalence


def prior_correction(trained: Sequence[float], wanted: Sequence[float]) -> Recalibration:
    """Return the shift of logits from one prevalence of the classes to another.

    By Bayes' rule ``p(c | x)`` is proportional to ``p(c | x) wanted_c / trained_c`` if the classes
    themselves look the same (Saerens et al. 2002, equation 2.4,
    https://doi.org/10.1162/089976602753284446). Patches that are balanced over the classes have
    another prevalence than the tomogram, too.

    Args:
        trained: share of the voxels that each class has in the training, with the background
            first; one class has two shares.
        wanted: their shares in the tomogram.

    Raises:
        ValueError: for shares of different number, or that are not positive with a sum of 1.

    >>> round(prior_correction((0.5, 0.5), (0.9, 0.1)).shifts[0], 3)
    -2.197
    """
    before, after = _shares(trained, "trained"), _shares(wanted, "wanted")
    if len(before) != len(after):
        raise ValueError(f"trained has {len(before)} classes, and wanted has {len(after)}")
    ratios = np.log(after / before)
    shifts = (ratios - ratios[0]).tolist()
    return Recalibration(1.0, tuple(shifts[1:] if len(shifts) == 2 else shifts))


def fit_prevalence(
    logits: Float[np.ndarray, "voxel class"], trained: Sequence[float]
) -> tuple[float, ...]:
    """Return the prevalence of the classes in a tomogram by expectation and maximisation.

    The probabilities are corrected with an estimate of the prevalence, their means are the next
    estimate, and so on: the likelihood of the prevalence rises to its maximum (Saerens et al. 2002,
    equations 2.8 and 2.9). It needs calibrated probabilities.

    Args:
        logits: of the voxels of the tomogram, or of a sample; a column for each class, or a
            single one beside a background of logit 0.
        trained: as in `prior_correction`.

    Raises:
        ValueError: if the number of classes differs, or logits are not finite.

    >>> rng = np.random.default_rng(0)
    >>> there = rng.random(20000) < 0.1                      # in training it was a half
    >>> seen = there * 3.0 + rng.normal(size=20000)
    >>> logits = 3.0 * seen[:, None] - 4.5                   # of two normal distributions
    >>> [round(share, 2) for share in fit_prevalence(logits, (0.5, 0.5))]
    [0.9, 0.1]
    """
    before = _shares(trained, "trained")
    z = np.asarray(logits, np.float64)
    z = np.concatenate([np.zeros_like(z), z], -1) if z.shape[-1] == 1 else z
    if z.ndim != 2 or z.shape[-1] != len(before) or not len(z):
        raise ValueError(
            f"logits must have rows of {len(before)} classes, as trained has, got {logits.shape}"
        )
    if not np.isfinite(z).all():
        raise ValueError("logits must be finite")
    likelihood = np.exp(z - z.max(-1, keepdims=True)) / before
    shares = before
    for _ in range(_ROUNDS):
        p = likelihood * shares
        after = np.maximum((p / p.sum(-1, keepdims=True)).mean(0), _LEAST)
        still = np.abs(after - shares).max() < _STILL
        shares = after / after.sum()
        if still:
            break
    return tuple(float(share) for share in shares)


def _shares(values: Sequence[float], name: str) -> np.ndarray:
    shares = np.asarray(values, np.float64)
    good = shares.ndim == 1 and len(shares) >= 2 and (shares > 0).all()
    if not good or abs(shares.sum() - 1) > 1e-3:
        raise ValueError(
            f"{name} must hold the positive shares of all classes, the background first, with a "
            f"sum of 1, got {list(values)}"
        )
    return shares / shares.sum()
