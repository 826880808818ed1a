"""Builds the part of a page that shows objects in slices, in projections and as surfaces."""

import collections
import html
import json
from collections.abc import Sequence
from typing import Any

from cryojax_seg.report.charts import COLOURS
from cryojax_seg.report.page import resource, section

_CROWD = 150  # objects of a class


def scene(
    pictures: dict[str, Any],
    surfaces: dict[str, Any] | None,
    classes: Sequence[str],
    numbered: bool = True,
) -> tuple[str, str]:
    """Return the HTML of a scene and the scripts at the end of the page.

    Args:
        pictures: of slices and projections, see `slices.slices_of`.
        surfaces: the surfaces, see `surfaces.surfaces`; None for none.
        classes: names of the classes in the order of their colours.
        numbered: whether the objects have numbers.

    >>> body, scripts = scene({}, None, ("membrane",))
    >>> "membrane" in body, scripts.count("<script>")
    (True, 2)
    """
    swatches = "".join(
        f'<li><span class="swatch" style="background:{COLOURS[i % len(COLOURS)]}"></span>'
        f"{html.escape(name)}</li>"
        for i, name in enumerate(classes)
    )
    boxes = '<label><input type="checkbox" id="outlines" checked> outlines</label>'
    hidden = "" if numbered else " hidden"
    boxes += f'<label{hidden}><input type="checkbox" id="numbers" checked> numbers</label>'
    more = " Projections leave out classes that would cover the others." * (len(classes) > 1)
    more = " Numbers are those of the tables." if numbered else more
    body = section(
        "Slices",
        f'<ul class="legend">{swatches}</ul><div class="controls">{boxes}</div>'
        '<div id="slices" class="panels"></div><div id="projections" class="panels"></div>',
        f"Slices are means of three.{more}",
    )
    if surfaces is not None:
        hues = _hues(surfaces, classes)
        body += section(
            "Surfaces",
            '<canvas id="surface" tabindex="0" aria-label="surfaces of the objects"></canvas>'
            '<div class="controls"><button type="button" id="all">all objects</button>'
            f"{hues}</div>",
            "Drag or use the arrow keys to turn, scroll or pinch to zoom. Surfaces are coarse.",
        )
    data: dict[str, Any] = {"slices": pictures, "surfaces": surfaces, "colours": list(COLOURS)}
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    scripts = f"<script>const SCENE = {text};</script><script>{resource('scene.js')}</script>"
    return body, scripts


def _hues(surfaces: dict[str, Any], classes: Sequence[str]) -> str:
    """Return a box for each class that shows or hides it; large crowds are hidden at first."""
    counts = collections.Counter(part["hue"] for part in surfaces["parts"])
    return "".join(
        f'<label><input type="checkbox" data-hue="{hue}"'
        f"{' checked' if count <= _CROWD or len(counts) == 1 else ''}>"
        f'<span class="swatch" style="background:{COLOURS[(hue - 1) % len(COLOURS)]}"></span>'
        f"{html.escape(str(classes[hue - 1]))}</label>"
        for hue, count in sorted(counts.items())
    )
