"""The normals of a labelled surface, where nobody gave them."""

import numpy as np
from scipy import ndimage

from cryojax_seg.core.types import MaskArray


def mask_normals(mask: MaskArray, sigma: float = 2.0) -> np.ndarray:
    """Unit normals (zyx) at the voxels of a mask that is a few voxels thick, 0 elsewhere.

    The direction across which the smoothed mask changes most: the dominant eigenvector of the
    structure tensor ``G * (grad m grad m^T)`` of the mask m smoothed by the same Gaussian G
    (Weickert 1998, equation 2.2). It has no sign. The volume is continued by mirror images; within
    about two sigma of a rim, a crossing or a face that cuts the surface obliquely, normals lean.

    Args:
        mask: of one class.
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
    gradient = [np.asarray(np.gradient(smooth, axis=axis)) for axis in range(3)]
    tensor = np.empty((int(mask.sum()), 3, 3), np.float32)
    for i in range(3):
        for j in range(i, 3):
            product = ndimage.gaussian_filter(gradient[i] * gradient[j], sigma, mode="reflect")
            tensor[:, i, j] = tensor[:, j, i] = np.asarray(product)[mask]
    normals[mask] = np.linalg.eigh(tensor.astype(np.float64))[1][:, :, -1]
    return normals
