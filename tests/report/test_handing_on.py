"""What other programs open beside the results of measure and of segment."""

import sys
import types

import numpy as np
import pytest

from cryojax_seg import cli, io, measure, report
from cryojax_seg.core.tomogram import Tomogram

ORIGIN = (100.0, 0.0, 50.0)


class Viewer:
    """Stands for napari's: keeps what was added to it, by kind and name."""

    def __init__(self, title):
        self.layers = {}
        shown.append(self)

    def add_image(self, data, name, **options):
        self.layers["image", name] = (data, options)

    def add_labels(self, data, name, **options):
        self.layers["labels", name] = (data, options)


shown = []


def opened(path, monkeypatch):
    """Run a script for napari, and return what it shows."""
    napari = types.ModuleType("napari")
    monkeypatch.setattr(napari, "Viewer", Viewer, raising=False)
    monkeypatch.setattr(napari, "run", lambda: None, raising=False)
    monkeypatch.setitem(sys.modules, "napari", napari)
    exec(compile(path.read_text(), path, "exec"), {"__file__": str(path)})
    return shown.pop().layers


def files_of(commands):
    return [line.split('"')[1] for line in commands if line.startswith("open ")]


@pytest.fixture
def labels():
    values = np.zeros((12, 14, 30), np.int8)
    values[3:9, 3:9, 3:9], values[3:9, 3:9, 18:26] = 1, 2
    return values


@pytest.mark.parametrize("meshes", [None, "stl", "surf"])
def test_measurements_are_shown_from_their_folder(tmp_path, labels, meshes, monkeypatch):
    volume = Tomogram(labels, (10.0,) * 3, origin=ORIGIN)
    io.write_mrc(tmp_path / "t.mrc", np.float32(labels), volume)
    classes = [measure.ObjectClass(n, i, "organelle") for i, n in ((1, "a b"), (2, "vesicle"))]
    found = measure.measure_classes(labels, (10.0,) * 3, classes)
    folder = tmp_path / "measured"
    tomogram = io.read_tomogram(tmp_path / "t.mrc")
    report.write_measurements(folder, found, volume, tomogram=tomogram, meshes=meshes)
    assert not (folder / "scene.mod").exists()
    commands = (folder / "scene.cxc").read_text().splitlines()
    files = files_of(commands)
    assert len(files) == 3 and all((folder / file).is_file() for file in files)
    assert files[0] == "../t.mrc"
    assert files[1].startswith("meshes/" if meshes == "stl" else "instances/")
    assert "color #2 #2a78d6" in commands and "color #3 #eb6834" in commands
    layers = opened(folder / "scene_napari.py", monkeypatch)
    assert list(layers) == [("image", "tomogram"), ("labels", "a b"), ("labels", "vesicle")]
    for data, options in layers.values():
        assert options["scale"] == [10.0] * 3 and options["translate"] == list(ORIGIN)
        assert data.shape == labels.shape
    np.testing.assert_array_equal(layers["labels", "vesicle"][0], labels == 2)
    assert len((folder / "README.txt").read_text().splitlines()) == 4


def test_measure_names_the_tomogram_from_where_its_folder_lies(tmp_path, labels, monkeypatch):
    volume = Tomogram(labels, (10.0,) * 3, start=(2, 0, 1))
    io.write_mrc(tmp_path / "t.mrc", np.float32(labels), volume)
    io.write_mrc(tmp_path / "l.mrc", labels, volume)
    words = ["measure", str(tmp_path / "l.mrc"), "--tomogram", str(tmp_path / "t.mrc")]
    words += ["--classes", "vesicle", "actin", "--scene", "chimerax", "napari"]
    assert cli.main([*words, "-o", str(tmp_path / "deep" / "m")]) == 0
    folder = tmp_path / "deep" / "m"
    files = files_of((folder / "scene.cxc").read_text().splitlines())
    assert files == ["../../t.mrc", "instances/vesicle.mrc"]
    layers = opened(folder / "scene_napari.py", monkeypatch)
    assert list(layers) == [("image", "tomogram"), ("labels", "vesicle")]
    assert {tuple(options["translate"]) for _, options in layers.values()} == {(20.0, 0.0, 10.0)}


def test_filaments_are_shown_with_their_numbers(tmp_path, monkeypatch):
    labels = np.zeros((16, 16, 60), np.int8)
    labels[6:10, 6:10, 3:57] = labels[2:6, 12:16, 3:57] = 1
    io.write_mrc(tmp_path / "l.mrc", labels, voxel_size=10.0)
    words = ["measure", str(tmp_path / "l.mrc"), "--classes", "actin", "-o", str(tmp_path / "m")]
    assert cli.main(words) == 0
    layers = opened(tmp_path / "m" / "scene_napari.py", monkeypatch)
    numbers = layers["labels", "actin"][0]
    np.testing.assert_array_equal(numbers > 0, labels > 0)
    assert {tuple(np.unique(numbers[6:10, 6:10])), tuple(np.unique(numbers[2:6, 12:16]))} == {
        (0, 1),
        (0, 2),
    }
    commands = (tmp_path / "m" / "scene.cxc").read_text().splitlines()
    assert commands[0] == 'open "instances/actin.mrc"'


