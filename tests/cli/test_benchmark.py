"""`cryojax-seg benchmark`: the scores are those of `evaluate`, and mistakes get one line."""

import json
import re

import numpy as np
import pytest

from cryojax_seg import cli, io


def main(*words):
    return cli.main([str(word) for word in words])


@pytest.fixture(scope="module")
def places(files, tmp_path_factory):
    """The truth, what another program found, and a probability map."""
    folder = tmp_path_factory.mktemp("benchmark")
    truth = io.read_mrc(files / "membrane.mrc")
    labels = np.asarray(truth.density)
    other = np.roll(labels, 1, 1).astype(np.int8)
    io.write_mrc(folder / "other.mrc", other, truth)
    soft = 0.7 * labels + 0.2 * other + 0.05
    io.write_mrc(folder / "soft.mrc", soft.astype(np.float32), truth)
    return files, folder


def words(places, output, *more):
    files, folder = places
    given = ("benchmark", files / "tomogram.mrc", "--labels", files / "membrane.mrc", "-o", output)
    return (*given, "--predictions", f"other={folder / 'other.mrc'}", *more)


def test_the_scores_are_those_of_evaluate(places, tmp_path, capsys):
    files, folder = places
    more = ("--maps", f"soft={folder / 'soft.mrc'}", "--seconds", "other=12.5")
    assert main(*words(places, tmp_path / "out", *more, "--tilt-range", "-60", "60")) == 0
    capsys.readouterr()
    content = json.loads((tmp_path / "out" / "scores.json").read_text())["methods"]
    assert list(content) == ["other", "soft"]
    found = (folder / "other.mrc", files / "membrane.mrc")
    assert main("evaluate", *found, "--json") == 0
    wanted = json.loads(capsys.readouterr().out)["classes"]["foreground"]
    for key in ("dice", "iou", "precision", "recall", "surface_dice"):
        assert content["other"][key] == pytest.approx(wanted[key], abs=1e-6), key
    assert content["other"]["ece"] is None and content["other"]["seconds"] == 12.5
    assert content["soft"]["dice"] == 1.0 and content["soft"]["seconds"] is None
    maps = ("--probabilities", folder / "soft.mrc")
    assert main("evaluate", files / "membrane.mrc", found[1], *maps, "--json") == 0
    calibration = json.loads(capsys.readouterr().out)["calibration"]
    stated = calibration["ECE"]
    assert content["soft"]["ece"] == pytest.approx(stated, abs=1e-3)  # float16
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Of all annotated voxels" in page and "recall against visibility" in page
    assert "<!-- scored" not in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)  # opens without a network


def test_mistakes_are_named(places, tmp_path, capsys):
    files, folder = places
    small = folder / "small.mrc"
    io.write_mrc(small, np.ones((4, 4, 4), np.int8), voxel_size=10.0)
    many = folder / "many.mrc"
    like = io.read_mrc(files / "membrane.mrc")
    io.write_mrc(many, np.asarray(like.density) * 3, like)
    for more, said in (
        (("a=",), "--predictions a=: give NAME=LABELS"),
        ((f"a={small}",), "small.mrc: has shape (4, 4, 4)"),
        ((f"a={many}",), "many.mrc: has the label 3, and the truth knows"),
        ((f"a={folder / 'other.mrc'}", "--seconds", "b=3"), "b: has seconds, and no prediction"),
        ((f"a={folder / 'other.mrc'}", "--seconds", "a=x"), "--seconds a=x: give NAME=S"),
        ((f"a={folder / 'other.mrc'}", "--maps", f"a={small},{small}"), "is one of 2 maps for 1"),
    ):
        start = words(places, tmp_path / "out")[:6]
        assert main(*start, "--predictions", *more) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert said in error, error
        assert not (tmp_path / "out").exists()
    assert main(*words(places, tmp_path / "out")[:6]) == 2
    assert "there is nothing to score" in capsys.readouterr().err
