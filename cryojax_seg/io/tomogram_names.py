"""Match names of tomograms in a table with files, whatever programs add to the names."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.text import shortened

# Columns that tell tomograms apart, without capitals and the signs between words.
_LABELS = (
    *("rlntomoname", "rlntomomicrographname", "rlnmicrographname", "wrptomoname", "wrpsourcename"),
    *("tomoname", "tomogramname", "tomo", "tomogram", "tomoid", "tomogramid", "tomonumber"),
    *("runname", "run", "runid", "micrographname", "micrograph", "tiltseriesname", "tiltseries"),
    *("tsname", "experiment"),
)
_ENDINGS = "mrcs? rec map st ali tiff? ome zarr gz bz2 tomostar em hdf h5 nii nrrd nhdr am npy"
_ENDINGS += " xml star doc"
_ENDING = re.compile(rf"(\.({'|'.join(_ENDINGS.split())}))+$", re.IGNORECASE)
_MAP = re.compile(r"\.[^.]+\.probability$")
_WORDS = re.compile(r"\d+\.\d+[^\W\d_]+|[^\W_]+")
# What programs write before or after a name: the kind of reconstruction, its binning and pixels.
_ADDED = re.compile(
    r"rec|reconstruction|vol|volume|full|tomo|tomogram|bin\d*|\d+\.\d+(apx|a|ang|angpix|px)|"
    r"\d+(apx|angpix)|evn|even|odd|denoised|deconv|corrected|filtered|filt|lowpass|lp|wbp|sirt|ali|"
    r"aligned|isonet|cryocare|ddw|labels|segmentation|segmented|mask|probability|scores|raw|flipped|"
    r"ctf|3dctf"
)


def name_column(labels: Iterable[str]) -> str | None:
    """Return the column with names of tomograms, or None if there is none.

    >>> name_column(["z", "Tomo Name"])
    'Tomo Name'
    """
    plain = {re.sub(r"[\s_-]", "", label).lower(): label for label in labels}
    return next((plain[label] for label in _LABELS if label in plain), None)


def tomogram_name(path: PathLike) -> str:
    """Return the name of a tomogram from that of its file or of its probability map.

    >>> tomogram_name("a/TS_01_10.00Apx.mrc"), tomogram_name("my cell.ribosome.probability.mrc")
    ('TS_01_10.00Apx', 'my_cell')
    >>> tomogram_name("TS_01.mrc.tomostar")
    'TS_01'
    """
    name = Path(path).name
    return re.sub(r"\s", "_", _MAP.sub("", _ENDING.sub("", name) or name))


def matching_names(tomogram: PathLike, names: Iterable[str]) -> list[str]:
    """Return the names that agree best with that of a tomogram.

    That is first the end of its path, then its name, then its name but for what programs add
    (``rec_TS_01``, ``TS_01_Vol``, ``TS_01_10.00Apx``), then the name of its folder. Numbers are
    never left out: ``TS_1`` is neither ``TS_10`` nor ``TS_01`` nor ``TS_1_2``.

    >>> matching_names("x/rec_TS_1.mrc", ["TS_1.tomostar", "TS_10.tomostar", "TS_1_2"])
    ['TS_1.tomostar']
    """
    distinct = sorted(set(names))
    parts, own = Path(tomogram).resolve().parts, tomogram_name(tomogram)
    plain = {name: tomogram_name(name) for name in distinct}

    def ends_path(name: str) -> bool:
        given = Path(name).parts
        return len(given) > 1 and parts[-len(given) :] == given

    kinds = (
        ends_path,
        lambda name: plain[name] == own,
        lambda name: plain[name].lower() == own.lower(),
        lambda name: _dressed(plain[name], own),
        lambda name: len(parts) > 1 and plain[name] == tomogram_name(parts[-2]),
    )
    for kind in kinds:
        found = [name for name in distinct if kind(name)]
        if found:
            return found
    return []


def rows_of(
    tomogram: PathLike, names: Sequence[str], label: str, name: str | None, path: Path
) -> tuple[list[int], str | None]:
    """Return the rows of a table that belong to a tomogram, and its name there.

    Args:
        tomogram: its file.
        names: one for each row.
        label: of the column.
        name: that of the tomogram in the table, where its file is called otherwise.
        path: of the table, for messages.

    Returns:
        the numbers of the rows; all, and None, if nothing tells tomograms apart.

    Raises:
        FileError: unless exactly one name of the table is that of the tomogram. A table of one
            tomogram is refused only where it names another of the series, as TS_2 is for TS_1.

    >>> rows_of("TS_1.mrc", ["TS_2", "TS_1"], "rlnTomoName", None, Path("p.star"))
    ([1], 'TS_1')
    """
    distinct = sorted(set(names))
    if name is None and (not distinct or (len(distinct) == 1 and _is_number(distinct[0]))):
        return list(range(len(names))), None  # one number says nothing of a file
    own = tomogram_name(tomogram)
    if name is None:
        found = matching_names(tomogram, distinct)
        if not found and len(distinct) == 1 and not _numbered_alike(distinct[0], own):
            found = distinct  # of one tomogram, and no other of the same series
    else:
        own = name
        found = [n for n in distinct if n == name] or [
            n for n in distinct if tomogram_name(n) == tomogram_name(name)
        ]
    if len(found) != 1:
        some = ", ".join(shortened(n, 40) for n in (found or distinct)[:5])
        count = len(found) or len(distinct)
        more = f" and {count - 5} more" if count > 5 else ""
        of = f"of {len(distinct)} tomogram{'s' * (len(distinct) > 1)}"
        which = (
            f"several of which may be {shortened(own, 60)}: {some}{more}"
            if found
            else f"none of which is called {shortened(own, 60)} ({some}{more})"
        )
        raise FileError(
            f"{path}: has particles {of}, {which}; give the name to take from its column {label}",
            "name",
        )
    return [row for row, n in enumerate(names) if n == found[0]], found[0]


def _is_number(name: str) -> bool:
    return re.fullmatch(r"[\d.]*", name) is not None


def _numbered_alike(first: str, second: str) -> bool:
    """Return whether names differ only in their numbers, as those of one series do."""
    words = [_WORDS.findall(tomogram_name(name).lower()) for name in (first, second)]
    letters = [re.sub(r"\d+", "", "".join(_core(own) or own)) for own in words]
    return letters[0] == letters[1]


def _dressed(first: str, second: str) -> bool:
    """Return whether two names are equal but for what programs add before and after them."""
    words = [_WORDS.findall(name.lower()) for name in (first, second)]
    short, long = sorted((_core(own) or own for own in words), key=len)
    if not short or (len(short) == 1 and _is_number(short[0])):
        return False
    for start in range(len(long) - len(short) + 1):
        rest = long[:start] + long[start + len(short) :]
        if long[start : start + len(short)] == short and all(map(_is_added, rest)):
            return True
    return False


def _core(words: list[str]) -> list[str]:
    """Return the words without those that programs add; empty if only a number is left."""
    start, end = 0, len(words)
    while start < end and _ADDED.fullmatch(words[start]):
        start += 1
    while start < end and _ADDED.fullmatch(words[end - 1]):
        end -= 1
    return [] if end - start == 1 and _is_number(words[start]) else words[start:end]


def _is_added(word: str) -> bool:
    """Return whether a word may be an addition to a name, made of letters, not a number."""
    return _ADDED.fullmatch(word) is not None or (word.isalpha() and len(word) > 1)
