"""Keeps in a file of labels which voxels somebody painted as "ignore".

There these voxels have the ignore value, as have all that nobody annotated. What tells them apart
is a list of runs: first voxel and end of each, counted along the rows of the whole volume. It lies
in the extended header of an MRC file, or in an array of an OME-Zarr folder, so it is saved together
with the labels; programs that do not know it see the ignore value alone.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cryojax_seg.core.plain import Shape
from cryojax_seg.io import FileError
from cryojax_seg.io import header as headers
from cryojax_seg.io.chunk_files import check_metadata
from cryojax_seg.io.chunked import FAILURES, open_store
from cryojax_seg.io.files import check_memory
from cryojax_seg.io.ome import EXCLUDED_ARRAY
from cryojax_seg.io.ome_writing import DRIVERS, Version
from cryojax_seg.view.painting import EXCLUDED, UNKNOWN

EXTENDED = b"CJEX"  # type of the extended header
_TYPE, _SIZE = slice(104, 108), slice(92, 96)  # bytes of exttyp and nsymbt in an MRC header
_RUN = 16  # bytes


def excluded_runs(slices: Mapping[int, np.ndarray]) -> np.ndarray:
    """Return the runs of excluded voxels: int64 ``(n, 2)``, first voxel and end.

    Args:
        slices: of a `Painting`.

    >>> excluded_runs({1: np.array([[1, EXCLUDED, EXCLUDED], [EXCLUDED, 0, -1]], np.int8)}).tolist()
    [[7, 10]]
    """
    found = [np.empty((0, 2), np.int64)]
    for z, labels in sorted(slices.items()):
        edges = np.flatnonzero(np.diff(np.pad(labels.ravel() == EXCLUDED, 1)))
        found.append(edges.reshape(-1, 2) + z * labels.size)
    return np.concatenate(found)


def with_excluded(
    slices: Mapping[int, np.ndarray], runs: np.ndarray, shape: Shape
) -> dict[int, np.ndarray]:
    """Return slices in which runs of voxels are excluded; voxels with a label keep it.

    Args:
        slices: of a `Painting`.
        runs: as `excluded_runs` returns them.
        shape: of the volume ``(z, y, x)``.

    >>> with_excluded({}, np.array([[7, 10]]), (2, 2, 3))[1].tolist()
    [[-1, -2, -2], [-2, -1, -1]]
    """
    result, area = dict(slices), shape[1] * shape[2]
    numbers = runs[:, 0] // area
    for z in np.unique(numbers).tolist():
        inside = np.zeros(area, bool)
        for start, end in runs[numbers == z] - z * area:
            inside[start:end] = True
        labels = result.get(z, np.full(shape[1:], UNKNOWN, np.int8))
        free = inside.reshape(shape[1:]) & (labels == UNKNOWN)
        result[z] = np.where(free, np.int8(EXCLUDED), labels)
    return result


def read_excluded(path: Path, shape: Shape) -> np.ndarray:
    """Return the runs in a file of labels; none if it has no list of them.

    Args:
        path: an MRC file or an OME-Zarr folder; other files have no such list.
        shape: of the volume ``(z, y, x)``.

    Raises:
        FileError: if the list is damaged.
    """
    runs = _of_zarr(path) if path.is_dir() else _of_mrc(path)
    (starts, ends), area = runs.T, shape[1] * shape[2]
    numbers = starts // area
    known = (numbers >= 0) & (numbers < shape[0]) & (starts < ends) & (ends <= area * (numbers + 1))
    if not known.all():
        raise _damaged(path)
    return runs


def write_array(folder: Path, runs: np.ndarray, version: Version) -> None:
    """Write runs as an array into a folder that becomes an OME-Zarr volume.

    Raises:
        OSError: if the disk is full.
    """
    options = {"create": True, "delete_existing": True, "dtype": "int64", "shape": runs.shape}
    try:
        open_store(DRIVERS[version], folder / EXCLUDED_ARRAY, 0, **options).write(runs).result()
    except FAILURES as error:
        raise OSError(f"cannot write {folder / EXCLUDED_ARRAY}: {error}") from None


def _of_mrc(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        raw = file.read(headers.LENGTH)
        if raw[_TYPE] != EXTENDED:
            return np.empty((0, 2), np.int64)
        count = int(np.frombuffer(raw[_SIZE], "<i4")[0])
        content = file.read(max(count, 0))
    if len(content) != count or count % _RUN:
        raise _damaged(path)
    return np.frombuffer(content, "<i8").astype(np.int64).reshape(-1, 2)


def _of_zarr(path: Path) -> np.ndarray:
    folder = path / EXCLUDED_ARRAY
    if not folder.is_dir():
        return np.empty((0, 2), np.int64)
    check_metadata(folder)
    version: Version = "0.5" if (folder / "zarr.json").exists() else "0.4"
    try:
        store = open_store(DRIVERS[version], folder, 0, open=True, read=True)
        if store.rank != 2 or store.shape[1] != 2 or store.dtype.name != "int64":
            raise _damaged(path)
        check_memory(folder, store.shape[0] * _RUN)
        return np.asarray(store.read().result())
    except FAILURES:
        raise _damaged(path) from None


def _damaged(path: Path) -> FileError:
    return FileError(f"{path}: its list of ignored voxels is damaged; copy the labels again")
