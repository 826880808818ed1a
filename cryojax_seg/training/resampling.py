"""Resamples annotated tomograms, so that one segmenter can learn from several voxel sizes."""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from cryojax_seg.core import Resampled, measure_intensity
from cryojax_seg.core.resampling import Ratio, ratios
from cryojax_seg.errors import ParameterError
from cryojax_seg.training.example import Example

ALIKE = 0.05  # relative difference up to which voxels are taken as equal
VoxelSize = tuple[float, float, float]
_log = logging.getLogger("cryojax_seg.training")


def at_one_size(
    examples: Sequence[Example], sizes: Sequence[VoxelSize], wanted: VoxelSize
) -> list[Example]:
    """Return examples whose voxels are all of about one size; the log says which are resampled.

    Args:
        examples: annotated tomograms.
        sizes: their voxel sizes along z, y, x, in angstrom.
        wanted: the voxel size that is wanted.

    Raises:
        ParameterError: as `resampled_example`.

    >>> volume = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    >>> sizes = ((5.0, 5.0, 5.0), (10.0, 10.0, 10.0))
    >>> [e.volume.shape for e in at_one_size([Example(volume)] * 2, sizes, sizes[1])]
    [(4, 4, 4), (8, 8, 8)]
    """
    found = []
    for example, size in zip(examples, sizes, strict=True):
        if not alike(size, wanted):
            _log.info(
                f"{example.name}: has voxels of {angstrom(size)} A; it is resampled to "
                f"{angstrom(wanted)} A with its labels"
            )
            example = resampled_example(example, size, wanted)
        found.append(example)
    return found


def angstrom(size: Sequence[float]) -> str:
    """Return a voxel size as text, with one number for axes that are equal.

    >>> angstrom((10.0, 10.0, 10.0)), angstrom((20.0, 10.0, 10.0))
    ('10', '20 x 10')
    """
    return " x ".join(dict.fromkeys(f"{s:.4g}" for s in size))


def alike(one: Sequence[float], other: Sequence[float], most: float = ALIKE) -> bool:
    """Return whether two voxel sizes differ by at most 5 % along every axis.

    >>> alike((10.0, 10.0, 10.0), (10.4, 10.0, 9.6)), alike((10.0, 10.0, 10.0), (10.0, 10.0, 13.0))
    (True, False)
    """
    return all(abs(a / b - 1) <= most for a, b in zip(one, other, strict=True))


def resampled_example(example: Example, size: VoxelSize, wanted: VoxelSize) -> Example:
    """Return an annotated tomogram in voxels of another size, to within 1 %.

    The tomogram is resampled with a low-pass filter and normalized again. A voxel gets the nearest
    annotated label among those of the voxels that it replaces, so that annotated slices are kept.

    Args:
        example: the tomogram with its annotation, and with nothing else but its wedge.
        size: its voxel size along z, y, x, in angstrom.
        wanted: the voxel size that is wanted.

    Raises:
        ParameterError: if the example has normals, halves or a truth.

    >>> one = Example(np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32))
    >>> resampled_example(one, (5.0, 5.0, 5.0), (10.0, 10.0, 10.0)).volume.shape
    (4, 4, 4)
    """
    lacking = (example.normals, example.halves, example.truth)
    if any(array is not None for array in lacking):
        raise ParameterError(
            f"{example.name}: its normals, halves or truth cannot be resampled; leave them out",
            "voxel_size",
        )
    z, y, x = (a / b for a, b in zip(size, wanted, strict=True))
    by = ratios((z, y, x))
    volume = Resampled(example.volume, by)[:, :, :]
    missing, labels, weights = example.missing, example.labels, example.weights
    for axis, ratio in enumerate(by):
        nearest, *others = _replaced(ratio, example.volume.shape[axis])
        missing = None if missing is None else missing.take(nearest, axis)
        if labels is None:
            continue
        whole, known = labels, weights
        labels, weights = labels.take(nearest, axis), weights.take(nearest, axis)
        for index in others:
            empty = weights == 0
            labels = np.where(empty, whole.take(index, axis), labels)
            weights = np.where(empty, known.take(index, axis), weights)
    kept = volume if missing is None else volume[~missing]
    intensity = measure_intensity(kept.reshape(1, 1, -1), "bright")
    volume = intensity.apply(volume, np.zeros(volume.shape, bool) if missing is None else missing)
    return dataclasses.replace(
        example, volume=volume, labels=labels, weights=weights, missing=missing
    )


def _replaced(ratio: Ratio, size: int) -> list[np.ndarray]:
    """Return the old voxels that each new one replaces, nearest first, as indices of an axis."""
    new = np.arange(ratio.length(size))
    nearest = (2 * new + 1) * ratio.old // (2 * ratio.new)
    first, last = new * ratio.old // ratio.new, -(-(new + 1) * ratio.old // ratio.new) - 1
    reach = -(-ratio.old // ratio.new) // 2 + 1 if ratio.old > ratio.new else 0
    steps = sorted(range(-reach, reach + 1), key=abs)
    return [np.clip(nearest + step, first, np.minimum(last, size - 1)) for step in steps]
