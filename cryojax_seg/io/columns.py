"""Convert columns of words to numbers and back without losing a digit."""

from collections.abc import MutableMapping, Sequence
from pathlib import Path

import numpy as np

from cryojax_seg.core.particles import Table
from cryojax_seg.io.files import FileError
from cryojax_seg.text import shortened, shown


def numbers(table: Table, labels: Sequence[str], path: Path) -> np.ndarray:
    """Return columns as float64 ``(rows, labels)``.

    Raises:
        FileError: naming the file, and the column that is missing or the row that is no number.

    >>> numbers({"a": ("1", "2.5")}, ("a",), Path("t.csv")).ravel().tolist()
    [1.0, 2.5]
    """
    missing = [label for label in labels if label not in table]
    if missing:
        present = shortened(", ".join(table), 200)
        raise FileError(f"{path}: has no column {', '.join(missing)}; it has {present}")
    columns = []
    for label in labels:
        values = []
        for row, word in enumerate(table[label], 1):
            try:
                if "_" in word:  # Python's own: 1_0 is 10
                    raise ValueError
                values.append(float(word))
            except ValueError:
                raise FileError(
                    f"{path}: row {row} of {label} is {shown(word, 60)}, not a number"
                ) from None
        columns.append(np.array(values, np.float64))
        bad = np.flatnonzero(~np.isfinite(columns[-1]))
        if bad.size:
            row = int(bad[0])
            raise FileError(f"{path}: row {row + 1} of {label} is {table[label][row]}; correct it")
    return np.stack(columns, -1)


def take_numbers(
    table: MutableMapping[str, list[str]], labels: Sequence[str], path: Path
) -> np.ndarray:
    """Return columns as `numbers` does, and remove them from the table."""
    found = numbers(table, labels, path)
    for label in labels:
        del table[label]
    return found


def take_integers(table: MutableMapping[str, list[str]], label: str, path: Path) -> np.ndarray:
    """Return a column of whole numbers as int64 ``(rows,)``, and remove it from the table.

    Raises:
        FileError: as `numbers`, and for a number that is not whole or not exact as a float.

    >>> take_integers({"class": ["3", "2.0"]}, "class", Path("t.csv")).tolist()
    [3, 2]
    """
    found = take_numbers(table, (label,), path)[:, 0]
    bad = np.flatnonzero((found != np.rint(found)) | (np.abs(found) >= 2.0**53))
    if bad.size:
        row = int(bad[0])
        raise FileError(f"{path}: row {row + 1} of {label} is {found[row]:g}, not a whole number")
    return found.astype(np.int64)


def words(values: np.ndarray) -> list[str]:
    """Return numbers as words in the fewest digits that read back exactly.

    >>> words(np.array([0.1, 2.0])), words(np.array([3]))
    (['0.1', '2.0'], ['3'])
    """
    return [repr(value) for value in values.tolist()]
