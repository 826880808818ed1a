"""Picks particles from maps of several classes or from labels, and relates them to a membrane."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from cryojax_seg.core.particles import Particles
from cryojax_seg.core.types import Array
from cryojax_seg.errors import ParameterError
from cryojax_seg.particles.balls import pick_balls, pick_classes
from cryojax_seg.particles.objects import pick_objects
from cryojax_seg.particles.orientations import normals_at, orientations_from_normals
from cryojax_seg.particles.pick import distances_to, pick_peaks, pick_regions

Method = Literal["balls", "peaks", "regions"]


@dataclasses.dataclass(frozen=True, eq=False)
class Surroundings:
    """Says where particles may be, by a compartment and a range of distances from a membrane.

    Attributes:
        compartment: bool ``(z, y, x)``, where the centres may be; None for anywhere.
        membrane: bool ``(z, y, x)``, the voxels of a membrane; None for none.
        distance: shortest and longest distance of a centre from the membrane, in voxels; None for
            any.

    Raises:
        ParameterError: for a distance without a membrane, or in the wrong order.

    >>> wall = np.zeros((9, 9, 9), bool); wall[2] = True
    >>> found = Particles([[4.0, 4, 4], [8, 4, 4]])
    >>> Surroundings(membrane=wall, distance=(1, 3)).within(found).coordinates.tolist()
    [[4.0, 4.0, 4.0]]
    """

    compartment: Bool[np.ndarray, "_z _y _x"] | None = None
    membrane: Bool[np.ndarray, "_z _y _x"] | None = None
    distance: tuple[float | int, float | int] | None = None

    def __post_init__(self):
        if self.distance is not None and self.membrane is None:
            raise ParameterError("distance needs the membrane that it is measured from", "membrane")
        if self.distance is not None and self.distance[0] > self.distance[1]:
            raise ParameterError(
                f"distance: the shortest comes first, got {self.distance}", "distance"
            )

    def within(self, particles: Particles) -> Particles:
        """Return the particles within the distances from the membrane."""
        if self.membrane is None or self.distance is None:
            return particles
        return within_distance(particles, self.membrane, *self.distance)

    def oriented(self, particles: Particles) -> Particles:
        """Return the particles with z along the normal of the membrane, if there is one."""
        if self.membrane is None or not self.membrane.any() or not len(particles):
            return particles
        return oriented_by_membrane(particles, self.membrane)


def pick_maps(
    maps: Sequence[Float[Array, "z y x"]],
    diameters: Sequence[float | int],
    threshold: float | int,
    *,
    method: Method = "balls",
    mask: Bool[Array, "z y x"] | None = None,
    smallest: float = 0.15,
) -> Particles:
    """Pick the particles of one map by a method, or those of several classes that compete.

    Args:
        maps: probabilities of each class, 0 to 1, on one grid.
        diameters: diameter of the particles of each class, in voxels; or one for all maps.
        threshold: lowest score, see the method.
        method: "balls" (`pick_balls`), "peaks" (`pick_peaks`) or "regions" (`pick_regions`). The
            maps of several classes are picked as balls (`pick_classes`).
        mask: where the centres may be; everywhere by default.
        smallest: for the method "balls", lowest mean probability in the ball.

        Returns:
            particles by descending score; for several maps with their classes, from 1.

    Raises:
        ValueError: if the numbers of maps and diameters or the shapes of the maps differ, for
            another method than balls for several maps, and as the methods raise.

    >>> one = np.zeros((9, 9, 20), np.float32); one[2:7, 2:7, 2:7] = 0.8
    >>> pick_maps([one], [5.0], 0.5, method="regions").coordinates.round(3).tolist()
    [[4.0, 4.0, 4.0]]
    >>> pick_maps([one, 0.9 * one[..., ::-1]], [5.0], 0.5).classes.tolist()
    [1, 2]
    """
    if len(maps) > 1:
        if method != "balls":
            raise ParameterError(
                "the maps of several classes are picked as balls only; leave out method", "method"
            )
        every = list(diameters) * len(maps) if len(diameters) == 1 else diameters
        return pick_classes(maps, every, threshold, mask, smallest)
    if method == "peaks":
        return pick_peaks(maps[0], diameters[0], threshold, mask)
    if method == "regions":
        return pick_regions(maps[0], diameters[0], threshold, mask)
    return pick_balls(maps[0], diameters[0], threshold, mask, smallest)


def pick_labels(
    labels: Int[Array, "z y x"],
    diameter: float | int,
    *,
    only: Sequence[int] = (),
    mask: Bool[Array, "z y x"] | None = None,
) -> Particles:
    """Pick the objects of a label volume, with their label as the class if there are several.

    Args:
        labels: 0 is background.
        diameter: diameter of the particles, in voxels.
        only: the labels to pick; empty for all.
        mask: where the centres may be; everywhere by default.

        Returns:
            particles as from `pick_objects`; classes are None if a single label is picked.

    Raises:
        ParameterError: if no voxel has a label of `only`.

    >>> labels = np.zeros((5, 5, 12), np.int32); labels[1:4, 1:4, 1:4] = 1; labels[2, 2, 8:10] = 2
    >>> pick_labels(labels, 3.0).classes.tolist(), pick_labels(labels, 3.0, only=[2]).classes
    ([1, 2], None)
    """
    present = np.unique(np.asarray(labels)[np.asarray(labels) > 0]).tolist()
    missing = [label for label in only if label not in present]
    if missing:
        raise ParameterError(
            f"no voxel has the label {' '.join(map(str, missing))}; the labels are "
            f"{listed(present) or 'of background alone'}",
            "label",
        )
    found = pick_objects(labels, diameter, mask, only or None)
    several = len(only or present) > 1
    return found if several else dataclasses.replace(found, classes=None)


def listed(labels: Sequence[int]) -> str:
    """Return labels as words, the first 20 of them.

    >>> listed([1, 2]), listed(range(30))[-6:]
    ('1 2', '19 ...')
    """
    return " ".join(map(str, labels[:20])) + (" ..." if len(labels) > 20 else "")


def correlation_threshold(
    scores: Float[np.ndarray, "z y x"], deviations: float | int = 6.0
) -> float:
    """Return the correlation that lies this many standard deviations above the median.

    The standard deviation is the robust one, 1.4826 times the median absolute deviation. Scores of
    exactly 0 belong to blank parts and do not count.

    Args:
        scores: ``(z, y, x)`` scores of `match_template`.
        deviations: number of standard deviations.

    >>> scores = np.arange(-5.0, 6.0).reshape(1, 1, 11).astype(np.float32)
    >>> round(correlation_threshold(scores, 2.0), 3)
    8.896
    """
    known = scores[scores != 0]
    middle = float(np.median(known)) if known.size else 0.0
    deviation = 1.4826 * float(np.median(np.abs(known - middle))) if known.size else 0.0
    return middle + deviations * deviation


def within_distance(
    particles: Particles, membrane: Bool[Array, "_z _y _x"], low: float | int, high: float | int
) -> Particles:
    """Return the particles whose centre lies between two distances from a membrane, in voxels.

    >>> wall = np.zeros((9, 9, 9), bool); wall[2] = True
    >>> within_distance(Particles([[4.0, 4, 4], [8, 4, 4]]), wall, 1, 3).coordinates.tolist()
    [[4.0, 4.0, 4.0]]
    """
    away = distances_to(particles, membrane)
    return particles.take((away >= low) & (away <= high))


def oriented_by_membrane(particles: Particles, membrane: Bool[Array, "_z _y _x"]) -> Particles:
    """Return the particles with rotations that take z to the normal of a membrane near them.

    >>> wall = np.zeros((16, 16, 16), bool); wall[:, :, 7:9] = True
    >>> oriented_by_membrane(Particles([[8.0, 8, 12]]), wall).rotations[0][:, 0].round(2).tolist()
    [0.0, 0.0, 1.0]
    """
    normals = normals_at(particles.coordinates, np.asarray(membrane))
    return dataclasses.replace(particles, rotations=orientations_from_normals(normals))
