"""Write the outputs of one command in one process, and publish them together."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryojax_seg.io.disk import DISK_FULL, DiskFullError, sync, sync_tree
from cryojax_seg.io.files import (
    FileError,
    PathLike,
    atomic_write,
    check_own,
    exists_already,
    former_folder,
    partial_path,
    publish_file,
    publish_folder,
    real_path,
    remove,
    target_path,
)
from cryojax_seg.io.locks import Lock, lock_path
from cryojax_seg.io.places import check_places
from cryojax_seg.io.plain import read_json_object


class OutputSet:
    """Files and folders that one command writes, which appear together or not at all.

    Within a ``with`` statement this process holds all of them. Each is written under a hidden name
    beside its own (`place`). When the statement is left normally, a journal is written beside the
    first, ``.NAME.partial.json``, all get their names, and the journal goes. A process that is
    killed before the journal is there has changed nothing. What it has not published after that,
    the next one that wants these outputs does, whatever it is going to write itself.

    Args:
        job: what decides about the content, as plain values: the command and its options.
        targets: the outputs; the first appears last.
        inputs: what is read; no output may be or contain one of them.
        overwrite: replace existing outputs at the end.
        folders: of the targets that are folders, the patterns of the files in them (`check_own`).

    Attributes:
        finished: a killed process had done the same job, and now its outputs are there: there is
            nothing to do.
        recorded: what the same job had recorded (`record`) before it was interrupted.

    Raises:
        FileError: if an output exists, cannot be written, would replace files of others, or is or
            contains an input or the current folder.
        BusyError: if another process holds an output.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with OutputSet("note", [folder / "a.txt", folder / "b.txt"]) as outputs:
    ...     for path in (folder / "a.txt", folder / "b.txt"):
    ...         _ = outputs.place(path).write_text("done")
    ...     sorted(path.name for path in folder.glob("?.txt"))
    []
    >>> sorted(path.name for path in folder.iterdir())
    ['a.txt', 'b.txt']
    """

    def __init__(
        self,
        job: Any,
        targets: Sequence[PathLike],
        inputs: Sequence[PathLike] = (),
        overwrite: bool = False,
        folders: Mapping[Any, Sequence[str]] | None = None,
    ):
        check_places(targets, inputs)
        self._targets = [target_path(path, True) for path in targets]
        self._own = {real_path(path): own for path, own in (folders or {}).items()}
        self._overwrite = overwrite
        self._job = plain_values([job, _states(inputs)])
        self._journal = journal_path(self._targets[0])
        self._locks: list[Lock] = []
        self.finished = False
        self.recorded: dict[str, Any] = {}

    def __enter__(self) -> "OutputSet":
        try:
            for target in dict.fromkeys(self._targets):
                self._locks.append(Lock(lock_path(target), target))
            self._begin()
        except BaseException:
            self._release()
            raise
        return self

    def _begin(self) -> None:
        found = _read(self._journal)
        same = found.get("job") == self._job
        if "names" in found:
            _publish(self._journal, found["names"], self._overwrite or found["overwrite"])
            self.finished = same
            self.recorded = found
            if not same:
                remove(self._journal)
        elif same:
            self.recorded = found
        if self.finished:
            return
        self._check()
        if not same:
            self.recorded = {}
            self._discard()

    def _check(self) -> None:
        for target in self._targets:
            if target.exists() and not self._overwrite:
                raise exists_already(target)
            if target.exists() and target.is_dir() != (target in self._own):
                kind = "a folder" if target in self._own else "a file"
                raise FileError(f"{target}: exists and is not {kind}; choose another name")
            check_own(target, self._own.get(target, ()))

    def place(self, target: PathLike) -> Path:
        """Return the path to write an output to: its own name in a hidden folder beside it."""
        hidden = _hidden(self._target(target))
        hidden.mkdir(exist_ok=True)
        return hidden / self._target(target).name

    def staged(self, target: PathLike) -> Path:
        """Return the path of an output that was written and is not published yet."""
        return _staged(self._target(target))

    def record(self, **values: Any) -> None:
        """Keep what is written when the block ends by an error, so that the same job can resume."""
        self.recorded |= {"job": self._job, **values}
        with atomic_write(self._journal) as file:
            file.write_text(json.dumps(self.recorded))

    def __exit__(self, kind: Any, error: Any = None, *_: Any) -> None:
        try:
            if kind is None:
                if not self.finished:
                    self._publish()
                # The journal goes after the locks have lost their names, as the very last file: to
                # the next process of the same job it says that all is done.
                for lock in self._locks:
                    lock.remove()
                remove(self._journal)
            elif not self.recorded:
                self._discard()
        except FileError:
            if not self.recorded:
                self._discard()
            raise
        finally:
            self._release()
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise DiskFullError.renamed(error, self._targets[0]) from None

    def _publish(self) -> None:
        self._check()
        for target in self._targets:
            if not _staged(target).exists():
                raise FileError(f"{target}: nothing was written")
            sync_tree(_staged(target))
        names = [os.path.relpath(target, self._journal.parent) for target in self._targets]
        self.record(names=names, overwrite=self._overwrite)
        _publish(self._journal, names, self._overwrite)

    def _target(self, path: PathLike) -> Path:
        target = real_path(path)
        if target not in self._targets:
            raise ValueError(f"{path}: is not one of these outputs")
        return target

    def _discard(self) -> None:
        for target in self._targets:
            _forget(target)
        remove(self._journal)

    def _release(self) -> None:
        for lock in self._locks:
            lock.release()
        self._locks = []


def plain_values(values: Any) -> Any:
    """Return the values as JSON reads them back, to compare them with those in a file.

    >>> plain_values({"shape": (1, 2)})
    {'shape': [1, 2]}
    """
    return json.loads(json.dumps(values, default=str))


def journal_path(target: Path) -> Path:
    """Return the path of the journal of the job with this first output.

    >>> journal_path(Path("a/b.mrc")).name
    '.b.mrc.partial.json'
    """
    partial = partial_path(target)
    return partial.with_name(f"{partial.name}.json")


def is_half_published(target: PathLike) -> bool:
    """Return whether a killed process left outputs to publish, of which this is the first.

    Only an `OutputSet` may do that, and does when it is entered.

    >>> is_half_published("labels.mrc")
    False
    """
    return "names" in _read(journal_path(real_path(target)))


def is_begun(target: PathLike) -> bool:
    """Return whether an interrupted process began outputs, of which this is the first.

    An `OutputSet` tells whether it was the same job.

    >>> is_begun("labels.mrc")
    False
    """
    return bool(_read(journal_path(real_path(target))))


def is_leftover(path: Path) -> bool:
    """Return whether a file or folder is what a killed process left of an output.

    >>> is_leftover(Path(".a.mrc.partial.lock")), is_leftover(Path("a.mrc"))
    (True, False)
    """
    return bool(
        re.fullmatch(r"\.tmp-.+|\.former-.+|\..+\.(staged|partial(\.json|\.lock)?)", path.name)
    )


def _hidden(target: Path) -> Path:
    """Return the hidden folder in which an output lies under its own name."""
    return target.with_name(f".{target.name}.staged")


def _staged(target: Path) -> Path:
    inside = _hidden(target) / target.name
    return inside if inside.exists() else partial_path(target)


def _forget(target: Path) -> None:
    remove(_hidden(target))
    remove(partial_path(target))


def _publish(journal: Path, names: Sequence[str], overwrite: bool) -> None:
    """Give all outputs of a journal their names, unless they have them already."""
    for name in reversed(names):
        target = Path(os.path.normpath(journal.parent / name))
        staged = _staged(target)
        if staged.is_dir():
            publish_folder(staged, target, overwrite)
        elif staged.exists():
            publish_file(staged, target, overwrite)
        elif target.is_dir():
            remove(former_folder(target))  # a kill came between two renames
        _forget(target)
        sync(target.parent)


def _read(journal: Path) -> dict[str, Any]:
    """Return the content of a journal; nothing if it is missing or damaged."""
    try:
        found = read_json_object(journal)
    except (OSError, ValueError):
        return {}
    names, overwrite = found.get("names", []), found.get("overwrite", False)
    sound = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return found if sound and isinstance(overwrite, bool) else {}


def _states(inputs: Sequence[PathLike]) -> list[Any]:
    """Return name, size and time of each input, which tell whether it changed."""
    states = [(Path(path).name, Path(path)) for path in inputs if Path(path).exists()]
    return [[name, path.stat().st_size, path.stat().st_mtime_ns] for name, path in states]
