"""Defines the value with an interval that measurements return."""

from collections.abc import Iterable
from typing import NamedTuple


class Measured(NamedTuple):
    """Holds a number and its 95 % interval, in the unit of the name under which it is stored.

    Attributes:
        value: the best estimate.
        low, high: the limits of the interval; None without probabilities to compute it from.

    >>> print(Measured(12.0, 11.25, 12.5))
    12 (11.25 to 12.5)
    >>> print(Measured(12.0))
    12
    """

    value: float
    low: float | None = None
    high: float | None = None

    def scaled(self, factor: float) -> "Measured":
        """Return the same measurement in another unit.

        >>> Measured(2.0, 1.0, 3.0).scaled(10.0)
        Measured(value=20.0, low=10.0, high=30.0)
        """
        if self.low is None or self.high is None:
            return Measured(self.value * factor)
        return Measured(self.value * factor, self.low * factor, self.high * factor)

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.4g}"
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


def total(values: Iterable[Measured]) -> Measured:
    """Return the sum of measurements whose errors are fully correlated; 0 without any.

    >>> total([Measured(1.0, 0.5, 2.0), Measured(3.0, 2.5, 4.0)])
    Measured(value=4.0, low=3.0, high=6.0)
    >>> total([Measured(1.0, 0.5, 2.0), Measured(3.0)]), total([])
    (Measured(value=4.0, low=None, high=None), Measured(value=0.0, low=None, high=None))
    """
    values = list(values)
    lows = [v.low for v in values if v.low is not None]
    highs = [v.high for v in values if v.high is not None]
    best = float(sum(v.value for v in values))
    if not values or len(lows) < len(values) or len(highs) < len(values):
        return Measured(best)
    return Measured(best, float(sum(lows)), float(sum(highs)))
