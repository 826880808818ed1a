"""Measures distances of objects to the nearest surface of a class."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import KDTree

from cryojax_seg.measure.centreline import Filament
from cryojax_seg.measure.mesh import boundary_surface
from cryojax_seg.measure.thickness import Spacing

_TOLERANCE = 0.05  # of the volume: 2 % of a radius, or 0.03 voxels of each side of a thin membrane


class Outline(NamedTuple):
    """Holds points on the surface of an object, in the unit of the voxel size.

    Returned by `outline` and `tube`.

    Attributes:
        points: ``(n, 3)`` positions of the points, zyx.
        normal: ``(n, 3)`` unit vectors out of the object; 0 without a normal.
        weight: ``(n,)`` area or length that each point represents.
        centre: ``(3,)`` centre of mass, or the middle of an axis.
        radius: the distance from the points to the surface; 0 if they lie on it.
    """

    points: np.ndarray
    normal: np.ndarray
    weight: np.ndarray
    centre: np.ndarray
    radius: float = 0.0


class Gap(NamedTuple):
    """Holds the distances of an object to a class; 0 where they touch or overlap.

    Returned by `gaps`.

    Attributes:
        minimum: the smallest distance from surface to surface.
        mean: the distance from its surface to the nearest surface of the class, averaged over its
            surface.
        centre: the distance from its centre to the nearest surface of the class.
        contact: the area of its surface (the length of an axis) that is in contact with the class.
    """

    minimum: float
    mean: float
    centre: float
    contact: float


def outline(
    mask: Bool[np.ndarray, "_z _y _x"],
    voxel_size: Spacing = (1.0, 1.0, 1.0),
    start: Sequence[int] = (0, 0, 0),
) -> Outline:
    """Return the outline of a mask, from its `boundary_surface`.

    Args:
        mask: the voxels of one object or of a class, in a box.
        voxel_size: voxel size along z, y, x.
        start: index of the first voxel of the box.

    >>> ball = np.linalg.norm(np.indices((15, 15, 15)) - 7, axis=0) <= 5
    >>> found = outline(ball, (2.0, 2.0, 2.0), (10, 0, 0))
    >>> found.centre.tolist(), round(float(found.weight.sum()) / (4 * np.pi * 10**2), 1)
    ([34.0, 14.0, 14.0], 1.0)
    """
    size, mask = np.asarray(voxel_size, float), np.asarray(mask)
    surface = boundary_surface(mask, tolerance=_TOLERANCE)
    points = surface.places * size
    a, b, c = (points[surface.faces[:, i]] for i in range(3))
    crossed = np.cross(b - a, c - a) / 2
    if (a * crossed).sum() < 0:  # inside out
        crossed = -crossed
    crossed[surface.cut] = 0
    area = np.linalg.norm(crossed, axis=1)
    if not len(points):
        none = np.zeros((0, 3))
        return Outline(none, none, none[:, 0], np.full(3, np.nan))
    flat = surface.faces.ravel()
    weight = np.bincount(flat, np.repeat(area / 3, 3), len(points))
    normal = [np.bincount(flat, np.repeat(column, 3), len(points)) for column in crossed.T]
    normal = np.stack(normal, 1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    kept = weight > 0
    centre = np.array([np.mean(index) for index in np.nonzero(mask)])
    shift = np.asarray(start) * size
    return Outline(points[kept] + shift, normal[kept], weight[kept], centre * size + shift)


def tube(axis: Filament, spacing_angstrom: float, scale: float | int = 1.0) -> Outline:
    """Return the outline of a filament, from its axis and its radius.

    Args:
        axis: the axis of the filament.
        spacing_angstrom: distance between the points along the axis.
        scale: one angstrom in the unit of the result, such as 0.1 for nanometres.

    >>> line = Filament.through(np.array([[0.0, 0, 0], [0, 0, 50], [0, 0, 100]]),
    ...                         radius_angstrom=30.0)
    >>> found = tube(line, 10.0, 0.1)
    >>> len(found.points), found.centre.round(6).tolist(), round(found.radius, 6)
    (11, [0.0, 0.0, 5.0], 3.0)
    """
    places = axis.arc_lengths_angstrom(spacing_angstrom)
    points = scale * axis.at(places)
    middle = scale * axis.at(np.array([axis.length_angstrom / 2]))[0]
    length = np.full(len(points), scale * axis.length_angstrom / len(points))
    return Outline(points, np.zeros_like(points), length, middle, scale * axis.radius_angstrom)


def gaps(
    objects: Sequence[Outline],
    target: Sequence[Outline],
    spacing: float,
    touching: float | int = 0.0,
) -> list[Gap | None]:
    """Return the distances of objects to the nearest surface of a class.

    Their error is below half a voxel. Faces of the array that cut an object do not count as
    surface, as the rest of the object lies outside the volume.

    Args:
        objects: the outlines of the objects from which distances are measured.
        target: the outlines of all objects of the class.
        spacing: the distance between the points of `target`, the largest edge of a voxel.
        touching: the largest distance in contact.

    Returns:
        the distances of each object; None for an object without a surface, and for every object if
        the class is empty.

    >>> balls = [np.linalg.norm(np.indices((40, 16, 16)).T - (c, 8, 8), axis=-1).T < 5.5
    ...          for c in (8, 28)]
    >>> gap, = gaps([outline(balls[0])], [outline(balls[1])], spacing=1.0, touching=10)
    >>> round(gap.minimum), round(gap.centre, 1), 15 < gap.contact < 60
    (9, 14.3, True)
    """
    points = np.concatenate([np.zeros((0, 3)), *(one.points for one in target)])
    normal = np.concatenate([np.zeros((0, 3)), *(one.normal for one in target)])
    off = np.repeat([one.radius for one in target], [len(one.points) for one in target])
    if not len(points):
        return [None] * len(objects)
    tree = KDTree(points, balanced_tree=False, compact_nodes=False)

    def away(places: Float[np.ndarray, "_n 3"]) -> Float[np.ndarray, "_n"]:
        """Return distances to the plane through the nearest point if that is close; 0 inside."""
        distance, nearest = (np.asarray(found) for found in tree.query(places))
        across = ((places - points[nearest]) * normal[nearest]).sum(1)
        beside = np.sqrt(np.maximum(distance**2 - across**2, 0)) < spacing
        flat = beside & normal[nearest].any(1)
        return np.maximum(np.where(flat, across, distance) - off[nearest], 0)

    return [_gap(one, away, touching) for one in objects]


def _gap(one: Outline, away, touching: float | int) -> Gap | None:
    if not len(one.points):
        return None
    distance = np.maximum(away(one.points) - one.radius, 0)
    mean = float(np.average(distance, weights=one.weight))
    contact = float(one.weight[distance <= touching].sum())
    return Gap(float(distance.min()), mean, float(away(one.centre[None])[0]), contact)
