"""Write OME-Zarr volumes part by part, without a whole volume in memory."""

import collections
import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator
from typing import Any, final

import numpy as np
import tensorstore as ts

from cryojax_seg.core.blocks import EDGE, blocks
from cryojax_seg.core.plain import Shape
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io import ome, ome_writing
from cryojax_seg.io.block import warn
from cryojax_seg.io.chunk_files import count_chunks
from cryojax_seg.io.chunked import FAILURES, Chunked, by_chunk, open_store, reason, region
from cryojax_seg.io.disk import disk_full_explained
from cryojax_seg.io.files import (
    FileError,
    PathLike,
    check_own,
    partial_path,
    publish_folder,
    remove,
    target_path,
)
from cryojax_seg.io.label_card import LabelCard
from cryojax_seg.io.ome_writing import USUAL_FORM, Version, ZarrForm
from cryojax_seg.io.voxel_size import VoxelSize, voxel_size_zyx
from cryojax_seg.text import size_text

_UNDER_WAY = 1  # chunks that are written while the caller goes on


@final
class ZarrOutput:
    """Writes an OME-Zarr volume part by part; read `write_zarr` for the format.

    What is written lies in the folder ``.NAME.partial`` beside the volume until `finish`. Parts
    may overlap the chunks as they like, and each other; a part that covers whole chunks is written
    fastest. Memory stays bounded, whatever the size of the volume or of a part.

    Args:
        path: the folder it becomes.
        shape: ``(z, y, x)``.
        dtype: bool, or an integer or floating type.
        like: the tomogram this belongs to: voxel size and origin are taken from it.
        overwrite: replace an existing OME-Zarr folder when this one is finished.
        resume: go on with what an earlier process wrote.
        card: what the labels mean, if this is a label volume.
        form: version of OME-Zarr, and values of the labels.

    Raises:
        FileError: if the folder exists, cannot be written, or there is nothing to go on with.
        OSError: if the disk is full.

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "labels.zarr"
    >>> output = ZarrOutput(path, (2, 3, 4), np.int8)
    >>> output.write(np.s_[:, :2, :], np.ones((2, 2, 4), np.int8))
    >>> path.exists()
    False
    >>> output.finish()
    >>> path.exists()
    True
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
        form: ZarrForm = USUAL_FORM,
    ):
        self.shape, self.dtype = tuple(map(int, shape)), np.dtype(dtype).newbyteorder("=")
        if len(self.shape) != 3 or min(self.shape) <= 0:
            raise FileError(f"{path}: a volume (z, y, x) is needed, this shape is {shape}")
        if self.dtype.kind not in "iufb" or self.dtype.itemsize > 8:
            raise FileError(f"{path}: {self.dtype} is not a type of real numbers")
        self._target, self._overwrite = target_path(path, overwrite), overwrite
        self._place = (like.voxel_size, like.origin) if like else (None, (0.0, 0.0, 0.0))
        if self._target.exists() and not ome.metadata_file(self._target):
            raise FileError(f"{path}: exists and is not an OME-Zarr folder; choose another name")
        check_own(self._target, ome.FILES)
        self._partial, self._driver = partial_path(self._target), ome_writing.DRIVERS[form.version]
        self._card, self._form = card, form
        self._odd = 0  # voxels written that are not finite
        if form.values:
            self.dtype = np.dtype(np.min_scalar_type(max(form.values)))
        self._pending: collections.deque[ts.WriteFutures] = collections.deque()
        self._store = self._resumed() if resume else self._started()

    def write(self, where: tuple[slice, ...], block: np.ndarray) -> None:
        """Write a block ``(z, y, x)`` at its place; this may return before it is on disk.

        Raises:
            ValueError: if the block has not the shape of that part, or this is finished.
            OSError: if the disk is full.
        """
        self._check_unfinished()
        part, block = region(where, self.shape), np.asarray(block)
        shape = tuple(s.stop - s.start for s in part)
        if block.shape != shape:
            raise ValueError(f"a block of shape {block.shape} was given for a part of {shape}")
        block = self._form.stored(block)
        if self.dtype.kind == "f":
            self._odd += int(block.size - np.isfinite(block).sum())
        for cell in by_chunk(part):
            inside = tuple(
                slice(c.start - p.start, c.stop - p.start) for c, p in zip(cell, part, strict=True)
            )
            self._put(self._store, cell, block[inside].astype(self.dtype))

    def read(self, where: tuple[slice, ...]) -> np.ndarray:
        """Return a part of what was written."""
        self.flush()
        return self._form.read(Chunked(self._store, str(self._partial))[where])

    def flush(self) -> None:
        """Return when everything that was written is on disk."""
        while self._pending:
            self._wait()

    def seal(self) -> None:
        """Add the coarser levels and the metadata."""
        self._check_unfinished()
        self.flush()
        if self._odd:
            warn(self._target, [f"{self._odd} voxels are NaN or infinite"])
        method = "mean" if self.dtype.kind == "f" else "mode"  # a label must stay a label
        factors = ome_writing.level_factors(self.shape)
        fine, chunks = self._store, [self._files("0", self.shape)]
        for level, (before, factor) in enumerate(zip(factors, factors[1:], strict=False), 1):
            step = [f // b for b, f in zip(before, factor, strict=True)]
            fine = self._coarser(ts.downsample(fine, step, method), str(level))
            chunks.append(self._files(str(level), tuple(fine.shape)))
        size, origin = self._place
        name = self._target.name
        files = ome_writing.group_files(
            name, factors, size, origin, method, chunks, self._card, self._form
        )
        with disk_full_explained(self._target):
            for name, content in files.items():
                (self._partial / name).write_text(json.dumps(content, indent=2))

    def finish(self) -> None:
        """Seal the volume and give the folder its name."""
        self.seal()
        with disk_full_explained(self._target):
            publish_folder(self._partial, self._target, self._overwrite)

    def discard(self) -> None:
        """Remove what was written."""
        for part in self._pending:  # what is under way would make the folder anew
            with contextlib.suppress(*FAILURES):
                part.result()
        self._pending.clear()
        remove(self._partial)

    def _started(self) -> ts.TensorStore:
        remove(self._partial)
        self._partial.mkdir()  # fails if it could not be removed
        try:
            return self._array("0", self.shape)
        except BaseException:
            remove(self._partial)
            raise

    def _resumed(self) -> ts.TensorStore:
        store = None
        with contextlib.suppress(*FAILURES):
            store = open_store(self._driver, self._partial / "0", 0, open=True)
        if store is None or (tuple(store.shape), store.dtype) != (self.shape, ts.dtype(self.dtype)):
            raise FileError(f"{self._partial}: is not what was being written; remove it")
        return store

    def _array(self, name: str, shape: tuple[int, ...]) -> ts.TensorStore:
        """Create an array of this volume; remove what an earlier attempt left of it."""
        chunk = [min(n, EDGE) for n in shape]
        metadata = ome_writing.array_metadata(shape, chunk, self.dtype, self._form.version)
        options = {"create": True, "delete_existing": True, "spec": {"metadata": metadata}}
        with self._failure_explained():
            return open_store(self._driver, self._partial / name, 0, **options)

    def _files(self, name: str, shape: tuple[int, ...]) -> int:
        """Return the number of chunk files of an array; chunks that are all 0 have none."""
        return count_chunks(self._partial / name, shape, [min(n, EDGE) for n in shape])[0]

    def _coarser(self, fine: ts.TensorStore, name: str) -> ts.TensorStore:
        coarse, voxels = self._array(name, tuple(fine.shape)), Chunked(fine, str(self._partial))
        for where in blocks(voxels.shape):
            self._put(coarse, where, voxels[where])
        self.flush()
        return coarse

    def _put(self, store: ts.TensorStore, where: tuple[slice, ...], block: np.ndarray) -> None:
        """Start to write a block that nobody else will change."""
        self._pending.append(store[where].write(block, can_reference_source_data_indefinitely=True))
        while len(self._pending) > _UNDER_WAY:
            self._wait()

    def _wait(self) -> None:
        """Return when the oldest pending part is on disk."""
        with self._failure_explained():
            self._pending[0].result()
        self._pending.popleft()  # a failure stays, so that no later flush says that all is well

    @contextlib.contextmanager
    def _failure_explained(self) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            free = size_text(shutil.disk_usage(self._target.parent).free)
            raise OSError(f"cannot write {self._target}: {reason(error)} ({free} free)") from None

    def _check_unfinished(self) -> None:
        if not self._partial.is_dir():
            raise ValueError(f"{self._target}: is finished or discarded, nothing can be added")


def write_zarr(
    path: PathLike,
    array: Any,
    like: Tomogram | None = None,
    voxel_size: VoxelSize | None = None,
    overwrite: bool = False,
    version: Version = "0.5",
    card: LabelCard | None = None,
) -> None:
    """Write a volume as OME-Zarr (NGFF), completely or not at all.

    Chunks have 128 voxels along each axis, in version 0.5 with a checksum. Levels are halved until
    no axis is longer than 128, floats to their mean, integers to their (smallest) mode.

    Args:
        path: the folder.
        array: ``(z, y, x)``, real; NumPy, JAX or a `Chunked`.
        like: the tomogram this belongs to: voxel size and origin are taken from it.
        voxel_size: angstrom, one number or (z, y, x); wins over `like`.
        overwrite: replace an existing OME-Zarr folder.
        version: "0.5" (Zarr 3), or "0.4" (Zarr 2) for programs that read that alone.
        card: what the labels mean, if they are labels.

    Raises:
        FileError: if the folder exists or cannot be written, or the array is not a real volume.
        OSError: if the disk is full.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from cryojax_seg.io import read_zarr
    >>> path = Path(tempfile.mkdtemp()) / "a.zarr"
    >>> write_zarr(path, np.ones((2, 3, 200), np.float16), voxel_size=5.0)
    >>> read_zarr(path, voxel_size=10.0, level=1).origin
    (2.5, 2.5, 2.5)
    """
    array = array if isinstance(array, Chunked) else np.asarray(array)
    if array.ndim != 3:
        raise FileError(f"{path}: a volume (z, y, x) is needed, this array is {array.shape}")
    known = Tomogram(array) if like is None else like
    if voxel_size is not None:
        known = dataclasses.replace(known, voxel_size=voxel_size_zyx(voxel_size))
    form = ZarrForm(version)
    output = ZarrOutput(path, array.shape, array.dtype, known, overwrite, card=card, form=form)
    try:
        for where in blocks(array.shape):
            output.write(where, array[where])
        output.finish()
    except BaseException:
        output.discard()
        raise
