"""What other programs open beside the results of measure."""

import ast

import numpy as np

from cryojax_seg import io, measure, report
from cryojax_seg.core.tomogram import Tomogram


def test_scenes_name_files_that_exist_from_their_folder(tmp_path):
    labels = np.zeros((12, 14, 30), np.int8)
    labels[3:9, 3:9, 3:9], labels[3:9, 3:9, 18:26] = 1, 2
    volume = Tomogram(labels, (10.0,) * 3, origin=(100.0, 0.0, 50.0))
    io.write_mrc(tmp_path / "t.mrc", np.float32(labels), volume)
    classes = [measure.ObjectClass(n, i, "organelle") for i, n in ((1, "a b"), (2, "vesicle"))]
    found = measure.measure_classes(labels, (10.0,) * 3, classes)
    tomogram = io.read_tomogram(tmp_path / "t.mrc")
    for name, meshes in (("plain", None), ("meshes", "stl")):
        folder = tmp_path / name
        report.write_measurements(folder, found, volume, tomogram=tomogram, meshes=meshes)
        commands = (folder / "scene.cxc").read_text().splitlines()
        opened = [line.split('"')[1] for line in commands if line.startswith("open ")]
        assert len(opened) == 3 and all((folder / file).is_file() for file in opened)
        assert opened[0] == "../t.mrc" and opened[1].startswith(
            "meshes/" if meshes else "instances/"
        )
        assert "color #2 #2a78d6" in commands and "color #3 #eb6834" in commands
        tree = ast.parse((folder / "scene_napari.py").read_text())
        calls = [
            n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "add"
        ]
        files = [call.args[1].value for call in calls]
        assert files == ["../t.mrc", "instances/a_b.mrc", "instances/vesicle.mrc"]
        assert all((folder / file).is_file() for file in files)
        assert len((folder / "README.txt").read_text().splitlines()) == 4
