"""The report of ``cryojax-seg measure``: tables and charts in one page without scripts."""

import html
from collections.abc import Sequence
from importlib import resources
from typing import Any

from cryojax_seg.cli.measured import tables

COLOURS = ("#2a78d6", "#eb6834", "#1baf7a", "#b65fd3", "#eda100", "#5bb4c9", "#d9486b", "#8f9a2f")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 520, 260, 56, 40
_SHOWN = 40  # objects in the table of the page; the file has all
_GAP = "distance_to_"
_NOTES = {
    "filaments": "Spacing is from axis to axis; an order of 1 is parallel, 0 is none.",
    "complexes": "Beside what complexes at random places of the volume would give. A nearest "
    "neighbour of at most a distance is the median of those in the volume, where most may have a "
    "nearer one beyond its border.",
    "between membranes": "From the middle of one membrane to the nearest point of the other, by "
    "area.",
}
_LABELS = {
    "instance": ("object", 0),
    **{f"{axis}_nm": (f"{axis} (nm)", 0) for axis in "zyx"},
    "length_nm": ("length (nm)", 0),
    "end_to_end_nm": ("end to end (nm)", 0),
    "mean_curvature_per_nm": ("mean curvature (1/nm)", 4),
    "radius_nm": ("radius (nm)", 1),
    "spacing_nm": ("spacing (nm)", 0),
    "nearest_neighbour_nm": ("nearest neighbour (nm)", 0),
    "membrane_distance_nm": ("from membrane (nm)", 0),
    "in_organelle": ("in organelle", 0),
    "area_nm2": ("area (nm²)", 0),
    "surface_nm2": ("surface (nm²)", 0),
    "volume_nm3": ("volume (nm³)", 0),
    "thickness_nm": ("thickness (nm)", 1),
    "edge_length_nm": ("open edge (nm)", 0),
    "lumen_nm3": ("lumen (nm³)", 0),
    "lumen_within": ("lumen within", 0),
    "closed": ("closed", 0),
    "surface_to_volume_per_nm": ("surface / volume (1/nm)", 3),
    "sphericity": ("sphericity", 2),
}


