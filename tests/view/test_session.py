"""A session answers every message, and a wrong one with a line of text."""

import subprocess
import sys

import numpy as np
import pytest

from cryojax_seg import view
from cryojax_seg.core import Tomogram

SHAPE = (6, 20, 24)


@pytest.fixture
def tomogram():
    density = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    return Tomogram(density, voxel_size=(10.0, 10.0, 10.0), name="folder/t.mrc")


class Page:
    """Collects what a session tells."""

    def __init__(self, session):
        self.told = []
        self.send = lambda message, data: self.told.append((message, data))
        self._receive = session.connect(self.send)

    def __call__(self, kind, **message):
        """Send a message and return what is told since."""
        before = len(self.told)
        self._receive({"type": kind, **message})
        return self.told[before:]


@pytest.fixture
def session(tomogram):
    return view.Session(tomogram, painting=view.Painting(tomogram, ("membrane",)))


def test_the_state_tells_all_that_a_page_needs(session):
    ((state, data),) = Page(session)("hello")
    assert data is None
    assert state["shape"] == [6, 20, 24] and state["voxel_nm"] == [1.0, 1.0, 1.0]
    assert state["names"] == ["background", "membrane"] and state["title"] == "t.mrc"
    assert state["colours"] == [[230, 159, 0]] and state["layers"] == ["image", "labels"]
    assert state["editable"] and state["annotated"] == [] and state["counts"] == [0, 0]


def test_planes_come_as_bytes(session, tomogram):
    page = Page(session)
    for axis, shape in ((0, (20, 24)), (1, (6, 24)), (2, (20, 6))):
        ((told, data),) = page("plane", layer="image", axis=axis, index=3)
        assert told == {"type": "plane", "layer": "image", "axis": axis, "index": 3}
        assert len(data) == shape[0] * shape[1]
    (told, data) = page("plane", layer="labels", axis=0, index=3)[0]
    assert data is None and (told["undo"], told["redo"]) == (0, 0)


def test_every_page_is_told_of_a_change(session):
    one, other = Page(session), Page(session)
    stroke = dict(axis=0, index=3, points=[[5, 5]], radius_nm=2, value=1)
    ((told, _),) = one("stroke", **stroke)
    assert other.told == [(told, None)]
    assert told["type"] == "changed" and told["annotated"] == [3] and told["counts"] == [0, 13]
    (told, data) = other("plane", layer="labels", axis=0, index=3)[0]
    assert np.frombuffer(data, np.uint8).tolist().count(1) == 13 and data.count(255) == 480 - 13
    assert (told["undo"], told["redo"]) == (1, 0)
    one("undo", axis=0, index=3)
    assert other.told[-1][0]["counts"] == [0, 0]
    session.disconnect(other.send)
    before = len(other.told)
    one("redo", axis=0, index=3)
    assert len(other.told) == before and session.painting.annotated() == (3,)


def test_what_changes_nothing_sends_the_slice(session):
    (told, data) = Page(session)("undo", axis=0, index=3)[0]
    assert told["type"] == "plane" and data is None


def test_a_class_is_added_for_every_page(session):
    one, other = Page(session), Page(session)
    one("add_class", name="actin")
    assert other.told[-1][0]["names"] == ["background", "membrane", "actin"]
    assert len(other.told[-1][0]["colours"]) == 2


@pytest.mark.parametrize(
    "message, said",
    [
        ({"type": "nothing"}, "no message of type 'nothing'"),
        ({"type": ["a"]}, "no message of type ['a']"),
        ({}, "no message"),
        ({"type": "plane", "layer": "image", "axis": 0, "index": 6}, "no slice 6"),
        ({"type": "plane", "layer": "image", "axis": 0, "index": "3"}, "index must be an integer"),
        ({"type": "plane", "layer": "image", "axis": 0, "index": True}, "index must be an int"),
        ({"type": "plane", "layer": "/etc/passwd", "axis": 0, "index": 1}, "no layer"),
        ({"type": "stroke", "axis": 0, "index": 1, "value": 1, "radius_nm": 1}, "pairs of numbers"),
        ({"type": "stroke", "axis": 0, "index": 1, "value": 1, "points": [[1, 1]]}, "in nm"),
        (
            {"type": "stroke", "axis": 0, "index": 1, "value": 9, "points": [], "radius_nm": 1},
            "no label 9",
        ),
        ({"type": "fill", "axis": 0, "index": 1, "value": 1, "point": None}, "pairs of numbers"),
        ({"type": "line", "axis": 0, "index": 1, "value": 1, "points": [[1, 1]]}, "in nm"),
        ({"type": "paste", "axis": 0, "index": 1}, "no prediction"),
        ({"type": "add_class"}, "needs a name"),
        ({"type": "stroke", "axis": 0, "index": 1, "value": 1, "radius_nm": float("nan")}, "in nm"),
    ],
)
def test_a_wrong_message_is_answered_by_one_line(session, message, said):
    told = []
    session.connect(lambda *answer: told.append(answer))(message)
    ((answer, data),) = told
    assert answer["type"] == "error" and said in answer["text"] and data is None
    assert session.painting.slices() == {}


def test_what_is_no_message_is_answered_too(session):
    told = []
    receive = session.connect(lambda *answer: told.append(answer))
    for message in (None, 3, [], "plane"):
        receive(message)
    assert [answer["type"] for answer, _ in told] == ["error"] * 4


def test_a_session_that_shows_cannot_be_painted_on(tomogram):
    labels = np.zeros(SHAPE, np.int16)
    labels[3, 4, 5] = 2
    maps = [np.full(SHAPE, 0.5, np.float16), np.zeros(SHAPE, np.float32)]
    classes = ("background", "a", "b")
    session = view.Session(tomogram, classes, labels=labels, probabilities=maps)
    page = Page(session)
    state = page("hello")[0][0]
    assert not state["editable"] and "annotated" not in state
    assert state["layers"] == ["image", "labels", "probability:1", "probability:2"]
    data = page("plane", layer="labels", axis=0, index=3)[0][1]
    assert np.frombuffer(data, np.uint8).reshape(20, 24)[4, 5] == 2
    assert set(page("plane", layer="probability:1", axis=1, index=3)[0][1]) == {128}
    assert page("stroke", axis=0, index=1)[0][0]["type"] == "error"
    with pytest.raises(ValueError, match="annotate it"):
        session.example()


def test_a_prediction_can_be_copied(session):
    class Known:
        def plane(self, axis, index):
            return None if index else np.full((20, 24), 1, np.uint8)

    session.layers["prediction"] = Known()
    page = Page(session)
    assert "no prediction yet" in page("paste", axis=0, index=1)[0][0]["text"]
    assert page("paste", axis=0, index=0)[0][0]["counts"] == [0, 480]


def test_a_page_is_there_without_slow_libraries():
    """They take seconds to load, and nothing needs them before the first stroke."""
    pytest.importorskip("uvicorn")
    code = "import sys; from cryojax_seg import view; view.annotation_session, view.serving; "
    code += "print({'jax', 'scipy', 'skimage', 'matplotlib'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
