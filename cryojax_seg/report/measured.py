"""Writes the report of measured objects: slices, surfaces, tables and charts in one page."""

import dataclasses
import html
from collections.abc import Mapping
from typing import Any

import numpy as np

from cryojax_seg.measure import bias_of_predictions
from cryojax_seg.measure.known_errors import NO_PROBABILITIES
from cryojax_seg.report.charts import COLOURS, curve_over_band, histogram
from cryojax_seg.report.measured_tables import measurement_tables
from cryojax_seg.report.page import Html, figure, page, section, table
from cryojax_seg.report.scene import scene
from cryojax_seg.report.units import number, plain, pretty, quantity, scale

SHOWN = 40  # objects of a class in the table of the page; the file has all
_FEWEST = 5  # objects in a histogram
_MOST = 0.98  # share of the objects that a histogram shows where few are far larger
_GAP, _CONTACT = "distance_to_", "contact_with_"
_NOTES = {
    "filaments": "Spacing is from axis to axis; an order of 1 is parallel, 0 is none.",
    "complexes": "Beside what complexes at random places of the volume would give. A nearest "
    "neighbour of at most a distance is the median of those in the volume, where most may have a "
    "nearer one beyond its border.",
    "between membranes": "From the middle of one membrane to the nearest point of the other, by "
    "area.",
}
# Key, heading and stored unit of the columns; a unit that may change is the same in all rows.
_COLUMNS = (
    ("length_nm", "length", "nm"),
    ("end_to_end_nm", "end to end", "nm"),
    ("radius_nm", "radius (nm)", ""),
    ("mean_curvature_per_nm", "mean curvature (1/nm)", ""),
    ("spacing_nm", "spacing (nm)", ""),
    ("nearest_neighbour_nm", "nearest neighbour (nm)", ""),
    ("area_nm2", "area", "nm2"),
    ("surface_nm2", "surface", "nm2"),
    ("volume_nm3", "volume", "nm3"),
    ("thickness_nm", "thickness (nm)", ""),
    ("edge_length_nm", "open edge (nm)", ""),
    ("lumen_nm3", "lumen", "nm3"),
    ("sphericity", "sphericity", ""),
)
_SIZES = ("area_nm2", "length_nm", "volume_nm3")


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Holds the pictures of a page, by class and number of the objects.

    Attributes:
        slices: see `slices.slices_of`.
        surfaces: see `surfaces.surfaces`.
        thumbnails: data URLs.
        places: voxel ``(z, y, x)`` to which the link of an object leads.
    """

    slices: dict[str, Any]
    surfaces: dict[str, Any] | None
    thumbnails: Mapping[tuple[str, int], str]
    places: Mapping[tuple[str, int], tuple[int, int, int]]


def measurement_page(
    summary: dict[str, Any], rows: list[dict[str, Any]], drawn: Drawn | None = None
) -> str:
    """Return the page of a report as HTML.

    Args:
        summary: plain values, as `cryojax-seg measure` writes them.
        rows: one row for each object, from `measure.Measurements.rows`.
        drawn: the pictures; None for a page of tables and charts, without scripts.

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
        f"<p>{shape} voxels (z, y, x) of {size} nm. Coordinates count from the origin of the file; "
        f"the volume begins at {corner} nm (z, y, x).</p>"
    )
    body, scripts = [], ""
    if drawn is not None:
        shown, scripts = scene(drawn.slices, drawn.surfaces, list(summary["classes"]))
        body.append(shown)
    for name, columns, lines in measurement_tables(summary):
        note = _NOTES.get(name, "")
        body.append(section(name.capitalize() if note else "Classes", table(columns, lines), note))
    charts, gaps = _size_charts(summary, rows)
    charts += [_distance_chart(i, pair) for i, pair in enumerate(summary["distances"])]
    charts += [
        _pair_chart(i, name, row["pair_correlation"])
        for i, (name, row) in enumerate(summary["classes"].items())
        if row.get("pair_correlation")
    ]
    if charts:
        body.append(f'<section class="charts">{"".join(charts)}</section>')
    if gaps:
        drawn_gaps = f'<div class="charts">{"".join(gaps)}</div>'
        body.append(f"<details><summary>Distances of objects</summary>{drawn_gaps}</details>")
    for name, values in summary["classes"].items():
        own = [row for row in rows if row["class"] == name]
        if own:
            note = f"{values['kind']}, label {values['label']}"
            if values.get("no_interval"):
                note += f"; no intervals of sizes: {values['no_interval']}"
            if len(own) > SHOWN:
                note += f"; the largest {SHOWN} of {len(own)}, all are in instances.csv"
            body.append(section(name, _objects(own[:SHOWN], drawn), note))
    reading = _READING
    if any(one.get("no_interval") == NO_PROBABILITIES for one in summary["classes"].values()):
        bias = bias_of_predictions()
        reading = f"<p>{html.escape(bias[0].upper() + bias[1:])}.</p>{_READING}"
    body.append(f"<section><h2>How to read this</h2>{reading}</section>")
    title = f"Measurements of {summary['labels']}"
    return page(title, header, "".join(body), scripts)


