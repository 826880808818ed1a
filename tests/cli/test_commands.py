"""The commands from end to end, in this process and on small volumes."""

import json
import shlex

import numpy as np
import pytest
import yaml

from cryojax_seg import core, evaluate, io


def test_a_trained_vote_segments_and_scores_the_same_everywhere(run, files, trained, tmp_path):
    """train -> segment -> evaluate; what is written is what the library gives."""
    out = tmp_path / "made here" / "labels.mrc"
    out.parent.mkdir()
    status, printed, _ = run(
        "segment", trained, files / "tomogram.mrc", "-o", out, "--probabilities"
    )
    assert status == 0 and "membrane" in printed
    labels, tomogram = io.read_mrc(out), io.read_mrc(files / "tomogram.mrc")
    assert labels.density.dtype == np.int8
    assert labels.voxel_size == tomogram.voxel_size and labels.origin == tomogram.origin
    p = io.read_mrc(out.with_name("labels.membrane.probability.mrc"))
    assert p.density.dtype == np.float16 and p.voxel_size == tomogram.voxel_size
    near = np.abs(p.density.astype(float) - 0.5) < 1e-3  # rounded to 16 bits
    assert np.array_equal((p.density > 0.5)[~near], (labels.density == 1)[~near])

    maps = ("--probabilities", out.with_name("labels.membrane.probability.mrc"))
    status, printed, _ = run(
        "evaluate", out, files / "membrane.mrc", "--classes", "membrane", *maps, "--json"
    )
    scores = json.loads(printed)
    truth = io.read_mrc(files / "membrane.mrc").density
    expected = evaluate.overlap(labels.density, truth)["foreground"]
    assert status == 0
    assert scores["classes"]["membrane"]["dice"] == pytest.approx(expected.dice)
    assert expected.dice > 0.6
    assert scores["calibration"]["ECE"] == pytest.approx(
        evaluate.expected_calibration_error(p.density[..., None].astype(np.float32), truth),
        abs=1e-6,
    )
    assert scores["tolerance"] == 20.0 and scores["tolerance_unit"] == "angstrom"
    _, table, _ = run("evaluate", out, files / "membrane.mrc", "--classes", "membrane")
    assert f"{expected.dice:.3f}" in table and "surface Dice (20 A)" in table


def test_evaluate_shows_surfaces_topology_and_what_the_wedge_left(run, tmp_path):
    """A shell and the same shell without its poles, which face the beam."""
    z, y, x = np.indices((40, 40, 40)) - 19.5
    radius = np.sqrt(z**2 + y**2 + x**2)
    truth = (np.abs(radius - 13) < 1.5).astype(np.int8)
    torn = truth * (np.abs(z) < 10)
    for name, labels in (("truth", truth), ("torn", torn)):
        io.write_mrc(tmp_path / f"{name}.mrc", labels, voxel_size=(10.0, 10.0, 10.0))
    words = ("evaluate", tmp_path / "torn.mrc", tmp_path / "truth.mrc", "--tilt-range", "-60", "60")
    status, printed, _ = run(*words, "--json")
    scores = json.loads(printed)["classes"]["foreground"]
    assert status == 0
    size = (10.0, 10.0, 10.0)
    assert scores["hausdorff95"] == evaluate.hausdorff95(torn == 1, truth == 1, size)
    assert scores["boundary_iou"] == evaluate.boundary_iou(torn == 1, truth == 1, 20.0, size)
    assert scores["betti_error"] == [0.0, 1.0, 1.0]  # a band has a tunnel and no cavity
    bins = scores["by_visibility"]
    assert bins[0]["recall"] < 0.5 and bins[-1]["recall"] > 0.95
    assert sum(b["invented"] for b in bins) == 0
    _, table, _ = run(*words)
    assert "differs by 0 pieces, 1 tunnel, 1 cavity" in table and "0 to 0.3" in table
    part = ("--slices", "10", "20")
    assert '"betti_error": null' in run(*words, *part, "--json")[1]


