"""Every experiment runs in its tiny form and writes a result file in the agreed format."""

import contextlib
import importlib
import itertools
import json
import math
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.stats import norm

from cryojax_seg import simulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import benchmark_set as scenes_of_benchmark
from experiments import datasets

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"


@contextlib.contextmanager
def as_outside():
    """Without the strictness of tests, and with programs that compile in half the time."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def has_data(name):
    try:
        return bool(datasets.folder(name))
    except datasets.MissingData:
        return False


needs_microtubules = pytest.mark.skipif(
    not has_data("cylindra_mt"), reason=f"needs the data set cylindra_mt, see {datasets.VARIABLE}"
)


needs_autophagy = pytest.mark.skipif(
    not has_data("autophagy"), reason=f"needs the data set autophagy, see {datasets.VARIABLE}"
)


# Quantities that are fractions, by the beginning of their name. Differences of them are not.
FRACTIONS = ("dice", "iou", "precision", "recall", "ece", "brier", "false_positives", "missed_")
DIFFERENCES = ("gain", "minus", "interval", "range")
POSITIVE = ("seconds", "_s", "_ms", "megabytes", "_gib", "parameters", "halo", "snr", "passes")


def values(row, path=()):
    """Every number of a row with the keys that lead to it."""
    items = row.items() if isinstance(row, dict) else enumerate(row)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from values(value, (*path, str(key)))
        elif isinstance(value, int | float):
            yield (*path, str(key)), value


def check_values(rows):
    for row in rows:
        for (first, *_), value in values(row):
            assert math.isfinite(value), (first, row)
            if first.startswith(FRACTIONS) and not any(word in first for word in DIFFERENCES):
                nested = "_by_" in first or isinstance(row[first], list | dict)
                assert nested or 0 <= value <= 1, (first, row)
            elif first.endswith(POSITIVE):
                assert value >= 0, (first, row)


def value_of(claims, words):
    (found,) = [c["value"] for c in claims if words in c["name"]]
    return found


def averaging(rows, claims):
    """More particles give a better average, at the amplitude of the truth."""
    snr = {r["particles"]: r["snr_compensated"] for r in rows if r["case"] == "random, true poses"}
    assert snr[1] < snr[10] < snr[30] < snr[0]  # 0 stands for particles without noise


def normalisation(rows, claims):
    assert value_of(claims, "tiled and whole") < 1e-3


def threshold_dilemma(rows, claims):
    """The rates are those of the normal distribution: Q(0.4) at the crossing of density 0.4."""
    assert value_of(claims, "best possible threshold") == pytest.approx(norm.sf(0.4), abs=1e-6)
    assert value_of(claims, "simulated and analytic") < 0.05


def benchmark_set(rows, claims):
    """The contrast is that which the conditions state, and scenes do not depend on the run."""
    assert [row["split"] for row in rows[:3]] == ["train", "validation", "test"]
    assert value_of(claims, "error of the contrast") < 0.1
    again = scenes_of_benchmark.ensure("test", 0, edge=48)
    assert again["digest"] == rows[-1]["digest"] and again["prevalence"] == rows[-1]["prevalence"]


def few_slices(rows, claims):
    """The model is scored as it is, and each way of learning once."""
    assert [row["way"] for row in rows] == ["as it is", "replay", "scratch"]
    assert rows[0]["slices"] == 0 and {row["slices"] for row in rows[1:]} == {1}


def active(rows, claims):
    """Slices are chosen in three ways, and two learners learn from them."""
    ways = {(row["learner"], row["way"], row["slices"]) for row in rows}
    assert len(ways) == len(rows) == 2 * 3 * 2
    assert all(row["dice"] > 0.3 for row in rows if row["way"] == "suggested")


def annotation_minutes(rows, claims):
    """Every slice takes three seconds at least, and the goal is reached in all ways."""
    assert [row["way"] for row in rows] == ["painting alone", "live prediction", "suggestions"]
    assert all(row["minutes"] * 60 >= 3 * row["slices"] for row in rows)
    assert rows[0]["minutes"] > rows[1]["minutes"] >= 0 and rows[0]["copied"] == 0
    assert all(row["copied"] <= row["slices"] for row in rows)
    assert all(row["dice"] >= 0.85 for row in rows)


def counting(rows, claims):
    """Each way counts the same scene, and lumens tell vesicles apart that are one component."""
    found = {row["way"]: row for row in rows}
    assert set(found) == {"components", "labels", "probabilities", "rejoined"}
    assert found["rejoined"]["matched"] >= found["probabilities"]["matched"]
    for row in rows:
        assert row["matched"] + row["unseen"] + row["run_together"] <= row["true"]
    assert found["labels"]["quality"] >= found["components"]["quality"]


def interval_coverage(rows, claims):
    """What is measured in one scene has an interval from the errors that are known."""
    found = {(row["class"], row["quantity"]): row for row in rows}
    area = found["membrane", "area"]
    assert 0 < area["measurable"] <= area["objects"] and area["relative_width_median"] > 0


def filament_tracing(rows, claims):
    """One microtubule is traced in its true labels and in its prediction, as long as it is."""
    assert [row["labels"] for row in rows] == ["true", "predicted"]
    assert all(row["true"] == row["found"] == 1 for row in rows)
    assert abs(rows[0]["length_error"]) < 0.03 and abs(rows[1]["length_error"]) < 0.3


def pretrained(rows, claims):
    """Membranes are found at both voxel sizes, better than by chance."""
    assert [row["data"] for row in rows] == ["10 angstrom", "14 angstrom"]
    assert all(row["average_precision"] > 0.3 for row in rows)


def symmetry(rows, claims):
    """The scene leans to one side, so half of the mirrors keep its wedge."""
    assert {row["average"]: row["passes"] for row in rows} == {"none": 1, "symmetrized": 4}
    assert all("average_precision_gain" in row for row in rows if row["average"] != "none")


def method_comparison(rows, claims):
    """No threshold that is chosen elsewhere beats the one that is chosen on the test itself."""
    for row in rows:
        assert 0 < row["dice"] <= row["dice_in_hindsight"] < 1


def generalisation(rows, claims):
    """Each side of a factor is tested by the networks of both sides."""
    assert {row["factor"] for row in rows} >= {"contrast", "tier"}
    for row in rows:
        for name in ("average_precision", "calibration_error"):
            own, other = (row[f"{name}_learned_from_the_{side}"] for side in ("same", "other"))
            assert row[f"{name}_gain"] == pytest.approx(other - own, abs=1e-9)


def label_noise(rows, claims):
    of = {row["labels"]: row for row in rows}
    assert of["right"]["dice_of_labels"] == 1 > of["eroded"]["dice_of_labels"] > 0.3


def measurement_bias(rows, claims):
    """The area of true labels is right; in so small a volume, only for the single discs."""
    true = {row["share"]: row["error_0.7_to_1"] for row in rows if row["measured"] == "truth"}
    assert true["quarter"] == pytest.approx(0, abs=0.05)
    assert true["same"] == pytest.approx(0, abs=0.03)


def wedge_losses(rows, claims):
    """A variant is compared with plain training, and both begin with one network."""
    assert [row["variant"] for row in rows] == ["start", "plain", "insist"]
    gains = {row["variant"]: row.get("recall_hidden_gain") for row in rows}
    recalls = {row["variant"]: row["recall_hidden"] for row in rows}
    assert gains["plain"] is None
    for variant in ("start", "insist"):
        expected = recalls[variant] - recalls["plain"]
        assert gains[variant] == pytest.approx(expected, abs=1e-9)


def phantoms(rows, claims):
    """Every voxel has one class."""
    for row in rows:
        assert sum(row[name] for name in simulate.CLASSES) == pytest.approx(1, abs=1e-6)


def neighbourhood(rows, claims):
    halos = [row["halo"] for row in rows]
    assert halos == sorted(halos) and halos[0] == 0


def restoration_first(rows, claims):
    """Each restoration is segmented in three ways; what is not restored agrees with itself."""
    from experiments.restoration_first import LONGER, SEGMENTERS, TINY, UNET

    found = {(row["restoration"], row["segmenter"]): row for row in rows}
    expected = set(itertools.product(set(TINY) - {LONGER}, SEGMENTERS)) | {(LONGER, UNET)}
    assert set(found) == expected and len(rows) == len(found) and len(claims) == 14
    for (restoration, segmenter), row in found.items():
        none = found["none", segmenter]
        if restoration in ("none", LONGER):
            assert row["agreement"] == pytest.approx(1, abs=1e-5)
        else:
            expected = row["average_precision"] - none["average_precision"]
            assert row["average_precision_gain"] == pytest.approx(expected, abs=1e-9)
            assert row["agreement"] < 0.99
    # Less noise is taken for density.
    noise = {name: found[name, "threshold"]["density_invented"] for name in ("none", "wiener")}
    assert 0 < noise["wiener"] < noise["none"]


def real_microtubules(rows, claims):
    """Otsu's threshold is not trained, so its score is that of the full form."""
    full = json.loads((RESULTS / "real_microtubules.json").read_text())["rows"]
    (expected,) = [r["dice"] for r in full if r["method"] == "otsu"]
    (found,) = [r["dice"] for r in rows if r["method"] == "otsu"]
    assert found == pytest.approx(expected, abs=0.005)


