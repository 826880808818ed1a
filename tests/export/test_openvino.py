"""OpenVINO graphs compute what JAX computes, and say no to what they cannot."""

import functools
import math
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx

from cryojax_seg import export
from cryojax_seg.core import MissingWedge, Rescaled, Symmetrized
from cryojax_seg.segmenters import (
    ConvNet,
    GlobalThreshold,
    Isotonic,
    LinearVote,
    Tempered,
    Truncated,
    UNet,
    fit_normalization,
)
from cryojax_seg.segmenters.normalization import measure_statistics, normalizations

if not export.installed():  # importorskip would import it, which tells its makers so
    pytest.skip("needs the extra cryojax-seg[openvino]", allow_module_level=True)

SHAPE = (8, 12, 16)
VOLUME = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
THREE = ("background", "membrane", "ribosome")


def altered(segmenter):
    """The same with a bit added to every number, so that none is 0 or 1 and without effect."""
    rng = np.random.default_rng(1)
    for _, variable in nnx.iter_graph(segmenter):
        if isinstance(variable, nnx.Variable):
            variable[...] += rng.uniform(0.0, 0.1, variable.shape).astype(np.float32)
    return segmenter


def unet(*arguments, norm="frozen", **options):
    return altered(UNet(*arguments, norm=norm, rngs=nnx.Rngs(0), **options))


def convnet(*arguments, norm, **options):
    return altered(ConvNet(*arguments, norm=norm, rngs=nnx.Rngs(0), **options))


CASES = {
    "flat U-Net": lambda: unet(3, 0, norm="none"),
    "U-Net": lambda: unet(3, 2),
    "U-Net, three classes": lambda: unet(2, 1, norm="weight", classes=THREE, deep_supervision=True),
    "U-Net with stem": lambda: unet(4, 1, "space_to_depth", norm="rms", classes=THREE),
    "frozen ConvNet": lambda: convnet(2, 3, 3, norm="frozen"),
    "weight ConvNet": lambda: convnet(2, 3, 1, norm="weight", classes=THREE),
    "vote": lambda: altered(LinearVote(2, classes=THREE)),
    "point": lambda: altered(LinearVote(0, 0.5, 2.0)),
    "tempered": lambda: Tempered(altered(LinearVote(1)), 0.7),
    "isotonic": lambda: Isotonic(altered(LinearVote(1)), (-1.0, 0.2, 0.5), (-2.0, 0.0, 3.0)),
    "flips": lambda: Symmetrized(Truncated(altered(LinearVote(1)), 0), MissingWedge((-60.0, 60.0))),
    "rescaled": lambda: Tempered(
        Rescaled(unet(2, 1, classes=THREE), (1.0, 0.5, 2.0), 0.1, 1.5), 1.2
    ),
}


@functools.cache
def case(name):
    """A segmenter and its logits by JAX."""
    segmenter = CASES[name]()
    return segmenter, np.asarray(run(segmenter, VOLUME))


@jax.jit
def run(segmenter, volume):
    return segmenter(volume)


