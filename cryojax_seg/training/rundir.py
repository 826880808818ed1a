"""Manages a run folder: its lock, its configuration and its metrics."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cryojax_seg.core.operator import LocalOperator, hyperparameters, operator_name
from cryojax_seg.io.files import BusyError, FileError, atomic_write, check_own, remove
from cryojax_seg.io.locks import Lock
from cryojax_seg.io.model import MODEL_FILES
from cryojax_seg.io.outputs import is_leftover
from cryojax_seg.io.places import folder_made
from cryojax_seg.io.plain import parse_json, read_json_object
from cryojax_seg.text import shown, size_text
from cryojax_seg.training.companions import COMPANIONS
from cryojax_seg.training.config import FREE, TrainConfig, TrainingError
from cryojax_seg.training.example import Example
from cryojax_seg.training.stream import Stream

LOCK, DESCRIPTION, METRICS = "lock", "run.json", "metrics.jsonl"
CHECKPOINTS, MODEL, CONFIG = "checkpoints", "model", "config.yaml"


@dataclasses.dataclass(frozen=True)
class Held:
    """Represents a run folder that this process has locked; as a path, it is the folder."""

    folder: Path

    def __fspath__(self) -> str:
        return str(self.folder)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[Held]:
    """Hold the run folder, which is made if absent, for this process (see `io.locks.Lock`).

    The lock of a dead process is taken over with a warning. Of a process on another machine nothing
    is known: it is refused. A folder that was made here and stays empty is removed.

    Raises:
        TrainingError: if another process holds the folder; it says who.
    """
    with folder_made(folder):
        try:
            lock = Lock(folder / LOCK, folder, other_machines=False)
        except BusyError as error:
            raise TrainingError(str(error)) from None
        try:
            if lock.former:
                warnings.warn(
                    f"{folder}: took over from a process that ended without cleaning up "
                    f"({lock.former})",
                    stacklevel=3,
                )
            yield Held(folder)
        finally:
            lock.release()


def is_used(folder: Path) -> bool:
    """Return whether a folder holds anything but a lock and leftovers of a killed process."""
    return folder.is_dir() and any(
        path.name != LOCK and not is_leftover(path) for path in folder.iterdir()
    )


def check_model_folder(folder: Path) -> None:
    """Raise a FileError if the folder of the model, which is replaced at the end, holds more."""
    check_own(folder / MODEL, MODEL_FILES)


def check_folder(folder: Path, *, resume: bool = False, overwrite: bool = False) -> None:
    """Refuse a folder that a run can neither begin in nor go on in.

    Args:
        folder: of the run; it need not exist.
        resume: whether an earlier run goes on.
        overwrite: whether an earlier run is replaced.

    Raises:
        FileError: if the folder holds files that are to be kept, or nothing to resume.

    >>> import tempfile
    >>> check_folder(Path(tempfile.mkdtemp()))
    """
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder}: exists and is not a folder; choose another output", "output")
    used = is_used(folder)
    if used and not resume and not overwrite:
        raise FileError(
            f"{folder}: holds files already; choose another output, resume that run or overwrite "
            "it",
            *("output", "resume", "overwrite"),
        )
    if resume and not used:
        raise FileError(f"{folder}: there is no run to resume", "resume")
    if used:
        check_model_folder(folder)


def begin(folder: Path, config: Mapping[str, Any] | None = None, overwrite: bool = False) -> None:
    """Make a folder, which must be held, ready for a run, and write its configuration there.

    Args:
        folder: of the run.
        config: plain values for ``config.yaml``; None writes none.
        overwrite: remove what an earlier run wrote.
    """
    if overwrite:
        clear(folder)
    if config is not None:
        with atomic_write(folder / CONFIG) as file:
            file.write_text(yaml.safe_dump(dict(config), sort_keys=False))


def clear(folder: Path) -> None:
    """Remove what an earlier run wrote into this folder, and nothing else; it must be held.

    Raises:
        FileError: if a folder that would go holds something else.
    """
    check_model_folder(folder)
    # Without its description a run is none, so that nothing goes on with half of it.
    for name in (DESCRIPTION, METRICS, CONFIG):
        (folder / name).unlink(missing_ok=True)
    for pattern in ("step-*", ".tmp-step-*"):
        for path in (folder / CHECKPOINTS).glob(pattern):
            remove(path)
    with contextlib.suppress(OSError):  # it is absent, or holds something else
        (folder / CHECKPOINTS).rmdir()
    remove(folder / MODEL)


def describe(
    operator: LocalOperator,
    config: TrainConfig,
    examples: Sequence[Example],
    stream: Stream | None = None,
) -> dict[str, Any]:
    """Return what must be equal for a run to be resumed, as plain values."""
    streamed = {} if stream is None else {"stream": stream.describe()}
    return {
        "format": 1,
        "operator": {
            "class": operator_name(type(operator)),
            "arguments": hyperparameters(operator),
        },
        "config": config.as_dict(),
        "data": [{"name": e.name, "sha256": fingerprint(e)} for e in examples],
        **streamed,
    }


def fingerprint(example: Example) -> str:
    """Return the SHA-256 of the arrays of an example."""
    digest = hashlib.sha256()
    for name in COMPANIONS:
        array = getattr(example, name)
        if array is None:
            continue
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        for plane in array:  # plane by plane: a memory map is never in memory as a whole
            digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


def check_same(folder: Path, description: dict[str, Any]) -> None:
    """Raise a TrainingError that lists what differs from the run in this folder."""
    path = folder / DESCRIPTION
    try:
        former = read_json_object(path)
    except (OSError, ValueError) as error:
        raise TrainingError(f"cannot resume ({error}); start in a new folder") from error
    now = json.loads(json.dumps(description))
    differences = [
        f"{name} was {shown(old)}, is now {shown(new)}"
        for name, old, new in _compare(former, now)
        if not _may_differ(name, old, new)
    ]
    if differences:
        raise TrainingError(
            f"{folder}: cannot resume with another set-up: {'; '.join(differences)}. Give what the "
            "run was started with, or start in a new folder"
        )


def _may_differ(name: str, old: Any, new: Any) -> bool:
    """Return whether a run can go on where this was `old` and is `new`."""
    if name == "config.learning_rate":  # the way on for a run that diverged
        return new < old
    # The content of the data is compared, so they may be named by another path.
    return name.removeprefix("config.") in FREE or bool(re.fullmatch(r"data\[\d+\]\.name", name))


def _compare(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            inner = f"{name}.{key}" if name else key
            yield from _compare(old.get(key, "(absent)"), new.get(key, "(absent)"), inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from _compare(*pair, f"{name}[{index}]")
    elif old != new:
        yield name, old, new


def write_json(path: Path, values: Any) -> None:
    """Write JSON completely or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1))


