"""Read label volumes and check them against the tomogram they belong to.

On disk a label volume holds integers: 0 is background, 1, 2, ... are classes, and one value (255
by default) marks voxels that nobody annotated; signed bytes, as MRC mode 0 has them, hold 255 as
-1, which is the same byte. A mask of 0 and 255 is read as label 1 where 255 is not that value. In
memory voxels that nobody annotated have weight 0 and label 0, and the ignore value exists nowhere
else.
"""

import dataclasses
import os
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from cryojax_seg.core.names import label_names
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.files import FileError, HeaderWarning, PathLike
from cryojax_seg.io.imod import is_imod
from cryojax_seg.io.mesh_reading import is_mesh
from cryojax_seg.io.same_grid import check_same_grid
from cryojax_seg.io.volume import read_tomogram
from cryojax_seg.io.voxel_size import VoxelSize

IGNORE = 255
HIGHEST = 127  # label there may be; labels are signed bytes in training and in what is written
_FULL = 255  # what masks of other programs hold in the place of 1
_SPARSE = 0.25  # share of slices with labels under which unlabelled slices look forgotten


@dataclasses.dataclass(frozen=True)
class Annotation:
    """Labels of a tomogram, and weights that say which voxels were annotated.

    Attributes:
        labels: int32 ``(z, y, x)``; 0 where not annotated.
        weights: float32 ``(z, y, x)``; 0 where not annotated, else 1.
        name: where it came from, for messages.

    >>> known = Annotation(np.zeros((2, 3, 4), np.int32), np.zeros((2, 3, 4), np.float32))
    >>> known.weights[1] = 1.0  # slice 1 is annotated, as background
    >>> known.slices
    (1,)
    """

    labels: np.ndarray
    weights: np.ndarray
    name: str = "annotation"

    @property
    def slices(self) -> tuple[int, ...]:
        """Return the z indices of slices with at least one annotated voxel."""
        return tuple(np.flatnonzero(self.weights.any((1, 2))).tolist())


def annotate(
    values: np.ndarray,
    ignore: int | None = IGNORE,
    annotated: np.ndarray | Sequence[int] | None = None,
    name: str = "annotation",
) -> Annotation:
    """Split integer labels with an ignore value into labels and weights.

    Args:
        values: integers ``(z, y, x)``.
        ignore: the value of voxels that are not annotated; None if there is none.
        annotated: which voxels are annotated: z indices, or a mask ``(z, y, x)`` that is not zero
            there; None for all.
        name: for messages.

    Raises:
        FileError: if a z index is outside, the mask has another shape, or nothing is annotated.

    >>> a = annotate(np.array([[[0, 1, 255]]]))
    >>> a.labels.tolist(), a.weights.tolist()
    ([[[0, 1, 0]]], [[[1.0, 1.0, 0.0]]])
    """
    known = np.ones(values.shape, bool) if ignore is None else np.asarray(values != ignore)
    if annotated is not None:
        known &= _annotated(np.asarray(annotated), values.shape, name)
    if not known.any():
        raise FileError(
            f"{name}: every voxel is marked as not annotated (ignore value {ignore}); annotate "
            "some, or give the right ignore value"
        )
    return Annotation(
        labels=np.where(known, values, 0).astype(np.int32),
        weights=known.astype(np.float32),
        name=name,
    )