def near(logits, expected):
    return np.abs(logits - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_jax(name):
    segmenter, expected = case(name)
    logits = export.OpenVINOProgram(segmenter, SHAPE, threads=1)(VOLUME)
    assert logits.dtype == np.float32 and logits.shape == expected.shape
    assert np.abs(logits - expected).max() < 1e-5 * np.abs(expected).max()


def test_bf16_is_near_and_used_only_if_asked_for():
    net, expected = case("U-Net with stem")
    try:
        program = export.OpenVINOProgram(net, SHAPE, "bf16")
    except ValueError as refusal:
        assert "does not compute in bf16" in str(refusal)
        pytest.skip("this CPU has no bf16")
    logits = program(VOLUME)
    difference = np.abs(logits - expected).max() / np.abs(expected).max()
    assert 1e-4 < difference < 0.03  # 8 bits are 0.004, and errors of layers add up
    assert (logits.argmax(-1) == expected.argmax(-1)).mean() > 0.97


def test_what_a_program_gave_stays():
    program = export.OpenVINOProgram(case("vote")[0], SHAPE)
    first = program(VOLUME)
    kept = first.copy()
    program(VOLUME + 1)
    np.testing.assert_array_equal(first, kept)
    mirrored = VOLUME[:, ::-1]  # not contiguous
    np.testing.assert_array_equal(program(mirrored), program(mirrored.copy()))


def test_a_file_holds_all_that_is_needed(tmp_path):
    segmenter, expected = case("U-Net with stem")
    xml = tmp_path / "graph.xml"
    export.write_openvino(segmenter, xml, tmp_path / "graph.bin")
    import openvino

    model = openvino.Core().read_model(xml)
    facts = {n: model.get_rt_info(["cryojax_seg", n]).astype(str) for n in ("halo", "classes")}
    assert facts == {"halo": str(segmenter.halo), "classes": ",".join(THREE)}
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert near(compiled({"volume": VOLUME})["logits"], expected)


@pytest.mark.parametrize("shape", [(4, 8, 12), (12, 4, 4)])
def test_a_graph_may_be_of_any_shape(shape):
    import openvino

    net = unet(2, 1, norm="none")
    model = export.openvino_model(net)
    volume = VOLUME.ravel()[: math.prod(shape)].reshape(shape)
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert near(compiled(volume)[0], np.asarray(run(net, volume)))


@pytest.mark.parametrize("name", ["U-Net with stem", "frozen ConvNet"])
def test_statistics_are_those_of_jax(name):
    """Also of many voxels far from 0, of which one sum of float32 would lose digits."""
    volume = np.random.default_rng(2).normal(5.0, 1.0, (48, 48, 48)).astype(np.float32)
    net = unet(4, 1, "space_to_depth", norm="instance") if "stem" in name else case(name)[0]
    fitted = [
        normalizations(fit_normalization(net, volume, patch=32, count=4, measure=measure))
        for measure in (measure_statistics, export.measure_statistics)
    ]
    assert list(fitted[0]) == list(fitted[1]) and len(fitted[0]) > 1
    for one, other in zip(fitted[0].values(), fitted[1].values(), strict=True):
        variance = np.asarray(one.variance[...])
        np.testing.assert_allclose(other.variance[...], variance, rtol=1e-5)
        apart = np.asarray(one.mean[...]) - np.asarray(other.mean[...])
        assert np.abs(apart / np.sqrt(variance)).max() < 1e-5


def test_memory_is_that_of_the_arrays_that_live_together():
    net = case("frozen ConvNet")[0]
    assert net.width == 3
    memory = export.memory_per_voxel(net)
    assert memory == pytest.approx(2 * 4 * 3, rel=0.01)  # input and output of a convolution
    if export.prefers_bf16():
        assert export.memory_per_voxel(net, "bf16") == pytest.approx(memory / 2, rel=0.01)
    net = unet(8, 2)
    whole = export.OpenVINOProgram(net, (32, 32, 32)).bytes_per_voxel
    assert whole == pytest.approx(export.memory_per_voxel(net), rel=0.01)


def test_refusals(monkeypatch):
    with pytest.raises(ValueError, match="fit_normalization"):
        export.openvino_model(unet(2, 1, norm="instance"))
    with pytest.raises(ValueError, match="fit_normalization"):
        export.openvino_model(convnet(1, 2, norm="batch"))
    with pytest.raises(ValueError, match="no OpenVINO graph for GlobalThreshold, only for UNet"):
        export.openvino_model(Tempered(GlobalThreshold(0.0), 2.0))
    with pytest.raises(ValueError, match="multiple of the stride 4"):
        export.OpenVINOProgram(case("U-Net")[0], (8, 8, 10))
    with pytest.raises(ValueError, match="needs a shape"):
        export.openvino_model(case("rescaled")[0])
    with pytest.raises(ValueError, match="compiled for blocks of"):
        export.OpenVINOProgram(case("vote")[0], SHAPE)(VOLUME[:4])
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert not export.installed()
    with pytest.raises(ValueError, match="pip install"):
        export.openvino_model(case("vote")[0])


def test_nobody_is_told(tmp_path):
    """Importing openvino would leave an identity in the home folder and send a message."""
    code = (
        "import sys\n"
        "from cryojax_seg import export, segmenters\n"
        "export.openvino_model(segmenters.LinearVote(1))\n"
        "assert sys.modules['openvino'] and sys.modules['openvino_telemetry'] is None"
    )
    environment = {k: v for k, v in os.environ.items() if k != "CI"} | {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not (tmp_path / "intel").exists()
