"""Tells which object and class each voxel of a slice or a projection belongs to."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from cryojax_seg.core.blocks import Readable, release
from cryojax_seg.measure import MeasuredClass, Measurements

_CROWD = 0.3  # share of a projection that complexes, or labels without numbers, may cover
_NEAR = 1.5  # voxels from a plane at which the axis of a filament lies in it
Mark = tuple[str, int, float, float]  # number, class and place, in voxels of the slice


@runtime_checkable
class Planes(Protocol):
    """Tells which object and class each voxel of a slice or a projection belongs to."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of the volume."""
        ...

    def plane(self, axis: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the class (1, 2, ... in the order of colours) and the object of each voxel."""
        ...

    def projection(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the same along an axis, of the object nearest to the viewer."""
        ...

    def number(self, own: int) -> str:
        """Return the number that an object of `plane` has in the tables; empty for none."""
        ...

    def axes(self, axis: int, index: int | None) -> list[Mark]:
        """Return the numbers of filaments at their axes, in a plane or in a projection (None)."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredPlanes:
    """Draws measured objects with their numbers, which filaments have at their axes."""

    found: Measurements
    shape: tuple[int, int, int]

    def number(self, own: int) -> str:
        return self._numbers.get(own, "")

    @functools.cached_property
    def _numbers(self) -> dict[int, str]:
        """Return the numbers in the tables of the objects of all classes but filaments."""
        return {
            before + own: str(name)
            for before, one in zip(self._before, self._classes, strict=True)
            if one.kind != "filament"
            for own, name in one.boxes.names.items()
        }

    @functools.cached_property
    def _before(self) -> list[int]:
        """Return for each class the largest number of an object of the classes before it."""
        most = [max(one.boxes.values(), default=0) for one in self._classes]
        return [0, *itertools.accumulate(most)][:-1]

    @property
    def _classes(self) -> list[MeasuredClass]:
        return list(self.found.classes.values())

    def plane(self, axis: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        across = [n for a, n in enumerate(self.shape) if a != axis]
        hues, owns = np.zeros(across, np.uint8), np.zeros(across, np.int32)
        cut = tuple(index if a == axis else slice(None) for a in range(3))
        for hue, (before, one) in enumerate(zip(self._before, self._classes, strict=True), 1):
            if one.boxes:
                numbers = np.asarray(one.boxes.numbers[cut])
                hues[numbers > 0] = hue
                owns[numbers > 0] = before + numbers[numbers > 0]
                release(one.boxes.numbers)
        return hues, owns

    def projection(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        across = [n for a, n in enumerate(self.shape) if a != axis]
        hues, owns = np.zeros(across, np.uint8), np.zeros(across, np.int32)
        shadows = []
        for hue, (before, one) in enumerate(zip(self._before, self._classes, strict=True), 1):
            if not one.boxes or self._crowded(one, axis):
                continue
            for number, box in zip(one.boxes.values(), one.boxes, strict=True):
                shadow = np.asarray(box.mask.any(axis))
                shadows.append((box.mask.size, hue, before + number, box.start, shadow))
        for _, hue, own, start, shadow in sorted(shadows, key=lambda s: -s[0]):
            paint(hues, owns, axis, start, shadow, hue, own)
        return hues, owns

    def axes(self, axis: int, index: int | None) -> list[Mark]:
        found = []
        for hue, one in enumerate(self._classes, 1):
            for row, line in zip(one.rows, one.axes, strict=False):
                step = 10 * min(one.voxel_nm)
                points = line.at(line.arc_lengths_angstrom(step)) / (10 * np.array(one.voxel_nm))
                if index is not None:
                    points = points[abs(points[:, axis] - index) <= _NEAR]
                if len(points):
                    y, x = np.delete(points[len(points) // 2], axis).tolist()
                    found.append((str(row["instance"]), hue, y, x))
        return found

    def _crowded(self, one: MeasuredClass, axis: int) -> bool:
        """Return whether complexes would hide all other classes in a projection."""
        if one.kind != "complex" or not one.boxes or len(self._classes) == 1:
            return False
        return bool(any_along(one.boxes.numbers, axis).mean() > _CROWD)


@dataclasses.dataclass(frozen=True, eq=False)
class LabelPlanes:
    """Draws the classes of a label volume that may stay on disk, without numbers."""

    labels: Readable

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = self.labels.shape
        return z, y, x

    def number(self, own: int) -> str:
        return ""

    def axes(self, axis: int, index: int | None) -> list[Mark]:
        return []

    def plane(self, axis: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        cut = tuple(index if a == axis else slice(None) for a in range(3))
        values = np.maximum(np.asarray(self.labels[cut]), 0).astype(np.uint8)
        return values, np.zeros(values.shape, np.int32)

    def projection(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the classes along an axis, without those that would hide the others."""
        across = [n for a, n in enumerate(self.shape) if a != axis]
        found = np.zeros(across, np.uint8)
        shadows = {label: any_along(self.labels, axis, label) for label in self._present}
        for label in sorted(shadows, key=lambda one: -shadows[one].sum()):  # small ones on top
            if len(shadows) == 1 or shadows[label].mean() <= _CROWD:
                found[shadows[label]] = label
        return found, np.zeros(found.shape, np.int32)

    @functools.cached_property
    def _present(self) -> list[int]:
        """Return the labels that occur."""
        sections = (np.unique(np.asarray(self.labels[z])).tolist() for z in range(self.shape[0]))
        return sorted(label for label in set(itertools.chain(*sections)) if label > 0)


def any_along(volume: Any, axis: int, value: int | None = None) -> np.ndarray:
    """Return where a volume that may stay on disk holds a value along an axis; None for any but 0.

    >>> any_along(np.array([[[0, 2]], [[0, 1]]]), 0, 1).tolist()
    [[False, True]]
    """
    sections = (np.asarray(volume[z]) for z in range(volume.shape[0]))
    parts = ((section == value) if value else (section != 0) for section in sections)
    if axis == 0:
        return functools.reduce(np.logical_or, parts)
    return np.stack([np.asarray(part.any(axis - 1)) for part in parts])


def paint(hues, owns, axis: int, start: Sequence[int], part: np.ndarray, hue, own) -> None:
    """Write an object into a slice, where its part is not empty."""
    corner = [s for a, s in enumerate(start) if a != axis]
    box = tuple(slice(s, s + n) for s, n in zip(corner, part.shape, strict=True))
    hues[box][part] = hue
    owns[box][part] = own
