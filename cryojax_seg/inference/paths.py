"""Expands patterns to files, names their outputs, and divides them into shards."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from cryojax_seg.errors import ParameterError

Item = TypeVar("Item")

VOLUMES = (".mrc", ".zarr", ".nii", ".nrrd")  # which are written part by part
_ENDINGS = (  # in the order in which they follow one another from the end of a name
    *(".gz", ".bz2", ".mrc", ".rec", ".map", ".st", ".tiff", ".tif", ".zarr", ".ome"),
    *(".nii", ".nrrd", ".nhdr", ".em", ".hdf", ".h5", ".am", ".npy"),
)


def expanded(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the paths, with the files that match in place of each pattern such as ``'*.mrc'``.

    Brackets in the name of an existing file or folder are taken literally.

    Raises:
        ValueError: for a pattern that nothing matches.

    >>> expanded([Path("a.mrc"), Path("b.mrc")])
    (PosixPath('a.mrc'), PosixPath('b.mrc'))
    """
    found: list[Path] = []
    for path in paths:
        if path.exists() or not glob.has_magic(str(path)):
            found.append(path)
            continue
        matches = _matches(Path(path.anchor), path.parts[bool(path.anchor) :])
        if not matches:
            raise ValueError(f"{path}: nothing matches this pattern")
        found += matches
    return tuple(found)


def _matches(folder: Path, parts: Sequence[str]) -> list[Path]:
    """Return the files below a folder that match a pattern; an existing part is taken literally."""
    if not parts:
        return [folder] if os.path.lexists(folder) else []
    first, *rest = parts
    written = os.path.lexists(folder / first) or not glob.has_magic(first)
    names = [first] if written else sorted(glob.glob(first, root_dir=folder))
    return [match for name in names for match in _matches(folder / name, rest)]


def stem(path: Path) -> str:
    """Return the name of a volume file without its endings.

    >>> stem(Path("a/TS_01.rec.gz"))
    'TS_01'
    """
    name = path.name
    for ending in _ENDINGS:
        name = name[: -len(ending)] if name.lower().endswith(ending) else name
    return name


def names(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return a unique name for each volume file, by which its outputs are named.

    A name is the stem of the file. For files of the same stem it is the name of the folder of each,
    with as many of the folders above as are needed to distinguish them.

    Raises:
        ValueError: for files that differ at most in their ending.

    >>> names([Path("p/a-0/tomogram.mrc"), Path("p/a-1/tomogram.mrc"), Path("b.mrc")])
    ('a-0', 'a-1', 'b')
    """
    stems = [stem(path) for path in paths]
    found = list(stems)
    for shared in {name for name in stems if stems.count(name) > 1}:
        alike = [i for i, name in enumerate(stems) if name == shared]
        folders = [Path(os.path.abspath(paths[i])).parent.parts[1:] for i in alike]
        for depth in range(1, max(map(len, folders), default=0) + 1):
            labels = ["_".join(parts[-depth:]) or shared for parts in folders]
            if len(set(labels)) == len(labels):
                break
        else:
            labels = [shared] * len(alike)
        if set(labels) & (set(stems) - {shared}):  # a folder may be called as another file
            labels = [f"{label}_{shared}" for label in labels]
        for i, label in zip(alike, labels, strict=True):
            found[i] = label
    twice = [paths[i] for i, name in enumerate(found) if found.count(name) > 1]
    if twice:
        raise ValueError(
            f"{twice[0]} and {twice[1]} have the same name; give each once, or one at a time"
        )
    return tuple(found)


def output_paths(sources: Sequence[Path], output: Path, ending: str) -> list[Path]:
    """Return the path of the output of each volume file.

    Args:
        sources: the volume files.
        output: a file that ends as one of `VOLUMES`, for one source; else a folder.
        ending: of the names in a folder, such as ``.labels.mrc``.

    Raises:
        ParameterError: for one file for several sources, or a file of another format.

    >>> output_paths([Path("a.mrc"), Path("b.rec")], Path("out"), ".labels.mrc")
    [PosixPath('out/a.labels.mrc'), PosixPath('out/b.labels.mrc')]
    """
    from cryojax_seg.io import is_zarr

    if output.suffix in VOLUMES and (not output.is_dir() or is_zarr(output)):
        if len(sources) > 1:
            raise ParameterError(
                f"{output}: is one file for {len(sources)} tomograms; name a folder", "output"
            )
        return [output]
    if output.name.endswith(".nii.gz"):
        raise ParameterError(
            f"{output}: is written part by part, so not compressed; name it .nii", "output"
        )
    if output.exists() and not output.is_dir():
        raise ParameterError(f"{output}: exists and is neither a folder nor an .mrc file", "output")
    return [output / f"{name}{ending}" for name in names(sources)]


def beside(labels: str | os.PathLike[str], what: str) -> Path:
    """Return the path of another volume beside these labels.

    >>> beside("a/t.labels.mrc", "instances").name
    't.instances.mrc'
    """
    labels = Path(labels)
    return labels.with_name(f"{labels.stem.removesuffix('.labels')}.{what}{labels.suffix}")


def shard(items: Sequence[Item], which: str | None) -> list[Item]:
    """Return every n-th item from the i-th, for ``"i/n"``: together the shards are all of them.

    Raises:
        ParameterError: unless 0 <= i < n.

    >>> shard("abcde", "1/2"), shard("abcde", None)
    (['b', 'd'], ['a', 'b', 'c', 'd', 'e'])
    """
    if which is None:
        return list(items)
    first, _, count = which.partition("/")
    if not (first.isdecimal() and count.isdecimal() and int(first) < int(count)):
        raise ParameterError(
            f"shard must be I/N with I from 0 to N-1, such as 0/8, got '{which}'", "shard"
        )
    return list(items[int(first) :: int(count)])
