"""The prediction follows the strokes, and the learner can be paused, saved and asked."""

import threading
import time

import numpy as np
import pytest

from cryojax_seg import inference, io, view
from cryojax_seg.core import MissingWedge, Tomogram
from cryojax_seg.segmenters import GlobalThreshold

SHAPE = (12, 64, 64)


@pytest.fixture
def scene():
    """A dark slab in noise, on disk, and its labels."""
    known = np.zeros(SHAPE, int)
    known[:, 20:32] = 1
    noise = np.random.default_rng(0).normal(size=SHAPE)
    return (noise - 2 * known).astype(np.float32), known


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "this took too long"
        time.sleep(0.02)
    return found


class Learned:
    """A session with a learner and a page."""

    def __init__(self, scene, tmp_path, **how):
        path = tmp_path / "t.mrc"
        io.write_mrc(path, scene[0], voxel_size=10.0, overwrite=True)
        labels = tmp_path / "labels.mrc"
        how = {"start": "vote", **how}
        self.session = view.annotation_session(path, labels, ["slab"], **how)
        self.told, self._answers = [], []
        self._receive = self.session.connect(self._hear)

    def _hear(self, *told):
        self.told.append(told)
        # The learner's thread tells of its progress at any time, also between two answers.
        if threading.current_thread() is threading.main_thread():
            self._answers.append(told)

    def send(self, kind, **message):
        """Send a message, and return the answers that come at once."""
        self._answers.clear()
        self._receive({"type": kind, **message})
        return list(self._answers)

    def stroke(self, z, row, value, axis=0):
        points = [[row, 4], [row, 60]]
        self.send("stroke", axis=axis, index=z, points=points, radius_nm=2.0, value=value)

    def plane(self, axis, index):
        asked = {"layer": "prediction", "axis": axis, "index": index}
        data = self.send("plane", **asked)[-1][1]
        return None if data is None else np.frombuffer(data, np.uint8)

    def messages(self, kind):
        return [m for m, _ in list(self.told) if m["type"] == kind]

    def texts(self):
        return [m["text"] for m in self.messages("learning")]


@pytest.fixture
def learned(scene, tmp_path):
    made = []

    def make(**how):
        made.append(Learned(scene, tmp_path, **how))
        return made[-1]

    yield make
    for one in made:
        one.session.close()


def dice(found, truth):
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


def test_the_prediction_follows_the_brush(scene, learned):
    page = learned()
    state = page.send("hello")[0][0]
    assert state["learning"]["methods"][0] == "vote" and "prediction" in state["layers"]
    page.stroke(6, 26, 1)
    until(lambda: any("no voxel of background" in text for text in page.texts()))
    assert page.plane(0, 6) is None
    page.stroke(6, 50, 0)
    page.stroke(6, 8, 0)
    until(lambda: page.texts() and page.texts()[-1].startswith("The vote learned from"))
    truth = scene[1].astype(bool)
    until(lambda: page.plane(0, 0) is not None)  # the others follow
    for axis, index in ((0, 6), (0, 0), (1, 32)):
        until(lambda a=axis, i=index: page.plane(a, i) is not None)
        found = page.plane(axis, index)
        plane = np.take(truth, index, axis)
        if plane.any():
            assert dice(found.reshape(plane.shape) == 1, plane) > 0.85, (axis, index)
    until(lambda: page.session.state()["learning"]["dice"].startswith("Dice"))
    # A class that is painted over becomes the other one.
    before = len(page.texts())
    page.send("look", planes=[[0, 9], [1, 3], [2, 5]])
    until(lambda: page.plane(1, 3) is not None and page.plane(2, 5) is not None)
    page.send("undo", axis=0, index=6)
    until(lambda: len(page.texts()) > before)


def test_a_prediction_can_be_copied_and_corrected(learned):
    page = learned()
    for row, value in ((26, 1), (50, 0)):
        page.stroke(6, row, value)
    until(lambda: page.plane(0, 6) is not None)
    before = page.session.painting.counts()["slab"]
    page.send("paste", axis=0, index=6)
    assert page.session.painting.counts()["slab"] > before + 200


