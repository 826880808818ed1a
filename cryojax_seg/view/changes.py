"""Makes the changes of labels that messages of a page ask for."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from cryojax_seg.view.painting import Painting, Plane
from cryojax_seg.view.planes import COLUMNS, ROWS
from cryojax_seg.view.strokes import cleaned

_SPECK_NM = 10.0  # specks and holes are smaller than the square of this

Message = dict[str, Any]


@runtime_checkable
class Layer(Protocol):
    """Represents anything that has slices of bytes."""

    def plane(self, axis: int, index: int) -> np.ndarray | None:
        """Return one slice as uint8 of rows and columns; None where there is nothing."""
        ...


def plane_of(message: Message) -> Plane:
    """Return the slice that a message names.

    Raises:
        ValueError: if it names none.

    >>> plane_of({"axis": 0, "index": 3})
    (0, 3)
    """
    return _integer(message, "axis"), _integer(message, "index")


def _integer(message: Message, name: str) -> int:
    value = message.get(name)
    if type(value) is not int:
        raise ValueError(f"{name} must be an integer")
    return value


def _length(message: Message, name: str) -> float:
    value = message.get(name)
    if not isinstance(value, int | float) or not 0 <= value < 1e5:
        raise ValueError(f"{name} must be a length in nm")
    return float(value)


def _paste(painting: Painting, plane: Plane, prediction: Layer | None, clean: bool) -> bool:
    if prediction is None:
        raise ValueError("there is no prediction to copy, as nothing learns from the strokes")
    values = prediction.plane(*plane)
    if values is None:
        raise ValueError("this slice has no prediction yet; paint a class and background first")
    values = np.where(values == 255, 0, values)
    if clean:
        axis, _ = plane
        pixel = painting.voxel_nm[ROWS[axis]] * painting.voxel_nm[COLUMNS[axis]]
        values = cleaned(values, max(1, round(_SPECK_NM**2 / pixel)))
    return painting.paste(plane, values)


_Change = Callable[[Painting, Message, Layer | None], bool]

# What a message of each type does to the labels; whether anything changed is returned. Each raises
# a ValueError for a message that cannot be followed.
CHANGES: Mapping[str, _Change] = {
    "stroke": lambda painting, m, _: painting.stroke(
        plane_of(m), m.get("points"), _length(m, "radius_nm"), _integer(m, "value")
    ),
    "line": lambda painting, m, _: painting.line(
        plane_of(m), m.get("points"), _length(m, "thickness_nm"), _integer(m, "value")
    ),
    "fill": lambda painting, m, _: painting.fill(plane_of(m), m.get("point"), _integer(m, "value")),
    "complete": lambda painting, m, _: painting.complete(plane_of(m)),
    "paste": lambda painting, m, prediction: _paste(
        painting, plane_of(m), prediction, m.get("clean") is True
    ),
    "undo": lambda painting, m, _: painting.undo(plane_of(m)),
    "redo": lambda painting, m, _: painting.redo(plane_of(m)),
}
