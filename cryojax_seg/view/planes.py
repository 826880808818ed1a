"""Names the three orthogonal planes of a volume, and their rows and columns.

A plane is given by the axis it is perpendicular to. Rows and columns of the xy plane are y and x,
of the xz plane z and x, and of the yz plane y and z, so that the three fit together on a page: the
xz plane shares the columns of the xy plane, and the yz plane its rows.
"""

from typing import Any

import numpy as np

from cryojax_seg.core.plain import Shape

ROWS = {0: 1, 1: 0, 2: 1}  # axis of the volume that the rows of a plane run along
COLUMNS = {0: 2, 1: 2, 2: 0}


def plane_shape(shape: Shape, axis: int) -> tuple[int, int]:
    """Return the number of rows and columns of the planes perpendicular to an axis.

    >>> [plane_shape((2, 3, 4), axis) for axis in range(3)]
    [(3, 4), (2, 4), (3, 2)]
    """
    return shape[ROWS[axis]], shape[COLUMNS[axis]]


def as_plane(slab: np.ndarray, axis: int) -> np.ndarray:
    """Return a slab ``(z, y, x)`` of one voxel along an axis as an array of rows and columns.

    >>> as_plane(np.arange(6).reshape(2, 3, 1), 2).tolist()
    [[0, 3], [1, 4], [2, 5]]
    """
    plane = slab[(slice(None),) * axis + (0,)]
    return plane.T if ROWS[axis] > COLUMNS[axis] else plane


def as_slab(plane: np.ndarray, axis: int) -> np.ndarray:
    """Return a plane as a slab ``(z, y, x)`` of one voxel along its axis, as `as_plane` takes it.

    >>> as_slab(np.array([[0, 3], [1, 4], [2, 5]]), 2).shape
    (2, 3, 1)
    """
    ordered = plane.T if ROWS[axis] > COLUMNS[axis] else plane
    return np.expand_dims(ordered, axis)


def box_of(axis: int, index: int, rows: slice, columns: slice) -> tuple[slice, slice, slice]:
    """Return the box ``(z, y, x)`` of a part of a plane.

    >>> box_of(2, 7, slice(0, 3), slice(4, 6))
    (slice(4, 6, None), slice(0, 3, None), slice(7, 8, None))
    """
    box: list[Any] = [None] * 3
    box[axis], box[ROWS[axis]], box[COLUMNS[axis]] = slice(index, index + 1), rows, columns
    return box[0], box[1], box[2]


def check_plane(shape: Shape, axis: int, index: int) -> None:
    """Raise a ValueError unless a volume has this plane.

    >>> check_plane((2, 3, 4), 0, 2)
    Traceback (most recent call last):
    ValueError: there is no slice 2 along z; the volume has slices 0 to 1
    """
    if axis not in ROWS:
        raise ValueError(f"an axis is 0, 1 or 2 (z, y or x), got {axis}")
    if not 0 <= index < shape[axis]:
        raise ValueError(
            f"there is no slice {index} along {'zyx'[axis]}; the volume has slices 0 to "
            f"{shape[axis] - 1}"
        )
