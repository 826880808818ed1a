"""Tables of particles: every digit comes back, and the conventions are those of the programs."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryojax_seg import io
from cryojax_seg.core import Particles

SHAPE = (200, 301, 511)
FILES = [("p.star", "relion3"), ("p.star", "relion5"), ("p.tbl", "dynamo"), ("p.csv", "csv")]


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


@pytest.fixture(scope="module")
def particles():
    rng = np.random.default_rng(0)
    coordinates = rng.uniform(0, SHAPE, (60, 3))
    coordinates[:8] = [
        *((0.1, 1 / 3, 1e-9), (-0.3, -1e-12, 700.1), (100.0, 150.5, 255.5), (0.5, 1.5, 2.5)),
        *((99.99999999999999, 150.50000000000003, 255.49999999999997), (1e-30, 0.0, -0.0)),
        *((np.pi, np.e, 1e5 / 7), (2.0**-90, 2.0**-52, 1 - 2.0**-53)),
    ]
    turns = Rotation.random(60, random_state=1)
    flat = Rotation.from_euler("z", np.arange(10)[:, None] * 37.0, degrees=True)
    over = Rotation.from_euler("x", 180, degrees=True)
    nearly = Rotation.from_rotvec(1e-7 * rng.normal(size=(10, 3)))
    matrices = turns.as_matrix()
    matrices[:30] = np.concatenate(
        [flat.as_matrix(), (over * flat).as_matrix(), (nearly * flat).as_matrix()]
    )
    return Particles(
        coordinates,
        matrices[:, ::-1, ::-1],
        rng.normal(size=60),
        rng.integers(1, 4, 60),
        voxel_size=13.48,
    )


def test_angles_are_those_of_relion():
    """RELION reads the reference at A^-1 x for each place x of the sample: A is the rotation."""
    turns = Rotation.random(20, random_state=0).as_matrix()
    for turn, angles in zip(turns, io.euler_angles(turns[:, ::-1, ::-1]), strict=True):
        np.testing.assert_allclose(relion_matrix(*angles), turn, atol=1e-14)


def test_turns_about_the_beam_are_psi_alone():
    flat = Rotation.from_euler("z", [[0.0], [30.0], [-90.0]], degrees=True).as_matrix()
    angles = io.euler_angles(flat[:, ::-1, ::-1])
    np.testing.assert_allclose(angles, [[0, 0, 0], [0, 0, -30], [0, 0, 90]], atol=1e-12)


def test_angles_bring_back_rotations_also_near_the_poles(particles):
    again = io.euler_matrices(io.euler_angles(particles.rotations))
    np.testing.assert_allclose(again, particles.rotations, atol=3e-10)


@pytest.mark.parametrize("name, dialect", FILES)
def test_every_dialect_brings_everything_back(tmp_path, particles, name, dialect):
    """Coordinates and scores bit for bit, rotations to 1e-9, in all dialects."""
    path = tmp_path / name
    io.write_particles(path, particles, dialect, SHAPE)
    again = io.read_particles(path, shape=SHAPE)
    np.testing.assert_array_equal(again.coordinates, particles.coordinates)
    np.testing.assert_allclose(again.rotations, particles.rotations, atol=1e-9)
    np.testing.assert_array_equal(again.scores, particles.scores)
    np.testing.assert_array_equal(again.classes, particles.classes)
    assert again.voxel_size == 13.48
    with pytest.raises(io.FileError, match="exists"):
        io.write_particles(path, particles, dialect, SHAPE)
    nothing = dataclasses.replace(particles.take([]), scores=None, classes=None)
    io.write_particles(path, nothing, dialect, SHAPE, overwrite=True)
    if dialect == "dynamo":
        assert path.read_text() == ""
    else:
        assert len(io.read_particles(path, voxel_size=1.0, shape=SHAPE)) == 0


def test_unknown_columns_and_tables_of_a_star_file_are_kept(tmp_path):
    path = tmp_path / "p.star"
    path.write_text(
        "data_general\n_rlnTomoSubTomosAre2DStacks 1\n\n"
        "data_optics\nloop_\n_rlnOpticsGroup\n_rlnVoltage\n_rlnImagePixelSize\n1 300.00 4.0\n\n"
        "data_particles\nloop_\n_rlnTomoName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n"
        "_rlnCoordinateZ #4\n_rlnOriginXAngst #5\n_rlnOriginYAngst #6\n_rlnOriginZAngst #7\n"
        "_myOwnLabel #8\n_rlnOpticsGroup #9\n"
        "tomo_1 30 20 10 4.0 0 0 '0.10 cm' 1\ntomo_1 31 21 11 0 -8 0 0.20 1\n"
    )
    first = io.read_particles(path)
    np.testing.assert_array_equal(first.coordinates, [[10, 20, 29], [11, 23, 31]])
    assert first.voxel_size == 4.0
    assert first.columns["myOwnLabel"] == ("0.10 cm", "0.20")
    assert first.columns["rlnTomoName"] == ("tomo_1", "tomo_1")
    again = tmp_path / "again.star"
    io.write_particles(again, first)
    second = io.read_particles(again)
    assert second.columns == first.columns
    assert second.tables["general"] == {"rlnTomoSubTomosAre2DStacks": ("1",)}
    assert second.tables["optics"]["rlnVoltage"] == ("300.00",)
    np.testing.assert_array_equal(second.coordinates, first.coordinates)


def test_relion_5_counts_from_half_the_size(tmp_path):
    """RELION: x = centred / pixel size + size / 2, with the half exact also for odd sizes."""
    one = Particles([[10.0, 20.0, 30.0]], columns={"rlnTomoName": ["a"]}, voxel_size=10.0)
    io.write_particles(tmp_path / "p.star", one, "relion5", (100, 101, 102))
    block = io.read_star(tmp_path / "p.star")["particles"]
    assert [float(block[f"rlnCenteredCoordinate{a}Angst"][0]) for a in "ZYX"] == [-400, -305, -210]
    assert block["rlnTomoName"] == ("a",)
    with pytest.raises(io.FileError, match="p.star: has centred coordinates .* name the tomogram"):
        io.read_particles(tmp_path / "p.star")
    with pytest.raises(io.FileError, match="give the tomogram's shape"):
        io.write_particles(tmp_path / "q.star", one, "relion5")


def test_turns_and_shifts_of_pseudo_subtomograms_are_composed(tmp_path):
    """RELION: R = A_box A_particle, x = coordinate - A_box origin / pixel size."""
    box, own = (40.0, 50.0, 60.0), (10.0, 20.0, 30.0)
    labels = [*(f"rlnCoordinate{a}" for a in "XYZ"), *(f"rlnOrigin{a}Angst" for a in "XYZ")]
    labels += [f"rlnTomoSubtomogram{a}" for a in ("Rot", "Tilt", "Psi")]
    labels += [f"rlnAngle{a}" for a in ("Rot", "Tilt", "Psi")]
    values = (30.0, 20.0, 10.0, 4.0, 8.0, -2.0, *box, *own)
    table = {label: (repr(v),) for label, v in zip(labels, values, strict=True)}
    io.write_star(tmp_path / "p.star", {"particles": table})
    with pytest.raises(io.FileError, match="no voxel size; give voxel_size"):
        io.read_particles(tmp_path / "p.star")
    found = io.read_particles(tmp_path / "p.star", voxel_size=2.0)
    rotation = relion_matrix(*box) @ relion_matrix(*own)
    np.testing.assert_allclose(found.rotations[0], rotation[::-1, ::-1], atol=1e-12)
    expected = np.array([30.0, 20, 10]) - relion_matrix(*box) @ np.array([4.0, 8, -2]) / 2
    np.testing.assert_allclose(found.coordinates[0], expected[::-1], atol=1e-12)


def test_dynamo_turns_about_z_x_z_and_counts_from_one(tmp_path):
    """The sample goes to the reference by turns about the fixed axes z, x, z by its angles."""
    tdrot, tilt, narot = -47.273, 61.1777, -132.3
    row = ["0"] * 42
    row[3:6], row[6:9] = ("0.25", "0", "-1"), map(str, (tdrot, tilt, narot))
    row[9], row[19], row[21], row[23:26] = "0.5", "7", "3", ("30", "20", "10")
    row[35] = "5.5"
    (tmp_path / "p.tbl").write_text(" ".join(row) + "\n")
    found = io.read_particles(tmp_path / "p.tbl")
    turn = Rotation.from_euler("zxz", [tdrot, tilt, narot], degrees=True).inv().as_matrix()
    np.testing.assert_allclose(found.rotations[0], turn[::-1, ::-1], atol=1e-12)
    np.testing.assert_array_equal(found.coordinates, [[8, 19, 29.25]])
    assert (found.scores[0], found.classes[0], found.voxel_size) == (0.5, 3, 5.5)
    assert found.columns["tomo"] == ("7",)
    io.write_particles(tmp_path / "q.tbl", found)
    assert io.read_particles(tmp_path / "q.tbl").columns == found.columns
    with_name = dataclasses.replace(found, columns={**found.columns, "rlnTomoName": ("a",)})
    with pytest.warns(io.HeaderWarning, match="no column for rlnTomoName"):
        io.write_particles(tmp_path / "r.tbl", with_name)


def star_table(path, optics, particles):
    """A STAR file with one row of optics, and particles; both as columns of words."""
    blocks = {"optics": {k: (v,) for k, v in optics.items()}} if optics else {}
    io.write_star(path, {**blocks, "particles": particles})
    return path


XYZ = {f"rlnCoordinate{a}": (v,) for a, v in zip("XYZ", ("30", "20", "10"), strict=True)}


@pytest.mark.parametrize(
    ("optics", "more", "scale"),
    [
        ({"rlnTomoTiltSeriesPixelSize": "5"}, {}, 0.5),
        (
            {"rlnTomoTiltSeriesPixelSize": "5", "rlnImagePixelSize": "10"},
            {"rlnImageName": "a"},
            0.5,
        ),
        ({"rlnImagePixelSize": "20", "rlnTomoSubtomogramBinning": "4"}, {}, 0.5),
        ({"rlnMicrographPixelSize": "20", "rlnImagePixelSize": "40"}, {"rlnImageName": "a"}, 2.0),
        ({"rlnImagePixelSize": "20"}, {}, 2.0),
        ({"rlnImagePixelSize": "10.05"}, {"rlnImageName": "a"}, 1.0),
        ({}, {"rlnPixelSize": "2.5"}, 0.25),
        ({}, {"rlnDetectorPixelSize": "5"}, 0.5),
        ({}, {"rlnDetectorPixelSize": "5", "rlnMagnification": "10000"}, 0.5),
        ({}, {"rlnDetectorPixelSize": "14", "rlnMagnification": "28000"}, 0.5),
        ({}, {"rlnPixelSize": "0"}, 1.0),
    ],
)
def test_coordinates_are_scaled_from_the_pixels_that_the_table_states(
    tmp_path, optics, more, scale
):
    columns = XYZ | {k: (v,) for k, v in more.items()}
    path = star_table(tmp_path / "p.star", optics, columns)
    found = io.read_particles(path, voxel_size=10.0)
    np.testing.assert_allclose(found.coordinates, scale * np.array([[10, 20, 30]]), rtol=1e-12)
    assert found.voxel_size == 10.0
    given = io.read_particles(path, voxel_size=10.0, coordinates_voxel_size=40.0)
    np.testing.assert_allclose(given.coordinates, [[40, 80, 120]], rtol=1e-12)
    io.write_particles(tmp_path / "again.star", found)
    again = io.read_particles(tmp_path / "again.star", voxel_size=10.0)
    np.testing.assert_allclose(again.coordinates, found.coordinates, rtol=1e-12)


@pytest.mark.parametrize("name", ["p.star", "p.tbl"])
def test_pixels_of_boxes_need_not_be_those_of_the_coordinates(tmp_path, name):
    star_table(tmp_path / "p.star", {"rlnImagePixelSize": "5"}, XYZ | {"rlnImageName": ("1@b",)})
    io.write_particles(tmp_path / "p.tbl", Particles([[10.0, 20, 30]], voxel_size=5.0))
    complaint = "pixels of 5 A .*, the tomogram has voxels of 10 A, .*the coordinates"
    with pytest.raises(io.FileError, match=complaint) as refused:
        io.read_particles(tmp_path / name, voxel_size=10.0)
    assert refused.value.parameters == ("coordinates_voxel_size",)


def test_optics_groups_have_pixels_of_their_own(tmp_path):
    optics = {"rlnOpticsGroup": ("1", "2"), "rlnTomoTiltSeriesPixelSize": ("5", "2.5")}
    two = {label: column * 2 for label, column in XYZ.items()} | {"rlnOpticsGroup": ("2", "1")}
    io.write_star(tmp_path / "p.star", {"optics": optics, "particles": two})
    found = io.read_particles(tmp_path / "p.star", voxel_size=10.0)
    np.testing.assert_allclose(found.coordinates, [[2.5, 5, 7.5], [5, 10, 15]])
    two["rlnOpticsGroup"] = ("2", "3")
    io.write_star(tmp_path / "q.star", {"optics": optics, "particles": two})
    with pytest.raises(io.FileError, match="row 2 is of none of them .rlnOpticsGroup"):
        io.read_particles(tmp_path / "q.star", voxel_size=10.0)


def test_shifts_in_pixels_are_those_of_the_images(tmp_path):
    """RELION 3.0: x = coordinate - origin; a missing axis is 0."""
    shifts = {"rlnOriginX": ("4",), "rlnOriginZ": ("-2",)}
    path = star_table(tmp_path / "p.star", {}, XYZ | shifts)
    found = io.read_particles(path, voxel_size=10.0)
    assert found.coordinates.tolist() == [[12, 20, 26]] and "rlnOriginX" not in found.columns
    path = star_table(tmp_path / "q.star", {"rlnImagePixelSize": "5"}, XYZ | shifts)
    assert io.read_particles(path, voxel_size=10.0).coordinates.tolist() == [[6, 10, 13]]
    tilted = XYZ | {"rlnAngleTilt": ("90",)}  # so is a missing angle
    turned = io.read_particles(star_table(tmp_path / "r.star", {}, tilted))
    np.testing.assert_allclose(io.euler_angles(turned.rotations), [[0, 90, 0]], atol=1e-9)


def test_new_boxes_are_described_and_former_ones_not(tmp_path):
    optics = {"rlnOpticsGroup": "1", "rlnVoltage": "300", "rlnTomoTiltSeriesPixelSize": "2.25"}
    optics |= {"rlnImageDimensionality": "2", "rlnImageSize": "96", "rlnImagePixelSize": "4"}
    optics |= {"rlnTomoSubtomogramBinning": "1.778", "rlnCtfDataAreCtfPremultiplied": "1"}
    particles = XYZ | {"rlnImageName": ("old",), "rlnCtfImage": ("old_ctf",), "myLabel": ("kept",)}
    blocks = {"general": {"rlnTomoSubTomosAre2DStacks": ("1",)}}
    blocks |= {"optics": {k: (v,) for k, v in optics.items()}, "particles": particles}
    io.write_star(tmp_path / "p.star", blocks)
    found = io.read_particles(tmp_path / "p.star", voxel_size=9.0)
    io.write_particles(tmp_path / "q.star", io.with_boxes(found, ["000001@b.mrcs"], 16))
    new = io.read_star(tmp_path / "q.star")
    assert new["optics"] == {
        "rlnOpticsGroup": ("1",),
        "rlnVoltage": ("300",),
        "rlnImageDimensionality": ("3",),
        "rlnImageSize": ("16",),
        "rlnTomoTiltSeriesPixelSize": ("2.25",),
        "rlnTomoSubtomogramBinning": ("4",),
        "rlnImagePixelSize": ("9.0",),
    }
    assert new["general"] == {"rlnTomoSubTomosAre2DStacks": ("0",)}
    assert new["particles"]["rlnImageName"] == ("000001@b.mrcs",)
    assert new["particles"]["myLabel"] == ("kept",) and "rlnCtfImage" not in new["particles"]
    assert [float(new["particles"][label][0]) for label in XYZ] == [30, 20, 10]  # of the series
    assert io.read_table(tmp_path / "q.star").flat_images() is None
    assert io.read_table(tmp_path / "p.star").flat_images() == "rlnTomoSubTomosAre2DStacks 1"


def test_a_set_of_relion_stands_for_its_particles(tmp_path):
    job = tmp_path / "Extract" / "job007"
    job.mkdir(parents=True)
    star_table(job / "particles.star", {"rlnTomoTiltSeriesPixelSize": "5"}, XYZ)
    named = {"": {"rlnTomoParticlesFile": ("Extract/job007/particles.star",)}}
    io.write_star(job / "optimisation_set.star", named)
    assert io.read_particles(job / "optimisation_set.star").coordinates.tolist() == [[10, 20, 30]]
    named = {"": {"rlnTomoParticlesFile": ("Extract/job008/particles.star",)}}
    io.write_star(tmp_path / "lost.star", named)
    with pytest.raises(io.FileError, match="names Extract/job008/particles.star .*give that file"):
        io.read_particles(tmp_path / "lost.star")


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffz,y,x,score\r\n1.5,2,3,0.25\r\n",
        "z;y;x;score;\n1,5;2;3;0,25;\n;;;;\n",
        "sep=;\nZ;Y;X;score\n1.5;2;3;0.25\n",
        "z\ty\tx\tscore\n1,5\t2\t3\t0,25\n",
        ",axis-0,axis-1,axis-2,score\n0,1.5,2,3,0.25\n",
        'z,y,x,score\n"1,5","2","3","0,25"\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_spreadsheets_of_other_programs(tmp_path, text, encoding):
    (tmp_path / "p.csv").write_bytes(text.encode(encoding))
    found = io.read_particles(tmp_path / "p.csv")
    assert found.coordinates.tolist() == [[1.5, 2, 3]] and found.scores.tolist() == [0.25]
    assert found.columns == {}


@pytest.mark.parametrize(
    "name, text, complaint",
    [
        ("p.star", "data_\nloop_\n_rlnCoordinateX\n1\n", "no column rlnCoordinateZ, rlnCoordin"),
        ("p.csv", "z,y,x\n1,2,here\n", "row 1 of x is 'here', not a number"),
        ("p.csv", "z,y,x\n1,2,nan\n", "row 1 of x is nan"),
        ("p.csv", "z,y,x\n1,2\n", "row 2 has 2 values for 3 columns"),
        ("p.csv", "a,b\n1,2\n", "has no column z, y, x; it has a, b"),
        ("p.tbl", "1 2 3\n", "26 columns or more"),
        ("p.tbl", "0 " * 21 + "1e308 0 1 1 1\n", "row 1 of class is 1e.308, not a whole number"),
        ("p.csv", "z,y,x,class\n1,2,3,1.5\n", "row 1 of class is 1.5, not a whole number"),
        ("p.csv", "z,y,x,x\n1,2,3,4\n", "the column x occurs twice"),
        ("p.csv", "z,y,x,X\n1,2,3,4\n", "the column x occurs twice"),
        ("p.csv", "z;y;x\n1,500;2;3\n", "1,500 may be a decimal comma or set thousands apart"),
        ("p.csv", "z;y;x\n1,5;2.5;3\n", "row 1 of z is '1,5', not a number"),
        ("p.csv", "z,y,x\n1_0,2,3\n", "row 1 of z is '1_0', not a number"),
        ("p.csv", "z,y,x,n\n1,2,3," + "n" * 200_000, "field larger than field limit"),
        ("p.csv", "a" * 10**5 + ",b\n1,2\n", "has no column z, y, x; it has a{50}"),
        ("p.txt", "1 2 3\n", "end in .star, .tbl"),
    ],
)
def test_tables_that_cannot_be_read_are_named(tmp_path, name, text, complaint):
    (tmp_path / name).write_text(text)
    with pytest.raises(io.FileError, match=f"{name}: .*{complaint}"):
        io.read_particles(tmp_path / name)
    with pytest.raises(io.FileError) as refusal:
        io.read_particles(tmp_path / name)
    assert len(str(refusal.value)) < 500


def test_unequal_lengths_and_unknown_voxels_are_refused(tmp_path):
    with pytest.raises(ValueError, match="1 rlnTomoName for 2 coordinates"):
        Particles(np.zeros((2, 3)), columns={"rlnTomoName": ["a"]})
    with pytest.raises(ValueError, match="coordinates must be finite"):
        Particles([[np.nan, 0, 0]])
    for wrong in ([1.5], [1e308], [np.nan]):
        with pytest.raises(ValueError, match="classes must be whole numbers"):
            Particles([[0.0, 0, 0]], classes=wrong)
    with pytest.raises(io.FileError, match="need the voxel size .* voxel_size"):
        io.write_particles(tmp_path / "p.star", Particles([[0.0, 0, 0]]))
