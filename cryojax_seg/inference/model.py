"""A saved model, ready to be applied: the segmenter and its card."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cryojax_seg.core import MissingWedge, Segmenter, Symmetrized, hyperparameters
from cryojax_seg.io import ModelCard, load_model
from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.io.modules import flat_state


@dataclasses.dataclass(frozen=True)
class Model:
    """A segmenter and what inference must know of the data it was trained on.

    Attributes:
        segmenter: gives logits.
        card: of its training data.
    """

    segmenter: Segmenter
    card: ModelCard = dataclasses.field(default_factory=ModelCard)

    def with_flips(self, wedge: MissingWedge) -> "Model":
        """The same model with its logits averaged over the flips that leave this wedge unchanged.

        >>> from cryojax_seg.segmenters import GlobalThreshold
        >>> model = Model(GlobalThreshold(1.0)).with_flips(MissingWedge((-60.0, 60.0)))
        >>> len(model.segmenter.flips)
        8
        """
        return dataclasses.replace(self, segmenter=Symmetrized(self.segmenter, wedge))

    def digest(self) -> str:
        """A text that two models share only if they compute the same.

        It decides whether an interrupted job goes on.
        """
        told = [type(self.segmenter).__name__, hyperparameters(self.segmenter)]
        content = hashlib.sha256(json.dumps([told, dataclasses.asdict(self.card)]).encode())
        for name, value in sorted(flat_state(self.segmenter).items()):
            content.update(name.encode() + np.asarray(value).tobytes())
        return content.hexdigest()


def load(path: PathLike, allow: Sequence[str] = ()) -> Model:
    """The model in a run folder of `cryojax-seg train`, or in a model folder.

    Args:
        path: the folder RUN, or RUN/model.
        allow: modules outside of this package that the model may import, see `io.load_model`.

    Raises:
        ForeignModuleError: if the model needs a module that is not allowed.
        FileError: if there is no model, or a restorer, which gives no labels.

    >>> import tempfile
    >>> from cryojax_seg import io
    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> folder = Path(tempfile.mkdtemp()) / "model"
    >>> io.save_model(folder, GlobalThreshold(2.0))
    >>> load(folder).segmenter.classes
    ('foreground',)
    """
    nested = Path(path) / "model"
    folder = nested if nested.is_dir() else Path(path)
    segmenter, card = load_model(folder, allow)
    if not isinstance(segmenter, Segmenter):
        raise FileError(f"{path}: is a {type(segmenter).__name__}, which gives no labels")
    return Model(segmenter, card)
