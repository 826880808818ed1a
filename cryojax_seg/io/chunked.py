"""Read parts of chunked volumes on disk when they are indexed, through TensorStore."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

import numpy as np
import tensorstore as ts

from cryojax_seg.core.blocks import EDGE
from cryojax_seg.core.plain import Shape
from cryojax_seg.io.chunk_files import check_metadata, count_chunks
from cryojax_seg.io.files import FileError, check_memory
from cryojax_seg.io.ome import Level, Multiscale

FAILURES = (ValueError, IndexError, NotImplementedError)  # as which TensorStore's errors come
_LARGEST = 2**40  # voxels; the largest tomograms have some 2**35
_CACHE = 2**26  # bytes of chunks that are kept: parts that are read one after another share some


@final
class Chunked:
    """Reads the parts of a volume ``(z, y, x)`` on disk when they are indexed.

    Slices along one, two or all axes give NumPy arrays; `np.asarray` reads it whole. Nothing else
    is understood, so that no loop over sections decodes every chunk again for each of them.
    Damaged chunks and parts larger than the memory give a `FileError`.

    Args:
        store: a TensorStore of three axes.
        name: where it came from, for messages.
        coarser: opens the next coarser level; None if there is none.

    >>> import tempfile
    >>> from cryojax_seg.io import read_zarr, write_zarr
    >>> file = Path(tempfile.mkdtemp()) / "t.zarr"
    >>> write_zarr(file, np.arange(24, dtype=np.float32).reshape(2, 3, 4), voxel_size=10.0)
    >>> density = read_zarr(file).density
    >>> isinstance(density, Chunked), density[1:, 2:, 1:3].tolist()
    (True, [[[21.0, 22.0]]])
    """

    def __init__(
        self, store: ts.TensorStore, name: str, coarser: "Callable[[], Chunked] | None" = None
    ):
        self._store, self._name, self._coarser = store, name, coarser
        self.shape: tuple[int, ...] = tuple(store.shape)
        self.dtype: np.dtype = np.dtype(store.dtype.numpy_dtype)
        self.ndim = len(self.shape)
        self.size = math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize
        self.chunks = _chunk(store)

    def __getitem__(self, where: Any, /) -> np.ndarray:
        part = self._store[region(where, self.shape)]
        advice = "read it in parts, or a coarser level"
        check_memory(self._name, math.prod(part.shape) * self.dtype.itemsize, advice)
        try:
            return part.read().result()
        except FAILURES as error:
            raise FileError(
                f"{self._name}: voxels cannot be read ({reason(error)}); copy it again"
            ) from None

    def coarser(self) -> "Chunked | None":
        """Return the same volume in larger voxels; None if there is none that can be read."""
        try:
            return self._coarser() if self._coarser is not None else None
        except FileError:
            return None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError(f"{self._name}: is on disk, so an array of it is always a copy")
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def __repr__(self) -> str:
        return f"Chunked({self._name!r}, shape={self.shape}, dtype={self.dtype})"


def open_volume(described: Multiscale, level: Level) -> tuple[Chunked, list[str]]:
    """Open the array of one level after checks that need no voxels; also return warnings.

    Raises:
        FileError: if it is no volume of real numbers or damaged.
    """
    folder = level.folder
    check_metadata(folder)
    try:
        store = open_store(described.driver, folder, _CACHE, open=True, read=True)
    except FAILURES as error:
        raise FileError(
            f"{folder}: not a readable Zarr array ({reason(error)}); copy the folder again, or "
            "write it with codecs of the Zarr specification such as zstd or blosc"
        ) from None
    extra, shape = described.extra, tuple(store.shape)
    if len(shape) != extra + 3 or 0 in shape:
        raise FileError(
            f"{folder}: has the shape {shape}, and its metadata {extra + 3} axes; correct one of "
            "them, or copy the folder again"
        )
    if any(n != 1 for n in shape[:extra]):
        raise FileError(
            f"{folder}: has the shape {shape} and so several volumes; save one channel and one "
            "time point"
        )
    dtype = np.dtype(store.dtype.numpy_dtype)
    if dtype.kind not in "iufb":
        raise FileError(f"{folder}: holds {dtype}; real numbers are read, convert it")
    if math.prod(shape) > _LARGEST:
        raise FileError(
            f"{folder}: its metadata claim the shape {shape}; at most 2^40 voxels are read"
        )
    check_memory(folder, math.prod(_chunk(store)) * dtype.itemsize, "write it with smaller chunks")
    notes = _missing(store, level)
    place, coarser = described.levels.index(level) + 1, None
    if place < len(described.levels):
        coarser = functools.cache(lambda: open_volume(described, described.levels[place])[0])
    return Chunked(store[(0,) * extra] if extra else store, str(folder), coarser), notes


def _missing(store: ts.TensorStore, level: Level) -> list[str]:
    """Return a warning about missing chunks, which are read as the fill value.

    Volumes of this package say how many were written; others may leave out those that hold
    nothing but the fill value, or may be an incomplete copy.
    """
    stated = store.chunk_layout.write_chunk.shape or (None,) * store.rank
    file = tuple(c or n for c, n in zip(stated, store.shape, strict=True))
    found, whole = count_chunks(level.folder, store.shape, file)
    written = level.chunks
    if (written is not None and found < written) or (written is None and not found):
        known = whole if written is None else written
        raise FileError(
            f"{level.folder}: {known - found} of its {known} chunk files are missing; copy the "
            "folder again"
        )
    if written is not None or found == whole:
        return []
    share = 100 * (whole - found) / whole
    return [
        f"{whole - found} of {whole} chunk files ({share:.2g} %) are not there and read as the "
        "fill value; if the volume was not written that way, copy it again"
    ]


def _chunk(store: ts.TensorStore) -> tuple[int, ...]:
    """Return the shape that is decoded at a time, smaller than a file if chunks lie in shards."""
    stated = store.chunk_layout.read_chunk.shape or (None,) * store.rank
    return tuple(c or n for c, n in zip(stated, store.shape, strict=True))


def open_store(driver: str, folder: Path, cache: int, **options: Any) -> ts.TensorStore:
    """Open an array in a folder with a bounded cache in memory; see `ts.open`."""
    store = {"driver": "file", "path": f"{folder.absolute()}/"}
    context = ts.Context({"cache_pool": {"total_bytes_limit": cache}})
    spec = {"driver": driver, "kvstore": store, **options.pop("spec", {})}
    return ts.open(spec, context=context, **options).result()


def region(where: Any, shape: Shape) -> tuple[slice, ...]:
    """Return slices along all axes, clipped to the volume, which TensorStore does not do.

    >>> region(np.s_[-3:, :100], (5, 6, 7))
    (slice(2, 5, 1), slice(0, 6, 1), slice(0, 7, 1))
    """
    given = where if isinstance(where, tuple) else (where,)
    if len(given) > len(shape) or not all(isinstance(s, slice) for s in given):
        raise TypeError(f"at most {len(shape)} slices are needed, not {where!r}; see np.asarray")
    full = (*given, *(slice(None),) * (len(shape) - len(given)))
    bounds = [s.indices(n) for s, n in zip(full, shape, strict=True)]
    if any(step < 1 for _, _, step in bounds):
        raise IndexError(f"slices must run forwards, not {where!r}")
    return tuple(slice(start, max(start, stop), step) for start, stop, step in bounds)


def reason(error: Exception) -> str:
    """Return the readable part of TensorStore's message, without the way through its parser."""
    parts = str(error).split(" [")[0].split(": ")
    return ": ".join(part for part in parts if not part.startswith("Error parsing"))


def by_chunk(part: tuple[slice, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield the pieces of a part that lie in different chunks.

    >>> [piece[0] for piece in by_chunk((slice(100, 300),))]
    [slice(100, 128, None), slice(128, 256, None), slice(256, 300, None)]
    """
    cuts = []
    for s in part:
        edges = [s.start, *range((s.start // EDGE + 1) * EDGE, s.stop, EDGE), s.stop]
        cuts.append([slice(*pair) for pair in itertools.pairwise(edges)])
    return itertools.product(*cuts)