def test_an_interrupted_segmentation_goes_on(run, files, trained, tmp_path, monkeypatch):
    """It takes up at the tile it was at, and the files equal those of an uninterrupted one."""
    words = ("segment", trained, files / "tomogram.mrc", "--tile", "10", "--probabilities", "-o")
    status, uninterrupted, _ = run(*words, tmp_path / "whole")
    assert status == 0
    original, seen = core.apply_tiles, []

    def interrupted(*arguments):
        for tile in original(*arguments):
            if len(seen) == 5:
                raise KeyboardInterrupt
            seen.append(tile)
            yield tile

    monkeypatch.setattr("cryojax_seg.inference.segmentation.apply_tiles", interrupted)
    status, _, complaint = run(*words, tmp_path / "parts")
    assert status == 130 and "interrupted" in complaint
    assert not list((tmp_path / "parts").glob("*.mrc"))
    monkeypatch.setattr("cryojax_seg.inference.segmentation.apply_tiles", original)
    status, printed, said = run(*words, tmp_path / "parts")
    assert status == 0 and "going on after 5 of 48 tiles" in said and "membrane" in printed
    shares = [text.split(": ")[1].split(" (")[0] for text in (uninterrupted, printed)]
    assert shares[0] == shares[1]  # those of the first tiles count too
    names = sorted(path.name for path in (tmp_path / "parts").glob("*.mrc"))
    assert names == ["tomogram.labels.mrc", "tomogram.membrane.probability.mrc"]
    for name in names:
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_zarr_in_and_out(run, files, trained, tmp_path):
    """The same labels and maps in either format, whatever the tomogram comes in."""
    tomogram = io.read_mrc(files / "tomogram.mrc")
    io.write_zarr(tmp_path / "t.zarr", tomogram.density, tomogram)
    words = ("--tile", "10", "--probabilities")
    assert run("segment", trained, files / "tomogram.mrc", *words, "-o", tmp_path / "mrc")[0] == 0
    zarr = tmp_path / "zarr"
    status, printed, _ = run(
        "segment", trained, tmp_path / "t.zarr", *words, "--format", "zarr", "-o", zarr
    )
    assert status == 0 and "membrane" in printed
    assert run("segment", trained, tmp_path / "t.zarr", "-o", tmp_path / "l.zarr")[0] == 0
    one, other, single = (
        io.read_tomogram(path)
        for path in (
            tmp_path / "mrc" / "tomogram.labels.mrc", zarr / "t.labels.zarr", tmp_path / "l.zarr"
        )
    )  # fmt: skip
    np.testing.assert_array_equal(one.density, np.asarray(other.density))
    np.testing.assert_array_equal(one.density, np.asarray(single.density))
    assert other.voxel_size == one.voxel_size and other.origin == one.origin
    maps = [tmp_path / "mrc" / "tomogram.membrane.probability.mrc"]
    maps.append(zarr / "t.membrane.probability.zarr")
    p, q = (np.asarray(io.read_tomogram(path).density) for path in maps)
    np.testing.assert_array_equal(p, q)


def test_a_plan_is_printed_without_segmenting(run, files, trained, tmp_path):
    words = ("segment", trained, files / "tomogram.mrc", "-o", tmp_path / "out", "--dry-run")
    status, printed, _ = run(*words)
    assert status == 0 and "24 x 32 x 32 voxels in 1 tile" in printed and "GiB of memory" in printed
    assert not list(tmp_path.rglob("*.mrc"))
    assert "48 tiles of 10 x 10 x 10" in run(*words, "--tile", "10")[1]
    status, _, complaint = run(*words, "--memory", "0.5")
    assert status == 2 and "memory must be above 0.9 GiB" in complaint and "--memory" in complaint


