"""Projects of copick: the right files for each address, and a line that helps for all else."""

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cryojax_seg import cli, io
from cryojax_seg.core import Particles
from cryojax_seg.io import FileError

SHAPE = (4, 6, 8)
OBJECTS = [
    {"name": "membrane", "is_particle": False, "label": 3},
    {"name": "ribosome", "is_particle": True, "label": 7},
]
LABELS = np.zeros(SHAPE, np.uint8)
LABELS[1:3, 2:4, 3:7], LABELS[2, 1, 5] = 3, 7


def turned():
    matrix = np.eye(4)
    matrix[:3, :3] = [[0, 0, 1], [1, 0, 0], [0, 1, 0]]  # of x, y, z
    matrix[:3, 3] = [1.0, 2.0, 3.0]
    return matrix


def native(folder):
    """The same project as `copick_package.make` writes, without copick."""
    for number, name in enumerate(("TS_01", "TS_02", "other")):
        run = folder / "static" / "ExperimentRuns" / name
        for part in ("VoxelSpacing10.000", "Segmentations", "InstanceSegmentations", "Picks"):
            (run / part).mkdir(parents=True)
        (run / ".meta").write_text("meta")
        volume = np.arange(4 * 6 * 8, dtype=np.float32).reshape(SHAPE) + number
        written = {"VoxelSpacing10.000/wbp": volume}
        written["Segmentations/10.000_gt_0_truth-multilabel"] = LABELS
        written["Segmentations/10.000_me_1_membrane"] = (LABELS == 3).astype(np.uint8)
        numbered = np.where(LABELS == 3, 2, LABELS == 7).astype(np.uint16)
        written["InstanceSegmentations/10.000_me_1_ribosome"] = numbered
        (run / "Meshes").mkdir()
        corners = np.array(list(itertools.product((5.0, 25.0), (15.0, 35.0), (25.0, 65.0))))
        quads = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))
        faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
        io.write_mesh(run / "Meshes" / "me_6_membrane.glb", corners, faces)
        for place, values in written.items():
            io.write_zarr(run / f"{place}.zarr", values, voxel_size=10.0, version="0.4")
        points = [
            {"location": {"x": 10.0, "y": 20.0, "z": 30.0}, "score": 0.5, "instance_id": 0},
            {"location": {"x": 40.0, "y": 50.0, "z": 20.0}, "score": 0.9, "instance_id": 4},
        ]
        points[1]["transformation_"] = turned().tolist()
        content = {"pickable_object_name": "ribosome", "user_id": "me", "session_id": "2"}
        content |= {"run_name": name, "voxel_spacing": 10.0, "unit": "angstrom", "points": points}
        (run / "Picks" / "me_2_ribosome.json").write_text(json.dumps(content))
    config = {"config_type": "filesystem", "pickable_objects": OBJECTS}
    config |= {"overlay_root": f"local://{folder}/overlay", "static_root": f"{folder}/static"}
    (folder / "config.json").write_text(json.dumps(config))


def by_copick(folder, *steps):
    """Let copick itself make or read a project, where it is installed or a Python is named."""
    here = sys.executable if importlib.util.find_spec("copick") else None
    python = os.environ.get("CRYOJAX_SEG_COPICK") or here
    if not python:
        pytest.skip("the extra copick is not installed")
    script = Path(__file__).with_name("copick_package.py")
    for step in steps:
        done = subprocess.run([python, script, step, folder], capture_output=True, check=True)
    return done.stdout


@pytest.fixture(params=["native", pytest.param("copick", marks=pytest.mark.slow)])
def project(request, tmp_path):
    """A configuration of a project with three runs."""
    if request.param == "copick":
        by_copick(tmp_path, "make")
    else:
        native(tmp_path)
    return tmp_path / "config.json"


def edit(config, **changes):
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))


def test_what_a_project_holds(project):
    found = io.read_copick(project)
    assert found.runs == ["TS_01", "TS_02", "other"]
    assert found.objects == {"membrane": 3, "ribosome": 7}
    assert {str(e) for e in found.entries if e.run == "TS_01"} == {
        "wbp@10",
        "truth:gt/0@10?multilabel=true",
        "membrane:me/1@10",
        "ribosome:me/1@10?instance=true",
        "membrane:me/6",
        "ribosome:me/2",
    }
    assert io.is_copick(project) and not io.is_copick(project.with_name("no.json"))


def test_volumes_are_ordinary_ones(project):
    words = [(f"copick:{project}#wbp@10", "tomogram"), ("copick:#truth", "segmentation")]
    found = io.find_copick(words, ["TS_*"])
    assert found.runs == ("TS_01", "TS_02")
    tomograms, truth = ([entry.path for entry in part] for part in found.entries)
    for number, (path, labels) in enumerate(zip(tomograms, truth, strict=True)):
        volume = io.read_tomogram(path)
        assert volume.voxel_size == (10.0, 10.0, 10.0)
        wanted = np.arange(4 * 6 * 8).reshape(SHAPE) + number
        np.testing.assert_array_equal(volume.density, wanted)  # z, y, x, and the finest level
        np.testing.assert_array_equal(io.read_tomogram(labels).density, LABELS)
    assert found.classes == (
        "label1",
        "label2",
        "membrane",
        "label4",
        "label5",
        "label6",
        "ribosome",
    )


