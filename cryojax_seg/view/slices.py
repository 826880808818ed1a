"""Serves single slices of a volume as bytes, without loading the volume."""

import collections
import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from cryojax_seg.core.blocks import EDGE, Readable, prefetch, random_starts, release
from cryojax_seg.view.planes import as_plane, check_plane

Convert = Callable[[np.ndarray], np.ndarray]  # values of any type to uint8

_SAMPLE = 2**20  # voxels that percentiles are measured on
_ENDS = (0.05, 99.95)  # percentiles that become the bytes 0 and 255
_SHOWN = (1.0, 99.0)  # percentiles that are black and white at first
_REPEATED = 0.02  # share of one value above which it is a fill value, not density
_LARGEST = 2**27  # bytes of a slab
_MAPPED = 2**26  # bytes of a file that are mapped at a time
_BESIDE = 2**24  # bytes of slices that lie beside each other and are read at a time
_QUICK = 2**28  # bytes of a file that are read in much less than a second
_KEPT = 2  # slabs that are kept along each axis


@dataclasses.dataclass(frozen=True)
class Window:
    """Holds the range of densities that a slice shows.

    Attributes:
        low, high: densities that become the bytes 0 and 255.
        black, white: bytes that are black and white until somebody changes the contrast.

    >>> Window(0.0, 51.0).as_bytes(np.array([-1.0, 1.0, 51.0, np.nan])).tolist()
    [0, 5, 255, 0]
    """

    low: float
    high: float
    black: int = 0
    white: int = 255

    def as_bytes(self, values: np.ndarray) -> np.ndarray:
        """Return densities as uint8; NaN becomes 0."""
        if values.dtype.kind in "iu" and values.itemsize < 3 and values.size > 2**16:
            # There are fewer numbers than voxels, so they are converted once.
            numbers = np.dtype(f"u{values.itemsize}").newbyteorder(values.dtype.byteorder)
            every = np.arange(256**values.itemsize).astype(numbers)
            return self._as_bytes(every.view(values.dtype))[values.view(numbers)]
        return self._as_bytes(values)

    def _as_bytes(self, values: np.ndarray) -> np.ndarray:
        scaled = values.astype(np.float32)
        scaled -= np.float32(self.low)
        scaled *= np.float32(255 / (self.high - self.low))
        np.fmax(scaled, 0, out=scaled)  # which turns NaN into 0
        np.fmin(scaled, 255, out=scaled)
        return np.rint(scaled, out=scaled).astype(np.uint8)


def measure_window(volume: Readable) -> Window:
    """Return a window from percentiles of about a million voxels.

    Fill values, which parts of the volume without data repeat exactly, are left out, as are values
    that are not finite.

    Args:
        volume: ``(z, y, x)``, of any real type.

    >>> noise = np.random.default_rng(0).normal(5.0, 1.0, (16, 64, 64))
    >>> noise[:, :32] = 0
    >>> found = measure_window(noise)
    >>> round(found.low), round(found.high), found.black < 60, found.white > 190
    (2, 8, True, True)
    """
    values = _sample(volume).astype(np.float32)
    values = values[np.isfinite(values)]
    if volume.dtype.kind == "f" and values.size:
        found, counts = np.unique(values, return_counts=True)
        often = found[counts > _REPEATED * values.size]
        rest = values[~np.isin(values, often)]
        values = rest if rest.size else values
    if not values.size:
        return Window(0.0, 1.0)
    low, high = (float(v) for v in np.percentile(values, _ENDS))
    if low == high:
        low, high = low - 0.5, high + 0.5
    window = Window(low, high)
    black, white = window.as_bytes(np.percentile(values, _SHOWN)).tolist()
    return dataclasses.replace(window, black=black, white=max(white, black + 1))