def test_tiles_flips_and_several_tomograms_change_files_not_answers(run, files, trained, tmp_path):
    tomogram, other = files / "tomogram.mrc", files / "second.mrc"
    volume = io.read_mrc(tomogram)
    io.write_mrc(other, volume.density[:, ::-1], volume, overwrite=True)
    whole, tiled = tmp_path / "whole", tmp_path / "tiled"
    assert run("segment", trained, tomogram, other, "-o", whole)[0] == 0
    assert run("segment", trained, tomogram, other, "-o", tiled, "--tile", "10")[0] == 0
    for name in ("tomogram.labels.mrc", "second.labels.mrc"):
        assert np.array_equal(io.read_mrc(whole / name).density, io.read_mrc(tiled / name).density)
    # Averaged over the flips of a symmetric wedge, a flipped volume has flipped labels.
    flipped = tmp_path / "flipped"
    wedge = ("--flips", "on", "--tilt-range", "-60", "60")
    assert run("segment", trained, tomogram, other, "-o", flipped, *wedge)[0] == 0
    first = io.read_mrc(flipped / "tomogram.labels.mrc").density
    second = io.read_mrc(flipped / "second.labels.mrc").density
    assert (first == second[:, ::-1]).mean() > 0.9999


def test_several_classes_through_a_filter_for_one(run, files, tmp_path):
    words = ("--method", "hysteresis", "--steps", "3", "--patch", "16", "--validation", "0")
    status, _, _ = run(
        "train", files / "tomogram.mrc", "--labels", files / "classes.mrc", *words,
        "--classes", "membrane", "ribosome", "-o", tmp_path / "run",
    )  # fmt: skip
    assert status == 0
    segmenter, card = io.load_model(tmp_path / "run" / "model")
    assert segmenter.classes == ("background", "membrane", "ribosome")
    assert card.voxel_size == (10.0, 10.0, 10.0) and card.contrast == "dark"
    out = tmp_path / "labels.mrc"
    words = ("segment", tmp_path / "run", files / "tomogram.mrc", "-o", out, "--probabilities")
    assert run(*words)[0] == 0
    names = sorted(p.name for p in tmp_path.glob("*.mrc"))
    assert names == [
        "labels.membrane.probability.mrc",
        "labels.mrc",
        "labels.ribosome.probability.mrc",
    ]


def test_a_run_is_described_by_its_configuration_and_resumes_from_it(run, files, tmp_path):
    folder, written = tmp_path / "run", tmp_path / "options.yaml"
    written.write_text(
        f"tomograms: ['{files / 'tomogram.mrc'}']\nlabels: ['{files / 'sparse.mrc'}']\n"
        f"method: threshold\nsteps: 4\npatch: 16\ntilt-range: [-60, 60]\noutput: '{folder}'\n"
    )
    status, _, errors = run("train", "--config", written, "--seed", "3")
    assert status == 0, errors
    kept = yaml.safe_load((folder / "config.yaml").read_text())
    assert kept["steps"] == 4 and kept["seed"] == 3 and kept["tilt_range"] == [-60.0, 60.0]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines][-1] == 4
    status, printed, errors = run("train", "--config", folder / "config.yaml", "--resume")
    assert status == 0, errors
    assert "step 4 of 4" in printed
    assert "to go on, resume it with more steps (--steps, --resume)" in errors
    # The command that it prints extends the run, and can be pasted.
    command = next(line for line in printed.splitlines() if line.startswith("more: "))
    _, *words = shlex.split(command.removeprefix("more: "))
    status, printed, errors = run(*words)
    assert status == 0 and "step 8 of 8" in printed, errors
    status, _, errors = run("train", "--config", folder / "config.yaml", "--seed", "4", "--resume")
    assert status == 2 and "seed was 3, is now 4" in errors
    words = ("train", "--config", folder / "config.yaml", "--steps", "2", "--overwrite")
    assert run(*words)[0] == 0
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_network_of_another_size_learns_from_two_tomograms_and_is_judged_on_a_third(
    run, files, tmp_path
):
    first = files / "tomogram.mrc"
    others = [tmp_path / "b.mrc", tmp_path / "c.mrc"]
    for path in others:
        path.write_bytes(first.read_bytes())
    base = ("train", first, *others, "--labels", *3 * [files / "membrane.mrc"])
    words = ("--method", "unet", "--width", "2", "--depth", "0", "--stem", "space_to_depth")
    words += ("--patch", "8", "--batch", "1", "--steps", "4", "--validate-every", "2")
    words += ("--augment", "noise=0.5", "flip=0", "--hold-out", others[0], "-o", tmp_path / "run")
    status, _, errors = run(*base, *words)
    assert status == 0, errors
    segmenter, _ = io.load_model(tmp_path / "run" / "model")
    assert (segmenter.width, segmenter.depth, segmenter.stem) == (2, 0, "space_to_depth")
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    names = [data["name"] for data in described["data"]]
    assert [name.rpartition("/")[2] for name in names] == ["tomogram.mrc", "c.mrc"]
    assert described["config"]["augmentation"]["noise"] == 0.5
    metrics = (tmp_path / "run" / "metrics.jsonl").read_text()
    lines = [json.loads(text) for text in metrics.splitlines()]
    assert [line["step"] for line in lines if "dice" in line] == [2, 4]


