"""What a command does for many tomograms: which of them, here, and what became of them."""

import glob
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from cryojax_seg.cli import console

Item = TypeVar("Item")


def expanded(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The paths, with what a pattern such as ``'folder/*.mrc'`` stands for in its place.

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
        matches = sorted(map(Path, glob.glob(str(path))))
        if not matches:
            raise ValueError(f"{path}: nothing matches this pattern")
        found += matches
    return tuple(found)


def shard(items: Sequence[Item], which: str | None) -> list[Item]:
    """Every n-th of the items from the i-th, for ``"i/n"``: together the shards are all of them.

    Raises:
        ValueError: unless 0 <= i < n.

    >>> shard("abcde", "1/2"), shard("abcde", None)
    (['b', 'd'], ['a', 'b', 'c', 'd', 'e'])
    """
    if which is None:
        return list(items)
    first, _, count = which.partition("/")
    if not (first.isdecimal() and count.isdecimal() and int(first) < int(count)):
        raise ValueError(f"--shard: I/N with I from 0 to N-1, such as 0/8; got '{which}'")
    return list(items[int(first) :: int(count)])


def each(items: Sequence[Item], work: Callable[[Item], None], name: Callable[[Item], str]) -> None:
    """Works on one after another; what fails does not stop the others and is listed at the end.

    Raises:
        ValueError: if any failed; the error itself if there was only one item.
    """
    failures = []
    for item in items:
        try:
            work(item)
        except (ValueError, OSError) as error:
            if len(items) == 1:
                raise
            console.error(str(error))
            failures.append(f"{name(item)}: {error}")
    conclude(failures, len(items))


def conclude(failures: Sequence[str], count: int) -> None:
    """Lists what failed, of so many, with the reasons.

    Raises:
        ValueError: if there is any.

    >>> conclude([], 3)
    """
    if failures:
        listed = "\n  ".join(" ".join(f.split()) for f in failures)
        console.say(f"failed:\n  {listed}")
        raise ValueError(f"{len(failures)} of {count} tomograms failed; the rest is done")
