"""Divides an annotation into groups of slices, each of which is held out once."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cryojax_seg.errors import ParameterError
from cryojax_seg.training.example import Example


@dataclasses.dataclass(frozen=True)
class Fold:
    """Describes one division of the annotated slices.

    Returned by `folds_of`.

    Attributes:
        scored: z indices of the held-out slices.
        learned: z indices of the slices to learn from.
        shown: first and last + 1 of the slices that this fold predicts, those nearer to its
            held-out slices than to others, so that every slice is predicted once.
    """

    scored: tuple[int, ...]
    learned: tuple[int, ...]
    shown: tuple[int, int]


def divide(annotated: Sequence[int], count: int, gap: int, depth: int) -> list[Fold]:
    """Divide annotated slices into folds, which are groups of neighbouring slices.

    Args:
        annotated: z indices of the slices.
        count: number of groups; fewer if there are fewer slices.
        gap: slices this near to a held-out one, in voxels, are not learned from.
        depth: number of slices of the volume.

    Raises:
        ParameterError: if there are too few slices, or none is left to learn from.

    >>> [fold.scored for fold in divide((3, 9, 15, 21), 2, 2, 24)]
    [(3, 9), (15, 21)]
    >>> [fold.shown for fold in divide((3, 9, 15, 21), 2, 2, 24)]
    [(0, 12), (12, 24)]
    """
    if len(annotated) < 2:
        raise ParameterError(
            f"{len(annotated)} slice is annotated; cross-validation needs at least two",
            "slices",
        )
    groups = np.array_split(np.asarray(sorted(annotated)), min(count, len(annotated)))
    groups = [tuple(int(z) for z in group) for group in groups]
    borders = [(a[-1] + b[0] + 1) // 2 for a, b in zip(groups, groups[1:], strict=False)]
    borders = [0, *borders, depth]
    folds = []
    for i, scored in enumerate(groups):
        learned = tuple(z for z in annotated if min(abs(z - s) for s in scored) > gap)
        if not learned:
            raise ParameterError(
                f"no annotated slice is farther than the gap of {gap} voxels from slices "
                f"{scored[0]} to {scored[-1]}; annotate more, or use a smaller gap",
                "gap",
            )
        folds.append(Fold(scored, learned, (borders[i], borders[i + 1])))
    return folds


def folds_of(example: Example, count: int = 3, gap: int = 2) -> list[Fold]:
    """Divide the annotated slices of an example into folds (see `divide`).

    Raises:
        ParameterError: also if a fold has no labelled voxel to learn from.

    >>> labels = np.ones((6, 4, 4), int)
    >>> [f.learned for f in folds_of(Example(np.zeros((6, 4, 4), np.float32), labels), 2, 1)]
    [(4, 5), (0, 1)]
    """
    example.require_labels("cross-validation")
    known = example.weights > 0
    annotated = np.flatnonzero(known.any((1, 2))).tolist()
    try:
        folds = divide(annotated, count, gap, len(example.volume))
    except ParameterError as error:
        raise ParameterError(f"{example.name}: {error}", *error.parameters) from None
    for fold in folds:
        if not (example.labels * known)[list(fold.learned)].any():
            raise ParameterError(
                f"{example.name}: without slices {fold.scored[0]} to {fold.scored[-1]} no label "
                "is left to learn from; annotate more slices, or use more folds",
                "folds",
            )
    return folds


def restricted(example: Example, slices: Sequence[int]) -> Example:
    """Return the example with the annotation of these z slices only."""
    inside = np.zeros(len(example.volume), bool)
    inside[list(slices)] = True
    weights = np.where(inside[:, None, None], example.weights, 0).astype(example.weights.dtype)
    return dataclasses.replace(example, weights=weights)
