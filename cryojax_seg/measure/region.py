"""Describes the region of a tomogram that is searched for objects, and its compartments."""

import dataclasses
import functools
import math

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.spatial import KDTree

from cryojax_seg.core.masks import distances_to_mask, points_in_mask
from cryojax_seg.core.types import MaskArray

Points = Float[np.ndarray, "_n 3"]  # angstrom, zyx
_LARGEST = 96  # voxels along an axis of the mask whose overlap with itself is taken


def check_voxel_size(voxel_size: tuple[float, float, float]) -> tuple[float, float, float]:
    """Return the voxel size as three floats.

    Raises:
        ValueError: unless there are three positive lengths.
    """
    if len(voxel_size) != 3 or not all(0 < v < math.inf for v in voxel_size):
        raise ValueError(
            f"voxel_size_angstrom must be three positive lengths in angstrom, got {voxel_size}"
        )
    z, y, x = (float(v) for v in voxel_size)
    return z, y, x


@dataclasses.dataclass(frozen=True, eq=False)
class Region:
    """Describes where objects could have been found, and the compartments there.

    Attributes:
        shape: voxels along z, y, x; voxel i extends half a voxel to both sides of ``i * voxel``.
        voxel_size_angstrom: voxel size along z, y, x.
        mask: bool ``(z, y, x)``, the voxels that were searched; None for the entire volume.
        membrane: bool ``(z, y, x)``, the membrane to which distances are measured; None if there is
            none.
        organelle: bool ``(z, y, x)``, the organelle in which objects are counted; None if there is
            none.

    Raises:
        ValueError: for masks of another shape, an empty region, or a voxel size that is not
            positive.

    >>> box = Region((10, 10, 10), (10.0, 10.0, 10.0))
    >>> box.volume_angstrom3, box.contains(np.array([[0.0, 0, -4], [0, 0, -6]])).tolist()
    (1000000.0, [True, False])
    """

    shape: tuple[int, ...]
    voxel_size_angstrom: tuple[float, float, float]
    mask: MaskArray | None = None
    membrane: MaskArray | None = None
    organelle: MaskArray | None = None

    def __post_init__(self):
        object.__setattr__(self, "voxel_size_angstrom", check_voxel_size(self.voxel_size_angstrom))
        for name, title in (("mask", "region"), ("membrane",) * 2, ("organelle",) * 2):
            mask = getattr(self, name)
            if mask is None:
                continue
            object.__setattr__(self, name, np.asarray(mask))
            if mask.shape != tuple(self.shape):
                raise ValueError(f"{title} has shape {mask.shape}, the volume {tuple(self.shape)}")
        if not self.volume_angstrom3:
            raise ValueError("region is empty: give one in which there could be something")

    @functools.cached_property
    def volume_angstrom3(self) -> float:
        """Return the volume of the region."""
        voxels = np.prod(self.shape) if self.mask is None else np.count_nonzero(self.mask)
        return float(voxels) * float(np.prod(self.voxel_size_angstrom))

    @property
    def shortest_side_angstrom(self) -> float:
        """Return the shortest side of the box around it."""
        sides = [slice(0, n) for n in self.shape]
        if self.mask is not None:
            sides = ndimage.find_objects(np.asarray(self.mask).astype(np.int8))[0]
        return min(
            (b.stop - b.start) * v for b, v in zip(sides, self.voxel_size_angstrom, strict=True)
        )

    @functools.cached_property
    def _voxels(self) -> np.ndarray:
        assert self.mask is not None
        return np.flatnonzero(np.asarray(self.mask))

    def contains(self, points: Points) -> Bool[np.ndarray, "_n"]:
        """Return which points ``(n, 3)``, in angstrom, zyx, lie in the region."""
        if self.mask is not None:
            return points_in_mask(points, np.asarray(self.mask), self.voxel_size_angstrom)
        index = np.rint(points / self.voxel_size_angstrom).astype(int)
        return np.all((index >= 0) & (index < self.shape), axis=1)

    def membrane_distance_angstrom(self, points: Points) -> Float[np.ndarray, "_n"] | None:
        """Return the distance of points to the membrane; None without a membrane."""
        if self.membrane is None:
            return None
        return distances_to_mask(points, np.asarray(self.membrane), self.voxel_size_angstrom)

    def in_organelle(self, points: Points) -> Bool[np.ndarray, "_n"] | None:
        """Return which points lie in the organelle; None without an organelle."""
        if self.organelle is None:
            return None
        return points_in_mask(points, np.asarray(self.organelle), self.voxel_size_angstrom)

    def random_points(self, count: int, rng: np.random.Generator) -> Points:
        """Return independent points ``(count, 3)``, uniform in the region, in angstrom, zyx."""
        if self.mask is None:
            index = rng.uniform(size=(count, 3)) * self.shape - 0.5
        else:
            flat = rng.choice(self._voxels, count)
            index = np.stack(np.unravel_index(flat, self.shape), 1) + rng.uniform(
                -0.5, 0.5, (count, 3)
            )
        return index * self.voxel_size_angstrom

    def border_distance_angstrom(self, points: Points) -> Float[np.ndarray, "_n"]:
        """Return the distances of points in the region to its border or a face of the volume."""
        size = np.asarray(self.voxel_size_angstrom)
        index = points / size
        faces = np.minimum(index + 0.5, np.asarray(self.shape) - 0.5 - index) * size
        nearest = faces.min(1)
        if self.mask is None:
            return nearest
        mask = np.asarray(self.mask)
        edge = ndimage.binary_dilation(mask) & ~mask
        if not edge.any():
            return nearest
        tree = KDTree(np.argwhere(edge) * size)
        inner = np.asarray(tree.query(points)[0]) - size.min() / 2
        return np.minimum(nearest, np.maximum(inner, 0.0))

    def overlap_angstrom3(self, radii: Float[np.ndarray, "_m"]) -> Float[np.ndarray, "_m"]:
        """Return its overlap with itself shifted by distances in angstrom, mean over directions.

        This is the isotropized set covariance (Ohser, Math. Operationsforsch. Statist. 14, 63,
        1983).
        """
        k = np.arange(600) + 0.5  # Fibonacci's half sphere
        z, angle = 1 - k / 600, np.pi * (1 + 5**0.5) * k
        ring = np.sqrt(1 - z * z)
        moves = np.stack([z, ring * np.cos(angle), ring * np.sin(angle)], 1)
        moves = radii[:, None, None] * moves
        if self.mask is None:
            sides = np.asarray(self.shape) * self.voxel_size_angstrom
            return np.maximum(sides - np.abs(moves), 0.0).prod(2).mean(1)
        covariance, voxel = self._covariance
        centre = np.asarray(covariance.shape) // 2
        index = np.moveaxis(moves / voxel + centre, 2, 0)
        found = ndimage.map_coordinates(covariance, index, order=1, mode="constant")
        return np.asarray(found).mean(1)

    @functools.cached_property
    def _covariance(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the set covariance of the mask, centred on a shift of 0, and its voxel size."""
        assert self.mask is not None
        whole = np.asarray(self.mask)
        box = ndimage.find_objects(whole.astype(np.int8))[0]
        mask = whole[box].astype(np.float32)
        factor = [-(-n // _LARGEST) for n in mask.shape]
        mask = np.pad(mask, [(0, -n % f) for n, f in zip(mask.shape, factor, strict=True)])
        parts = [m for n, f in zip(mask.shape, factor, strict=True) for m in (n // f, f)]
        mask = mask.reshape(parts).mean((1, 3, 5))
        voxel = np.asarray(factor) * self.voxel_size_angstrom
        size = [next_fast_len(2 * n + 1, real=True) for n in mask.shape]
        spectrum = np.abs(np.asarray(rfftn(mask, size))) ** 2
        covariance = np.fft.fftshift(np.asarray(irfftn(spectrum, size)))
        return np.maximum(covariance, 0.0) * float(np.prod(voxel)), voxel
