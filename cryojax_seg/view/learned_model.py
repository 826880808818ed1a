"""Saves what was learned from strokes as a model beside their labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryojax_seg.core.plain import Contrast
from cryojax_seg.core.tomogram import Tomogram

if TYPE_CHECKING:
    from cryojax_seg.core import Segmenter


class ModelBeside:
    """Writes a segmenter into the folder NAME.model beside the labels, in place of the one before.

    Args:
        labels: path of the labels.
        tomogram: what they belong to.
        contrast: of its structure.
        wedge: its `core.MissingWedge`; None if unknown.

    >>> import tempfile
    >>> import numpy as np
    >>> from cryojax_seg.segmenters import LinearVote
    >>> tomogram = Tomogram(np.zeros((2, 3, 4)), (10.0, 10.0, 10.0))
    >>> Path(ModelBeside(Path(tempfile.mkdtemp()) / "a.mrc", tomogram)(LinearVote(1))).name
    'a.model'
    """

    def __init__(
        self, labels: Path, tomogram: Tomogram, contrast: Contrast = "dark", wedge: Any = None
    ):
        self.labels, self.tomogram, self.wedge = labels, tomogram, wedge
        self.contrast: Contrast = contrast

    def __call__(self, segmenter: "Segmenter", method: str = "vote") -> str:
        """Write the model, and return its folder.

        Raises:
            FileError: if there is a folder of that name that is no model, or it cannot be written.
            OSError: if the disk is full.
        """
        from cryojax_seg.io import ModelCard, save_model

        folder = self.labels.with_suffix(".model")
        tilts = None
        if self.wedge is not None:
            low, high = self.wedge.tilt_range
            tilts = float(low), float(high)
        card = ModelCard(
            voxel_size=self.tomogram.voxel_size,
            contrast=self.contrast,
            tilt_range=tilts,
            provenance={"method": method, "labels": self.labels.name, "painted": True},
        )
        save_model(folder, segmenter, card, overwrite=True)
        return str(folder)
