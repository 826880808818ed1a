"""Holds the errors that sizes of predictions of a built-in model had where truth was known.

They are those of `membrane-fast` and `microtubule-fast` on scenes of presets that no training saw,
at contrasts from 0.37 to 0.8 sigma and tilts to 50 or 60 degrees, as
`experiments/interval_coverage.py` records them. Those of another segmenter differ: fit them to
scenes with known truth by `fit_size_errors`.
"""

import math
from collections.abc import Mapping

from cryojax_seg.measure.errors import SizeErrors

_TWO = math.log(2)

MEMBRANE: Mapping[str, SizeErrors] = {
    "area": SizeErrors((0.01627, 0.1949), (-3.744, 2.012), 5.729, _TWO, 439),
    "volume": SizeErrors((-0.09358, 0.008814), (-3.176, 1.814), 5.178, _TWO, 439),
    "total area": SizeErrors((0.0889, 0.0), (-2.491, 0.0), 5.116, math.inf, 66),
    "total volume": SizeErrors((-0.05347, 0.0), (-2.387, 0.0), 4.28, math.inf, 66),
    "count": SizeErrors((-0.1139, 0.4897), (-3.037, 0.7501), 5.034, math.inf, 66),
}
# The total length and the number of microtubules have intervals of several times their size, since
# a tube that is missed leaves no trace. So none are stated.
MICROTUBULE: Mapping[str, SizeErrors] = {
    "length": SizeErrors((-0.006831, 0.2795), (-3.377, 2.571), 7.849, 1.0, 287),
    "spacing": SizeErrors((0.004319, 0.01366), (-3.624, 0.5576), 6.588, 1.0, 112),
}
# Relative errors of the total length of microtubules in predictions of `microtubule-fast` at a Dice
# of 0.65 to 0.82: ends of the intervals that `experiments/filament_tracing.py` records.
_MICROTUBULES = (-0.33, 0.05)

NO_PROBABILITIES = "no probabilities"
NO_ERRORS = "nobody measured the errors of segmenters for these filaments"
TOO_DOUBTFUL = "too doubtful, so a fragment of a microtubule or none at all"
TOO_OPEN = "too open, so a piece of a membrane or several at once"


def bias_of_predictions() -> str:
    """Return a sentence that says how far numbers of predicted labels are from the true ones.

    >>> print(bias_of_predictions())  # doctest: +ELLIPSIS
    no number has an interval without probabilities; if the labels are predictions, ...
    """
    area, volume = (MEMBRANE[name].bias(0.05) for name in ("area", "volume"))
    low, high = _MICROTUBULES
    return (
        "no number has an interval without probabilities; if the labels are predictions, their "
        "numbers carry the bias of the segmenter (for closed membranes of membrane-fast, the true "
        f"area is {area:.2f} and the true volume {volume:.2f} times that measured; the length of "
        f"microtubules of microtubule-fast was {-low:.0%} too small to {high:.0%} too large)"
    )
