"""Particle coordinates as RELION STAR tables."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from cryojax_seg.core.types import Array
from cryojax_seg.io.files import atomic_write


def euler_angles(rotations: Float[Array, "n 3 3"]) -> Float[np.ndarray, "n 3"]:
    """RELION's rot, tilt and psi in degrees, of matrices that turn the reference into the sample.

    RELION's matrix of the three angles takes the reference to the sample; it is the inverse of
    intrinsic turns by them about z, y and z.

    Args:
        rotations: ``lab = R @ reference``, in zyx order.

    >>> import numpy as np
    >>> quarter = np.array([[[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]])  # x to y, about z, in zyx order
    >>> euler_angles(quarter).round(3).tolist()
    [[0.0, 0.0, -90.0]]
    """
    xyz = np.asarray(rotations, float)[:, ::-1, ::-1]
    with warnings.catch_warnings():
        # At tilt 0 only the sum of rot and psi is defined; scipy puts it into one of them.
        warnings.filterwarnings("ignore", message="Gimbal lock")
        angles = np.array(Rotation.from_matrix(xyz).inv().as_euler("ZYZ", degrees=True))
    locked = np.isclose(angles[:, 1], 0)
    angles[locked] = np.stack(
        [0 * angles[locked, 0], angles[locked, 1], angles[locked, 0] + angles[locked, 2]], -1
    )
    return angles + 0.0  # no minus zero


def write_star(
    path: Path,
    coordinates: Float[Array, "n 3"],
    rotations: Float[Array, "n 3 3"],
    columns: Mapping[str, Sequence[str]],
    voxel_size: float,
    overwrite: bool = False,
) -> None:
    """Writes a table of particles in the form of RELION 3.1 tomography.

    Args:
        path: the file.
        coordinates: voxels from the centre of the first voxel, zyx.
        rotations: from the reference to the sample, zyx.
        columns: more columns of words without spaces, by label, such as "rlnTomoName".
        voxel_size: angstrom, written as ``rlnPixelSize``.
        overwrite: replace an existing file.
    """
    coordinates = np.asarray(coordinates, float).reshape(-1, 3)
    angles = euler_angles(np.asarray(rotations, float).reshape(-1, 3, 3))
    numbers = {
        "rlnCoordinateX": coordinates[:, 2],
        "rlnCoordinateY": coordinates[:, 1],
        "rlnCoordinateZ": coordinates[:, 0],
        "rlnAngleRot": angles[:, 0],
        "rlnAngleTilt": angles[:, 1],
        "rlnAnglePsi": angles[:, 2],
        "rlnPixelSize": np.full(len(coordinates), voxel_size),
    }
    table = {label: list(words) for label, words in columns.items()}
    table |= {label: [f"{v:.4f}" for v in values] for label, values in numbers.items()}
    lines = ["", "data_particles", "", "loop_"]
    lines += [f"_{label} #{i + 1}" for i, label in enumerate(table)]
    lines += [" ".join(row) for row in zip(*table.values(), strict=True)]
    with atomic_write(path, overwrite) as file:
        file.write_text("\n".join(lines) + "\n\n")
