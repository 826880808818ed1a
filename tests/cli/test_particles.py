"""``cryojax-seg pick``, ``extract`` and ``average``: from a tomogram to a structure."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryojax_seg import io
from cryojax_seg.core import MissingWedge, Particles
from cryojax_seg.particles import uniform_rotations

SIZE, EDGE, VOXEL = (36, 64, 64), 16, 8.0
WEDGE = MissingWedge((-60.0, 60.0))
TILTS = ("--tilt-range", "-60", "60")


def structure(edge, rotation, offset=(0, 0, 0)):
    """Five Gaussians without symmetry."""
    centres = (
        np.array([[0, 0, -3.5], [0, 0, 3], [0, 3.5, 1], [3.5, 0, 1], [-2, -2, 0]]) @ rotation.T
    )
    grid = np.stack(np.meshgrid(*[np.arange(edge) - edge // 2] * 3, indexing="ij"), -1)
    parts = [np.exp(-np.square(grid - c - offset).sum(-1) / 5.0) for c in centres]
    return sum(w * p for w, p in zip((1.0, 0.6, 0.8, 1.2, 0.9), parts, strict=True))


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A dark tomogram of 18 particles, a map of where they are, labels, a template, the truth."""
    folder = tmp_path_factory.mktemp("my particles")
    rng = np.random.default_rng(0)
    where = np.array([[z, y, x] for z in (10, 26) for y in (12, 31, 50) for x in (13, 32, 51)])
    turns = uniform_rotations(120)[rng.integers(0, 120, 18)]
    density = np.zeros(SIZE)
    for place, turn in zip(where, turns, strict=True):
        part = tuple(slice(p - EDGE // 2, p + EDGE // 2) for p in place)
        density[part] += structure(EDGE, turn)
    noisy = density + rng.normal(size=SIZE) * 0.12
    seen = np.asarray(WEDGE.apply(noisy.astype(np.float32)))
    io.write_mrc(folder / "tomogram.mrc", 5 - 2 * seen, voxel_size=VOXEL)
    io.write_mrc(folder / "map.mrc", np.clip(density, 0, 1).astype(np.float32), voxel_size=VOXEL)
    io.write_mrc(
        folder / "template.mrc", structure(EDGE, np.eye(3)).astype(np.float32), voxel_size=VOXEL
    )
    half = np.zeros(SIZE, np.int8)
    half[:, :, :22] = 3
    io.write_mrc(folder / "half.mrc", half, voxel_size=VOXEL)
    wall = np.zeros(SIZE, np.int8)
    wall[:, :, 0:2] = 1
    io.write_mrc(folder / "wall.mrc", wall, voxel_size=VOXEL)
    io.write_mrc(folder / "coarse.mrc", wall, voxel_size=20.0)
    truth = Particles(
        where.astype(float), turns, columns={"myLabel": ["a b"] * 18}, voxel_size=VOXEL
    )
    io.write_particles(folder / "truth.star", truth)
    return folder


def near(found, truth, voxels):
    distance = np.linalg.norm(found.coordinates[:, None] - truth.coordinates[None], axis=-1)
    return (distance.min(0) < voxels).sum()


def test_picks_of_a_map_and_where_they_may_be(run, sample, tmp_path):
    truth = io.read_particles(sample / "truth.star")
    out = tmp_path / "picks.star"
    words = ("pick", sample / "map.mrc", "-o", out, "--diameter", "110", "--method", "regions")
    status, printed, said = run(*words, "--threshold", "0.3")
    assert status == 0 and "picked: 18 particles" in printed, said
    found = io.read_particles(out)
    assert near(found, truth, 1.5) == 18 and found.voxel_size == VOXEL
    assert set(found.columns["rlnTomoName"]) == {"map"}
    assert run(*words)[0] == 2  # it is there already
    inside = ("--inside", sample / "half.mrc", "--inside-label", "3")
    status, printed, _ = run(*words, *inside, "--threshold", "0.3", "--overwrite")
    assert status == 0 and "picked: 6 particles" in printed
    distance = ("--membrane", sample / "wall.mrc", "--distance", "200", "300")
    status, printed, _ = run(*words, *distance, "--threshold", "0.3", "--overwrite")
    assert status == 0 and "picked: 6 particles" in printed
    found = io.read_particles(out)
    np.testing.assert_allclose(found.coordinates[:, 2], 32, atol=1.5)
    np.testing.assert_allclose(found.rotations[:, :, 0], [[0, 0, 1]] * 6, atol=0.05)  # the normal


def test_a_template_finds_particles_and_an_annotation_the_threshold(run, sample, tmp_path):
    truth = io.read_particles(sample / "truth.star")
    out, scores = tmp_path / "picks.tbl", tmp_path / "scores.mrc"
    words = ("pick", sample / "tomogram.mrc", "-o", out, "--template", sample / "template.mrc")
    words += ("--diameter", "110", "--angle", "45", *TILTS, "--annotated", sample / "truth.star")
    status, printed, said = run(*words, "--scores", scores)
    assert status == 0, said
    assert "precision" in printed and "rotations of" in said
    found = io.read_particles(out)
    assert near(found, truth, 3) >= 17 and len(found) <= 25
    assert 0.3 < found.scores.max() < 1
    assert io.read_mrc(scores).density.max() == pytest.approx(found.scores.max(), abs=1e-6)


def test_boxes_are_cut_out_and_averaged(run, sample, tmp_path):
    """The average of the true poses is the structure; alignment mends disturbed ones."""
    boxes = tmp_path / "boxes.mrcs"
    words = ("extract", sample / "tomogram.mrc", sample / "truth.star", "-o", boxes)
    status, printed, said = run(*words, "--edge", "16")
    assert status == 0 and "extracted: 18 boxes of 16^3" in printed, said
    table = io.read_particles(boxes.with_suffix(".star"))
    assert table.columns["rlnImageName"][0] == "000001@boxes.mrcs"
    assert table.columns["myLabel"][0] == "a b"
    stack = io.read_boxes(boxes)
    assert stack.shape == (18, 16, 16, 16) and abs(stack.mean()) < 1e-4
    out = tmp_path / "average.mrc"
    status, printed, said = run("average", boxes, "-o", out, *TILTS)
    assert status == 0 and "A at FSC 0.143" in printed, said
    truth = structure(16, np.eye(3))
    mask = np.square(np.indices((16,) * 3) - 8).sum(0) < 36
    given = np.corrcoef(io.read_mrc(out).density[mask], truth[mask])[0, 1]
    assert given > 0.95
    summary = json.loads(out.with_suffix(".json").read_text())
    assert summary["particles"] == 18 and 16 <= summary["resolution_angstrom"] < 60
    assert len(summary["fsc_corrected"]) == len(summary["frequency_per_angstrom"]) == 9
    assert {p.name for p in tmp_path.glob("average.half*.mrc")} == {
        "average.half1.mrc",
        "average.half2.mrc",
    }
    wrong = Rotation.from_rotvec(np.random.default_rng(0).normal(size=(18, 3)) * 0.12).as_matrix()
    moved = Particles(table.coordinates, wrong @ table.rotations, voxel_size=VOXEL)
    io.write_particles(tmp_path / "wrong.star", moved)
    words = ("average", boxes, "--particles", tmp_path / "wrong.star", *TILTS)
    before = tmp_path / "before.mrc"
    assert run(*words, "-o", before)[0] == 0
    after = tmp_path / "after.mrc"
    reference = ("--reference", sample / "template.mrc", "--iterations", "1")
    status, _, said = run(*words, "-o", after, *reference, "--angle", "10", "--spacing", "10")
    assert status == 0 and "round 1: mean correlation" in said, said

    def error(path):
        turned = io.read_particles(path.with_suffix(".star")).rotations
        product = turned.transpose(0, 2, 1) @ table.rotations
        return np.rad2deg(np.arccos(np.clip((np.trace(product, axis1=1, axis2=2) - 1) / 2, -1, 1)))

    assert np.median(error(after)) < 0.4 * np.median(error(before))


def test_tables_are_written_as_relion_5_has_them(run, sample, tmp_path):
    words = ("extract", sample / "tomogram.mrc", sample / "truth.star", "--edge", "16")
    for form in ("3.1", "5"):
        status, _, said = run(*words, "-o", tmp_path / f"v{form}.mrcs", "--relion", form)
        assert status == 0, said
    shape = io.read_mrc(sample / "tomogram.mrc").density.shape
    old, new = (io.read_particles(tmp_path / f"v{v}.star", VOXEL, shape) for v in ("3.1", "5"))
    np.testing.assert_allclose(new.coordinates, old.coordinates, rtol=1e-9)
    columns = io.read_star(tmp_path / "v5.star")
    assert "rlnCenteredCoordinateXAngst" in columns["particles"]
    assert "rlnCoordinateX" not in columns["particles"]
    optics = columns["optics"]
    assert optics["rlnImageSize"] == ("16",) and optics["rlnImageDimensionality"] == ("3",)
    assert float(optics["rlnImagePixelSize"][0]) == VOXEL


def test_the_wedge_of_each_box_turns_with_its_pose(run, sample, tmp_path):
    """A plane wave in the tomogram that was measured is measured in the box that is turned."""
    boxes = tmp_path / "boxes.mrcs"
    words = ("extract", sample / "tomogram.mrc", sample / "truth.star", "-o", boxes)
    status, _, said = run(*words, "--edge", "16", *TILTS)
    assert status == 0, said
    masks = io.read_boxes(tmp_path / "boxes_wedges.mrcs")
    table = io.read_particles(boxes.with_suffix(".star"))
    assert masks.shape == (18, 16, 16, 16) and np.isin(masks.round(5), (0, 1)).all()
    grid = np.moveaxis(np.indices((16,) * 3) - 8, 0, -1)
    inner = np.abs(grid).max(-1) < 8  # off the Nyquist planes
    for mask, rotation in zip(masks, table.rotations, strict=True):
        k = grid @ rotation.T  # in the frame of the tomogram
        clear = np.abs(k[..., 0]) - np.abs(k[..., 2]) * np.tan(np.deg2rad(60.0))
        sure = inner & (np.abs(clear) > 1e-3)
        np.testing.assert_allclose(mask[sure], clear[sure] < 0, atol=1e-4)
    assert run(*words, "--edge", "16", *TILTS)[0] == 2  # they are there already


def test_particles_at_the_faces_are_listed_and_kept_or_dropped(run, sample, tmp_path):
    where = [[10.0, 12, 13], [10, 12, 60.5], [-20, 12, 13]]
    io.write_particles(tmp_path / "three.csv", Particles(where))
    words = ("extract", sample / "tomogram.mrc", tmp_path / "three.csv", "--edge", "16")
    status, _, said = run(*words, "-o", tmp_path / "kept")
    assert status == 0 and "row 2 at z 10, y 12, x 60.5" in said and "1 of 2 boxes" in said
    assert "1 of 3 particles are centred outside" in said
    kept = io.read_boxes(tmp_path / "kept")
    assert len(kept) == 2 and (kept[1][:, :, 12:] == 0).all()
    status, printed, _ = run(*words, "-o", tmp_path / "dropped", "--outside", "drop")
    assert status == 0 and "extracted: 1 boxes" in printed
    np.testing.assert_array_equal(io.read_boxes(tmp_path / "dropped")[0], kept[0])


@pytest.mark.parametrize(
    "words, complaint",
    [
        (("pick", "map.mrc", "-o", "OUT/p.star"), "--diameter ANGSTROM is needed"),
        (("pick", "map.mrc", "-o", "OUT/p.txt", "--diameter", "90"), "ends in .star"),
        (
            ("pick", "tomogram.mrc", "-o", "OUT/p.star", "--diameter", "90"),
            "give a template.*--template",
        ),
        (
            ("pick", "map.mrc", "-o", "OUT/p.star", "--diameter", "90", "--distance", "0", "9"),
            "--distance needs --membrane LABELS",
        ),
        (
            ("pick", "map.mrc", "-o", "OUT/p.star", "--diameter", "90", "--inside", "coarse.mrc"),
            "coarse.mrc .*map.mrc.*20",
        ),
        (("extract", "tomogram.mrc", "none.star", "-o", "OUT/b.mrcs"), "none.star: no such file"),
        (("extract", "tomogram.mrc", "truth.star", "-o", "OUT/b.mrc"), "ends in .mrcs"),
        (("extract", "tomogram.mrc", "truth.star", "-o", "OUT/b", "--edge", "4"), "--edge"),
        (("average", "boxes.mrcs", "-o", "OUT/a.mrc"), "--tilt-range LO HI is needed"),
        (("average", "none.mrcs", "-o", "OUT/a.mrc", *TILTS), "none.mrcs: no such file"),
        (("average", "boxes.mrcs", "-o", "OUT/a.rec", *TILTS), "ends in .mrc"),
    ],
)
def test_mistakes_are_named_before_work_starts(run, sample, tmp_path, words, complaint):
    names = {p.name for p in sample.iterdir()} | {"none.star", "none.mrcs"}
    given = [
        tmp_path / w[4:] if w.startswith("OUT/") else sample / w if w in names else w for w in words
    ]
    status, _, said = run(*given)
    assert status == 2
    assert pytest.importorskip("re").search(complaint, said), said
    assert list(tmp_path.iterdir()) == []


def test_tables_of_several_tomograms_are_told_apart(run, sample, tmp_path):
    where = np.array([[10.0, 12, 13], [10, 31, 32]])
    both = Particles(where, columns={"rlnTomoName": ["tomogram", "other"]}, voxel_size=VOXEL)
    io.write_particles(tmp_path / "both.star", both)
    words = ("extract", sample / "tomogram.mrc", tmp_path / "both.star", "--edge", "16")
    status, printed, said = run(*words, "-o", tmp_path / "b.mrcs")
    assert status == 0 and "1 of 2 particles" in said and "extracted: 1 boxes" in printed
    status, _, said = run("extract", sample / "map.mrc", *words[2:], "-o", tmp_path / "c.mrcs")
    assert status == 2 and "none of which is called map" in said
