"""Makes tables of the totals of measured classes, with plain text in cells."""

from typing import Any

from cryojax_seg.report.units import number, quantity, scale

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]  # title, columns, lines


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
    rows = list(classes.values())
    areas = [row.get("area_nm2") or row.get("surface_nm2") for row in rows]
    volumes = [row["volume_nm3"] for row in rows]
    (by_area, area), (by_volume, volume) = scale(areas, "nm2"), scale(volumes, "nm3")
    lines = [
        (
            name,
            row["kind"],
            number(row["count"]),
            quantity(one, by_area),
            quantity(row["volume_nm3"], by_volume),
        )
        for (name, row), one in zip(classes.items(), areas, strict=True)
    ]
    columns = ("class", "kind", "objects", f"area ({area})", f"volume ({volume})")
    return f"{labels}: {len(lines)} classes", columns, lines


def _filaments(classes: dict[str, Any]) -> Table:
    factor, unit = scale([row["total_length_um"] for row in classes.values()], "um")
    lines = [
        (
            name,
            quantity(row["total_length_um"], factor),
            quantity(row["length_density_um_per_um3"]),
            quantity(row["spacing_nm"]),
            _beside_chance(row, "order_parameter", "order_if_random"),
            _persistence(row),
        )
        for name, row in classes.items()
    ]
    columns = ("class", f"length ({unit})", "per volume (um/um^3)", "spacing (nm)", "order")
    return "filaments", (*columns, "persistence length (um)"), lines


def _beside_chance(row: dict[str, Any], value: str, chance: str) -> str:
    """Return a value and the one that chance would give; a dash for nothing."""
    if row[value] is None:
        return "-"
    return f"{quantity(row[value])}, by chance {quantity(row[chance])}"


def _persistence(row: dict[str, Any]) -> str:
    """Return the persistence length of filaments, or the bound that stands for it."""
    least = row.get("persistence_length_at_least_um")
    if row["persistence_length_um"] is None and least:
        return f"at least {quantity(least)}"
    return quantity(row["persistence_length_um"])


def _complexes(classes: dict[str, Any]) -> Table:
    lines = []
    for name, row in classes.items():
        pairs = row.get("pair_correlation")
        near, away, inside = (
            _beside_chance(row, value, chance)
            for value, chance in (
                ("nearest_neighbour_nm", "nearest_neighbour_if_random_nm"),
                ("membrane_distance_nm", "membrane_distance_if_random_nm"),
                ("organelle_fraction", "organelle_fraction_if_random"),
            )
        )
        if not row["nearest_neighbour_nm"] and row["nearest_neighbour_seen_nm"]:
            near = f"at most {quantity(row['nearest_neighbour_seen_nm'])}"
        lines.append(
            (
                name,
                quantity(row["concentration_per_um3"]),
                quantity(row["concentration_micromolar"]),
                near,
                "-" if pairs is None else f"{pairs['p_value']:.3g}",
                away,
                inside,
            )
        )
    columns = ("class", "per um^3", "micromolar", "nearest neighbour (nm)", "p of chance")
    return "complexes", (*columns, "from membrane (nm)", "in organelle"), lines


def _distances(pairs: list[dict[str, Any]]) -> Table:
    factor, unit = scale([pair["contact_area_nm2"] for pair in pairs], "nm2")
    lines = []
    for pair in pairs:
        share = pair["area_share_within"]
        lines.append(
            (
                f"{pair['from']} to {pair['to']}",
                *(_tenths(pair["quantiles_nm"][q]) for q in ("0.05", "0.5", "0.95")),
                "-" if share is None else f"{100 * share:.0f} %",
                quantity(pair["contact_area_nm2"], factor),
            )
        )
    columns = ("distance (nm)", "5 %", "median", "95 %", "area in reach", f"contact ({unit})")
    return "between membranes", columns, lines


def _tenths(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
