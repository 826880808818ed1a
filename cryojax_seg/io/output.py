"""Write volumes part by part, resumable, and invisible until they are complete."""

import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from cryojax_seg.core.blocks import release
from cryojax_seg.core.plain import Shape
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io import header as headers
from cryojax_seg.io.block import non_finite_warnings, warn
from cryojax_seg.io.disk import disk_full_explained, sync
from cryojax_seg.io.files import (
    FileError,
    PathLike,
    open_fresh,
    partial_path,
    publish_file,
    target_path,
)
from cryojax_seg.io.label_card import LabelCard
from cryojax_seg.io.mrc import mrc_header
from cryojax_seg.io.nifti import nifti_header
from cryojax_seg.io.nrrd import nrrd_header
from cryojax_seg.io.ome import zarr_folders
from cryojax_seg.io.ome_writing import USUAL_FORM, ZarrForm
from cryojax_seg.io.outputs import OutputSet, plain_values
from cryojax_seg.io.zarr_writing import ZarrOutput

_HEADERS = {".nii": nifti_header, ".nrrd": nrrd_header}
_EVERY = 5.0  # seconds between two records of how far a job is


@runtime_checkable
class Output(Protocol):
    """Writes a volume whose parts lie in ``.NAME.partial`` beside it until `finish`.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "t.mrc"
    >>> output = open_output(file, (2, 3, 4), np.float32)
    >>> output.write((slice(0, 1), slice(0, 3), slice(0, 4)), np.ones((1, 3, 4), np.float32))
    >>> output.finish()
    >>> isinstance(output, Output), file.exists()
    (True, True)
    """

    def write(self, where: tuple[slice, ...], block: np.ndarray) -> None:
        """Write a block ``(z, y, x)`` at its place."""
        ...

    def read(self, where: tuple[slice, ...]) -> np.ndarray:
        """Return a part of what was written."""
        ...

    def flush(self) -> None:
        """Return when everything that was written is on disk."""
        ...

    def seal(self) -> None:
        """Complete the volume under its hidden name."""
        ...

    def finish(self) -> None:
        """Seal the volume and give it its name."""
        ...

    def discard(self) -> None:
        """Remove what was written."""
        ...


