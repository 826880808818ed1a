"""Recognise numbers that were given in the wrong unit.

Everything may import this, and it loads nothing.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

Number = float | int
Convert = Callable[[Number], Number]


def _times(factor: Number) -> Convert:
    return lambda value: value * factor


@dataclasses.dataclass(frozen=True)
class Quantity:
    """Describes a kind of number by its unit and its plausible sizes.

    Attributes:
        unit: that it is given in.
        possible: the least and the largest size that can be meant; 0 always can.
        usual: the sizes that a guess must have.
        others: names of units that are mistaken for it, and how they are converted.
        signed: whether a number below 0 may be a mistaken unit; else it is wrong in any unit.
    """

    unit: str
    possible: tuple[Number, Number]
    usual: tuple[Number, Number]
    others: tuple[tuple[str, Convert], ...]
    signed: bool = False

    def guesses(self, value: Number) -> list[tuple[str, Number]]:
        """Return units that explain an implausible value, each with the value in this unit."""
        low, high = self.possible
        if not math.isfinite(value) or value == 0 or low <= abs(value) <= high:
            return []
        if value < 0 and not self.signed:
            return []
        found = [(name, convert(value)) for name, convert in self.others]
        return [(n, v) for n, v in found if self.usual[0] <= abs(v) <= self.usual[1]]


_NANOMETRE, _PICOMETRE = ("nanometre", _times(10)), ("picometre", _times(0.01))
_METRE = ("metre", _times(1e10))
_DEGREES = (("radian", math.degrees),)
_PERCENT = (("percent", _times(0.01)),)

DEFOCUS = Quantity(
    "micrometre",
    (1e-3, 50),
    (0.5, 15),
    (("angstrom", _times(1e-4)), ("nanometre", _times(1e-3)), ("metre", _times(1e6))),
    signed=True,
)
DEFOCUS_ANGSTROM = Quantity(
    "angstrom",
    (200, 1e6),
    (5e3, 1.5e5),
    (("micrometre", _times(1e4)), ("nanometre", _times(10)), ("metre", _times(1e10))),
    signed=True,
)
VOXEL_SIZE = Quantity(
    "angstrom",
    (0.4, 500),
    (0.5, 100),
    (_NANOMETRE, _PICOMETRE, _METRE, ("micrometre", _times(1e4))),
)
DIAMETER = Quantity("angstrom", (20, 2e4), (40, 2e3), (_NANOMETRE, _PICOMETRE, _METRE))
RADIUS = Quantity("angstrom", (10, 1e4), (20, 1e3), (_NANOMETRE, _PICOMETRE, _METRE))
DISTANCE = Quantity("angstrom", (8, 1e5), (10, 1e4), (_NANOMETRE, _METRE))
THICKNESS = Quantity(
    "angstrom", (250, 1e5), (300, 1e4), (_NANOMETRE, ("micrometre", _times(1e4)), _METRE)
)
TILT = Quantity("degree", (1.7, 90), (5, 90), _DEGREES, signed=True)
VOLTAGE = Quantity(
    "kilovolt", (1, 3000), (40, 1500), (("volt", _times(1e-3)), ("megavolt", _times(1e3)))
)
ABERRATION = Quantity(
    "millimetre", (1e-6, 100), (0.5, 10), (("micrometre", _times(1e-3)), ("angstrom", _times(1e-7)))
)
AMPLITUDE = Quantity("a fraction", (0, 1), (0.01, 0.5), _PERCENT)
FRACTION = Quantity("a fraction", (0, 1), (0.001, 1), _PERCENT)
MEMORY = Quantity(
    "GiB",
    (0, 1500),
    (0.5, 1500),
    (("MiB", _times(2**-10)), ("KiB", _times(2**-20)), ("bytes", _times(2**-30))),
)
LEARNING_RATE = Quantity(
    "a number up to 1",
    (0, 1),
    (1e-6, 0.5),
    (
        ("thousandths", lambda value: value / 1000 if value > 0 else math.inf),
        ("an exponent of 10", lambda value: 10.0**value if -9 < value < 0 else math.inf),
    ),
    signed=True,
)


def check(name: str, value: Any, quantity: Quantity) -> None:
    """Refuse numbers that make sense only in another unit, and suggest the converted value.

    What is no plain number passes, as arrays and what JAX traces; so does what no other unit
    explains: whether that is allowed is for others to say.

    Args:
        name: of the number, as the user knows it.
        value: a number, a sequence of numbers that are checked together, or None.
        quantity: what kind it is of.

    Raises:
        ValueError: such as "defocus is in micrometre: 35000 looks like angstrom, give 3.5".

    >>> check("voltage", 300.0, VOLTAGE)
    >>> try:
    ...     check("voltage", 300_000.0, VOLTAGE)
    ... except ValueError as error:
    ...     print(error)
    voltage is in kilovolt: 300000 looks like volt, give 300
    """
    values = list(value) if isinstance(value, tuple | list) else [value]
    if not values or not all(isinstance(v, float | int) for v in values):
        return
    largest = max(values, key=abs)
    if not (guesses := quantity.guesses(float(largest))):
        return
    convert = dict(quantity.others)
    given = " ".join(f"{v:g}" for v in values)
    likely = ", or ".join(
        f"{unit}, give " + " ".join(_short(convert[unit](float(v))) for v in values)
        for unit, _ in guesses
    )
    kind = quantity.unit if quantity.unit.startswith("a ") else f"in {quantity.unit}"
    raise ValueError(f"{name} is {kind}: {given} looks like {likely}")


def _short(value: Number) -> str:
    """Return four digits, without an exponent if that is no longer."""
    return f"{float(f'{value:.4g}'):.9g}"
