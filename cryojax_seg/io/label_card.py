"""Write into a label volume what its labels mean and which model made them, and read it again."""

import contextlib
import dataclasses
import gzip
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np

from cryojax_seg.io.files import FileError, PathLike

if TYPE_CHECKING:
    from cryojax_seg.measure import Kind

_log = logging.getLogger("cryojax_seg.io")
_LINES, _WIDTH = 9, 80  # of the text in an MRC header, after the first line
_PLAIN = "".join(c for c in map(chr, range(32, 127)) if c not in "%;()=")
_KINDS = ("membrane", "organelle", "filament", "complex")  # `measure.KINDS`, without JAX
_KEYS = ("classes", "thresholds", "model")
_DIGEST = 16  # hexadecimal digits of a digest that are kept
_CLASS = re.compile(r"(\d{1,3})=([^;()=]+?)(?: \((\w+)\))?")


@dataclasses.dataclass(frozen=True)
class LabelCard:
    """Says what the labels of a volume mean, and which model made them.

    Attributes:
        classes: names of the labels 1, 2, ... in order.
        kinds: how the objects of each class are measured, one of `measure.KINDS`, or None; empty if
            it is not known.
        thresholds: probability above which a voxel has each label; empty if it is not known.
        model: the name of the model; empty if there is none.
        digest: the first 16 digits of its `inference.Model.digest`.

    >>> card = LabelCard(("ER membrane", "actin"), ("membrane", "filament"), model="cell")
    >>> card.entries()
    {'classes': '1=ER membrane (membrane); 2=actin (filament)', 'model': 'cell'}
    """

    classes: tuple[str, ...]
    kinds: tuple["Kind | None", ...] = ()
    thresholds: tuple[float, ...] = ()
    model: str = ""
    digest: str = ""

    def entries(self) -> dict[str, str]:
        """Return the content as texts of ASCII by key, for the header of a file."""
        kinds = self.kinds or (None,) * len(self.classes)
        words = [
            f"{label}={quote(name, safe=_PLAIN)}" + (f" ({kind})" if kind else "")
            for label, (name, kind) in enumerate(zip(self.classes, kinds, strict=True), 1)
        ]
        found = {
            "classes": "; ".join(words),
            "thresholds": " ".join(f"{value:g}" for value in self.thresholds),
            "model": f"{quote(self.model, safe=_PLAIN)} {self.digest[:_DIGEST]}".strip(),
        }
        return {key: text for key, text in found.items() if text}

    def lines(self) -> list[str]:
        """Return the content as lines for the header of an MRC file, at most nine of 80 characters.

        What goes on in the next line is indented there. If there is no room for all, kinds are left
        out first, then thresholds, then the names, as half of them would mislead.
        """
        shorter = dataclasses.replace(self, kinds=())
        for card in (self, shorter, dataclasses.replace(shorter, thresholds=())):
            found = [line for key, text in card.entries().items() for line in _wrapped(key, text)]
            if len(found) <= _LINES:
                return found
        return _wrapped("model", self.entries().get("model", ""))[:_LINES]

    @staticmethod
    def parsed(entries: Mapping[str, str]) -> "LabelCard | None":
        """Return the card of such texts; None if they name no labels from 1 on without a gap.

        >>> LabelCard.parsed({"classes": "1=mito; 2=ER membrane (membrane)"}).kinds
        (None, 'membrane')
        """
        found = [_CLASS.fullmatch(word) for word in entries.get("classes", "").split("; ")]
        parts = [match.groups() for match in found if match]
        if len(parts) < len(found) or [int(n) for n, *_ in parts] != [*range(1, len(parts) + 1)]:
            return None
        kinds: Any = tuple(kind if kind in _KINDS else None for *_, kind in parts)
        name, digest = _split_model(entries.get("model", ""))
        thresholds: tuple[float, ...] = ()
        with contextlib.suppress(ValueError):
            thresholds = tuple(map(float, entries.get("thresholds", "").split()))
        names = tuple(unquote(name) for _, name, _ in parts)
        return LabelCard(
            names,
            kinds if any(kinds) else (),
            thresholds if len(thresholds) == len(parts) else (),
            unquote(name),
            digest,
        )


def read_label_card(path: PathLike) -> LabelCard | None:
    """Return what a label volume says about its labels, or None if it says nothing that is whole.

    MRC files have it in the lines of their header, NIfTI in an extension, NRRD in its pairs, and
    OME-Zarr in ``image-label``, as other programs do. The voxels are not read.

    >>> import tempfile
    >>> from cryojax_seg.io import write_mrc
    >>> file = Path(tempfile.mkdtemp()) / "labels.mrc"
    >>> labels = np.zeros((2, 2, 2), np.int8)
    >>> write_mrc(file, labels, voxel_size=10.0, card=LabelCard(("membrane",), thresholds=(0.6,)))
    >>> read_label_card(file)
    LabelCard(classes=('membrane',), kinds=(), thresholds=(0.6,), model='', digest='')
    """
    path = Path(path)
    try:
        entries = _of_zarr(path) if path.is_dir() else _of_file(path)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):
        return None  # whoever reads the voxels says what is wrong with the file
    return LabelCard.parsed(entries)