def test_picks(project, tmp_path):
    found = io.find_copick([(f"copick:{project}#ribosome", "picks")], ["TS_02"])
    ((entry,),) = found.entries
    picks = io.read_particles(entry.path)
    # The shift of the transformation moves the particle; both in angstrom, x first.
    np.testing.assert_allclose(picks.coordinates, [[3, 2, 1], [2.3, 5.2, 4.1]], atol=1e-12)
    np.testing.assert_allclose(picks.rotations[0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(picks.rotations[1], turned()[2::-1, 2::-1], atol=1e-9)
    assert picks.scores.tolist() == [0.5, 0.9] and picks.voxel_size == 10.0
    assert picks.columns["rlnTomoName"] == ("TS_02", "TS_02")
    other = tmp_path / "you_3_ribosome.json"
    io.write_particles(other, picks)
    again = io.read_particles(other)
    np.testing.assert_allclose(again.coordinates, picks.coordinates, rtol=1e-12)
    np.testing.assert_allclose(again.rotations, picks.rotations, atol=1e-9)
    assert again.columns == picks.columns and again.scores.tolist() == [0.5, 0.9]
    half = io.read_particles(entry.path, 20.0)  # in the voxels of a binned tomogram
    np.testing.assert_allclose(half.coordinates, picks.coordinates / 2)


def test_orientations_that_nobody_trusts_are_left_out(project):
    ((entry,),) = io.find_copick([(f"copick:{project}", "picks")], ["TS_02"]).entries
    edit(entry.path, trust_orientation=False)
    picks = io.read_particles(entry.path)
    assert (picks.rotations == np.eye(3)).all()
    np.testing.assert_allclose(picks.coordinates[1], [2.3, 5.2, 4.1])


def test_codecs_of_copick_2_are_named(tmp_path):
    """Its pre-releases write floats with a codec that only zarr-python has."""
    path = tmp_path / "wbp.zarr"
    io.write_zarr(path, np.ones((4, 6, 8), np.float32), voxel_size=10.0)
    file = path / "0" / "zarr.json"
    content = json.loads(file.read_text())
    shuffle = {"name": "numcodecs.shuffle", "configuration": {"elementsize": 4}}
    inner = [{"name": "bytes", "configuration": {"endian": "little"}}, shuffle]
    inner.append({"name": "zstd", "configuration": {"level": 1, "checksum": False}})
    sharded = {"chunk_shape": [4, 6, 8], "codecs": inner, "index_codecs": inner[:1]}
    content["codecs"] = [{"name": "sharding_indexed", "configuration": sharded}]
    file.write_text(json.dumps(content))
    with pytest.raises(FileError, match="numcodecs.shuffle") as caught:
        io.read_tomogram(path)
    assert str(path) in str(caught.value) and "such as zstd or blosc" in str(caught.value)


def test_the_overlay_wins(project, tmp_path):
    words = ["picks", "other", "me_2_ribosome.json"]
    place = tmp_path / "overlay" / "ExperimentRuns" / "other" / "Picks" / words[-1]
    place.parent.mkdir(parents=True)
    io.write_particles(place, Particles([[1.0, 1.0, 1.0]], voxel_size=10.0))
    ((entry,),) = io.find_copick([(f"copick:{project}", "picks")], ["other"]).entries
    assert entry.path == place and len(io.read_particles(place)) == 1


def test_other_kinds_of_data_and_hidden_files_are_not_taken(project, tmp_path):
    run = tmp_path / "static" / "ExperimentRuns" / "TS_01"
    for name in (
        "PanopticSegmentations/10.000_me_1_membrane.zarr",
        "VoxelSpacing10.000/wbp_denoise_features.zarr",
        "Segmentations/.10.000_me_1_x.zarr.partial",
        "Segmentations/notes.zarr",
        "VoxelSpacingX/wbp.zarr",
    ):
        (run / name).mkdir(parents=True)
    (run / "Picks" / "a_b.json").touch()
    found = [str(e) for e in io.read_copick(project).entries if e.run == "TS_01"]
    assert len(found) == 6


def test_addresses_that_mean_several_things_or_none(project, tmp_path):
    def refused(words, runs=(), spacing=None):
        with pytest.raises(FileError) as caught:
            io.find_copick(words, runs, spacing)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    said = refused([(f"copick:{project}", "segmentation")])
    assert "run TS_01 has several that are meant: membrane:me/1@10, truth:gt/0@10?" in said
    assert "say which, such as copick:config.json#membrane:me/1@10" in said
    said = refused([(f"copick:{project}#isonet", "tomogram")], ["TS_01"])
    assert "run TS_01 has no tomogram that is meant; it has wbp@10" in said
    assert "has no run 'X*'; it has TS_01, TS_02, other" in refused(
        [(f"copick:{project}", "tomogram")], ["X*"]
    )
    assert "no tomogram that is meant; it has wbp@10" in refused(
        [(f"copick:{project}", "tomogram")], spacing=7.84
    )
    assert "is no address" in refused([(f"copick:{project}#wbp@ten", "tomogram")])
    assert "is no address without a project" in refused([("copick:#wbp", "tomogram")])
    mixed = [(f"copick:{project}#membrane", "segmentation"), ("copick:#truth", "segmentation")]
    assert "holds one object as 1" in refused(mixed)


def test_runs_that_lack_something_are_left_out(project, tmp_path, caplog):
    (tmp_path / "static" / "ExperimentRuns" / "TS_01" / "VoxelSpacing10.000").rename(tmp_path / "a")
    with caplog.at_level("INFO", "cryojax_seg"):
        found = io.find_copick([(f"copick:{project}", "tomogram")])
    assert found.runs == ("TS_02", "other")
    assert "1 of 3 runs are left out" in caplog.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pickable_objects": None}, "no list pickable_objects"),
        ({"pickable_objects": [{"label": 1}]}, "needs a name and a label"),
        ({"pickable_objects": [{"name": "a", "label": 0}]}, "a label above 0"),
        ({"overlay_root": "s3://bucket/a", "static_root": None}, "data are at s3://bucket/a"),
        ({"overlay_root": None, "static_root": None}, "names no folder with data"),
        ({"overlay_root": None, "static_root": None, "croissant_url": "https://x"}, "at https://x"),
    ],
)
def test_configurations_that_are_refused(project, changes, words):
    edit(project, **changes)
    with pytest.raises(FileError, match="config.json") as caught:
        io.read_copick(project)
    assert words in str(caught.value)


