"""Read and write STAR files, tables of words, without losing anything."""

import re
from collections.abc import Mapping
from pathlib import Path

from cryojax_seg.core.particles import Table
from cryojax_seg.io.files import FileError, PathLike, atomic_write, existing_file
from cryojax_seg.io.text import read_text
from cryojax_seg.text import shortened, shown

_START = re.compile(r"\S")
_PLAIN = re.compile(r"\S+")
_CLOSING = {mark: re.compile(mark + r"(?=\s|$)") for mark in "'\""}  # a quote before a space


def _words(line: str) -> list[str]:
    """Return the words of a line up to a comment; quotes enclose a word with spaces."""
    if not any(mark in line for mark in "'\"#"):
        return line.split()
    # An opening quote after the last closing one encloses nothing. To know that beforehand keeps
    # the time linear in the length of the line.
    last = {
        mark: max((m.start() for m in c.finditer(line)), default=-1) for mark, c in _CLOSING.items()
    }
    found, place = [], 0
    while start := _START.search(line, place):
        first, mark = start.start(), start[0]
        if mark == "#":
            break
        closing = _CLOSING[mark].search(line, first + 1) if last.get(mark, -1) > first else None
        if closing:
            found.append(line[first + 1 : closing.start()])
            place = closing.end()
        else:
            word = _PLAIN.match(line, first)
            assert word is not None
            found.append(word[0])
            place = word.end()
    return found


def read_star(path: PathLike) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the tables of a STAR file by the names of their blocks; pairs make one row.

    Words are kept as they are written. Of the grammar (Hall 1991, J. Chem. Inf. Comput. Sci.
    31:326) what cryo-EM programs use is read: blocks, loops, pairs, quotes and comments.

    Raises:
        FileError: naming the file and the line that does not fit.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.star"
    >>> _ = path.write_text("data_p\\nloop_\\n_rlnA #1\\n_rlnB #2\\n1 'a b' # note\\n2 c\\n")
    >>> read_star(path)
    {'p': {'rlnA': ('1', '2'), 'rlnB': ('a b', 'c')}}
    """
    path = existing_file(path)
    text = read_text(path, "a STAR file")
    blocks: dict[str, dict[str, list[str]]] = {}
    block: dict[str, list[str]] = {}
    labels: list[str] = []  # of the loop that is being read
    looping = False
    for number, line in enumerate(text.split("\n"), 1):
        words = _words(line)
        where = f"{path}: line {number}"
        if not words:
            continue
        if line.startswith(";"):
            raise FileError(f"{where}: text over several lines is not read; put it in quotes")
        first = words[0] if line.lstrip()[0] not in "'\"" else ""  # what is quoted is a value
        if first.startswith("data_"):
            block = blocks.setdefault(first[5:], {})
            labels, looping = [], False
        elif not blocks:
            raise FileError(f"{where}: not a STAR file: it does not begin with a data_ block")
        elif first == "loop_":
            labels, looping = [], True
        elif first.startswith("_") and not (looping and labels and block[labels[0]]):
            label = first[1:]
            if label in block:
                raise FileError(
                    f"{where}: the label _{shortened(label, 60)} occurs twice in its block"
                )
            if looping:
                labels.append(label)
                block[label] = []
            elif len(words) == 2:
                block[label] = [words[1]]
            else:
                name = shortened(label, 60)
                raise FileError(f"{where}: _{name} needs one value (quote what has spaces)")
        else:
            if len(words) != len(labels):
                raise FileError(f"{where}: {len(words)} values for {len(labels)} columns")
            for label, word in zip(labels, words, strict=True):
                block[label].append(word)
    if not blocks:
        raise FileError(f"{path}: not a STAR file: it holds no data_ block")
    return {name: {k: tuple(v) for k, v in table.items()} for name, table in blocks.items()}


def quoted(word: str) -> str:
    """Return a word as STAR writes it, quoted if it is empty, has spaces or looks like syntax.

    >>> quoted("a"), quoted("a b"), quoted("#1")
    ('a', '"a b"', '"#1"')
    """
    plain = re.fullmatch(r"[^\s'\"#_;]\S*", word) and not re.match(r"data_|loop_$", word)
    if plain:
        return word
    for mark in "\"'":
        if "\n" not in word and not re.search(mark + r"\s", word):
            return f"{mark}{word}{mark}"
    raise ValueError(f"{shown(word, 60)} cannot be written to a STAR file; change it")


def write_star(path: PathLike, blocks: Mapping[str, Table], overwrite: bool = False) -> None:
    """Write tables as loops, completely or not at all.

    Args:
        path: the file.
        blocks: for each block its columns of words, all of one length.
        overwrite: replace an existing file.

    Raises:
        ValueError: for columns of unequal length, or a word that STAR cannot hold.
        FileError: if the file exists.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "a.star"
    >>> write_star(file, {"particles": {"rlnCoordinateX": ("1.5", "2")}})
    >>> read_star(file)["particles"]["rlnCoordinateX"]
    ('1.5', '2')
    """
    lines = ["# version 30001"]  # RELION takes tables without it for those of its version 3.0
    for name, table in blocks.items():
        lines += ["", f"data_{name}", "", "loop_"]
        labels = ["_".join(label.split()) for label in table]  # a space would end the label
        lines += [f"_{label} #{i + 1}" for i, label in enumerate(labels)]
        rows = zip(*table.values(), strict=True)
        lines += [" ".join(quoted(word) for word in row) for row in rows]
        lines += [""]
    with atomic_write(Path(path), overwrite) as file:
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