_READING = (
    "<p>Intervals in brackets are 95 %, given that the object is there. Those of membranes and "
    "microtubules hold the true values by the errors of the built-in models in scenes with known "
    "truth; a membrane that is too open and a microtubule that may be a fragment have none. Those "
    "of organelles and complexes are ranges over level sets and sampled masks, and nobody measured "
    "how often they hold the truth. Numbers and totals of microtubules have none, since a tube "
    "that was missed leaves no trace, nor have sizes of other filaments. Intervals of order and "
    "persistence length, and of the spacing of other filaments, are over the filaments "
    "that were found, and know nothing of those that were missed.</p><p>Distances "
    "to other classes are from surface to surface, least and mean over the surface of the object, "
    "and from its centre to their nearest surface. The lumen of a membrane is what it encloses, "
    "without the membrane itself: in space where it is closed, else within z slices (marked "
    "&ldquo;in slices&rdquo;).</p>"
)


def _objects(rows: list[dict[str, Any]], drawn: Drawn | None) -> str:
    """Return the table of the objects of a class, with one unit in each column."""
    columns = [("object", [_link(row, drawn) for row in rows])]
    if drawn is not None and any(_key(row) in drawn.thumbnails for row in rows):
        columns.insert(0, ("picture", [_thumbnail(row, drawn) for row in rows]))
    places = [
        ", ".join(f"{row[f'{a}_nm']:.0f}" for a in "zyx") if "z_nm" in row else "-" for row in rows
    ]
    if any("z_nm" in row for row in rows):
        columns.append(("z, y, x (nm)", places))
    for key, head, stored in _COLUMNS:
        values = [row.get(key) for row in rows]
        if all(value is None for value in values):
            continue
        factor, unit = scale(values, stored) if stored else (1.0, "")
        cells = [quantity(value, factor) for value in values]
        if key == "lumen_nm3":
            cells = [
                cell + (" in slices" if row.get("lumen_within") == "slices" else "")
                for cell, row in zip(cells, rows, strict=True)
            ]
        columns.append((f"{head} ({unit})" if unit else head, cells))
    if any("side" in row for row in rows):
        columns.append(("lies in", [_host(row) for row in rows]))
    relations = [next(column for column in columns if column[0] == "object")]
    for name in dict.fromkeys(_other(key) for row in rows for key in row if key.startswith(_GAP)):
        parts = [
            [row.get(f"{_GAP}{name}_{w}_nm") for w in ("min", "mean", "centre")] for row in rows
        ]
        cells = ["-" if p[0] is None else " / ".join(number(v) for v in p) for p in parts]
        relations.append((f"to {name}: least / mean / from centre (nm)", cells))
        for unit, stored in (("nm2", "nm2"), ("nm", "nm")):
            touching = [row.get(f"{_CONTACT}{name}_{unit}") for row in rows]
            if any(touching):
                factor, shown = scale(touching, stored)
                cells = [quantity(value, factor) for value in touching]
                relations.append((f"contact with {name} ({shown})", cells))
    shown = _table(columns)
    if len(relations) > 1:
        inner = _table(relations)
        shown += f"<details><summary>Distances and contacts</summary>{inner}</details>"
    return shown


def _table(columns: list[tuple[str, list[str]]]) -> str:
    heads, cells = zip(*columns, strict=True)
    return table(heads, list(zip(*cells, strict=True)), "objects")


def _key(row: dict[str, Any]) -> tuple[str, int]:
    return row["class"], row["instance"]


