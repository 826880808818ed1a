"""Predicts single slices of a volume, and keeps what was predicted."""

import collections
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from cryojax_seg.view.painting import Plane
from cryojax_seg.view.planes import as_plane

if TYPE_CHECKING:  # the page is there before JAX is loaded
    from cryojax_seg.core import Segmenter

KEPT = 256  # slices whose prediction is kept


def logits_of_slice(
    segmenter: "Segmenter", volume: Any, plane: Plane, around: int = 0
) -> np.ndarray:
    """Return the logits of one slice and of some around it, from the slab that matters to them.

    Args:
        segmenter: a local segmenter.
        volume: ``(z, y, x)``, normalized; `core.Normalized` will do.
        plane: axis and index of the slice.
        around: slices on each side that are computed too, fewer at the faces of the volume.

    Returns:
        ``(slice, row, column, class)``.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> volume = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    >>> logits_of_slice(GlobalThreshold(0.5), volume, (2, 1))[0, ..., 0].tolist()
    [[0.5, 12.5], [4.5, 16.5], [8.5, 20.5]]
    """
    from cryojax_seg.core import apply
    from cryojax_seg.core.tiling import Tiling

    axis, index = plane
    stride, n = segmenter.stride, volume.shape[axis]
    halo = -(-segmenter.halo // stride) * stride
    low, high = max(index - around, 0), min(index + around + 1, n)
    start = low // stride * stride
    shape, origin = [int(length) for length in volume.shape], [0, 0, 0]
    shape[axis], origin[axis] = high - start, start
    # One shape of tile for every slice, so that one program serves all.
    tile = [-(-length // stride) * stride for length in shape]
    tile[axis] = -(-(2 * around + stride) // stride) * stride
    found = apply(segmenter, volume, Tiling(tuple(shape), tuple(tile), halo, tuple(origin)))
    wanted = np.moveaxis(found, axis, 0)[low - start :]
    parts = [np.moveaxis(part[None], 0, axis) for part in wanted]
    return np.stack(
        [
            np.stack([as_plane(part[..., c], axis) for c in range(part.shape[-1])], -1)
            for part in parts
        ]
    )


class Predictions:
    """Keeps the predicted labels of single slices; the oldest go first.

    >>> kept = Predictions()
    >>> kept.put((0, 3), np.ones((2, 2), np.uint8))
    >>> int(kept.plane(0, 3).sum()), kept.plane(0, 4)
    (4, None)
    """

    def __init__(self) -> None:
        self._slices: collections.OrderedDict[Plane, np.ndarray] = collections.OrderedDict()
        self._lock = threading.Lock()

    def plane(self, axis: int, index: int) -> np.ndarray | None:
        """Return the labels of a slice as uint8 of rows and columns; None if it has none."""
        with self._lock:
            return self._slices.get((axis, index))

    def put(self, plane: Plane, values: np.ndarray) -> None:
        """Keep the labels of a slice."""
        with self._lock:
            self._slices.pop(plane, None)
            self._slices[plane] = values
            while len(self._slices) > KEPT:
                self._slices.popitem(last=False)

    def keep_only(self, planes: set[Plane]) -> None:
        """Forget all slices but these."""
        with self._lock:
            for plane in [p for p in self._slices if p not in planes]:
                del self._slices[plane]
