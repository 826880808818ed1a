"""Defines the data of training: an example on the host, and a batch on the device."""

import dataclasses
import functools
from typing import Any

import numpy as np

from cryojax_seg.core.blank import inner_box
from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.training.companions import COMPANIONS


@register_pytree
@dataclasses.dataclass(frozen=True)
class Batch:
    """Holds the patches of one training step; every leaf has a leading batch axis.

    The fields are not checked by shape: jax rebuilds a pytree with placeholder leaves.

    Attributes:
        volume: ``(batch, z, y, x)``, normalized, structure bright.
        labels: int32 ``(batch, z, y, x)``; None without labels.
        weights: ``(batch, z, y, x)``; 0 where not annotated. None without labels.
        wedge: the `MissingWedge` of each patch, rotated with it; None if unknown.
        normals: ``(batch, z, y, x, 3)`` unit normals (zyx) of the true surfaces, 0 where there is
            none; None if unknown.
        halves: ``(batch, 2, z, y, x)``, the half tomograms; None if there are none.
        truth: ``(batch, z, y, x)``, the density without noise and wedge; None if unknown.
        key: ``(batch,)`` random keys, for objectives that draw something; None without.

    >>> import numpy as np
    >>> batch = Batch(np.zeros((2, 8, 8, 8)), labels=np.zeros((2, 8, 8, 8), int), weights=None)
    >>> batch.volume.shape, batch.wedge
    ((2, 8, 8, 8), None)
    """

    volume: Any
    labels: Any = None
    weights: Any = None
    wedge: Any = None
    normals: Any = None
    halves: Any = None
    truth: Any = None
    key: Any = None


@dataclasses.dataclass(frozen=True)
class Example:
    """Holds a tomogram and everything that is known of it, checked when it is made.

    Attributes:
        volume: float ``(z, y, x)``, normalized (see `core.normalize`), structure bright.
        labels: integers of the same shape; values where the weight is 0 do not matter. None if
            the tomogram is not labelled.
        weights: finite and not negative, of the same shape; 0 means not annotated. By default 1
            everywhere if there are labels, else None.
        wedge: the missing wedge of the tomogram; None if unknown.
        normals: ``(z, y, x, 3)`` unit normals (zyx) of the true surfaces, 0 where there is none;
            None if unknown. For losses that weigh by visibility.
        halves: ``(2, z, y, x)`` half tomograms, normalized as the volume; None if there are none.
        truth: the density without noise and wedge, of a simulation, normalized as the volume; None
            if unknown.
        missing: bool of the same shape, where the tomogram holds no data (`core.Intensity`); None
            if it does everywhere. Statistics leave these voxels out.
        name: for messages.

    Raises:
        ValueError: naming the example, if an array cannot be trained on.

    >>> import numpy as np
    >>> v = np.zeros((4, 4, 4), np.float32)
    >>> Example(v).labels is None, Example(v, v.astype(int)).weights.sum()
    (True, np.float32(64.0))
    >>> Example(v, v.astype(int), np.zeros_like(v), name="a.mrc")
    Traceback (most recent call last):
    ValueError: a.mrc: no voxel is annotated (every weight is 0)
    """

    volume: np.ndarray
    labels: Any = None
    weights: Any = None
    wedge: MissingWedge | None = None
    normals: np.ndarray | None = None
    halves: np.ndarray | None = None
    truth: np.ndarray | None = None
    missing: np.ndarray | None = None
    name: str = "example"

    def __post_init__(self):
        volume = self.volume
        if volume.ndim != 3 or 0 in volume.shape:
            raise ValueError(f"{self.name}: a volume (z, y, x) is needed, got {volume.shape}")
        if self.weights is not None and self.labels is None:
            raise ValueError(f"{self.name}: has weights but no labels that they belong to")
        weights = np.ones(volume.shape, np.float32) if self.weights is None else self.weights
        object.__setattr__(self, "weights", None if self.labels is None else weights)
        for name, companion in COMPANIONS.items():
            array, shape = getattr(self, name), companion.shape(volume.shape)
            if array is not None and array.shape != shape:
                raise ValueError(f"{self.name}: {name} have shape {array.shape}, not {shape}")
            if array is not None and not np.isfinite(array).all():
                raise ValueError(
                    f"{self.name}: {name} must be finite, without NaN or infinite voxels"
                    + ("; core.normalize replaces them" if name == "volume" else "")
                )
        if self.labels is None:
            return
        if not np.issubdtype(self.labels.dtype, np.integer):
            raise ValueError(f"{self.name}: labels must be integers, not {self.labels.dtype}")
        if weights.min() < 0:
            raise ValueError(f"{self.name}: weights must not be negative")
        if not weights.any():
            raise ValueError(f"{self.name}: no voxel is annotated (every weight is 0)")

    @functools.cached_property
    def measured(self) -> np.ndarray:
        """Return the part of the volume for statistics, a box with few missing voxels."""
        return self.volume if self.missing is None else self.volume[inner_box(self.missing)]

    @property
    def drawn(self) -> np.ndarray:
        """Return the annotated voxels, or without labels all with data, as bool ``(z, y, x)``."""
        if self.labels is not None:
            return self.weights > 0
        return np.ones(self.volume.shape, bool) if self.missing is None else ~self.missing

    def require_labels(self, purpose: str) -> None:
        """Raise a ValueError that names the example and the purpose unless it has labels."""
        if self.labels is None:
            raise ValueError(f"{self.name}: has no labels, which {purpose} needs")

    def check_labels(self, classes: tuple[str, ...]) -> None:
        """Raise a ValueError unless every annotated label belongs to one of these classes.

        Nothing on the device notices a wrong label: -1 trains on the last class.
        """
        if self.labels is None:
            return
        count = max(len(classes), 2)
        values = np.unique(self.labels[self.weights > 0])
        wrong = values[(values < 0) | (values >= count)]
        if wrong.size:
            raise ValueError(
                f"{self.name}: annotated voxels have the label {wrong.tolist()}, but "
                f"{len(classes)} classes {classes} use 0 to {count - 1}; give the others weight 0 "
                "(the ignore label) or more classes"
            )


