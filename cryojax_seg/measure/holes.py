"""Fills the holes in the objects of label volumes that are read slab by slab."""

from collections.abc import Iterator, Sequence

import numpy as np

from cryojax_seg.core.plain import Shape
from cryojax_seg.measure.runs import FACES, lines_at_faces, runs_of
from cryojax_seg.measure.slabs import KEPT, Part, Read, Seam, depth_of, slabs


def with_filled_holes(
    volume: Read, shape: Shape, most: Sequence[float | int], depth: int | None = None
) -> Iterator[Part]:
    """Yield the slabs of a label volume in which objects have holes to fill.

    A hole is a set of background voxels, connected by their faces, that reaches no face of the
    volume and touches one class alone. A slab may be replaced as soon as it is yielded.

    Args:
        volume: function from a range of z sections to their labels.
        shape: of the whole volume.
        most: voxels of the largest hole that is filled, for the labels 1, 2, ...; 0 fills none.
        depth: as in `components`.

    >>> labels = np.ones((3, 3, 3), int); labels[1, 1, 1] = 0
    >>> filled = with_filled_holes(lambda z: labels[z], labels.shape, [1])
    >>> [int(block.min()) for _, block in filled]
    [1]
    """
    largest, seam = max(most), Seam(FACES)
    ranges = list(slabs(shape[0], depth or depth_of(shape)))
    sizes: list[np.ndarray] = [np.zeros(1, np.int64)]
    touched = [np.zeros((1, len(most) + 1), bool)]  # which labels each piece touches
    closed = [np.zeros(1, bool)]  # which pieces may be a hole, or a part of one
    voxels: list[tuple[np.ndarray, np.ndarray] | None] = []  # of pieces that may be a hole
    left = KEPT
    for z in ranges:
        start, stop = max(z.start - 1, 0), min(z.stop + 1, shape[0])
        near = np.ascontiguousarray(volume(slice(start, stop)))
        runs = runs_of(near[z.start - start : z.stop - start] == 0, FACES)
        maybe = runs.sizes <= largest
        maybe[0] = False
        for touching in lines_at_faces(runs, (z.start == 0, z.stop == shape[0])):
            maybe[runs.piece[touching]] = False
        index, own = runs.voxels(maybe)
        beside = np.zeros((runs.count + 1, len(most) + 1), bool)
        for label, number in _neighbours(near, index, own, z.start - start):
            beside[number, label] = True
        seam.add(runs)
        sizes.append(runs.sizes[1:])
        touched.append(beside[1:])
        closed.append(maybe[1:])
        left -= index.size
        voxels.append((index, own) if left >= 0 else None)
    number = seam.united()
    whole = np.bincount(number, np.concatenate(sizes))
    hole, classes = np.ones(len(whole), bool), np.zeros((len(whole), len(most) + 1), bool)
    np.logical_and.at(hole, number, np.concatenate(closed))
    np.logical_or.at(classes, number, np.concatenate(touched))
    hole &= classes[:, 1:].sum(1) == 1
    fill = np.where(hole, classes[:, 1:].argmax(1) + 1, 0)
    fill[whole > np.concatenate([[0.0], most])[fill]] = 0
    for z, table, held in zip(ranges, seam.tables(fill[number]), voxels, strict=True):
        if not table.any():
            continue
        block = np.array(volume(z), order="C")
        if held is None:
            filled = runs_of(block == 0, FACES).painted(table)
            yield z, np.where(filled > 0, filled, block).astype(block.dtype)
            continue
        index, own = held
        block.ravel()[index] = table[own]  # of what is no hole it is 0, as it was
        yield z, block


def _neighbours(
    labels: np.ndarray, index: np.ndarray, number: np.ndarray, above: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the labels of the face neighbours of voxels, and the numbers of these.

    Args:
        labels: sections of the slab, with one more on each side unless the volume ends there.
        index: flat indices of voxels in the slab.
        number: of each of these voxels.
        above: sections of `labels` before the slab.
    """
    index = index + above * labels[0].size
    # These voxels lie at no face of the volume, so that every neighbour is there.
    for step in (labels[0].size, labels.shape[2], 1):
        for place in (index - step, index + step):
            yield labels.ravel()[place], number
