"""Adds to the rows of measured objects how they lie to the other classes."""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cryojax_seg.measure.boxes import ObjectBoxes
from cryojax_seg.measure.enclosure import Body, axis_body, enclosures
from cryojax_seg.measure.outlines import gaps

if TYPE_CHECKING:
    from cryojax_seg.measure.results import MeasuredClass

Progress = Callable[[str, int, int], None]
_TOUCHING = 3.0  # nm between surfaces in contact, unless a voxel is larger
_GAP = 20.0  # nm, of a membrane that still encloses what is behind it
_HOSTS = ("membrane", "organelle")


def add_gaps(
    found: Mapping[str, "MeasuredClass"],
    spacing_nm: float,
    report: Progress,
    touching_nm: float | None = None,
) -> None:
    """Add to each row the distances of the object to every other class, and its area in contact.

    A row of another class than X gets ``distance_to_X_min_nm``, ``_mean_nm`` and ``_centre_nm``,
    and ``contact_with_X_nm2``, the area of its surface within the distance `touching_nm` of the
    surface of X; of a filament ``contact_with_X_nm``, the length of its axis there.

    Args:
        found: the measured classes by name, whose rows are changed.
        spacing_nm: the largest edge of a voxel.
        report: called with "distances", the pairs of classes that are done and all pairs.
        touching_nm: the largest distance in contact; None for 3 nm or one voxel.
    """
    outlines = {}
    if len(found) > 1:
        outlines = {name: one.outlines() for name, one in found.items()}
    touching = max(_TOUCHING, spacing_nm) if touching_nm is None else touching_nm
    pairs = list(itertools.permutations(outlines, 2))
    for done, (name, other) in enumerate(pairs, 1):
        if outlines[other]:
            away = gaps(outlines[name], outlines[other], spacing_nm, touching)
            unit = "nm" if found[name].kind == "filament" else "nm2"
            for row, gap in zip(found[name].rows, away, strict=True):
                least, mean, centre, contact = gap or (None, None, None, None)
                row[f"distance_to_{other}_min_nm"] = least
                row[f"distance_to_{other}_mean_nm"] = mean
                row[f"distance_to_{other}_centre_nm"] = centre
                row[f"contact_with_{other}_{unit}"] = contact
        report("distances", done, len(pairs))


def add_enclosures(found: Mapping[str, "MeasuredClass"]) -> None:
    """Add to each row in which membrane or organelle the object lies.

    Rows get ``inside_class`` and ``inside_instance``, the class and the number of the innermost
    object that encloses it ("" and None for none), ``inside_share``, the share of it that lies in
    there, and ``side`` ("inside", "across" or "outside"), see `enclosures`. They get nothing if
    there is neither membrane nor organelle.

    Args:
        found: the measured classes by name, whose rows are changed.
    """
    objects, rows, hosts, names = [], [], [], []
    for name, one in found.items():
        z, y, x = (10 * v for v in one.voxel_nm)
        size = (z, y, x)
        if one.kind == "filament":
            own = [functools.partial(axis_body, axis, size) for axis in one.axes]
        else:
            known = [row.get("closed") for row in one.rows]
            own = [functools.partial(_body, one.boxes, i, closed) for i, closed in enumerate(known)]
        for body, row in zip(own, one.rows, strict=True):
            if one.kind in _HOSTS:
                hosts.append((body, one.kind, len(objects)))
                names.append((name, row["instance"]))
            objects.append(body)
            rows.append(row)
    if not hosts:
        return
    gap = _GAP / min(min(one.voxel_nm) for one in found.values())
    opened = ((body(), kind, own) for body, kind, own in hosts)
    for row, one in zip(rows, enclosures(_Bodies(objects), opened, gap), strict=True):
        host, number = ("", None) if one.host is None else names[one.host]
        row["inside_class"], row["inside_instance"] = host, number
        row["inside_share"], row["side"] = one.share, one.side


def _body(boxes: ObjectBoxes, index: int, closed: bool | None) -> Body:
    return Body(*boxes.cut(index), closed)


class _Bodies(Sequence[Body]):
    """Makes each body whenever it is asked for."""

    def __init__(self, make: Sequence[Callable[[], Body]]):
        self._make = make

    def __len__(self) -> int:
        return len(self._make)

    def __getitem__(self, index: Any) -> Any:
        return self._make[index]()
