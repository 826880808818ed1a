"""Draws charts as SVG elements of a page by matplotlib, in the colours of the page."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

COLOURS = (
    *("#2a78d6", "#eb6834", "#1baf7a", "#b65fd3", "#eda100", "#5bb4c9", "#d9486b", "#8f9a2f"),
    *("#a0522d", "#8b8f97", "#5a8f29"),
)
# Colours that stand for those of the page's style, which differ by day and night.
_INK, _LINE = "#010203", "#040506"
_VARIABLE = "var(--{})"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it scales, and can be read aloud and searched
    "font.family": "sans-serif",
    "font.size": 8.0,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _LINE,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
}
# What a page cannot have twice, or has its own of.
_CHANGES = (
    (r"<metadata>.*?</metadata>|<style.*?</style>", ""),
    (r'(?<=<g) id="[^"]*"', ""),
    (r'(?<=<svg)([^>]*?) (?:width|height)="[^"]*"', r"\1"),
    (r'(?<=<svg)([^>]*?) (?:width|height)="[^"]*"', r"\1"),
    (r"font-family: [^;\"]*", "font-family: inherit"),
    (_INK, _VARIABLE.format("muted")),
    (_LINE, _VARIABLE.format("line")),
)
Curve = Sequence[Sequence[float | int]]  # points (x, y) or (x, y, low, high)


def histogram(
    edges: Sequence[float | int],
    heights: Sequence[float | int],
    title: str,
    across: str,
    up: str,
    colour: str,
) -> str:
    """Return bars over bins as an SVG element.

    Args:
        edges: edges of the bins, one more than there are heights.
        heights: heights of the bars.
        title: accessible name of the chart.
        across, up: labels of the horizontal and the vertical axis.
        colour: colour of the bars.

    >>> chart = histogram([0, 1, 2], [3, 1], "a to b", "distance (nm)", "area (nm²)", "#2a78d6")
    >>> chart[:4], 'aria-label="a to b"' in chart
    ('<svg', True)
    """

    from matplotlib.ticker import MaxNLocator

    def draw(axes: Any) -> None:
        axes.stairs(heights, edges, fill=True, color=colour)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        if all(float(h).is_integer() for h in heights):
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, 1.05 * max(heights) or 1.0)
        axes.grid(visible=False, axis="x")

    return _svg(draw, title, across, up)


def curve_over_band(
    x: Sequence[float | int],
    y: Sequence[float | int],
    band: tuple[Sequence[float | int], Sequence[float | int]],
    title: str,
    across: str,
    up: str,
    colour: str,
) -> str:
    """Return a curve over a grey band as an SVG element.

    Args:
        x, y: points of the curve.
        band: lower and upper edge of the band at each x. It is cut off at three times the height of
            the curve.
        title: accessible name of the chart.
        across, up: labels of the axes.
        colour: colour of the curve.
    """
    most = min(max(2.0, *y, *band[1]), 3 * max(2.0, *y))

    def draw(axes: Any) -> None:
        axes.fill_between(x, *band, color="#888888", alpha=0.27, linewidth=0)
        axes.plot(x, y, color=colour, linewidth=1.8)
        axes.set_xlim(0, x[-1])
        axes.set_ylim(0, most)

    return _svg(draw, title, across, up)


def curves(
    named: Mapping[str, Curve],
    title: str,
    across: str,
    up: str,
    colours: Mapping[str, str],
    diagonal: bool = False,
) -> str:
    """Return curves in the unit square, with error bars where points have them, as an SVG element.

    Args:
        named: points ``(x, y)`` or ``(x, y, low, high)`` of each curve.
        title: accessible name of the chart.
        across, up: labels of the axes.
        colours: colour of each curve, by name.
        diagonal: whether to draw the line ``y = x``.
    """

    def draw(axes: Any) -> None:
        if diagonal:
            axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.9, linestyle=(0, (4, 4)))
        for name, points in named.items():
            x, y = [p[0] for p in points], [p[1] for p in points]
            bars = None
            if points and len(points[0]) == 4:
                bars = [[max(a, 0.0) for a in ends] for ends in _errors(points)]
            axes.errorbar(
                x, y, bars, color=colours[name], marker="o", markersize=3.5, linewidth=1.6
            )
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)

    return _svg(draw, title, across, up, (3.4, 3.0))


def lines(
    named: Mapping[str, Curve],
    title: str,
    across: str,
    up: str,
    colours: Mapping[str, str],
    level: float,
) -> str:
    """Return curves from 0 to the end of their data as an SVG element, with a level to cross.

    Args:
        named: points ``(x, y)`` of each curve, with y up to 1.
        title: accessible name of the chart.
        across, up: labels of the axes.
        colours: colour of each curve, by name.
        level: where a dashed line is drawn.

    >>> chart = lines({"fsc": [(0, 1), (2, 0)]}, "FSC", "1/nm", "c", {"fsc": "#2a78d6"}, 0.143)
    >>> "#2a78d6" in chart
    True
    """

    def draw(axes: Any) -> None:
        axes.axhline(level, color=_INK, linewidth=0.9, linestyle=(0, (4, 4)))
        for name, points in named.items():
            axes.plot(*zip(*points, strict=True), color=colours[name], linewidth=1.8)
        axes.set_xlim(left=0)
        axes.set_ylim(min(0, *(p[1] for points in named.values() for p in points), -0.05), 1.05)

    return _svg(draw, title, across, up)


def _errors(points: Curve) -> tuple[list[float], list[float]]:
    """Return the lengths of error bars below and above the values."""
    return [p[1] - p[2] for p in points], [p[3] - p[1] for p in points]


def _svg(
    draw: Any, title: str, across: str, up: str, size: tuple[float, float] = (3.6, 2.2)
) -> str:
    """Return a drawing as one SVG element without a width, with an accessible name."""
    import matplotlib
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    # The salt keeps marks of one chart apart from those of others in a page.
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=size, layout="constrained", facecolor="none")
        axes = figure.add_subplot()
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        draw(axes)
        figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    for pattern, instead in _CHANGES:
        text = re.sub(pattern, instead, text, flags=re.DOTALL)
    name = html.escape(title, quote=True)
    return text.replace("<svg", f'<svg role="img" aria-label="{name}"', 1)
