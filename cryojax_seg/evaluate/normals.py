"""Estimates the normals of a labelled surface."""

import numpy as np
from scipy import ndimage

from cryojax_seg.core.masks import structure_normals
from cryojax_seg.core.types import MaskArray


def mask_normals(mask: MaskArray, sigma: float = 2.0) -> np.ndarray:
    """Return unit normals (zyx) on a mask that is a few voxels thick, 0 elsewhere.

    The direction across which the smoothed mask changes most (`core.masks.structure_normals`, with
    the Gaussian that smooths the mask). It has no sign. The volume is continued by mirror images;
    within about two sigma of a rim, a crossing or a face that cuts the surface obliquely, normals
    lean.

    Args:
        mask: mask of one class, a few voxels thick.
        sigma: standard deviation of the window, voxels: about half the thickness of the surface or
            more, and well below its radius of curvature.

    Returns:
        float32 ``(z, y, x, 3)``.

    Raises:
        ValueError: if sigma is not positive.

    >>> import numpy as np
    >>> wall = np.zeros((16, 16, 16), bool); wall[7:9] = True
    >>> np.abs(mask_normals(wall)[7, 8, 8]).round(2).tolist()
    [1.0, 0.0, 0.0]
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    mask = np.asarray(mask)
    normals = np.zeros((*mask.shape, 3), np.float32)
    if not mask.any():
        return normals
    smooth = np.asarray(ndimage.gaussian_filter(mask.astype(np.float32), sigma, mode="reflect"))
    normals[mask] = structure_normals(smooth, sigma, lambda field: field[mask])
    return normals
