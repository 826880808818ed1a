"""Holds the errors that sizes of predictions of a built-in model had where truth was known.

They are those of `membrane-fast` on scenes of three presets that no training saw, at contrasts from
0.37 to 0.8 sigma and tilts to 50 or 60 degrees, as `experiments/interval_coverage.py` records them.
Those of another segmenter differ: fit them to scenes with known truth by `fit_size_errors`.
"""

import math
from collections.abc import Mapping

from cryojax_seg.measure.errors import SizeErrors

_TWO = math.log(2)

MEMBRANE: Mapping[str, SizeErrors] = {
    "area": SizeErrors((0.01649, 0.1879), (-3.798, 2.083), 6.495, _TWO, 209),
    "volume": SizeErrors((-0.08576, -0.03477), (-3.031, 1.342), 6.138, _TWO, 209),
    "total area": SizeErrors((0.09311, 0.0), (-2.437, 0.0), 5.271, math.inf, 33),
    "total volume": SizeErrors((-0.04378, 0.0), (-2.335, 0.0), 4.398, math.inf, 33),
    "count": SizeErrors((-0.1151, 0.4967), (-3.169, 0.7559), 5.525, math.inf, 33),
}
MICROTUBULE: Mapping[str, SizeErrors] = {
    "length": SizeErrors((-0.0148, 0.243), (-3.36, 1.44), 8.22, 1.0, 33),
    "total length": SizeErrors((0.0387, 0.0), (-2.26, 0.0), 16.2, math.inf, 22),
    "count": SizeErrors((0.0348, -0.167), (-2.79, 0.645), 23.4, math.inf, 22),
}
# Relative errors of the total length of microtubules in predictions of `microtubule-fast` at a Dice
# of 0.69 to 0.85: ends of the intervals that `experiments/filament_tracing.py` records.
_MICROTUBULES = (-0.26, 0.01)

NO_PROBABILITIES = "no probabilities"
NO_ERRORS = "nobody measured the errors of segmenters for filaments"
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
