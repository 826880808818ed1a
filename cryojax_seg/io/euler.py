"""Convert between rotation matrices and the Euler angles that cryo-EM programs write."""

import numpy as np
from jaxtyping import Float


def _about_z(angle: np.ndarray) -> np.ndarray:
    """Return RELION's elementary matrix about z (xyz order), which rotates axes, not vectors."""
    c, s, zero, one = np.cos(angle), np.sin(angle), 0 * angle, 1 + 0 * angle
    rows = ((c, s, zero), (-s, c, zero), (zero, zero, one))
    return np.stack([np.stack(row, -1) for row in rows], -2)


def _about_y(angle: np.ndarray) -> np.ndarray:
    c, s, zero, one = np.cos(angle), np.sin(angle), 0 * angle, 1 + 0 * angle
    rows = ((c, zero, -s), (zero, one, zero), (s, zero, c))
    return np.stack([np.stack(row, -1) for row in rows], -2)


def euler_angles(rotations: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n 3"]:
    """Return RELION's rot, tilt and psi (degrees) of rotations from reference to sample.

    RELION's matrix of the three angles takes the reference to the sample; it is the inverse of
    intrinsic turns by them about z, y and z (Heymann et al. 2005, J. Struct. Biol. 151:196). At
    tilt 0 or 180, where only the sum or difference of the others is defined, rot is 0.

    Args:
        rotations: ``lab = R @ reference``, in zyx order.

    >>> import numpy as np
    >>> quarter = np.array([[[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]])  # x to y, about z, in zyx order
    >>> euler_angles(quarter).round(3).tolist()
    [[0.0, 0.0, -90.0]]
    """
    matrix = np.asarray(rotations, np.float64).reshape(-1, 3, 3)[:, ::-1, ::-1]
    across = np.hypot(matrix[:, 2, 0], matrix[:, 2, 1])
    rot = np.where(across > 1e-10, np.arctan2(matrix[:, 2, 1], matrix[:, 2, 0]), 0.0)
    # What is left without rot is psi and tilt, whose elements are never small together.
    rest = matrix @ _about_z(rot).transpose(0, 2, 1)
    tilt = np.arctan2(rest[:, 2, 0], rest[:, 2, 2])
    psi = np.arctan2(rest[:, 0, 1], rest[:, 1, 1])
    return np.rad2deg(np.stack([rot, tilt, psi], -1)) + 0.0  # no minus zero


def euler_matrices(angles: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3 3"]:
    """Return the rotations of RELION's angles; this inverts `euler_angles`.

    Args:
        angles: rot, tilt and psi in degrees.

    Returns:
        ``lab = R @ reference``, in zyx order.

    >>> euler_matrices(np.array([[0.0, 0.0, -90.0]])).round(3).tolist()
    [[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]]
    """
    rot, tilt, psi = np.deg2rad(np.asarray(angles, np.float64).reshape(-1, 3)).T
    matrix = _about_z(psi) @ _about_y(tilt) @ _about_z(rot)
    return matrix[:, ::-1, ::-1] + 0.0