def stated_names(path: PathLike, given: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of the labels 1, 2, ... of a volume: as given, or else as its file says.

    Where both are there and differ, a message says so.

    >>> stated_names("no such file", ("actin",)), stated_names("no such file")
    (('actin',), ())
    """
    card, given = read_label_card(path), tuple(given)
    if card is None:
        return given
    if given and given != card.classes:
        _log.info(
            f"{path}: calls its labels {', '.join(card.classes)}; the given names replace them: "
            f"{', '.join(given)}"
        )
    return given or card.classes


def shared_names(paths: Sequence[PathLike], count: int) -> tuple[str, ...]:
    """Return the names of so many labels if every label file states some; else none.

    Args:
        paths: of label files.
        count: of the labels 1, 2, ...

    Raises:
        FileError: naming two files that give a label different names.

    >>> shared_names(["no such file"], 2)
    ()
    """
    stated = {path: stated_names(path)[:count] for path in paths}
    for number in range(count):
        seen = {names[number]: path for path, names in stated.items() if number < len(names)}
        if len(seen) > 1:
            (one, first), (other, second), *_ = seen.items()
            raise FileError(
                f"label {number + 1} is {one} in {first} and {other} in {second}; number the "
                "classes alike in all files, or say what the labels are if they mean the same",
                "classes",
            )
    names = max(stated.values(), key=len)
    return names if all(stated.values()) and len(names) == count else ()


def _wrapped(key: str, text: str) -> list[str]:
    """Return ``key: text`` in lines that do not end in a space, indented from the second one on."""
    rest, found = f"{key}: {text}", []
    while rest:
        width = _WIDTH - 2 * bool(found)
        while width < len(rest) and rest[width - 1] == " ":
            width -= 1
        found.append("  " * bool(found) + rest[:width])
        rest = rest[width:]
    return found


def _joined(lines: Iterable[str]) -> dict[str, str]:
    """Return the entries of lines as `_wrapped` writes them, among others."""
    entries: dict[str, str] = {}
    last = None
    for line in lines:
        key, colon, text = line.partition(": ")
        if colon and key in _KEYS:
            entries[key], last = text, key
        elif line.startswith("  ") and last:
            entries[last] += line[2:]
        else:
            last = None
    return entries


def _split_model(text: str) -> tuple[str, str]:
    """Return the name of a model and its digest."""
    match = re.fullmatch(r"(.*?) ?([0-9a-f]{16})?", text)
    return (match[1], match[2] or "") if match else (text, "")


def _of_file(path: Path) -> dict[str, str]:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else open(path, "rb") as file:
        start = file.read(2**16)
    if start.startswith(b"NRRD"):
        pairs = (line.partition(":=") for line in start.split(b"\n\n")[0].decode().splitlines())
        return {key: text for key, _, text in pairs if key in _KEYS}
    if start[344:348] == b"n+1\0" and start[348:349] == b"\x01":
        size, code = np.frombuffer(start[352:360], "<i4")
        return _joined(_text(start[360 : 352 + int(size)]).splitlines()) if code == 6 else {}
    if start[208:211] != b"MAP":
        return {}
    lines = [_text(start[at : at + 80]).rstrip() for at in range(224, 1024, 80)]
    return _joined(lines)


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0 ").decode("ascii", "replace")


def _of_zarr(folder: Path) -> dict[str, str]:
    """Return the entries of OME-Zarr, in either version, also of other programs."""
    from cryojax_seg.io.ome import metadata_file
    from cryojax_seg.io.plain import read_json

    file = metadata_file(folder)
    if file is None:
        return {}
    content: Any = read_json(file)
    if file.name == "zarr.json":
        content = content["attributes"]["ome"]
    entry = content["image-label"]
    names = {int(p["label-value"]): p for p in entry["properties"] if p.get("name")}
    names.pop(0, None)
    kinds = [f" ({p['kind']})" if "kind" in p else "" for _, p in sorted(names.items())]
    words = [f"{n}={quote(str(p['name']), safe=_PLAIN)}" for n, p in sorted(names.items())]
    found = {"classes": "; ".join(a + b for a, b in zip(words, kinds, strict=True))}
    stated = content["multiscales"][0].get("metadata", {}).get("labels", {})
    return found | {key: str(stated[key]) for key in ("thresholds", "model") if key in stated}


def nifti_extension(card: LabelCard | None) -> bytes:
    """Return the bytes of a comment that follow the 348 of a NIfTI header; 4 without a card.

    >>> len(nifti_extension(None)), len(nifti_extension(LabelCard(("actin",)))) % 16
    (4, 4)
    """
    if card is None:
        return bytes(4)
    text = "\n".join(f"{key}: {value}" for key, value in card.entries().items()).encode()
    size = -(-(8 + len(text)) // 16) * 16
    return b"\x01\0\0\0" + np.array([size, 6], "<i4").tobytes() + text.ljust(size - 8, b"\0")