class MetricsFile:
    """Appends one JSON line per step; after a resume each step is still there once."""

    def __init__(self, path: Path, step: int, scores: dict[str, float] | None = None):
        """Open the file, dropping lines after `step` and a last line that was torn.

        Scores are added to the line of `step`.
        """
        self.path = path
        if path.exists():
            kept = [line for line in _sound_lines(path) if line["step"] <= step]
            if kept:
                kept[-1] |= scores or {}
            with atomic_write(path) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._file = open(path, "a", encoding="utf-8")

    def write(self, line: dict[str, Any]) -> None:
        """Append a line and hand it to the system.

        Raises:
            OSError: naming the file and the free space.
        """
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise explained(error, self.path) from error

    def close(self) -> None:
        """Close the file; `write` has reported what could not be written."""
        with contextlib.suppress(OSError):
            self._file.close()


def _sound_lines(path: Path) -> Iterator[dict[str, Any]]:
    for text in path.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            line = parse_json(text)
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                yield line


def read_metrics(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read the lines of a run's metrics.jsonl, one per step, in order."""
    return list(_sound_lines(Path(folder) / METRICS))


def explained(error: BaseException, path: Path) -> OSError:
    """Return an OSError that names what could not be written and how much space is left there."""
    folder = next(p for p in path.absolute().parents if p.exists())
    free = size_text(shutil.disk_usage(folder).free)
    return OSError(
        getattr(error, "errno", None) or 0, f"cannot write {path}: {error} ({free} free)"
    )
