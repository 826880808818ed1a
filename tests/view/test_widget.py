"""The widget of a notebook carries the same messages as the page."""

import numpy as np
import pytest

from cryojax_seg import io, view

pytest.importorskip("anywidget")

SHAPE = (6, 20, 24)


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def carried(widget, monkeypatch):
    """What the widget sends to its page."""
    sent = []
    monkeypatch.setattr(type(widget), "send", lambda self, *a: sent.append(a), raising=False)
    return sent


def receive(widget, **message):
    widget._handle_custom_msg(message, [])


def test_messages_travel_both_ways(noise, monkeypatch):
    widget = view.annotate(noise, ["membrane"], voxel_size=10.0, start=None)
    sent = carried(widget, monkeypatch)
    receive(widget, type="hello")
    assert sent[0][0]["shape"] == list(SHAPE) and sent[0][1] is None
    receive(widget, type="plane", layer="image", axis=0, index=3)
    message, (data,) = sent[1]
    assert message["layer"] == "image" and len(data) == 20 * 24
    receive(widget, type="stroke", axis=0, index=3, points=[[5, 5]], radius_nm=2, value=1)
    assert sent[2][0]["type"] == "changed"
    example = widget.example()
    assert int(example.weights.sum()) == 13 and example.labels[3, 5, 5] == 1


def test_the_page_is_a_module_for_widgets(noise):
    widget = view.show(noise)
    assert "export default" in str(widget._esm)
    assert widget.session.state()["voxel_nm"] is None


def test_probabilities_come_as_one_array_or_several(noise):
    maps = np.random.default_rng(1).random((*SHAPE, 2)).astype(np.float32)
    for given in (maps, [maps[..., 0], maps[..., 1]]):
        state = view.show(noise, None, given, ["a", "b"]).session.state()
        assert state["layers"] == ["image", "probability:1", "probability:2"]
        assert state["names"] == ["background", "a", "b"]
    assert view.show(noise, None, maps[..., 0]).session.state()["layers"][-1] == "probability:1"
    with pytest.raises(io.FileError, match="shape"):
        view.show(noise, noise[1:])


def test_running_a_cell_again_takes_the_labels_over(noise, tmp_path):
    path = tmp_path / "labels.mrc"
    first = view.annotate(noise, ["membrane"], path, voxel_size=10.0, start=None)
    receive(first, type="stroke", axis=0, index=3, points=[[5, 5]], radius_nm=2, value=1)
    again = view.annotate(noise, ["membrane"], path, voxel_size=10.0, start=None)
    assert again.session.painting.annotated() == (3,)
    with pytest.raises(io.BusyError):
        view.LabelFile(path, again.session.tomogram)
    assert again.close_session().complete
    view.LabelFile(path, again.session.tomogram).close()


@pytest.mark.parametrize("stored", [False, True])
def test_a_notebook_waits_for_what_is_learned(noise, tmp_path, stored):
    """Also from an OME-Zarr tomogram, with labels beside it."""
    noise[:, 8:14] -= 8  # dark
    labels = tmp_path / "labels.zarr" if stored else None
    if stored:
        io.write_zarr(tmp_path / "t.zarr", noise, voxel_size=10.0)
    widget = view.annotate(
        tmp_path / "t.zarr" if stored else noise, ["slab"], labels, voxel_size=10
    )
    for row, value in ((10, 1), (17, 0)):
        stroke = {"axis": 0, "index": 3, "points": [[row, 2], [row, 20]], "radius_nm": 1}
        receive(widget, type="stroke", value=value, **stroke)
    assert widget.wait(120)
    found = widget.prediction()
    assert (found[:, 8:14] == 1).mean() > 0.9 and (found[:, :6] == 1).mean() < 0.1
    assert widget.close_session().complete
    if stored:
        read = io.read_labels(labels, io.read_tomogram(tmp_path / "t.zarr"), ("slab",))
        assert int(read.weights.sum()) == 118 and int(read.labels.sum()) == 59
    silent = view.annotate(noise, ["slab"], voxel_size=10.0, start=None)
    assert not silent.wait(1) and not silent.prediction().any()
