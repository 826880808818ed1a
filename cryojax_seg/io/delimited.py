"""Read spreadsheets saved as text with commas, semicolons or tabs, and decimal commas."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cryojax_seg.io.files import FileError
from cryojax_seg.text import shortened

_DELIMITERS = (",", ";", "\t")
# By what names z, y and x go: those of this package, and those of napari's points.
_AXES = (("z", "y", "x"), ("axis-0", "axis-1", "axis-2"))
# Columns whose names may be in capitals; all others are kept as they are.
_KNOWN = {*_AXES[0], *_AXES[1], "rot", "tilt", "psi", "score", "class", "voxel_size_angstrom"}
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")


def coordinate_labels(heading: Iterable[str]) -> tuple[str, str, str] | None:
    """Return the names of the columns with z, y and x, or None if there are none.

    >>> coordinate_labels(["index", "axis-0", "axis-1", "axis-2"])
    ('axis-0', 'axis-1', 'axis-2')
    """
    present = set(heading)
    return next((axes for axes in _AXES if present.issuperset(axes)), None)


def read_rows(text: str, path: Path) -> list[list[str]]:
    r"""Return the cells of each row, stripped of spaces; leave out empty rows.

    The delimiter is the one that sets the names of the axes apart, else one that the first row
    has: semicolons and tabs come before commas, which may be in numbers.

    Raises:
        FileError: for a field that no table of coordinates has (over 128 KiB).

    >>> read_rows("sep=;\nz;y;x\n1,5;2;3\n;;\n", Path("a.csv"))
    [['z', 'y', 'x'], ['1,5', '2', '3']]
    """
    lines = text.split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip(" ,;\t")), 0)
    stated = re.fullmatch(r"sep=(.)", lines[first].strip("\r\n ").strip('"'), re.IGNORECASE)
    lines = lines[first + 1 if stated else first :]
    try:
        delimiter = stated[1] if stated else _delimiter(lines[0] if lines else "")
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
    except csv.Error as error:
        raise FileError(f"{path}: no coordinates in CSV ({error})") from None
    return [row for row in rows if any(row)]


def read_columns(text: str, path: Path) -> dict[str, list[str]]:
    r"""Return the columns of a table by their headings; leave out columns without one.

    Raises:
        FileError: if a heading stands twice or a row has another number of cells.

    >>> read_columns("x,note\n1,'a'\n", Path("a.csv"))
    {'x': ['1'], 'note': ["'a'"]}
    """
    heading, *body = read_rows(text, path) or [[]]
    heading = [name.lower() if name.lower() in _KNOWN else name for name in heading]
    for number, row in enumerate(body, 2):
        if len(row) != len(heading):
            raise FileError(
                f"{path}: row {number} has {len(row)} values for {len(heading)} columns"
            )
    twice = next((name for i, name in enumerate(heading) if name and name in heading[:i]), None)
    if twice is not None:
        raise FileError(
            f"{path}: the column {shortened(twice, 60)} occurs twice; remove one of them"
        )
    return {name: [row[i] for row in body] for i, name in enumerate(heading) if name}


def with_decimal_points(
    table: Mapping[str, Sequence[str]], labels: Iterable[str], path: Path
) -> dict[str, list[str]]:
    """Return the table with decimal points where these columns have decimal commas.

    Raises:
        FileError: if the commas may as well set thousands apart.

    >>> with_decimal_points({"z": ["1,5"], "note": ["a,b"]}, ["z"], Path("a.csv"))
    {'z': ['1.5'], 'note': ['a,b']}
    """
    result = {label: list(column) for label, column in table.items()}
    present = [label for label in labels if label in result]
    words = [word for label in present for word in result[label]]
    commas = [word for word in words if "," in word]
    if not commas or any("." in word for word in words):
        return result
    if all(_THOUSANDS.fullmatch(word) for word in commas):
        raise FileError(
            f"{path}: {shortened(commas[0], 60)} may be a decimal comma or set thousands apart; "
            "write numbers with a decimal point and without separators"
        )
    for label in present:
        result[label] = [word.replace(",", ".") for word in result[label]]
    return result


def _delimiter(heading: str) -> str:
    cells = {
        d: [c.strip().lower() for c in next(csv.reader([heading], delimiter=d), [])]
        for d in _DELIMITERS
    }
    for delimiter, names in cells.items():
        if coordinate_labels(names):
            return delimiter
    return next((d for d in (";", "\t") if len(cells[d]) > 1), ",")
