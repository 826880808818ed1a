"""Draws lines with bands: of intervals, or of all seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

COLOURS = ("#2a78d6", "#eda100", "#d83a7c", "#3aa76d", "#7a52c7")


def with_intervals(axis: Axes, rows: Sequence[Mapping[str, Any]], over: str, **look: Any) -> None:
    """Draw the Dice of rows over one of their columns, with the band of its intervals.

    Args:
        axis: where it is drawn.
        rows: with the columns dice and dice_interval, which may be None.
        over: name of the column that is the abscissa.
        look: as of `Axes.plot`, with a color.
    """
    x, ends = [r[over] for r in rows], [r["dice_interval"] for r in rows]
    axis.plot(x, [r["dice"] for r in rows], **{"marker": "o", **look})
    if rows and all(ends):
        lows, highs = zip(*ends, strict=True)
        axis.fill_between(x, lows, highs, color=look["color"], alpha=0.15, lw=0)


def with_seeds(axis: Axes, x: Any, values: Any, **look: Any) -> None:
    """Draw the mean over seeds, with the band from the least to the largest of all seeds.

    Args:
        axis: where it is drawn.
        x: the abscissas.
        values: ``(seed, abscissa)``; abscissas where one is None are left out.
        look: as of `Axes.plot`, with a color.
    """
    values = np.array(values, float)
    known = np.isfinite(values).all(0)
    x, values = np.asarray(x)[known], values[:, known]
    axis.plot(x, values.mean(0), **{"marker": "o", "ms": 3, **look})
    axis.fill_between(x, values.min(0), values.max(0), color=look["color"], alpha=0.12, lw=0)


def over_slices(axis: Axes, rows: Sequence[Mapping[str, Any]], ways: Sequence[str]) -> None:
    """Draw a line for each way, with the band of its intervals.

    Args:
        axis: where it is drawn.
        rows: with the columns way, slices, dice and dice_interval, which may be None.
        ways: that are drawn, at most five.
    """
    for way, colour in zip(ways, COLOURS, strict=False):
        mine = sorted((r for r in rows if r["way"] == way), key=lambda r: r["slices"])
        with_intervals(axis, mine, "slices", color=colour, label=way)
    counts = sorted({r["slices"] for r in rows if r["way"] in ways})
    axis.set(xlabel="annotated slices", ylim=(0, 1), xticks=counts)
    axis.grid(alpha=0.3)
