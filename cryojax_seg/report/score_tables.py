"""Tables of the scores of a label volume and of the audit of a restoration, as plain text."""

from collections.abc import Mapping
from typing import Any

from cryojax_seg.evaluate.restoration import Audit
from cryojax_seg.report.measured_tables import Table

_KEYS = ("dice", "iou", "precision", "recall", "surface_dice", "boundary_iou", "hausdorff95")
_AFTER = " recalibrated"


def score_tables(scores: Mapping[str, Any], title: str) -> list[Table | str]:
    """Return the scores of a label volume as tables, and as lines between them.

    Args:
        scores: plain values, as `evaluate.Scores.as_dict` returns them.
        title: of the first table.

    >>> import numpy as np
    >>> from cryojax_seg.evaluate import score
    >>> labels = np.zeros((6, 6, 6), np.int32); labels[2:4] = 1
    >>> (title, columns, rows), *_ = score_tables(score(labels, labels).as_dict(), "a against b")
    >>> title, columns[:2], rows[0][:2]
    ('a against b', ('class', 'Dice'), ('foreground', '1.000'))
    """
    unit = "A" if scores["tolerance_unit"] == "angstrom" else "voxels"
    columns = (
        *("class", "Dice", "IoU", "precision", "recall"),
        f"surface Dice ({scores['tolerance']:g} {unit})",
        *("boundary IoU", f"HD95 ({unit})"),
    )
    rows = dict(scores["classes"])
    if len(rows) > 1:
        rows |= {"mean of the classes": scores["mean"], "any class": scores["foreground"]}
    lines = [(name, *(_number(row.get(key)) for key in _KEYS)) for name, row in rows.items()]
    found: list[Table | str] = [(title, columns, lines)]
    for name, row in scores["classes"].items():
        if "by_visibility" in row and row["dice"] is not None:
            found.append(_by_visibility(name, row["by_visibility"]))
        if row["betti_error"] is not None:
            words = (("piece", "pieces"), ("tunnel", "tunnels"), ("cavity", "cavities"))
            errors = zip(row["betti_error"], words, strict=True)
            numbers = ", ".join(f"{n:g} {word[n != 1]}" for n, word in errors)
            found.append(f"  {name}: the topology differs by {numbers}")
    if "calibration" in scores:
        found += _calibration(scores["calibration"])
    return found


def _calibration(values: Mapping[str, float | None]) -> list[str]:
    """Return a line of the errors of the probabilities, and one of what recalibration leaves."""
    own = {name: value for name, value in values.items() if not name.endswith(_AFTER)}
    left = {name.removesuffix(_AFTER): value for name, value in values.items() if name not in own}
    lines = [", ".join(f"{n} {_number(v)}" for n, v in some.items()) for some in (own, left)]
    found = [f"  calibration: {lines[0]}"]
    if left:
        found.append(f"  after recalibration, each half by the other half: {lines[1]}")
    return found


def _by_visibility(name: str, bins: list[dict[str, Any]]) -> Table:
    lines = [
        (
            f"{b['low']:g} to {b['high']:g}",
            *(_number(b[key]) for key in ("recall", "precision")),
            str(b["invented"]),
        )
        for b in bins
    ]
    columns = ("visibility", "recall", "precision", "voxels far from any")
    return f"{name}: scores by visibility under the missing wedge", columns, lines


def audit_table(audit: Audit) -> Table:
    """Return how far a restored volume agrees with the data at each frequency, as a table.

    >>> audit_table(Audit((0.1,), (0.9,), (0.8,), (0.3,), 0.9, 0.8, 0.3))[2]
    [('0.10', '0.90', '0.80', '0.30'), ('all', '0.90', '0.80', '0.30')]
    """
    shells = zip(audit.frequency, audit.agreement, audit.kept, audit.filled, strict=True)
    lines = [(f"{k:.2f}", *(_number(v, 2) for v in values)) for k, *values in shells]
    overall = (audit.agreement_overall, audit.kept_overall, audit.filled_overall)
    lines.append(("all", *(_number(value, 2) for value in overall)))
    columns = ("1/voxel", "agreement", "power kept", "wedge filled")
    return "agreement of the restored volume with the data, by frequency", columns, lines


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
