"""Keeps painted labels in one place: opened by one session, and written whole or not at all."""

import math
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryojax_seg.core.blocks import EDGE, release
from cryojax_seg.core.names import class_names, label_names
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io import (
    FileError,
    HeaderWarning,
    check_places,
    read_labels,
    read_mrc,
    read_tomogram,
    read_zarr,
)
from cryojax_seg.io.annotation import IGNORE, stored_ignore
from cryojax_seg.io.files import PathLike, check_own, former_folder, target_path
from cryojax_seg.io.label_card import stated_names
from cryojax_seg.io.locks import Lock, lock_path
from cryojax_seg.io.ome import FILES
from cryojax_seg.io.same_grid import check_same_grid
from cryojax_seg.io.voxel_size import VoxelSize
from cryojax_seg.text import size_text
from cryojax_seg.view.excluded import read_excluded, with_excluded
from cryojax_seg.view.label_writing import write_mrc_labels, write_zarr_labels
from cryojax_seg.view.painting import UNKNOWN

_SUFFIXES = (".mrc", ".rec", ".map")
_ZARR = ".zarr"


class LabelFile:
    """Represents the file of the labels of one session, which no other can open meanwhile.

    Labels are stored as bytes in which 255 (-1 in the signed bytes of MRC) is not annotated, as
    `io.read_labels` reads them, with the names of the classes (`io.LabelCard`), and which voxels
    were painted as "ignore" (`view.excluded`).

    Args:
        path: an MRC file, or an OME-Zarr folder if the name ends in .zarr; labels that are there
            are read, and else it comes with the first `write`.
        tomogram: what they belong to; shape and voxel size must agree.
        classes: names of the classes, background first if there are several; those in the file by
            default, else "foreground".

    Attributes:
        classes: the names.
        slices: the labels that are there, for a `Painting`.

    Raises:
        BusyError: if another session or command holds it; it says who.
        FileError: if it cannot be read or written, holds no labels of this tomogram, or there is no
            room for it.

    >>> import tempfile
    >>> tomogram = Tomogram(np.zeros((4, 5, 6), np.float32), voxel_size=(10.0, 10.0, 10.0))
    >>> path = f"{tempfile.mkdtemp()}/labels.mrc"
    >>> file = LabelFile(path, tomogram, ("membrane",))
    >>> file.write({2: np.ones((5, 6), np.int8)}, ("membrane",))
    >>> file.close()
    >>> again = LabelFile(path, tomogram)
    >>> again.classes, list(again.slices)
    (('membrane',), [2])
    >>> again.close()
    """

    def __init__(self, path: PathLike, tomogram: Tomogram, classes: Sequence[str] = ()):
        self.path, self._tomogram = target_path(path, overwrite=True), tomogram
        self._shape = tuple(int(n) for n in tomogram.density.shape)
        if self.path.suffix not in (*_SUFFIXES, _ZARR):
            raise FileError(
                f"{path}: labels are written as MRC or OME-Zarr; choose a name that ends in .mrc "
                "or .zarr"
            )
        self._zarr = self.path.suffix == _ZARR
        check_places([self.path], [tomogram.name])
        self._lock = Lock(lock_path(self.path), path)
        try:
            if self._zarr:
                _prepare(self.path)
            if self.path.exists():
                names = () if classes else stated_names(self.path)
                self.classes = tuple(classes) or class_names(names, len(names) or 1)
                self.slices = self._read()
            else:
                self.classes, self.slices = tuple(classes) or class_names((), 1), {}
                if not self._zarr:  # which is compressed to a small part of that
                    _check_room(self.path, math.prod(self._shape))
        except BaseException:
            self.close()
            raise

    def write(self, slices: Mapping[int, np.ndarray], classes: Sequence[str]) -> None:
        """Write all labels, or leave the file as it was.

        Args:
            slices: of a `Painting`.
            classes: names of the classes.

        Raises:
            OSError: if the disk is full, or the folder is gone.
        """
        write = write_zarr_labels if self._zarr else write_mrc_labels
        write(self.path, slices, self._tomogram, classes)

    def close(self) -> None:
        """Let others open the file; a second call changes nothing."""
        self._lock.release()

    def _read(self) -> dict[int, np.ndarray]:
        name = f"{self.path} (labels of {self._tomogram.name})"
        with warnings.catch_warnings():  # masks rarely carry a voxel size
            warnings.filterwarnings("ignore", message=".*voxel size", category=HeaderWarning)
            found = (read_zarr if self._zarr else read_mrc)(self.path)
        check_same_grid(found, self._tomogram, name)
        kind = np.dtype(found.density.dtype)
        if kind.kind not in "iu":
            raise FileError(f"{name}: holds {kind}; labels are integers, choose another file")
        last, ignore = len(label_names(self.classes)) - 1, stored_ignore(IGNORE, kind)
        slices = {}
        for z, values in _sections(found.density):
            known = values != ignore
            wrong = values[known & ((values < 0) | (values > last))]
            if wrong.size:
                raise FileError(
                    f"{name}: slice {z} has the label {wrong[0]}, and the classes "
                    f"{', '.join(self.classes)} end at {last}; name all classes, or choose another "
                    "file",
                    "classes",
                )
            if known.any():
                slices[z] = np.where(known, values, UNKNOWN).astype(np.int8)
        return with_excluded(slices, read_excluded(self.path, self._shape), self._shape)


