"""Every experiment runs in its tiny form and writes a result file in the agreed format."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import datasets

ROOT = Path(__file__).resolve().parents[1]


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


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        "averaging",
        "normalisation",
        "measurement_bias",
        "method_comparison",
        "neighbourhood",
        "phantoms",
        "presets",
        "restoration_first",
        "sparse_annotation",
        "symmetry",
        "threshold_dilemma",
        "wedge_losses",
        "benchmarks/particles",
        "benchmarks/simulate",
        pytest.param("measurement_autophagy", marks=needs_autophagy),
        pytest.param("real_microtubules", marks=needs_microtubules),
        pytest.param("simulated_microtubules", marks=needs_microtubules),
    ],
)
def test_tiny_form(script, tmp_path):
    run = subprocess.run(
        [sys.executable, str(ROOT / "experiments" / f"{script}.py"), "--tiny"],
        capture_output=True,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    (path,) = tmp_path.rglob(f"{script.replace('benchmarks/', 'benchmark_')}.json")
    result = json.loads(path.read_text())
    assert set(result) == {"config", "environment", "rows", "claims"}
    assert {"python", "jax", "device", "cores", "commit", "date"} <= set(result["environment"])
    assert result["rows"] and result["claims"]
    for claim in result["claims"]:
        assert {"name", "value", "goal", "met"} <= set(claim)


@pytest.mark.parametrize("path", sorted((ROOT / "experiments" / "results").glob("*.json")), ids=str)
def test_committed_results_have_the_agreed_format(path):
    result = json.loads(path.read_text())
    assert set(result) == {"config", "environment", "rows", "claims"}
    assert not result["config"].get("tiny", False)
    assert result["environment"]["commit"] != "unknown"


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


def test_annotations_are_what_they_are_called():
    """Strokes of both classes; boxes with membrane; negatives with none; evenly spread slices."""
    from experiments.scenes import phantom
    from experiments.sparse_annotation import SIDE, annotate

    one = phantom(0, 64, 0.1)
    labels = np.asarray(one.labels == 1)
    strokes = annotate("scribbles", 0.005, one, 0) > 0
    assert 0.005 <= strokes.mean() < 0.008
    assert 0.25 < labels[strokes].mean() < 0.75
    assert np.flatnonzero(annotate("slices", 3, one, 0).any((1, 2))).tolist() == [10, 32, 53]
    boxes = annotate("boxes", 4, one, 0)
    assert boxes.sum() == 4 * SIDE**2 and labels[boxes > 0].mean() > 0.1
    both = annotate("boxes and negatives", 4, one, 0)
    assert both.sum() == 16 * SIDE**2
    assert 0 < labels[both > 0].mean() < labels[boxes > 0].mean()


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
    assert json.loads((tmp_path / "question.json").read_text())["claims"][0]["met"]
    rows.path.write_text(json.dumps({"steps": 4}) + "\n" + json.dumps({"seed": 0}) + "\n")
    assert common.Rows("question", {"steps": 3}, tiny=True).records == []