def read_labels(
    path: PathLike,
    tomogram: Tomogram | None = None,
    classes: Sequence[str] | None = None,
    ignore: int | None = IGNORE,
    annotated: PathLike | Sequence[int] | None = None,
    voxel_size: VoxelSize | None = None,
    offset: int = 0,
    highest: int | None = HIGHEST,
    thickness: float | None = None,
    stored: Sequence[int] = (),
) -> Annotation:
    """Read a label volume, or an IMOD model or a mesh of the tomogram, and check it.

    A volume may have any format that `read_tomogram` reads; see `imod_labels.read_imod` for models
    and `mesh_labels.read_mesh_labels` for meshes.

    Args:
        path: the label volume.
        tomogram: what it annotates; shapes must agree, and voxel sizes to 1 % where both are
            known.
        classes: the classes of the segmenter, which say what values may occur: one class means
            0 and 1, K classes mean 0 to K - 1. None allows every value from 0 to `highest`.
        ignore: the value of voxels that are not annotated; None if there is none, as in a
            prediction. See `stored_ignore` for signed bytes.
        annotated: the z indices that are annotated, or a file whose voxels are not zero where
            they are; None if all are, save those with the ignore value.
        voxel_size: angstrom, one number or (z, y, x); wins over the header of the label volume.
        offset: added to the stored values; 128 for masks that IMOD wrote as signed bytes.
        highest: label that may occur where the classes do not say; None for any.
        thickness: of what open contours and points of an IMOD model mark, or of the shell that a
            mesh becomes, in angstrom.
        stored: what stands in a volume for the labels 1, 2, ...; other values are background.

    Raises:
        FileError: naming both files, if this is not an annotation of that tomogram.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from cryojax_seg.io import write_mrc
    >>> file = Path(tempfile.mkdtemp()) / "labels.mrc"
    >>> write_mrc(file, np.array([[[0, 1, 255]]], np.int16), voxel_size=10.0)
    >>> read = read_labels(file, classes=("membrane",))
    >>> read.labels.tolist(), read.weights.tolist()
    ([[[0, 1, 0]]], [[[1.0, 1.0, 0.0]]])
    """
    with warnings.catch_warnings():
        # Masks rarely carry a voxel size; the one that matters is compared below.
        warnings.filterwarnings("ignore", message=".*voxel size", category=HeaderWarning)
        drawn = _reader_of_drawn(path)
        if drawn is not None:
            names = classes and label_names(tuple(classes))
            volume = Tomogram(drawn(path, tomogram, names, thickness))
        else:
            volume = read_tomogram(path, voxel_size)
        if isinstance(annotated, (str, os.PathLike)):
            mask = np.asarray(read_tomogram(annotated).density)
        else:
            mask = None if annotated is None else np.asarray(annotated, int)
    name = f"{path}" if tomogram is None else f"{path} (labels of {tomogram.name})"
    values = np.asarray(volume.density)
    if stored and drawn is None:
        known = {v: n for n, v in enumerate(stored, 1)}
        known |= {} if ignore is None else {ignore: ignore}
        values = np.select([values == v for v in known], list(known.values()), 0)
    if tomogram is not None:
        check_same_grid(volume, tomogram, name)
    counts = _counts(values, name)
    full = stored_ignore(_FULL, values.dtype)
    ignore = ignore if offset else stored_ignore(ignore, values.dtype)
    if full in counts and counts.keys() <= {0, full} and ignore != full and not offset:
        warnings.warn(
            f"{name}: holds 0 and 255 alone, so it is read as a mask: 255 is label 1",
            HeaderWarning,
            stacklevel=2,
        )
        values, counts = (values != 0).astype(np.int8), {0: counts.get(0, 0), 1: counts[full]}
    _check_values({v + offset: n for v, n in counts.items()}, classes, ignore, highest, name)
    if values.dtype.kind == "f" or offset:
        values = values.astype(np.int32) + offset
    result = annotate(values, ignore, mask, name)
    _warn_if_unlikely(result, ignore, name)
    return result


def _reader_of_drawn(path: PathLike) -> Callable[..., np.ndarray] | None:
    """Return the reader of an IMOD model or a mesh; these load SciPy, which takes seconds."""
    if is_imod(path):
        from cryojax_seg.io.imod_labels import read_imod

        return read_imod
    if is_mesh(path):
        from cryojax_seg.io.mesh_labels import read_mesh_labels

        return read_mesh_labels
    return None


def stored_ignore(ignore: int | None, dtype: np.dtype) -> int | None:
    """Return the ignore value as labels of this type store it; signed bytes store 255 as -1.

    >>> stored_ignore(255, np.dtype(np.int8)), stored_ignore(255, np.dtype(np.int16))
    (-1, 255)
    """
    signed = dtype == np.int8 and ignore is not None and HIGHEST < ignore < 256
    return ignore - 256 if signed and ignore is not None else ignore


def not_annotated_hint(ignore: int) -> str:
    """Return advice for the case that the structure itself has the ignore value.

    >>> not_annotated_hint(255)[:57]
    '255 counts as not annotated; if it is the structure, give'
    """
    return (
        f"{ignore} counts as not annotated; if it is the structure, give another ignore value "
        f"({-2 if ignore == -1 else -1}) or divide by {ignore}"
    )