def _sections(volume: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the slices of a volume on disk with their numbers, and read chunks once."""
    depth = 1 if isinstance(volume, np.ndarray) else EDGE
    for first in range(0, volume.shape[0], depth):
        yield from enumerate(np.asarray(volume[first : first + depth]), first)
        release(volume)


def _prepare(path: Path) -> None:
    """Complete what a killed session left between two renames, and refuse a foreign folder."""
    former = former_folder(path)
    if former.is_dir() and not path.exists():
        former.rename(path)
    if path.is_file():
        raise FileError(f"{path}: exists and is not an OME-Zarr folder; choose another name")
    check_own(path, FILES)


def begin_labels(
    path: PathLike,
    labels: PathLike,
    tomogram: PathLike,
    classes: Sequence[str] = (),
    values: Sequence[int] = (),
    *,
    voxel_size: VoxelSize | None = None,
    thickness: float | None = None,
) -> None:
    """Write a new file of labels to go on with, from labels in any format that is read.

    Args:
        path: the new MRC file or OME-Zarr folder, as a `LabelFile` has it.
        labels: a label volume, or an IMOD model or a mesh of the tomogram.
        tomogram: what they belong to.
        classes: names of the labels 1, 2, ...; those that the labels state by default, else
            "foreground", or "class1", "class2", ...
        values: what stands in the volume for the labels 1, 2, ... in order; others are background.
        voxel_size: angstrom, one number or (z, y, x); wins over the file.
        thickness: of what an IMOD model or a mesh marks, in angstrom, see `io.read_labels`.

    Raises:
        FileError: as `io.read_labels` and `LabelFile`.

    >>> import tempfile
    >>> from cryojax_seg.io import write_mrc
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_mrc(folder / "t.mrc", np.zeros((2, 3, 4), np.float32), voxel_size=10.0)
    >>> write_mrc(folder / "found.mrc", np.full((2, 3, 4), 7, np.int16), voxel_size=10.0)
    >>> begin_labels(folder / "l.mrc", folder / "found.mrc", folder / "t.mrc", ["actin"], [7])
    >>> np.unique(read_mrc(folder / "l.mrc").density).tolist()
    [1]
    """
    grid = read_tomogram(tomogram, voxel_size)
    names = tuple(classes) or stated_names(labels)
    known = class_names(names, len(names)) if names else None
    found = read_labels(labels, grid, known, thickness=thickness, stored=values)
    names = known or class_names((), max(int(found.labels.max()), 1))
    painted = np.where(found.weights > 0, found.labels, UNKNOWN).astype(np.int8)
    shape = tuple(int(n) for n in painted.shape)
    slices = {z: section for z, section in enumerate(painted) if z in found.slices}
    file = LabelFile(path, grid, names)
    try:
        file.write(with_excluded(slices, read_excluded(Path(labels), shape), shape), names)
    finally:
        file.close()


def _check_room(path: Path, needed: int) -> None:
    """Refuse labels for which there is no room; they are written with the first stroke."""
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise FileError(
            f"{path}: needs {size_text(needed)}, and the disk has {size_text(free)} free; make "
            "room, or choose another folder"
        )