def test_without_steps_a_run_ends_when_it_has_converged(run, files, tmp_path):
    words = ("--method", "threshold", "--patch", "8", "--batch", "1", "-o", tmp_path / "run")
    base = ("train", files / "tomogram.mrc", "--labels", files / "sparse.mrc", *words)
    status, printed, errors = run(*base)
    assert status == 0, errors
    assert "until the score rises no more, at most 30 minutes" in errors
    assert "(converged, step " in printed and "more steps would hardly help" in printed
    file = shlex.quote(str(tmp_path / "run" / "config.yaml"))
    assert f"train --config {file} --resume --minutes 60" in printed
    status, _, errors = run(*base, "--minutes", "0.0001", "--overwrite")
    assert status == 2 and "before the first validation; give more minutes (--minutes)" in errors


def test_info_describes_volumes_labels_models_and_runs(run, files, trained):
    _, printed, _ = run("info", files / "tomogram.mrc")
    assert "tomogram" in printed and "24 x 32 x 32" in printed and "10, 10, 10 A" in printed
    assert "labels" in run("info", files / "membrane.mrc")[1]
    assert "LinearVote" in run("info", trained)[1]
    facts = json.loads(run("info", trained / "model", "--json")[1])
    assert facts["kind"] == "model" and facts["facts"]["classes"] == "membrane"


def test_the_demo_writes_what_it_says(run, tmp_path):
    folder = tmp_path / "demo"
    names = ["built-in", "threshold", "unet-fast"]
    words = ("demo", "-o", folder, "--size", "36", "--steps", "2", "--filter-steps", "2")
    words += ("--methods", *names)
    status, printed, errors = run(*words)
    assert status == 0, errors
    results = json.loads((folder / "results.json").read_text())
    assert list(results["methods"]) == names
    truth = io.read_mrc(folder / "truth.mrc").density
    annotation = io.read_labels(folder / "annotation.mrc")
    assert list(annotation.slices) == results["annotated_slices"] and len(annotation.slices) == 3
    away = np.ones(truth.shape)
    for z in annotation.slices:
        away[max(z - 2, 0) : z + 3] = 0
    for name in names:
        labels = io.read_mrc(folder / f"{name}.mrc").density
        dice = evaluate.overlap(labels, truth, away)["foreground"].dice
        assert results["methods"][name]["dice"] == dice
        assert name in printed
    assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert io.load_model(folder / "model")[0].classes == ("membrane",)
    assert run(*words)[0] == 2  # an existing demo is kept


def test_a_segmenter_of_ones_own_is_trained_saved_and_run(files, tmp_path, monkeypatch, run):
    """Its module is imported only where it is allowed by name."""
    (tmp_path / "my_methods.py").write_text(
        "from cryojax_seg.segmenters import LinearVote\nclass Mine(LinearVote): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = [files / "tomogram.mrc", "--labels", files / "sparse.mrc", "--steps", 3, "--patch", 16]
    status, out, err = run("train", *words, "--method", "my_methods:Mine", "-o", tmp_path / "run")
    assert status == 0, err
    (following,) = (line for line in out.splitlines() if line.startswith("next:"))
    assert "--allow-module my_methods" in following
    words = ["segment", tmp_path / "run", files / "tomogram.mrc", "-o", tmp_path / "labels.mrc"]
    status, _, err = run(*words)
    assert status == 2 and err.strip().endswith("--allow-module my_methods")
    status, _, err = run(*words, "--allow-module", "my_methods")
    assert status == 0, err
    assert (tmp_path / "labels.mrc").exists()
