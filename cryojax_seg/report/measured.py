"""Writes the report of measured objects, with tables and charts in one page without scripts."""

from typing import Any

from cryojax_seg.report.charts import COLOURS, curve_over_band, histogram
from cryojax_seg.report.measured_tables import measurement_tables
from cryojax_seg.report.page import figure, page, section, table

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


def measurement_page(summary: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return the page of a report as HTML.

    Args:
        summary: plain values, as `cryojax-seg measure` writes them.
        rows: one row for each object, from `measure.Measurements.rows`.

    >>> summary = {"labels": "a<b.mrc", "voxel_size_angstrom": [10.0] * 3, "shape": [4, 4, 4],
    ...            "origin_angstrom": [0.0] * 3, "classes": {}, "distances": []}
    >>> text = measurement_page(summary, [])
    >>> "a&lt;b.mrc" in text and "<script" not in text
    True
    """
    size = " x ".join(f"{v / 10:g}" for v in summary["voxel_size_angstrom"])
    corner = ", ".join(f"{v / 10:g}" for v in summary["origin_angstrom"])
    shape = " x ".join(map(str, summary["shape"]))
    header = (
        f"<p>{shape} voxels (z, y, x) of {size} nm. Intervals in brackets "
        "are 95 %, given that the object is there; without probabilities there are none. Distances "
        "to other classes are from surface to surface, least and mean over the surface of the "
        "object, and from its centre to their nearest surface. The lumen of a membrane is what it "
        "encloses, without the membrane itself: in space where it is closed, else within z slices. "
        f"Coordinates count from the origin of the file; the volume begins at {corner} nm "
        "(z, y, x).</p>"
    )
    body = []
    for name, columns, lines in measurement_tables(summary):
        note = _NOTES.get(name, "")
        body.append(section(name.capitalize() if note else "Classes", table(columns, lines), note))
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
            body.append(section(name, _objects(own[:_SHOWN]), note))
    return page(f"Measurements of {summary['labels']}", header, "".join(body))


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
    return table([heads[key][0] for key in keys], lines)


def _gap_head(key: str) -> str:
    """Return the head of a column of distances to a class.

    >>> _gap_head("distance_to_outer_membrane_min_nm")
    'to outer_membrane, least (nm)'
    """
    name, which, _ = key.removeprefix(_GAP).rsplit("_", 2)
    return f"to {name}, {dict(min='least', mean='mean', centre='from centre')[which]} (nm)"


def _pair_chart(place: int, name: str, pairs: dict[str, Any]) -> str:
    """Return a chart of the pair correlation against distance, over the band of random patterns."""
    edges = pairs["radius_nm"]
    chart = curve_over_band(
        [(a + b) / 2 for a, b in zip(edges, edges[1:], strict=False)],
        pairs["g"],
        (pairs["random_low"], pairs["random_high"]),
        f"{name}: pair correlation",
        "distance (nm)",
        "pair correlation",
        COLOURS[place % len(COLOURS)],
    )
    note = (
        "Pairs at a distance over those of random places; the band holds 95 % of random patterns."
    )
    return figure(f"{name}: pair correlation", note, chart)


def _distance_chart(place: int, pair: dict[str, Any]) -> str:
    """Return a chart of area against the distance to the nearest point of the other membrane."""
    title = f"{pair['from']} to {pair['to']}"
    chart = histogram(
        pair["histogram"]["edges_nm"],
        pair["histogram"]["area_nm2"],
        title,
        "distance (nm)",
        "area (nm²)",
        COLOURS[place % len(COLOURS)],
    )
    return figure(title, "Area of the first within a distance of the second.", chart)
