"""napari reads and writes our volumes with their scale, and its widgets segment and learn."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import yaml

from cryojax_seg import inference, io
from cryojax_seg.core import Tomogram
from cryojax_seg.errors import ParameterError
from cryojax_seg.view import layers, napari_widgets

ROOT = Path(io.__file__).parents[1]
SHAPE = (6, 20, 24)
NM = {"scale": (1.2, 1.2, 1.2), "units": ("nanometer",) * 3, "translate": (0.0, 3.0, 0.0)}


def test_every_command_of_the_manifest_exists():
    manifest = yaml.safe_load((ROOT / "napari.yaml").read_text())["contributions"]
    for command in manifest["commands"]:
        module, _, name = command["python_name"].partition(":")
        assert callable(getattr(importlib.import_module(module), name))
    ids = {command["id"] for command in manifest["commands"]}
    for kind in ("readers", "writers", "widgets"):
        assert {one["command"] for one in manifest[kind]} <= ids


def test_the_manifest_is_valid():
    npe2 = pytest.importorskip("npe2", reason="npe2 is not installed")
    manifest = npe2.PluginManifest.from_file(ROOT / "napari.yaml")
    manifest.validate_imports()
    assert manifest.name == "cryojax-seg" and len(manifest.contributions.widgets) == 2


@pytest.mark.parametrize("suffix", [".mrc", ".zarr"])
def test_labels_keep_their_scale_classes_and_what_nobody_annotated(tmp_path, suffix):
    labels = np.zeros(SHAPE, np.int64)
    labels[2, 4:9], labels[4] = 2, 255
    known = NM | {"metadata": {"classes": ("membrane", "actin")}}
    (path,) = layers.write_layer(str(tmp_path / f"a{suffix}"), labels, known)
    ((data, again, kind),) = layers.reader(path)(path)
    assert kind == "labels" and again["metadata"] == known["metadata"]
    np.testing.assert_array_equal(data, labels)
    np.testing.assert_allclose(again["scale"], NM["scale"], rtol=1e-6)
    np.testing.assert_allclose(again["translate"], NM["translate"])
    found = io.read_labels(path)
    assert found.weights[4].sum() == 0 and found.weights[2].all()
    with pytest.raises(io.FileError, match="exists"):
        layers.write_layer(path, labels, known)


def test_painted_labels_are_read_with_255_for_what_nobody_annotated(tmp_path):
    painted = np.full(SHAPE, -1, np.int8)
    painted[3] = 1
    path = tmp_path / "labels.mrc"
    io.write_mrc(path, painted, voxel_size=10.0, card=io.LabelCard(("membrane",)))
    ((data, known, _),) = layers.read_layers(path)
    assert np.unique(data).tolist() == [1, 255] and known["scale"] == (1.0, 1.0, 1.0)


def test_probabilities_and_tomograms_are_images(tmp_path):
    values = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    path = tmp_path / "t.membrane.probability.mrc"
    layers.write_layer(str(path), values, NM)
    ((data, known, kind),) = layers.read_layers(path)
    assert kind == "image" and known["contrast_limits"] == (0.0, 1.0)
    np.testing.assert_array_equal(data, values)
    path = path.rename(tmp_path / "t.mrc")
    ((_, known, kind),) = layers.read_layers(path)
    assert kind == "image" and known["colormap"] == "gray" and "contrast_limits" not in known


def test_what_is_no_volume_is_refused(tmp_path):
    with pytest.raises(io.FileError, match="2 axes"):
        layers.write_layer(str(tmp_path / "a.mrc"), np.zeros((4, 4)), NM)
    layer = types.SimpleNamespace(data=np.zeros(SHAPE), name="t", translate=(0, 0, 0))
    layer.scale, layer.units = (1.0, 1.0, 1.0), ("pixel",) * 3
    with pytest.raises(ParameterError, match="no unit"):
        napari_widgets.tomogram_of(layer)
    layer.data = layer.data[0]
    with pytest.raises(ParameterError, match="volume"):
        napari_widgets.tomogram_of(layer)


@pytest.fixture(scope="module")
def slab():
    """A dark slab in noise."""
    known = np.zeros((12, 48, 48), int)
    known[:, 16:28] = 1
    noise = np.random.default_rng(0).normal(size=known.shape)
    return Tomogram((noise - 3 * known).astype(np.float32), (10.0, 10.0, 10.0)), known


def dice(found, truth):
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


def test_a_layer_teaches_in_two_ways(slab):
    tomogram, known = slab
    complete = np.zeros(known.shape, int)
    complete[5] = known[5]  # zeros of this slice are background
    strokes = np.zeros(known.shape, int)
    strokes[5, 18:26], strokes[5, 34:44], strokes[5, 2:12] = 1, 2, 2  # 2 is background
    for labels, background in ((complete, 0), (strokes, 2)):
        model = layers.learned(tomogram, labels, "vote", ["slab"], background)
        found = napari_widgets.found_layers(model, tomogram, "dark", maps=True)
        assert [kind for *_, kind in found] == ["image", "labels"]
        assert dice(found[-1][0] == 1, known == 1) > 0.9
    with pytest.raises(ParameterError, match="no voxel of a class"):
        layers.learned(tomogram, np.zeros(known.shape, int))
    with pytest.raises(ParameterError, match="labels 1 to 2"):
        layers.learned(tomogram, strokes, classes=["slab"])


NAPARI = os.environ.get("CRYOJAX_SEG_NAPARI") or (
    sys.executable if importlib.util.find_spec("napari") else None
)


@pytest.mark.slow
@pytest.mark.skipif(NAPARI is None, reason="napari is not installed, nor is its Python named")
@pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="there is no xvfb-run")
def test_widgets_segment_and_learn_in_napari(tmp_path):
    import jax

    from cryojax_seg import simulate

    scene = simulate.presets.vesicles(jax.random.key(5), (32, 96, 96), voxel_size=10.0)
    phantom = simulate.simulate(scene, simulate.WedgeImaging(snr=0.5), jax.random.key(6))
    truth = (np.asarray(phantom.labels) == 1).astype(np.int8)
    io.write_mrc(tmp_path / "t.mrc", -np.asarray(phantom.density), voxel_size=10.0)
    painted = np.zeros_like(truth)
    painted[16] = truth[16]
    card = io.LabelCard(("membrane",))
    io.write_mrc(tmp_path / "labels.mrc", painted, voxel_size=10.0, card=card)
    script = Path(__file__).with_name("napari_session.py")
    done = subprocess.run(
        ["xvfb-run", "-a", "-s", "-screen 0 1400x900x24", NAPARI, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "PYTHONPATH": str(ROOT.parent)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["layers"] == ["Image", "Labels"] and told["values"] == [0, 1]
    assert told["scale"] == [[1.0, 1.0, 1.0], "nanometer"]
    assert told["segmented"][0] == "t.mrc membrane by membrane-fast" and told["segmented"][2] == [
        1.0,
        1.0,
        1.0,
    ]
    assert told["maps"] == [["t.mrc membrane probability by membrane-fast", [0.0, 1.0]]]
    for what in ("segmented", "learned"):  # about as many voxels as there are
        assert 0.5 < told[what][1] / truth.sum() < 1.5
    saved = io.read_labels(tmp_path / "saved.mrc").labels
    assert saved.sum() == told["learned"][1] and dice(saved == 1, truth == 1) > 0.7
    assert inference.load(tmp_path / "learned.model").segmenter.classes == ("membrane",)
    if "CRYOJAX_SEG_SHOTS" in os.environ:
        for name in ("segment.png", "learn.png"):
            shutil.copy(tmp_path / name, os.environ["CRYOJAX_SEG_SHOTS"])