def test_data_elsewhere_are_said_where_copick_is_missing(project, monkeypatch, caplog):
    monkeypatch.setitem(__import__("sys").modules, "copick", None)
    edit(project, static_root="s3://bucket/a")
    (project.parent / "overlay").mkdir(exist_ok=True)
    with caplog.at_level("INFO", "cryojax_seg"):
        assert io.read_copick(project).entries == ()
    assert "data at s3://bucket/a are not listed; pip install 'cryojax-seg[copick]'" in caplog.text
    edit(project, config_type="cryoet_data_portal", dataset_ids=[10440], overlay_root=None)
    with pytest.raises(FileError, match=r"the CryoET Data Portal, data sets \[10440\].*\[copick\]"):
        io.read_copick(project)


def test_where_new_data_go(project):
    def new(word, kind="segmentation", **more):
        (path,), values = io.new_copick(f"copick:{project}{word}", kind, ["TS_09"], 10.0, **more)
        return path.relative_to(project.parent / "overlay" / "ExperimentRuns").as_posix(), values

    single = "TS_09/Segmentations/10.000_cryojax-seg_1_membrane.zarr"
    assert new("", classes=["Membrane"]) == (single, (0, 1))
    several = new("", classes=["ribosome", "membrane"], model="cell")
    place = "TS_09/Segmentations/10.000_cryojax-seg_1_cell-multilabel.zarr"
    assert several == (place, (0, 7, 3))
    named = new("#membrane:me/4@7.84", classes=["foreground"])
    assert named[0] == "TS_09/Segmentations/7.840_me_4_membrane.zarr"
    assert new("#ribosome:me/4", "picks")[0] == "TS_09/Picks/me_4_ribosome.json"
    numbered = "TS_09/InstanceSegmentations/10.000_cryojax-seg_1_membrane.zarr"
    assert new("", "instances", classes=["membrane"])[0] == numbered
    assert new("#denoised", "tomogram")[0] == "TS_09/VoxelSpacing10.000/denoised.zarr"
    assert new("#ribosome", "mesh")[0] == "TS_09/Meshes/cryojax-seg_1_ribosome.glb"
    for word, more, said in (
        ("", {"classes": ["actin"]}, "has no object 'actin', its objects are membrane, ribosome"),
        ("#membrane:my_name", {"classes": ["a"]}, "no user called 'my_name'; call it my-name"),
        ("", {"kind": "picks"}, "under which name"),
    ):
        with pytest.raises(FileError, match="config.json") as caught:
            new(word, **more)
        assert said in str(caught.value)
    edit(project, overlay_root="s3://bucket")
    with pytest.raises(FileError, match="no overlay_root on this machine to write into"):
        new("", classes=["membrane"])


