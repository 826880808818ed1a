"""Built-in models on the command line."""

import json

import numpy as np
import pytest

from cryojax_seg import inference, io
from cryojax_seg.inference import built_in


@pytest.fixture
def vote(trained, tmp_path, monkeypatch):
    """The trained vote as the only built-in model, and an empty current folder."""
    model = inference.load(trained)
    scores = {"phantoms": {"Dice": 0.8125}, "real": {"Dice": 0.5, "recall": 0.25}}
    facts = {"command": "train.py", "never_seen": ["real tomograms"], "licence": "BSD-3-Clause"}
    card = io.ModelCard(
        voxel_size=model.card.voxel_size,
        contrast=model.card.contrast,
        voxel_sizes=(6.0, 20.0),
        tilt_ranges=((-35.0, 40.0), (-70.0, 70.0)),
        provenance={"method": "vote", "scores": scores, **facts},
    )
    (tmp_path / "models").mkdir()
    io.save_model(tmp_path / "models" / "membrane-fast", model.segmenter, card, float16=True)
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(built_in, "MODELS", tmp_path / "models")
    monkeypatch.chdir(tmp_path / "here")
    return model


def test_the_list_has_a_row_for_each(run, vote):
    status, out, _ = run("models")
    lines = out.splitlines()
    assert status == 0 and lines[0] == "built-in models"
    assert lines[1].split() == ["name", "classes", "parameters", "size", "voxel", "size", "Dice"]
    assert lines[2].split()[:3] == ["membrane-fast", "membrane", "345"]
    assert lines[2].endswith("6 to 20 A  0.50 to 0.81")
    assert lines[4].endswith("cryojax-seg segment membrane-fast TOMOGRAM -o LABELS.mrc")


def test_a_card(run, vote, trained):
    status, out, _ = run("models", "membrane")
    facts = dict(line.strip().split("  ", 1) for line in out.splitlines()[1:])
    facts = {name: text.strip() for name, text in facts.items()}
    assert status == 0 and out.startswith("membrane-fast\n")
    assert facts["tilt range"] == "(-35, 40) to (-70, 70) degrees"
    assert facts["score 2"] == "real: Dice 0.5, recall 0.25"
    assert (facts["never seen"], facts["licence"]) == ("real tomograms", "BSD-3-Clause")
    assert (facts["training command"], facts["training method"]) == ("train.py", "vote")
    status, out, _ = run("models", "membrane", trained, "--json")
    one, two = json.loads(out)
    assert one["card"]["voxel_sizes"] == [6.0, 20.0] and one["parameters"] == two["parameters"]
    assert two["name"] == str(trained) and two["card"]["voxel_sizes"] is None


def test_no_built_in_models(run, tmp_path, monkeypatch):
    monkeypatch.setattr(built_in, "MODELS", tmp_path)
    status, out, _ = run("models")
    assert status == 0 and "has no built-in models" in out
    assert json.loads(run("models", "--json")[1]) == []
    status, _, said = run("models", "membrane")
    assert status == 2 and "has none" in said


def test_a_name_is_taken_where_a_folder_is(run, vote, files, tmp_path):
    status, _, said = run("segment", "membrane", files / "tomogram.mrc", "-o", "labels.mrc")
    assert status == 0, said
    found = io.read_tomogram("labels.mrc").density
    expected = inference.segment(vote, files / "tomogram.mrc")
    assert 0.01 < found.mean() < 0.99 and (found != expected).mean() < 1e-3
    status, out, _ = run("info", "membrane-fast")
    assert status == 0 and "cryojax_seg" not in out.split("software")[0] and "vote" in out
    words = ("export", "membrane", "--openvino", "vote.xml")
    status, _, said = run(*words)
    assert status in (0, 2) and "no such model" not in said  # a vote may be no network
    words = ("segment", "membrene", files / "tomogram.mrc", "-o", "labels.mrc")
    status, _, said = run(*words)
    assert status == 2 and "did you mean membrane?" in said


def test_training_starts_from_a_name_and_records_it(run, vote, files, tmp_path):
    base = ("train", files / "tomogram.mrc", "--labels", files / "sparse.mrc", "--patch", "16")
    words = ("--start", "membrane", "--replay", "0", "--steps", "2", "--learning-rate", "1e-6")
    status, _, said = run(*base, *words, "-o", tmp_path / "run")
    assert status == 0, said
    after = inference.load(tmp_path / "run")
    kernels = [np.asarray(m.segmenter.kernel) for m in (vote, after)]  # pyright: ignore
    np.testing.assert_allclose(*kernels, rtol=1e-3, atol=1e-4)
    assert after.card.provenance["config"]["start"] == "membrane-fast"
    assert "start: membrane-fast\n" in (tmp_path / "run" / "config.yaml").read_text()
    # The file names the model, so that it is found from any folder.
    words = ("train", "--config", tmp_path / "run" / "config.yaml", "--resume", "--steps", "3")
    status, _, said = run(*words, "-o", tmp_path / "run")
    assert status == 0, said


def test_a_first_look_needs_no_model(run, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, said = run("segment", "sheet", files / "tomogram.mrc", "-o", "labels.mrc")
    assert status == 0, said
    assert "sheet: a first look by a method that was not trained" in said
    found = io.read_tomogram("labels.mrc").density
    assert 0.02 < found.mean() < 0.5 and out.startswith("labels.mrc: membrane ")
    status, _, said = run("train", files / "tomogram.mrc", "--labels", files / "sparse.mrc",
                          "--start", "sheet", "-o", "run")  # fmt: skip
    assert status == 2 and "sheet: no such model folder" in said