def _link(row: dict[str, Any], drawn: Drawn | None) -> str:
    """Return the number of an object, which leads to its place in the slices."""
    text = str(row["instance"])
    if drawn is None or _key(row) not in drawn.places:
        return text
    at = " ".join(map(str, drawn.places[_key(row)]))
    name = html.escape(f"{row['class']} {row['instance']}")
    return Html(f'<a href="#slices" data-at="{at}" data-name="{name}">{html.escape(text)}</a>')


def _thumbnail(row: dict[str, Any], drawn: Drawn) -> str:
    source = drawn.thumbnails.get(_key(row))
    name = html.escape(f"{row['class']} {row['instance']}")
    return Html(f'<img src="{source}" alt="{name}">') if source else "-"


def _host(row: dict[str, Any]) -> str:
    """Return in what an object lies.

    >>> _host({"side": "across", "inside_class": "membrane", "inside_instance": 3})
    'across membrane 3'
    """
    if not row.get("inside_class"):
        return row.get("side") or "-"
    name = f"{row['inside_class']} {row['inside_instance']}"
    return name if row["side"] == "inside" else f"across {name}"


def _other(key: str) -> str:
    """Return the class to which a column has distances.

    >>> _other("distance_to_outer_membrane_min_nm")
    'outer_membrane'
    """
    return key.removeprefix(_GAP).rsplit("_", 2)[0]


def _size_charts(
    summary: dict[str, Any], rows: list[dict[str, Any]]
) -> tuple[list[str], list[str]]:
    """Return histograms of the size of the objects of each class, and of their least distances."""
    sizes, gaps = [], []
    for place, name in enumerate(summary["classes"]):
        own = [row for row in rows if row["class"] == name]
        wanted = [next((key for key in _SIZES if any(row.get(key) for row in own)), "")]
        wanted += [
            key for key in dict.fromkeys(k for row in own for k in row)
            if key.startswith(_GAP) and key.endswith("_min_nm")
        ]  # fmt: skip
        for key in wanted:
            values = [plain(row.get(key)) for row in own]
            numbers = [float(value) for value in values if value is not None]
            if len(numbers) < _FEWEST or not key or max(numbers) == min(numbers):
                continue
            stored = key.rsplit("_", 1)[1]
            factor, unit = scale(numbers, stored)
            what = f"least distance to {_other(key)}" if key.startswith(_GAP) else key.split("_")[0]
            found = gaps if key.startswith(_GAP) else sizes
            found.append(_counts(np.array(numbers) * factor, name, what, pretty(unit), place))
    return sizes, gaps


def _counts(values: np.ndarray, name: str, what: str, unit: str, place: int) -> str:
    """Return a histogram with an axis that fits the data, from 0 where they nearly begin there."""
    low, high = float(values.min()), float(values.max())
    low = 0.0 if low < 0.3 * high else low
    most = float(np.quantile(values, _MOST))
    beyond = values > 1.2 * most if high > 3 * most > 0 else values > high
    high = 1.2 * most if beyond.any() else high
    bins = int(np.clip(2 * np.sqrt(values.size), 5, 30))
    heights, edges = np.histogram(values, bins=bins, range=(low, high))
    title = f"{name}: {what}"
    chart = histogram(
        edges.tolist(), heights.tolist(), title, f"{what} ({unit})", "objects",
        COLOURS[place % len(COLOURS)],
    )  # fmt: skip
    middle = f"{values.size:,} objects, median {number(float(np.median(values)))} {unit}."
    if beyond.any():
        many, largest = np.count_nonzero(beyond), number(values.max().item())
        middle += (
            f" One is larger, {largest}."
            if many == 1
            else f" {many:,} are larger, up to {largest}."
        )
    return figure(title, middle, chart)


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
    edges, areas = pair["histogram"]["edges_nm"], pair["histogram"]["area_nm2"]
    factor, unit = scale(areas, "nm2")
    chart = histogram(
        edges,
        [area * factor for area in areas],
        title,
        "distance (nm)",
        f"area ({pretty(unit)})",
        COLOURS[place % len(COLOURS)],
    )
    note = "Area of the first at a distance from the second."
    beyond = pair["area_within_nm2"] - sum(areas)
    if beyond > 0.005 * max(pair["area_within_nm2"], 1e-9):
        note += f" {100 * beyond / pair['area_within_nm2']:.0f} % of it are farther away."
    return figure(title, note, chart)
