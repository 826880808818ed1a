"""Holds the labels that somebody paints, slice by slice, with undo and redo."""

import collections
import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cryojax_seg.core.names import label_names
from cryojax_seg.core.plain import Shape
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.view import strokes
from cryojax_seg.view.planes import (
    COLUMNS,
    ROWS,
    as_plane,
    as_slab,
    box_of,
    check_plane,
    plane_shape,
)

UNKNOWN = -1  # nobody has annotated the voxel; signed bytes store the ignore value 255 so
EXCLUDED = -2  # the voxel shall stay without annotation; see `excluded` for how it is stored
_STEPS = 200  # changes of a slice that can be undone

Plane = tuple[int, int]  # axis that it is perpendicular to, and index along it
Box = tuple[slice, slice, slice]


@dataclasses.dataclass(frozen=True)
class _Change:
    """What a part of the volume held before and after a change."""

    box: Box
    before: np.ndarray
    after: np.ndarray


class Painting:
    """Holds the labels of a tomogram while they are painted.

    A voxel is annotated where somebody painted a class or background (0), and nowhere else, so an
    `Example` of it has weight 0 elsewhere. `complete` declares a slice as complete: what nobody
    painted on it becomes background, save what was excluded.

    Only the xy slices that hold anything are in memory, and a change replaces a slice instead of
    writing into it, so that `slices` can be written to disk while painting goes on. Calls may come
    from several threads.

    Args:
        tomogram: what is annotated; its voxel size is needed, since brushes have a size in nm.
        classes: names of the classes, background first if there are several, as in
            `core.Segmenter`.
        slices: labels that are there already, int8 ``(y, x)`` by z.

    Raises:
        ParameterError: if the voxel size is unknown.

    >>> tomogram = Tomogram(np.zeros((4, 5, 6), np.float32), voxel_size=(10.0, 10.0, 10.0))
    >>> painting = Painting(tomogram, ("membrane",))
    >>> painting.stroke((0, 2), [[2, 2]], radius_nm=1.0, value=1)
    True
    >>> int((painting.plane((0, 2)) == 1).sum()), painting.annotated()
    (5, (2,))
    >>> painting.undo((0, 2)), painting.annotated()
    (True, ())
    """

    def __init__(
        self,
        tomogram: Tomogram,
        classes: Sequence[str] = ("foreground",),
        slices: Mapping[int, np.ndarray] | None = None,
    ):
        self.voxel_nm = tuple(size / 10 for size in tomogram.require_voxel_size())
        self.shape: Shape = tuple(int(n) for n in tomogram.density.shape)
        self.classes = tuple(classes)
        self._slices = dict(slices or {})
        self._done: dict[Plane, collections.deque[_Change]] = {}
        self._undone: dict[Plane, list[_Change]] = {}
        self._lock = threading.RLock()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the labels 0, 1, 2, ..."""
        return label_names(self.classes)

    def slices(self) -> dict[int, np.ndarray]:
        """Return the xy slices that hold labels, by z; they do not change any more."""
        with self._lock:
            return dict(self._slices)

    def plane(self, plane: Plane) -> np.ndarray:
        """Return the labels of a slice as int8 of rows and columns, see `planes`.

        Raises:
            ValueError: if there is no such slice.
        """
        axis, index = plane
        check_plane(self.shape, axis, index)
        rows, columns = plane_shape(self.shape, axis)
        return self._part(plane, (slice(0, rows), slice(0, columns)))

    def stroke(self, plane: Plane, points: Any, radius_nm: float | int, value: int) -> bool:
        """Paint what is within a radius of a polyline.

        Args:
            plane: axis and index of the slice.
            points: ``(n, 2)``, rows and columns of the slice.
            radius_nm: radius of the brush in nm.
            value: label, or `UNKNOWN` to erase, or `EXCLUDED`.

        Returns:
            whether anything changed.

        Raises:
            ValueError: for a slice, a label, a radius or points that do not exist.
        """
        shape, spacing = self._checked(plane, value)
        return self._paint(plane, *strokes.stroke(shape, points, radius_nm, spacing), value)

    def line(self, plane: Plane, points: Any, thickness_nm: float | int, value: int) -> bool:
        """Paint a band of this thickness in nm along a smooth curve; otherwise as `stroke`."""
        shape, spacing = self._checked(plane, value)
        return self._paint(plane, *strokes.line(shape, points, thickness_nm, spacing), value)

    def fill(self, plane: Plane, point: Any, value: int) -> bool:
        """Paint the connected region of equal labels around a point; otherwise as `stroke`."""
        self._checked(plane, value)
        return self._paint(plane, *strokes.fill(self.plane(plane), point), value)

    def complete(self, plane: Plane) -> bool:
        """Declare a slice as complete: all that nobody annotated on it becomes background."""
        self._checked(plane, 0)
        labels = self.plane(plane)
        return self._paint(plane, _whole(labels), labels == UNKNOWN, 0)

    def paste(self, plane: Plane, labels: np.ndarray) -> bool:
        """Copy labels, such as a prediction, to where nobody annotated the slice.

        Args:
            plane: axis and index of the slice.
            labels: ``(row, column)``, 0 where there is none; that is not copied.

        Raises:
            ValueError: if the labels do not fit the slice or the classes.
        """
        shape, _ = self._checked(plane, 0)
        if labels.shape != shape or labels.max(initial=0) >= len(self.names):
            raise ValueError(f"labels of shape {shape} and of {', '.join(self.names)} are needed")
        mask = (self.plane(plane) == UNKNOWN) & (labels > 0)
        return self._paint(plane, _whole(labels), mask, labels.astype(np.int8))

    def undo(self, plane: Plane) -> bool:
        """Undo the last change of a slice, and return whether there was one.

        A voxel that another change has painted since, on a slice across this one, stays.
        """
        with self._lock:
            if not self._done.get(plane):
                return False
            change = self._done[plane].pop()
            self._undone.setdefault(plane, []).append(change)
            self._exchange(change.box, change.after, change.before)
            return True

    def redo(self, plane: Plane) -> bool:
        """Make the change of a slice that was undone last, and return whether there was one."""
        with self._lock:
            if not self._undone.get(plane):
                return False
            change = self._undone[plane].pop()
            self._done[plane].append(change)
            self._exchange(change.box, change.before, change.after)
            return True

    def steps(self, plane: Plane) -> tuple[int, int]:
        """Return how many changes of a slice can be undone and redone."""
        return len(self._done.get(plane, ())), len(self._undone.get(plane, ()))

    def add_class(self, name: str) -> None:
        """Add a class after the others.

        Raises:
            ValueError: if the name is empty or taken.
        """
        name = " ".join(name.split())
        if not name or name in self.names or "," in name:
            raise ValueError(f"{name!r} is empty, taken or has a comma; choose another name")
        with self._lock:
            self.classes = (*(self.classes if len(self.classes) > 1 else self.names), name)

    def annotated(self) -> tuple[int, ...]:
        """Return the indices z of the slices with annotated voxels."""
        return tuple(z for z, labels in sorted(self.slices().items()) if (labels >= 0).any())

    def counts(self) -> dict[str, int]:
        """Return the number of annotated voxels of each label, background first."""
        slices = self.slices().values()
        return {
            name: sum(int((labels == value).sum()) for labels in slices)
            for value, name in enumerate(self.names)
        }

    def _checked(self, plane: Plane, value: int) -> tuple[tuple[int, int], tuple[float, float]]:
        """Return the shape and the spacing in nm of a slice."""
        axis, index = plane
        check_plane(self.shape, axis, index)
        if not EXCLUDED <= value < len(self.names):
            raise ValueError(f"there is no label {value}; the last one is {len(self.names) - 1}")
        return plane_shape(self.shape, axis), (
            self.voxel_nm[ROWS[axis]],
            self.voxel_nm[COLUMNS[axis]],
        )

    def _part(self, plane: Plane, part: strokes.Part) -> np.ndarray:
        return as_plane(self._read(box_of(*plane, *part)), plane[0])

    def _read(self, box: Box) -> np.ndarray:
        z, y, x = box
        shape = tuple(s.stop - s.start for s in box)
        result = np.full(shape, UNKNOWN, np.int8)
        slices = self.slices()
        for number, index in enumerate(range(z.start, z.stop)):
            if index in slices:
                result[number] = slices[index][y, x]
        return result

    def _paint(
        self, plane: Plane, part: strokes.Part, mask: np.ndarray, value: int | np.ndarray
    ) -> bool:
        with self._lock:
            before = self._part(plane, part)
            after = np.where(mask, np.asarray(value, np.int8), before)
            if (after == before).all():
                return False
            box = box_of(*plane, *part)
            change = _Change(box, as_slab(before, plane[0]), as_slab(after, plane[0]))
            self._done.setdefault(plane, collections.deque(maxlen=_STEPS)).append(change)
            self._undone.pop(plane, None)
            self._exchange(box, change.before, change.after)
            return True

    def _exchange(self, box: Box, old: np.ndarray, new: np.ndarray) -> None:
        """Write the new values of a box where it holds the old ones."""
        z, y, x = box
        for number, index in enumerate(range(z.start, z.stop)):
            if index in self._slices:
                labels = self._slices[index].copy()
            else:
                labels = np.full(self.shape[1:], UNKNOWN, np.int8)
            here = labels[y, x]
            labels[y, x] = np.where(here == old[number], new[number], here)
            if (labels == UNKNOWN).all():
                self._slices.pop(index, None)
            else:
                self._slices[index] = labels


def _whole(plane: np.ndarray) -> strokes.Part:
    return slice(0, plane.shape[0]), slice(0, plane.shape[1])


def sections(slices: Mapping[int, np.ndarray], shape: Shape) -> Iterator[np.ndarray]:
    """Yield all xy slices as they are stored: int8, -1 where nobody annotated.

    Args:
        slices: of a `Painting`.
        shape: ``(z, y, x)``.

    >>> [s.tolist() for s in sections({1: np.array([[1, EXCLUDED]], np.int8)}, (2, 1, 2))]
    [[[-1, -1]], [[1, -1]]]
    """
    empty = np.full(shape[1:], UNKNOWN, np.int8)
    for z in range(shape[0]):
        yield np.maximum(slices[z], UNKNOWN) if z in slices else empty
