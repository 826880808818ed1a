"""Tables of particles against the packages that the field reads and converts them with."""

import dynamotable
import eulerangles
import numpy as np
import pandas as pd
import pytest
import starfile

from cryojax_seg import io
from cryojax_seg.core import Particles

SHAPE = (60, 80, 100)
SIZE = 10.0


@pytest.fixture
def particles():
    rng = np.random.default_rng(3)
    angles = np.stack(
        [rng.uniform(-180, 180, 9), rng.uniform(1, 179, 9), rng.uniform(-180, 180, 9)], -1
    )
    return Particles(
        rng.uniform(5, 55, (9, 3)),
        io.euler_matrices(angles),
        rng.uniform(0, 1, 9),
        np.arange(9) % 3 + 1,
        {"rlnTomoName": ["TS 01"] * 9},
        SIZE,
    )


def relion_rotations(angles):
    """Rotations from the reference to the sample, z, y, x, by `eulerangles`.

    RELION's intrinsic turns about z, y and z take the particle to the reference.
    """
    turns = eulerangles.euler2matrix(angles, axes="zyz", intrinsic=True, right_handed_rotation=True)
    return turns.transpose(0, 2, 1)[:, ::-1, ::-1]


def test_angles_are_those_of_eulerangles(particles):
    angles = io.euler_angles(particles.rotations)
    np.testing.assert_allclose(relion_rotations(angles), particles.rotations, atol=1e-9)


@pytest.mark.parametrize("dialect", ["relion3", "relion5"])
def test_starfile_reads_what_is_written(tmp_path, particles, dialect):
    path = tmp_path / "p.star"
    io.write_particles(path, particles, dialect, SHAPE)
    found = starfile.read(path)
    assert set(found) == {"optics", "particles"}
    table = found["particles"]
    assert table["rlnTomoName"].tolist() == ["TS 01"] * 9
    if dialect == "relion3":
        where = table[[f"rlnCoordinate{a}" for a in "ZYX"]].to_numpy()
        assert found["optics"]["rlnMicrographPixelSize"].tolist() == [SIZE]
    else:
        centred = table[[f"rlnCenteredCoordinate{a}Angst" for a in "ZYX"]].to_numpy()
        where = centred / SIZE + np.array(SHAPE) / 2
        assert found["optics"]["rlnTomoTiltSeriesPixelSize"].tolist() == [SIZE]
    np.testing.assert_allclose(where, particles.coordinates, rtol=1e-9)
    angles = table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()
    np.testing.assert_allclose(relion_rotations(angles), particles.rotations, atol=1e-9)
    again = tmp_path / "again.star"
    starfile.write(found, again)
    read = io.read_particles(again, SIZE, SHAPE)
    np.testing.assert_allclose(read.coordinates, particles.coordinates, atol=1e-4)  # six digits
    assert read.classes.tolist() == particles.classes.tolist()


def test_dynamotable_reads_what_is_written(tmp_path, particles):
    path = tmp_path / "p.tbl"
    io.write_particles(path, Particles(particles.coordinates, particles.rotations, voxel_size=SIZE))
    table = dynamotable.read(path)
    where = table[["z", "y", "x"]].to_numpy() + table[["dz", "dy", "dx"]].to_numpy()
    np.testing.assert_allclose(where, particles.coordinates + 1, atol=1e-9)  # Dynamo's first is 1
    wanted = eulerangles.convert_eulers(
        io.euler_angles(particles.rotations), source_meta="relion", target_meta="dynamo"
    )
    stated = table[["tdrot", "tilt", "narot"]].to_numpy()
    turned = [
        eulerangles.euler2matrix(a, axes="zxz", intrinsic=False, right_handed_rotation=True)
        for a in (stated, wanted)
    ]
    np.testing.assert_allclose(*turned, atol=1e-9)
    again = tmp_path / "again.tbl"
    dynamotable.write(table, again)
    read = io.read_particles(again, SIZE)
    np.testing.assert_allclose(read.coordinates, particles.coordinates, atol=1e-3)
    np.testing.assert_allclose(read.rotations, particles.rotations, atol=1e-3)


def test_tables_of_m_are_in_angstrom(tmp_path, particles):
    angles = io.euler_angles(particles.rotations)
    columns = {
        f"wrpCoordinate{a}{n}": particles.coordinates[:, i] * SIZE + n - 1
        for n in (1, 2)
        for i, a in ((2, "X"), (1, "Y"), (0, "Z"))
    }
    columns |= {f"wrpAngle{a}1": angles[:, i] for i, a in enumerate(("Rot", "Tilt", "Psi"))}
    columns |= {"wrpSourceName": ["TS_01.tomostar"] * 9, "wrpRandomSubset": [1, 2, 1] * 3}
    path = tmp_path / "species_particles.star"
    starfile.write(pd.DataFrame(columns), path)
    read = io.read_particles(path, SIZE)
    np.testing.assert_allclose(read.coordinates, particles.coordinates, atol=1e-5)
    np.testing.assert_allclose(read.rotations, particles.rotations, atol=1e-5)
    assert read.columns["wrpRandomSubset"] == ("1", "2", "1") * 3
    assert not any(label.startswith("wrpCoordinate") for label in read.columns)
    assert io.rows_of_tomogram(io.read_table(path), "TS_01.mrc")[1] == "TS_01.tomostar"
