"""Predicts single slices and slabs of a volume, and keeps what was predicted."""

import threading
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from cryojax_seg.view.painting import Plane
from cryojax_seg.view.planes import as_plane

if TYPE_CHECKING:  # the page is there before JAX is loaded
    from cryojax_seg.core import Segmenter

_LARGEST = 2**30  # bytes of a file of which planes across its rows are predicted
_EDGE = 512  # voxels; larger planes are divided, to save memory


def logits_of_box(segmenter: "Segmenter", volume: Any, box: tuple[slice, ...]) -> np.ndarray:
    """Return the logits ``(z, y, x, class)`` of a part of a volume, from what matters to them.

    Parts of equal thickness share a program.

    Args:
        segmenter: a local segmenter.
        volume: ``(z, y, x)``, normalized; `core.Normalized` will do.
        box: the part.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> volume = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    >>> logits_of_box(GlobalThreshold(0.5), volume, np.s_[1:2, 0:3, 1:2])[..., 0].tolist()
    [[[12.5], [16.5], [20.5]]]
    """
    from cryojax_seg.core import apply
    from cryojax_seg.core.tiling import Tiling

    stride = segmenter.stride

    def up(n: int) -> int:
        return -(-n // stride) * stride

    origin = tuple(part.start // stride * stride for part in box)
    before = [part.start - start for part, start in zip(box, origin, strict=True)]
    shape = tuple(part.stop - start for part, start in zip(box, origin, strict=True))
    thickness = [part.stop - part.start for part in box]
    tile = tuple(up(-(-n // -(-n // _EDGE))) for n in thickness)  # of equal edges
    found = apply(segmenter, volume, Tiling(shape, tile, up(segmenter.halo), origin))
    return found[tuple(slice(n, None) for n in before)]


def logits_of_slice(segmenter: "Segmenter", volume: Any, plane: Plane) -> np.ndarray:
    """Return the logits ``(row, column, class)`` of one slice; see `logits_of_box`.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> volume = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    >>> logits_of_slice(GlobalThreshold(0.5), volume, (2, 1))[..., 0].tolist()
    [[0.5, 12.5], [4.5, 16.5], [8.5, 20.5]]
    """
    axis, index = plane
    box = [slice(0, n) for n in volume.shape]
    box[axis] = slice(index, index + 1)
    found = logits_of_box(segmenter, volume, tuple(box))
    return np.stack([as_plane(found[..., c], axis) for c in range(found.shape[-1])], -1)


def predictable_axes(density: Any) -> tuple[int, ...]:
    """Return the axes whose planes can be predicted without reading all of a large file.

    >>> predictable_axes(np.zeros((2, 3, 4)))
    (0, 1, 2)
    """
    small = not isinstance(density, np.memmap) or density.nbytes < _LARGEST
    return (0, 1, 2) if small and isinstance(density, np.ndarray) else (0, 1)


class Predictions:
    """Keeps the predicted labels of single slices, compressed.

    >>> kept = Predictions()
    >>> kept.put((0, 3), np.ones((2, 2), np.uint8))
    >>> int(kept.plane(0, 3).sum()), kept.plane(0, 4)
    (4, None)
    """

    def __init__(self) -> None:
        self._slices: dict[Plane, tuple[tuple[int, ...], bytes]] = {}
        self._lock = threading.Lock()

    def __contains__(self, plane: Plane) -> bool:
        with self._lock:
            return plane in self._slices

    def plane(self, axis: int, index: int) -> np.ndarray | None:
        """Return the labels of a slice as uint8 of rows and columns; None if it has none."""
        with self._lock:
            found = self._slices.get((axis, index))
        if found is None:
            return None
        shape, packed = found
        return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(shape)

    def put(self, plane: Plane, values: np.ndarray) -> None:
        """Keep the labels of a slice."""
        packed = zlib.compress(values.astype(np.uint8).tobytes(), 1)
        with self._lock:
            self._slices[plane] = values.shape, packed

    def keep_only(self, planes: set[Plane]) -> None:
        """Forget all slices but these."""
        with self._lock:
            for plane in [p for p in self._slices if p not in planes]:
                del self._slices[plane]
