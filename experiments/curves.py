"""Draws the Dice over the number of annotated slices."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

COLOURS = ("#2a78d6", "#eda100", "#d83a7c", "#3aa76d", "#7a52c7")


def over_slices(axis: Axes, rows: Sequence[Mapping[str, Any]], ways: Sequence[str]) -> None:
    """Draw a line for each way, with the band of its intervals.

    Args:
        axis: where it is drawn.
        rows: with the columns way, slices, dice and dice_interval, which may be None.
        ways: that are drawn, at most five.
    """
    for way, colour in zip(ways, COLOURS, strict=False):
        mine = sorted((r for r in rows if r["way"] == way), key=lambda r: r["slices"])
        counts, ends = [r["slices"] for r in mine], [r["dice_interval"] for r in mine]
        axis.plot(counts, [r["dice"] for r in mine], "o-", color=colour, label=way)
        if all(ends):
            lows, highs = zip(*ends, strict=True)
            axis.fill_between(counts, lows, highs, color=colour, alpha=0.15, lw=0)
    counts = sorted({r["slices"] for r in rows if r["way"] in ways})
    axis.set(xlabel="annotated slices", ylim=(0, 1), xticks=counts)
    axis.grid(alpha=0.3)
