"""Which engine computes a segmentation, and graphs for other programs."""

import os
import subprocess
import sys

import numpy as np
import pytest
from flax import nnx

from cryojax_seg import core, export, io
from cryojax_seg.segmenters import GlobalThreshold, UNet

needs_openvino = pytest.mark.skipif(
    not export.installed(), reason="needs the extra cryojax-seg[openvino]"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A saved network whose statistics are fitted."""
    path = tmp_path_factory.mktemp("network") / "model"
    net = UNet(2, 1, norm="frozen", classes=("membrane",), rngs=nnx.Rngs(0))
    io.save_model(path, net, io.ModelCard(voxel_size=(10.0, 10.0, 10.0)))
    return path


@needs_openvino
def test_the_engine_makes_no_difference(run, files, model, tmp_path):
    words = ("segment", model, files / "tomogram.mrc", "--tile", "16", "--probabilities")
    words += ("--precision", "f32")
    labels, maps = {}, {}
    for engine, line in (("jax", "engine: JAX on the CPU\n"), ("openvino", "OpenVINO on the CPU")):
        out = tmp_path / engine / "labels.mrc"
        out.parent.mkdir()
        status, _, said = run(*words, "-o", out, "--engine", engine)
        assert status == 0 and line in said
        labels[engine] = io.read_mrc(out).density
        maps[engine] = io.read_mrc(out.with_name("labels.membrane.probability.mrc")).density
    apart = np.abs(maps["jax"].astype(float) - maps["openvino"])
    assert apart.max() < 1e-3  # rounded to 16 bits
    certain = np.abs(maps["jax"].astype(float) - 0.5) > 1e-3
    assert 0.1 < labels["jax"].mean() < 0.9 and certain.mean() > 0.9
    np.testing.assert_array_equal(labels["jax"][certain], labels["openvino"][certain])


@needs_openvino
def test_an_engine_does_not_go_on_with_what_another_began(
    run, files, trained, tmp_path, monkeypatch
):
    words = ("segment", trained, files / "tomogram.mrc", "--tile", "12", "-o", tmp_path)
    original = core.apply_tiles

    def interrupted(*arguments):
        tiles = original(*arguments)
        yield next(tiles)
        raise KeyboardInterrupt

    monkeypatch.setattr("cryojax_seg.inference.segmentation.apply_tiles", interrupted)
    assert run(*words, "--engine", "jax")[0] == 130
    assert run(*words, "--engine", "openvino")[0] == 130
    monkeypatch.setattr("cryojax_seg.inference.segmentation.apply_tiles", original)
    assert "going on" not in run(*words, "--engine", "jax", "--overwrite")[2]


@needs_openvino
def test_auto_takes_openvino_for_networks(run, files, model, trained, tmp_path):
    io.save_model(tmp_path / "threshold", GlobalThreshold(1.0))
    plan = (files / "tomogram.mrc", "-o", tmp_path / "out", "--dry-run")
    assert run("segment", trained, *plan)[2] == "engine: JAX on the CPU\n"  # a vote
    said = run("segment", trained, *plan, "--engine", "openvino")[2]
    assert said == "engine: OpenVINO on the CPU, f32\n"
    precision = "bf16" if export.prefers_bf16() else "f32"
    _, printed, said = run("segment", model, *plan)
    assert f"engine: OpenVINO on the CPU, {precision}\n" in said
    assert ("bf16 labels" in said) == (precision == "bf16")
    assert f"in {precision}" in printed
    status, _, said = run("segment", tmp_path / "threshold", *plan)
    assert status == 0 and said == "engine: JAX on the CPU\n"
    status, _, said = run("segment", tmp_path / "threshold", *plan, "--engine", "openvino")
    assert status == 2 and "no OpenVINO graph for GlobalThreshold" in said
    status, _, said = run("segment", tmp_path / "threshold", *plan, "--precision", "bf16")
    assert status == 2 and "bfloat16 is for networks; GlobalThreshold is not one" in said


def test_bfloat16_says_how_many_labels_it_changes(run, files, model, tmp_path, monkeypatch):
    words = ("segment", model, files / "tomogram.mrc", "--engine", "jax", "-o")
    assert run(*words, tmp_path / "f32.mrc")[0] == 0
    status, _, said = run(*words, tmp_path / "bf16.mrc", "--precision", "bf16")
    assert status == 0 and "engine: JAX on the CPU, bf16" in said
    share = float(said.split("bf16 labels ")[1].split(" %")[0]) / 100
    one, other = (io.read_mrc(tmp_path / f"{name}.mrc").density for name in ("f32", "bf16"))
    assert 0 < share < 0.005
    assert abs((one != other).mean() - share) < 0.002  # measured on the same small volume
    monkeypatch.setattr("cryojax_seg.inference.engine.MOST", 0.0)
    status, _, said = run(*words, tmp_path / "given_up.mrc", "--precision", "bf16")
    assert status == 0 and "so it is segmented in f32" in said
    np.testing.assert_array_equal(io.read_mrc(tmp_path / "given_up.mrc").density, one)


def test_without_openvino_jax_computes(run, files, trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    plan = ("segment", trained, files / "tomogram.mrc", "-o", tmp_path / "out", "--dry-run")
    status, _, said = run(*plan)
    assert status == 0 and said == "engine: JAX on the CPU\n"
    for words in ((*plan, "--engine", "openvino"), ("export", trained, "--openvino", "g.xml")):
        status, _, said = run(*words)
        assert status == 2 and 'pip install "cryojax-seg[openvino]"' in said


@needs_openvino
def test_an_exported_graph_says_how_it_is_used(run, model, tmp_path):
    graph = tmp_path / "graph.xml"
    words = ("export", model, "--openvino", graph)
    status, printed, _ = run(*words)
    assert status == 0 and sorted(p.name for p in tmp_path.iterdir()) == ["graph.bin", "graph.xml"]
    for fact in (
        "multiple of 2",
        "at least 9 voxels",
        "sigmoid",
        "membrane",
        "dark in",
        "training data",
    ):
        assert fact in printed
    before = graph.read_bytes()
    status, _, complaint = run(*words, "--shape", "8", "8", "12")
    assert status == 2 and "exists already" in complaint and graph.read_bytes() == before
    status, printed, _ = run(*words, "--shape", "8", "8", "12", "--overwrite")
    assert status == 0 and "volume (8 x 8 x 12)" in printed and graph.read_bytes() != before
    # Any program can read it, without this package.
    code = (
        "import sys; sys.modules['openvino_telemetry'] = None\n"
        "import openvino\n"
        f"compiled = openvino.compile_model({str(graph)!r}, 'CPU')\n"
        "print(compiled.output('logits').shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[8,8,12,1]\n"


@needs_openvino
def test_an_export_that_cannot_be_leaves_nothing(run, model, tmp_path):
    words = ("export", model, "--openvino")
    status, _, complaint = run(*words, tmp_path / "graph.onnx")
    assert status == 2 and "ends in .xml" in complaint
    status, _, complaint = run(*words, tmp_path / "graph.xml", "--shape", "8", "8", "9")
    assert status == 2 and "multiple of the stride 2" in complaint
    io.save_model(tmp_path / "raw", UNet(2, 1, norm="instance", rngs=nnx.Rngs(0)))
    status, _, complaint = run("export", tmp_path / "raw", "--openvino", tmp_path / "graph.xml")
    assert status == 2 and "fit_normalization" in complaint
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


def test_several_devices_give_the_labels_of_one(run, files, model, tmp_path):
    words = ["segment", model, files / "tomogram.mrc", "--engine", "jax", "-o"]
    assert run(*words, tmp_path / "one.mrc")[0] == 0
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [sys.executable, "-m", "cryojax_seg", *words, tmp_path / "four.mrc"]
    four = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, env=environment
    )
    assert four.returncode == 0 and "engine: JAX on 4 CPU devices" in four.stderr, four.stderr
    one, other = (io.read_mrc(tmp_path / f"{name}.mrc").density for name in ("one", "four"))
    assert (one != other).mean() < 1e-3 and 0.1 < one.mean() < 0.9  # but for rounding