class FileOutput:
    """Writes an MRC volume part by part, or NIfTI or NRRD where the name ends in .nii or .nrrd.

    All of its space is taken at once where the system can (not on macOS), so that a full disk is
    found before work starts.

    Args:
        path: the file it becomes.
        shape: ``(z, y, x)``.
        dtype: int8, int16, uint16, int32 (not MRC), float16 (MRC alone) or float32.
        like: the tomogram this belongs to: voxel size, origin and nstart are taken from it.
        overwrite: replace an existing file when this one is finished.
        resume: go on with what an earlier process wrote.
        card: what the labels mean, if this is a label volume.

    Raises:
        FileError: if the file exists, cannot be written, or there is nothing to go on with.
        OSError: if the disk is full.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "labels.mrc"
    >>> output = FileOutput(path, (2, 3, 4), np.int8)
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
        card: LabelCard | None = None,
    ):
        self._target, self._overwrite, self._like = target_path(path, overwrite), overwrite, like
        self._card = card
        self._partial = partial_path(self._target)
        dtype = np.dtype(dtype).newbyteorder("<")
        start = _header_length(self._target, shape, dtype, like, card)
        size = start + math.prod(shape) * dtype.itemsize
        if resume:
            if not self._partial.is_file() or self._partial.stat().st_size != size:
                raise FileError(f"{self._partial}: is not what was being written; remove it")
        else:
            with disk_full_explained(self._target), open_fresh(self._partial) as file:
                try:
                    if hasattr(os, "posix_fallocate"):
                        os.posix_fallocate(file.fileno(), 0, size)
                    else:  # macOS has no such call; there the disk may fill up later
                        file.truncate(size)
                except OSError:
                    self.discard()
                    raise
        self._data = np.memmap(self._partial, dtype, "r+", start, tuple(shape))

    def write(self, where: tuple[slice, ...], block: np.ndarray) -> None:
        self._data[where] = block
        release(self._data)

    def read(self, where: tuple[slice, ...]) -> np.ndarray:
        block = np.array(self._data[where])
        release(self._data)
        return block

    def flush(self) -> None:
        self._data.flush()

    def seal(self) -> None:
        warn(self._target, non_finite_warnings(self._data))
        content = _header(self._target, self._data, self._like, self._card)
        self.flush()
        with open(self._partial, "r+b") as file:
            file.write(content)
        sync(self._partial)

    def finish(self) -> None:
        self.seal()
        publish_file(self._partial, self._target, self._overwrite)
        sync(self._target.parent)

    def discard(self) -> None:
        self._partial.unlink(missing_ok=True)


def _header(path: Path, data: np.ndarray, like: Tomogram | None, card: LabelCard | None) -> bytes:
    """Return the header of an array, in the format that the name of its file says."""
    if path.suffix in _HEADERS:
        return _HEADERS[path.suffix](data.shape, data.dtype, like, card)
    return mrc_header(data, data.dtype, like, card=card).tobytes()


def _header_length(
    path: Path, shape: Shape, dtype: np.dtype, like: Tomogram | None, card: LabelCard | None
) -> int:
    if path.suffix in _HEADERS:
        return len(_HEADERS[path.suffix](shape, dtype, like, card))
    return headers.LENGTH


def open_output(path: Path, *arguments: Any, form: ZarrForm = USUAL_FORM, **options: Any) -> Output:
    """Return a `ZarrOutput` for names that end in .zarr, else a `FileOutput`.

    Args:
        path: the volume.
        arguments, options: of either.
        form: how OME-Zarr keeps it.
    """
    if path.suffix == ".zarr":
        return ZarrOutput(path, *arguments, form=form, **options)
    return FileOutput(path, *arguments, **options)


class TileJob:
    """Volumes that one job writes tile by tile, with a record of its progress.

    Within a ``with`` statement: when that is left normally the volumes are finished; when it is
    left by an exception, or the process dies, they wait for the same job to go on. What is kept
    beside each volume is ``.NAME.partial``, and beside the first ``.NAME.partial.json``.

    Args:
        description: what decides about the content of the volumes, as plain values. A job with
            another description starts from the beginning.
        volumes: path and dtype of each. The first appears last: where it is, all are.
        shape: of all of them, ``(z, y, x)``.
        like: the tomogram they belong to.
        overwrite: replace existing volumes at the end.
        within: the `OutputSet` that these volumes belong to, which publishes them; by default they
            are one by themselves.
        card: what the labels in the first volume mean.
        form: how OME-Zarr keeps the volumes; its values are of the labels in the first.

    Attributes:
        done: tiles that are written.

    Raises:
        FileError: if a volume exists or cannot be written.
        BusyError: if another process is at it.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "labels.mrc"
    >>> halves = [(slice(a, a + 2), slice(0, 3), slice(0, 3)) for a in (0, 2)]
    >>> with TileJob({"threshold": 0.5}, [(file, np.int8)], (4, 3, 3)) as job:
    ...     for where in halves[job.done :]:
    ...         job.write(where, [np.ones((2, 3, 3), np.int8)])
    >>> job.done, file.exists()
    (2, True)
    """

    def __init__(
        self,
        description: Mapping[str, Any],
        volumes: Sequence[tuple[Path, Any]],
        shape: Shape,
        like: Tomogram | None = None,
        overwrite: bool = False,
        within: OutputSet | None = None,
        card: LabelCard | None = None,
        form: ZarrForm = USUAL_FORM,
    ):
        paths = [path for path, _ in volumes]
        self._own = within is None
        if within is None:
            folders = zarr_folders(paths)
            within = OutputSet("tiles", paths, overwrite=overwrite, folders=folders)
        self._set = within
        self._description = plain_values(dict(description))
        self._card, self._form = card, form
        self._volumes, self._arguments = volumes, (shape, like, overwrite)
        self._outputs: list[Output] = []
        self.done: int = 0
        self._recorded = time.monotonic()

    def __enter__(self) -> "TileJob":
        if self._own:
            self._set.__enter__()
        try:
            self._open()
        except BaseException as error:
            self.__exit__(type(error), error)
            raise
        return self

    def _open(self) -> None:
        recorded, paths = self._set.recorded, [path for path, _ in self._volumes]
        done = recorded.get("done")
        same = recorded.get("tiles") == self._description and type(done) is int and done > 0
        if same and (
            self._set.finished or all(partial_path(target_path(p, True)).exists() for p in paths)
        ):
            self.done = int(recorded["done"])
        if self._set.finished:
            return
        shape, like, overwrite = self._arguments
        resume = self.done > 0
        for i, (path, dtype) in enumerate(self._volumes):
            of_labels: Any = {"card": self._card, "form": self._form}
            kept = {"form": ZarrForm(self._form.version)} if i else of_labels
            self._outputs.append(
                open_output(path, shape, dtype, like, overwrite, resume=resume, **kept)
            )

    def write(self, where: tuple[slice, ...], blocks: Sequence[np.ndarray]) -> None:
        """Write the next tile, a block for each volume."""
        for output, block in zip(self._outputs, blocks, strict=True):
            output.write(where, block)
        self.done += 1
        if time.monotonic() - self._recorded > _EVERY:
            self.keep()

    def read(self, volume: int, where: tuple[slice, ...]) -> np.ndarray:
        """Return a part of the volume of this index, as it was written."""
        return self._outputs[volume].read(where)

    def replace(self, volume: int, where: tuple[slice, ...], block: np.ndarray) -> None:
        """Write a part of the volume of this index again, after the tiles."""
        self._outputs[volume].write(where, block)

    def keep(self) -> None:
        """Record what is done, so that the same job goes on from here."""
        for output in self._outputs:
            output.flush()
        self._set.record(tiles=self._description, done=self.done)
        self._recorded = time.monotonic()

    def __exit__(self, kind: Any, error: Any = None, *_: Any) -> None:
        try:
            if kind is None:
                for output in self._outputs:
                    output.seal()
                if self._outputs:
                    self.keep()
            elif self.done:
                self.keep()
            else:
                for output in self._outputs:
                    output.discard()
        except BaseException as failure:
            kind, error = type(failure), failure
            raise
        finally:
            if self._own:
                self._set.__exit__(kind, error)