def page(summary: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The whole page.

    Args:
        summary: as it is written beside it.
        rows: of the objects.

    >>> summary = {"labels": "a<b.mrc", "voxel_size_angstrom": [10.0] * 3, "shape": [4, 4, 4],
    ...            "origin_angstrom": [0.0] * 3, "classes": {}, "distances": []}
    >>> "a&lt;b.mrc" in page(summary, []) and "<script" not in page(summary, [])
    True
    """
    style = resources.files("cryojax_seg.cli.report").joinpath("report.css").read_text("utf-8")
    title = html.escape(f"Measurements of {summary['labels']}")
    size = " x ".join(f"{v / 10:g}" for v in summary["voxel_size_angstrom"])
    corner = ", ".join(f"{v / 10:g}" for v in summary["origin_angstrom"])
    shape = " x ".join(map(str, summary["shape"]))
    body = [
        f"<header><h1>{title}</h1><p>{shape} voxels (z, y, x) of {size} nm. Intervals in brackets "
        "are 95 %, given that the object is there; without probabilities there are none. Distances "
        "to other classes are from surface to surface, least and mean over the surface of the "
        "object, and from its centre to their nearest surface. The lumen of a membrane is what it "
        "encloses, without the membrane itself: in space where it is closed, else within z slices. "
        f"Coordinates count from the origin of the file; the volume begins at {corner} nm "
        "(z, y, x).</p>"
        "</header><main>",
    ]
    for title, columns, lines in tables.tables(summary):
        note = _NOTES.get(title, "")
        body.append(
            _section(title.capitalize() if note else "Classes", _table(columns, lines), note)
        )
    charts = [_distance_chart(i, pair) for i, pair in enumerate(summary["distances"])]
    charts += [
        _pair_chart(i, name, row["pair_correlation"])
        for i, (name, row) in enumerate(summary["classes"].items())
        if row.get("pair_correlation")
    ]
    if charts:
        body.append(f'<section class="charts">{"".join(charts)}</section>')
    for name, values in summary["classes"].items():
        own = [row for row in rows if row["class"] == name]
        if own:
            note = f"{values['kind']}, label {values['label']}"
            if len(own) > _SHOWN:
                note += f"; the largest {_SHOWN} of {len(own)}, all are in instances.csv"
            body.append(_section(name, _objects(own[:_SHOWN]), note))
    body.append("</main>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style}</style></head>\n<body>{''.join(body)}</body></html>\n"
    )


def _section(title: str, content: str, note: str = "") -> str:
    note = f"<p>{html.escape(note)}</p>" if note else ""
    return f"<section><h2>{html.escape(title)}</h2>{note}{content}</section>"


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>"
        for line in lines
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _number(value: float | int | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _with_interval(value: Any, digits: int) -> str:
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if not isinstance(value, dict):
        return _number(value, digits)
    low, high = value["low"], value["high"]
    text = _number(value["value"], digits)
    if low is None or high is None:
        return text
    return f"{text} ({_number(low, digits)} to {_number(high, digits)})"


def _objects(rows: list[dict[str, Any]]) -> str:
    heads = _LABELS | {
        key: (_gap_head(key), 1) for row in rows for key in row if key.startswith(_GAP)
    }
    keys = [key for key in heads if any(key in row for row in rows)]
    lines = []
    for row in rows:
        line = []
        for key in keys:
            value, digits = row.get(key), heads[key][1]
            if isinstance(value, bool):
                line.append("yes" if value else "no")
            elif isinstance(value, str):
                line.append(value or "-")
            else:
                line.append(_with_interval(value, digits))
        lines.append(line)
    return _table([heads[key][0] for key in keys], lines)


def _gap_head(key: str) -> str:
    """The head of a column of distances to a class.

    >>> _gap_head("distance_to_outer_membrane_min_nm")
    'to outer_membrane, least (nm)'
    """
    name, which, _ = key.removeprefix(_GAP).rsplit("_", 2)
    return f"to {name}, {dict(min='least', mean='mean', centre='from centre')[which]} (nm)"


def _pair_chart(place: int, name: str, pairs: dict[str, Any]) -> str:
    """The pair correlation against distance, over the band of chance."""
    edges = pairs["radius_nm"]
    middles = [(a + b) / 2 for a, b in zip(edges, edges[1:], strict=False)]
    most = max(2.0, *pairs["g"], *pairs["random_high"])
    most = min(most, 3 * max(2.0, *pairs["g"]))

    def line(values: Sequence[float]) -> list[str]:
        heights = [min(v, most) / most for v in values]
        places = zip(middles, heights, strict=True)
        return [f"{_x(d / edges[-1]):.1f},{_y(h):.1f}" for d, h in places]

    band = line(pairs["random_high"]) + line(pairs["random_low"])[::-1]
    title = html.escape(f"{name}: pair correlation")
    note = "Pairs at a distance (nm) over those of random places; the band holds 95 % of random "
    return _figure(
        title,
        note + "patterns.",
        f'<polygon points="{" ".join(band)}" fill="#8884"/>'
        f"{_axes(edges[-1], {0.0: '0', 1 / most: '1', 1.0: f'{most:.3g}'})}"
        f'<polyline points="{" ".join(line(pairs["g"]))}" fill="none" '
        f'stroke="{COLOURS[place % len(COLOURS)]}" stroke-width="2"/>',
    )


def _distance_chart(place: int, pair: dict[str, Any]) -> str:
    """Area against the distance to the nearest point of the other membrane."""
    edges, areas = pair["histogram"]["edges_nm"], pair["histogram"]["area_nm2"]
    most = max(areas) or 1.0
    places = [_x(edge / edges[-1]) for edge in edges]
    bars = "".join(
        f'<rect x="{a:.1f}" width="{max(b - a - 1, 0.5):.1f}" y="{_y(v / most):.1f}" '
        f'height="{_y(0.0) - _y(v / most):.1f}" fill="{COLOURS[place % len(COLOURS)]}"/>'
        for a, b, v in zip(places, places[1:], areas, strict=False)
    )
    title = html.escape(f"{pair['from']} to {pair['to']}")
    digits = ",.0f" if most >= 100 else ".3g"
    axes = _axes(edges[-1], {i / 2: f"{most * i / 2:{digits}}" for i in range(3)})
    return _figure(title, "Area (nm²) against distance (nm).", axes + bars)


def _x(share: float) -> float:
    """Pixels of a share of the width of a chart."""
    return _LEFT + (_WIDTH - _LEFT - 10) * share


def _y(share: float) -> float:
    """Pixels of a share of the height of a chart."""
    return 10 + (_HEIGHT - _BOTTOM - 10) * (1 - share)


def _axes(farthest: float, heights: dict[float, str]) -> str:
    """Five ticks up to the farthest distance, and a line with a number at each share of height."""
    ticks = "".join(
        f'<text x="{_x(i / 4):.1f}" y="{_HEIGHT - 22}" text-anchor="middle">'
        f"{farthest * i / 4:g}</text>"
        for i in range(5)
    )
    return ticks + "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{_y(share):.1f}" '
        f'y2="{_y(share):.1f}"/><text x="{_LEFT - 6}" text-anchor="end" y="{_y(share) + 4:.1f}">'
        f"{text}</text>"
        for share, text in heights.items()
    )


def _figure(title: str, note: str, drawn: str) -> str:
    return (
        f"<figure><figcaption><h2>{title}</h2><p>{note}</p></figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">{drawn}</svg>'
        "</figure>"
    )
