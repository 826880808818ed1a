"""Counts the labels of a segmentation tile by tile, and notices if they look inverted."""

import numpy as np

from cryojax_seg.core import Normalized

_SAMPLE = 4  # step along each axis at which intensities are compared
_WHOLE = 2**21  # voxels; smaller volumes are compared whole


class Shares:
    """Adds up the labels of tiles and the intensities outside and inside of what they segment.

    Args:
        volume: the normalized tomogram.
        names: of all labels, background first.

    >>> from cryojax_seg.core import Intensity
    >>> bright = np.array([[[0.0, 0.0, 4.0, 5.0]]], np.float32)
    >>> shares = Shares(Normalized(bright, Intensity(0.0, 1.0)), ("background", "membrane"))
    >>> shares.add(np.s_[0:1, 0:1, 0:4], np.array([[[0, 0, 0, 1]]], np.int8))
    >>> shares.of_classes(), shares.inverted
    ({'membrane': 0.25}, False)
    """

    def __init__(self, volume: Normalized, names: tuple[str, ...]):
        self._volume, self._names = volume, names
        self._counts = np.zeros(len(names), np.int64)
        self._sums, self._voxels = np.zeros(2), np.zeros(2)  # outside and inside
        self._step = _SAMPLE if np.prod(volume.shape) > _WHOLE else 1

    def add(self, where: tuple[slice, ...], labels: np.ndarray) -> None:
        """Add the labels of the tile at these slices of the volume."""
        inside = [int(np.count_nonzero(labels == i)) for i in range(1, len(self._names))]
        self._counts += [labels.size - sum(inside), *inside]
        some = tuple(slice(s.start, s.stop, self._step) for s in where)
        found = (labels[(slice(None, None, self._step),) * 3] > 0).ravel()
        self._voxels += np.bincount(found, minlength=2)
        self._sums += np.bincount(found, self._volume[some].ravel(), minlength=2)

    def replaced(self, former: np.ndarray, labels: np.ndarray) -> None:
        """Count labels that were replaced."""
        for sign, block in ((-1, former), (1, labels)):
            self._counts += sign * np.bincount(block.ravel(), minlength=len(self._names))

    def of_classes(self) -> dict[str, float]:
        """Return the share of the voxels of each class except the background."""
        shares = self._counts / max(self._counts.sum(), 1)
        return {name: float(shares[i]) for i, name in enumerate(self._names) if i}

    @property
    def inverted(self) -> bool:
        """Return whether what was segmented is darker than its surroundings."""
        if not self._voxels.all():
            return False
        outside, inside = self._sums / self._voxels
        return bool(inside < outside - 0.1)