def _sample(volume: Readable) -> np.ndarray:
    if isinstance(volume, np.ndarray):  # whole rows from all over, as they lie on disk
        order = _order(volume)
        rows = max(1, _SAMPLE // volume.shape[order[2]])
        index = [slice(None)] * 3
        for axis, count in zip(order[:2], (rows**0.5, rows**0.5), strict=True):
            index[axis] = slice(None, None, max(1, round(volume.shape[axis] / count)))
        part = volume[tuple(index)]
        prefetch(part)
        found = np.array(part).ravel()
        release(volume)
        return found
    edges = [min(64, n) for n in volume.shape]
    box = [slice(0, n) for n in volume.shape]
    starts = random_starts(box, edges, 8, distinct=True)
    parts = [tuple(slice(a, a + e) for a, e in zip(s, edges, strict=True)) for s in starts]
    return np.concatenate([np.asarray(volume[part]).ravel() for part in parts])


def _order(volume: np.ndarray) -> list[int]:
    """Return the axes, first the one whose slices lie together, last the one along the rows."""
    return np.argsort([-abs(s) for s in volume.strides], kind="stable").tolist()


class Slices:
    """Serves slices of a volume perpendicular to any axis as uint8.

    A slice of a memory map is read from disk directly where its voxels lie together. Where they
    do not, the slab of slices that share pages or chunks is read once and kept as bytes, so that
    the neighbours cost nothing: a few slices of the xz plane of an MRC file, and many of the yz
    plane and of all planes of compressed chunks. Calls may come from several threads.

    Args:
        volume: ``(z, y, x)``: an array, a memory map or chunks on disk.
        convert: function from a part of it to uint8 of the same shape.

    >>> ramp = Slices(np.arange(24).reshape(2, 3, 4), lambda values: values.astype(np.uint8))
    >>> ramp.plane(0, 1).tolist()
    [[12, 13, 14, 15], [16, 17, 18, 19], [20, 21, 22, 23]]
    >>> ramp.plane(2, 3).tolist()
    [[3, 15], [7, 19], [11, 23]]
    """

    def __init__(self, volume: Readable, convert: Convert):
        self.volume, self._convert = volume, convert
        self.shape = tuple(int(n) for n in volume.shape)
        self._locks = [threading.Lock() for _ in range(3)]
        self._slabs: list[collections.OrderedDict[int, np.ndarray]] = [
            collections.OrderedDict() for _ in range(3)
        ]

    def plane(self, axis: int, index: int) -> np.ndarray:
        """Return one slice as uint8 of rows and columns, see `planes`.

        Raises:
            ValueError: if there is no such slice.
        """
        check_plane(self.shape, axis, index)
        width = self._width(axis)
        if width == 1:
            return np.ascontiguousarray(as_plane(self._read(axis, index, index + 1), axis))
        number = index // width
        with self._locks[axis]:
            kept = self._slabs[axis]
            if number not in kept:
                kept[number] = self._read(
                    axis, number * width, min((number + 1) * width, self.shape[axis])
                )
            kept.move_to_end(number)
            while len(kept) > _KEPT:
                kept.popitem(last=False)
            slab = kept[number]
        within = index - number * width
        part = slab[(slice(None),) * axis + (slice(within, within + 1),)]
        return np.ascontiguousarray(as_plane(part, axis))

    def preview(self, axis: int, index: int) -> np.ndarray | None:
        """Return a coarse slice, where the whole one takes seconds to read.

        In a large memory map those are the slices across the rows, whose voxels lie all over the
        file; some of their rows are read. In chunks on disk those are the slices whose chunks hold
        very many voxels; the next coarser level is read.

        Returns:
            as `plane`; None where that is quick, or there is no coarser level.

        Raises:
            ValueError: if there is no such slice.
        """
        check_plane(self.shape, axis, index)
        if index // self._width(axis) in self._slabs[axis]:
            return None
        if hasattr(self.volume, "coarser"):  # `io.chunked.Chunked`
            found = self._of_coarser_level(self.volume, axis, index)
        else:
            found = self._of_some_rows(axis, index)
        return None if found is None else np.ascontiguousarray(as_plane(found, axis))

    def _of_coarser_level(self, volume: Any, axis: int, index: int) -> np.ndarray | None:
        sizes = [*self.shape]
        sizes[axis] = min(volume.chunks[axis], sizes[axis])
        if int(np.prod(sizes)) * volume.dtype.itemsize <= _QUICK // 4:  # is decoded more slowly
            return None
        coarse = volume.coarser()
        if coarse is None:
            return None
        where, places = [slice(None)] * 3, []
        for n, few in zip(self.shape, coarse.shape, strict=True):
            places.append(np.minimum(np.arange(n) * few // n, few - 1))
        at = int(places[axis][index])
        where[axis], places[axis] = slice(at, at + 1), np.zeros(1, int)
        return self._convert(coarse[tuple(where)])[np.ix_(*places)]

    def _of_some_rows(self, axis: int, index: int) -> np.ndarray | None:
        volume = self.volume
        if axis != 2 or not isinstance(volume, np.memmap) or volume.nbytes <= _QUICK:
            return None
        if not volume.flags.c_contiguous:
            return None
        step = -(-volume.nbytes // _QUICK)  # of whole sections, which disks read quickly
        found = np.empty(self.shape[:2], np.uint8)
        for start in range(0, len(found), step):
            z = min(start + step // 2, len(found) - 1)
            prefetch(volume[z])
            found[start : start + step] = self._convert(np.asarray(volume[z, :, index]))
            release(volume)
        return found[..., None]

    def _width(self, axis: int) -> int:
        """Return how many slices are read at a time."""
        voxels = max(1, int(np.prod(self.shape)) // self.shape[axis])
        most = max(1, min(_LARGEST // voxels, EDGE))
        if not isinstance(self.volume, np.ndarray):  # chunks on disk
            return most
        if isinstance(self.volume, np.memmap):
            place = _order(self.volume).index(axis)
            beside = _BESIDE // (voxels * self.volume.dtype.itemsize)
            return (1, max(1, min(beside, most)), most)[place]
        return 1

    def _read(self, axis: int, start: int, stop: int) -> np.ndarray:
        shape = list(self.shape)
        shape[axis] = stop - start
        result = np.empty(shape, np.uint8)
        along = 1 if axis == 0 else 0  # in parts along another axis, so that memory stays bounded
        whole = result.size // shape[along]
        step = max(1, _LARGEST // 8 // whole)
        if axis == 2 and isinstance(self.volume, np.memmap):  # which touches whole pages
            step = min(step, max(1, _MAPPED // self.volume[:1].nbytes))
        if not isinstance(self.volume, np.ndarray):
            step = EDGE
        for first in range(0, shape[along], step):
            where = [slice(None)] * 3
            where[along] = slice(first, min(first + step, shape[along]))
            source = [*where]
            source[axis] = slice(start, stop)
            if isinstance(self.volume, np.memmap) and axis != _order(self.volume)[2]:
                prefetch(self.volume[tuple(source)])
            result[tuple(where)] = self._convert(np.asarray(self.volume[tuple(source)]))
            release(self.volume)
        return result


def density_slices(volume: Readable) -> tuple[Slices, Window]:
    """Return the slices of a density, and the window that they show.

    >>> ramp = np.linspace(0, 1, 4096).reshape(16, 16, 16)
    >>> slices, window = density_slices(ramp)
    >>> int(slices.plane(0, 0).max()), int(slices.plane(0, 15).min())
    (16, 239)
    """
    window = measure_window(volume)
    return Slices(volume, window.as_bytes), window


def label_slices(volume: Readable) -> Slices:
    """Return the slices of labels from 0 to 254; other values become 255, which is not annotated.

    >>> label_slices(np.array([[[0, 3, -1, 300]]])).plane(0, 0).tolist()
    [[0, 3, 255, 255]]
    """

    def convert(values: np.ndarray) -> np.ndarray:
        return np.where((values < 0) | (values > 255), 255, values).astype(np.uint8)

    return Slices(volume, convert)


def probability_slices(volume: Readable) -> Slices:
    """Return the slices of probabilities from 0 to 1, as 0 to 255.

    >>> probability_slices(np.array([[[0.0, 0.2, 1.0]]])).plane(0, 0).tolist()
    [[0, 51, 255]]
    """
    return Slices(volume, Window(0.0, 1.0).as_bytes)