def test_measurements_are_an_imod_model(tmp_path):
    """Outlines, centre lines and middles lie where the labels are."""
    import imodmodel

    place = np.indices((24, 30, 60))
    shell = np.linalg.norm(place - np.array([12, 14, 14])[:, None, None, None], axis=0)
    labels = np.where((shell > 5) & (shell < 9), 1, 0).astype(np.int8)
    rod = np.hypot(place[0] - 12, place[1] - 8) < 2.5
    labels[rod & (place[2] > 26) & (place[2] < 58)] = 2
    labels[10:15, 20:25, 40:45] = 3
    volume = Tomogram(labels, (10.0,) * 3, origin=ORIGIN)
    kinds = (("er", "membrane"), ("actin", "filament"), ("ribosome", "complex"))
    classes = [measure.ObjectClass(name, n, kind) for n, (name, kind) in enumerate(kinds, 1)]
    found = measure.measure_classes(labels, (10.0,) * 3, classes)
    report.write_measurements(tmp_path / "m", found, volume, scenes=("imod",))
    assert not (tmp_path / "m" / "scene.cxc").exists()
    path = tmp_path / "m" / "scene.mod"
    table = imodmodel.read(path)
    line, middle = (table[table.object_id == n][["z", "y", "x"]].to_numpy() for n in (1, 2))
    np.testing.assert_allclose(line[:, :2] - [0, 0.5], np.tile([12, 8], (len(line), 1)), atol=0.3)
    assert line[:, 2].min() < 30 and line[:, 2].max() > 55
    np.testing.assert_allclose(middle, [[12, 22.5, 42.5]], atol=1e-5)
    painted = io.read_imod(path, volume, thickness=50.0)
    np.testing.assert_array_equal(painted == 1, labels == 1)
    dice = 2 * ((painted == 2) & (labels == 2)).sum() / ((painted == 2).sum() + (labels == 2).sum())
    assert dice > 0.9


@pytest.mark.parametrize(
    ("ending", "kind"), [("mrc", "mrc"), ("nii", "nifti"), ("nrrd", "nrrd"), ("zarr", "zarr")]
)
def test_labels_of_segment_are_shown(tmp_path, labels, ending, kind, monkeypatch, capsys):
    volume = Tomogram(np.float32(labels), (10.0,) * 3, origin=ORIGIN)
    for name in ("a", "b"):
        io.write_mrc(tmp_path / f"{name}.mrc", np.float32(labels), volume)
    programs = ["napari", "imod", *(["chimerax"] if ending != "zarr" else [])]
    words = ["segment", "threshold", str(tmp_path / "a.mrc"), str(tmp_path / "b.mrc")]
    words += ["-o", str(tmp_path / "out"), "--contrast", "bright", "--format", kind]
    assert cli.main([*words, "--scene", *programs]) == 0
    found = io.read_tomogram(tmp_path / "out" / f"b.labels.{ending}")
    layers = opened(tmp_path / "out" / "b.scene_napari.py", monkeypatch)
    data, options = layers["labels", "labels"]
    np.testing.assert_array_equal(data, found.density)
    assert options["colormap"] == {1: "#2a78d6", None: "transparent"}
    assert options["features"] == {"index": [1], "class": ["foreground"]}
    for other in (options, layers["image", "tomogram"][1]):
        np.testing.assert_allclose(other["translate"], ORIGIN, rtol=1e-6)
    painted = io.read_imod(tmp_path / "out" / "b.scene.mod", volume)
    np.testing.assert_array_equal(painted, found.density)
    lines = (tmp_path / "out" / "README.txt").read_text().splitlines()
    assert len(lines) == 4 and "1 foreground" in lines[0]
    if ending == "zarr":
        again = [*words, "--overwrite", "--scene", "chimerax"]
        assert cli.main(again) == 2
        assert "ChimeraX opens no OME-Zarr" in capsys.readouterr().err
    else:
        commands = (tmp_path / "out" / "b.scene.cxc").read_text().splitlines()
        assert files_of(commands) == ["../b.mrc", f"b.labels.{ending}"]
        assert "segmentation surfaces #2 where 1 color #2a78d6 step 1" in commands


@pytest.mark.parametrize("suffix", ["ply", "obj", "stl", "glb", "surf"])
def test_meshes_of_segment_enclose_the_labels(tmp_path, labels, suffix, capsys):
    volume = Tomogram(np.float32(labels), (10.0,) * 3, origin=ORIGIN)
    io.write_mrc(tmp_path / "t.mrc", np.float32(labels > 0), volume)
    words = ["segment", "threshold", str(tmp_path / "t.mrc"), "--contrast", "bright"]
    words += ["-o", str(tmp_path / "l.mrc"), "--meshes", suffix]
    path = tmp_path / f"l.foreground.{suffix}"
    path.write_text("mine")
    assert cli.main(words) == 2
    assert "exists already" in capsys.readouterr().err and not (tmp_path / "l.mrc").exists()
    path.unlink()
    assert cli.main(words) == 0
    found = io.read_tomogram(tmp_path / "l.mrc")
    filled = io.read_labels(path, found).labels
    truth = np.asarray(found.density) == 1
    assert 2 * (truth & (filled == 1)).sum() / (truth.sum() + (filled == 1).sum()) > 0.95


def test_a_scene_that_is_there_is_kept(tmp_path, labels, capsys):
    io.write_mrc(tmp_path / "t.mrc", np.float32(labels), voxel_size=10.0)
    (tmp_path / "l.scene.cxc").write_text("mine")
    words = ["segment", "threshold", str(tmp_path / "t.mrc"), "--contrast", "bright"]
    words += ["-o", str(tmp_path / "l.mrc"), "--scene", "chimerax"]
    assert cli.main(words) == 2
    assert "l.scene.cxc: exists already" in capsys.readouterr().err
    assert not (tmp_path / "l.mrc").exists()
    assert cli.main([*words, "--overwrite"]) == 0
    assert (tmp_path / "l.scene.cxc").read_text().startswith('open "t.mrc"')
    assert not (tmp_path / "README.txt").exists()  # of a folder that is not ours
