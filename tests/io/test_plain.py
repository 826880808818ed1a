"""JSON and YAML of strangers: the right values, or one short line that names the file."""

import os
import tracemalloc

import pytest

from cryojax_seg.io import FileError, read_json, read_json_object, read_points, read_yaml
from cryojax_seg.text import shortened, shown

DEEP = "[" * 100_000


def nested(levels, start="x"):
    """Anchors that stand for ``10**levels`` values in some hundred bytes."""
    lines = [f"a0: &a0 [{', '.join([start] * 10)}]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


def refusal(call, path):
    with pytest.raises(FileError) as caught:
        call(path)
    message = str(caught.value)
    assert str(path) in message and len(message) <= 500 and "\n" not in message
    return message


def test_values(put):
    content = '\ufeff{"a": [1, {"b": null}], "c": "é"}'.encode()
    assert read_json(put("a.json", content)) == {"a": [1, {"b": None}], "c": "é"}
    text = "\ufeffqueue: gpu\nlist: &l [1, 2]\nagain: *l\n".encode()
    assert read_yaml(put("a.yaml", text)) == {"queue": "gpu", "list": [1, 2], "again": [1, 2]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (DEEP.encode(), "nested more than 64"),
        (("[" * 65 + "]" * 65).encode(), "nested more than 64"),
        (b'{"a": ' * 100_000, "nested more than 64"),
        (b"{", "is not JSON"),
        (b"", "is empty"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"9" * 5000, "is not JSON"),
        (b"[1, 2]\0", "is not JSON"),
    ],
)
def test_json_that_is_refused(put, content, words):
    assert words in refusal(read_json, put("a.json", content))


@pytest.mark.parametrize("content", [b"[]", b"5", b"null", b'"' + b"x" * 10_000 + b'"'])
def test_json_that_is_no_object(put, content):
    assert "where a JSON object is needed" in refusal(read_json_object, put("a.json", content))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (DEEP, "nested more than 64"),
        ("\n".join("  " * i + f"k{i}:" for i in range(200)), "nested more than 64"),
        ("a: &a [*a]", "not plain YAML"),
        (nested(9), "anchors repeat too much"),
        ("a: !!python/object/apply:os.system [ls]", "is not plain YAML"),
        ("a: !!int ''", "is not plain YAML"),
        ("a: 2026-13-45", "is not plain YAML"),
        ("a: 0x" + "f" * 5000, "too many digits"),
        ("a: " + "9" * 5000, "is not plain YAML"),
        ("a: \x01", "is not plain YAML"),
        ("a: [1, 2", "is not plain YAML"),
    ],
)
def test_yaml_that_is_refused(put, content, words):
    assert words in refusal(read_yaml, put("a.yaml", content.encode()))


def test_too_large_is_not_read(put):
    path = put("a.json", b"")
    os.truncate(path, 2**33)  # holds no blocks on disk
    tracemalloc.start()
    try:
        for call in (read_json, read_yaml, read_points):
            assert "is larger than" in refusal(call, path)
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "dangling", "absent", "long", "null"])
def test_what_is_no_file_is_never_opened(tmp_path, kind):
    path = tmp_path / {"long": "x" * 300, "null": "a\0b"}.get(kind, "a.json")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("loop", "dangling"):
        path.symlink_to(path if kind == "loop" else tmp_path / "nothing")
    with pytest.raises(FileError) as caught:
        read_json(path)
    wanted = {
        "pipe": "is a pipe",
        "folder": "is a folder",
        "loop": "a link that leads nowhere",
        "dangling": "a link that leads nowhere",
        "null": "is not the name of a file",
    }.get(kind, "no such file")
    assert wanted in str(caught.value)
    assert shortened(path) in str(caught.value)


def test_points(put):
    for name, content, words in (
        ("deep", DEEP.encode(), "nested"),
        ("huge", b"[[" + b"9" * 400 + b", 1, 2]]", "coordinates must be numbers"),
        ("wide", b"z,y,x\n1,2," + b'"' + b"3" * 200_000 + b'"', "no coordinates"),
    ):
        assert words in refusal(read_points, put(name, content))


def test_shortened():
    assert shortened("as it is") == "as it is"
    assert shortened("\ufeffa\r\nb\x1b[31m\udc80") == "\\ufeffa b\\x1b[31m\\udc80"
    long = shortened("a.mrc: " + "x" * 10**7 + " the remedy")
    assert len(long) == 500 and long.startswith("a.mrc: xx") and long.endswith("x the remedy")
    assert len(shortened("\x00" * 600)) == 500


def test_a_value_that_would_fill_the_memory_is_shown_in_a_few_characters():
    value: list = ["x"] * 10
    for _ in range(12):
        value = [value] * 10
    cycle: list = []
    cycle.append(cycle)
    assert len(shown(value)) <= 100 and shown(cycle) == "[[[[...]]]]"
    assert shown("x" * 10**6) == f"'{'x' * 37}...{'x' * 38}'"
    assert shown(1 << 10**6) == "a long int"
