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
    "area": SizeErrors((0.01018, 0.1832), (-3.702, 1.643), -3.445, 5.967, _TWO, 155),
    "volume": SizeErrors((-0.1161, -0.1785), (-3.008, 0.8563), -2.625, 5.897, _TWO, 155),
    "total area": SizeErrors((0.09854, 0.0), (-2.581, 0.0), -4.708, 5.825, math.inf, 24),
    "total volume": SizeErrors((-0.1204, 0.0), (-2.405, 0.0), -4.106, 4.785, math.inf, 24),
    "count": SizeErrors((-0.1719, 0.635), (-3.323, 0.7223), -6.417, 6.253, math.inf, 24),
}
# Relative errors of the total length of microtubules in predictions of `microtubule-fast` at a Dice
# of 0.69 to 0.85: ends of the intervals that `experiments/filament_tracing.py` records.
_MICROTUBULES = (-0.26, 0.01)

NO_PROBABILITIES = "no probabilities"
NO_ERRORS = "nobody measured the errors of segmenters for filaments"
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
