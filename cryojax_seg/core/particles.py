"""Represents particles by their positions, rotations and further table columns."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Table = Mapping[str, Sequence[str]]  # columns of strings by label


@dataclasses.dataclass(frozen=True)
class Particles:
    """Holds positions and poses of particles in one or several tomograms.

    Attributes:
        coordinates: float64 ``(n, 3)``, zyx, voxels from the centre of the first voxel.
        rotations: float64 ``(n, 3, 3)``, zyx, ``lab = R @ reference``; identity by default.
        scores: float64 ``(n,)``, higher is better; None without scores.
        classes: int64 ``(n,)``; None without classes.
        columns: further values of each particle as strings, by label such as "rlnTomoName".
        voxel_size: angstrom; None if unknown.
        tables: other tables of the particle file, such as "optics", unchanged.

    Raises:
        ValueError: if the lengths differ, a coordinate or rotation is not finite, or a class is not
            an integer.

    >>> two = Particles(np.array([[1.0, 2, 3], [4, 5, 6]]), columns={"rlnTomoName": ("a", "b")})
    >>> len(two), two.rotations.shape
    (2, (2, 3, 3))
    >>> two.take(np.array([False, True])).columns
    {'rlnTomoName': ('b',)}
    """

    # Shapes are not annotated, because lists are accepted too.
    coordinates: Any
    rotations: Any = None
    scores: Any = None
    classes: Any = None
    columns: Table = dataclasses.field(default_factory=dict)
    voxel_size: float | None = None
    tables: Mapping[str, Table] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        coordinates = np.asarray(self.coordinates, np.float64).reshape(-1, 3)
        count = len(coordinates)
        rotations = np.broadcast_to(np.eye(3), (count, 3, 3))
        if self.rotations is not None:
            rotations = np.asarray(self.rotations, np.float64).reshape(-1, 3, 3)
        values: dict[str, Any] = {"coordinates": coordinates, "rotations": rotations}
        for name, kind in (("scores", np.float64), ("classes", np.int64)):
            given = getattr(self, name)
            if name == "classes" and given is not None:
                _check_integers(np.asarray(given))
            values[name] = None if given is None else np.asarray(given, kind).reshape(-1)
        values["columns"] = {k: tuple(map(str, v)) for k, v in self.columns.items()}
        lengths = {k: len(v) for k, v in values.items() if k != "columns" and v is not None}
        lengths |= {k: len(v) for k, v in values["columns"].items()}
        for name, length in lengths.items():
            if length != count:
                raise ValueError(f"Particles: {length} {name} for {count} coordinates")
        for name in ("coordinates", "rotations"):
            if not np.isfinite(values[name]).all():
                raise ValueError(f"Particles: {name} must be finite; remove or correct those rows")
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.coordinates)

    def take(self, index: Any) -> "Particles":
        """Return the particles selected by a mask or by indices."""
        chosen = np.arange(len(self))[index]
        return dataclasses.replace(
            self,
            coordinates=self.coordinates[chosen],
            rotations=self.rotations[chosen],
            scores=None if self.scores is None else self.scores[chosen],
            classes=None if self.classes is None else self.classes[chosen],
            columns={k: tuple(v[i] for i in chosen) for k, v in self.columns.items()},
        )


def _check_integers(classes: np.ndarray) -> None:
    """Refuse values that conversion to int64 would change: fractions and huge numbers."""
    if (
        classes.dtype.kind == "f"
        and not ((classes == np.rint(classes)) & (np.abs(classes) < 2.0**53)).all()
    ):
        raise ValueError("Particles: classes must be whole numbers below 2^53")
