"""STAR syntax: what programs write is read, what is written is complete or absent."""

import pytest

from cryojax_seg import io

TEXT = """
# version 30001

data_general

_rlnIsTomo   1   # a pair
_rlnName     "with a space"

data_particles

loop_
_rlnCoordinateX #1
_rlnMicrographName #2
_rlnNote #3
1.25 a/b.mrc it's
 -3e2 'a # b' ""
"""


def test_pairs_loops_quotes_and_comments(tmp_path):
    path = tmp_path / "p.star"
    path.write_text(TEXT)
    blocks = io.read_star(path)
    assert blocks["general"] == {"rlnIsTomo": ("1",), "rlnName": ("with a space",)}
    assert blocks["particles"] == {
        "rlnCoordinateX": ("1.25", "-3e2"),
        "rlnMicrographName": ("a/b.mrc", "a # b"),
        "rlnNote": ("it's", ""),
    }
    again = tmp_path / "again.star"
    io.write_star(again, blocks)
    assert io.read_star(again) == blocks
    with pytest.raises(io.FileError, match="exists"):
        io.write_star(again, blocks)


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("loop_\n_a\n1\n", "line 1: not a STAR file"),
        ("\n# nothing\n", "no data_ block"),
        ("data_\nloop_\n_a #1\n_b #2\n1 2\n3\n", "line 6: 1 values for 2 columns"),
        ("data_\nloop_\n_a\n_a\n", "line 4: the label _a occurs twice"),
        ("data_\n_a 1 2\n", "line 2: _a needs one value"),
        ("data_\n_a\n;text\n;\n", "needs one value"),
        ("data_\nloop_\n_a\n;text\n", "line 4: text over several lines"),
    ],
)
def test_what_does_not_fit_is_named_with_its_line(tmp_path, text, complaint):
    path = tmp_path / "p.star"
    path.write_text(text)
    with pytest.raises(io.FileError, match=complaint):
        io.read_star(path)
    assert issubclass(io.FileError, ValueError)


def test_quotes_that_never_close_are_letters_of_their_words(tmp_path):
    """Also very many of them: they were read in a time that grew with the square of the line."""
    line = "'a \"b " * 30_000
    (tmp_path / "p.star").write_text(f"data_\nloop_\n_a\n_b\n'x y' 'z\n{line}\n")
    with pytest.raises(io.FileError, match="line 6: 60000 values for 2 columns"):
        io.read_star(tmp_path / "p.star")
    (tmp_path / "q.star").write_text("data_\nloop_\n_a\n_b\n_c\n'x y' \"it's\" 'z\n")
    assert io.read_star(tmp_path / "q.star")[""] == {"a": ("x y",), "b": ("it's",), "c": ("'z",)}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_text_of_other_programs_is_decoded(tmp_path, encoding):
    path = tmp_path / "p.star"
    path.write_bytes("data_\r\n_rlnMicrographName Zürich…\r\n".encode(encoding))
    assert io.read_star(path) == {"": {"rlnMicrographName": ("Zürich…",)}}


def test_what_is_no_text_is_refused_and_long_words_are_cut(tmp_path):
    (tmp_path / "p.star").write_bytes(b"data_\0\1\2")
    with pytest.raises(io.FileError, match="p.star: is not text, so not a STAR file"):
        io.read_star(tmp_path / "p.star")
    text = "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n1 2 " + "w" * 10**6
    (tmp_path / "q.star").write_text(text)
    with pytest.raises(io.FileError, match="not a number") as refusal:
        io.read_particles(tmp_path / "q.star")
    assert len(str(refusal.value)) < 500


def test_words_that_need_quotes_come_back(tmp_path):
    words = ("", "a b", "_x", "#1", "data_x", "loop_", "it's", '"', "' \"x", ";", "a'b c")
    io.write_star(tmp_path / "p.star", {"": {"label": words}})
    assert io.read_star(tmp_path / "p.star") == {"": {"label": words}}
    for word in ("a\nb", "' \" x"):
        with pytest.raises(ValueError, match="cannot be written"):
            io.write_star(tmp_path / "q.star", {"": {"label": (word,)}})
