"""Check that labels lie on the grid of their tomogram."""

import itertools
from collections.abc import Sequence

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.files import FileError


def check_same_grid(labels: Tomogram, tomogram: Tomogram, name: str) -> None:
    """Raise a FileError unless labels have the shape and the voxel size of their tomogram.

    Args:
        labels: the labels.
        tomogram: what they belong to. A voxel size that one of them lacks, or of 1 A in the labels,
            is not compared; others may differ by 1 %.
        name: of the labels, for messages.

    Raises:
        FileError: saying how they differ, and how to mend it.

    >>> import numpy as np
    >>> one, other = (Tomogram(np.zeros((2, 2, 2)), (v, v, v)) for v in (10.0, 20.0))
    >>> check_same_grid(one, other, "labels.mrc")
    Traceback (most recent call last):
    cryojax_seg.io.files.FileError: labels.mrc: has voxel size 10, 10, 10 A, the tomogram 20, ...
    """
    _check_shape(labels.density.shape, tomogram.density.shape, name)
    _check_voxel_size(labels.voxel_size, tomogram, name)


def _check_shape(shape: tuple[int, ...], wanted: tuple[int, ...], name: str) -> None:
    if shape == wanted:
        return
    message = f"{name}: has shape {shape} (z, y, x), the tomogram {wanted}"
    orders = [o for o in itertools.permutations(range(3)) if tuple(shape[i] for i in o) == wanted]
    if orders:
        axes = ", ".join("zyx"[i] for i in orders[0])
        raise FileError(
            f"{message}; the axes seem to be transposed: rewrite it with its axes in the order "
            f"{axes} (IMOD: clip rotx, or trimvol -yz)"
        )
    raise FileError(f"{message}; labels must cover the whole tomogram at the same binning")


def _check_voxel_size(size: tuple[float, ...] | None, tomogram: Tomogram, name: str) -> None:
    wanted = tomogram.voxel_size
    if size is None or wanted is None or size == (1.0, 1.0, 1.0):  # 1 A: never filled in
        return
    if any(abs(a - b) > 0.01 * b for a, b in zip(size, wanted, strict=True)):
        raise FileError(
            f"{name}: has voxel size {_text(size)} A, the tomogram {_text(wanted)} A (z, y, x); "
            "they differ by more than 1 %. Correct the wrong header, or give the right "
            "voxel_size",
            "voxel_size",
        )


def _text(size: Sequence[float]) -> str:
    return ", ".join(f"{v:g}" for v in size)
