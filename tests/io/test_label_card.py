"""Names, kinds, thresholds and the model of labels travel in the files themselves."""

import json
import logging

import nibabel
import nrrd
import numpy as np
import pytest

from cryojax_seg import inference, io, measure
from cryojax_seg.errors import ParameterError
from cryojax_seg.io import label_card

SHAPE = (4, 5, 6)
VALUES = np.arange(120).reshape(SHAPE).astype(np.int8) % 3
CARD = io.LabelCard(
    ("ER membrane", "COP-I (coat); β=2 %"),
    ("membrane", "complex"),
    (0.62, 0.5),
    "cell-fast",
    "0123456789abcdef",
)


@pytest.mark.parametrize("suffix", [".mrc", ".nii", ".nrrd", ".zarr"])
@pytest.mark.parametrize(
    "card", [CARD, io.LabelCard(("a",)), io.LabelCard(("a", "b"), (None, "filament"), model="m 2")]
)
def test_every_format_gives_back_what_was_written(tmp_path, suffix, card):
    path = tmp_path / f"labels{suffix}"
    with io.TileJob({}, [(path, np.int8)], SHAPE, card=card) as job:
        job.write((slice(None),) * 3, [VALUES])
    assert io.read_label_card(path) == card
    np.testing.assert_array_equal(np.asarray(io.read_tomogram(path, 10.0).density[:]), VALUES)


def test_the_kinds_are_those_of_measure():
    assert label_card._KINDS == measure.KINDS


def test_other_programs_read_the_files(tmp_path):
    for name in ("a.nii", "a.nrrd"):
        with io.TileJob({}, [(tmp_path / name, np.int8)], SHAPE, card=CARD) as job:
            job.write((slice(None),) * 3, [VALUES])
    image = nibabel.load(tmp_path / "a.nii")
    np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), VALUES)
    (extension,) = image.header.extensions
    assert extension.get_code() == 6 and b"1=ER membrane (membrane)" in extension.get_content()
    values, header = nrrd.read(str(tmp_path / "a.nrrd"), index_order="C")
    np.testing.assert_array_equal(values, VALUES)
    assert header["model"] == "cell-fast 0123456789abcdef"


def test_lines_of_mrc_have_80_characters_and_shed_what_matters_least():
    names = tuple(f"organelle number {n}" for n in range(1, 21))
    whole = io.LabelCard(names[:8], ("organelle",) * 8, (0.5,) * 8, "cell")
    assert io.LabelCard.parsed(_joined(whole.lines())) == whole
    wide = io.LabelCard(names, ("organelle",) * 20, (0.5,) * 20, "cell")
    assert len(wide.lines()) <= 9 and max(map(len, wide.lines())) <= 80
    assert io.LabelCard.parsed(_joined(wide.lines())) == io.LabelCard(
        names, thresholds=(0.5,) * 20, model="cell"
    )
    many = io.LabelCard(tuple(f"a class with a long name, {n}" for n in range(90)), model="cell")
    assert many.lines() == ["model: cell"]


def _joined(lines):
    assert not any(line.endswith(" ") for line in lines)
    return label_card._joined(["Written by cryojax_seg", *lines, "", "newstack: copied"])


@pytest.mark.parametrize(
    "text", ["", "1=a; 3=b", "2=a", "1=a; 2", "membrane", "1=a;2=b", "1=a(b", "x" * 700]
)
def test_what_is_not_whole_says_nothing(text):
    assert io.LabelCard.parsed({"classes": text}) is None


def test_damaged_files_say_nothing(tmp_path):
    rng = np.random.default_rng(0)
    for suffix in (".mrc", ".nii", ".nrrd"):
        path = tmp_path / f"a{suffix}"
        with io.TileJob({}, [(path, np.int8)], SHAPE, card=CARD) as job:
            job.write((slice(None),) * 3, [VALUES])
        raw = path.read_bytes()
        for _ in range(200):
            mutated = bytearray(raw[: rng.integers(0, len(raw))] if rng.random() < 0.3 else raw)
            for place in rng.integers(0, max(len(mutated), 1), 12)[: len(mutated)]:
                mutated[place] = rng.integers(256)
            path.write_bytes(mutated)
            found = io.read_label_card(path)
            assert found is None or all(isinstance(name, str) for name in found.classes)
    folder = tmp_path / "a.zarr"
    folder.mkdir()
    for content in ("[]", "{}", '{"attributes": {"ome": {"image-label": {"properties": [3]}}}}'):
        (folder / "zarr.json").write_text(content)
        assert io.read_label_card(folder) is None


def test_names_of_other_programs_in_ome_zarr(tmp_path):
    label = {"properties": [{"label-value": n, "name": name} for n, name in ((2, "b"), (1, "a"))]}
    content = {"image-label": label, "multiscales": [{}]}
    (tmp_path / ".zattrs").write_text(json.dumps(content))
    assert io.read_label_card(tmp_path).classes == ("a", "b")


