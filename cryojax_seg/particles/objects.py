"""Picks particles from label volumes, at the middle of each connected object."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int
from scipy import ndimage
from scipy.spatial import KDTree

from cryojax_seg.core.blocks import Readable
from cryojax_seg.core.particles import Particles
from cryojax_seg.core.types import Array
from cryojax_seg.particles.balls import pick_balls, typical
from cryojax_seg.particles.pick import check_size, inside_mask

LARGEST = 2**24  # labels above it are not exact in float32
SPECK = 0.05  # share of the usual size of a label's objects below which one is left out
TOUCHING = np.ones((3, 3, 3), bool)  # by a face, an edge or a corner


def as_labels(values: Readable | Array) -> Int[np.ndarray, "z y x"] | None:
    """Return the labels that a volume holds; None if it holds probabilities or densities.

    A volume of two values is a mask, whatever they are: 0, or else the lower one, is background.
    Any other volume holds labels if it has whole numbers from 0 up, and 0 most often. Values that
    are not finite are background, and so is 255 beside lower labels, which marks voxels without
    annotation, unless there is a 254 too.

    Args:
        values: numbers of any type.

    Returns:
        int32: the whole numbers themselves, or 1 in a mask of other numbers.

    >>> as_labels(np.array([[[0.0, 255.0, 255.0]]], np.float32)).tolist()
    [[[0, 255, 255]]]
    >>> as_labels(np.array([[[0.1, 0.9, 0.1]]])).tolist()
    [[[0, 1, 0]]]
    >>> as_labels(np.array([[[0.1, 0.9, 0.2]]])) is None
    True
    """
    values = np.asarray(values)
    # A few values tell most maps of probabilities, without sorting all.
    few = values.ravel()[:: max(1, values.size // 4096)]
    few = np.unique(few[np.isfinite(few)])
    if len(few) > 2 and (few % 1 != 0).any():
        return None
    finite = np.isfinite(values)
    present, counts = np.unique(values[finite], return_counts=True)
    background = present[0] if len(present) and 0 not in present else 0
    whole = (present % 1 == 0).all() and present.max(initial=0) <= LARGEST
    whole = whole and present.min(initial=0) >= 0 and background == 0
    if len(present) == 2 and not whole:
        return (finite & (values != background)).astype(np.int32)
    if not whole or (len(present) > 2 and counts.argmax() != 0):
        return None
    unknown = len(present) > 2 and present[-1] == 255 and present[-2] != 254
    return np.where(finite & ~(unknown & (values == 255)), values, 0).astype(np.int32)


def pick_objects(
    labels: Int[Array, "z y x"],
    diameter: float | int,
    mask: Bool[Array, "z y x"] | None = None,
    only: Sequence[int] | None = None,
) -> Particles:
    """Pick the middle of each connected object of a label volume.

    Voxels that touch, if only by corners, are one object, whose centre of mass is one particle. An
    object wider than the diameter may be several particles that touch: then each position where
    `pick_balls` finds a particle in it takes the voxels nearest to it. Objects smaller than a
    twentieth of the typical size of their label are specks and left out.

    Args:
        labels: 0 is background; each other label is a class of particles, or one particle.
        diameter: diameter of the particles, in voxels.
        mask: where the centres may be; everywhere by default.
        only: the labels to pick; all by default.

    Returns:
        particles with the label as their class, by descending score, which is the volume over that
        of a ball of this diameter.

    Raises:
        ValueError: if the diameter is not positive.

    >>> labels = np.zeros((5, 5, 12), np.int32); labels[1:4, 1:4, 1:4] = 1; labels[2, 2, 8:10] = 2
    >>> found = pick_objects(labels, 3.0)
    >>> found.coordinates.tolist(), found.classes.tolist()
    ([[2.0, 2.0, 2.0], [2.0, 2.0, 8.5]], [1, 2])
    """
    check_size(diameter, 0.0)
    labels = np.asarray(labels)
    present, compact = np.unique(labels, return_inverse=True)
    boxes = ndimage.find_objects(compact.reshape(labels.shape) + 1)
    places, sizes, classes = [np.zeros((0, 3))], [np.zeros(0)], [np.zeros(0, int)]
    for label, box in zip(present.tolist(), boxes, strict=True):
        if label == 0 or (only is not None and label not in only):
            continue
        where, size = _middles(labels[box] == label, float(diameter))
        kept = size >= SPECK * typical(size)
        places.append(where[kept] + [part.start for part in box])
        sizes.append(size[kept])
        classes.append(np.full(int(kept.sum()), label))
    scores = np.concatenate(sizes) / (np.pi / 6 * float(diameter) ** 3)
    order = np.argsort(-scores, kind="stable")
    found = Particles(
        np.concatenate(places)[order], scores=scores[order], classes=np.concatenate(classes)[order]
    )
    return found if mask is None else found.take(inside_mask(found, mask))


def _middles(inside: np.ndarray, diameter: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of each object ``(n, 3)``, and its number of voxels."""
    numbers, count = ndimage.label(inside, TOUCHING)  # pyright: ignore
    where = np.argwhere(inside)
    owner = numbers[inside] - 1
    places, sizes = [], []
    order = np.argsort(owner, kind="stable")
    ends = np.cumsum(np.bincount(owner, minlength=count))
    for voxels in np.split(where[order], ends[:-1]):
        parts = np.zeros(len(voxels), int)
        low, high = voxels.min(0), voxels.max(0)
        if (high - low + 1).max() > diameter:
            object_ = np.zeros(high - low + 1, np.float32)
            object_[tuple((voxels - low).T)] = 1
            seeds = pick_balls(object_, diameter, 0.5, smallest=0.0).coordinates
            if len(seeds):
                parts = KDTree(seeds + low).query(voxels)[1]
        size = np.bincount(parts)
        sums = np.stack([np.bincount(parts, voxels[:, axis]) for axis in range(3)], -1)
        places.append(sums[size > 0] / size[size > 0, None])
        sizes.append(size[size > 0])
    return np.concatenate(places), np.concatenate(sizes)
