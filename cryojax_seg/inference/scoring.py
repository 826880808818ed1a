"""Scores of a label volume against a true one, from files."""

from collections.abc import Sequence

from cryojax_seg import evaluate
from cryojax_seg.core import MissingWedge
from cryojax_seg.evaluate.scores import Scores
from cryojax_seg.io import (
    is_imod,
    not_annotated_hint,
    read_labels,
    read_probabilities,
    read_tomogram,
)
from cryojax_seg.io.files import FileError, PathLike


def score_files(
    prediction: PathLike,
    truth: PathLike,
    *,
    classes: Sequence[str] = (),
    slices: Sequence[int] = (),
    ignore: int = 255,
    tolerance: float | None = None,
    wedge: MissingWedge | None = None,
    probabilities: Sequence[PathLike] = (),
    voxel_size: float | None = None,
    thickness: float | None = None,
) -> Scores:
    """Score a predicted label volume against a true one on the same grid, class by class.

    Args:
        prediction: labels; 0 is background.
        truth: true labels, or an IMOD model.
        classes: names of the labels 1, 2, ... in order; by default foreground, or class1, ...
        slices: z indices that are scored; none for all.
        ignore: label of true voxels that nobody annotated; they do not count.
        tolerance: distance in angstrom within which two surfaces agree; two voxels by default.
        wedge: the missing wedge, for recall and precision against visibility.
        probabilities: a map for each class but the background, for calibration.
        voxel_size: angstrom, instead of what the headers say.
        thickness: of what open contours and points of an IMOD model mark, angstrom.

    Raises:
        FileError: naming a file that does not hold labels, or does not fit the other.

    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from cryojax_seg.io import write_mrc
    >>> file = Path(tempfile.mkdtemp()) / "labels.mrc"
    >>> labels = np.zeros((8, 8, 8), np.int8)
    >>> labels[2:6] = 1
    >>> write_mrc(file, labels, voxel_size=10.0)
    >>> score_files(file, file).as_dict()["classes"]["foreground"]["dice"]
    1.0
    """
    # The truth may have unannotated voxels; a prediction has none.
    volume = read_tomogram(prediction, voxel_size)
    grid = volume if is_imod(truth) else None
    known = read_labels(truth, grid, ignore=ignore, annotated=slices or None, thickness=thickness)
    if not known.labels.any() and not known.weights.all() and not slices:
        raise FileError(
            f"{truth}: no voxel has a label other than 0, so there is nothing to score; "
            + not_annotated_hint(ignore),
            "ignore",
        )
    predicted = read_labels(prediction, ignore=None, voxel_size=voxel_size).labels
    shape = known.labels.shape
    if predicted.shape != shape:
        raise FileError(
            f"{prediction}: has shape {predicted.shape} (z, y, x), and {truth} has {shape}; they "
            "must lie on the same grid"
        )
    if volume.voxel_size is None and tolerance is not None:
        volume.require_voxel_size()
    return evaluate.score(
        predicted,
        known.labels,
        weights=known.weights,
        classes=classes,
        voxel_size=volume.voxel_size,
        tolerance=tolerance,
        wedge=wedge,
        probabilities=read_probabilities(probabilities, shape) if probabilities else None,
    )
