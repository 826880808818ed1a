"""The labels that ``cryojax-seg measure`` measures, and their objects, each in its own box."""

import dataclasses
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from cryojax_seg import measure
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.measure import Kind

_MARGIN = 16  # voxels around an instance, beyond which windows see nothing of it
_NEAR = 3  # voxels around an instance in which its probabilities count


@dataclasses.dataclass(frozen=True)
class Part:
    """One instance of a class, in a box.

    Attributes:
        number: of the instance in its class, from 1.
        start: of the box in the volume, voxels.
        mask: of the instance.
        probability: of the class in the neighbourhood of the instance, 0 elsewhere; None if there
            are no probabilities.
        voxel_nm: along z, y, x.
        rim: see `measure.membrane_area`.
    """

    number: int
    start: tuple[int, int, int]
    mask: np.ndarray
    probability: np.ndarray | None
    voxel_nm: tuple[float, float, float]
    rim: Literal["flat", "round"]


@dataclasses.dataclass(frozen=True)
class Scene:
    """What is measured.

    Attributes:
        volume: of labels, in their integers.
        names, kinds: of the classes, by label.
        given: maps of objects from 1 on, and the numbers that they are known by, by label; they
            replace what the volume holds of a class.
        maps: probabilities by label.
    """

    volume: Tomogram
    names: dict[int, str]
    kinds: dict[int, Kind]
    given: dict[int, tuple[np.ndarray, list[int]]]
    maps: dict[int, Any]

    @property
    def voxel_nm(self) -> tuple[float, float, float]:
        """Along z, y, x."""
        z, y, x = (v / 10 for v in self.volume.require_voxel_size())
        return z, y, x

    def mask(self, label: int) -> np.ndarray:
        """The voxels of a class."""
        if label in self.given:
            return self.given[label][0] > 0
        return np.asarray(self.volume.density) == label

    def of_kind(self, kind: Kind) -> np.ndarray | None:
        """The voxels of all classes of a kind; None if there are none."""
        masks = [self.mask(label) for label, k in self.kinds.items() if k == kind]
        return np.logical_or.reduce(masks) if masks else None


def objects_of(
    scene: Scene, label: int, smallest: int, split: bool
) -> tuple[tuple[slice, ...], np.ndarray]:
    """The box that holds a class, and the numbers of its instances there, the largest first."""
    (box,) = ndimage.find_objects(scene.mask(label).view(np.int8)) or (None,)
    if box is None:
        return (slice(0, 0),) * 3, np.zeros((0, 0, 0), np.int32)
    box = tuple(
        slice(max(0, s.start - _MARGIN), min(n, s.stop + _MARGIN))
        for s, n in zip(box, scene.volume.density.shape, strict=True)
    )
    if label in scene.given:
        return box, scene.given[label][0][box]
    mask = np.asarray(scene.volume.density[box]) == label
    kind, probability = scene.kinds[label], scene.maps.get(label)
    if split and kind in ("organelle", "complex"):
        return box, measure.split_bodies(mask, scene.voxel_nm, smallest=smallest)
    if split and kind == "membrane" and probability is not None:
        own = np.where(mask, np.asarray(probability[box], np.float32), 0)
        return box, measure.split_membranes(own, level=0.0, smallest=smallest)
    return box, measure.components(mask, smallest)


def parts_of(box, numbers: np.ndarray, probability, voxel_nm, rim) -> list[Part]:
    """The instances, each in a box of its own."""
    own = None if probability is None else np.asarray(probability[box], np.float32)
    parts = []
    for one in measure.instances(numbers, _MARGIN):
        near = None
        if own is not None:
            others = (numbers[one.box] > 0) & ~one.mask
            around = np.asarray(ndimage.binary_dilation(one.mask, iterations=_NEAR), bool)
            near = np.where(around & ~others, own[one.box], 0)
        z, y, x = (a.start + b.start for a, b in zip(box, one.box, strict=True))
        parts.append(Part(one.number, (z, y, x), one.mask, near, voxel_nm, rim))
    return parts