def split_annotation(
    example: Example, fraction: float = 0.25, seed: int = 0
) -> tuple[Example, Example]:
    """Hold out a block of the annotation, and return two examples with disjoint weights.

    The block is a run of consecutive annotated z slices with about `fraction` of them; if there
    are too few slices for that (``fraction * slices < 1``) a run of y rows, or of x columns, in
    all slices. Among the possible blocks those that leave most classes on both sides are
    preferred, and the seed chooses between them. Neighbouring voxels are correlated, so a block
    is a fairer test than scattered voxels.

    Returns:
        the training and the validation example.

    Raises:
        ValueError: if there is no annotation or it cannot be divided, or fraction is not between 0
            and 1.

    >>> import numpy as np
    >>> v, w = np.zeros((8, 4, 4), np.float32), np.zeros((8, 4, 4), np.float32)
    >>> w[[0, 2, 4, 6]] = 1
    >>> train, held_out = split_annotation(Example(v, v.astype(int), w), 0.25)
    >>> int(train.weights.any((1, 2)).sum()), int(held_out.weights.any((1, 2)).sum())
    (3, 1)
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the validation fraction must be between 0 and 1, got {fraction}")
    example.require_labels("a split of the annotation")
    known = example.weights > 0
    for axis in range(3):
        planes = np.flatnonzero(known.any(tuple(a for a in range(3) if a != axis)))
        count = round(fraction * len(planes))
        if fraction * len(planes) >= 1 and count < len(planes):
            break
    else:
        raise ValueError(
            f"{example.name}: too little is annotated to hold out {fraction:.0%} of it"
        )
    # Which labels each plane has, so that a block can be judged without touching the volume again.
    labels = np.unique(example.labels[known])
    present = np.stack(
        [
            [np.any(known.take(p, axis) & (example.labels.take(p, axis) == c)) for c in labels]
            for p in planes
        ]
    )
    starts = np.arange(len(planes) - count + 1)
    kept = [
        present[s : s + count].any(0).sum()
        + np.delete(present, range(s, s + count), 0).any(0).sum()
        for s in starts
    ]
    best = starts[np.asarray(kept) == max(kept)]
    start = int(np.random.default_rng(seed).choice(best))
    inside = np.zeros(example.volume.shape[axis], bool)
    inside[planes[start : start + count]] = True
    block = inside.reshape([-1 if a == axis else 1 for a in range(3)])
    return (
        dataclasses.replace(example, weights=np.where(block, 0, example.weights)),
        dataclasses.replace(
            example,
            weights=np.where(block, example.weights, 0),
            name=f"{example.name} (held out)",
        ),
    )
