"""Training that begins from a model."""

from typing import Any

import numpy as np
import pytest
import yaml

from cryojax_seg import inference


@pytest.fixture
def base(files):
    return ("train", files / "tomogram.mrc", "--labels", files / "sparse.mrc", "--patch", "16")


def test_a_model_learns_on_from_another_tomogram(run, base, trained, tmp_path):
    words = ("--start", trained, "--replay", "0", "--steps", "2", "--learning-rate", "1e-6")
    status, _, said = run(*base, *words, "-o", tmp_path / "run")
    assert status == 0, said
    assert "no phantoms" not in said
    before: Any = inference.load(trained)
    after: Any = inference.load(tmp_path / "run")
    assert after.segmenter.classes == before.segmenter.classes == ("membrane",)  # nobody named it
    np.testing.assert_allclose(after.segmenter.kernel, before.segmenter.kernel, atol=1e-5)
    written = (tmp_path / "run" / "config.yaml").read_text()
    assert str(trained) in written and "method" not in written
    assert after.card.provenance["method"] == "vote"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "unet"), "is a vote, not a unet; leave the method out"),
        (("--voxel-size", "25"), "the start model learned from 10, more than twofold off"),
        (("--classes", "actin"), "only a network can learn others, not a LinearVote"),
        (("--replay", "1"), "from 0 to below 1, got 1"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_at_once(run, base, trained, tmp_path, words, message):
    status, _, said = run(*base, "--start", trained, *words, "-o", tmp_path / "run")
    assert status == 2 and message in said
    assert not (tmp_path / "run" / "model").exists()


def test_what_cannot_be_simulated_is_said(run, base, tmp_path):
    status, _, said = run(*base, "--replay", "0.5", "--classes", "ribosome", "-o", tmp_path / "run")
    assert status == 2 and "ribosome cannot be simulated" in said and "--replay" in said


def test_tomograms_without_labels_teach_too(run, base, files, tmp_path):
    words = ("--method", "threshold", "--steps", "2", "-o", tmp_path / "run")
    words += ("--batch", "1", "--unlabelled", files / "even.mrc", files / "odd.mrc")
    status, _, said = run(*base, *words)
    assert status == 2 and "--tilt-range LO HI is needed" in said
    status, _, said = run(*base, *words, files / "tomogram.mrc", "--tilt-range", "-60", "60")
    assert status == 2 and "tomogram.mrc: has labels already" in said
    assert not (tmp_path / "run").exists()
    status, _, said = run(*base, *words, "--tilt-range", "-60", "60")
    assert status == 0, said
    assert "and 2 without labels: 2 steps of 1 patches 16x16x16, 1 without labels" in said
    kept = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert [name.rpartition("/")[2] for name in kept["unlabelled"]] == ["even.mrc", "odd.mrc"]
    model = inference.load(tmp_path / "run")
    assert model.card.provenance["config"]["unlabelled"] == kept["unlabelled"]


def test_there_is_no_model(run, base, tmp_path):
    status, _, said = run(*base, "--start", tmp_path / "none", "-o", tmp_path / "run")
    assert status == 2 and "no such model folder" in said
