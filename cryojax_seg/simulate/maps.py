"""Models macromolecular complexes by density maps."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage

from cryojax_seg.core.fourier import Spacing
from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Volume
from cryojax_seg.simulate.structures import Structure
from cryojax_seg.simulate.surfaces import floats, length
from cryojax_seg.simulate.types import MACROMOLECULE, Classes, Points, Values


@register_pytree
@dataclasses.dataclass(frozen=True)
class MapDensity(Structure):
    """Models a structure by a density map centred on the origin, interpolated between voxels.

    Use `from_map` to make one.

    Attributes:
        values: ``(z, y, x)`` density in units of protein above ice; 0 outside.
        distances: ``(z, y, x)`` signed distance to the envelope, angstrom.
        voxel_size: angstrom, three numbers.
        volume: inside the envelope, angstrom^3.
        label: index into `CLASSES` of the inside.

    >>> values = jnp.zeros((8, 8, 8)).at[2:6, 2:6, 2:6].set(1.0)
    >>> cube = MapDensity.from_map(values, (10.0, 10.0, 10.0), level=0.5)
    >>> round(float(cube.density(jnp.zeros((1, 3)))[0]), 2), cube.measurements()["volume"]
    (1.0, 64000.0)
    """

    values: Any
    distances: Any
    voxel_size: Any
    volume: Any
    label: int = dataclasses.field(default=MACROMOLECULE, metadata={"static": True})

    @classmethod
    def from_map(
        cls, values: Volume, voxel_size: Spacing, level: float, label: int = MACROMOLECULE
    ) -> "MapDensity":
        """Return the structure of a density map, for example from an MRC file in units of protein.

        Args:
            values: ``(z, y, x)``.
            voxel_size: angstrom along each axis.
            level: the inside is where the map exceeds it.
            label: index into `CLASSES`.

        Raises:
            ValueError: if nothing or everything exceeds the level, or a value is not finite.

        >>> ball = np.zeros((9, 9, 9), np.float32)
        >>> ball[4, 4, 4] = 1.0
        >>> dot = MapDensity.from_map(ball, (5.0, 5.0, 5.0), level=0.5)
        >>> float(dot.density(jnp.array([0.0, 0.0, 2.5])))
        0.5
        """
        values = np.asarray(values, np.float32)
        if not np.isfinite(values).all():
            raise ValueError("MapDensity: the map holds values that are not finite")
        inside = values > level
        if not inside.any() or inside.all():
            raise ValueError(
                f"MapDensity: level {level} must be between the map's lowest and highest value, "
                f"{values.min():g} and {values.max():g}"
            )
        if len(voxel_size) != 3 or min(voxel_size) <= 0:
            raise ValueError(f"MapDensity: voxel_size must be three lengths above 0: {voxel_size}")
        # These distances are between centres of voxels; the envelope is half a voxel nearer.
        half = float(np.mean(voxel_size)) / 2
        outside = np.asarray(scipy.ndimage.distance_transform_edt(~inside, voxel_size))
        within = np.asarray(scipy.ndimage.distance_transform_edt(inside, voxel_size))
        distances = np.where(inside, half - within, outside - half).astype(np.float32)
        volume = float(inside.sum()) * math.prod(voxel_size)
        return cls(values, distances, tuple(float(v) for v in voxel_size), volume, label)

    def _interpolate(self, grid, points: Points, mode: str) -> Values:
        points, grid, voxel = floats(points, grid, self.voxel_size)
        index = [points[..., i] / voxel[i] + (grid.shape[i] - 1) / 2 for i in range(3)]
        return jax.scipy.ndimage.map_coordinates(grid, index, order=1, mode=mode)

    def density(self, points: Points) -> Values:
        return self._interpolate(self.values, points, "constant")

    def distance(self, points: Points) -> Values:
        points, voxel = floats(points, self.voxel_size)
        beyond = [
            jnp.maximum(jnp.abs(points[..., i]) - (n - 1) / 2 * voxel[i], 0.0)
            for i, n in enumerate(self.values.shape)
        ]
        return self._interpolate(self.distances, points, "nearest") + length(*beyond)

    def labels(self, points: Points) -> Classes:
        return jnp.where(self.distance(points) < 0, self.label, 0).astype(jnp.int32)

    def measurements(self) -> dict[str, float]:
        """Return the volume of the voxels above the level."""
        return {"volume": float(self.volume)}

    @functools.cached_property
    def _reach(self) -> float:
        voxel, values = np.asarray(self.voxel_size, np.float64), np.asarray(self.values)
        filled = np.argwhere((values != 0) | (np.asarray(self.distances) < 0))
        offsets = np.abs(filled - (np.array(values.shape) - 1) / 2) + 1  # interpolated to there
        return float(np.linalg.norm(offsets * voxel, axis=-1).max())

    def bounding_radius(self) -> float:
        return self._reach


def of_one_size(
    maps: Mapping[str, MapDensity], level: float = 0.4, least: float = 0.02
) -> dict[str, MapDensity]:
    """Return maps on cubes of one edge, so that one compiled program serves all of them.

    The origin stays in the middle, but moves by half a voxel along even edges.

    Args:
        maps: maps by name.
        level: the inside is where a map exceeds it.
        least: what is fainter becomes 0 and need not be on the cube.

    >>> small = MapDensity.from_map(np.pad(np.ones((1, 1, 1)), 2), (10.0,) * 3, level=0.5)
    >>> long = MapDensity.from_map(np.pad(np.ones((1, 1, 7)), 4), (10.0,) * 3, level=0.5)
    >>> [one.values.shape for one in of_one_size({"a": small, "b": long}).values()]
    [(9, 9, 9), (9, 9, 9)]
    """
    middles = {name: np.array(one.values.shape) // 2 for name, one in maps.items()}
    half = 1 + max(
        int(np.abs(np.argwhere(np.asarray(one.values) > least) - middles[name]).max())
        for name, one in maps.items()
    )
    found = {}
    for name, one in maps.items():
        values = np.asarray(one.values)
        padded = np.pad(np.where(values > least, values, 0), half)
        cut = padded[tuple(slice(m, m + 2 * half + 1) for m in middles[name])]
        found[name] = MapDensity.from_map(cut, one.voxel_size, level, one.label)
    return found