def test_a_copy_can_be_cleaned(learned):
    page = learned(start=None)
    predicted = np.zeros(SHAPE[1:], np.uint8)
    predicted[10:40, 10:40] = 1
    predicted[20:25, 20:25] = 0  # a hole of 25 nm^2
    predicted[50, 50:54] = 1  # a speck
    page.session.layers["prediction"] = Predicted(predicted)
    page.send("paste", axis=0, index=3, clean=True)
    assert page.session.painting.counts()["slab"] == 30 * 30
    page.send("paste", axis=0, index=4)
    assert page.session.painting.counts()["slab"] == 2 * 30 * 30 - 25 + 4


class Predicted:
    def __init__(self, values):
        self.values = values

    def plane(self, axis, index):
        return self.values


def test_it_pauses_and_saves(learned, tmp_path, scene):
    page = learned(wedge=MissingWedge((-60.0, 60.0)))
    assert "no model" in page.send("learn", action="save")[0][0]["text"]
    page.send("learn", action="pause")
    for row, value in ((26, 1), (50, 0)):
        page.stroke(6, row, value)
    time.sleep(0.5)
    assert page.plane(0, 6) is None
    page.send("learn", action="resume")
    until(lambda: page.plane(0, 6) is not None)
    told = page.send("learn", action="save")[-1][0]
    assert told["text"].endswith("labels.model")
    model = inference.load(tmp_path / "labels.model")
    assert model.segmenter.classes == ("slab",) and model.card.voxel_size == (10.0, 10.0, 10.0)
    assert model.card.tilt_range == (-60.0, 60.0)
    done = inference.segment_file(model, tmp_path / "t.mrc", tmp_path / "found.mrc")
    found = np.asarray(io.read_tomogram(done.labels).density) == 1
    assert dice(found, scene[1] == 1) > 0.85
    for message in ({"action": "fly"}, {"action": "method", "method": "magic"}, {}):
        assert page.send("learn", **message)[0][0]["type"] == "error"
    assert page.send("look", planes="all")[0][0]["type"] == "error"


def test_the_next_slice_is_far_from_what_is_annotated(learned):
    page = learned()
    nothing = {"type": "suggestions", "items": [], "boxes": []}
    assert page.send("suggest")[0][0] == nothing
    for row, value in ((26, 1), (50, 0)):
        page.stroke(2, row, value)
    until(lambda: page.plane(0, 2) is not None)
    page.told.clear()
    page.send("suggest")
    told = until(lambda: page.messages("suggestions"))[-1]
    items = told["items"]
    assert items[0]["index"] == 11 and 2 not in [one["index"] for one in items]
    # Boxes have edges of about 60 nm, and slices are divided evenly.
    assert told["boxes"][0]["box"] == [0, 0, 64, 64] and told["boxes"][0]["index"] == 11


def test_the_rest_of_the_volume_follows(learned):
    page = learned()
    for row, value in ((26, 1), (50, 0)):
        page.stroke(2, row, value)
    until(lambda: all(page.plane(0, z) is not None for z in range(SHAPE[0])))
    assert sum(len(m["slices"] or []) for m in page.messages("predicted")) >= SHAPE[0]


def test_strokes_across_slices_teach_too(scene, learned):
    page = learned()
    page.stroke(30, 26, 1, axis=2)  # the rows of the yz plane are y, as those of the xy plane
    page.send("stroke", axis=2, index=30, points=[[26, 1], [26, 10]], radius_nm=1, value=1)
    page.send("stroke", axis=2, index=30, points=[[50, 1], [50, 10]], radius_nm=1, value=0)
    until(lambda: page.plane(0, 6) is not None)
    found = page.plane(0, 6).reshape(SHAPE[1:]) == 1
    assert dice(found, scene[1][6] == 1) > 0.8


