"""The page answers the browser that has its link, and nobody else."""

import signal
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from cryojax_seg import io, view
from cryojax_seg.core import Tomogram
from cryojax_seg.view.frames import unpacked

connect = pytest.importorskip("websockets.sync.client").connect


def get(address, method="GET", **headers):
    """Status, headers and text of a request."""
    request = urllib.request.Request(address, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


@pytest.fixture(scope="module")
def served(serve):
    return serve("labels.mrc", "--classes", "membrane")


@pytest.fixture(scope="module")
def cookie(served):
    status, headers, text = get(served.links[0])
    assert status == 200 and "front.js" in text
    return headers["Set-Cookie"].split(";")[0]


def test_the_link_works_once(served, cookie):
    status, _, text = get(served.links[0])
    assert status == 403 and "used already" in text
    assert get(served.address)[0] == 403
    assert get(served.address, Cookie=cookie)[0] == 200  # so it can be loaded again
    for _ in range(100):
        if len(served.links) > 1:
            break
        time.sleep(0.05)
    assert served.links[1] != served.links[0]
    status, headers, _ = get(served.links[1])  # a second browser
    assert status == 200 and headers["Set-Cookie"].split(";")[0] == cookie
    flags = headers["Set-Cookie"].lower()
    assert "httponly" in flags and "samesite=strict" in flags


def test_the_page_fetches_nothing_from_elsewhere(served, cookie):
    _, headers, _ = get(served.address, Cookie=cookie)
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "unsafe" not in policy and "http:" not in policy
    script = get(f"{served.address}/front.js", Cookie=cookie)[2]
    assert "http:" not in script.replace('"http://www.w3.org', "") and "https://" not in script


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},  # a name that an attacker lets point to this machine
        {"Host": "127.0.0.1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
    ],
)
def test_other_hosts_and_origins_are_refused(served, cookie, headers):
    for path in ("/", "/front.js"):
        assert get(served.address + path, Cookie=cookie, **headers)[0] == 403
    assert get(served.links[-1], **headers)[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "/labels.mrc",
        "/cell.mrc",
        "/../labels.mrc",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/front.js/../page.py",
        "/view/page.py",
        "/?file=/etc/passwd&token=x",
    ],
)
def test_no_path_reaches_a_file(served, cookie, path):
    status, _, text = get(served.address + path, Cookie=cookie)
    assert status == 404 or (status == 200 and text.startswith("<!doctype html>"))
    assert "root:" not in text and "import " not in text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_reading_is_allowed(served, cookie, method):
    status, headers, _ = get(served.address, method, Cookie=cookie)
    assert status == 405 and headers["Access-Control-Allow-Origin"] is None


@pytest.mark.parametrize(
    "origin, with_cookie",
    [("http://evil.example", True), (None, True), ("own", False), ("null", True)],
)
def test_messages_need_cookie_and_origin(served, cookie, origin, with_cookie):
    origin = served.address if origin == "own" else origin
    headers = {"Cookie": cookie} if with_cookie else {}
    with pytest.raises(Exception, match="403"):
        connect(messages(served), origin=origin, additional_headers=headers)


def messages(served):
    return served.address.replace("http:", "ws:") + "/messages"


def ask(channel, text):
    """Send a text and return the message and the bytes that come back."""
    channel.send(text)
    frame = channel.recv(30)
    if isinstance(frame, str):
        return unpacked(frame), None
    length = int.from_bytes(frame[:4], "big")
    return unpacked(frame[4 : 4 + length].decode()), frame[4 + length :]


