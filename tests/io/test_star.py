"""STAR tables: RELION's angles, and files that are complete or absent."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryojax_seg import io


def relion_matrix(rot, tilt, psi):
    """RELION's A(rot, tilt, psi) from its elements (Heymann et al. 2005), xyz order."""
    a, b, g = np.deg2rad([rot, tilt, psi])
    ca, sa, cb, sb, cg, sg = np.cos(a), np.sin(a), np.cos(b), np.sin(b), np.cos(g), np.sin(g)
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


def test_angles_are_those_of_relion():
    """RELION reads the reference at A^-1 x for each place x of the sample: A is the rotation."""
    turns = Rotation.random(20, random_state=0).as_matrix()
    for turn, angles in zip(turns, io.euler_angles(turns[:, ::-1, ::-1]), strict=True):
        np.testing.assert_allclose(relion_matrix(*angles), turn, atol=1e-9)


def test_turns_about_the_beam_are_psi_alone():
    flat = Rotation.from_euler("z", [[0.0], [30.0], [-90.0]], degrees=True).as_matrix()
    angles = io.euler_angles(flat[:, ::-1, ::-1])
    np.testing.assert_allclose(angles, [[0, 0, 0], [0, 0, -30], [0, 0, 90]], atol=1e-9)


def test_a_table_is_written_once_and_can_be_empty(tmp_path):
    path, columns = tmp_path / "p.star", {"rlnTomoName": ["a", "a"]}
    where = np.array([[1.0, 2, 3], [4, 5, 6.5]])
    io.write_star(path, where, np.stack([np.eye(3)] * 2), columns, 10.0)
    text = path.read_text()
    assert text.count("\na ") == 2 and "_rlnCoordinateX #2" in text
    assert "a 6.5000 5.0000 4.0000 0.0000 0.0000 0.0000 10.0000" in text
    with pytest.raises(io.FileError, match="exists"):
        io.write_star(path, where, np.stack([np.eye(3)] * 2), columns, 10.0)
    nothing = tmp_path / "none.star"
    io.write_star(nothing, np.zeros((0, 3)), np.zeros((0, 3, 3)), {"rlnTomoName": []}, 10.0)
    assert nothing.read_text().rstrip().endswith("_rlnPixelSize #8")
