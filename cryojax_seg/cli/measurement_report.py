"""The report of ``cryojax-seg measure``: tables and charts in one page without scripts."""

import html
from collections.abc import Sequence
from importlib import resources
from typing import Any

from cryojax_seg.cli import measurement_tables

COLOURS = ("#2a78d6", "#eb6834", "#1baf7a", "#b65fd3", "#eda100", "#5bb4c9", "#d9486b", "#8f9a2f")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 520, 260, 56, 40
_SHOWN = 40  # objects in the table of the page; the file has all
_NOTES = {
    "filaments": "Spacing is from axis to axis; an order of 1 is parallel, 0 is none.",
    "complexes": "Beside what complexes at random places of the volume would give.",
    "between membranes": "From the middle of one membrane to the nearest point of the other, by "
    "area.",
}
_LABELS = {
    "instance": ("object", 0),
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
    "lumen_nm3": ("enclosed (nm³)", 0),
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
    ...            "classes": {}, "distances": []}
    >>> "a&lt;b.mrc" in page(summary, []) and "<script" not in page(summary, [])
    True
    """
    style = resources.files("cryojax_seg.cli.report").joinpath("report.css").read_text("utf-8")
    title = html.escape(f"Measurements of {summary['labels']}")
    size = " x ".join(f"{v / 10:g}" for v in summary["voxel_size_angstrom"])
    shape = " x ".join(map(str, summary["shape"]))
    body = [
        f"<header><h1>{title}</h1><p>{shape} voxels (z, y, x) of {size} nm. Intervals in brackets "
        "are 95 %, given that the object is there; without probabilities there are none.</p>"
        "</header><main>",
    ]
    for title, columns, lines in measurement_tables.tables(summary):
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


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _with_interval(value: Any, digits: int = 0, factor: float = 1.0) -> str:
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if not isinstance(value, dict):
        return "-" if value is None else _number(value * factor, digits)
    low, high = value["low"], value["high"]
    text = _number(value["value"] * factor, digits)
    if low is None or high is None:
        return text
    return f"{text} ({_number(low * factor, digits)} to {_number(high * factor, digits)})"


def _objects(rows: list[dict[str, Any]]) -> str:
    keys = [key for key in _LABELS if any(key in row for row in rows)]
    lines = []
    for row in rows:
        line = []
        for key in keys:
            value, digits = row.get(key), _LABELS[key][1]
            if isinstance(value, bool):
                line.append("yes" if value else "no")
            else:
                line.append(_with_interval(value, digits))
        lines.append(line)
    return _table([_LABELS[key][0] for key in keys], lines)


def _pair_chart(place: int, name: str, pairs: dict[str, Any]) -> str:
    """The pair correlation against distance, over the band of chance."""
    edges = pairs["radius_nm"]
    middles = [(a + b) / 2 for a, b in zip(edges, edges[1:], strict=False)]
    most = max(2.0, *pairs["g"], *pairs["random_high"])
    most = min(most, 3 * max(2.0, *pairs["g"]))
    wide, high = _WIDTH - _LEFT - 10, _HEIGHT - _BOTTOM - 10

    def point(distance: float, value: float) -> str:
        up = 10 + high * (1 - min(value, most) / most)
        return f"{_LEFT + wide * distance / edges[-1]:.1f},{up:.1f}"

    band = [point(d, v) for d, v in zip(middles, pairs["random_high"], strict=True)]
    band += [point(d, v) for d, v in zip(middles, pairs["random_low"], strict=True)][::-1]
    line = [point(d, v) for d, v in zip(middles, pairs["g"], strict=True)]
    ticks = "".join(
        f'<text x="{_LEFT + wide * i / 4:.1f}" y="{_HEIGHT - 22}" text-anchor="middle">'
        f"{edges[-1] * i / 4:g}</text>"
        for i in range(5)
    )
    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{10 + high * (1 - v / most):.1f}" '
        f'y2="{10 + high * (1 - v / most):.1f}"/><text x="{_LEFT - 6}" text-anchor="end" '
        f'y="{14 + high * (1 - v / most):.1f}">{v:g}</text>'
        for v in (0.0, 1.0, round(most, 1))
    )
    name, colour = html.escape(name), COLOURS[place % len(COLOURS)]
    return (
        f"<figure><figcaption><h2>{name}: pair correlation</h2><p>Pairs at a distance (nm) over "
        "those of random places; the band holds 95 % of random patterns.</p></figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Pair correlation of {name}">'
        f'<polygon points="{" ".join(band)}" fill="#8884"/>{grid}'
        f'<polyline points="{" ".join(line)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        f"{ticks}</svg></figure>"
    )


def _distance_chart(place: int, pair: dict[str, Any]) -> str:
    edges, areas = pair["histogram"]["edges_nm"], pair["histogram"]["area_nm2"]
    most = max(areas) or 1.0
    wide, high = _WIDTH - _LEFT - 10, _HEIGHT - _BOTTOM - 10

    def x(value: float) -> float:
        return _LEFT + wide * value / edges[-1]

    bars = "".join(
        f'<rect x="{x(a):.1f}" width="{max(x(b) - x(a) - 1, 0.5):.1f}" '
        f'y="{10 + high * (1 - v / most):.1f}" height="{high * v / most:.1f}" '
        f'fill="{COLOURS[place % len(COLOURS)]}"/>'
        for a, b, v in zip(edges, edges[1:], areas, strict=False)
    )
    ticks = "".join(
        f'<text x="{x(edges[-1] * i / 4):.1f}" y="{_HEIGHT - 22}" text-anchor="middle">'
        f"{edges[-1] * i / 4:g}</text>"
        for i in range(5)
    )
    lines = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{10 + high * (1 - i / 2):.1f}" '
        f'y2="{10 + high * (1 - i / 2):.1f}"/><text x="{_LEFT - 6}" text-anchor="end" '
        f'y="{14 + high * (1 - i / 2):.1f}">{most * i / 2:,.3g}</text>'
        for i in range(3)
    )
    name = html.escape(f"{pair['from']} to {pair['to']}")
    return (
        f"<figure><figcaption><h2>{name}</h2><p>Area (nm²) against distance (nm).</p></figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Distances from {name}">'
        f"{lines}{bars}{ticks}</svg></figure>"
    )
