"""Models that come with the package: their names, their cards and their files."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cryojax_seg import inference, io
from cryojax_seg.inference import built_in
from cryojax_seg.io.modules import flat_state
from cryojax_seg.segmenters import GlobalThreshold

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments import publish_model

FACTS = {
    "voxel_sizes": [6, 20],
    "tilt_ranges": [[-35, 40], [-70, 70]],
    **{"command": "python train.py", "commit": "0123abcd", "scenes": 12, "minutes": 3.5},
    **{"machine": "2 cores", "never_seen": ["real tomograms"], "licence": "BSD-3-Clause"},
    "scores": {"phantoms": {"Dice": 0.8125, "recall": 0.5}, "real microtubule": {"Dice": 0.25}},
}


def publish(name, models, run, facts=None, **options):
    file = run.parent / "facts.yaml"
    file.write_text(json.dumps(FACTS if facts is None else facts))
    return publish_model.publish(publish_model.Config(run, name, file, **options), models)


@pytest.fixture
def run(tmp_path):
    """A run folder with a model."""
    card = io.ModelCard(
        (10.0, 10.0, 10.0), "dark", patch=48, provenance={"method": "threshold", "config": {}}
    )
    segmenter = GlobalThreshold(1 / 3, classes=("membrane",))
    (tmp_path / "run").mkdir()
    io.save_model(tmp_path / "run" / "model", segmenter, card)
    return tmp_path / "run"


@pytest.fixture
def models(tmp_path, monkeypatch):
    """An empty folder in the place of that of the package, and an empty current folder."""
    for name in ("models", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(built_in, "MODELS", tmp_path / "models")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "models"


def test_the_models_of_the_package_are_whole():
    for name, folder in inference.built_in_models().items():
        assert name.endswith(inference.SIZES)
        model = inference.load(name)
        assert inference.missing_facts(model.card) == [] and model.card.provenance["built_in"]
        stored = json.loads((folder / "model.json").read_text())["arrays"].values()
        assert {a["stored"] for a in stored} <= {"float16", "float32"}
    assert publish_model.bytes_in(built_in.MODELS) < publish_model.LARGEST


def test_the_package_stays_small():
    files = [p for p in built_in.MODELS.parent.rglob("*") if "__pycache__" not in p.parts]
    assert sum(p.stat().st_size for p in files if p.is_file()) < 8e6  # before it is compressed


def test_a_published_model_is_loaded_by_its_name(models, run):
    folder = publish("membrane-fast", models, run)
    assert inference.built_in_models() == {"membrane-fast": folder}
    for name in ("membrane", "membrane-fast"):
        assert inference.built_in_name(name) == "membrane-fast"
        model = inference.load(name)
        assert model.segmenter.classes == ("membrane",)
        threshold = flat_state(model.segmenter)["threshold"]
        assert threshold.dtype == np.float32 and float(threshold) == float(np.float16(1 / 3))
    card = model.card
    assert card.voxel_sizes == (6.0, 20.0) and card.tilt_ranges == ((-35.0, 40.0), (-70.0, 70.0))
    assert card.voxel_size == (10.0,) * 3 and card.patch == 48
    told = {k: v for k, v in FACTS.items() if k not in ("voxel_sizes", "tilt_ranges")}
    assert card.provenance == told | {"method": "threshold", "built_in": True}
    found = inference.model_facts("membrane")
    assert found.name == "membrane-fast" and found.parameters == 2
    assert found.size == publish_model.bytes_in(folder) and found.scores == FACTS["scores"]


def test_facts_join_those_of_the_training(models, run):
    where = {"commit": "89ab", "cores": 2, "device": "cpu: cpu", "date": "2026-01-01"}
    told = {"environment": where, "scores": {"held-out scenes": {"Dice": 0.75}}, "steps": 9}
    model = inference.load(run)
    card = io.ModelCard((10.0,) * 3, patch=48, provenance=model.card.provenance | told)
    io.save_model(run / "model", model.segmenter, card, overwrite=True)
    publish("cell-fast", models, run, {k: v for k, v in FACTS.items() if k != "machine"})
    found = inference.load("cell").card.provenance
    assert found["scores"] == told["scores"] | FACTS["scores"] and found["steps"] == 9
    assert found["machine"] == "2 cores, cpu: cpu" and found["commit"] == FACTS["commit"]
    assert "environment" not in found and "config" not in found


def test_a_name_without_a_size_means_the_standard_size(models, run):
    publish("cell-fast", models, run)
    assert inference.built_in_name("cell") == "cell-fast"
    publish("cell-standard", models, run)
    assert inference.built_in_name("cell") == "cell-standard"
    assert inference.built_in_name("cell-fast") == "cell-fast"


def test_a_folder_with_a_model_comes_before_a_name(models, run, caplog):
    folder = publish("membrane-fast", models, run)
    Path("membrane").mkdir()  # of somebody's tomograms
    assert inference.model_folder("membrane") == folder
    io.save_model("membrane/model", GlobalThreshold(2.0))
    with caplog.at_level("INFO", logger="cryojax_seg"):
        assert inference.model_folder("membrane") == Path("membrane/model")
    assert "membrane: takes the model in the folder of this name, not the built-in" in caplog.text
    assert inference.built_in_name("membrane") is None
    assert float(inference.load("membrane").segmenter.threshold[...]) == 2.0  # pyright: ignore
    assert inference.model_folder("membrane-fast") == folder


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("membrene", "did you mean membrane[?] There are membrane, membrane-fast"),
        ("xyz", "no built-in model has that name; there are membrane, membrane-fast"),
        ("runs/membrane", "no such model folder$"),
    ],
)
def test_an_unknown_name(models, run, path, words):
    publish("membrane-fast", models, run)
    with pytest.raises(io.FileError, match=words) as caught:
        inference.load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_package_without_models(models):
    assert inference.built_in_models() == {}
    with pytest.raises(io.FileError, match="this version of cryojax_seg has none"):
        inference.load("membrane")


def test_a_damaged_built_in_model(models, run):
    folder = publish("membrane-fast", models, run)
    raw = (folder / "arrays.npz").read_bytes()
    (folder / "arrays.npz").write_bytes(raw[:-30] + b"x" + raw[-29:])
    with pytest.raises(io.ModelError, match=r"arrays\.npz is damaged"):
        inference.load("membrane")
    (folder / "model.json").write_text("{}")
    with pytest.raises(io.ModelError, match="does not describe a cryojax_seg model"):
        inference.model_facts("membrane")


@pytest.mark.parametrize("lacking", ["commit", "scores", "licence", "tilt_ranges"])
def test_a_card_that_is_not_whole_is_not_published(models, run, lacking):
    with pytest.raises(ValueError, match=f"the card does not tell {lacking}"):
        publish("cell-fast", models, run, {k: v for k, v in FACTS.items() if k != lacking})
    assert list(models.iterdir()) == []


def test_what_is_too_large_is_not_published(models, run, monkeypatch):
    publish("cell-fast", models, run)
    monkeypatch.setattr(publish_model, "LARGEST", int(1.5 * publish_model.bytes_in(models)))
    with pytest.raises(ValueError, match="cell-standard: with it the built-in models take"):
        publish("cell-standard", models, run)
    publish("cell-fast", models, run, overwrite=True)  # which replaces its former self
    assert [p.name for p in models.iterdir()] == ["cell-fast"]


@pytest.mark.parametrize("name", ["cell", "fast", "cell-huge"])
def test_a_name_needs_a_size(models, run, name):
    with pytest.raises(ValueError, match="ends in -standard or -fast"):
        publish(name, models, run)
