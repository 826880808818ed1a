"""Scores topology: connected components, tunnels and cavities."""

import itertools

import numpy as np
from scipy import ndimage
from skimage.measure import euler_number

from cryojax_seg.core.types import MaskArray
from cryojax_seg.evaluate.overlap import same_shape


def _pieces(mask: np.ndarray, connectivity: int) -> int:
    return ndimage.label(mask, ndimage.generate_binary_structure(3, connectivity))[1]  # pyright: ignore


def betti_numbers(mask: MaskArray) -> tuple[int, int, int]:
    """Return the numbers of components, tunnels and cavities of a mask (b0, b1, b2).

    Foreground voxels connect across faces, edges and corners, background voxels across faces only.
    ``b1 = b0 + b2 - Euler number``. Beyond the volume is background.

    >>> import numpy as np
    >>> shell = np.ones((5, 5, 5), bool); shell[2, 2, 2] = False
    >>> betti_numbers(shell)
    (1, 0, 1)
    """
    padded = np.pad(np.asarray(mask), 1)
    if not padded.any():
        return 0, 0, 0
    pieces = _pieces(padded, 3)
    cavities = _pieces(~padded, 1) - 1
    return pieces, pieces + cavities - int(euler_number(padded, connectivity=3)), cavities


def betti_error(
    prediction: MaskArray, truth: MaskArray, patch: int | None = None
) -> tuple[float, float, float] | None:
    """Return the mean of ``|b_i(prediction) - b_i(truth)|`` over patches, for i of 0, 1, 2.

    Args:
        prediction, truth: masks of one class and shape.
        patch: edge of the patches, voxels; None for the whole volume as one. Patches make the
            error local, so that a gap and a false bridge do not cancel (Hu et al. 2019).

    Returns:
        None if both masks are empty.

    Raises:
        ValueError: for unequal shapes or a patch below 1.

    >>> import numpy as np
    >>> wall = np.zeros((6, 6, 6), bool); wall[3] = True
    >>> torn = wall.copy(); torn[:, 3] = False
    >>> betti_error(torn, wall)
    (1.0, 0.0, 0.0)
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    same_shape(prediction, truth)
    if patch is not None and patch < 1:
        raise ValueError(f"patch must be at least 1, got {patch}")
    if not (prediction.any() or truth.any()):
        return None
    edges = truth.shape if patch is None else (patch,) * 3
    starts = [range(0, n, e) for n, e in zip(truth.shape, edges, strict=True)]
    errors = []
    for origin in itertools.product(*starts):
        where = tuple(slice(o, o + e) for o, e in zip(origin, edges, strict=True))
        pairs = zip(betti_numbers(prediction[where]), betti_numbers(truth[where]), strict=True)
        errors.append([abs(a - b) for a, b in pairs])
    zero, one, two = np.mean(errors, axis=0).tolist()
    return zero, one, two
