"""From annotated tomograms to a trained segmenter. Sub-modules load when first used."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryojax_seg.training.batch import Annotated as Annotated
    from cryojax_seg.training.batch import Batch as Batch
    from cryojax_seg.training.batch import split_annotation as split_annotation
    from cryojax_seg.training.config import Augmentation as Augmentation
    from cryojax_seg.training.config import TrainConfig as TrainConfig
    from cryojax_seg.training.config import TrainingError as TrainingError
    from cryojax_seg.training.loop import Result as Result
    from cryojax_seg.training.loop import train as train
    from cryojax_seg.training.phantoms import simulated as simulated
    from cryojax_seg.training.restoring import unlabelled as unlabelled
    from cryojax_seg.training.step import TrainState as TrainState
    from cryojax_seg.training.step import make_step as make_step

_HOME = {
    "Annotated": "batch",
    "Batch": "batch",
    "split_annotation": "batch",
    "Augmentation": "config",
    "TrainConfig": "config",
    "TrainingError": "config",
    "Result": "loop",
    "train": "loop",
    "unlabelled": "restoring",
    "simulated": "phantoms",
    "TrainState": "step",
    "make_step": "step",
}

__all__ = [
    "Annotated",
    "Augmentation",
    "Batch",
    "Result",
    "TrainConfig",
    "TrainState",
    "TrainingError",
    "make_step",
    "simulated",
    "split_annotation",
    "train",
    "unlabelled",
]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
