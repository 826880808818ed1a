"""What blank parts do to the commands, and what they tell of annotations and scores."""

import json

import numpy as np
import pytest

from cryojax_seg import io

SHAPE = (16, 40, 40)
QUICK = ("--method", "threshold", "--steps", "2", "--patch", "16")


@pytest.fixture(scope="module")
def model(tmp_path_factory, balls):
    """A threshold that labels what is not much darker than the median, zeros included."""
    from cryojax_seg.segmenters import GlobalThreshold

    folder = tmp_path_factory.mktemp("model") / "low"
    io.save_model(folder, GlobalThreshold(-0.5), io.ModelCard(contrast="dark"))
    return folder


@pytest.mark.parametrize("value", [0.0, 30.0])
def test_blank_parts_get_no_label(run, write, model, balls, tmp_path, value):
    volume, around = balls[0] + np.float32(30), ((3, 0), (5, 5), (0, 30))
    a = write("a.mrc", volume)
    b = write("b.mrc", np.pad(volume, around, constant_values=value))
    for name in ("a", "b"):
        words = ("segment", model, {"a": a, "b": b}[name], "-o", tmp_path / f"{name}.out.mrc")
        status, _, said = run(*words, "--probabilities", "--tile", "16", "--engine", "jax")
        assert status == 0
    assert "blank (one value repeated exactly): left out" in said
    blank = np.pad(np.zeros(SHAPE, bool), around, constant_values=True)
    for kind in ("out", "out.foreground.probability"):
        alone, found = (
            np.asarray(io.read_tomogram(tmp_path / f"{name}.{kind}.mrc").density) for name in "ab"
        )
        assert np.array_equal(found[3:, 5:-5, :-30], alone)
        assert not found[blank].any() and alone.any()


def test_restoring_leaves_blank_parts_as_they_were(run, write, balls, tmp_path):
    volume, around = balls[0] + np.float32(30), ((0, 0), (0, 40), (4, 0))
    whole = np.pad(volume, around, constant_values=7.0)
    out = {}
    for name, density in (("a", volume), ("b", whole)):
        path = write(f"{name}.mrc", density)
        words = ("restore", path, "-o", tmp_path / f"{name}.r.mrc", "--method", "wiener")
        assert run(*words, "--tilt-range", "-60", "60")[0] == 0
        out[name] = np.asarray(io.read_tomogram(tmp_path / f"{name}.r.mrc").density)
        gain = json.loads((tmp_path / f"{name}.r.run" / "audit.json").read_text())
        out[name + " audit"] = gain["kept_overall"]
    assert (out["b"][:, 40:] == 7).all() and (out["b"][:, :, :4] == 7).all()
    inner = np.s_[:, :24, 16:]  # beyond the reach of the filter
    np.testing.assert_allclose(out["b"][:, :40, 4:][inner], out["a"][inner], atol=0.02)
    assert out["b audit"] == pytest.approx(out["a audit"], abs=0.02)


def test_a_model_that_finds_nothing_is_not_recommended(run, write, balls, tmp_path):
    volume = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    labels = np.zeros(SHAPE, np.int8)
    labels[:, 20, 20] = 1
    words = ("train", write("a.mrc", volume), "--labels", write("l.mrc", labels), *QUICK)
    status, printed, said = run(*words, "-o", tmp_path / "run")
    assert status == 0 and "next:" not in printed
    assert "finds next to nothing" in said and "--method" in said


def test_scores_have_a_mean_and_any_class(run, write, balls):
    _, labels = balls
    truth = labels.copy()
    truth[:, 20:] *= 2
    found = np.where(truth == 2, 1, truth).astype(np.int8)  # all of one class
    words = ("evaluate", write("found.mrc", found), write("truth.mrc", truth))
    status, printed, said = run(*words, "--json")
    scores = json.loads(printed)
    rows = scores["classes"]
    assert status == 0 and "not annotated" not in said
    assert scores["foreground"]["dice"] == 1.0
    assert scores["mean"]["dice"] == pytest.approx((rows["class1"]["dice"] + 0) / 2)
    _, printed, _ = run(*words)
    assert "mean of the classes" in printed and "any class" in printed


@pytest.mark.filterwarnings("ignore:.*(counts as not annotated|read as a mask)")
def test_0_and_255_is_asked_about(run, write, balls, tmp_path):
    _, labels = balls
    mask, good = write("mask.mrc", 255 * labels.astype(np.int16)), write("l.mrc", labels)
    status, _, said = run("evaluate", good, mask)
    assert status == 2 and "255 counts as not annotated; if it is the structure" in said
    assert "(--ignore VALUE)" in said
    status, _, said = run("measure", mask, "-o", tmp_path / "m")
    assert status == 2 and "255 counts as not annotated" in said and "(--ignore VALUE)" in said
    status, printed, said = run("evaluate", mask, good, "--json")
    assert status == 0 and json.loads(printed)["classes"]["foreground"]["dice"] == 1.0
    status, printed, _ = run("evaluate", good, mask, "--ignore", "-1", "--json")
    assert status == 0 and json.loads(printed)["classes"]["foreground"]["dice"] == 1.0


def test_thin_volumes_are_segmented(run, tmp_path, write, balls):
    from flax import nnx

    from cryojax_seg.segmenters import UNet

    net = UNet(2, 1, norm="instance", rngs=nnx.Rngs(0))
    io.save_model(tmp_path / "net", net, io.ModelCard(contrast="dark"))
    cut = balls[0][5:6, :9, :1]
    status, _, _ = run(
        "segment", tmp_path / "net", write("thin.mrc", cut), "-o", tmp_path / "o.mrc"
    )
    assert status == 0
    assert io.read_tomogram(tmp_path / "o.mrc").density.shape == (1, 9, 1)
