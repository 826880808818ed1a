"""`cryojax-seg compare`: folds, scores that are those of held-out slices, the report, mistakes."""

import json
import re
import shutil
from io import BytesIO

import numpy as np
import pytest

from cryojax_seg import evaluate, io
from cryojax_seg.training.comparison import read_fold
from cryojax_seg.training.folds import divide

LABELS = "membrane.mrc"


def words(files, output, *more, slices=("4", "8", "12", "16", "20"), methods="threshold,vote"):
    return (
        "compare", files / "tomogram.mrc", "--labels", files / LABELS, "-o", output,
        "--methods", methods, "--steps", "3", "--patch", "16", "--folds", "2",
        "--tilt-range", "-60", "60", "--slices", *slices, *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def compared(files, tmp_path_factory):
    output = tmp_path_factory.mktemp("report") / "out"
    assert compare_main(words(files, output)) == 0
    return output


def compare_main(arguments):
    from cryojax_seg.cli import main

    return main([str(word) for word in arguments])


def test_folds_divide_the_slices_and_keep_their_distance():
    annotated = tuple(range(5, 25))
    folds = divide(annotated, 3, 2, 40)
    assert sorted(z for fold in folds for z in fold.scored) == list(annotated)
    for fold in folds:
        assert min(abs(a - b) for a in fold.scored for b in fold.learned) == 3
        assert all(fold.shown[0] <= z < fold.shown[1] for z in fold.scored)
    assert [f.shown[0] for f in folds] + [40] == [0] + [f.shown[1] for f in folds]


def test_the_scores_are_those_of_the_predictions_kept(files, compared):
    scores = json.loads((compared / "scores.json").read_text())["methods"]
    truth = io.read_labels(files / LABELS, annotated=(4, 8, 12, 16, 20))
    for name in ("threshold", "vote"):
        parts = [np.load(compared / "folds" / f"{name}-{k}.npz") for k in range(2)]
        p = np.concatenate([part["probabilities"] for part in parts])[..., 0]
        assert p.shape == truth.labels.shape
        own = evaluate.overlap((p > 0.5).astype(int), truth.labels, truth.weights, ("foreground",))
        assert scores[name]["dice"] == own["foreground"].dice
        assert scores[name]["training_seconds"] > 0
    assert scores["vote"]["parameters"] > scores["threshold"]["parameters"] > 0


def test_a_fold_is_what_training_without_its_slices_gives(files, compared):
    """Prediction on a range of slices equals that on the whole volume, cut."""
    from cryojax_seg import core, segmenters, training
    from cryojax_seg.training import methods, settings

    data = training.read_examples(
        [files / "tomogram.mrc"], [files / LABELS], slices=(16, 20), tilt_range=(-60.0, 60.0)
    )
    (example,), classes = data.examples, data.classes
    start = methods.build("vote", classes, example.volume, 0)
    config = settings.configured("vote", start, [example], steps=3, patch=16)
    result = training.train(
        start, [example], config, objective=methods.objective("vote"), progress=False
    )
    fitted = segmenters.fit_normalization(result.operator, example.volume, patch=16)
    p = core.probabilities(core.apply(fitted, example.volume))[:14]
    kept = np.load(compared / "folds" / "vote-0.npz")["probabilities"]
    np.testing.assert_allclose(kept, p, atol=2e-3)


def test_the_report_is_one_file_that_needs_nothing_else(compared):
    page = (compared / "report.html").read_text()
    assert "null /* data */" not in page and not re.search(r"https?://(?!www\.w3\.org)", page)
    data = json.loads(re.search(r"const DATA = (.*);</script>", page)[1].replace("<\\/", "</"))
    assert [m["name"] for m in data["methods"]] == ["threshold", "vote"]
    charts = {
        name: page.partition(f'aria-label="{name}"')[2].partition("</svg>")[0]
        for name in ("recall against visibility", "accuracy against confidence")
    }
    for drawn in charts.values():  # a curve of each method
        assert all(f"stroke: {data['hues'][name]}" in drawn for name in ("threshold", "vote"))
    annotated = [p["index"] for p in data["pictures"]["z"] if p["annotated"]]
    assert annotated == [4, 8, 12, 16, 20]
    assert set(data["pictures"]["x"][0]["overlays"]) == {"truth", "threshold", "vote"}
    assert len(page) < 5e6


def test_an_interrupted_comparison_goes_on_with_what_is_missing(files, compared, tmp_path, run):
    shutil.copytree(compared, tmp_path / "out")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "folds").iterdir()}
    (tmp_path / "out" / "folds" / "vote-1.npz").unlink()
    status, _, err = run(*words(files, tmp_path / "out", "--resume"))
    assert status == 0 and err.count("learning from") == 1
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "folds").iterdir()}
    assert [n for n in sorted(after) if after[n] != before[n]] == ["vote-1.npz"]
    same = [json.loads((o / "scores.json").read_text()) for o in (compared, tmp_path / "out")]
    assert same[0]["methods"]["vote"]["dice"] == same[1]["methods"]["vote"]["dice"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": "vote,sheets"}, "unknown method 'sheets'; known are unet"),
        ({"methods": ","}, "no method given"),
        ({"methods": "vote,nowhere:Mine"}, "No module named 'nowhere'"),
        ({"methods": "cryojax_seg.segmenters:otsu"}, "no segmenter called 'otsu'"),
        ({"methods": "cryojax_seg.core:Segmenter"}, "Segmenter lacks __call__"),
        ({"slices": ("8",)}, "at least two"),
        (
            {"slices": ("8", "9")},
            "the gap of 2 voxels from slices 8 to 8; annotate more, or use a smaller gap (--gap)",
        ),
        ({"more": ("--folds", "1")}, "--folds must be at least 2"),
        ({"more": ("--resume",)}, "there is no comparison to resume (--resume)"),
    ],
)
def test_mistakes_are_told_before_work_starts(files, tmp_path, run, change, message):
    more = change.pop("more", ())
    status, _, err = run(*words(files, tmp_path / "out", *more, **change))
    assert status == 2 and message in err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["[]", "5", "[" * 10**5, "{", ""])
