"""Makes tables of the totals of measured classes, with plain text in cells."""

from typing import Any

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]  # title, columns, lines


def text(value: Any, factor: float = 1.0) -> str:
    """Return a number as text, with its interval if it has one, which may have no upper limit.

    >>> text({"value": 2000.0, "low": 1000.0, "high": 3000.0}, 1e-3), text(None)
    ('2 (1 to 3)', '-')
    >>> text({"value": None, "low": 9.0, "high": None})
    '- (9 or more)'
    """
    if value is None:
        return "-"
    if not isinstance(value, dict):
        return f"{value * factor:.4g}"
    numbers = [None if v is None else v * factor for v in value.values()]
    best = "-" if numbers[0] is None else f"{numbers[0]:.4g}"
    if numbers[1] is None:
        return best
    if numbers[2] is None:
        return f"{best} ({numbers[1]:.4g} or more)"
    return f"{best} ({numbers[1]:.4g} to {numbers[2]:.4g})"


def measurement_tables(summary: dict[str, Any]) -> list[Table]:
    """Return the tables of a summary: a title, the columns and the lines of each.

    Args:
        summary: plain values, as `cryojax-seg measure` writes them.

    >>> summary = {"labels": "a.mrc", "classes": {}, "distances": []}
    >>> [title for title, *_ in measurement_tables(summary)]
    ['a.mrc: 0 classes']
    """
    classes = summary["classes"]
    found = [_classes(summary["labels"], classes)]
    filaments = {n: row for n, row in classes.items() if row["kind"] == "filament"}
    complexes = {n: row for n, row in classes.items() if row["kind"] == "complex"}
    if filaments:
        found.append(_filaments(filaments))
    if complexes:
        found.append(_complexes(complexes))
    if summary["distances"]:
        found.append(_distances(summary["distances"]))
    return found


def _classes(labels: str, classes: dict[str, Any]) -> Table:
    lines = [
        (
            name,
            row["kind"],
            str(row["count"]),
            text(row.get("area_nm2") or row.get("surface_nm2"), 1e-6),
            text(row["volume_nm3"], 1e-9),
        )
        for name, row in classes.items()
    ]
    columns = ("class", "kind", "objects", "area (um^2)", "volume (um^3)")
    return f"{labels}: {len(lines)} classes", columns, lines


def _filaments(classes: dict[str, Any]) -> Table:
    lines = [
        (
            name,
            text(row["total_length_um"]),
            text(row["length_density_um_per_um3"]),
            text(row["spacing_nm"]),
            f"{text(row['order_parameter'])}, by chance {text(row['order_if_random'])}",
            _persistence(row),
        )
        for name, row in classes.items()
    ]
    columns = ("class", "length (um)", "per volume (um/um^3)", "spacing (nm)", "order")
    return "filaments", (*columns, "persistence length (um)"), lines


def _persistence(row: dict[str, Any]) -> str:
    """Return the persistence length of filaments, or the bound that stands for it."""
    least = row.get("persistence_length_at_least_um")
    if row["persistence_length_um"] is None and least:
        return f"at least {text(least)}"
    return text(row["persistence_length_um"])


def _complexes(classes: dict[str, Any]) -> Table:
    lines = []
    for name, row in classes.items():
        pairs = row.get("pair_correlation")
        near, away, inside = (
            f"{text(row[value])}, by chance {text(row[chance])}" if row[value] else "-"
            for value, chance in (
                ("nearest_neighbour_nm", "nearest_neighbour_if_random_nm"),
                ("membrane_distance_nm", "membrane_distance_if_random_nm"),
                ("organelle_fraction", "organelle_fraction_if_random"),
            )
        )
        if not row["nearest_neighbour_nm"] and row["nearest_neighbour_seen_nm"]:
            near = f"at most {text(row['nearest_neighbour_seen_nm'])}"
        lines.append(
            (
                name,
                text(row["concentration_per_um3"]),
                text(row["concentration_micromolar"]),
                near,
                "-" if pairs is None else f"{pairs['p_value']:.3g}",
                away,
                inside,
            )
        )
    columns = ("class", "per um^3", "micromolar", "nearest neighbour (nm)", "p of chance")
    return "complexes", (*columns, "from membrane (nm)", "in organelle"), lines


def _distances(pairs: list[dict[str, Any]]) -> Table:
    lines = []
    for pair in pairs:
        share = pair["area_share_within"]
        lines.append(
            (
                f"{pair['from']} to {pair['to']}",
                *(_tenths(pair["quantiles_nm"][q]) for q in ("0.05", "0.5", "0.95")),
                "-" if share is None else f"{100 * share:.0f} %",
                text(pair["contact_area_nm2"], 1e-6),
            )
        )
    columns = ("distance (nm)", "5 %", "median", "95 %", "area in reach", "contact (um^2)")
    return "between membranes", columns, lines


def _tenths(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
