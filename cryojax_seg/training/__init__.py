"""Trains segmenters on annotated tomograms, and restorers. Sub-modules load when first used."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryojax_seg.training.comparison import CrossValidation as CrossValidation
    from cryojax_seg.training.comparison import HeldOut as HeldOut
    from cryojax_seg.training.comparison import cross_validation as cross_validation
    from cryojax_seg.training.config import Augmentation as Augmentation
    from cryojax_seg.training.config import Interrupted as Interrupted
    from cryojax_seg.training.config import TrainConfig as TrainConfig
    from cryojax_seg.training.config import TrainingError as TrainingError
    from cryojax_seg.training.example import Batch as Batch
    from cryojax_seg.training.example import Example as Example
    from cryojax_seg.training.example import split_annotation as split_annotation
    from cryojax_seg.training.fitting import Fitted as Fitted
    from cryojax_seg.training.fitting import fit_model as fit_model
    from cryojax_seg.training.folds import Fold as Fold
    from cryojax_seg.training.folds import folds_of as folds_of
    from cryojax_seg.training.loop import Result as Result
    from cryojax_seg.training.loop import train as train
    from cryojax_seg.training.phantoms import labelled as labelled
    from cryojax_seg.training.phantoms import simulated as simulated
    from cryojax_seg.training.reading import Examples as Examples
    from cryojax_seg.training.reading import hold_out as hold_out
    from cryojax_seg.training.reading import read_examples as read_examples
    from cryojax_seg.training.restorers import fit_restorer as fit_restorer
    from cryojax_seg.training.restorers import jointly as jointly
    from cryojax_seg.training.restorers import restored as restored
    from cryojax_seg.training.restoring import unlabelled as unlabelled
    from cryojax_seg.training.step import TrainState as TrainState
    from cryojax_seg.training.step import make_step as make_step

_HOME = {
    "CrossValidation": "comparison",
    "HeldOut": "comparison",
    "cross_validation": "comparison",
    "Fitted": "fitting",
    "fit_model": "fitting",
    "Fold": "folds",
    "folds_of": "folds",
    "Batch": "example",
    "Example": "example",
    "split_annotation": "example",
    "Augmentation": "config",
    "Interrupted": "config",
    "TrainConfig": "config",
    "TrainingError": "config",
    "Result": "loop",
    "train": "loop",
    "Examples": "reading",
    "hold_out": "reading",
    "read_examples": "reading",
    "fit_restorer": "restorers",
    "jointly": "restorers",
    "restored": "restorers",
    "unlabelled": "restoring",
    "labelled": "phantoms",
    "simulated": "phantoms",
    "TrainState": "step",
    "make_step": "step",
}

__all__ = [
    "Augmentation",
    "Batch",
    "CrossValidation",
    "Example",
    "Examples",
    "Fitted",
    "Fold",
    "HeldOut",
    "Interrupted",
    "Result",
    "TrainConfig",
    "TrainState",
    "TrainingError",
    "cross_validation",
    "fit_model",
    "fit_restorer",
    "folds_of",
    "hold_out",
    "jointly",
    "labelled",
    "make_step",
    "read_examples",
    "restored",
    "simulated",
    "split_annotation",
    "train",
    "unlabelled",
]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
