"""Columns of words as numbers and back, with every digit."""

from collections.abc import MutableMapping, Sequence
from pathlib import Path

import numpy as np

from cryojax_seg.core.particles import Table
from cryojax_seg.io.files import FileError


def numbers(table: Table, labels: Sequence[str], path: Path) -> np.ndarray:
    """Columns as float64 ``(rows, labels)``.

    Raises:
        FileError: naming the file, and the column that is missing or the row that is no number.

    >>> numbers({"a": ("1", "2.5")}, ("a",), Path("t.csv")).ravel().tolist()
    [1.0, 2.5]
    """
    missing = [label for label in labels if label not in table]
    if missing:
        raise FileError(f"{path}: has no column {', '.join(missing)}; it has {', '.join(table)}")
    columns = []
    for label in labels:
        values = []
        for row, word in enumerate(table[label], 1):
            try:
                values.append(float(word))
            except ValueError:
                raise FileError(f"{path}: row {row} of {label} is {word!r}, not a number") from None
        columns.append(np.array(values, np.float64))
        bad = np.flatnonzero(~np.isfinite(columns[-1]))
        if bad.size:
            row = int(bad[0])
            raise FileError(f"{path}: row {row + 1} of {label} is {table[label][row]}; mend it")
    return np.stack(columns, -1)


def take_numbers(
    table: MutableMapping[str, list[str]], labels: Sequence[str], path: Path
) -> np.ndarray:
    """The same, and takes the columns out of the table."""
    found = numbers(table, labels, path)
    for label in labels:
        del table[label]
    return found


def words(values: np.ndarray) -> list[str]:
    """Numbers in the fewest digits that read back exactly.

    >>> words(np.array([0.1, 2.0])), words(np.array([3]))
    (['0.1', '2.0'], ['3'])
    """
    return [repr(value) for value in values.tolist()]
