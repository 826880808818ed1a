"""Gives sizes of predicted objects intervals, by errors that were seen where truth was known.

A segmenter errs in ways that its probabilities do not tell: it draws membranes too thick, and what
the missing wedge hides or what runs into a neighbour it draws as if nothing were amiss. So
intervals are empirical: on scenes with known truth the logarithm of true over measured size is a
line in the doubt about the object, with a spread that grows with the doubt. The interval is that
part around the line in which 95 % of such objects lie (locally weighted conformal prediction, Lei
et al. 2018, JASA 113:1094), each judged by a line that was fitted without the kind of scene that it
is from (cross-conformal prediction, Vovk 2015, Annals of Mathematics and Artificial Intelligence
74:9).
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats

from cryojax_seg.measure.measured import Measured

LEVEL = 0.95
_LEAST = 0.02  # of the spread, relative
_ROUNDS = 20  # of reweighting
_FEWEST = 10  # objects that can tell a spread
_ENOUGH = 40  # objects whose sorted errors tell where 95 % lie
Values = Float[np.ndarray, "_n"]


def openness(edge_length: float, area: float) -> float:
    """Return how open a membrane is: the area of a disc within its open edge over its own area.

    The edges of a vesicle that is drawn well are short. They are long where its caps lie in the
    missing wedge, where it is a fragment, and where several membranes make one ragged object.

    Args:
        edge_length: the length of its open edges.
        area: its area, in the square of the same unit.

    >>> round(openness(2 * np.pi * 10, 2 * np.pi * 10**2), 2)  # half a sphere
    0.5
    """
    return edge_length**2 / (4 * math.pi * area) if area else math.inf


def membrane_doubt(edge_length: float, area: float, thickness: float) -> float:
    """Return how doubtful the size of a membrane is: ``log(1 + openness + (2 thickness)^2 /
    area)``.

    It is ``log(1 + openness + (2 thickness)^2 / area)``: small objects are often fragments of large
    ones, whatever their edges.

    Args:
        edge_length: the length of its open edges.
        area: its area, in the square of the same unit.
        thickness: its thickness, in the same unit.

    >>> round(membrane_doubt(0.0, 4 * np.pi * 20**2, 5.0), 2)  # a closed vesicle of 20 nm
    0.02
    """
    if not area:
        return math.inf
    return math.log1p(openness(edge_length, area) + 4 * thickness**2 / area)


def filament_doubt(at_border: tuple[bool, bool], covered: float, hollow: bool = True) -> float:
    """Return how doubtful the length of a filament is, from 0 for one that goes from face to face.

    Where a face of the volume cuts a filament, its end is known. An end elsewhere may be that of a
    fragment. The share of its length without mask around it is added, and 1.5 for a filament of a
    hollow kind that was not found by its wall.

    Args:
        at_border: whether each end lies at a face of the volume.
        covered: the fraction of its length with mask around it.
        hollow: whether it was found by its wall, if it has one.

    >>> filament_doubt((True, False), 0.75)
    0.75
    """
    return 1 - sum(at_border) / 2 + (1 - covered) + (0.0 if hollow else 1.5)


@dataclasses.dataclass(frozen=True)
class SizeErrors:
    """Says how far a size of predicted objects lies from the true one, by the doubt about them.

    Returned by `fit_size_errors`.

    Attributes:
        shift: the logarithm of true over measured size, without doubt and for each unit of it.
        spread: the logarithm of its spread, without doubt and for each unit of it.
        limit: where the interval ends on both sides of the shift, in spreads. It is the same on
            both, because the next kind of scene may be biased to the other side.
        most: the largest doubt with which an object can be measured.
        objects: the number of objects that this was fitted to.

    >>> errors = SizeErrors((0.1, 0.0), (-2.3, 1.0), 2.0, most=1.0, objects=300)
    >>> print(errors.measured(100.0, doubt=0.0))
    100 (90.44 to 135.1)
    >>> print(errors.measured(100.0, doubt=3.0))
    100
    """

    shift: tuple[float, float]
    spread: tuple[float, float]
    limit: float
    most: float
    objects: int

    def measured(self, value: float | int, doubt: float | int) -> Measured:
        """Return a size with the interval of the true one; without if the doubt is too large.

        The interval is where the true size lies. It need not contain the measured size, if that is
        biased.
        """
        if not doubt <= self.most:
            return Measured(float(value))
        middle, spread = self._expected(np.array([float(doubt)]))
        low, high = middle + self.limit * spread * np.array([-1.0, 1.0])
        return Measured(float(value), float(value * np.exp(low)), float(value * np.exp(high)))

    def counted(self, number: int, doubt: float | int) -> Measured:
        """Return a number of objects as `measured` does, with an interval from one whole number to
        another.

        >>> errors = SizeErrors((0.1, 0.0), (-2.3, 1.0), 2.0, most=1.0, objects=300)
        >>> print(errors.counted(100, doubt=0.0))
        100 (90 to 136)
        """
        value, low, high = self.measured(number, doubt)
        if low is None or high is None:
            return Measured(value)
        return Measured(value, float(math.floor(low)), float(math.ceil(high)))

    def bias(self, doubt: float | int = 0.0) -> float:
        """Return the true over the measured size, as it is on average.

        >>> errors = SizeErrors((0.0, math.log(2)), (-2.3, 1.0), 2.0, most=1.0, objects=300)
        >>> errors.bias(1.0)
        2.0
        """
        return float(np.exp(self._expected(np.array([float(doubt)]))[0][0]))

    def _expected(self, doubt: Values) -> tuple[Values, Values]:
        return self.shift[0] + self.shift[1] * doubt, np.exp(
            self.spread[0] + self.spread[1] * doubt
        )


def fit_size_errors(
    measured: Values,
    true: Values,
    doubt: Values,
    groups: Shaped[np.ndarray, "_n"] | None = None,
    most: float | int = math.inf,
) -> SizeErrors:
    """Fit the errors of a size to predicted objects whose true size is known.

    Args:
        measured: ``(n,)`` the size of each predicted object, above 0.
        true: the true size of each.
        doubt: a number from 0 that tells how badly each was seen, such as `membrane_doubt`.
        groups: the kind of scene of each object. The limit is that of objects that are judged by a
            line fitted to the other groups, so that it holds in kinds of scenes that nobody saw;
            None for one group.
        most: objects of larger doubt are left out, and get no interval.

    Raises:
        ValueError: for fewer than 10 objects, or sizes that are not positive.

    >>> rng = np.random.default_rng(0)
    >>> true = rng.uniform(50, 500, 400)
    >>> seen = true * np.exp(-0.2 + 0.1 * rng.normal(size=400))
    >>> errors = fit_size_errors(seen, true, np.zeros(400))
    >>> round(errors.bias(), 1), round(errors.measured(100.0, 0.0).high / 149, 1)
    (1.2, 1.0)
    """
    measured, true, doubt = (np.asarray(v, float) for v in (measured, true, doubt))
    kept = doubt <= most
    groups = np.zeros(len(kept), int) if groups is None else np.asarray(groups)
    measured, true, doubt, groups = measured[kept], true[kept], doubt[kept], groups[kept]
    if len(measured) < _FEWEST:
        raise ValueError(f"an interval needs {_FEWEST} objects or more, got {len(measured)}")
    if not (measured > 0).all() or not (true > 0).all():
        raise ValueError("measured and true sizes must be above 0")
    error = np.log(true / measured)
    shift, spread = _lines(doubt, error)
    names = np.unique(groups)
    scaled = np.empty(len(error))
    for name in names:
        own = groups == name
        rest = ~own if len(names) > 1 and (~own).sum() >= 10 else np.ones(len(own), bool)
        place, size = _lines(doubt[rest], error[rest])
        expected = place[0] + place[1] * doubt[own]
        scaled[own] = (error[own] - expected) / np.exp(size[0] + size[1] * doubt[own])
    return SizeErrors(shift, spread, _limit(scaled), float(most), len(scaled))


def _limit(scaled: Values) -> float:
    """Return the size that the next one of these values does not exceed in 95 % of cases.

    From 40 values on it is one of the sorted sizes, below that of Student's t.
    """
    count = len(scaled)
    if count >= _ENOUGH:
        ordered = np.sort(np.abs(scaled))
        return float(np.interp(LEVEL * (count + 1) - 1, np.arange(count), ordered))
    spread = np.sqrt((1 + 1 / count) * (scaled**2).mean())
    return float(stats.t.ppf((1 + LEVEL) / 2, count - 1) * spread)


def _lines(doubt: Values, error: Values) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the line of least absolute deviations, and that of the logarithm of the deviations."""
    flat = np.ptp(doubt) < 1e-9
    design = np.stack([np.ones(len(doubt)), np.zeros(len(doubt)) if flat else doubt], 1)
    weights, line = np.ones(len(error)), np.zeros(2)
    for _ in range(_ROUNDS):
        left = (design * weights[:, None]).T
        line = np.linalg.lstsq(left @ design, left @ error, rcond=None)[0]
        weights = 1 / np.maximum(np.abs(error - design @ line), _LEAST)
    away = np.log(np.maximum(np.abs(error - design @ line), _LEAST))
    size = np.linalg.lstsq(design, away, rcond=None)[0]
    if size[1] < 0:  # less doubt never means a larger spread
        size = np.array([float(away.mean()), 0.0])
    return (float(line[0]), float(line[1])), (float(size[0]), float(size[1]))