def test_messages_paint_and_survive_nonsense(served, cookie, tomogram_file, volume):
    headers = {"Cookie": cookie}
    with connect(messages(served), origin=served.address, additional_headers=headers) as channel:
        state, _ = ask(channel, '{"type": "hello"}')
        assert state["shape"] == list(volume[0].shape) and state["names"][1] == "membrane"
        told, data = ask(channel, '{"type": "plane", "layer": "image", "axis": 0, "index": 6}')
        image = np.frombuffer(data, np.uint8).reshape(volume[0].shape[1:])
        assert image[volume[1][6]].mean() < image[~volume[1][6]].mean() - 50
        for text in ("", "{", "[[[[", '{"type": 1e999}', "null", '{"type": "plane"}', "[" * 10**5):
            assert ask(channel, text)[0]["type"] == "error"
        stroke = '{"type": "stroke", "axis": 0, "index": 6, "value": 1, "radius_nm": 2, "points":'
        # Both orders are right, since the labels are written by another thread.
        told = [ask(channel, stroke + " [[30, 30]]}")[0], unpacked(channel.recv(30))]
        assert {"type": "saved", "requested": 1, "written": 1, "problem": ""} in told
        (changed,) = (message for message in told if message["type"] == "changed")
        assert changed["saved"]["requested"] == 1
    with connect(messages(served), origin=served.address, additional_headers=headers) as channel:
        channel.send(b"bytes are no message")  # only this connection ends
        with pytest.raises(Exception):  # noqa: B017  # of the library
            channel.recv(30)
    found = io.read_labels(tomogram_file.with_name("labels.mrc"))
    assert found.labels.sum() == 13 and found.slices == (6,)


def test_nothing_waits_for_a_slice_that_is_read_slowly():
    session = view.Session(Tomogram(np.zeros((4, 5, 6), np.float32), (10.0, 10.0, 10.0)))
    layer, ready = session.layers["image"], threading.Event()

    class Slow:
        def plane(self, axis, index):
            assert axis != 2 or ready.wait(30)
            return layer.plane(axis, index)

    session.layers["image"] = Slow()
    with view.serving(session) as link:
        _, headers, _ = get(link)
        address, cookie = link.partition("/?")[0], headers["Set-Cookie"].split(";")[0]
        with connect(
            address.replace("http:", "ws:") + "/messages",
            origin=address,
            additional_headers={"Cookie": cookie},
        ) as channel:
            asked = '{"type": "plane", "layer": "image", "axis": %d, "index": 1}'
            channel.send(asked % 2)
            assert ask(channel, asked % 0)[0]["axis"] == 0
            assert ask(channel, '{"type": "hello"}')[0]["type"] == "state"
            ready.set()
            frame = channel.recv(30)
            assert b'"axis": 2' in frame and len(frame) > 20


def test_a_second_command_is_told_who_holds_the_labels(served, serve):
    other = serve("labels.mrc")
    assert other.process.wait(60) == 2
    time.sleep(0.2)
    assert f"pid {served.process.pid}" in other.said[0] and other.links == []


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 0), (signal.SIGTERM, 0)])
def test_a_signal_ends_it_in_good_order(serve, tomogram_file, number, status):
    served = serve("others.mrc")
    assert served.end(number) == status
    time.sleep(0.2)
    assert served.said[-1] == "nothing was painted"
    assert not list(tomogram_file.parent.glob("*others*"))


@pytest.mark.filterwarnings("ignore:.*voxel size unknown")
def test_mistakes_get_one_line(run_main, tomogram_file, write):
    labels = tomogram_file.with_name("x.mrc")
    other = write("other.mrc", np.zeros((3, 4, 5), np.int8))
    for words, said in (
        ((tomogram_file, "-o", other), "has shape (3, 4, 5)"),
        ((tomogram_file, "-o", tomogram_file), "is the input itself"),
        ((tomogram_file, "-o", labels, "--port", "99999"), "a port is a number"),
        ((tomogram_file, "-o", labels, "--classes", "a", "a"), "must differ"),
        ((write("none.mrc", np.zeros((3, 4, 5), np.float32), None), "-o", labels), "voxel size"),
    ):
        status, error = run_main("annotate", *words)
        assert status == 2 and said in error.splitlines()[-1], error
    assert not labels.exists()


@pytest.fixture
def run_main(capsys):
    from cryojax_seg.cli import main

    def call(*words):
        status = main([str(word) for word in words])
        return status, capsys.readouterr().err

    return call
