"""Writes quantities as people write them: one unit for each quantity of a table, no exponents."""

import math
from collections.abc import Iterable
from typing import Any

# For each stored unit, the factor and the name of those that a person may read it in.
_SCALES = {
    "nm": ((1.0, "nm"), (1e-3, "um")),
    "nm2": ((1.0, "nm^2"), (1e-6, "um^2")),
    "nm3": ((1.0, "nm^3"), (1e-9, "um^3")),
    "um": ((1e3, "nm"), (1.0, "um"), (1e-3, "mm")),
}
_FROM = {"nm": 1e4, "nm2": 1e5, "nm3": 1e8, "um": 1.0}  # median at which the larger unit is read
_DIGITS = 3


def scale(values: Iterable[Any], stored: str) -> tuple[float, str]:
    """Return the factor and the name of the unit in which these values are read most easily.

    Args:
        values: numbers in the stored unit, `measure.Measured` or None; their median decides.
        stored: "nm", "nm2", "nm3" or "um".

    >>> scale([2e4, 3e4], "nm2"), scale([2e6], "nm2"), scale([0.2], "um")
    ((1.0, 'nm^2'), (1e-06, 'um^2'), (1000.0, 'nm'))
    """
    found = sorted(abs(v) for v in map(plain, values) if v)
    units = _SCALES[stored]
    middle = found[len(found) // 2] if found else 0.0
    if stored == "um":
        return units[0] if 0 < middle < _FROM[stored] else units[2 if middle >= 1e4 else 1]
    return units[int(middle >= _FROM[stored])]


def plain(value: Any) -> float | None:
    """Return the number of a value that may have an interval.

    >>> plain({"value": 2.0, "low": 1.0, "high": None}), plain(None)
    (2.0, None)
    """
    if hasattr(value, "_asdict"):
        value = value._asdict()
    return value["value"] if isinstance(value, dict) else value


def number(value: float | int | None, digits: int = _DIGITS) -> str:
    """Return a number with so many digits that mean something, and never an exponent.

    >>> number(12345.6), number(0.00012345), number(3), number(7.04), number(None)
    ('12,346', '0.000123', '3', '7.04', '-')
    """
    if value is None or not math.isfinite(value):
        return "-"
    if isinstance(value, int) or value == 0:
        return f"{value:,}" if value else "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    text = f"{value:,.{max(places, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def quantity(value: Any, factor: float = 1.0) -> str:
    """Return a number or one with an interval, which may have no upper limit.

    >>> quantity({"value": 2000.0, "low": 1000.0, "high": 3000.0}, 1e-3), quantity(None)
    ('2 (1 to 3)', '-')
    >>> quantity({"value": None, "low": 9.0, "high": None})
    '- (9 or more)'
    """
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if not isinstance(value, dict):
        return number(None if value is None else value * factor)
    best, low, high = (None if v is None else v * factor for v in value.values())
    if low is None:
        return number(best)
    above = "or more" if high is None else f"to {number(high)}"
    return f"{number(best)} ({number(low)} {above})"


def pretty(unit: str) -> str:
    """Return a unit or a heading as pages show it.

    >>> pretty("area (um^2)"), pretty("1/nm")
    ('area (µm²)', '1/nm')
    """
    for plain_text, shown in (("um", "µm"), ("^2", "²"), ("^3", "³")):
        unit = unit.replace(plain_text, shown) if plain_text != "um" else _micro(unit)
    return unit


def _micro(text: str) -> str:
    for before in ("(", "/", " "):
        for after in ("^", ")", "/"):
            text = text.replace(f"{before}um{after}", f"{before}µm{after}")
    return "µm" + text[2:] if text == "um" or text.startswith("um^") else text