def test_segment_writes_what_is_read_again(project, capsys):
    out = ["-o", "copick:#membrane:tool/9"]
    given = ["segment", "threshold", f"copick:{project}", "--run", "TS_*", "--voxel-spacing", "10"]
    assert cli.main([*given, *out, "--contrast", "bright"]) == 0
    word = f"copick:{project}#membrane:tool/9"
    found = io.find_copick([(word, "segmentation")])
    assert found.runs == ("TS_01", "TS_02")
    for entry in found.entries[0]:
        volume = io.read_tomogram(entry.path)
        assert volume.voxel_size == (10.0, 10.0, 10.0) and volume.density.dtype == np.uint8
        assert set(np.unique(volume.density)) == {0, 1} and volume.density[3:].all()
        assert (entry.path / ".zattrs").is_file()  # Zarr 2, which copick reads
    assert cli.main(["evaluate", word, "copick:#membrane:me/1", "--run", "TS_01", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out.split("\n", 2)[2])
    assert list(scores["classes"]) == ["membrane"]
    assert cli.main([*given, *out, "--probabilities"]) == 2
    assert "keeps labels alone" in capsys.readouterr().err


def test_instances_are_numbered_objects_of_a_class(project, tmp_path):
    """They are written by measure and read by it again; no other command takes them for labels."""
    word = f"copick:{project}#truth"
    out = tmp_path / "measured"
    given = ["--run", "TS_01", "--smallest", "1", "-o", str(out)]
    names = ["--kind", "membrane=organelle", "ribosome=organelle"]
    published = ["--publish", "copick:#:tool/9", "--meshes", "glb"]
    assert cli.main(["measure", word, *names, *given, *published]) == 2  # label1 is no object
    assert not out.exists()
    word = f"copick:{project}#membrane:me/1"
    names = names[:2]
    assert cli.main(["measure", word, *names, *given, *published]) == 0
    numbered = [(f"copick:{project}#membrane?instance=true", "segmentation")]
    ((entry,),) = io.find_copick(numbered, ["TS_01"]).entries
    assert str(entry) == "membrane:tool/9@10?instance=true"
    theirs = [(f"copick:{project}#ribosome", "instances")]
    ((other,),) = io.find_copick(theirs, ["TS_02"]).entries
    expected = np.where(LABELS == 3, 2, LABELS == 7)
    np.testing.assert_array_equal(io.read_tomogram(other.path).density, expected)
    volume = io.read_tomogram(entry.path)
    np.testing.assert_array_equal(volume.density, LABELS == 3)
    assert volume.density.dtype == np.uint16 and volume.voxel_size == (10.0,) * 3
    ((plain,),) = io.find_copick(
        [(f"copick:{project}#membrane", "segmentation")], ["TS_01"]
    ).entries
    assert str(plain) == "membrane:me/1@10"
    again = ["measure", "--instances", f"membrane=copick:{project}#membrane", *names]
    assert cli.main([*again, *given[:-1], str(tmp_path / "again")]) == 0
    rows = [(p / "instances.csv").read_text().splitlines() for p in (out, tmp_path / "again")]
    assert len(rows[0]) == 2 and rows[0][1].split(",")[3:6] == rows[1][1].split(",")[3:6]
    assert cli.main(["measure", word, *names, *given, *published, "--overwrite"]) == 0
    refused = ["measure", word, *names, *given[:-1], str(tmp_path / "third"), *published]
    assert cli.main(refused) == 2
    assert not (tmp_path / "third").exists()


def test_meshes_are_labels_where_no_segmentation_is_meant(project, tmp_path):
    from cryojax_seg import training

    inside = LABELS == 3
    words = [(f"copick:{project}", "tomogram"), ("copick:#membrane:me/6", "segmentation")]
    found = io.find_copick(words, ["TS_01"])
    assert found.runs == ("TS_01",) and found.classes == ("membrane",)
    (volume,), (labels,) = ([entry.path for entry in part] for part in found.entries)
    (example,) = training.read_examples([volume], [labels], contrast="bright").examples
    np.testing.assert_array_equal(example.labels, inside)


def test_restore_writes_a_tomogram_of_another_type(project, tmp_path, capsys):
    given = ["restore", f"copick:{project}#wbp", "--run", "TS_01", "-o", str(tmp_path / "r.mrc")]
    assert cli.main([*given, "--method", "deconvolution", "--defocus", "3"]) == 0
    given = [*given, "--method", "deconvolution", "--defocus", "3", "--overwrite"]
    assert cli.main([*given, "--publish", "copick:#deconvolved"]) == 0
    ((entry,),) = io.find_copick([(f"copick:{project}#deconvolved@10", "tomogram")]).entries
    volume = io.read_tomogram(entry.path)
    np.testing.assert_array_equal(volume.density, io.read_tomogram(tmp_path / "r.mrc").density)
    assert volume.voxel_size == (10.0,) * 3 and entry.path.parent.name == "VoxelSpacing10.000"
    assert cli.main([*given, "--publish", str(tmp_path / "a.zarr")]) == 2
    assert "is no address in a copick project" in capsys.readouterr().err
    assert cli.main([*given[:-3], "--overwrite", "-o", "copick:#x"]) == 2
    assert "give the address to --publish" in capsys.readouterr().err


def test_painted_labels_go_into_the_project(project, tmp_path, monkeypatch):
    """When the page ends, with the labels of the objects; what nobody annotated is background."""
    import contextlib

    from cryojax_seg import view

    painted = np.full(SHAPE, -1, np.int8)
    painted[1], painted[1, 2:4, 3:7], painted[1, 0, 0] = 0, 2, 1

    @contextlib.contextmanager
    def serving(session, port, used):
        session.file.write({**session.file.slices, 1: painted[1]}, session.classes)
        yield "http://127.0.0.1"
        raise KeyboardInterrupt

    monkeypatch.setattr(view, "serving", serving)

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cryojax_seg.cli.annotate.time.sleep", interrupted)
    words = ["annotate", f"copick:{project}#wbp", "--run", "TS_01", "-o", str(tmp_path / "l.mrc")]
    words += ["--classes", "ribosome", "membrane", "--start", "none"]
    assert cli.main([*words, "--publish", "copick:#mine:me/5"]) == 0
    word = f"copick:{project}#mine:me/5?multilabel=true"
    ((entry,),) = io.find_copick([(word, "segmentation")], ["TS_01"]).entries
    values = np.asarray(io.read_tomogram(entry.path).density)
    np.testing.assert_array_equal(values, np.array([0, 7, 3])[np.maximum(painted, 0)])
    chunked = [str(tmp_path / "l.zarr") if word.endswith("l.mrc") else word for word in words]
    assert cli.main([*chunked, "--publish", "copick:#mine:me/5"]) == 0
    np.testing.assert_array_equal(io.read_tomogram(entry.path).density, values)
    again = ["annotate", f"copick:{project}#wbp", "--run", "TS_01", "-o", str(tmp_path / "a.mrc")]
    again += ["--labels", "copick:#truth", "--start", "none", "--publish", "copick:#fixed:me/5"]
    assert cli.main(again) == 0  # begins with the segmentation, of which one slice was painted anew
    word = f"copick:{project}#fixed:me/5?multilabel=true"
    ((entry,),) = io.find_copick([(word, "segmentation")], ["TS_01"]).entries
    fixed = np.where(np.arange(SHAPE[0])[:, None, None] == 1, 0, LABELS)
    fixed[1, 2:4, 3:7], fixed[1, 0, 0] = 7, 3
    np.testing.assert_array_equal(io.read_tomogram(entry.path).density, fixed)


def test_pick_writes_picks(project, capsys):
    given = ["pick", f"copick:{project}#membrane:me/1", "--run", "TS_01", "--diameter", "40"]
    assert cli.main([*given, "-o", "copick:#ribosome:tool/9"]) == 0
    ((entry,),) = io.find_copick([(f"copick:{project}#ribosome:tool", "picks")]).entries
    assert entry.run == "TS_01"
    picks = io.read_particles(entry.path)
    np.testing.assert_allclose(picks.coordinates, [[1.5, 2.5, 4.5]], atol=0.2)
    every = ["pick", *given[1:2], "--run", "TS_*", *given[4:]]
    assert cli.main([*every, "-o", "copick:#ribosome:tool/8"]) == 0
    (found,) = io.find_copick([(f"copick:{project}#ribosome:tool/8", "picks")]).entries
    assert [entry.run for entry in found] == ["TS_01", "TS_02"]
    assert len(io.read_particles(found[1].path)) == 1
    assert cli.main([*every, "-o", "picks.star"]) == 2
    assert "2 runs for one table; give one --run" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_patterns_of_runs_are_measured_and_picked(project, tmp_path, capfd, workers):
    """One after the other or on workers: a folder or a set of picks of each run."""
    given = ["--run", "TS_*", "--workers", workers]
    words = ["measure", f"copick:{project}#membrane:me/1", "--tomogram", "copick:#wbp", *given]
    words += ["--kind", "membrane=organelle", "--smallest", "1", "--publish", "copick:#:tool/3"]
    assert cli.main([*words, "-o", str(tmp_path / "measured")]) == 0
    printed = capfd.readouterr().out
    for run in ("TS_01", "TS_02"):
        assert f"{tmp_path / 'measured' / run}: 1 membrane" in printed
        rows = (tmp_path / "measured" / run / "instances.csv").read_text().splitlines()
        assert len(rows) == 2
        scene = (tmp_path / "measured" / run / "scene_napari.py").read_text()
        assert f"ExperimentRuns/{run}/VoxelSpacing10.000/wbp.zarr" in scene
    (found,) = io.find_copick([(f"copick:{project}#membrane:tool/3", "instances")]).entries
    assert [entry.run for entry in found] == ["TS_01", "TS_02"]
    for entry in found:
        np.testing.assert_array_equal(io.read_tomogram(entry.path).density, LABELS == 3)
    words = ["pick", f"copick:{project}#membrane:me/1", *given, "--diameter", "40"]
    assert cli.main([*words, "-o", "copick:#ribosome:tool/3"]) == 0
    assert capfd.readouterr().out.count("picked: 1 particles into") == 2
    (found,) = io.find_copick([(f"copick:{project}#ribosome:tool/3", "picks")]).entries
    assert [entry.run for entry in found] == ["TS_01", "TS_02"]
    assert cli.main([*words, "-o", "copick:#ribosome:tool/4", "--workers", "-1"]) == 2
    assert "--workers must be a number of processes" in capfd.readouterr().err


def test_several_volumes_are_measured_with_what_belongs_to_each(project, tmp_path, capsys):
    words = [
        "measure",
        f"copick:{project}#membrane:me/1",
        "--run",
        "TS_*",
        "-o",
        str(tmp_path / "m"),
    ]
    for more, said in (
        (["--instances", "membrane=x.mrc"], "--instances belong to one label volume"),
        (["--probabilities", "x.mrc"], "--probabilities belong to one label volume"),
        (["--tomogram", "x.mrc"], "--tomogram: 1 for 2 label volumes; give one for each"),
    ):
        assert cli.main([*words, *more]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_labels_of_several_objects_get_their_names(project):
    from cryojax_seg.cli import arguments, measure, segment, train
    from cryojax_seg.cli.projects import with_projects

    def parse(words, kinds):
        return with_projects(arguments.parse(words, kinds))

    kinds = {"train": train.Train, "measure": measure.Measure, "segment": segment.Segment}
    words = ["train", f"copick:{project}#wbp", "--labels", "copick:#truth", "-o", "run"]
    given = parse([*words, "--run", "TS_*"], kinds)
    assert len(given.tomograms) == len(given.labels) == 2
    assert given.annotation.classes == ("membrane", "ribosome")
    assert given.annotation.values == (3, 7) and given.project.run == ("TS_01", "TS_02")
    one = parse([*words, "--run", "TS_01", "--classes", "ribosome"], kinds).annotation
    assert (one.classes, one.values) == (("ribosome",), (7,))
    with pytest.raises(ValueError, match="--classes actin: the copick project knows membrane, rib"):
        parse([*words, "--classes", "actin"], kinds)
    out = ["-o", "out", "--run", "TS_01"]
    given = parse(["measure", f"copick:{project}#truth", *out], kinds)
    assert given.classes[2] == "membrane" and len(given.classes) == 7
    given = parse([*words[:3], "copick:#membrane", "-o", "run"], kinds)
    assert given.annotation.classes == ("membrane",) and len(given.tomograms) == 3
    with pytest.raises(ValueError, match="is no output of this command.*--publish"):
        parse(["measure", f"copick:{project}#truth", "-o", "copick:#x", "--run", "TS_01"], kinds)
    with pytest.raises(ValueError, match="names no copick project"):
        parse(["segment", "membrane", "t.mrc", "-o", "copick:"], kinds)


def test_values_of_labels(project):
    """Those of the objects become 1, 2, ...; all others are background."""
    from cryojax_seg import inference, training

    words = [(f"copick:{project}", "tomogram"), ("copick:#truth", "segmentation")]
    found = io.find_copick(words, ["TS_01"])
    assert found.labels == {"membrane": 3, "ribosome": 7}
    (volume,), (labels,) = ([entry.path for entry in part] for part in found.entries)
    how = {"classes": tuple(found.labels), "values": tuple(found.labels.values())}
    (example,) = training.read_examples([volume], [labels], contrast="bright", **how).examples
    assert np.array_equal(example.labels, np.where(LABELS == 7, 2, LABELS == 3))
    only = io.read_labels(labels, stored=(3,), classes=("membrane",))
    assert np.array_equal(only.labels, LABELS == 3) and (only.weights == 1).all()
    scores = inference.score_files(labels, labels, **how).as_dict()["classes"]
    assert {name: row["dice"] for name, row in scores.items()} == {"membrane": 1, "ribosome": 1}


def test_info_lists_a_project(project, capsys):
    assert cli.main(["info", "--json", f"copick:{project}"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["kind"] == "copick project" and shown["facts"]["runs"] == "3: TS_01, TS_02, other"
    assert shown["facts"]["tomograms"] == "wbp@10 in 3 runs"
    assert shown["facts"]["objects"] == "membrane (3), ribosome (7)"


@pytest.mark.slow
def test_copick_reads_what_is_written(tmp_path):
    by_copick(tmp_path, "make")
    config = tmp_path / "config.json"
    given = [f"copick:{config}", "--run", "TS_01", "--voxel-spacing", "10"]
    words = ["measure", f"{given[0]}#membrane:me/1", *given[1:3], "--kind", "membrane=organelle"]
    words += ["-o", str(tmp_path / "m"), "--smallest", "1", "--publish", "copick:#:tool/8"]
    assert cli.main([*words, "--meshes", "glb"]) == 0
    words = ["restore", f"{given[0]}#wbp", *given[1:3], "-o", str(tmp_path / "r.mrc")]
    words += ["--method", "deconvolution", "--defocus", "3", "--publish", "copick:#deconvolved"]
    assert cli.main(words) == 0
    out = ["-o", "copick:#membrane:tool/9", "--contrast", "bright"]
    assert cli.main(["segment", "threshold", f"{given[0]}#wbp", *given[1:], *out]) == 0
    ((entry,),) = io.find_copick([(f"copick:{config}#membrane:tool/9", "segmentation")]).entries
    ones = int(np.asarray(io.read_tomogram(entry.path).density).sum())
    (path,), _ = io.new_copick(f"copick:{config}#ribosome:tool/9", "picks", ["TS_01"])
    path.parent.mkdir(parents=True, exist_ok=True)
    rotation = turned()[2::-1, 2::-1]
    picks = Particles([[1.5, 2.0, 3.0]], rotation[None], [0.25], voxel_size=10.0)
    io.write_particles(path, picks)
    (mesh,), _ = io.new_copick(f"copick:{config}#membrane:tool/9", "mesh", ["TS_01"])
    mesh.parent.mkdir(parents=True, exist_ok=True)
    io.write_mesh(mesh, np.array([[0.0, 0, 10], [0, 20, 0], [30, 0, 0]]), np.array([[0, 1, 2]]))
    (several,), values = io.new_copick(
        f"copick:{config}", "segmentation", ["TS_01"], 10.0, ["ribosome", "membrane"], "cell"
    )
    several.parent.mkdir(parents=True, exist_ok=True)
    form, card = io.ZarrForm("0.4", values), io.LabelCard(("ribosome", "membrane"))
    output = io.ZarrOutput(several, SHAPE, "i1", io.read_tomogram(entry.path), card=card, form=form)
    labels = np.zeros(SHAPE, np.int8)
    labels[0, 0, :5], labels[1, 1, :2] = 1, 2
    output.write(np.s_[0:4, 0:6, 0:8], labels)
    output.finish()
    found = json.loads(by_copick(tmp_path, "check"))
    zeros = 4 * 6 * 8 - ones
    assert found["TS_01/membrane:tool/9@10?binary"] == [list(SHAPE), {"0": zeros, "1": ones}]
    assert found["TS_01/membrane:tool/8@10?instance"] == [list(SHAPE), {"0": 176, "1": 16}]
    vertices, _ = found["TS_01/membrane:tool/8 mesh"]
    low, high = np.min(vertices, 0), np.max(vertices, 0)
    np.testing.assert_allclose((low + high) / 2, [45, 25, 15], atol=0.5)
    np.testing.assert_allclose(high - low, [40, 20, 20], atol=9)  # a surface of the same volume
    volume = np.asarray(io.read_tomogram(tmp_path / "r.mrc").density, float)
    assert found["TS_01/deconvolved@10"] == pytest.approx([*SHAPE, volume.mean(), volume[0, 0, 1]])
    assert found["TS_01/cell:cryojax-seg/1@10?multilabel"] == [
        list(SHAPE),
        {"0": 185, "7": 5, "3": 2},
    ]
    where, turns, scores = found["TS_01/ribosome:tool/9"]
    np.testing.assert_allclose(where, [[30.0, 20.0, 15.0]])
    np.testing.assert_allclose(turns, turned()[None, :3, :3], atol=1e-12)
    assert scores == [0.25]
    vertices, faces = found["TS_01/membrane:tool/9 mesh"]
    assert vertices == [[10, 0, 0], [0, 20, 0], [0, 0, 30]] and faces == [[2, 1, 0]]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of copick and its libraries
def test_data_on_other_machines_are_brought_here(tmp_path, monkeypatch, caplog):
    """Once for volumes; picks may change. The memory of fsspec stands for another machine."""
    pytest.importorskip("copick", reason="the extra copick is not installed")
    import fsspec

    native(tmp_path)
    there = fsspec.filesystem("memory")
    there.put(f"{tmp_path}/static/", "/project/", recursive=True)
    config = tmp_path / "config.json"
    edit(config, static_root="memory://project", static_fs_args={}, overlay_fs_args={})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = [(f"copick:{config}#wbp", "tomogram"), ("copick:#truth", "segmentation")]
    words += [("copick:#ribosome", "picks"), ("copick:#ribosome", "instances")]
    found = io.find_copick(words, ["TS_*"])
    assert found.runs == ("TS_01", "TS_02")
    assert all(e.path.is_relative_to(tmp_path / "cache") for part in found.entries for e in part)
    for number, (volume, labels, picks, numbered) in enumerate(zip(*found.entries, strict=True)):
        wanted = np.arange(4 * 6 * 8).reshape(SHAPE) + number
        np.testing.assert_array_equal(io.read_tomogram(volume.path).density, wanted)
        np.testing.assert_array_equal(io.read_tomogram(labels.path).density, LABELS)
        np.testing.assert_allclose(io.read_particles(picks.path).coordinates[0], [3, 2, 1])
        expected = np.where(LABELS == 3, 2, LABELS == 7)
        np.testing.assert_array_equal(io.read_tomogram(numbered.path).density, expected)
    mesh = [(f"copick:{config}#membrane:me/6", "segmentation")]
    ((one,),) = io.find_copick(mesh, ["TS_01"]).entries
    grid = io.read_tomogram(found.entries[0][0].path)
    np.testing.assert_array_equal(io.read_mesh_labels(one.path, grid), LABELS == 3)
    there.rm("/project/ExperimentRuns/TS_01/VoxelSpacing10.000/wbp.zarr/0", recursive=True)
    picks = "/project/ExperimentRuns/TS_01/Picks/me_2_ribosome.json"
    content = json.loads(there.cat(picks))
    content["points"] = content["points"][:1]
    there.pipe(picks, json.dumps(content).encode())
    again = io.find_copick(words, ["TS_01"])
    assert np.asarray(io.read_tomogram(again.entries[0][0].path).density).any()
    assert len(io.read_particles(again.entries[2][0].path)) == 1
    given = [f"copick:{config}", "--run", "TS_01", "-o", "copick:#membrane:tool/9"]
    assert cli.main(["segment", "threshold", *given, "--contrast", "bright"]) == 0
    assert list((tmp_path / "overlay").rglob("10.000_tool_9_membrane.zarr"))
    with pytest.raises(FileError, match="has no run 'X'; it has TS_01, TS_02, other"):
        io.find_copick(words, ["X"])
    edit(config, static_root="nowhere://project")
    with pytest.raises(FileError, match="copick cannot.*nowhere"):
        io.find_copick(words)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of copick and its libraries
def test_data_of_the_portal_are_brought_here(tmp_path, monkeypatch):
    """Records as the portal's client returns them, and files as the portal keeps them."""
    pytest.importorskip("copick", reason="the extra copick is not installed")
    import fsspec.implementations.memory
    import s3fs
    from copick.impl.cryoet_data_portal import CopickRootCDP

    class Bucket(fsspec.implementations.memory.MemoryFileSystem):
        """The memory of this process in place of the public bucket."""

        store, pseudo_dirs, cachable = {}, [""], False

        def __init__(self, anon):
            assert anon
            super().__init__()

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(str(path).removeprefix("s3://"))

    monkeypatch.setattr(s3fs, "S3FileSystem", Bucket)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    there, volume = Bucket(anon=True), np.arange(4 * 6 * 8, dtype=np.float32).reshape(SHAPE)
    found = np.where(LABELS == 3, 2, LABELS == 7).astype(np.uint16)
    for name, data in (("a", volume), ("b", -volume), ("m", LABELS == 3), ("n", found)):
        values = data.astype(np.uint8) if data.dtype == bool else data
        io.write_zarr(tmp_path / f"{name}.zarr", values, voxel_size=10.0, version="0.4")
        there.put(f"{tmp_path}/{name}.zarr/", f"/bucket/{name}.zarr/", recursive=True)
    turn = turned()[:3, :3].tolist()
    points = [{"type": "orientedPoint", "location": {"x": 3, "y": 2, "z": 1}}]
    points[0]["xyz_rotation_matrix"] = turn
    there.pipe("/bucket/p.ndjson", "\n".join(map(json.dumps, points)).encode())

    kinds = {1: "SegmentationMask", 2: "InstanceSegmentationMask", 3: "OrientedPoint"}
    objects = {1: ("membrane", "GO:0016020"), 2: ("cytosolic ribosome", "GO:0022626")}
    of_object = {1: 1, 2: 2, 3: 2}
    files = {1: "m.zarr", 2: "n.zarr", 3: "p.ndjson"}
    tomogram = {"tomogram_voxel_spacing_id": 7, "reconstruction_method": "WBP"}
    tomogram |= {"processing": "denoised", "processing_software": None, "ctf_corrected": True}
    records = {
        "runs": [{"id": 14069, "name": "24apr23a_0/1", "dataset_id": 10440}],
        "voxel_spacings": [{"id": 7, "run_id": 14069, "voxel_spacing": 10.0}],
        "tomograms": [
            {"id": n, "s3_omezarr_dir": f"s3://bucket/{name}.zarr", "name": name, **tomogram}
            for n, name in ((11, "a"), (12, "b"))
        ],
        "annotations": [
            {"id": n, "run_id": 14069, "object_name": name, "object_id": number}
            for n, (name, number) in objects.items()
        ],
        "annotation_shapes": [
            {"id": n, "annotation_id": of_object[n], "shape_type": kind}
            for n, kind in kinds.items()
        ],
        "annotation_files": [
            {
                "id": 100 + n,
                "annotation_shape_id": n,
                "tomogram_voxel_spacing_id": 7,
                "format": path.rpartition(".")[2],
                "s3_path": f"s3://bucket/{path}",
            }
            for n, path in files.items()
        ],
    }
    monkeypatch.setattr(CopickRootCDP, "_fetch_portal_data", lambda self: records)
    config = tmp_path / "portal.json"
    identified = [
        {**one, "identifier": number}
        for one, (_, number) in zip(OBJECTS, objects.values(), strict=True)
    ]
    content = {"config_type": "cryoet_data_portal", "dataset_ids": [10440], "portal_cache": False}
    content |= {"name": "portal", "version": "1.0.0", "pickable_objects": identified}
    config.write_text(json.dumps(content | {"overlay_root": f"local://{tmp_path}/overlay"}))
    listed = {str(entry) for entry in io.read_copick(config).entries}
    assert listed == {
        "wbp-denoised-ctfdeconv@10",
        "membrane:data-portal/101@10",
        "ribosome:data-portal/102@10?instance=true",
        "ribosome:data-portal/103",
    }
    words = [(f"copick:{config}#wbp*", "tomogram"), ("copick:#membrane", "segmentation")]
    words += [("copick:#ribosome", "instances"), ("copick:#ribosome", "picks")]
    here = io.find_copick(words, ["14069"])
    wanted = (volume, LABELS == 3, found)
    for (entry,), values in zip(here.entries, wanted, strict=False):
        assert entry.path.is_relative_to(tmp_path / "cache")
        np.testing.assert_array_equal(io.read_tomogram(entry.path).density, values)
    picks = io.read_particles(here.entries[3][0].path, 10.0)
    np.testing.assert_allclose(picks.coordinates, [[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(picks.rotations[0], turned()[2::-1, 2::-1], atol=1e-9)
    given = [f"copick:{config}#wbp*", "--run", "14069", "-o", "copick:#membrane:tool/9"]
    assert cli.main(["segment", "threshold", *given, "--contrast", "bright"]) == 0
    assert list((tmp_path / "overlay").rglob("14069/*/10.000_tool_9_membrane.zarr"))
