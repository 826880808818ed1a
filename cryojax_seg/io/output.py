"""Volumes that are written part by part: resumable, and seen by nobody before they are complete."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import filelock
import numpy as np

from cryojax_seg.core.blocks import release
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.core.types import Shape
from cryojax_seg.io import header as headers
from cryojax_seg.io.files import (
    BusyError,
    FileError,
    PathLike,
    atomic_write,
    disk_full_explained,
    partial_path,
    publish_file,
    sync,
    target_path,
)
from cryojax_seg.io.mrc import mrc_header, non_finite_warnings, warn
from cryojax_seg.io.plain import read_json_object
from cryojax_seg.io.zarr import ZarrOutput

_EVERY = 5.0  # seconds between two records of how far a job is


@runtime_checkable
class Output(Protocol):
    """A volume under way. What is written lies in ``.NAME.partial`` beside it until `finish`."""

    def write(self, where: tuple[slice, ...], block: np.ndarray) -> None:
        """Puts a block ``(z, y, x)`` where it belongs."""
        ...

    def flush(self) -> None:
        """Returns when everything that was written is on disk."""
        ...

    def finish(self) -> None:
        """Gives the volume its name."""
        ...

    def discard(self) -> None:
        """Removes what was written."""
        ...


class MrcOutput:
    """An MRC volume that is written part by part.

    All of its space is taken at once where the system can (not on macOS), so that a full disk is
    found before work starts.

    Args:
        path: the file it becomes.
        shape: ``(z, y, x)``.
        dtype: int8, int16, uint16, float16 or float32.
        like: the tomogram this belongs to: voxel size, origin and nstart are taken from it.
        overwrite: replace an existing file when this one is finished.
        resume: go on with what an earlier process wrote.

    Raises:
        FileError: if the file exists, cannot be written, or there is nothing to go on with.
        OSError: if the disk is full.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "labels.mrc"
    >>> output = MrcOutput(path, (2, 3, 4), np.int8)
    >>> output.write(np.s_[:, :2, :], np.ones((2, 2, 4)))
    >>> path.exists()
    False
    >>> output.finish()
    >>> path.stat().st_size
    1048
    """

    def __init__(
        self,
        path: PathLike,
        shape: Shape,
        dtype: Any,
        like: Tomogram | None = None,
        overwrite: bool = False,
        resume: bool = False,
    ):
        self._target, self._overwrite, self._like = target_path(path, overwrite), overwrite, like
        self._partial = partial_path(self._target)
        dtype = np.dtype(dtype).newbyteorder("<")
        size = headers.LENGTH + int(np.prod(shape)) * dtype.itemsize
        if resume:
            if not self._partial.is_file() or self._partial.stat().st_size != size:
                raise FileError(f"{self._partial}: is not what was being written; remove it")
        else:
            with disk_full_explained(self._target), open(self._partial, "wb") as file:
                try:
                    if hasattr(os, "posix_fallocate"):
                        os.posix_fallocate(file.fileno(), 0, size)
                    else:  # macOS has no such call; there the disk may fill up later
                        file.truncate(size)
                except OSError:
                    self.discard()
                    raise
        self._data = np.memmap(self._partial, dtype, "r+", headers.LENGTH, tuple(shape))

    def write(self, where: tuple[slice, ...], block: np.ndarray) -> None:
        self._data[where] = block
        release(self._data)

    def flush(self) -> None:
        self._data.flush()

    def finish(self) -> None:
        warn(self._target, non_finite_warnings(self._data))
        fields = mrc_header(self._data, self._data.dtype, self._like)
        self.flush()
        with open(self._partial, "r+b") as file:
            file.write(fields.tobytes())
        sync(self._partial)
        publish_file(self._partial, self._target, self._overwrite)
        sync(self._target.parent)
        self._partial.unlink(missing_ok=True)

    def discard(self) -> None:
        self._partial.unlink(missing_ok=True)


def open_output(path: Path, *arguments: Any, **options: Any) -> Output:
    """A `MrcOutput`, or for names that end in .zarr a `ZarrOutput`; same arguments."""
    kind = ZarrOutput if path.suffix == ".zarr" else MrcOutput
    return kind(path, *arguments, **options)


class TileJob:
    """Volumes that one job writes tile by tile, and how far it is.

    Within a ``with`` statement: when that is left normally the volumes are finished; when it is
    left by an exception, or the process dies, they wait for the same job to go on. What is kept
    beside the first volume is ``.NAME.partial`` and ``.NAME.partial.json``.

    Args:
        description: what decides about the content of the volumes, as plain values. A job with
            another description starts from the beginning.
        volumes: path and dtype of each. The first appears last: where it is, all are.
        shape: of all of them, ``(z, y, x)``.
        like: the tomogram they belong to.
        overwrite: replace existing volumes at the end.

    Attributes:
        done: tiles that are written.

    Raises:
        FileError: if a volume exists or cannot be written.
        BusyError: if another process is at it.
    """

    def __init__(
        self,
        description: Mapping[str, Any],
        volumes: Sequence[tuple[Path, Any]],
        shape: Shape,
        like: Tomogram | None = None,
        overwrite: bool = False,
    ):
        first = partial_path(target_path(volumes[0][0], overwrite))
        self._record = first.with_name(first.name + ".json")
        self._lock = filelock.FileLock(first.with_name(first.name + ".lock"))
        self._description = json.loads(json.dumps(dict(description)))
        self._volumes, self._arguments = volumes, (shape, like, overwrite)
        self._outputs: list[Output] = []
        self.done = 0
        self._recorded = time.monotonic()

    def __enter__(self) -> "TileJob":
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            path = self._volumes[0][0]
            raise BusyError(f"{path}: another process is writing it; wait for it") from None
        try:
            self.done = self._read()
            shape, like, overwrite = self._arguments
            for path, dtype in self._volumes:
                output = open_output(path, shape, dtype, like, overwrite, resume=self.done > 0)
                self._outputs.append(output)
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def write(self, where: tuple[slice, ...], blocks: Sequence[np.ndarray]) -> None:
        """Writes the next tile: a block for each volume."""
        for output, block in zip(self._outputs, blocks, strict=True):
            output.write(where, block)
        self.done += 1
        if time.monotonic() - self._recorded > _EVERY:
            self._keep()

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            if kind is None:
                for output in self._outputs[::-1]:
                    output.finish()
                self._record.unlink(missing_ok=True)
            elif self.done:
                self._keep()
            else:
                for output in self._outputs:
                    output.discard()
        finally:
            self._unlock()

    def _keep(self) -> None:
        for output in self._outputs:
            output.flush()
        with atomic_write(self._record) as file:
            file.write_text(json.dumps({"job": self._description, "done": self.done}))
        self._recorded = time.monotonic()

    def _read(self) -> int:
        """Tiles of the same job that are on disk."""
        try:
            record = read_json_object(self._record)
        except (OSError, ValueError):
            return 0
        paths = [partial_path(target_path(path, True)) for path, _ in self._volumes]
        done = record.get("done")
        same = record.get("job") == self._description and type(done) is int and done > 0
        return done if same and all(path.exists() for path in paths) else 0

    def _unlock(self) -> None:
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()
