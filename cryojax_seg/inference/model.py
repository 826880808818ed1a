"""Loads saved models, which are a segmenter and its card."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryojax_seg import training
from cryojax_seg.core import (
    LocalOperator,
    MissingWedge,
    Normalized,
    Segmenter,
    Symmetrized,
    Tomogram,
    hyperparameters,
    label_names,
)
from cryojax_seg.errors import ParameterError
from cryojax_seg.inference.built_in import model_folder, untrained_method
from cryojax_seg.io import LabelCard, ModelCard, load_model
from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.io.modules import flat_state
from cryojax_seg.measure import kind_of
from cryojax_seg.segmenters import UNet
from cryojax_seg.training import methods

SMALL = 200_000  # parameters


@dataclasses.dataclass(frozen=True)
class Model:
    """Holds a segmenter and the card of its training data.

    Returned by `load`.

    Attributes:
        segmenter: the segmenter.
        card: the facts about its training data on which inference depends.
        first_look: the method of the segmenter, if it was not trained and is fitted to each
            tomogram, see `training.first_look`.
        name: of the built-in model or the run folder; it changes nothing.
    """

    segmenter: Segmenter
    card: ModelCard = dataclasses.field(default_factory=ModelCard)
    first_look: methods.Untrained | None = None
    name: str = ""

    def fitted(self, tomogram: Tomogram, volume: Normalized) -> Segmenter:
        """Return the segmenter for a tomogram, of which `volume` is the normalized form.

        Raises:
            ParameterError: if a method that was not trained needs a voxel size, and there is none.
            FileError: if it finds the same everywhere.
        """
        if self.first_look is None:
            return self.segmenter
        if tomogram.voxel_size is None:
            raise ParameterError(
                f"{tomogram.name}: has no voxel size, from which {self.first_look} takes its "
                "scale; give voxel_size",
                "voxel_size",
            )
        size = float(np.mean(tomogram.voxel_size))
        try:
            return training.first_look(self.first_look, volume, size)
        except ValueError as error:
            raise FileError(f"{tomogram.name}: {error}") from None

    @property
    def is_small_unet(self) -> bool:
        """Return whether the segmenter is a U-Net of at most 200,000 parameters, as unet-fast is.

        An average over flips makes it more accurate, and is still fast.

        >>> from cryojax_seg.segmenters import GlobalThreshold
        >>> Model(GlobalThreshold(1.0)).is_small_unet
        False
        """
        if not isinstance(self.segmenter, UNet):
            return False
        return sum(leaf.size for leaf in flat_state(self.segmenter).values()) <= SMALL

    def with_flips(self, wedge: MissingWedge) -> "Model":
        """Return the model with logits averaged over the flips that leave this wedge unchanged.

        >>> from cryojax_seg.segmenters import GlobalThreshold
        >>> model = Model(GlobalThreshold(1.0)).with_flips(MissingWedge((-60.0, 60.0)))
        >>> len(model.segmenter.flips)
        8
        """
        return dataclasses.replace(self, segmenter=Symmetrized(self.segmenter, wedge))

    def label_card(self, thresholds: tuple[float, ...] = ()) -> LabelCard:
        """Return what its labels mean, as it is written into label volumes.

        Args:
            thresholds: that were used, of each class but the background; none for 0.5.

        >>> from cryojax_seg.segmenters import GlobalThreshold
        >>> card = Model(GlobalThreshold(classes=("ER membrane",))).label_card((0.25,))
        >>> card.classes, card.kinds, card.thresholds, len(card.digest)
        (('ER membrane',), ('membrane',), (0.25,), 64)
        """
        names = label_names(self.segmenter.classes)[1:]
        kinds = self.card.kinds or tuple(kind_of(name) for name in names)
        if not thresholds and len(names) == 1:
            thresholds = (0.5,)
        return LabelCard(names, kinds, thresholds, self.name, self.digest())

    def digest(self) -> str:
        """Return a text that two models share only if they compute the same.

        It decides whether an interrupted job continues.
        """
        return operator_digest(self.segmenter, dataclasses.asdict(self.card))


def operator_digest(operator: LocalOperator, *others: Any) -> str:
    """Return a text that is equal for operators only if they compute the same.

    Args:
        operator: a segmenter or restorer.
        others: plain values that must be equal as well.

    >>> from cryojax_seg.restore import Gaussian
    >>> operator_digest(Gaussian(1.0)) == operator_digest(Gaussian(2.0))
    False
    """
    told = [type(operator).__name__, hyperparameters(operator)]
    content = hashlib.sha256(json.dumps([told, *others]).encode())
    for name, value in sorted(flat_state(operator).items()):
        content.update(name.encode() + np.asarray(value).tobytes())
    return content.hexdigest()


def load(path: PathLike, allow: Sequence[str] = ()) -> Model:
    """Load a built-in model, or the model in a run folder of `cryojax-seg train`.

    Nothing is fetched from anywhere. A folder that holds a model comes before a built-in model of
    the same name.

    Args:
        path: the folder RUN, or RUN/model, or a name that `built_in_models` lists, such as
            ``membrane``, which means the best size there is, or ``membrane-fast``; or a method for
            a first look, which was not trained: ``threshold``, ``sheet`` or ``tensor-voting``.
        allow: modules outside of this package that the model may import, see `io.load_model`.

    Raises:
        ForeignModuleError: if the model needs a module that is not allowed.
        FileError: if there is no such folder or name, or it is a restorer, which gives no labels.

    >>> import tempfile
    >>> from cryojax_seg import io
    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> folder = f"{tempfile.mkdtemp()}/model"
    >>> io.save_model(folder, GlobalThreshold(2.0))
    >>> load(folder).segmenter.classes
    ('foreground',)
    """
    method = untrained_method(path)
    if method is not None:
        card = ModelCard(provenance={"method": method})
        return Model(training.unfitted(method), card, first_look=method, name=method)
    segmenter, card = load_model(model_folder(path), allow)
    if not isinstance(segmenter, Segmenter):
        raise FileError(f"{path}: is a {type(segmenter).__name__}, which gives no labels")
    return Model(segmenter, card, name=_name(path))


def _name(path: PathLike) -> str:
    """Return the name of a model in a folder RUN or RUN/model, or that of a built-in one."""
    folder = Path(path)
    return folder.resolve().parent.name if folder.name == "model" else folder.name


def load_restorer(path: PathLike, allow: Sequence[str] = ()) -> tuple[LocalOperator, ModelCard]:
    """Load the restorer in a run folder of `cryojax-seg restore`, or in a model folder.

    Args:
        path: the folder NAME.run, or NAME.run/model.
        allow: modules outside of this package that it may import, see `io.load_model`.

    Returns:
        the restorer, for `restore` and `restore_file`, and its card.

    Raises:
        ForeignModuleError: if it needs a module that is not allowed.
        FileError: if there is no model, or a segmenter.

    >>> import tempfile
    >>> from cryojax_seg import io
    >>> from cryojax_seg.restore import Gaussian
    >>> folder = tempfile.mkdtemp()
    >>> io.save_model(f"{folder}/model", Gaussian(2.0))
    >>> type(load_restorer(folder)[0]).__name__
    'Gaussian'
    """
    folder = model_folder(path)
    restorer, card = load_model(folder, allow)
    if isinstance(restorer, Segmenter):
        raise FileError(
            f"{folder}: is a {type(restorer).__name__}, not a restorer; make one with "
            "`cryojax-seg restore`"
        )
    return restorer, card
