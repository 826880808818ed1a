"""Makes examples for training from painted labels."""

import numpy as np

from cryojax_seg.core.intensity import Normalized
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.training import Example
from cryojax_seg.view.painting import Painting


def painted_example(
    painting: Painting,
    volume: Normalized,
    name: str = "tomogram",
    wedge: MissingWedge | None = None,
    around: int | None = None,
) -> Example:
    """Return painted labels as an example, with weight 0 where nobody annotated.

    Args:
        painting: the labels.
        volume: the normalized tomogram, structure bright.
        name: of the tomogram, for messages.
        wedge: its missing wedge; None if unknown.
        around: keep only slices up to this many voxels from an annotated one; None for all.

    Raises:
        ValueError: if nothing is annotated yet.

    >>> from cryojax_seg.core import Intensity, Tomogram
    >>> tomogram = Tomogram(np.zeros((9, 5, 6), np.float32), voxel_size=(10.0, 10.0, 10.0))
    >>> painting = Painting(tomogram)
    >>> painting.stroke((0, 4), [[2, 2]], 1.0, 1), painting.complete((0, 4))
    (True, True)
    >>> volume = Normalized(tomogram.density, Intensity(0.0, 1.0))
    >>> found = painted_example(painting, volume, around=1)
    >>> found.volume.shape, int(found.labels.sum()), int(found.weights.sum())
    ((3, 5, 6), 5, 30)
    """
    slices, annotated = painting.slices(), painting.annotated()
    if not annotated:
        raise ValueError(f"{name}: nothing is annotated yet; paint on a slice first")
    depth = painting.shape[0]
    first, last = 0, depth
    if around is not None:
        first, last = max(annotated[0] - around, 0), min(annotated[-1] + 1 + around, depth)
    shape = (last - first, *painting.shape[1:])
    labels, weights = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    for z in annotated:
        known = slices[z] >= 0
        labels[z - first] = np.where(known, slices[z], 0)
        weights[z - first] = known
    where = (slice(first, last), slice(0, shape[1]), slice(0, shape[2]))
    missing = volume.missing(where)
    weights[missing] = 0
    if not weights.any():
        raise ValueError(f"{name}: holds no data where it is annotated; paint elsewhere")
    return Example(
        volume=volume[where],
        labels=labels,
        weights=weights,
        wedge=wedge,
        missing=missing if missing.any() else None,
        name=name,
    )
