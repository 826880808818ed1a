"""A method is trained, scored and saved by one call, as the command does it."""

import numpy as np
import pytest
import yaml

from cryojax_seg import evaluate, inference, io, training
from cryojax_seg.core import MissingWedge, Tomogram, normalize
from cryojax_seg.errors import ParameterError
from cryojax_seg.restore import Gaussian
from cryojax_seg.training import Example, Examples, fit_model

SHAPE = (20, 24, 24)
QUICK = {"method": "threshold", "steps": 3, "patch": 12, "progress": False}


@pytest.fixture(scope="module")
def data():
    labels = np.zeros(SHAPE, np.int32)
    labels[:, 8:14] = 1
    noise = np.random.default_rng(0).normal(size=SHAPE)
    volume = normalize((noise + 4 * labels).astype(np.float32), "bright")
    example = Example(volume, labels, wedge=MissingWedge((-60.0, 60.0)))
    return Examples((example,), ("wall",), (10.0, 10.0, 10.0), "bright", (-60.0, 60.0))


def test_a_model_is_trained_scored_and_saved(data, tmp_path):
    fitted = fit_model(data, tmp_path / "run", **QUICK, seed=3, provenance={"note": "mine"})
    assert fitted.interrupted is None and fitted.result.steps == 3
    card = fitted.card
    assert (card.contrast, card.voxel_size, card.tilt_range) == (
        "bright", (10.0, 10.0, 10.0), (-60.0, 60.0)
    )  # fmt: skip
    assert (card.patch, card.halo) == (12, None)  # a threshold has no halo to save
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()) == {"note": "mine"}
    model = inference.load(tmp_path / "run")
    assert model.card == card and model.segmenter.classes == ("wall",)
    _, (held,) = training.hold_out(data.examples, data.classes, 0.2, 3)
    predicted = inference.segment(model, Tomogram(held.volume))
    assert fitted.scores is not None and fitted.dice is not None
    own = evaluate.overlap(np.asarray(predicted), held.labels, held.weights)["foreground"]
    assert fitted.dice == fitted.scores["wall"].dice == pytest.approx(own.dice, abs=0.02)
    assert fitted.dice > 0.9
    with pytest.raises(training.TrainingError, match="already holds a run"):
        fit_model(data, tmp_path / "run", **QUICK)
    again = fit_model(data, tmp_path / "run", **QUICK, overwrite=True, validation=0.0)
    assert again.scores is None and again.dice is None


def test_a_restorer_comes_first_and_stays_as_it_is(data):
    fitted = fit_model(data, restorer=Gaussian(1.0), **QUICK)
    restorer, segmenter = fitted.operator.operators
    assert float(restorer.scale) == pytest.approx(1.0) and segmenter.classes == ("wall",)
    assert fitted.dice > 0.9


@pytest.mark.parametrize(
    ("changes", "parameter"),
    [
        ({"validation": 1.0}, "validation"),
        ({"joint": -1.0}, "joint"),
        ({"joint": 1.0}, "restorer"),
    ],
)
def test_settings_without_meaning_are_refused_before_anything_is_written(
    data, tmp_path, changes, parameter
):
    with pytest.raises(ParameterError) as refused:
        fit_model(data, tmp_path / "run", **QUICK, **changes)
    assert refused.value.parameters == (parameter,) and not (tmp_path / "run").exists()


def test_probabilities_are_read_in_the_order_of_the_labels(tmp_path):
    maps = [np.full((4, 5, 6), value, np.float32) for value in (0.25, 0.5)]
    paths = [tmp_path / "a.mrc", tmp_path / "b.mrc"]
    for path, values in zip(paths, maps, strict=True):
        io.write_mrc(path, values, voxel_size=10.0)
    np.testing.assert_array_equal(io.read_probabilities(paths, (4, 5, 6)), np.stack(maps, -1))
    with pytest.raises(io.FileError, match=r"a.mrc: has shape \(4, 5, 6\)"):
        io.read_probabilities(paths, (4, 5, 7))
    io.write_mrc(paths[1], 3 * maps[1], voxel_size=10.0, overwrite=True)
    with pytest.raises(io.FileError, match=r"b.mrc: holds values outside 0 to 1"):
        io.read_probabilities(paths, (4, 5, 6))
