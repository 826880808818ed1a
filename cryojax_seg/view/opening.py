"""Opens sessions on tomograms and label volumes, given as files or arrays."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cryojax_seg.core.names import class_names
from cryojax_seg.core.plain import Contrast
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.errors import ParameterError
from cryojax_seg.io import read_tomogram
from cryojax_seg.io.files import PathLike
from cryojax_seg.io.same_grid import check_same_grid
from cryojax_seg.io.voxel_size import VoxelSize, voxel_size_zyx
from cryojax_seg.view.label_file import LabelFile
from cryojax_seg.view.learned_model import ModelBeside
from cryojax_seg.view.learning import Learner
from cryojax_seg.view.painting import Painting
from cryojax_seg.view.session import Session

if TYPE_CHECKING:  # a page is shown without JAX
    from cryojax_seg.core.wedge import MissingWedge

Source = Any  # a path, a `Tomogram` or an array ``(z, y, x)``
_MOST = 20  # classes; more can be told apart neither by colour nor by a key


def annotation_session(
    tomogram: Source,
    labels: PathLike | None = None,
    classes: Sequence[str] = (),
    *,
    voxel_size: VoxelSize | None = None,
    contrast: Contrast = "dark",
    wedge: "MissingWedge | None" = None,
    start: PathLike | None = None,
) -> Session:
    """Open a session in which labels of a tomogram are painted.

    Args:
        tomogram: a path, a `Tomogram`, or an array ``(z, y, x)`` with a voxel size.
        labels: the MRC file or OME-Zarr folder in which the labels are kept, and found if they are
            there; None keeps them in memory alone.
        classes: names of the labels 1, 2, ...; by default those in the file, else "foreground".
        voxel_size: angstrom, one number or (z, y, x); wins over the file.
        contrast: of structure in the tomogram, "dark" or "bright".
        wedge: its missing wedge, which examples carry; None if unknown.
        start: what learns from the strokes and predicts slices, see `Learner`: "vote", the name of
            a built-in model such as "membrane", or a model folder; None for nothing.

    Raises:
        ParameterError: if the voxel size is unknown, or there are too many classes.
        FileError, BusyError: as `LabelFile`; FileError also if there is no such model.

    >>> noise = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    >>> session = annotation_session(noise, classes=["membrane"], voxel_size=10.0)
    >>> session.state()["names"]
    ['background', 'membrane']
    """
    volume = _opened(tomogram, voxel_size)
    volume.require_voxel_size()
    names = class_names(tuple(classes), len(classes)) if classes else ()
    if len(names) > _MOST:
        raise ParameterError(f"{len(names)} classes are too many to paint; give fewer", "classes")
    if labels is None:
        painting, file = Painting(volume, names or class_names((), 1)), None
    else:
        file = LabelFile(labels, volume, names)
        painting = Painting(volume, file.classes, file.slices)
    session = Session(volume, painting=painting, file=file, contrast=contrast, wedge=wedge)
    if start is not None:
        tilts = None if wedge is None else (float(wedge.tilt_range[0]), float(wedge.tilt_range[1]))
        try:
            Learner(session, file and ModelBeside(file.path, tilts), str(start))
        except BaseException:
            session.close()
            raise
    return session


def viewing_session(
    tomogram: Source,
    labels: Source | None = None,
    probabilities: Sequence[Source] = (),
    classes: Sequence[str] = (),
    *,
    voxel_size: VoxelSize | None = None,
) -> Session:
    """Open a session that shows a tomogram with labels or probabilities.

    Args:
        tomogram: as in `annotation_session`; the voxel size may be unknown.
        labels: integers of the same shape; 0 is background, and -1 and 255 not annotated.
        probabilities: a volume for each class but the background.
        classes: names of the labels 1, 2, ...

    Raises:
        FileError: if a volume cannot be read, or lies on another grid.

    >>> noise = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    >>> viewing_session(noise, noise > 0).state()["layers"]
    ['image', 'labels']
    """
    volume = _opened(tomogram, voxel_size)
    known = None if labels is None else _beside(labels, volume)
    maps = [_beside(one, volume) for one in probabilities]
    count = max(len(maps), len(classes), 1)
    if known is not None and not classes and isinstance(known, np.ndarray) and known.size < 2**28:
        inside = known[(known >= 0) & (known < 255)]
        count = max(count, int(inside.max(initial=0)))
    names = class_names(tuple(classes), min(count, 254))
    return Session(volume, names, labels=known, probabilities=maps)


def _opened(source: Source, voxel_size: VoxelSize | None = None) -> Tomogram:
    if isinstance(source, Tomogram):
        return source
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        return read_tomogram(source, voxel_size)
    density = np.asarray(source)
    size = None if voxel_size is None else voxel_size_zyx(voxel_size)
    return Tomogram(density.astype(np.int8) if density.dtype == bool else density, size)


def _beside(source: Source, tomogram: Tomogram) -> Any:
    """Return the voxels of a volume on the grid of the tomogram."""
    volume = _opened(source)
    check_same_grid(volume, tomogram, f"{volume.name} (beside {tomogram.name})")
    return volume.density