def test_a_damaged_state_is_named(files, tmp_path, run, content):
    (tmp_path / "compare.json").write_text(content)
    status, _, err = run(*words(files, tmp_path, "--resume"))
    assert status == 2 and str(tmp_path / "compare.json") in err and err.count("\n") == 1


def test_a_damaged_fold_is_named(compared, tmp_path):
    path, shape = tmp_path / "a.npz", (12, 32, 32, 1)
    raw = (compared / "folds" / "vote-0.npz").read_bytes()
    path.write_bytes(raw)
    with np.load(path) as file:
        shape, key = file["probabilities"].shape, str(file["key"])
    assert read_fold(path, shape, key)["probabilities"].shape == shape
    other = io_bytes(probabilities=np.zeros(shape, np.float16), seconds=np.array([1.0, 2.0]))
    pickled = io_bytes(probabilities=np.array([{}], object))
    for content in (raw[:100], raw[:-30], b"PK" + raw[9:], other, pickled, raw[::-1]):
        path.write_bytes(content)
        with pytest.raises(io.FileError, match=r"a.npz: is damaged.*made again"):
            read_fold(path, shape, key)
    path.write_bytes(b"")
    with pytest.raises(io.FileError, match=r"a.npz: is empty"):
        read_fold(path, shape, key)
    path.write_bytes(raw)
    with pytest.raises(io.FileError, match=r"a.npz: is damaged or of another"):
        read_fold(path, (9, 9, 9, 1), key)


def io_bytes(**arrays):
    packed = BytesIO()
    np.savez_compressed(packed, **arrays)
    return packed.getvalue()


def test_a_segmenter_of_ones_own_takes_part(files, tmp_path, monkeypatch, run):
    """It scores as the same class does under its name in the package."""
    (tmp_path / "mine.py").write_text(
        "from cryojax_seg.segmenters import LocalThreshold\nclass Mine(LocalThreshold): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    names = "local-threshold,mine:Mine"
    status, _, err = run(*words(files, tmp_path / "out", methods=names))
    assert status == 0, err
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["methods"]
    assert scores["mine:Mine"]["dice"] == scores["local-threshold"]["dice"] is not None


def test_a_loss_of_ones_own_takes_part(files, tmp_path, monkeypatch, run):
    """The package's loss by another name teaches the same; another loss teaches something else."""
    (tmp_path / "losses_of_mine.py").write_text(
        "from cryojax_seg import losses\n"
        "def mine(logits, labels, weights): return losses.dice(logits, labels, weights)\n"
        "def goal(segmenter, batch): return losses.supervised(losses.tversky)(segmenter, batch)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    base = "local-threshold"
    names = [base, f"{base}@losses_of_mine:mine", f"{base}@losses_of_mine:goal"]
    status, _, err = run(*words(files, tmp_path / "out", methods=",".join(names)))
    assert status == 0, err
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["methods"]
    usual, mine, goal = (scores[name]["ece"] for name in names)
    assert mine == usual and goal != usual


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vote@nowhere:loss", "is its folder in PYTHONPATH"),
        ("vote@cryojax_seg.losses", "must be MODULE:FUNCTION"),
        ("vote@cryojax_seg.losses:missing", "must be a function of (logits, labels, weights)"),
        ("vote@cryojax_seg.losses:combine", "must be a function of (logits, labels, weights)"),
        ("votes@cryojax_seg.losses:dice", "unknown method 'votes'"),
    ],
)
def test_a_loss_that_cannot_serve_is_refused(files, tmp_path, run, name, message):
    for command in (
        words(files, tmp_path / "out", methods=name),
        ("train", files / "tomogram.mrc", "--labels", files / "sparse.mrc", "--method", name)
        + ("-o", tmp_path / "out"),
    ):
        status, _, err = run(*command)
        assert status == 2 and message in err and "--method" in err, err
        assert not (tmp_path / "out").exists()


def test_an_earlier_comparison_is_neither_replaced_nor_mixed(files, compared, run):
    status, _, err = run(*words(files, compared))
    assert status == 2 and "resume that comparison" in err and "--resume" in err
    status, _, err = run(*words(files, compared, "--resume", "--seed", "4"))
    assert status == 2 and "another seed" in err and "--seed" in err
