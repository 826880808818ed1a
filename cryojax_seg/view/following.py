"""Predicts a whole volume, slab by slab, and keeps how much its annotation would tell."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from cryojax_seg.core.plain import Shape
from cryojax_seg.view.predictions import Predictions, logits_of_box
from cryojax_seg.view.suggestions import gains, ranked, ranked_boxes

_SLAB = 16  # slices that are predicted together, since they share the context of a network
_CANDIDATES = 8  # slabs all over the volume that are compared at least
_BOX_NM = 60.0  # edge of a suggested box

Item = dict[str, Any]


class Following:
    """Follows a segmenter through a volume: predictions of all slices, and gains of annotation.

    Args:
        predictions: take the labels.
        shape: of the volume.
        voxel_nm: of its voxels (z, y, x).
        stride: of the segmenter; slabs begin at multiples.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> volume = np.random.default_rng(0).normal(size=(20, 8, 8)).astype(np.float32)
    >>> following = Following(Predictions(), volume.shape, (1.0, 1.0, 1.0))
    >>> following.next(19), following.follow(GlobalThreshold(0.5), volume, 16)
    (16, [16, 17, 18, 19])
    >>> following.next(19), [item["index"] for item in following.slices(annotated=[17])]
    (0, [19, 18, 16])
    """

    def __init__(
        self,
        predictions: Predictions,
        shape: Shape,
        voxel_nm: tuple[float, ...],
        stride: int = 1,
    ):
        self._predictions, self._shape = predictions, shape
        self._voxel_nm = voxel_nm
        self._depth = max(_SLAB // stride, 1) * stride
        # Boxes of about this size, and alike.
        rows, columns = (
            -(-n // max(round(n * size / _BOX_NM), 1))
            for size, n in zip(voxel_nm[1:], shape[1:], strict=True)
        )
        self._edge = rows, columns
        self._gains: dict[int, np.ndarray] = {}

    def next(self, middle: int) -> int | None:
        """Return the first slice of the nearest slab that is not predicted; None if all are."""
        starts = range(0, self._shape[0], self._depth)
        missing = [start for start in starts if self._last(start) not in self._gains]
        return min(missing, key=lambda start: abs(start + self._depth / 2 - middle), default=None)

    def candidate(self) -> int | None:
        """Return a slab that must be predicted before slices are compared; None if there is none.

        Those that are compared lie all over the volume.
        """
        count = -(-self._shape[0] // self._depth)
        spread = np.linspace(0, count - 1, min(count, _CANDIDATES)).round().astype(int)
        starts = [int(number) * self._depth for number in spread]
        return next((start for start in starts if self._last(start) not in self._gains), None)

    def follow(
        self, segmenter: Any, volume: Any, start: int, calibration: Any = None, wedge: Any = None
    ) -> list[int]:
        """Predict a slab, and return its slices.

        Args:
            segmenter: what was learned.
            volume: ``(z, y, x)``, normalized.
            start: first slice, as `next` or `candidate` returns it.
            calibration, wedge: as in `gains`.
        """
        from cryojax_seg.core import labels

        slices = range(start, self._last(start) + 1)
        box = (slice(start, slices.stop), *(slice(0, n) for n in self._shape[1:]))
        logits = logits_of_box(segmenter, volume, box)
        found = np.asarray(labels(logits)).astype(np.uint8)
        worth = gains(logits, self._edge, calibration, wedge)
        for z, plane, gain in zip(slices, found, worth, strict=True):
            self._predictions.put((0, z), plane)
            self._gains[z] = gain
        return list(slices)

    def slices(self, annotated: Iterable[int]) -> list[Item]:
        """Return the slices that are worth most to annotate, as a page shows them."""
        mean = {z: float(gain.mean()) for z, gain in self._gains.items()}
        return [
            {"index": z, "text": f"Slice {z} has an expected gain of {gain:.3f}"}
            for z, gain in ranked(mean, annotated, self._voxel_nm[0])
        ]

    def boxes(self, labels: dict[int, np.ndarray]) -> list[Item]:
        """Return the boxes of slices that are worth most to annotate, as a page shows them.

        Args:
            labels: ``(y, x)`` of annotated slices, negative where nobody annotated.
        """
        rows, columns = self._edge
        parts = [
            np.insert(np.unique(np.argwhere(plane >= 0) // self._edge, axis=0), 0, z, axis=1)
            for z, plane in labels.items()
        ]
        annotated = np.concatenate(parts) if parts else np.empty((0, 3), int)
        size = (self._voxel_nm[0], rows * self._voxel_nm[1], columns * self._voxel_nm[2])
        return [
            {
                "index": z,
                "box": [
                    *(row * rows, column * columns),
                    min((row + 1) * rows, self._shape[1]),
                    min((column + 1) * columns, self._shape[2]),
                ],
                "text": f"This box of slice {z} has an expected gain of {gain:.3f}",
            }
            for (z, row, column), gain in ranked_boxes(self._gains, annotated, size)
        ]

    def _last(self, start: int) -> int:
        return min(start + self._depth, self._shape[0]) - 1
