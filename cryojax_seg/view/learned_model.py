"""Saves what was learned from strokes as a model beside their labels."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryojax_seg.core import Segmenter
    from cryojax_seg.io import ModelCard


class ModelBeside:
    """Writes a segmenter into the folder NAME.model beside the labels, in place of the one before.

    Args:
        labels: path of the labels.
        tilt_range: of the tomogram in degrees; None if unknown.

    >>> import tempfile
    >>> from cryojax_seg.io import ModelCard
    >>> from cryojax_seg.segmenters import LinearVote
    >>> beside = ModelBeside(Path(tempfile.mkdtemp()) / "a.mrc")
    >>> Path(beside(LinearVote(1), ModelCard())).name
    'a.model'
    """

    def __init__(self, labels: Path, tilt_range: tuple[float, float] | None = None):
        self.labels, self.tilt_range = labels, tilt_range

    def __call__(self, segmenter: "Segmenter", card: "ModelCard") -> str:
        """Write the model, and return its folder.

        Raises:
            FileError: if there is a folder of that name that is no model, or it cannot be written.
            OSError: if the disk is full.
        """
        from cryojax_seg.io import save_model

        folder = self.labels.with_suffix(".model")
        stated = {**card.provenance, "labels": self.labels.name, "painted": True}
        card = dataclasses.replace(
            card, tilt_range=self.tilt_range or card.tilt_range, provenance=stated
        )
        save_model(folder, segmenter, card, overwrite=True)
        return str(folder)
