"""Finds the direction of the least eigenvalue of many symmetric 3 x 3 matrices, in closed form."""

import numpy as np
from jaxtyping import Float

_FLAT = 1e-8  # size of the products of rows, relative to their own, below which they tell nothing


def least_direction(entries: Float[np.ndarray, "6 _n"]) -> Float[np.ndarray, "_n 3"]:
    """Return the unit eigenvectors of the least eigenvalues, of arbitrary sign.

    Eigenvalues are the roots of the characteristic polynomial by cosines (Smith 1961, Commun. ACM
    4:168), and the eigenvector is the longest product of two rows of ``A - lambda I``. Where the
    two least eigenvalues agree, `numpy.linalg.eigh` chooses one.

    Args:
        entries: the entries 00, 01, 02, 11, 12, 22 of each matrix, float64.

    >>> found = least_direction(np.array([[2.0, 0, 0, 3, 0, 1]]).T)
    >>> np.abs(found).round(12).tolist()
    [[0.0, 0.0, 1.0]]
    """
    a, b, c, d, e, f = np.asarray(entries, float)
    mean = (a + d + f) / 3
    a, d, f = a - mean, d - mean, f - mean
    spread = np.sqrt((a * a + d * d + f * f + 2 * (b * b + c * c + e * e)) / 6)
    safe = np.where(spread > 0, spread, 1.0)
    half = (a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d)) / (2 * safe**3)
    least = 2 * spread * np.cos(np.arccos(np.clip(half, -1, 1)) / 3 + 2 * np.pi / 3)
    a, d, f = a - least, d - least, f - least
    products = np.array(
        [
            (b * e - c * d, b * c - a * e, a * d - b * b),  # rows 0 and 1
            (b * f - c * e, c * c - a * f, a * e - b * c),  # rows 0 and 2
            (d * f - e * e, c * e - b * f, b * e - c * d),  # rows 1 and 2
        ]
    )
    squares = (products * products).sum(1)
    best = squares.argmax(0)
    each = np.arange(best.size)
    found, length = products[best, :, each], np.sqrt(squares[best, each])
    flat = length <= _FLAT * safe * safe
    found = found / np.where(flat, 1.0, length)[:, None]
    if flat.any():
        rows = np.asarray(entries, float)[:, flat].T[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]]
        found[flat] = np.linalg.eigh(rows.reshape(-1, 3, 3))[1][:, :, 0]
    return found