def test_measure_needs_no_names_and_an_option_wins_with_a_note(tmp_path, caplog):
    path = tmp_path / "labels.mrc"
    card = io.LabelCard(("patch", "COP-I"), ("membrane", "complex"))
    io.write_mrc(path, VALUES, voxel_size=10.0, card=card)
    _, found = io.read_object_classes(path)
    assert [(one.name, one.kind) for one in found] == [("patch", "membrane"), ("COP-I", "complex")]
    with caplog.at_level(logging.INFO, "cryojax_seg.io"):
        _, found = io.read_object_classes(path, classes=("patch", "actin"), kind={"1": "organelle"})
    assert [(one.name, one.kind) for one in found] == [
        ("patch", "organelle"),
        ("actin", "filament"),
    ]
    assert (
        "calls its labels patch, COP-I; the given names replace them: patch, actin" in caplog.text
    )


def test_evaluate_takes_names_from_the_truth_or_the_prediction(tmp_path, caplog):
    files = {name: tmp_path / f"{name}.mrc" for name in ("truth", "found", "bare")}
    for name, path in files.items():
        card = {
            "truth": io.LabelCard(("membrane", "actin")),
            "found": io.LabelCard(("er", "actin")),
        }
        io.write_mrc(path, VALUES, voxel_size=10.0, card=card.get(name))
    names = lambda *paths, **given: list(inference.score_files(*paths, **given).classes)  # noqa: E731
    assert names(files["bare"], files["truth"]) == ["membrane", "actin"]
    assert names(files["found"], files["bare"]) == ["er", "actin"]
    assert not caplog.records
    assert names(files["found"], files["truth"]) == ["membrane", "actin"]
    assert "label 1 is membrane in" in caplog.text
    assert names(files["bare"], files["truth"], classes=("x", "y")) == ["x", "y"]


def test_evaluate_compares_classes_of_the_same_name(tmp_path, caplog):
    """A model and a truth that number their classes differently."""
    truth, found = np.zeros((6, 8, 8), np.int8), np.zeros((6, 8, 8), np.int8)
    truth[1], truth[2], truth[3], truth[4] = 1, 2, 3, 4  # membrane, lumen, microtubule, actin
    found[1], found[2], found[3, :4], found[4] = 2, 1, 1, 3  # microtubule, membrane, ribosome
    maps = [tmp_path / f"{n}.mrc" for n in range(3)]
    for n, path in enumerate(maps, 1):
        io.write_mrc(path, np.where(found == n, 0.8, 0.05).astype(np.float32), voxel_size=10.0)
    cards = (
        io.LabelCard(("membrane", "lumen", "microtubule", "actin")),
        io.LabelCard(("microtubule", "membrane", "ribosome")),
    )
    paths = tmp_path / "found.mrc", tmp_path / "truth.mrc"
    io.write_mrc(paths[0], found, voxel_size=10.0, card=cards[1])
    io.write_mrc(paths[1], truth, voxel_size=10.0, card=cards[0])
    scores = inference.score_files(*paths, probabilities=maps)
    assert list(scores.classes) == ["membrane", "microtubule"]
    classes = scores.as_dict()["classes"]
    assert classes["membrane"]["dice"] == 1.0
    assert classes["microtubule"]["precision"] == pytest.approx(32 / 96)
    assert classes["microtubule"]["recall"] == pytest.approx(0.5)
    assert "with actin, lumen, ribosome as background" in caplog.text
    assert scores.calibration.error == pytest.approx(0.2, abs=0.1)
    by_number = inference.score_files(*paths, classes=("a", "b", "c", "d"))
    assert by_number.as_dict()["classes"]["a"]["dice"] == 0.0


def test_pick_by_name(tmp_path):
    labels = np.zeros((20, 20, 40), np.int8)
    labels[8:12, 8:12, 8:12], labels[8:12, 8:12, 28:32] = 1, 2
    path = tmp_path / "labels.mrc"
    io.write_mrc(path, labels, voxel_size=10.0, card=io.LabelCard(("ribosome", "proteasome")))
    both = inference.pick_volumes([path], [40.0])
    assert both.classes == ("ribosome", "proteasome")
    assert list(both.particles.columns["rlnParticleName"]) == ["ribosome", "proteasome"]
    one = inference.pick_volumes([path], [40.0], labels=["proteasome"])
    assert one.particles.coordinates.round().tolist() == [[10.0, 10.0, 30.0]]
    with pytest.raises(ParameterError, match="no label called actin; its labels are ribosome, pro"):
        inference.pick_volumes([path], [40.0], labels=["actin"])


def test_a_segmentation_says_which_model_made_it(tmp_path):
    from cryojax_seg.segmenters import GlobalThreshold

    noise = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    io.write_mrc(tmp_path / "t.mrc", noise, voxel_size=10.0)
    (tmp_path / "run").mkdir()
    io.save_model(tmp_path / "run" / "model", GlobalThreshold(1.0, classes=("ER membrane",)))
    model = inference.load(tmp_path / "run")
    for name in ("l.mrc", "l.zarr"):
        inference.segment_file(model, tmp_path / "t.mrc", tmp_path / name, threshold=0.4)
        card = io.read_label_card(tmp_path / name)
        assert card.classes == ("ER membrane",) and card.kinds == ("membrane",)
        assert card.thresholds == (0.4,) and card.model == "run"
        assert card.digest == model.digest()[:16]
    assert io.describe(tmp_path / "l.mrc").facts["classes"] == "1=ER membrane (membrane)"