def _annotated(given: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    if given.ndim == 3:
        if given.shape != shape:
            raise FileError(
                f"{name}: has shape {shape} (z, y, x) and the mask of what is annotated has "
                f"{given.shape}; they must be equal"
            )
        return given != 0
    outside = [int(z) for z in given.ravel() if not 0 <= z < shape[0]]
    if outside or given.size == 0:
        raise FileError(
            f"{name}: annotated slices must be z indices from 0 to {shape[0] - 1}, got "
            f"{outside or 'none'}"
        )
    known = np.zeros(shape, bool)
    known[given.astype(int)] = True
    return known


def _counts(values: np.ndarray, name: str) -> dict[int, int]:
    """Count each value, slice by slice; refuse values that are not integers."""
    counts: dict[int, int] = {}
    for z, section in enumerate(values):
        found, times = np.unique(section, return_counts=True)
        if found.dtype.kind == "f":
            # Beyond 2^24 float32 holds no longer every integer, so they are no class numbers.
            whole = np.isfinite(found) & (found == np.round(found)) & (abs(found) <= 2**24)
            wrong = found[~whole]
            if wrong.size:
                raise FileError(
                    f"{name}: voxel value {wrong[0]:g} in slice {z} is not an integer up to 2^24; "
                    "a label volume holds class numbers. Is this a density or a probability map?"
                )
        for value, n in zip(found, times, strict=True):
            counts[int(value)] = counts.get(int(value), 0) + int(n)
        if len(counts) > 4096:
            raise FileError(
                f"{name}: holds more than 4096 different values; a label volume holds class "
                "numbers. Is this a density, or an instance map?"
            )
    return counts


def _check_values(
    counts: dict[int, int],
    classes: Sequence[str] | None,
    ignore: int | None,
    highest: int | None,
    name: str,
) -> None:
    names = None if classes is None else label_names(tuple(classes))
    labels = counts.keys() - {ignore}
    last = len(names) - 1 if names else max(labels, default=0) if highest is None else highest

    def known(values: set[int], last: int = last) -> bool:
        return all(0 <= v <= last for v in values)

    if known(labels):
        return
    if min(labels) == -128 and known({v + 128 for v in labels} - {ignore}, min(last, HIGHEST)):
        raise FileError(
            f"{name}: the values {_listed(labels)} are labels shifted by -128, as IMOD writes "
            "bytes; read it with offset=128, or rewrite it (IMOD: newstack -multadd 1,128 -mode 1)"
        )
    if min(labels) < 0:
        hint = "; -1 may be 255 in signed bytes or mean 'ignore': set the ignore value to -1"
        raise FileError(
            f"{name}: has negative labels {_listed({v for v in labels if v < 0})}; labels start "
            f"at 0{hint if -1 in labels else ''}"
        )
    unknown = {v for v in labels if v > last}
    often = ", ".join(f"value {v}: {counts[v]} voxels" for v in sorted(unknown)[:6])
    if names is None:
        raise FileError(
            f"{name}: has labels above {last}, the highest allowed ({often}). Correct stray "
            "values; convert an instance map to classes"
        )
    declared = ", ".join(f"{value} {label}" for value, label in enumerate(names))
    raise FileError(
        f"{name}: has the values {_listed(unknown)}, known are {declared} and the ignore value "
        f"{ignore} ({often}); declare the classes or the ignore value",
        "classes",
        "ignore",
    )


def _listed(values: set[int]) -> str:
    ordered = sorted(values)
    return ", ".join(map(str, ordered[:6])) + (", ..." if len(ordered) > 6 else "")


def _warn_if_unlikely(result: Annotation, ignore: int | None, name: str) -> None:
    foreground = result.labels.any((1, 2))
    if not foreground.any():
        ignored = ignore is not None and not result.weights.all()
        hint = f"; {not_annotated_hint(ignore)}" if ignored and ignore is not None else ""
        problem = f"{name}: no voxel has a label other than 0{hint}"
        warnings.warn(HeaderWarning(problem, *["ignore"][: bool(hint)]), stacklevel=3)
    elif ignore is not None and result.weights.all() and foreground.mean() <= _SPARSE:
        warnings.warn(
            f"{name}: only {int(foreground.sum())} of {foreground.size} slices hold labels and "
            "none is marked as not annotated, so all others count as background; if they are "
            "merely not annotated, name the annotated slices or use the ignore value",
            HeaderWarning,
            stacklevel=3,
        )
