"""Count the files of a Zarr array, and refuse files that lie elsewhere or are unreadable.

Zarr gives voxels whose chunk is missing the fill value, and TensorStore follows every link. So an
incomplete copy reads like a complete one, and a pipe in the place of a chunk never ends.
"""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cryojax_seg.io.files import FileError
from cryojax_seg.io.plain import read_json

_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


def count_chunks(folder: Path, shape: Sequence[int], chunk: Sequence[int]) -> tuple[int, int]:
    """Count the chunk files (or shards) of an array, and those it has when none is empty.

    Args:
        folder: of the array.
        shape: of the array.
        chunk: of a file.

    Raises:
        FileError: for a file that is a link out of the folder, or no file: a pipe or a device.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "0.1").touch()
    >>> count_chunks(folder, (4, 4), (2, 2))
    (1, 4)
    """
    grid = [-(-n // c) for n, c in zip(shape, chunk, strict=True)]
    root = Path(os.path.realpath(folder))
    found, waiting = 0, [(folder, "")]
    while waiting:
        place, prefix = waiting.pop()
        with os.scandir(place) as listed:
            entries = list(listed)
        for entry in entries:
            _check_inside(Path(entry.path), root)
            key = f"{prefix}{entry.name}"
            if os.path.isdir(entry.path):  # unlike entry.is_dir(), is False in a circle of links
                if _is_key(key, grid):
                    raise FileError(f"{entry.path}: is a folder where a chunk should be")
                if not entry.is_symlink():  # a link within the array could lead in a circle
                    waiting.append((Path(entry.path), f"{key}/"))
            elif not os.path.isfile(entry.path):
                raise FileError(
                    f"{entry.path}: is no file that can be read (a pipe, a device or a link that "
                    "leads nowhere); copy the folder again"
                )
            elif entry.name not in _METADATA:
                found += _is_key(key, grid)
    return found, math.prod(grid)


def check_metadata(folder: Path) -> None:
    """Refuse metadata that lie elsewhere, are no file, or are no JSON of reasonable depth.

    Raises:
        FileError: naming the file.
    """
    for name in _METADATA:
        if os.path.lexists(folder / name):
            _check_inside(folder / name, Path(os.path.realpath(folder)))
            read_json(folder / name)


def _check_inside(path: Path, root: Path) -> None:
    if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
        raise FileError(f"{path}: is a link out of the array; copy what it leads to in its place")


def _is_key(name: str, grid: Sequence[int]) -> bool:
    """Return whether this names a chunk of the grid, in any spelling that Zarr uses.

    >>> [_is_key(name, (2, 3)) for name in ("c/1/2", "1.2", "1/2", "1/3", "1", "x/1/2")]
    [True, True, True, False, False, False]
    """
    words = re.split(r"[./]", name.removeprefix("c/").removeprefix("c."))
    if len(words) != len(grid) or not all(w.isascii() and w.isdecimal() for w in words):
        return False
    return all(len(w) < 20 and int(w) < n for w, n in zip(words, grid, strict=True))