def test_a_constant_tomogram_ends_learning_but_not_painting():
    flat = Tomogram(np.zeros(SHAPE, np.float32), voxel_size=(10.0, 10.0, 10.0))
    session = view.annotation_session(flat, classes=["slab"], start="vote")
    told = []
    receive = session.connect(lambda message, data: told.append(message))
    until(
        lambda: any(
            "constant" in m.get("text", "") or "different" in m.get("text", "") for m in told
        )
    )
    receive(
        {"type": "stroke", "axis": 0, "index": 1, "points": [[5, 5]], "radius_nm": 1, "value": 1}
    )
    assert any(m["type"] == "changed" for m in told)
    session.close()


def test_a_closed_session_takes_no_strokes(learned):
    page = learned()
    page.session.close()
    told = page.send("stroke", axis=0, index=1, points=[[5, 5]], radius_nm=1, value=1)
    assert "closed" in told[0][0]["text"] and page.session.painting.annotated() == ()


@pytest.fixture(scope="module")
def vesicles(tmp_path_factory):
    """Membranes that the built-in model finds, and their labels."""
    import jax

    from cryojax_seg import simulate

    scene = simulate.presets.vesicles(jax.random.key(5), (32, 96, 96), voxel_size=10.0)
    phantom = simulate.simulate(scene, simulate.WedgeImaging(snr=0.5), jax.random.key(6))
    path = tmp_path_factory.mktemp("vesicles") / "t.mrc"
    io.write_mrc(path, -np.asarray(phantom.density), voxel_size=10.0)
    return path, np.asarray(phantom.labels) == 1


def test_a_built_in_model_predicts_at_once_and_learns_from_strokes(vesicles, tmp_path):
    path, truth = vesicles
    labels = tmp_path / "labels.mrc"
    session = view.annotation_session(path, labels, ["membrane"], start="membrane")
    told = []
    receive = session.connect(lambda message, data: told.append(message))
    kept = session.layers["prediction"]

    def found():
        until(lambda: all((0, z) in kept for z in range(32)))
        return np.stack([kept.plane(0, z) for z in range(32)]) == 1

    def texts():
        return [m["text"] for m in told if m["type"] == "learning"]

    before = found()  # nobody has painted anything
    first = dice(before, truth)
    assert first > 0.6 and any("as it was trained" in text for text in texts())
    # All of one slice is annotated: what is missed there is found elsewhere.
    session.painting.paste((0, 16), truth[16].astype(np.uint8))
    session.painting.complete((0, 16))
    session.changed((0, 16))
    until(lambda: texts()[-1].startswith("The last layer of membrane-fast learned from 9216"))
    until(lambda: session.state()["learning"]["dice"].startswith("Dice"))
    after = found()
    others = np.arange(32) != 16
    assert dice(after[others], truth[others]) > first + 0.005
    # Undoing it brings the model back as it was.
    receive({"type": "undo", "axis": 0, "index": 16})
    receive({"type": "undo", "axis": 0, "index": 16})
    until(lambda: "as it was trained" in texts()[-1])
    np.testing.assert_array_equal(found(), before)
    receive({"type": "learn", "action": "save"})
    model = inference.load(tmp_path / "labels.model")
    assert model.segmenter.classes == ("membrane",) and model.card.patch == 32
    segmented = inference.segment(model, io.read_tomogram(path), contrast="dark")
    assert (segmented == before).mean() > 0.999
    receive({"type": "learn", "action": "method", "method": "vote"})
    until(lambda: texts()[-1].startswith("Paint some strokes"))
    session.close()


def test_a_start_that_is_no_model_is_refused_before_the_labels_are_held(vesicles, tmp_path):
    labels = tmp_path / "labels.mrc"
    with pytest.raises(io.FileError, match="no built-in model has that name"):
        view.annotation_session(vesicles[0], labels, ["membrane"], start="no-such-model")
    view.annotation_session(vesicles[0], labels, ["membrane"]).close()
    io.save_model(tmp_path / "model", GlobalThreshold(1.0))
    told = []
    session = view.annotation_session(vesicles[0], labels, start=tmp_path / "model")
    session.connect(lambda message, data: told.append(message))
    until(lambda: any("no single last layer" in m.get("text", "") for m in told))
    session.close()