LANDMARKS = {
    check.__name__: check
    for check in (
        active,
        annotation_minutes,
        averaging,
        benchmark_set,
        counting,
        interval_coverage,
        filament_tracing,
        few_slices,
        generalisation,
        label_noise,
        measurement_bias,
        method_comparison,
        neighbourhood,
        normalisation,
        phantoms,
        pretrained,
        real_microtubules,
        restoration_first,
        symmetry,
        threshold_dilemma,
        wedge_losses,
    )
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        "active",
        "annotation_minutes",
        "averaging",
        "benchmark_set",
        "counting",
        "interval_coverage",
        "filament_tracing",
        "few_slices",
        "generalisation",
        "label_noise",
        "normalisation",
        "measurement_bias",
        "method_comparison",
        "neighbourhood",
        "phantoms",
        "presets",
        "pretrained",
        "recipe",
        "restoration_first",
        "sparse_annotation",
        "symmetry",
        "threshold_dilemma",
        "wedge_losses",
        "benchmarks.measure",
        "benchmarks.painting",
        "benchmarks.particles",
        "benchmarks.simulate",
        "benchmarks.training",
        pytest.param("measurement_autophagy", marks=needs_autophagy),
        pytest.param("real_microtubules", marks=needs_microtubules),
        pytest.param("simulated_microtubules", marks=needs_microtubules),
    ],
)
@pytest.mark.filterwarnings("default")
def test_tiny_form(script, tmp_path, monkeypatch):
    """In this process, with JAX as it is outside of the tests."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    experiment = importlib.import_module(f"experiments.{script}")
    with as_outside():
        experiment.main(experiment.Config(tiny=True))
    (path,) = tmp_path.rglob(f"{script.replace('benchmarks.', 'benchmark_')}.json")
    result = json.loads(path.read_text())
    assert set(result) == {"config", "environment", "rows", "claims"}
    assert {"python", "jax", "device", "cores", "commit", "date"} <= set(result["environment"])
    assert result["rows"] and result["claims"]
    check_values(result["rows"])
    for claim in result["claims"]:
        assert claim["goal"] and claim["met"] in (True, False)
        assert claim["value"] is None or math.isfinite(claim["value"])
        assert claim["value"] is not None or not claim["met"]
    LANDMARKS.get(script, lambda rows, claims: None)(result["rows"], result["claims"])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_pretraining_writes_a_model_and_another_begins_with_it(tmp_path):
    from cryojax_seg import io
    from experiments.pretrain import Config, main

    with as_outside():
        main(Config(model="membrane", tiny=True, out=tmp_path / "first"))
        start = tmp_path / "first" / "model"
        main(Config(model="cell", tiny=True, start=start, seed=1, out=tmp_path / "second"))
    first, card = io.load_model(start)
    second, other = io.load_model(tmp_path / "second" / "model")
    assert (first.classes, len(second.classes)) == (("membrane",), 5)
    assert card.voxel_sizes == (9.0, 11.0) and card.provenance["steps"] == 4
    assert other.provenance["command"].startswith(card.provenance["command"])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_restorer_learns_from_images_without_noise(tmp_path):
    from cryojax_seg import inference
    from experiments.pretrain_restorer import Config, main

    with as_outside():
        main(Config(tiny=True, out=tmp_path / "model"))
    restorer, card = inference.load_restorer(tmp_path / "model")
    assert card.voxel_sizes == (6.5, 15.4) and card.provenance["steps"] == 4
    flat = np.zeros((8, 8, 8), np.float32)
    assert restorer(flat).shape == (8, 8, 8, 1)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=str)
def test_committed_results_have_the_agreed_format(path):
    result = json.loads(path.read_text())
    assert set(result) == {"config", "environment", "rows", "claims"}
    assert not result["config"].get("tiny", False)
    assert result["environment"]["commit"] != "unknown"


def test_the_errors_that_the_package_knows_are_those_that_were_measured():
    from cryojax_seg.measure import known_errors

    path = RESULTS / "interval_coverage.json"
    rows = json.loads(path.read_text())["rows"]
    fits = {(row["class"], row["quantity"]): row["fit"] for row in rows if "fit" in row}
    known = {"membrane": known_errors.MEMBRANE, "microtubule": known_errors.MICROTUBULE}
    for name, errors in known.items():
        for quantity, one in errors.items():
            known = [*one.shift, *one.spread, one.limit, one.objects]
            assert known == pytest.approx(fits[name, quantity], rel=1e-3)


@needs_microtubules
def test_the_wall_is_where_the_density_is():
    """The labels of the real volume: bright wall, dark lumen, and a wedge that hides the top."""
    from experiments.real_microtubules import scene

    s = scene("14pf")
    assert s.wedge is not None and s.wedge.tilt_axis == "y"
    wall, known = s.labels == 1, s.weights > 0
    assert wall[known].mean() == pytest.approx(0.08, abs=0.06)
    assert s.volume[wall].mean() > s.volume[known & ~wall].mean() + 0.3
    clear, lost = wall & (s.visibility > 0.8), wall & (s.visibility < 0.4)
    assert s.volume[clear].mean() > s.volume[lost].mean()


def test_annotated_slices_are_evenly_spaced():
    """Of a scene; nothing else of it teaches, and painting more slices takes longer."""
    from experiments.benchmark_set import load
    from experiments.sparse_annotation import annotated, minutes_of

    (case,) = load("train", "wedge", 1, 48)
    kept = annotated(case, 3).weights
    assert kept is not None
    assert np.flatnonzero(kept.any((1, 2))).tolist() == [8, 24, 40]
    assert kept.sum() == 3 * 48**2
    assert 0.05 <= minutes_of(case, 1) < minutes_of(case, 3) < minutes_of(case, 24)


def test_halves_of_a_tilt_series_differ_by_their_noise_alone():
    """Their mean is the tilt series, and where nothing is, their noise is independent."""
    from experiments.benchmark_set import load_series

    (one,) = load_series("train", 1, 48)
    even, odd = one.halves
    assert np.abs((even + odd) / 2 - one.case.volume).max() < 0.01  # of float16
    assert (one.structures & one.case.membrane).sum() == one.case.membrane.sum()
    empty = ~one.structures
    noise = np.corrcoef(even[empty], odd[empty])[0, 1]
    signal = np.corrcoef(even[one.case.membrane], odd[one.case.membrane])[0, 1]
    assert abs(noise) < 0.1 and signal > noise


@pytest.mark.slow
def test_phantoms_resemble_the_tilt_series_that_are_restored():
    from experiments.benchmark_set import load_series
    from experiments.restorers import Lesson, phantoms

    (one,) = load_series("train", 1, 48)
    (made,) = phantoms([one], Lesson(steps=1, patch=16, phantoms=1, edge=32), 0)
    assert made.wedge == one.case.conditions.wedge and made.truth is not None
    assert np.corrcoef(made.volume.ravel(), made.truth.ravel())[0, 1] > 0.05


def test_an_interrupted_experiment_keeps_what_is_done(tmp_path, monkeypatch):
    """Also when it was killed while it wrote; records of another config are not used."""
    from experiments import common

    monkeypatch.setattr(common, "results_folder", lambda tiny: tmp_path)
    rows = common.Rows("question", {"steps": 3, "seeds": (0, 1)}, tiny=True)
    rows.add({"seed": 0, "method": "a"}, {"dice": 0.5, "nested": {"x": 1}})
    with rows.path.open("a") as file:
        file.write('{"seed": 1, "nested": {"x": 2}')
    again = common.Rows("question", {"steps": 3, "seeds": (0, 1)}, tiny=True)
    assert again.done(seed=0, method="a") == {
        "seed": 0, "method": "a", "dice": 0.5, "nested": {"x": 1}
    }  # fmt: skip
    assert again.done(seed=1) is None
    again.finish([{"dice": 0.5}], [common.claim("dice", 0.5, at_least=0.4)])
    assert not again.path.exists()
    result = json.loads((tmp_path / "question.json").read_text())
    assert result["claims"][0]["met"]
    assert [one["commit"] for one in result["environment"]["earlier"]] == [common._commit()]
    rows.path.write_text(json.dumps({"steps": 4}) + "\n" + json.dumps({"seed": 0}) + "\n")
    assert common.Rows("question", {"steps": 3}, tiny=True).records == []
